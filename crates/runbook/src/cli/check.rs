//! `mainstay runbook check`: all mistakes of the named pages, or of all, and where they disagree with the alert rules.

use std::path::PathBuf;

use terminal::{Out, print_json};

use super::{Failure, Format, library, read, usage};
use crate::check::lint;
use crate::library::Library;
use crate::model::Page;
use crate::problem::{Problem, Severity};
use crate::rules;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Names of runbooks or of alerts, or paths that end in .md; all of the folder if none is given
    names: Vec<String>,

    /// Folder of Prometheus rules to compare with [default: the one that belongs to the folder of runbooks]
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,

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
            library(dir.clone())?.names()?
        } else {
            self.names.clone()
        };
        let mut problems: Vec<Problem> = Vec::new();
        let mut pages = Vec::new();
        for name in &names {
            let parsed = read(dir.clone(), name)?;
            // What the parser could not read, the author's checks cannot judge.
            let lints = if parsed.has_errors() {
                Vec::new()
            } else {
                lint(&parsed.page)
            };
            problems.extend(parsed.problems.into_iter().chain(lints));
            pages.push(parsed.page);
        }
        problems.extend(self.disagreements(dir, &pages)?);
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

    /// What the pages say of alerts against what the rules say, if there are rules.
    fn disagreements(&self, dir: Option<PathBuf>, pages: &[Page]) -> Result<Vec<Problem>, Failure> {
        // Pages given by their paths may lie outside any folder of runbooks.
        let Ok(library) = Library::find(dir) else {
            return Ok(Vec::new());
        };
        let folder = self.rules.clone().or_else(|| rules::folder_of(library.folder()));
        let Some(folder) = folder else {
            return Ok(Vec::new());
        };
        let mut found = rules::read(&folder).map_err(usage)?;
        let known = library.names()?;
        let pages: Vec<&Page> = pages.iter().filter(|page| known.contains(&page.name)).collect();
        if !self.names.is_empty() {
            // Only what concerns the named pages: rules that name them, or that they list.
            found.retain(|rule| {
                let named = |page: &&Page| {
                    rule.runbook.as_ref() == Some(&page.name) || page.alerts.contains(&rule.alert)
                };
                pages.iter().any(named)
            });
        }
        Ok(rules::compare(&pages, &found, &known))
    }
}
