//! Finding the command lines in a seed.
//!
//! The seeds are pages as somebody saved them: Markdown with its fences (and a column rule between the lines), an indented export with
//! a caption over each block, and plain text in which commands, prose and captions follow one another, sometimes glued together without
//! a line end. One reader for each form. All of them join what the shell reads as one command (continuations, open quotes, loops) and
//! leave out comments. Settings, alert rules and log patterns are interfaces too, but no command lines, and are pinned by other tests.

/// A command line of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// Where it starts in the file, counted from 1.
    pub(super) number: usize,
    /// As printed; the lines of a command that spans several are joined by line ends.
    pub(super) text: String,
    /// The heading-like line last seen before it, in seeds that speak of two systems.
    pub(super) section: String,
}

/// How a seed was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Fenced Markdown, a `|` line after each line.
    Fenced,
    /// A caption such as `List active tokens bash`, the block indented below it.
    Captioned,
    /// Commands at the start of a line between prose.
    Plain,
}

/// What a line of plain text starts with when it is a command (after `sudo`).
const PROGRAMS: &[&str] = &[
    "cd",
    "chainfire-client",
    "coredumpctl",
    "curl",
    "df",
    "echo",
    "flaredb-client",
    "for",
    "grep",
    "head",
    "iostat",
    "ip",
    "journalctl",
    "ls",
    "mount",
    "mv",
    "nats",
    "nats-server",
    "nc",
    "nsc",
    "openssl",
    "ping",
    "rm",
    "rocksdb_ldb",
    "scp",
    "sleep",
    "ssh",
    "sudo",
    "systemctl",
    "tar",
    "time",
    "top",
    "zester",
    "./scripts/generate-dev-certs.sh",
];

/// Text that follows a command without a line end in the plain seeds, where a caption was set in the page.
const GLUED: &[&str] = &[
    "Authentication Failures",
    "Checking Connection State",
    "Common Causes",
    "Common log messages",
    "Disable debug logging",
    "Master Failures",
    "On the peel,",
    "Peel Failures",
    "Peel Reconnection Storm",
    "Severity Classification",
    "Regenerating Peel Credentials",
    "Resolution:",
    "Slow Consumers",
    "Slow State Applies",
    "Step 2:",
    "Step 3:",
    "Step 4:",
];

/// The command lines of a seed in reading order.
pub(super) fn command_lines(form: Form, text: &str) -> Vec<CommandLine> {
    let mut joiner = Joiner::default();
    match form {
        Form::Fenced => fenced(text, &mut joiner),
        Form::Captioned => captioned(text, &mut joiner),
        Form::Plain => plain(text, &mut joiner),
    }
    joiner.done
}

fn fenced(text: &str, joiner: &mut Joiner) {
    let mut shell = false;
    let mut inside = false;
    for (number, line) in numbered(text) {
        let trimmed = line.trim();
        if trimmed == "|" {
            continue;
        }
        if let Some(language) = trimmed.strip_prefix("```") {
            inside = !inside;
            shell = inside && matches!(language, "sh" | "bash" | "shell" | "console");
        } else if shell {
            joiner.line(number, trimmed);
        }
    }
}

fn captioned(text: &str, joiner: &mut Joiner) {
    let mut block = None;
    for (number, line) in numbered(text) {
        let trimmed = line.trim();
        let indented = line.starts_with("    ");
        if indented && block.is_none() {
            block = trimmed
                .rsplit(' ')
                .next()
                .filter(|language| matches!(*language, "bash" | "sql"));
        } else if indented && block.is_some() {
            joiner.sql = block == Some("sql");
            joiner.line(number, trimmed);
        } else if !trimmed.is_empty() {
            block = None;
        }
    }
}

fn plain(text: &str, joiner: &mut Joiner) {
    for (number, line) in numbered(text) {
        let command = GLUED
            .iter()
            .filter_map(|glued| glued_at(line, glued))
            .min()
            .map_or(line, |at| &line[..at]);
        if joiner.is_open() || starts_with_program(command) {
            joiner.line(number, command.trim());
        } else if !line.starts_with(['#', '-', '|', '[']) && line.len() < 60 {
            line.clone_into(&mut joiner.section);
        }
    }
}

/// Where `glued` follows directly on other text.
fn glued_at(line: &str, glued: &str) -> Option<usize> {
    let at = line.find(glued)?;
    let before = line[..at].chars().next_back()?;
    (!before.is_whitespace()).then_some(at)
}

fn starts_with_program(line: &str) -> bool {
    let mut words = line.split(' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // In prose, the client's name is followed by other words; where it is called, an option comes first.
    let called = !first.ends_with("-client") || second.starts_with("--");
    (PROGRAMS.contains(&first) && !second.is_empty() && called) || is_assignment(first)
}

/// Whether the word is `NAME=...`, as the shell takes it.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, value)| {
        !name.is_empty() && !value.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Puts lines together until the shell (or the database) would take them as one command.
#[derive(Default)]
struct Joiner {
    done: Vec<CommandLine>,
    open: Option<CommandLine>,
    section: String,
    /// The text is SQL: a command ends with a semicolon.
    sql: bool,
}

impl Joiner {
    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn line(&mut self, number: usize, line: &str) {
        if line.is_empty() || (line.starts_with('#') && !self.is_open()) {
            return;
        }
        let mut command = match self.open.take() {
            Some(mut open) => {
                open.text.push('\n');
                open.text.push_str(line);
                open
            }
            None => CommandLine {
                number,
                text: line.to_owned(),
                section: self.section.clone(),
            },
        };
        let complete = if self.sql {
            command.text.ends_with(';')
        } else {
            is_complete(&command.text)
        };
        if complete {
            command.text.truncate(command.text.trim_end().len());
            self.done.push(command);
        } else {
            self.open = Some(command);
        }
    }
}

/// Whether the shell would run this rather than ask for more: no open quote, no trailing backslash or pipe, as many `done` as `for`.
fn is_complete(text: &str) -> bool {
    let mut quote = None;
    let mut escaped = false;
    let mut code = String::new();
    let mut comment = false;
    let mut before = ' ';
    for c in text.chars() {
        if c == '\n' {
            comment = false;
        }
        if comment {
            continue;
        }
        match quote {
            _ if escaped => escaped = false,
            None if c == '#' && before.is_whitespace() => {
                comment = true;
                continue;
            }
            None | Some('"') if c == '\\' => escaped = true,
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None => code.push(c),
            Some(_) => {}
        }
        before = c;
    }
    let words = |word: &str| {
        code.split(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | ')'))
            .filter(|w| *w == word)
            .count()
    };
    quote.is_none() && !escaped && !code.trim_end().ends_with('|') && words("for") == words("done")
}

#[cfg(test)]
mod tests;
