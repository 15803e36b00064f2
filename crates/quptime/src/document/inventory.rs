//! In what two documents differ, found out without sending either of them.
//!
//! Nodes that are to begin from their files alone begin only with the same one. Where the files differ, people need to hear in which
//! entries. An [`Inventory`] names every entry with a hash of its content, so no secret leaves the node that has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::change::entries;
use super::schema::Document;

/// Differences that are named; more are counted.
const NAMED_MAX: usize = 5;

/// What a document has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    version: u64,
    /// What stands above the entries, but for the version.
    heading: String,
    /// What an entry is called and the hash of its content, by its key.
    entries: BTreeMap<String, (String, u64)>,
}

impl Inventory {
    /// Of a document.
    pub fn of(document: &Document) -> Inventory {
        let heading = (&document.updated_at, document.updated_by, document.schema);
        let entries = entries(document).into_iter().map(|(key, entry)| {
            // Eight bytes are enough to tell two entries apart; nobody gains from two that look the same here.
            let content = serde_json::to_vec(&entry).unwrap_or_default();
            let hash = Sha256::digest(&content);
            let hash = hash
                .iter()
                .take(8)
                .fold(0, |hash, byte| hash << 8 | u64::from(*byte));
            (key.to_string(), (entry.title(), hash))
        });
        Inventory {
            version: document.version,
            heading: format!("{heading:?}"),
            entries: entries.collect(),
        }
    }

    /// In what `there` differs from this one, as one line; nothing if in nothing.
    pub fn differences(&self, there: &Inventory) -> Option<String> {
        let mut all = Vec::new();
        if self.version != there.version {
            all.push(format!("version {} here, {} there", self.version, there.version));
        }
        for (key, (title, hash)) in &self.entries {
            match there.entries.get(key) {
                None => all.push(format!("{title} only here")),
                Some((_, other)) if other != hash => all.push(format!("{title} is not the same")),
                Some(_) => {}
            }
        }
        let added = there
            .entries
            .iter()
            .filter(|(key, _)| !self.entries.contains_key(*key));
        all.extend(added.map(|(_, (title, _))| format!("{title} only there")));
        if all.is_empty() && self.heading != there.heading {
            all.push("updated_at, updated_by or schema is not the same".to_owned());
        }
        let more = all.len().saturating_sub(NAMED_MAX);
        all.truncate(NAMED_MAX);
        if more > 0 {
            all.push(format!("{more} more"));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const TEXT: &str = "version: 7
updated_at: 2026-01-01T00:00:00Z
peers: []
checks:
  - {id: c1, name: port, type: tcp, target: '127.0.0.1:1', interval: 30s, timeout: 5s}
  - {id: c2, name: gate, type: tcp, target: '127.0.0.1:2', interval: 30s, timeout: 5s}
alerts: []
";

    fn differences(here: &str, there: &str) -> Option<String> {
        let of = |text: &str| Inventory::of(&parse(text).unwrap());
        of(here).differences(&of(there))
    }

    #[test]
    fn the_same_has_no_differences() {
        assert_eq!(differences(TEXT, TEXT), None);
    }

    #[test]
    fn versions_and_entries_are_named() {
        let said = |from: &str, to: &str| differences(TEXT, &TEXT.replace(from, to)).unwrap();
        assert_eq!(said("version: 7", "version: 8"), "version 7 here, 8 there");
        assert_eq!(said("127.0.0.1:2", "127.0.0.1:3"), "check gate is not the same");
        assert_eq!(
            said("2026-01-01", "2026-01-02"),
            "updated_at, updated_by or schema is not the same"
        );
        assert_eq!(
            said("id: c2, name: gate", "id: c3, name: door"),
            "check gate only here; check door only there"
        );
    }

    #[test]
    fn many_are_counted() {
        let more: Vec<String> = (10..20)
            .map(|number| format!("  - {{id: d{number}, name: n{number}, type: tcp, target: '127.0.0.1:9'}}"))
            .collect();
        let more = more.join("\n") + "\n";
        let there = TEXT.replace("alerts: []", &format!("{more}alerts: []"));
        let said = differences(TEXT, &there).unwrap();
        assert!(
            said.starts_with("check n10 only there; ") && said.ends_with("; 5 more"),
            "{said}"
        );
    }
}
