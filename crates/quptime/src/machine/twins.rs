//! Two processes that run as one node, because somebody copied a data directory.
//!
//! Each process draws an id at its start and tells it in every beat. That two ids are heard of one node says little: after every restart
//! the old one and the new one were heard, and answers of the process that died may be handled after the first ones of its successor, any
//! number of them. So only the order in which things must have happened counts. Whoever answers a question lived at some moment between the
//! question and the answer; if a process has answered, then another one, to a question that was put after that, and then the first one again,
//! to a question that was put after that, both lived at once. No restart looks so, however late anything is handled.
//!
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

/// Two processes that run as one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twins {
    /// As which.
    pub node: NodeId,
    /// The one that runs longer.
    pub older: Process,
    /// The one that came later, and has to go.
    pub newer: Process,
}

/// How two processes of one node look that lived at once, in one line.
impl std::fmt::Display for Twins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Twins { node, older, newer } = self;
        write!(
            f,
            "two processes run as node {node}: {older} and, newer, {newer}; a data directory was copied: stop one of them, every node needs \
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
    found: Option<(Millis, Twins)>,
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
        let twins = order(self.node, this, other);
        let pair = |twins: &Twins| {
            let (one, other) = (twins.older.id, twins.newer.id);
            (one.min(other), one.max(other))
        };
        let is_news = self
            .found
            .as_ref()
            .is_none_or(|(_, known)| pair(known) != pair(&twins));
        let (_, found) = self.found.insert((answered, twins));
        is_news.then_some(found)
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
        let (seen, twins) = self.found.as_ref()?;
        (now.saturating_sub(*seen) <= COUNTS_MS).then_some(twins)
    }
}

/// By age; as long as both may have begun at the same moment by id, as everybody does who cannot tell, so that not both go.
fn order(node: NodeId, one: &Life, other: &Life) -> Twins {
    let ((one_from, one_to), (other_from, other_to)) = (one.born(), other.born());
    let one_is_newer = one_from > other_to || (other_from <= one_to && one.process.id > other.process.id);
    let (older, newer) = if one_is_newer { (other, one) } else { (one, other) };
    Twins {
        node,
        older: older.process.clone(),
        newer: newer.process.clone(),
    }
}

/// What a process does that hears from its live peers, each of which tells the twins it knows: the pair of which it has to go, if there is
/// one. More than half of these peers must have found the same pair, each for itself: one that lies, or is mistaken, ends nobody. Two
/// verdicts cannot both have more than half, so nothing is left only where the two hear different peers.
pub fn must_go<'a>(own: u64, peers: &[&'a [Twins]]) -> Option<&'a Twins> {
    let goes_for = |twins: &Twins, stays: u64| twins.newer.id == own && twins.older.id == stays;
    let is_agreed = |found: &Twins| {
        let agree = |told: &&&[Twins]| told.iter().any(|twins| goes_for(twins, found.older.id));
        2 * peers.iter().filter(agree).count() > peers.len()
    };
    peers
        .iter()
        .flat_map(|told| told.iter())
        .find(|twins| twins.newer.id == own && twins.older.id != own && is_agreed(twins))
}

#[cfg(test)]
mod tests;
