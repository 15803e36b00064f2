//! `slo import`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};

use crate::import::{Origin, import};

/// Arguments of `slo import`.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Whose objectives these are
    #[arg(value_enum)]
    origin: Origin,

    /// The file
    file: PathBuf,
}

impl Import {
    pub(super) fn run(self) -> Result<()> {
        let path = self.file.display();
        let text = fs::read_to_string(&self.file).with_context(|| format!("read {path}"))?;
        let imported = import(self.origin, &text).map_err(|wrong| anyhow!("{path}: {wrong}"))?;
        for notice in &imported.notices {
            terminal::note(&format!("notice: {path}: {notice}"));
        }
        terminal::out(&imported.text);
        Ok(())
    }
}
