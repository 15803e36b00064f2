//! `slo validate`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Files, tell};
use crate::document::Findings;
use crate::objective::Objective;
use crate::page;

/// Arguments of `slo validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    #[command(flatten)]
    files: Files,
}

impl Validate {
    pub(super) fn run(self) -> Result<()> {
        let read = self.files.read()?;
        let mut findings = Findings::default();
        for objective in &read.objectives {
            check_runbook(objective, &mut findings);
        }
        tell(&mut findings)?;
        let alerts: usize = read
            .objectives
            .iter()
            .map(|objective| objective.alerts.len())
            .sum();
        terminal::out(&format!(
            "{}: {}, {}\n",
            count(read.inputs.len(), "file"),
            count(read.objectives.len(), "objective"),
            count(alerts, "alert"),
        ));
        Ok(())
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The page of an objective's alerts exists, and its head names them.
fn check_runbook(objective: &Objective, findings: &mut Findings) {
    let runbook = &objective.runbook;
    // An address is somewhere else.
    if runbook.value.contains("://") {
        return;
    }
    let Some(path) = find(Path::new(&*objective.at.file), Path::new(&runbook.value)) else {
        let text = format!(
            "runbook {} does not exist, neither here nor above {} nor in {SYSTEM_PAGES}; `slo runbooks` writes it",
            runbook.value, objective.at.file
        );
        findings.mistake(runbook.at.clone(), text);
        return;
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            findings.mistake(runbook.at.clone(), format!("read {}: {error}", path.display()));
            return;
        }
    };
    for alert in &objective.alerts {
        if !page::names(&text, &alert.name) {
            let text = format!(
                "{} does not name {} before its first section; add it to the `alert:` line, or run `slo runbooks`",
                path.display(),
                alert.name
            );
            findings.mistake(runbook.at.clone(), text);
        }
    }
}

/// Where the package has its pages.
const SYSTEM_PAGES: &str = "/usr/share/mainstay/runbooks";

/// The page at a path that is meant from here, from the folder of the objectives' file, or from one above it; else the one of the package.
fn find(file: &Path, page: &Path) -> Option<PathBuf> {
    if page.is_file() {
        return Some(page.to_owned());
    }
    let file = std::path::absolute(file).ok()?;
    let above = file.ancestors().skip(1).map(|folder| folder.join(page));
    let shipped = page.file_name().map(|name| Path::new(SYSTEM_PAGES).join(name));
    above.chain(shipped).find(|path| path.is_file())
}
