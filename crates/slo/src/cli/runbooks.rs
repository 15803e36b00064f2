//! `slo runbooks`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Files, write};
use crate::page;

/// Arguments of `slo runbooks`.
#[derive(Debug, clap::Args)]
pub(super) struct Runbooks {
    #[command(flatten)]
    files: Files,

    /// The folder of the pages
    #[arg(long, value_name = "DIR", default_value = "docs/runbooks")]
    out: PathBuf,
}

impl Runbooks {
    pub(super) fn run(self) -> Result<()> {
        let read = self.files.read()?;
        let mut pages = Vec::new();
        for objective in &read.objectives {
            let runbook = &objective.runbook.value;
            let name = runbook.rsplit('/').next().unwrap_or_default();
            let is_page = Path::new(name).extension().is_some_and(|end| end == "md");
            if runbook.contains("://") || !is_page {
                bail!(
                    "{}: the runbook {runbook} is no path of a page; write docs/runbooks/NAME.md",
                    objective.runbook.at
                );
            }
            let path = self.out.join(name);
            let existing = match fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
            };
            let text = page::write(objective, existing.as_deref())
                .map_err(|wrong| anyhow::anyhow!("{}: {wrong}; nothing was written", path.display()))?;
            pages.push((path, text, existing));
        }
        // All or none: a page that cannot be kept stops the others too.
        for (path, text, existing) in pages {
            if existing.as_deref() == Some(&text) {
                terminal::note(&format!("{} is up to date", path.display()));
                continue;
            }
            write(&path, &text)?;
            terminal::note(&format!("wrote {}", path.display()));
        }
        Ok(())
    }
}
