//! qu's side: the real daemon, alone in its cluster, with all checks in its file before it starts.

use std::collections::BTreeMap;
use std::path::Path;

use quptime::document::{Check, parse, render};
use serde_json::Value;
use testkit::{QU_SECRET, Qu};

use crate::row::{Row, Said};

/// It runs as long as this lives.
pub(crate) struct Watched {
    node: Qu,
}

impl Watched {
    /// Starts a node that watches all rows and trusts this authority.
    pub(crate) fn start(rows: &[&Row], trusted: &Path) -> Self {
        let mut node = Qu::init(1, QU_SECRET).unwrap();
        let mut document = parse(&node.cluster_text()).unwrap();
        document.checks = (rows.iter().enumerate())
            .map(|(position, row)| Check {
                id: name(position),
                name: name(position),
                ..row.check.clone()
            })
            .collect();
        document.schema = Some(document.needed_level());
        std::fs::write(node.cluster_file(), render(&document)).unwrap();
        node.set_env("SSL_CERT_FILE", &trusted.display().to_string());
        node.start().unwrap();
        Self { node }
    }

    /// What it says to each row; nothing while it has no verdict.
    pub(crate) fn verdicts(&self, count: usize) -> Vec<Option<Said>> {
        let output = self.node.run(&["status", "--json", "--no-wait"]).unwrap();
        let status: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let checks = status["checks"].as_array().cloned().unwrap_or_default();
        let known: BTreeMap<String, Said> = checks
            .iter()
            .filter_map(|check| {
                let up = match check["status"].as_str()? {
                    "up" => true,
                    "down" => false,
                    _ => return None,
                };
                let said = Said {
                    up,
                    detail: check["detail"].as_str().unwrap_or_default().to_owned(),
                };
                Some((check["name"].as_str()?.to_owned(), said))
            })
            .collect();
        (0..count)
            .map(|position| known.get(&name(position)).cloned())
            .collect()
    }
}

fn name(position: usize) -> String {
    format!("row-{position:04}")
}
