//! What a leader knows of one member, and what it sends next.
//!
//! A member is *probed* (one message at a time, until the place where the logs part is found), *replicated to* (many messages on their
//! way, bounded in bytes) or waits for a *snapshot*. Two numbers are kept apart: `matched` says how far the logs agree and steers
//! what is sent; `counted` says how far answers that count have acknowledged, and is all that a commit looks at.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::log::{Log, Slice};
use crate::settings::Settings;
use crate::types::{Incarnation, Index, Position};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flow {
    Probe {
        sent: bool,
    },
    Replicate,
    /// The user was asked for a snapshot; `index` once it is on its way.
    Snapshot {
        index: Option<Index>,
    },
}

/// Heartbeats that a member may answer after a snapshot was sent without a word about that. It has it no longer then: it was started anew
/// before it had installed it, or the message was lost.
const HEARTBEATS_WITHOUT_SNAPSHOT_MAX: u32 = 10;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Peer {
    /// Newest life heard of.
    pub(crate) incarnation: Incarnation,
    /// The flag on its newest answer.
    pub(crate) recovering: bool,
    pub(crate) matched: Index,
    pub(crate) counted: Index,
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    /// Last index and bytes of each message on its way.
    inflight: VecDeque<(Index, usize)>,
    inflight_bytes: usize,
    /// Heartbeats that were followed by an answer since a snapshot was sent.
    heartbeats: u32,
    /// It answered since the last heartbeat.
    heard: bool,
    /// Entries were asked of the user.
    pub(crate) fetching: bool,
    /// Highest commit index sent.
    commit_told: Index,
    /// An empty append is due, to get an acknowledgement that counts or to find out what was lost.
    pub(crate) refresh: bool,
    /// Answered since the last look, unflagged or in a way that counts. (A learner does so too: it may be promoted before the next look.)
    pub(crate) active: bool,
    /// Newest round answered in a way that counts.
    pub(crate) round: u64,
    /// Removed by the entry at this index; kept until it knows.
    pub(crate) leaving: Option<Index>,
    /// Looks of the leader since it began to leave.
    pub(crate) leaving_looks: u32,
}

/// What to do for a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Nothing,
    Append { previous: Position, entries: Vec<Entry> },
    Fetch { from: Index, until: Index },
    Snapshot,
}

impl Peer {
    pub(crate) fn new(incarnation: Incarnation, next: Index) -> Peer {
        Peer {
            incarnation,
            recovering: false,
            matched: 0,
            counted: 0,
            next,
            flow: Flow::Probe { sent: false },
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            heartbeats: 0,
            heard: false,
            fetching: false,
            commit_told: 0,
            refresh: false,
            active: false,
            round: 0,
            leaving: None,
            leaving_looks: 0,
        }
    }

    pub(crate) fn plan(&mut self, log: &Log, commit: Index, settings: &Settings) -> Plan {
        let waits = matches!(self.flow, Flow::Probe { sent: true } | Flow::Snapshot { .. });
        if waits || self.fetching || self.incarnation == Incarnation::UNKNOWN {
            return Plan::Nothing;
        }
        let Some(previous) = log.position(self.next - 1) else {
            // A snapshot would have all that came since a member left.
            if self.leaving.is_some() {
                return Plan::Nothing;
            }
            self.flow = Flow::Snapshot { index: None };
            return Plan::Snapshot;
        };
        let window = self.inflight_bytes < settings.inflight_bytes_max;
        // Who leaves learns that, and nothing of what comes after it.
        let last = self.leaving.map_or(log.last(), |leaving| leaving.min(log.last()));
        let entries = if self.next <= last && (window || matches!(self.flow, Flow::Probe { .. })) {
            match log.slice(self.next, last, settings.message_bytes_max) {
                Slice::Cached(entries) => entries,
                Slice::Evicted { until } => {
                    self.fetching = true;
                    return Plan::Fetch {
                        from: self.next,
                        until,
                    };
                }
            }
        } else {
            Vec::new()
        };
        let probe = matches!(self.flow, Flow::Probe { .. });
        if entries.is_empty() && !probe && !self.refresh && self.commit_told >= commit {
            return Plan::Nothing;
        }
        self.sent(&entries, commit);
        Plan::Append { previous, entries }
    }

    /// The next message, with entries that the user fetched.
    pub(crate) fn plan_fetched(&mut self, log: &Log, commit: Index, entries: Vec<Entry>) -> Plan {
        self.fetching = false;
        let fits = entries.first().is_some_and(|first| first.index == self.next)
            && entries.iter().all(|entry| log.holds(entry.position()))
            && !matches!(self.flow, Flow::Probe { sent: true } | Flow::Snapshot { .. });
        match log.position(self.next - 1) {
            Some(previous) if fits => {
                self.sent(&entries, commit);
                Plan::Append { previous, entries }
            }
            _ => Plan::Nothing,
        }
    }

    fn sent(&mut self, entries: &[Entry], commit: Index) {
        self.refresh = false;
        self.commit_told = commit;
        match &mut self.flow {
            Flow::Probe { sent } => *sent = true,
            Flow::Replicate => {
                if let Some(last) = entries.last() {
                    let bytes = entries.iter().map(Entry::size).sum();
                    self.next = last.index + 1;
                    self.inflight.push_back((last.index, bytes));
                    self.inflight_bytes += bytes;
                }
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// The logs agree up to `index`. `counts` if the answer may be counted.
    pub(crate) fn acknowledge(&mut self, index: Index, counts: bool, base: Index) {
        if counts {
            self.counted = self.counted.max(index);
        }
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched + 1);
        while let Some((_, bytes)) = self.inflight.front().filter(|(last, _)| *last <= index) {
            self.inflight_bytes -= bytes;
            self.inflight.pop_front();
        }
        match self.flow {
            Flow::Probe { .. } => self.replicate(),
            Flow::Snapshot { index } if self.matched >= index.unwrap_or(base).min(base) => self.replicate(),
            Flow::Snapshot { .. } | Flow::Replicate => {}
        }
    }

    fn replicate(&mut self) {
        self.flow = Flow::Replicate;
        self.next = self.matched + 1;
        self.clear_inflight();
    }

    /// The member does not hold the position before the message, or cannot compare it any more. `shared` is the furthest one it
    /// could share; `sure` if it is committed there, and so certainly shared. True if it has lost what it acknowledged.
    pub(crate) fn refuse(&mut self, at: Index, shared: Index, sure: bool) -> bool {
        match self.flow {
            // An answer to something sent before what is already acknowledged, or the member has lost that: asking again tells.
            Flow::Replicate if at <= self.matched => {
                if shared < self.matched {
                    self.probe();
                    self.next = self.matched + 1;
                }
            }
            Flow::Probe { .. } if at != self.next - 1 => {}
            // It holds less than it acknowledged in this very life. That has been counted and cannot be taken back; but it is sent again.
            Flow::Probe { .. } if at <= self.matched && shared < self.matched => {
                self.matched = shared;
                self.probe();
                self.next = shared + 1;
                return true;
            }
            Flow::Replicate => {
                self.probe();
                self.next = self.matched + 1;
            }
            Flow::Probe { .. } if sure => {
                self.probe();
                self.next = shared.max(self.matched) + 1;
            }
            Flow::Probe { .. } => {
                self.probe();
                self.next = (shared + 1).min(at.max(1)).max(self.matched + 1);
            }
            Flow::Snapshot { index: Some(index) } if at == index => {
                self.probe();
                self.next = shared.max(self.matched) + 1;
            }
            Flow::Snapshot { .. } => {}
        }
        false
    }

    /// The content of a snapshot as of `index` is there, and the message about it leaves.
    pub(crate) fn snapshot_sent(&mut self, index: Index) {
        self.flow = Flow::Snapshot { index: Some(index) };
        self.heartbeats = 0;
    }

    /// Another heartbeat is due.
    pub(crate) fn heartbeat(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        if heard && matches!(self.flow, Flow::Snapshot { index: Some(_) }) {
            self.heartbeats += 1;
            if self.heartbeats > HEARTBEATS_WITHOUT_SNAPSHOT_MAX {
                self.probe();
            }
        }
    }

    pub(crate) fn probe(&mut self) {
        self.flow = Flow::Probe { sent: false };
        self.fetching = false;
        self.clear_inflight();
    }

    /// Nothing is sent unless somebody asks for it: see `machine::exploration`.
    #[cfg(test)]
    pub(crate) fn fall_silent(&mut self) {
        *self = Peer {
            recovering: self.recovering,
            matched: self.matched,
            counted: self.counted,
            flow: Flow::Probe { sent: true },
            leaving: self.leaving,
            ..Peer::new(self.incarnation, self.matched + 1)
        };
    }

    fn clear_inflight(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    /// The member answers, so what it did not acknowledge may be lost.
    pub(crate) fn answered_heartbeat(&mut self, counts: bool, last: Index) {
        if let Flow::Probe { sent } = &mut self.flow {
            *sent = false;
        }
        self.heard = true;
        self.refresh |= self.matched < last || (counts && self.counted < self.matched);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::Kind;
    use crate::log::Snapshot;
    use crate::types::{GroupId, NodeId, Term};

    fn log(entries: u64) -> Log {
        let mut log = Log::new(Snapshot::default());
        for index in 1..=entries {
            let entry = Entry {
                index,
                term: Term(1),
                kind: Kind::Command,
                payload: Bytes::from_static(&[0; 75]),
            };
            log.append(entry).unwrap();
        }
        log
    }

    fn appended(plan: &Plan) -> (Index, usize) {
        match plan {
            Plan::Append { previous, entries } => (previous.index, entries.len()),
            _ => panic!("{plan:?}"),
        }
    }

    #[test]
    fn bytes_on_their_way_are_bounded() {
        let settings = Settings {
            inflight_bytes_max: 300,
            message_bytes_max: 200,
            ..Settings::new(GroupId(1), NodeId(1), 0)
        };
        let log = log(20);
        let mut peer = Peer::new(Incarnation(1), 1);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (0, 2));
        assert_eq!(peer.plan(&log, 0, &settings), Plan::Nothing, "a probe is alone");
        peer.acknowledge(2, true, 0);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (2, 2));
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (4, 2));
        assert_eq!(peer.plan(&log, 0, &settings), Plan::Nothing, "the window is full");
        peer.acknowledge(4, true, 0);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (6, 2));
    }

    #[test]
    fn who_leaves_gets_nothing_beyond_its_removal() {
        let settings = Settings::new(GroupId(1), NodeId(1), 0);
        let mut log = log(20);
        let mut peer = Peer::new(Incarnation(1), 5);
        peer.leaving = Some(8);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (4, 4));
        peer.acknowledge(8, true, 0);
        assert_eq!(
            appended(&peer.plan(&log, 20, &settings)),
            (8, 0),
            "it learns that its removal is committed"
        );
        assert_eq!(peer.plan(&log, 20, &settings), Plan::Nothing);
        log.compact(15);
        let mut behind = Peer::new(Incarnation(1), 5);
        behind.leaving = Some(8);
        assert_eq!(behind.plan(&log, 20, &settings), Plan::Nothing);
    }

    #[test]
    fn a_refusal_leads_back_to_what_is_shared() {
        let settings = Settings::new(GroupId(1), NodeId(1), 0);
        let log = log(20);
        let mut peer = Peer::new(Incarnation(1), 21);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (20, 0));
        peer.refuse(7, 3, false);
        assert_eq!(
            peer.plan(&log, 0, &settings),
            Plan::Nothing,
            "an old refusal changes nothing"
        );
        peer.refuse(20, 3, false);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (3, 17));
    }

    #[test]
    fn a_member_that_lost_what_it_acknowledged_is_sent_it_again() {
        let settings = Settings::new(GroupId(1), NodeId(1), 0);
        let log = log(20);
        let mut peer = Peer::new(Incarnation(1), 1);
        peer.acknowledge(18, true, 0);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (18, 2));
        assert!(
            !peer.refuse(20, 7, false),
            "asking again tells whether it is an old answer"
        );
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (18, 2));
        assert!(peer.refuse(18, 7, false));
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (7, 13));
        assert_eq!((peer.matched, peer.counted), (7, 18), "what was counted stays so");
        peer.acknowledge(20, true, 0);
        assert_eq!(peer.matched, 20);
    }

    #[test]
    fn a_member_that_forgot_what_it_committed_is_met_behind_it() {
        let settings = Settings::new(GroupId(1), NodeId(1), 0);
        let log = log(20);
        let mut peer = Peer::new(Incarnation(1), 6);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)).0, 5);
        peer.refuse(5, 12, true);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (12, 8));
    }

    #[test]
    fn only_counting_answers_are_counted() {
        let mut peer = Peer::new(Incarnation(1), 1);
        peer.acknowledge(9, false, 0);
        assert_eq!((peer.matched, peer.counted), (9, 0));
        peer.answered_heartbeat(true, 9);
        assert!(peer.refresh, "an acknowledgement that counts is asked for");
        peer.acknowledge(9, true, 0);
        assert_eq!(peer.counted, 9);
    }

    #[test]
    fn a_snapshot_of_which_nothing_is_heard_is_sent_anew() {
        let settings = Settings::new(GroupId(1), NodeId(1), 0);
        let mut log = log(20);
        log.compact(15);
        let mut peer = Peer::new(Incarnation(1), 3);
        assert_eq!(peer.plan(&log, 0, &settings), Plan::Snapshot);
        let heartbeat = |peer: &mut Peer| {
            peer.answered_heartbeat(true, 20);
            peer.heartbeat();
        };
        for _ in 0..100 {
            heartbeat(&mut peer);
            assert_eq!(peer.plan(&log, 0, &settings), Plan::Nothing, "it is being sent");
        }
        peer.snapshot_sent(18);
        for _ in 0..HEARTBEATS_WITHOUT_SNAPSHOT_MAX {
            heartbeat(&mut peer);
            // Nothing counts that was said before it, nor silence.
            peer.heartbeat();
            assert_eq!(
                peer.plan(&log, 0, &settings),
                Plan::Nothing,
                "it may be installed right now"
            );
        }
        heartbeat(&mut peer);
        assert_eq!(peer.plan(&log, 0, &settings), Plan::Snapshot);
        peer.snapshot_sent(19);
        peer.acknowledge(19, true, 15);
        assert_eq!(appended(&peer.plan(&log, 0, &settings)), (19, 1));
    }
}
