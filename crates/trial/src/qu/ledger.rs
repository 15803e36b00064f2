//! What is remembered of a run, by whoever saw it: messages that came, outages that were made, faults.
//!
//! Nothing in here judges. All times are of the wall clock, which the nodes, the sinks and the targets share: they run on one machine.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::oneshot;

/// Milliseconds since 1970.
pub(crate) type Millis = u64;

/// The wall clock.
pub(crate) fn now() -> Millis {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as Millis
}

/// What a sink answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// That it has the message.
    Taken,
    /// Nothing, or too late, although it has the message.
    Unknown,
    /// That it does not take it.
    Refused,
}

/// A message that came to a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The alert, by id.
    pub(crate) alert: &'static str,
    /// The delivery, as the message itself says it.
    pub(crate) id: String,
    /// The key by which a receiver tells a second copy.
    pub(crate) key: String,
    /// `DOWN`.
    pub(crate) verb: String,
    /// When the check changed, if the channel tells.
    pub(crate) when: Option<Millis>,
    /// Whether it says that it may have come before; nothing where the key says it all.
    pub(crate) marked: Option<bool>,
    /// The node whose address it came from.
    pub(crate) sender: usize,
    /// The node that it says it is from, if the channel tells.
    pub(crate) master: Option<String>,
    /// When its connection was opened: later its sender cannot have decided to send it.
    pub(crate) opened: Millis,
    /// When all of it was there.
    pub(crate) at: Millis,
    /// What came back.
    pub(crate) answer: Answer,
}

/// A time in which a target was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    /// Its check, by id.
    pub(crate) check: String,
    /// From then on.
    pub(crate) from: Millis,
    /// Until then.
    pub(crate) until: Millis,
}

/// Something that was done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What, in words.
    pub(crate) text: String,
    /// Whether nodes were only asked to stop, which must cost nothing.
    pub(crate) clean: bool,
    /// Nodes that could not reach a majority, and since when.
    pub(crate) alone: Vec<(usize, Millis)>,
    /// When the master was killed, if it was.
    pub(crate) master_killed: Option<Millis>,
    /// Its begin.
    pub(crate) from: Millis,
    /// When its end began.
    pub(crate) healed: Millis,
    /// When all nodes agreed again.
    pub(crate) over: Millis,
}

/// Waits for the next message.
#[derive(Debug)]
struct Ambush {
    came: oneshot::Sender<usize>,
    go_on: oneshot::Receiver<()>,
}

/// The ends of an ambush that its author holds.
#[derive(Debug)]
pub(crate) struct Trap {
    /// Who sent the message that came.
    pub(crate) came: oneshot::Receiver<usize>,
    /// Lets the sink answer.
    pub(crate) go_on: oneshot::Sender<()>,
}

/// What sinks and targets write down.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    arrivals: Mutex<Vec<Arrival>>,
    outages: Mutex<Vec<Outage>>,
    ambush: Mutex<Option<Ambush>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A message came.
    pub(crate) fn came(&self, arrival: Arrival) {
        locked(&self.arrivals).push(arrival);
    }

    /// A target was broken.
    pub(crate) fn broken(&self, outage: Outage) {
        locked(&self.outages).push(outage);
    }

    /// All messages so far, in the order in which they came.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        locked(&self.arrivals).clone()
    }

    /// All outages that are over.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        locked(&self.outages).clone()
    }

    /// From now on the next message that a sink takes springs a trap. An earlier trap is gone.
    pub(crate) fn lay_ambush(&self) -> Trap {
        let (came, is_there) = oneshot::channel();
        let (go_on, waits) = oneshot::channel();
        *locked(&self.ambush) = Some(Ambush { came, go_on: waits });
        Trap {
            came: is_there,
            go_on,
        }
    }

    /// A sink has a message of this node and has not answered yet. If somebody waited for that, the sink is to answer when this ends.
    pub(crate) fn spring(&self, sender: usize) -> Option<oneshot::Receiver<()>> {
        let Ambush { came, go_on } = locked(&self.ambush).take()?;
        // Who laid it may have given up.
        came.send(sender).ok().map(|()| go_on)
    }
}
