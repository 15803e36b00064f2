//! `mainstay runbook show`.

use std::path::PathBuf;

use terminal::out;
use terminal::style::{Stream, enabled};

use super::{Failure, library_for};
use crate::render;

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDTH_MAX: usize = 100;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the runbook, or a path that ends in .md
    name: String,

    /// Print the Markdown as it is
    #[arg(long)]
    raw: bool,
}

impl Arguments {
    pub(super) fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let page = library_for(dir, &self.name)?.read(&self.name)?.page;
        if self.raw {
            out(&page.text);
            return Ok(());
        }
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok());
        let width = columns.unwrap_or(WIDTH_MAX).min(WIDTH_MAX);
        out(&render::page(&page, width, enabled(Stream::Stdout)));
        Ok(())
    }
}
