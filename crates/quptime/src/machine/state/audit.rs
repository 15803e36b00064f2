//! Changes of the configuration, as people look them up later: when, by whom, what for, and which entries became what.

use serde::{Deserialize, Serialize};

use crate::document::Change;
use crate::identity::NodeId;
use crate::machine::command::Configure;

/// Entries that are named of each change, and letters of each name: a change may touch all there are.
const TITLES_MAX: usize = 200;
const TITLE_MAX: usize = 160;

/// A change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The version it made.
    pub version: u64,
    /// When, RFC 3339.
    pub at: String,
    /// On which node it was asked for.
    pub by: NodeId,
    /// The local user, if it was one.
    pub uid: Option<u32>,
    /// What.
    pub what: String,
    /// Which entries.
    pub entries: Vec<String>,
    /// What became of those of them that are named, in their order. Older programs did not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub became: Vec<Became>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Became {
    /// It was not there before.
    Added,
    /// It was another one before.
    Changed,
    /// It is there no more.
    Removed,
}

impl Became {
    fn of(change: &Change) -> Became {
        match (&change.base, &change.wanted) {
            (_, None) => Became::Removed,
            (None, Some(_)) => Became::Added,
            (Some(_), Some(_)) => Became::Changed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Became::Added => "added",
            Became::Changed => "changed",
            Became::Removed => "removed",
        }
    }
}

impl Audit {
    pub(super) fn of(version: u64, configure: &Configure) -> Audit {
        let named = configure.changes.iter().take(TITLES_MAX);
        Audit {
            version,
            at: configure.at.clone(),
            by: configure.by,
            uid: configure.uid,
            what: configure.what.clone(),
            entries: titles(&configure.changes),
            became: named.map(Became::of).collect(),
        }
    }

    /// `added check web, check db; changed alert oncall; removed check old`
    pub fn summary(&self) -> String {
        if self.became.is_empty() {
            return self.entries.join(", ");
        }
        let known = || self.entries.iter().zip(&self.became);
        let mut parts = Vec::new();
        for became in [Became::Added, Became::Changed, Became::Removed] {
            let names = known().filter(|(_, known)| **known == became);
            let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
            if !names.is_empty() {
                parts.push(format!("{} {}", became.name(), names.join(", ")));
            }
        }
        // How many more there are.
        parts.extend(self.entries.iter().skip(self.became.len()).cloned());
        parts.join("; ")
    }
}

/// What a change touches, for people: the first ones, and how many more.
fn titles(changes: &[Change]) -> Vec<String> {
    let short = |title: String| match title.char_indices().nth(TITLE_MAX) {
        Some((end, _)) => format!("{}…", &title[..end]),
        None => title,
    };
    let first = changes.iter().take(TITLES_MAX);
    let mut titles: Vec<String> = first.map(|change| short(change.title())).collect();
    if let Some(more) = changes.len().checked_sub(TITLES_MAX).filter(|more| *more > 0) {
        titles.push(format!("and {more} more"));
    }
    titles
}
