//! What stands in the log: the commands that replicas carry out, as JSON.
//!
//! Fields may be added with a default; a command that an older program does not know is refused by its level before it is proposed
//! (see the crate's header on upgrades).

use serde::{Deserialize, Serialize};

use super::Millis;
use super::state::{Status, Verb};
use crate::document::Change;
use crate::identity::NodeId;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Changes of the configuration, all or none.
    Configure(Configure),
    /// A check's state changes.
    Transition(Transition),
    /// Something is told about a check whose state stays.
    Announce(Announce),
    /// A delivery is about to be attempted.
    Claim(Claim),
    /// An attempt has ended.
    Settle(Settle),
    /// Somebody works on an outage.
    Acknowledge(Acknowledge),
    /// Votes of a node count no more, or again.
    Impair {
        /// Which.
        node: NodeId,
        /// Whether.
        impaired: bool,
        /// When.
        at: Millis,
    },
}

/// Changes of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configure {
    /// All or none.
    pub changes: Vec<Change>,
    /// Where they were asked for.
    pub by: NodeId,
    /// The local user who asked, if it was one.
    #[serde(default)]
    pub uid: Option<u32>,
    /// What for: a command, a hand edit.
    #[serde(default)]
    pub what: String,
    /// Wall clock of the master, RFC 3339.
    pub at: String,
    /// The level that the result needs.
    pub schema: u32,
    /// Wall clock of the master: what people were told of checks that end here is closed at this time. Nothing is in entries of programs that
    /// told nobody.
    #[serde(default)]
    pub closes: Option<Millis>,
    /// How many nodes there are afterwards, if some are removed: whoever allowed that looked at those that remain. Nothing is in entries of
    /// programs that did not say so.
    #[serde(default)]
    pub leaves: Option<usize>,
    /// What the result may take when it is written ([`crate::document::size`]), as the master says; no limit in entries of programs that had
    /// none, so they come to the same when they are carried out again.
    #[serde(default)]
    pub bytes_max: Option<usize>,
    /// Whether nodes are removed although too few of those that remain may be live. For the master; nothing is decided by it afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insists: bool,
}

/// A check's state changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// By id.
    pub check: String,
    /// How many transitions the check had before; another number means that this one is out of date.
    pub after: u64,
    /// The new state.
    pub to: Status,
    /// When it was found.
    pub at: Millis,
    /// Begins with a change to down.
    #[serde(default)]
    pub incident: Option<String>,
    /// What was seen.
    pub snapshot: Snapshot,
    /// Whether the outage is told to anybody, now or later.
    #[serde(default)]
    pub held: Option<Hold>,
    /// What is told, by alert.
    #[serde(default)]
    pub deliveries: Vec<NewDelivery>,
}

/// Why an outage is not told at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Announced work.
    Maintenance,
    /// Something it depends on, by id, may be down as well.
    Dependency(String),
    /// It changes too often.
    Flapping,
    /// The check was disabled.
    Disabled,
}

/// Something is told about a check whose state stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announce {
    /// By id.
    pub check: String,
    /// Transitions so far.
    pub after: u64,
    /// Announcements since the last transition.
    pub notices: u64,
    /// What.
    pub verb: Verb,
    /// When.
    pub at: Millis,
    /// What was seen last.
    pub snapshot: Snapshot,
    /// What is told, by alert.
    pub deliveries: Vec<NewDelivery>,
}

/// A message for one channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewDelivery {
    /// The alert, by id.
    pub alert: String,
    /// What it says.
    pub verb: Verb,
    /// Not before.
    pub due: Millis,
}

/// What the reports of one round said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    /// How many reported.
    pub reports: u32,
    /// How many of them found it well.
    pub ok: u32,
    /// What one of the others found.
    #[serde(default)]
    pub detail: String,
    /// Who found it bad.
    #[serde(default)]
    pub bad_nodes: Vec<NodeId>,
}

impl Snapshot {
    /// Keeps the first text.
    pub(super) fn note(&mut self, detail: String) {
        if self.detail.is_empty() {
            self.detail = detail;
        }
    }
}

/// An attempt begins. Only its node may make it, and only once this is committed in its own term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The delivery.
    pub delivery: String,
    /// The claiming master's term.
    pub term: u64,
    /// The master.
    pub node: NodeId,
    /// When.
    pub at: Millis,
}

/// An attempt has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settle {
    /// The delivery.
    pub delivery: String,
    /// The term of its claim.
    pub term: u64,
    /// The node of its claim.
    pub node: NodeId,
    /// How.
    pub ending: Ending,
    /// When.
    pub at: Millis,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The channel has it.
    Sent,
    /// It does not; another attempt is made.
    Retry {
        /// Not before.
        due: Millis,
        /// Why not.
        error: String,
        /// Whether the channel will hardly ever take it.
        permanent: bool,
        /// Whether it may have been taken nevertheless.
        #[serde(default)]
        uncertain: bool,
    },
    /// Given up.
    Dropped {
        /// Why.
        reason: String,
    },
}

/// Somebody works on an outage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acknowledge {
    /// By id.
    pub check: String,
    /// What they say.
    #[serde(default)]
    pub note: String,
    /// Until when it counts; without an end until recovery.
    #[serde(default)]
    pub until: Option<Millis>,
    /// When.
    pub at: Millis,
    /// The local user, if known.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Where it was said. Older programs did not tell.
    #[serde(default)]
    pub by: Option<NodeId>,
}

impl Command {
    /// As it stands in the log.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("commands consist of texts, numbers, lists and structs")
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// A command of a newer program, or damage.
    pub fn decode(bytes: &[u8]) -> Result<Command, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
