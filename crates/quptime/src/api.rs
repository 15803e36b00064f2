//! What commands ask the daemon over its socket, and what it answers: one request and one answer per connection, each a line of JSON.
//!
//! Commands read entries and send changes of them (see [`crate::document::change`]), so two people who edit one entry are told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{Change, Document};
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::state::{State, Verb};
use crate::node::wire::{Beat, CheckLine};

/// Largest request or answer: a state with ten thousand checks.
pub const MESSAGE_MAX: usize = 64 << 20;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How it stands.
    Status {
        /// Not waiting for an election that is under way.
        no_wait: bool,
    },
    /// The configuration.
    Document,
    /// All that is replicated.
    State,
    /// Changes of the configuration.
    Configure {
        /// All or none.
        changes: Vec<Change>,
        /// What for, for the audit.
        what: String,
        /// Also if quorum would be lost by removing nodes.
        force: bool,
    },
    /// Who is at an address.
    Meet {
        /// `host:port`.
        address: String,
    },
    /// Invites the node at an address.
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
        /// By id or name.
        alert: String,
        /// About which check.
        check: Option<String>,
        /// What it says.
        verb: Verb,
        /// From which nodes; this one if left out.
        nodes: Vec<NodeId>,
    },
    /// Somebody works on an outage.
    Acknowledge {
        /// The check, by id or name.
        check: String,
        /// What they say.
        note: String,
        /// Until when.
        until: Option<Millis>,
    },
    /// Looks at all nodes.
    Doctor,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not done.
    Error {
        /// What the command exits with.
        exit_code: u8,
        /// One line.
        text: String,
    },
    /// [`Request::Status`].
    Status(Box<Status>),
    /// [`Request::Document`].
    Document(Box<Document>),
    /// What this node can say, which may not be what the cluster has decided.
    Old {
        /// One line.
        why: String,
        /// That.
        answer: Box<Answer>,
    },
    /// [`Request::State`].
    State(Box<State>),
    /// A change was made.
    Changed {
        /// The version of the configuration afterwards.
        version: u64,
        /// What is allowed but hardly meant.
        warnings: Vec<String>,
    },
    /// [`Request::Meet`].
    Met {
        /// Who it says it is.
        node: NodeId,
        /// The key it has.
        fingerprint: String,
    },
    /// [`Request::Invite`].
    Invited {
        /// Who came.
        node: NodeId,
        /// The version of the configuration afterwards.
        version: u64,
        /// Whether the node has that configuration already.
        joined: bool,
    },
    /// [`Request::TestAlert`]: by node, what went wrong if something did.
    Tested(Vec<(NodeId, Option<String>)>),
    /// [`Request::Doctor`].
    Doctor(Vec<Finding>),
}

/// How it stands, as a node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// The master.
    pub master: Option<NodeId>,
    /// Why there is none.
    pub no_master: Option<String>,
    /// Whether enough nodes are live.
    pub quorum: bool,
    /// How many are enough.
    pub need: usize,
    /// Version of the configuration applied here.
    pub config_version: u64,
    /// The nodes.
    pub peers: Vec<PeerLine>,
    /// The checks.
    pub checks: Vec<CheckLine>,
    /// Anything else worth a line.
    pub notes: Vec<String>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerLine {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub advertise: String,
    /// Whether it is heard.
    pub live: bool,
    /// When it was last heard, UNIX milliseconds.
    pub last_seen: Option<Millis>,
    /// Whether it votes. A node that has just joined, or has come back without its memory, catches up first.
    #[serde(default = "yes")]
    pub votes: bool,
}

fn yes() -> bool {
    true
}

/// What a node says of itself to `doctor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// Its beat, with whom it hears.
    pub beat: Beat,
    /// Errors of the last ten minutes that somebody has to act upon.
    pub troubles: Vec<String>,
    /// How long ago each of them was seen last, milliseconds. Older programs do not say.
    #[serde(default)]
    pub trouble_ages: Vec<Millis>,
    /// Attempts of the last minute to reach a peer.
    #[serde(default)]
    pub attempts: Vec<String>,
    /// Files whose modes are wrong.
    pub modes: Vec<String>,
    /// How it sends echoes.
    pub icmp: String,
    /// End of its certificate, UNIX seconds.
    pub certificate_end: i64,
    /// How it stands with hand edits; nothing if there are none.
    pub edit: Option<String>,
    /// When alerts last took a test from it, UNIX milliseconds, by id.
    #[serde(default)]
    pub tests: BTreeMap<String, Millis>,
    /// Where it serves pages; nothing if it was told not to.
    #[serde(default)]
    pub web: Option<WebAddress>,
    /// What it cannot write, and why.
    #[serde(default)]
    pub unwritten: Option<String>,
    /// Bytes that are free where its directory is; nothing if it does not say.
    #[serde(default)]
    pub room: Option<u64>,
}

/// Where a node serves pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebAddress {
    /// `host:port`.
    pub address: String,
    /// Why they are not served there.
    pub error: Option<String>,
}

/// A line of `doctor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `pass`, `warn` or `fail`.
    pub verdict: String,
    /// What was looked at.
    pub subject: String,
    /// What was seen.
    pub text: String,
}
