//! What nodes ask each other, as JSON in requests of the transport. Fields that a node does not know are ignored, so neighbouring
//! versions understand each other.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::document::Peer;
use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::command::Command;
use crate::machine::state::Status;
use crate::machine::twins::{Process, Twins};
use crate::secret::Secret;

/// Level of the protocol that this program speaks.
pub const PROTOCOL: u32 = 1;

/// Largest request or answer between nodes. A change holds entries as they were and as they shall be, so one of a whole configuration takes twice
/// what that may take ([`crate::document::size::WRITTEN_MAX`]), and what names its entries; a snapshot holds it once, packed, beside the
/// states of checks and what waits to be told.
pub const FRAME_MAX: usize = 32 << 20;
/// Largest command: it goes in a frame, alone or with what a message has around it.
pub const COMMAND_MAX: usize = FRAME_MAX - (64 << 10);

/// Kinds of requests between peers.
pub mod kind {
    /// [`super::Beat`] for a beat.
    pub const BEAT: u8 = 1;
    /// [`super::Proposal`] to the master, for a [`super::Proposed`].
    pub const PROPOSE: u8 = 2;
    /// [`super::Reports`] to the master.
    pub const REPORTS: u8 = 3;
    /// Ids of checks that shall be looked at again.
    pub const LOOK_AGAIN: u8 = 4;
    /// A snapshot of the group.
    pub const SNAPSHOT: u8 = 5;
    /// The table of checks, from the master.
    pub const CHECKS: u8 = 6;
    /// What a node that is not in a group yet wants to know.
    pub const STATEMENT: u8 = 7;
    /// A test of an alert from this node.
    pub const TEST_ALERT: u8 = 8;
    /// What `doctor` wants to know of a node.
    pub const DOCTOR: u8 = 9;
    /// [`super::Peers`] of the configuration that a node has.
    pub const PEERS: u8 = 10;
    /// [`crate::document::inventory::Inventory`] of the file that a node has.
    pub const INVENTORY: u8 = 11;
    /// [`super::EnrollCall`] to the master, for an [`super::Enrolled`].
    pub const ENROLL: u8 = 16;
    /// Calls of strangers: joining with the cluster's secret.
    pub const JOIN: u8 = 32;
    /// Calls of strangers: [`super::EnrollCall`] for an [`super::EnrollAnswer`].
    pub const SUBMIT: u8 = 33;
}

/// Who belongs to the cluster, as of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// The version.
    pub version: u64,
    /// All of them.
    pub peers: Vec<Peer>,
}

/// A sign of life, with what others want to know of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who.
    pub node: NodeId,
    /// Version of the configuration it has applied.
    pub version: u64,
    /// The beginning of that configuration's digest.
    pub digest: String,
    /// Its group; 0 outside of any.
    pub group: u64,
    /// Its term.
    pub term: u64,
    /// Whom it follows.
    pub master: Option<NodeId>,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The highest schema level it reads.
    pub schema: u32,
    /// Its program.
    pub program: String,
    /// Its wall clock.
    pub clock: Millis,
    /// Whom it hears.
    #[serde(default)]
    pub hears: Vec<NodeId>,
    /// The process that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Nodes as which two processes run, as far as it has found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<Twins>,
}

/// A command for the master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// What.
    pub command: Command,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposed {
    /// It is committed.
    Done {
        /// Where it stands in the log.
        index: u64,
        /// The version of the configuration afterwards.
        version: u64,
    },
    /// It changed nothing.
    Outdated,
    /// Others changed these entries in the meantime.
    Conflict(Vec<String>),
    /// The result would not hold together.
    Invalid(String),
    /// As things are it would do harm; it may be asked for again.
    NotNow(String),
    /// This node is not the master.
    NotMaster,
    /// It was not carried out.
    Failed(String),
    /// Nobody knows whether it was carried out.
    Unknown(String),
}

/// What probes of a node found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// In the order in which they ended.
    pub reports: Vec<Report>,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The check, by id.
    pub check: String,
    /// Fingerprint of the check's definition, so that what was found about an older one does not count.
    pub definition: u64,
    /// What was found.
    pub result: Found,
    /// Why, if not well.
    #[serde(default)]
    pub detail: String,
    /// Milliseconds since the probe ended.
    pub age: Millis,
    /// Milliseconds that the probe took.
    pub took: Millis,
    /// End of the certificate seen, UNIX seconds.
    #[serde(default)]
    pub certificate_end: Option<i64>,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Well.
    Up,
    /// Not.
    Down,
    /// This node cannot look.
    Unable,
}

impl Found {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Found::Up => "up",
            Found::Down => "down",
            Found::Unable => "unable",
        }
    }
}

/// A line of the table of checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckLine {
    /// The check, by id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub status: Status,
    /// Since when.
    pub since: Millis,
    /// `disabled`, `stale`, `maintenance` or `flapping`.
    #[serde(default)]
    pub mark: Option<String>,
    /// Reports that found it well, in the last round.
    pub ok: u32,
    /// Reports of the last round.
    pub total: u32,
    /// Names of alerts; with an asterisk if attached as a default.
    pub alerts: Vec<String>,
    /// Why it is not well.
    #[serde(default)]
    pub detail: String,
    /// Whether somebody works on it.
    #[serde(default)]
    pub acknowledged: bool,
    /// What the node that is asked finds itself; only without quorum, when nothing newer is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<Here>,
}

/// What a node itself finds about a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// What.
    pub result: Found,
    /// Why, if not well.
    pub detail: String,
    /// When, UNIX milliseconds.
    pub at: Millis,
}

/// A stranger asks to be, or to make the called node, part of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinCall {
    /// An inviter proves that it knows the secret, and says what the joiner shall become part of.
    Invite {
        /// HMAC over the connection, base64url.
        proof: String,
        /// The peers of the cluster, the inviter first.
        peers: Vec<Peer>,
        /// Whether checks and alerts of the joiner may be thrown away.
        discard: bool,
    },
}

/// What the called node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// HMAC over the connection, base64url.
    pub proof: String,
    /// The joiner as a peer.
    pub peer: Peer,
}

/// A host shows a token, to a node whose key stands in it. Whoever has it asks again until it is a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnrollCall {
    /// The enrollment.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// The host as the peer it wants to be. Its key is the one that the host has proven to have, which whoever took the call has
    /// looked at.
    pub peer: Peer,
}

/// What a host that shows a token is told. Refusals are errors of the call, so that they count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrollAnswer {
    /// It is a peer.
    Peer {
        /// All peers, itself included.
        peers: Vec<Peer>,
    },
    /// It waits for approval.
    Waiting,
    /// Nobody can decide at the moment; another node may know more.
    NotNow(String),
}

/// What the master says to a node that passes a call on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enrolled {
    /// It has decided.
    Decided(EnrollAnswer),
    /// It does not take the host.
    Refused(String),
    /// It is not the master.
    NotMaster,
}

/// As it goes over the wire.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(
        serde_json::to_vec(value).expect("what nodes say consists of texts, numbers, lists and structs"),
    )
}

/// Reads what came over the wire.
///
/// # Errors
/// One line, for both ends.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("cannot be understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, review};

    fn peers(certificate: usize) -> Document {
        let peer = |number: usize| Peer {
            node_id: NodeId::draw(),
            advertise: format!("{number}{}.example.com:9901", "x".repeat(242)),
            fingerprint: format!("sha256:{}", "a".repeat(121)),
            // In lines of 64 letters.
            cert_pem: (0..certificate)
                .map(|at| if at % 65 == 64 { '\n' } else { 'a' })
                .collect(),
            location: Some("\"".repeat(128)),
        };
        Document {
            version: 1,
            peers: (1..=review::PEERS_MAX).map(peer).collect(),
            ..Document::default()
        }
    }

    #[test]
    fn as_many_peers_as_there_may_be_fit_where_strangers_are_told_of_them() {
        let document = peers(4096);
        review::review(&document).unwrap();
        let told = review::review(&peers(4097)).unwrap_err().to_string();
        assert!(
            told.ends_with("cert_pem: 4097 bytes are too many; at most 4096"),
            "{told}"
        );
        let call = JoinCall::Invite {
            proof: "p".repeat(43),
            peers: document.peers.clone(),
            discard: true,
        };
        let answer = EnrollAnswer::Peer {
            peers: document.peers,
        };
        assert!(encode(&call).len() < peer::stranger::BODY_BYTES);
        assert!(encode(&answer).len() < peer::stranger::BODY_BYTES);
    }
}
