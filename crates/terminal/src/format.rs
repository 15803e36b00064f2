//! The `--output` flag and JSON.

use serde::Serialize;

use crate::out;

/// How a command shows its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Lines for people and `grep`.
    #[default]
    Text,
    /// JSON for programs.
    Json,
    /// A table.
    Table,
}

impl OutputFormat {
    /// Whether JSON was asked for.
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

/// Prints `value` as one JSON document: indented for a person at a terminal, on one line otherwise.
pub fn print_json(value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    use std::io::IsTerminal;
    out(&json(value, std::io::stdout().is_terminal())?);
    Ok(())
}

fn json(value: &(impl Serialize + ?Sized), indented: bool) -> anyhow::Result<String> {
    let mut text = if indented {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn formats_have_the_names_of_the_flag() {
        let names: Vec<String> = OutputFormat::value_variants()
            .iter()
            .map(|format| format.to_possible_value().unwrap().get_name().to_owned())
            .collect();
        assert_eq!(names, ["text", "json", "table"]);
        assert!(OutputFormat::Json.is_json() && !OutputFormat::default().is_json());
    }

    #[test]
    fn programs_get_one_line() {
        assert_eq!(json(&[1, 2], false).unwrap(), "[1,2]\n");
        assert_eq!(json(&[1], true).unwrap(), "[\n  1\n]\n");
    }
}
