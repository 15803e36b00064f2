//! The protocol without clock, network or randomness of its own: messages and time go in, messages and what is known come out.
//!
//! SWIM itself is crate `foca`, which this hides. What is added: greeting seeds and nodes that are down, by address and in intervals, so
//! that nodes find each other after any kind of separation; and since when a node has been as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use foca::{Config, Foca, NoCustomBroadcast, PeriodicParams, Runtime, Timer};
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use service::clock::Moment;

use crate::envelope::PAYLOAD_MAX;
use crate::identity::{Codec, Identity, Known};
use crate::node::{Node, Seen, State};
use crate::settings::Timing;

/// Members that are asked to try where a probe got no answer.
const HELPERS: NonZeroUsize = NonZeroUsize::new(3).expect("it is three");

/// How often a piece of news is passed on.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(10).expect("it is ten");

/// A node that is down is forgotten after this.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Nodes that are down and greeted in one round.
const DOWN_GREETED: usize = 16;

/// A node that had to climb this long ago begins with small steps again.
const CALM: Duration = Duration::from_mins(1);

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its receiver; 0 if only the address is known.
    pub to: u64,
    /// Where that is.
    pub address: String,
    /// What to put into the envelope.
    pub payload: Bytes,
}

/// See the module.
pub struct Machine {
    foca: Foca<Identity, Codec, StdRng, NoCustomBroadcast>,
    known: Arc<Mutex<Known>>,
    pending: Pending,
    timers: BTreeMap<(Moment, u64), Timer<Identity>>,
    numbers: u64,
    table: BTreeMap<u64, Seen>,
    changes: Vec<Seen>,
    has_changed: bool,
    seeds: Vec<String>,
    timing: Timing,
    greet_at: Moment,
    climbed_at: Moment,
    has_left: bool,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("own", &self.foca.identity())
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// What foca wants.
#[derive(Default)]
struct Pending {
    outgoing: Vec<(Identity, Bytes)>,
    timers: Vec<(Timer<Identity>, Duration)>,
    has_climbed: bool,
}

impl Runtime<Identity> for Pending {
    fn notify(&mut self, notification: foca::Notification<'_, Identity>) {
        if matches!(notification, foca::Notification::Rejoin(_)) {
            self.has_climbed = true;
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.outgoing.push((to, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after));
    }
}

impl Machine {
    /// A node that knows nobody yet. `seed` is drawn anew at each start; the wall clock becomes its generation.
    pub fn new(me: Node, timing: Timing, nodes_max: usize, seed: u64, now: Moment, unix_ms: u64) -> Machine {
        let own = Identity::new(me, unix_ms);
        let known = Arc::new(Mutex::new(Known {
            own: own.clone(),
            ids: BTreeSet::new(),
            nodes_max,
        }));
        let foca = Foca::new(
            own,
            config(&timing),
            StdRng::seed_from_u64(seed),
            Codec(known.clone()),
        );
        let mut machine = Machine {
            foca,
            known,
            pending: Pending::default(),
            timers: BTreeMap::new(),
            numbers: 0,
            table: BTreeMap::new(),
            changes: Vec::new(),
            has_changed: false,
            seeds: Vec::new(),
            timing,
            greet_at: now,
            climbed_at: now,
            has_left: false,
        };
        machine.settle(now, unix_ms);
        machine
    }

    /// Addresses to greet, now and from time to time.
    pub fn set_seeds(&mut self, seeds: Vec<String>, now: Moment) {
        self.seeds = seeds;
        self.greet_at = now;
    }

    /// Takes the payload of an envelope. False if it is no message, or one that makes no sense.
    pub fn receive(&mut self, payload: &[u8], now: Moment, unix_ms: u64) -> bool {
        if self.has_left {
            return true;
        }
        let taken = self.foca.handle_data(payload, &mut self.pending);
        self.settle(now, unix_ms);
        // A node that greets an address list may greet itself.
        matches!(taken, Ok(()) | Err(foca::Error::DataFromOurselves))
    }

    /// When something is to be done without a message.
    pub fn next_tick(&self) -> Moment {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        timer.map_or(self.greet_at, |at| at.min(self.greet_at))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment, unix_ms: u64) {
        if self.has_left {
            self.timers.clear();
            self.greet_at = now + REMEMBERED;
            return;
        }
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            // Only wrong use of its timers is an error, and then it goes on by itself.
            let _ = self.foca.handle_timer(timer, &mut self.pending);
            self.settle(now, unix_ms);
        }
        if now >= self.greet_at {
            self.greet(now);
            self.settle(now, unix_ms);
        }
    }

    /// The own description has changed.
    pub fn update(&mut self, me: Node, now: Moment, unix_ms: u64) {
        let old = self.foca.identity();
        if *old.node == me || self.has_left {
            return;
        }
        let next = Identity::new(me, (old.generation + 1).max(unix_ms));
        let _ = self.foca.change_identity(next, &mut self.pending);
        self.settle(now, unix_ms);
    }

    /// Says goodbye. Nothing is done or taken afterwards.
    pub fn leave(&mut self, now: Moment, unix_ms: u64) {
        if !self.has_left {
            let _ = self.foca.leave_cluster(&mut self.pending);
            self.settle(now, unix_ms);
            self.has_left = true;
        }
    }

    /// Messages to send since this was asked last.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        for (to, payload) in self.pending.outgoing.drain(..) {
            let mut address = to.node.gossip_address.clone();
            if address.is_empty() {
                // Named by its id alone.
                match self.table.get(&to.node.id) {
                    Some(seen) => address.clone_from(&seen.node.gossip_address),
                    None => continue,
                }
            }
            outgoing.push(Outgoing {
                to: to.node.id,
                address,
                payload,
            });
        }
        outgoing
    }

    /// Nodes that are otherwise than before since this was asked last, without this one.
    pub fn take_changes(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.changes)
    }

    /// Whether anything of [`Machine::nodes`] is otherwise than when this was asked last.
    pub fn take_has_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// All nodes that are known, this one too, by id.
    pub fn nodes(&self) -> Vec<Seen> {
        self.table.values().cloned().collect()
    }

    /// Greets whoever may not know us.
    fn greet(&mut self, now: Moment) {
        let is_alone = self.foca.num_members() == 0;
        let pause = if is_alone {
            self.timing.greet_alone_every
        } else {
            self.timing.greet_every
        };
        self.greet_at = now + pause;
        let own = &self.foca.identity().node.gossip_address;
        let down = self.table.values().filter(|seen| seen.state == State::Down);
        let down = down.map(|seen| &seen.node.gossip_address).take(DOWN_GREETED);
        let greeted: BTreeSet<String> = self
            .seeds
            .iter()
            .chain(down)
            .filter(|address| *address != own)
            .cloned()
            .collect();
        for address in greeted {
            let _ = self
                .foca
                .announce(Identity::somebody_at(&address), &mut self.pending);
        }
    }

    /// Takes over what foca has changed.
    fn settle(&mut self, now: Moment, unix_ms: u64) {
        for (timer, after) in self.pending.timers.drain(..) {
            self.timers.insert((now + after, self.numbers), timer);
            self.numbers += 1;
        }
        if std::mem::take(&mut self.pending.has_climbed) {
            self.climbed_at = now;
        } else if now.since(self.climbed_at) > CALM {
            self.foca.identity().climbed.store(0, Ordering::Relaxed);
        }
        let own = self.foca.identity().clone();
        let mut found = BTreeMap::from([(own.node.id, (own.node.clone(), State::Alive))]);
        for member in self.foca.iter_membership_state() {
            let state = match member.state() {
                foca::State::Alive => State::Alive,
                foca::State::Suspect => State::Suspect,
                foca::State::Down => State::Down,
            };
            // Named by its id alone, by somebody who knew it: nothing to show or to connect to.
            if member.id().node.gossip_address.is_empty() {
                continue;
            }
            found
                .entry(member.id().node.id)
                .or_insert_with(|| (member.id().node.clone(), state));
        }
        let before = self.table.len();
        self.table.retain(|id, _| found.contains_key(id));
        self.has_changed |= self.table.len() != before;
        for (id, (node, state)) in found {
            let old = self.table.get(&id);
            if old.is_some_and(|old| old.state == state && old.node == *node) {
                continue;
            }
            let since_unix_ms = match old {
                Some(old) if old.state == state => old.since_unix_ms,
                _ => unix_ms,
            };
            let seen = Seen {
                node: (*node).clone(),
                state,
                since_unix_ms,
            };
            if id != own.node.id && old.is_none_or(|old| old.state != state) {
                self.changes.push(seen.clone());
            }
            self.table.insert(id, seen);
            self.has_changed = true;
        }
        let mut known = self.known.lock();
        known.own = own;
        known.ids.clear();
        known.ids.extend(self.table.keys().copied());
    }
}

fn config(timing: &Timing) -> Config {
    let periodic = |frequency: Duration, number: usize| {
        NonZeroUsize::new(number).map(|num_members| PeriodicParams {
            frequency,
            num_members,
        })
    };
    Config {
        probe_period: timing.probe_every,
        probe_rtt: timing.probe_timeout,
        num_indirect_probes: HELPERS,
        max_transmissions: TRANSMISSIONS,
        suspect_to_down_after: timing.suspect_for,
        remove_down_after: Some(REMEMBERED),
        max_packet_size: NonZeroUsize::new(PAYLOAD_MAX).expect("it is not zero"),
        notify_down_members: true,
        periodic_announce: periodic(timing.greet_every, 1),
        // Done here by address, for a node that came back may have another id at an old place.
        periodic_announce_to_down_members: None,
        periodic_gossip: periodic(timing.gossip_every, 3),
    }
}
