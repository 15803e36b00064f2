//! The language of the scripts, and the parser.
//!
//! One step per line; `#` begins a comment line. Words are split as a shell does, with `'...'` and `"..."`.
//!
//! | step | meaning |
//! |---|---|
//! | `run ARGS` | `etcdctl ARGS` succeeds |
//! | `fail ARGS` | `etcdctl ARGS` ends with another exit code than 0 |
//! | `let NAME = ARGS` | as `run`; `$NAME` is the first lease id in the output from here on |
//! | `until 'TEXT' ARGS` | repeated until the words of the masked output are TEXT |
//! | `start NAME ARGS` | in the background |
//! | `see NAME 'TEXT'` | waits until NAME has printed TEXT, after what was seen before |
//! | `poke NAME KEY` | puts KEY again and again until NAME prints it: it watches from now on |
//! | `type NAME 'TEXT'` | a line on the standard input of NAME |
//! | `stop NAME` | interrupts NAME (Ctrl-C) and waits for its end |
//! | `end NAME` | waits for the end of NAME |
//!
//! Lines `\| TEXT` after a step are its standard input. `$dir` is a directory of the server, `$endpoint` its address,
//! `$other` the address of a second server where a script has one.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Run { args: Vec<String>, succeeds: bool },
    Let { name: String, args: Vec<String> },
    Until { text: String, args: Vec<String> },
    Start { name: String, args: Vec<String> },
    See { name: String, text: String },
    Poke { name: String, key: String },
    Type { name: String, text: String },
    Stop { name: String },
    End { name: String },
}

impl Action {
    /// Whether the command succeeds, where the script says so.
    pub(crate) fn succeeds(&self) -> Option<bool> {
        match self {
            Self::Run { succeeds, .. } => Some(*succeeds),
            Self::Let { .. } => Some(true),
            _ => None,
        }
    }
}

/// One line of a script with its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) line: usize,
    /// As written, input included.
    pub(crate) text: String,
    pub(crate) action: Action,
    pub(crate) input: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// Reads a script.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(input) = line.strip_prefix('|') {
            let step = steps
                .last_mut()
                .with_context(|| format!("line {line_number}: input without a step"))?;
            step.input.push_str(input.strip_prefix(' ').unwrap_or(input));
            step.input.push('\n');
            step.text.push('\n');
            step.text.push_str(line);
            continue;
        }
        let action = action(line).with_context(|| format!("line {line_number}: {line}"))?;
        steps.push(Step {
            line: line_number,
            text: line.to_owned(),
            action,
            input: String::new(),
        });
    }
    Ok(steps)
}

fn action(line: &str) -> Result<Action> {
    let mut words = words(line)?.into_iter();
    let verb = words.next().context("an empty line")?;
    if verb == "run" || verb == "fail" {
        return Ok(Action::Run {
            args: words.collect(),
            succeeds: verb == "run",
        });
    }
    let name = words.next().with_context(|| format!("{verb} wants a word"))?;
    let args: Vec<String> = words.collect();
    let text = || {
        args.first()
            .cloned()
            .with_context(|| format!("{verb} wants a text"))
    };
    Ok(match verb.as_str() {
        "let" => {
            ensure!(
                args.first().is_some_and(|word| word == "="),
                "let wants `NAME = ARGS`"
            );
            Action::Let {
                name,
                args: args[1..].to_vec(),
            }
        }
        "until" => Action::Until { text: name, args },
        "start" => Action::Start { name, args },
        "see" => Action::See { text: text()?, name },
        "poke" => Action::Poke { key: text()?, name },
        "type" => Action::Type { text: text()?, name },
        "stop" => Action::Stop { name },
        "end" => Action::End { name },
        verb => bail!("unknown verb {verb}"),
    })
}

/// Splits as a shell does: quotes of both kinds, no escapes.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    ensure!(quote.is_none(), "a quote is not closed");
    words.extend(word);
    Ok(words)
}

#[test]
fn steps_are_read_with_their_input() {
    let steps =
        parse("# title\nrun put 'a b' \"\"\nfail txn\n| x\n|\nlet l = lease grant 5\nsee w 'p q'\n").unwrap();
    let action = |index: usize| &steps[index].action;
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        *action(0),
        Action::Run {
            args: owned(&["put", "a b", ""]),
            succeeds: true
        }
    );
    assert_eq!(
        *action(1),
        Action::Run {
            args: owned(&["txn"]),
            succeeds: false
        }
    );
    assert_eq!(steps[1].input, "x\n\n");
    assert_eq!(steps[1].text, "fail txn\n| x\n|");
    assert_eq!(
        *action(2),
        Action::Let {
            name: "l".into(),
            args: owned(&["lease", "grant", "5"])
        }
    );
    assert_eq!(
        *action(3),
        Action::See {
            name: "w".into(),
            text: "p q".into()
        }
    );
    assert!(parse("run 'open").is_err());
    assert!(parse("walk a b").is_err());
}
