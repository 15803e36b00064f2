//! `mainstay runbook list`.

use std::path::PathBuf;

use terminal::{Table, print_json};

use super::{Failure, Format, library};
use crate::model::Page;
use crate::parse::Parsed;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A runbook in the JSON listing.
#[derive(serde::Serialize)]
struct Entry<'a> {
    name: &'a str,
    title: &'a str,
    file: &'a str,
    alerts: &'a [String],
    steps: usize,
    destructive: Vec<&'a str>,
    errors: usize,
}

impl<'a> Entry<'a> {
    fn new(parsed: &'a Parsed) -> Self {
        let Page {
            name,
            title,
            label,
            alerts,
            steps,
            ..
        } = &parsed.page;
        Self {
            name,
            title,
            file: label,
            alerts,
            steps: steps.len(),
            destructive: steps
                .iter()
                .filter(|step| step.destructive)
                .map(|step| step.name.as_str())
                .collect(),
            errors: parsed.problems.len(),
        }
    }

    /// Columns of the text listing.
    fn columns(&self) -> [String; 5] {
        let alerts = if self.alerts.is_empty() {
            "-".to_owned()
        } else {
            self.alerts.join(",")
        };
        let destructive = if self.destructive.is_empty() {
            "-".to_owned()
        } else {
            self.destructive.join(",")
        };
        let title = match self.errors {
            0 => self.title.to_owned(),
            errors => format!("({errors} errors: mainstay runbook check {})", self.name),
        };
        [
            self.name.to_owned(),
            self.steps.to_string(),
            destructive,
            alerts,
            title,
        ]
    }
}

impl Arguments {
    pub(super) fn run(self, dir: Option<PathBuf>) -> Result<(), Failure> {
        let library = library(dir)?;
        let names = library.names()?;
        let pages = names
            .iter()
            .map(|name| library.read(name))
            .collect::<anyhow::Result<Vec<Parsed>>>()?;
        let entries: Vec<Entry<'_>> = pages.iter().map(Entry::new).collect();
        if self.format == Format::Json {
            print_json(&entries)?;
        } else {
            let mut table =
                Table::new(["NAME", "STEPS", "DESTRUCTIVE", "ALERTS", "TITLE"]).numeric(&["STEPS"]);
            for entry in &entries {
                table.row(entry.columns());
            }
            table.print();
        }
        Ok(())
    }
}
