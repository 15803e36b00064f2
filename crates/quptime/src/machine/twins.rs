//! Two processes that run as one node, because somebody copied a data directory.
//!
//! Each process draws an id at its start and tells it in every beat. That two ids are heard of one node says little: after every restart
//! the old one and the new one were heard, and answers of the process that died may be handled after the first ones of its successor, any
//! number of them. So only the order in which things must have happened counts. Whoever answers a question lived at some moment between the
//! question and the answer; if a process has answered, then another one, to a question that was put after that, and then the first one again,
//! to a question that was put after that, both lived at once. No restart looks so, however late anything is handled.
//!
//! Of the two the one goes whose log is behind: a disk that was cloned brings an old log back as a voter, which could elect a master that lacks
//! what the other one acknowledged. Where neither is clearly behind the newer one goes, and not before the other one holds what it holds.
//! Each peer finds twins for itself, and a process ends only if more than half of the live peers tell the same pair ([`must_go`]).
//!
//! **Invariant:** processes that never lived at the same time are never taken for twins.

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::identity::NodeId;

/// What was found counts for so long after it was seen last.
pub const COUNTS_MS: Millis = 60_000;
/// Processes of one node that are remembered.
const LIVES_MAX: usize = 8;
/// Entries of one term that may be on their way to one of the two: who lacks no more is not behind.
const IN_FLIGHT: u64 = 64;
/// Who goes is not looked at anew within this; by then what was on its way has arrived, and peers that disagreed see the same.
const DECIDED_MS: Millis = 10_000;

/// The last entry of a log: its term and its index.
pub type Last = (u64, u64);
/// Not known.
const UNKNOWN: Last = (0, 0);

/// A process, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Drawn at its start.
    pub id: u64,
    /// Milliseconds since its start.
    pub up: Millis,
    /// The host it runs on.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// Where it says that others reach it.
    pub address: String,
    /// How far its log goes; zeros from programs that do not say, and as long as the log is not read.
    #[serde(default)]
    pub last: Last,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Process {
            host, pid, address, ..
        } = self;
        write!(
            f,
            "{} (pid {pid}, {})",
            terminal::brief(host),
            terminal::brief(address)
        )
    }
}

/// Two processes that run as one node. Between nodes they are called the older and the newer one, for programs that know only those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twins {
    /// As which.
    pub node: NodeId,
    /// The one that may go on.
    #[serde(rename = "older")]
    pub stays: Process,
    /// The one that has to go.
    #[serde(rename = "newer")]
    pub goes: Process,
    /// It has to because its log is behind, not because it is newer.
    #[serde(default)]
    pub behind: bool,
}

/// How two processes of one node look that lived at once, in one line.
impl std::fmt::Display for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Twins {
            node, stays, goes, ..
        } = self;
        let why = if self.behind { "behind" } else { "newer" };
        write!(
            f,
            "two processes run as node {node}: {stays} and, {why}, {goes}; a data directory was copied: stop one of them, every node needs \
             its own (qu init or qu enroll join)"
        )
    }
}

/// One process, as far as its answers tell.
#[derive(Debug)]
struct Life {
    process: Process,
    /// It had begun by then.
    begun: Millis,
    /// When its newest answer was asked for, and when it was here.
    asked: Millis,
    answered: Millis,
}

impl Life {
    /// It was born between these: it said how old it was at some moment between question and answer. Of the newest answer alone, for clocks
    /// of hosts go apart over time.
    fn born(&self) -> (i128, i128) {
        let up = i128::from(self.process.up);
        (i128::from(self.asked) - up, i128::from(self.answered) - up)
    }

    /// Whether it lived before the other one's newest answer was asked for, and still after it had come.
    fn spans(&self, other: &Life) -> bool {
        self.begun < other.asked && other.answered < self.asked
    }
}

/// The processes that have answered as one node.
#[derive(Debug)]
pub struct Lives {
    node: NodeId,
    known: Vec<Life>,
    found: Option<Found>,
}

/// Twins that were found.
#[derive(Debug)]
struct Found {
    seen: Millis,
    /// When it was decided who goes.
    decided: Millis,
    /// How far the logs went then: of the one that stays, and of the one that goes.
    held: (Last, Last),
    twins: Twins,
}

impl Found {
    fn is_of(&self, one: &Process, other: &Process) -> bool {
        let (stays, goes) = (self.twins.stays.id, self.twins.goes.id);
        (stays, goes) == (one.id, other.id) || (goes, stays) == (one.id, other.id)
    }

    /// How far the log of this one of the two went when it was decided.
    fn held(&self, process: &Process) -> Last {
        if process.id == self.twins.stays.id {
            self.held.0
        } else {
            self.held.1
        }
    }
}

impl Lives {
    /// None yet.
    pub fn new(node: NodeId) -> Lives {
        Lives {
            node,
            known: Vec::new(),
            found: None,
        }
    }

    /// What was asked at `asked` is answered at `answered`, of one monotonic clock, by this process. Yields twins that were not known yet.
    pub fn answered(&mut self, asked: Millis, answered: Millis, process: &Process) -> Option<&Twins> {
        self.known
            .retain(|life| answered.saturating_sub(life.answered) <= COUNTS_MS);
        let position = self.remember(asked, answered, process);
        let this = &self.known[position];
        let other = self.known.iter().find(|other| this.spans(other))?;
        let before = self
            .found
            .take()
            .filter(|found| found.is_of(&this.process, &other.process));
        let is_news = before.is_none();
        let found = match before {
            Some(mut found) if answered.saturating_sub(found.decided) < DECIDED_MS => {
                let this_stays = this.process.id == found.twins.stays.id;
                let (stays, goes) = if this_stays { (this, other) } else { (other, this) };
                found.twins.stays = stays.process.clone();
                found.twins.goes = goes.process.clone();
                found.seen = answered;
                found
            }
            before => {
                let twins = order(self.node, this, other, before.as_ref());
                Found {
                    seen: answered,
                    decided: answered,
                    held: (twins.stays.last, twins.goes.last),
                    twins,
                }
            }
        };
        let found = self.found.insert(found);
        is_news.then_some(&found.twins)
    }

    /// Yields where in the list the process stands.
    fn remember(&mut self, asked: Millis, answered: Millis, process: &Process) -> usize {
        let is_it = |life: &Life| life.process.id == process.id;
        if let Some(position) = self.known.iter().position(is_it) {
            let life = &mut self.known[position];
            life.begun = life.begun.min(answered);
            // An answer that was overtaken by a later one tells nothing new.
            if asked > life.asked {
                (life.asked, life.answered) = (asked, answered);
                life.process = process.clone();
            }
            return position;
        }
        if self.known.len() >= LIVES_MAX {
            self.known.remove(0);
        }
        self.known.push(Life {
            process: process.clone(),
            begun: answered,
            asked,
            answered,
        });
        self.known.len() - 1
    }

    /// The twins that live, as of late.
    pub fn twins(&self, now: Millis) -> Option<&Twins> {
        let found = self.found.as_ref()?;
        (now.saturating_sub(found.seen) <= COUNTS_MS).then_some(&found.twins)
    }
}

/// By how far their logs go, then by age.
fn order(node: NodeId, one: &Life, other: &Life, before: Option<&Found>) -> Twins {
    let one_is_behind = is_behind(&one.process, &other.process, before);
    let behind = one_is_behind != is_behind(&other.process, &one.process, before);
    let one_goes = if behind {
        one_is_behind
    } else {
        is_newer(one, other)
    };
    let (stays, goes) = if one_goes { (other, one) } else { (one, other) };
    Twins {
        node,
        stays: stays.process.clone(),
        goes: goes.process.clone(),
        behind,
    }
}

/// Whether a log lacks more of the other one than what may be on its way, or what the other one held when it was decided before.
fn is_behind(one: &Process, other: &Process, before: Option<&Found>) -> bool {
    if one.last == UNKNOWN || other.last == UNKNOWN {
        return false;
    }
    let ((term, index), (other_term, other_index)) = (one.last, other.last);
    term < other_term
        || (term == other_term && index.saturating_add(IN_FLIGHT) < other_index)
        || before.is_some_and(|found| one.last < found.held(other))
}

/// By age; as long as both may have begun at the same moment by id, as everybody does who cannot tell, so that not both go.
fn is_newer(one: &Life, other: &Life) -> bool {
    let ((one_from, one_to), (other_from, other_to)) = (one.born(), other.born());
    one_from > other_to || (other_from <= one_to && one.process.id > other.process.id)
}

/// What a process does that hears from its live peers, each of which tells the twins it knows: the pair of which it has to go, if there is
/// one. More than half of these peers must have found the same pair, each for itself: one that lies, or is mistaken, ends nobody. Two
/// verdicts cannot both have more than half, so nothing is left only where the two hear different peers. And they must have heard that the
/// other one holds all that this one holds, up to `last`: what was acknowledged with this one's help must not be lost with it.
pub fn must_go<'a>(own: u64, last: Last, peers: &[&'a [Twins]]) -> Option<&'a Twins> {
    let goes = |twins: &Twins| {
        let is_old_program = twins.stays.last == UNKNOWN && twins.goes.last == UNKNOWN;
        twins.goes.id == own && twins.stays.id != own && (is_old_program || twins.stays.last >= last)
    };
    let is_agreed = |found: &Twins| {
        let is_it = |twins: &Twins| twins.stays.id == found.stays.id && goes(twins);
        let agree = peers.iter().filter(|told| told.iter().any(is_it)).count();
        2 * agree > peers.len()
    };
    let found = peers.iter().flat_map(|told| told.iter());
    found.into_iter().find(|twins| goes(twins) && is_agreed(twins))
}

#[cfg(test)]
mod tests;
