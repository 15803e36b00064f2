//! `cargo xtask seeds [000|001|002|003|004 [TEXT]]`: which command lines of the seeds work against our systems; with a text only those
//! that hold it.
//!
//! The seeds in `docs/seeds/` are operational texts whose commands have to work verbatim; they are the project's acceptance test.
//! The report has one line for each command line: how it went, where it stands, which system it is about, its text, and a reason unless
//! it passed. The last line is `N passed, M failed`.
//!
//! Invariant: a line passes only if it was run and its effect or its output was checked. A line nobody wrote a check for yet fails and
//! says so.

mod checks;
mod extract;
mod machine;

use std::fmt;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::extract::{CommandLine, Form};
use self::machine::{Machine, Tried};
use crate::dist;
use crate::packages;
use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// A seed: its number, how it was saved, and the system it is about where a line does not tell.
struct Seed {
    number: &'static str,
    form: Form,
    system: &'static str,
}

const SEEDS: &[Seed] = &[
    Seed {
        number: "000",
        form: Form::Captioned,
        system: "mezite",
    },
    Seed {
        number: "001",
        form: Form::Fenced,
        system: "quptime",
    },
    Seed {
        number: "002",
        form: Form::Plain,
        system: "zester",
    },
    Seed {
        number: "003",
        form: Form::Fenced,
        system: "pgaf",
    },
    Seed {
        number: "004",
        form: Form::Plain,
        system: "chainfire",
    },
];

/// How a command line went.
enum Verdict {
    Passed,
    Failed(String),
    CannotRun(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "pass",
            Verdict::Failed(_) => "fail",
            Verdict::CannotRun(_) => "cannot run",
        })
    }
}

/// The command: the report on stdout, exit 1 unless every line passed.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let wanted = arguments.get(1).map_or("", String::as_str);
    let chosen: Vec<&Seed> = match arguments {
        [] => SEEDS.iter().collect(),
        [number] | [number, _] if SEEDS.iter().any(|seed| seed.number == number) => {
            SEEDS.iter().filter(|seed| seed.number == number).collect()
        }
        _ => {
            return Ok(crate::wrong_usage(
                "seeds",
                "it takes one of 000, 001, 002, 003, 004 and perhaps a text of its lines, or nothing for all",
            ));
        }
    };
    let mut lines = Vec::new();
    for seed in chosen {
        let of_seed = lines_of(workspace, seed)?.into_iter();
        lines.extend(
            of_seed
                .filter(|line| line.text.contains(wanted))
                .map(|line| (seed, line)),
        );
    }
    // Building and booting take minutes; without a line to try there is no need for them.
    let any_check = lines
        .iter()
        .any(|(seed, line)| checks::find(seed.number, line.number, &line.text).is_some());
    let machine = if any_check {
        Some(start_machine(workspace)?)
    } else {
        None
    };

    let (mut passed, mut failed, mut impossible) = (0, 0, 0);
    for (seed, line) in &lines {
        let verdict = judge(machine.as_ref(), seed, line)?;
        println!("{}", report(&verdict, seed, line));
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(_) => failed += 1,
            Verdict::CannotRun(_) => impossible += 1,
        }
    }
    if impossible > 0 {
        println!("{impossible} cannot run on this machine");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed + impossible == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The host to try lines on, or why this machine cannot have one.
fn start_machine(workspace: &Workspace) -> Result<std::result::Result<Machine, String>> {
    if let Err(reason) = machine::usable() {
        return Ok(Err(format!("{reason:#}")));
    }
    toolchain::ensure(workspace)?;
    packages::ensure(packages::TEST)?;
    process::run(process::cargo(workspace).args(["build", "--workspace"]))?;
    let [_, package] = dist::pack(workspace, dist::Profile::Dev)?;
    Machine::start(workspace, &package).map(Ok)
}

fn judge(
    machine: Option<&std::result::Result<Machine, String>>,
    seed: &Seed,
    line: &CommandLine,
) -> Result<Verdict> {
    let Some(check) = checks::find(seed.number, line.number, &line.text) else {
        return Ok(Verdict::Failed("no check written yet".to_owned()));
    };
    match machine {
        Some(Ok(machine)) => Ok(match machine.try_line(&line.text, check)? {
            Tried::Passed => Verdict::Passed,
            Tried::Failed(why) => Verdict::Failed(why),
        }),
        Some(Err(reason)) => Ok(Verdict::CannotRun(reason.clone())),
        None => Ok(Verdict::Failed("no machine was started".to_owned())),
    }
}

/// One line of the report: verdict, place, system, text, and the reason unless it passed.
fn report(verdict: &Verdict, seed: &Seed, line: &CommandLine) -> String {
    let text = format!(
        "{verdict}\t{}:{}\t{}\t{}",
        seed.number,
        line.number,
        system_of(seed, line),
        on_one_line(&line.text)
    );
    match verdict {
        Verdict::Passed => text,
        Verdict::Failed(why) | Verdict::CannotRun(why) => format!("{text}\t({})", on_one_line(why)),
    }
}

fn on_one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

fn lines_of(workspace: &Workspace, seed: &Seed) -> Result<Vec<CommandLine>> {
    let path = workspace.path(format!("docs/seeds/{}.txt", seed.number));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(extract::command_lines(seed.form, &text))
}

/// The system a line is about.
fn system_of(seed: &Seed, line: &CommandLine) -> &'static str {
    let names = [
        "flaredb",
        "placement-driver",
        "/pd/api",
        "PD_IP",
        "PD_NODE",
        "STORE_",
    ];
    if seed.number == "004"
        && (names.iter().any(|name| line.text.contains(name)) || line.section.contains("FlareDB"))
    {
        return "flaredb";
    }
    seed.system
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lines(number: &str) -> Vec<CommandLine> {
        let seed = SEEDS.iter().find(|seed| seed.number == number).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/seeds/{number}.txt"));
        extract::command_lines(seed.form, &fs::read_to_string(path).unwrap())
    }

    #[test]
    fn every_seed_has_its_command_lines() {
        let counts: Vec<usize> = SEEDS.iter().map(|seed| lines(seed.number).len()).collect();
        assert_eq!(counts, [21, 24, 70, 9, 124]);
    }

    #[test]
    fn a_check_belongs_to_a_line_that_exists() {
        for check in checks::all() {
            assert!(
                lines(check.seed)
                    .iter()
                    .any(|line| line.text == check.line
                        && check.number.is_none_or(|place| place == line.number)),
                "no line {:?} at {:?}",
                check.line,
                check.number
            );
        }
    }

    #[test]
    fn a_line_of_the_report_is_one_line() {
        let line = CommandLine {
            number: 3,
            text: "a \\\n b".into(),
            section: String::new(),
        };
        let text = report(&Verdict::Failed("first\nsecond".into()), &SEEDS[4], &line);
        assert_eq!(text, "fail\t004:3\tchainfire\ta \\  b\t(first second)");
    }
}
