//! `mainstay runbook show`.

use std::path::PathBuf;

use terminal::out;
use terminal::style::{Stream, enabled};

use super::{Failure, read};
use crate::model::Page;
use crate::problem::{excerpt, suggestion};
use crate::render;

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDTH_MAX: usize = 100;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the runbook or of an alert, or a path that ends in .md
    name: String,

    /// Show only this section, such as Fix
    #[arg(long, value_name = "TITLE")]
    section: Option<String>,

    /// Print the Markdown as it is
    #[arg(long)]
    raw: bool,
}

impl Arguments {
    pub(super) fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let mut page = read(dir, &self.name)?.page;
        if let Some(title) = &self.section {
            page.text = section(&page, title)?;
        }
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

/// The text of one section, its heading included.
fn section(page: &Page, title: &str) -> Result<String, Failure> {
    let at = page
        .sections
        .iter()
        .position(|section| section.title.eq_ignore_ascii_case(title));
    let Some(at) = at else {
        let titles = page.sections.iter().map(|section| section.title.as_str());
        let known = suggestion(title, titles);
        return Err(Failure::Usage(format!(
            "no section `{}` in `{}`; {known}",
            excerpt(title),
            page.name
        )));
    };
    let first = page.sections[at].line - 1;
    let end = page.sections.get(at + 1).map_or(usize::MAX, |next| next.line - 1);
    let lines = page.text.split_inclusive('\n').skip(first);
    Ok(lines.take(end - first).collect())
}
