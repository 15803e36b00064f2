//! What a node knows about itself and what nodes tell each other before they are in a group.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A node, by the 128 bits of its UUID: numbers are in the same order as the written form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u128);

/// One life of a node in one group: drawn together with the group's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// Of the canonical form of a configuration, `version` included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// One Raft group.
///
/// A group that replaces others has a higher generation than all of them. So does what its log holds: positions in logs of different
/// groups can be compared only by generation first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// One more than that of any group its founder had heard of.
    pub generation: u32,
    /// Drawn by its founder.
    pub id: u64,
}

/// A place in the log of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Of the entry.
    pub term: u64,
    /// Of the entry; 0 is before the first.
    pub index: u64,
}

/// How far somebody's data goes. The order is that of who knows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Whose data.
    pub group: Group,
    /// The last entry in the log, committed or not.
    pub last: Position,
}

/// What a Raft directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RaftFacts {
    /// Of which group.
    pub group: Group,
    /// Which life of this node.
    pub incarnation: Incarnation,
    /// The voters of the newest configuration in the log, each with the life that counts.
    pub voters: BTreeMap<NodeId, Incarnation>,
    /// The end of the log; index 0 if it is empty.
    pub last: Position,
    /// Whether the log goes beyond the entry that founded the group, or began with something that another member sent.
    pub beyond_founding: bool,
    /// This life is not (yet) one that may vote.
    pub recovering: bool,
    /// `version` of the applied state.
    pub version: u64,
    /// Digest of the applied state.
    pub digest: Digest,
}

impl RaftFacts {
    /// A node that entered a group and has got nothing from it yet.
    pub fn is_empty(&self) -> bool {
        self.last.index == 0
    }

    /// How far it goes.
    pub fn extent(&self) -> Extent {
        Extent {
            group: self.group,
            last: self.last,
        }
    }
}

/// What `cluster.yaml` says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileFacts {
    /// 0 marks a placeholder.
    pub version: u64,
    /// Of the whole file.
    pub digest: Digest,
    /// Voters among the listed peers.
    pub peers: BTreeSet<NodeId>,
    /// The text is the one that this node wrote last. Never true without a Raft directory, which keeps that text.
    pub as_written: bool,
    /// The text is none that this node wrote, but has the version of one that it wrote: somebody edited that.
    pub is_edit: bool,
}

/// A promise that is told to others: who founds a group with this incarnation may count on exactly this data and file.
///
/// It lives in memory. A node that restarts draws another one, so nobody can hold it to what it has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// In the group that is to be founded.
    pub incarnation: Incarnation,
    /// The end of the log when it was drawn.
    pub extent: Option<Extent>,
    /// What the node agrees to.
    pub digest: Digest,
}

/// Where the state of a new group comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// The file that all agree on.
    File,
    /// The founder's log to its very end: nobody edited the founder's file, so its log can only be ahead of it.
    Log,
}

/// A group as its founder has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Founding {
    /// The new group.
    pub group: Group,
    /// The one node that writes the first entry.
    pub founder: NodeId,
    /// The first voters. The founder counts too.
    pub members: BTreeMap<NodeId, Incarnation>,
    /// Of the file that all members agreed to.
    pub digest: Digest,
    /// Where the founder takes the state from.
    pub content: Content,
    /// `version` of that state, if it comes from the file.
    pub version: u64,
    /// What the log continues: its first entry comes right after, in the next term.
    pub base: Option<Extent>,
}

/// Where a node stands, on disk. Written before anything is done or said that follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// `raft/` is what it is.
    #[default]
    Own,
    /// `raft/` belongs to a group that this node has left for good. It still says what was known there.
    Left,
    /// The node founded this group, or follows its founder. `raft/` is kept until the new group's log has begun.
    Trial(Founding),
    /// The node enters a running group with a new life; what was in `raft/` is out of use.
    Entering(Group, Incarnation),
}

/// What this module keeps on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Note {
    /// Where the node stands.
    pub standing: Standing,
    /// The highest generation of any group this node was in, or tried to be.
    pub generation: u32,
}

impl Note {
    /// What is true when `raft/` is damaged: that life may have promised what nobody knows any more, so it is over, also where the note would
    /// go on with it. Written before anybody moves the folder aside, and right as well if it can be read after all.
    #[must_use]
    pub fn without_log(self, has_trial: bool) -> Note {
        let standing = match self.standing {
            // What was adopted, and not written down as such yet.
            Standing::Trial(_) if !has_trial => Standing::Left,
            // What the life was made for, or what was left for it.
            Standing::Entering(..) => Standing::Left,
            standing => standing,
        };
        Note { standing, ..self }
    }

    /// The same when `raft.trial/` is damaged. What `raft/` holds still counts.
    #[must_use]
    pub fn without_trial(self) -> Note {
        let standing = match self.standing {
            Standing::Trial(_) => Standing::Left,
            standing => standing,
        };
        Note { standing, ..self }
    }
}

/// A group that has a leader, and something committed by that very leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub group: Group,
    /// Who leads.
    pub leader: NodeId,
    /// Everybody in it, learners too.
    pub members: BTreeSet<NodeId>,
    /// `version` of its state.
    pub version: u64,
    /// Digest of its state.
    pub digest: Digest,
}

/// The data behind a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Data {
    /// As in the directory.
    pub facts: RaftFacts,
    /// The replica is started, or will be at once, and takes part in elections of its group.
    pub votes: bool,
}

/// What a node says when it is asked. Made only from what is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Statement {
    /// Who says it: the driver checks this against the pinned certificate.
    pub node: NodeId,
    /// The group it is in, if that runs.
    pub running: Option<Running>,
    /// What it holds.
    pub data: Option<Data>,
    /// `version` it agrees to.
    pub version: u64,
    /// What it agrees to.
    pub digest: Digest,
    /// It is undecided, and this may be counted on.
    pub ticket: Option<Ticket>,
    /// It is in a group that has not begun.
    pub trial: Option<Founding>,
}
