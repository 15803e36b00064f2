//! What goes in and what comes out.

use std::collections::BTreeSet;
use std::fmt;

use super::facts::{FileFacts, Founding, Group, Incarnation, NodeId, Note, RaftFacts, Running, Statement};

/// Everything that is on the disk when the node starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Boot {
    /// This node.
    pub node: NodeId,
    /// The default if there is none.
    pub note: Note,
    /// `raft/`, if it is there and genuine.
    pub raft: Directory,
    /// The directory of the group on trial.
    pub trial: Option<RaftFacts>,
    /// `cluster.yaml`; the text of the error, with line and path, if it cannot be taken.
    pub file: Result<FileFacts, String>,
}

/// What is in `raft/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Directory {
    /// Nothing, or a copy from elsewhere.
    Absent,
    /// Readable.
    Present(RaftFacts),
    /// Written by a newer schema.
    Newer,
}

/// What can happen.
#[expect(clippy::large_enum_variant, reason = "one at a time, a few per second")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// A second has passed. `fresh` was never used before: a random number, made an incarnation or a group id if one is needed.
    Tick {
        /// Random.
        fresh: u64,
    },
    /// A peer answered.
    Answer(Statement),
    /// A peer did not answer in time, or refused.
    Unreachable(NodeId),
    /// The log of a replica of this node moved, or its configuration. Before it acknowledges anything of that.
    Advanced(RaftFacts),
    /// There is a leader, and an entry of its own term is known to be committed.
    LeaderFound(Running),
    /// That leader is gone.
    LeaderLost,
    /// The node wrote `cluster.yaml` from its state. (Edits of a running node's file are not the matter of this module.)
    File(FileFacts),
    /// What [`Action::Persist`] asked for is on disk.
    Persisted,
}

/// What to do, in this order. Every action can be repeated after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask these for their statements; answers or their absence come back within a few seconds.
    Ask(BTreeSet<NodeId>),
    /// Write and sync the note, then say so. Nothing that follows from it may be seen before.
    Persist(Note),
    /// Stop the running replica; it acknowledges nothing more.
    StopReplica,
    /// Start the replica of `raft/`.
    StartReplica,
    /// Write `cluster.yaml` from the Raft state.
    RewriteFile,
    /// Keep the text as a pending edit of the last written one, to be proposed as soon as there is a leader.
    PendingEdit,
    /// Keep `cluster.yaml` as `cluster.yaml.stale-<time>`.
    KeepStale,
    /// Move `raft/`, written by a newer schema, aside.
    MoveAside,
    /// Move `raft/` to `raft.orphan-<time>` if it belongs to anything else, make an empty one for this life, start its replica.
    Enter(Group, Incarnation),
    /// Make the trial directory with the first entry of the new group, unless it is there, and start its replica.
    Found(Founding),
    /// Make an empty trial directory for this member of the new group, unless it is there, and start its replica as founded.
    Follow(Founding),
    /// Move `raft/` to `raft.orphan-<time>` and the trial directory to `raft/`. Its replica runs on.
    Adopt,
    /// Remove the trial directory and stop its replica.
    DropTrial,
    /// For the log.
    Log(Line),
    /// Exit with this text.
    Exit(String),
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Line {
    /// A row of the start-up table was taken.
    Took(Row),
    /// Why the node waits; at once and every 30 s.
    Waiting(Waiting),
    /// This node and that one are in two running groups.
    GroupConflict {
        /// Whose.
        peer: NodeId,
        /// The other one.
        group: Group,
    },
}

/// The rows of the start-up table, and the cases of the unanimous file rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// State present, file as written.
    NormalStart,
    /// State present, and the file is an edit of what was written here that leaves the voters as they are: the edit waits for the group.
    StartsWithEdit,
    /// State present, placeholder: rewritten.
    PlaceholderReplaced,
    /// State present, file of the same version edited, group runs.
    SameVersionEdit,
    /// State present, file of a higher version, group runs.
    HigherVersionEdit,
    /// State present, file of a lower version, group runs.
    StaleBackup,
    /// No state (or an edited one, or of another group), and a group runs that lists the node.
    EntersRunning,
    /// No state, and the file lists nobody else.
    FoundsAlone,
    /// All listed peers agree.
    FoundsUnanimously,
    /// A majority without any state agrees, and 30 s have passed.
    FoundsByMajority,
    /// Another node founded with this one.
    Follows,
    /// The new group's log has begun here.
    Adopts,
    /// The group on trial cannot come to be.
    GivesUpTrial,
    /// State of a newer schema, file readable.
    NewerSchema,
    /// The file cannot be taken.
    RefusesFile,
}

/// Why nothing is decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Waiting {
    /// Others are still being asked.
    Asking,
    /// The file does not list this node.
    NotListed,
    /// These did not answer.
    Unreachable(BTreeSet<NodeId>),
    /// These have another file. In what, the driver finds out by asking for it.
    Differs(BTreeSet<NodeId>),
    /// A listed peer is in a running group that does not list this node.
    PeerInGroup(NodeId, Group),
    /// A majority of that group is here and can elect a leader.
    Electable(Group),
    /// A placeholder is never proposed while a peer has state.
    Placeholder(NodeId),
    /// These answer, but have not made their minds up.
    Undecided(BTreeSet<NodeId>),
    /// All agree; this one founds.
    Founder(NodeId),
    /// The new group has no leader yet.
    Trial(Group),
    /// A running group is about to be entered, or to elect this node's replica into its ranks.
    Joining(Group),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&groups.join("-"))
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &BTreeSet<NodeId>| {
            let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        match self {
            Waiting::Asking => write!(f, "asking the peers"),
            Waiting::NotListed => write!(f, "cluster.yaml does not list this node"),
            Waiting::Unreachable(nodes) => write!(f, "no answer from {}", names(nodes)),
            Waiting::Differs(nodes) => write!(f, "cluster.yaml differs from that of {}", names(nodes)),
            Waiting::PeerInGroup(node, _) => write!(f, "{node} is in a running group without this node"),
            Waiting::Electable(_) => write!(f, "waiting for an election of the members that have state"),
            Waiting::Placeholder(node) => {
                write!(
                    f,
                    "version 0 is a placeholder, and {node} has state: waiting for its group"
                )
            }
            Waiting::Undecided(nodes) => write!(f, "waiting for {}", names(nodes)),
            Waiting::Founder(node) => write!(f, "all files agree, {node} founds the group"),
            Waiting::Trial(_) => write!(f, "waiting for the new group to begin"),
            Waiting::Joining(_) => write!(f, "entering the running group"),
        }
    }
}
