//! What lies where in the store.
//!
//! | key below `/pgaf/` | value | written by |
//! | --- | --- | --- |
//! | `settings` | [`Settings`] | operator |
//! | `monitor/leader` | [`Leader`], on its lease | monitors |
//! | `formations/<f>` | [`Formation`], with the next number for a node | operator, keepers that register |
//! | `groups/<f>/<g>` | [`Group`]: names the primary is to use, the operator's wish, the next number for an event | elected monitor |
//! | `nodes/<f>/<g>/<id>` | [`NodeEntry`]: who it is, and its goal | elected monitor, its keeper once |
//! | `health/<f>/<g>/<id>` | [`Looked`]: what the monitor's looks found | elected monitor |
//! | `reports/<f>/<g>/<id>` | [`Report`] | its keeper |
//! | `primary/<f>/<g>` | [`Lock`], on the primary's lease | the primary's keeper |
//! | `syncset/<f>/<g>` | [`Record`] | the primary's keeper, elected monitor |
//! | `events/<f>/<seq>` | [`Event`], the newest [`EVENTS_KEPT`] | elected monitor |
//!
//! Every value is a JSON object with `version` 1 and no field that is not known here: a monitor that does not understand what it reads must not
//! decide by it. A report stays when its keeper is gone, because tables show what a node last was; whether a keeper lives is told by when
//! its report last changed.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::state::NodeState;
use crate::store::Entry;
use crate::{Kind, Names, NodeId, Position, Record};

/// Below which everything lies.
pub const PREFIX: &str = "/pgaf/";
/// Below which events lie; nobody decides by them.
pub const EVENTS: &str = "/pgaf/events/";
/// The settings.
pub const SETTINGS: &str = "/pgaf/settings";
/// Who is the elected monitor.
pub const LEADER: &str = "/pgaf/monitor/leader";
/// Events that are kept of a formation.
pub const EVENTS_KEPT: u64 = 1_000;
/// Bytes that a value may have. The largest, a group's, is far below; more is not ours.
const VALUE_LIMIT: usize = 64 << 10;
/// Letters of a formation's or node's name; PostgreSQL's own names have as many.
const NAME_LIMIT: usize = 63;

/// One group of a formation, and its keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The formation's name.
    pub formation: String,
    /// Its number; only 0 is in use.
    pub group: u32,
}

impl GroupId {
    /// Group 0 of a formation.
    pub fn of(formation: &str) -> Result<GroupId, Wrong> {
        check_name("formation", formation)?;
        Ok(GroupId {
            formation: formation.to_owned(),
            group: 0,
        })
    }

    fn key(&self, kind: &str) -> String {
        format!("{PREFIX}{kind}/{}/{}", self.formation, self.group)
    }

    /// Key of its formation.
    pub fn formation_key(&self) -> String {
        format!("{PREFIX}formations/{}", self.formation)
    }

    /// Key of the [`Group`].
    pub fn group_key(&self) -> String {
        self.key("groups")
    }

    /// Key of the [`Lock`].
    pub fn lock_key(&self) -> String {
        self.key("primary")
    }

    /// Key of the [`Record`].
    pub fn record_key(&self) -> String {
        self.key("syncset")
    }

    /// What keys of nodes begin with.
    pub fn nodes_prefix(&self) -> String {
        self.key("nodes") + "/"
    }

    /// Key of a [`NodeEntry`].
    pub fn node_key(&self, node: NodeId) -> String {
        format!("{}/{node}", self.key("nodes"))
    }

    /// Key of a [`Report`].
    pub fn report_key(&self, node: NodeId) -> String {
        format!("{}/{node}", self.key("reports"))
    }

    /// Key of a [`Looked`].
    pub fn health_key(&self, node: NodeId) -> String {
        format!("{}/{node}", self.key("health"))
    }

    /// Key of an [`Event`]. Keys sort like numbers.
    pub fn event_key(&self, number: u64) -> String {
        format!("{EVENTS}{}/{number:020}", self.formation)
    }
}

/// Who is the elected monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// Its host and process, for people.
    pub monitor: String,
}

/// A PostgreSQL service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formation {
    /// The application's database, named in connection strings.
    pub dbname: String,
    /// Confirmations that a commit waits for at least; 0 to go on without any when no standby is left.
    pub number_sync_standbys: u32,
    /// The number of the next node that registers. Grows only, so that no number is used twice.
    pub next_node: NodeId,
}

impl Default for Formation {
    fn default() -> Formation {
        Formation {
            dbname: "postgres".to_owned(),
            number_sync_standbys: 0,
            next_node: 1,
        }
    }
}

/// What the elected monitor keeps of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Names that the primary is to use.
    pub wanted: Names,
    /// What the operator asked for.
    pub request: Option<Wish>,
    /// The number of the next event.
    pub next_event: u64,
}

/// A wish of the operator, as [`crate::decide::Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Somebody else is to be primary.
    Failover,
    /// This node is to be primary.
    Promotion(NodeId),
    /// The primary is lost: this node is to be primary although acknowledged rows may be missing there.
    Forced {
        /// Who is to be primary.
        node: NodeId,
        /// The revision of the record that the operator was told of. By any other one the loss has not been accepted.
        record: u64,
        /// Bytes that are known to be missing at least; nothing if that is not known.
        loss: Option<u64>,
    },
}

/// A node of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// Its name, unique in the formation.
    pub name: String,
    /// Where its PostgreSQL is reached.
    pub host: String,
    /// Where its PostgreSQL is reached.
    pub port: u16,
    /// 0 to 100; 0 is never promoted.
    pub candidate_priority: u8,
    /// Whether commits may wait for it.
    pub replication_quorum: bool,
    /// What it is to be.
    pub goal: NodeState,
    /// What it was to be before. That the two may follow each other is checked by the keeper.
    pub goal_before: NodeState,
}

/// What the monitor's looks at a node found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// The last look, with all its repetitions, was good.
    pub good: bool,
}

/// What a keeper says of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Grows with each report.
    pub number: u64,
    /// When it was made, by the node's own clock: milliseconds since 1970. For people only.
    #[serde(default)]
    pub time_ms: u64,
    /// What it is.
    pub state: NodeState,
    /// PostgreSQL runs.
    pub running: bool,
    /// PostgreSQL does not run and will not without help.
    pub dead: bool,
    /// Where its log ends.
    pub position: Option<Position>,
    /// What it says in an election.
    pub vote: Option<Vote>,
    /// Names in its file.
    pub names: Names,
    /// Of its cluster, in decimal: JSON numbers are not that precise everywhere.
    pub system_identifier: Option<String>,
    /// Why it does not get on.
    pub trouble: Option<String>,
}

/// A vote: cut off for the election of that revision, with the log ending there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The revision of the record.
    pub revision: u64,
    /// Where its log ends.
    pub position: Position,
}

/// Who is primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Whose it is.
    pub node: NodeId,
    /// The record's epoch with which it was taken.
    pub epoch: u64,
    /// The timeline on which it was taken.
    pub tli: u32,
}

/// Something that the monitor did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Whose goal changed.
    pub node: NodeId,
    /// Its group.
    pub group: u32,
    /// As it was called then.
    pub name: String,
    /// Where it was then.
    pub host: String,
    /// Where it was then.
    pub port: u16,
    /// What it reported.
    pub reported: NodeState,
    /// What it is to be now.
    pub goal: NodeState,
    /// Where its log ended.
    pub position: Option<Position>,
    /// Its priority.
    pub candidate_priority: u8,
    /// Whether commits might wait for it.
    pub replication_quorum: bool,
    /// The cause, in a sentence.
    pub description: String,
    /// With a promotion that the operator has forced: bytes that were known to be missing, if that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_loss_bytes: Option<u64>,
}

/// The record, as the specification writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    epoch: u64,
    node: NodeId,
    kind: Kind,
    members: std::collections::BTreeSet<NodeId>,
    need: u32,
    open: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released_lsn: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released_tli: Option<u32>,
}

/// A value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Wrong {
    /// The key, or what was given.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Wrong {
    fn new(what: impl Into<String>, reason: impl fmt::Display) -> Wrong {
        Wrong {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}

/// Whether a name may stand in a key: letters, digits, `_`, `-` and `.`.
pub fn check_name(what: &str, name: &str) -> Result<(), Wrong> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(fits) {
        let reason = format!("must be 1 to {NAME_LIMIT} letters, digits, `_`, `-` or `.`");
        return Err(Wrong::new(format!("{what} `{name}`"), reason));
    }
    Ok(())
}

/// Something that lies in the store.
pub trait Stored: Sized {
    /// As text.
    fn encode(&self) -> String;

    /// From text, without what it is checked against.
    fn decode(text: &[u8]) -> Result<Self, String>;

    /// From an entry of that key.
    fn read(key: &str, entry: &Entry) -> Result<Self, Wrong> {
        if entry.value.len() > VALUE_LIMIT {
            let reason = format!("{} bytes; {VALUE_LIMIT} are the most", entry.value.len());
            return Err(Wrong::new(key, reason));
        }
        Self::decode(&entry.value).map_err(|reason| Wrong::new(key, reason))
    }
}

/// With the version of its form in front.
fn encode(value: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        version: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_string(&Versioned { version: 1, value }).expect("plain data")
}

fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match object.remove("version") {
        Some(version) if version == 1 => {}
        Some(version) => return Err(format!("version {version} is not known here; 1 is")),
        None => return Err("there is no `version`".to_owned()),
    }
    serde_json::from_value(object.into()).map_err(|error| error.to_string())
}

macro_rules! stored {
    ($($type:ty $(, $check:expr)?;)*) => {
        $(impl Stored for $type {
            fn encode(&self) -> String {
                encode(self)
            }

            fn decode(text: &[u8]) -> Result<$type, String> {
                let value: $type = decode(text)?;
                $(let check: fn(&$type) -> Result<(), String> = $check; check(&value)?;)?
                Ok(value)
            }
        })*
    };
}

stored! {
    Settings, |settings| settings.check().map_err(|refused| refused.to_string());
    Leader;
    Formation, |formation| if formation.next_node == 0 { Err("nodes are numbered from 1".to_owned()) } else { Ok(()) };
    Group, |group| fitting(&group.wanted);
    NodeEntry, |node| {
        check_name("name", &node.name).map_err(|wrong| wrong.to_string())?;
        if node.candidate_priority > 100 {
            return Err(format!("candidate_priority is {}; 100 is the most", node.candidate_priority));
        }
        Ok(())
    };
    Looked;
    Report, |report| fitting(&report.names);
    Lock;
    Event;
}

/// Names as [`Names::of`] would have made them.
fn fitting(names: &Names) -> Result<(), String> {
    Names::of(names.members().clone(), names.any())
        .map(|_| ())
        .map_err(|invalid| invalid.to_string())
}

impl Stored for Record {
    fn encode(&self) -> String {
        encode(&StoredRecord {
            epoch: self.epoch,
            node: self.node,
            kind: self.kind,
            members: self.members.clone(),
            need: self.need,
            open: self.open,
            released_lsn: self.released.map(|released| released.lsn),
            released_tli: self.released.map(|released| released.timeline),
        })
    }

    fn decode(text: &[u8]) -> Result<Record, String> {
        let stored: StoredRecord = decode(text)?;
        let released = match (stored.released_lsn, stored.released_tli) {
            (Some(lsn), Some(timeline)) => Some(Position { timeline, lsn }),
            (None, None) => None,
            _ => return Err("released_lsn and released_tli stand together or not at all".to_owned()),
        };
        let sync = matches!(stored.kind, Kind::Sync | Kind::Forced);
        if sync == stored.members.is_empty() {
            return Err("members are for kinds `sync` and `forced`, which have some".to_owned());
        }
        if sync && (stored.need == 0 || stored.need as usize > stored.members.len()) {
            return Err(format!("need is {} of {}", stored.need, stored.members.len()));
        }
        Ok(Record {
            epoch: stored.epoch,
            node: stored.node,
            kind: stored.kind,
            members: stored.members,
            need: stored.need,
            open: stored.open,
            released,
        })
    }
}

#[cfg(test)]
mod tests;
