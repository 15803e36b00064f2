//! What the screen wants done, and what it is told. The screen decides nothing of the cluster: every order is one that a command of `qu`
//! gives as well.

use std::sync::Arc;

use crate::api::Status;
use crate::document::{Change, Document, Entry};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::state::Verb;

/// Something for the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// A new check or alert; it gets its id on the way.
    Add(Entry),
    /// Changes of what is there.
    Change {
        /// All or none.
        changes: Vec<Change>,
        /// What for, for the audit.
        what: &'static str,
        /// What is told when it is done.
        done: String,
    },
    /// Who is at an address.
    Meet {
        /// `host:port`.
        address: String,
        /// Whether what it has may be thrown away; for the invitation that follows.
        discard: bool,
    },
    /// Invites the node that was met.
    Invite {
        /// `host:port`.
        address: String,
        /// The key that was shown.
        fingerprint: String,
        /// Whether what it has may be thrown away.
        discard: bool,
    },
    /// Sends a test of an alert.
    TestAlert {
        /// By id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Sends what a change of a check would send, marked as a test.
    TestCheck {
        /// By id.
        id: String,
        /// Its name.
        name: String,
        /// Which change.
        verb: Verb,
        /// Ids and names of the alerts that are told.
        alerts: Vec<(String, String)>,
    },
    /// Somebody works on an outage.
    Acknowledge {
        /// The check, by id.
        id: String,
        /// Its name.
        name: String,
        /// What they say.
        note: String,
        /// Until when.
        until: Option<Millis>,
    },
}

impl Order {
    /// What is shown while it is under way.
    pub(super) fn title(&self) -> String {
        match self {
            Order::Add(entry) => format!("adding {}", entry.title()),
            Order::Change { what, changes, .. } => {
                let first = changes.first().map(Change::title).unwrap_or_default();
                format!("{what}: {first}")
            }
            Order::Meet { address, .. } => format!("asking who is at {address}"),
            Order::Invite { address, .. } => format!("inviting the node at {address}"),
            Order::TestAlert { name, .. } => format!("sending a test of alert {name}"),
            Order::TestCheck { name, .. } => format!("sending a test of check {name}"),
            Order::Acknowledge { name, .. } => format!("acknowledging check {name}"),
        }
    }
}

/// How it stands.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// As `qu status` has it.
    pub(super) status: Status,
    /// The configuration.
    pub(super) document: Arc<Document>,
}

/// What became of an order that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done {
        /// One line.
        text: String,
        /// The new entry, by id.
        added: Option<String>,
    },
    /// Somebody is at the address.
    Met {
        /// Where.
        address: String,
        /// Who they say they are.
        node: NodeId,
        /// The key they have.
        fingerprint: String,
        /// As the order said.
        discard: bool,
    },
}

/// An order that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What the command would exit with.
    pub(super) code: u8,
    /// One line.
    pub(super) text: String,
}

/// What the screen is told.
#[derive(Debug)]
pub(super) enum News {
    /// How it stands, or why nobody says so.
    Looked(Result<Look, String>),
    /// The order that was given last.
    Finished(Result<Outcome, Failure>),
}
