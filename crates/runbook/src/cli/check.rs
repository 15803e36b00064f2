//! `mainstay runbook check`: all mistakes of the named pages, or of all.

use std::path::PathBuf;

use terminal::{Out, print_json};

use super::{Failure, Format, library_for};
use crate::check::lint;
use crate::library::Library;
use crate::problem::{Problem, Severity};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Names of runbooks, or paths that end in .md; all of the folder if none is given
    names: Vec<String>,

    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,

    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Arguments {
    pub(super) fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let names = if self.names.is_empty() {
            Library::find(dir.clone())?.names()?
        } else {
            self.names
        };
        let mut problems: Vec<Problem> = Vec::new();
        for name in &names {
            let parsed = library_for(dir.clone(), name)?.read(name)?;
            // What the parser could not read, the author's checks cannot judge.
            let lints = if parsed.has_errors() {
                Vec::new()
            } else {
                lint(&parsed.page)
            };
            problems.extend(parsed.problems.into_iter().chain(lints));
        }
        let count = |severity| {
            problems
                .iter()
                .filter(|problem| problem.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        if self.format == Format::Json {
            print_json(&problems)?;
        } else {
            let mut out = Out::stdout();
            for problem in &problems {
                out.line(problem);
            }
            out.line(format_args!(
                "{} checked, {errors} errors, {warnings} warnings",
                names.len()
            ));
        }
        if errors > 0 || (self.deny_warnings && warnings > 0) {
            Err(Failure::Said)
        } else {
            Ok(())
        }
    }
}
