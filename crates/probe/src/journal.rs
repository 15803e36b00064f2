//! What a running probe has been through, so that it can be told also when the probe is cut off.
//!
//! The probe's future is dropped at its timeout; the journal lives outside of it.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::clock::Stopwatch;

use crate::outcome::Phases;
use crate::{shortage, wording};

/// A part of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Connect,
    Tls,
    FirstByte,
    Transfer,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first byte",
            Self::Transfer => "transfer",
        })
    }
}

/// Why a probe ends without the target being up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The target is down, and how.
    Down(String),
    /// This node cannot look.
    NoReport(String),
}

impl Failure {
    /// The target is down.
    pub(crate) fn down(text: impl Into<String>) -> Self {
        Self::Down(text.into())
    }

    /// The target is down, and a phase shows it: `connect: connection refused`.
    pub(crate) fn in_phase(phase: Phase, text: impl fmt::Display) -> Self {
        Self::Down(format!("{phase}: {text}"))
    }

    /// The same, unless it was this machine that lacked something.
    pub(crate) fn of_system(phase: Phase, error: &io::Error) -> Self {
        Self::in_phase(phase, wording::io(error)).unless(shortage::is_ours(error))
    }

    /// If `ours`, this node lacked something and has not looked.
    pub(crate) fn unless(self, ours: bool) -> Self {
        match self {
            Self::Down(text) if ours => Self::NoReport(format!("cannot look from here: {text}")),
            other => other,
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    phases: Phases,
    current: Option<(Phase, Stopwatch)>,
    certificate_expiry: Option<i64>,
}

/// The journal of one probe.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Mutex<Entries>,
}

impl Journal {
    /// Ends the current phase, if any, and begins another one.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut entries = self.lock();
        entries.leave();
        entries.current = Some((phase, Stopwatch::start()));
    }

    /// Ends the current phase.
    pub(crate) fn leave(&self) {
        self.lock().leave();
    }

    /// Adds a time that was measured elsewhere.
    pub(crate) fn add(&self, phase: Phase, time: Duration) {
        self.lock().add(phase, time);
    }

    /// Notes when the server's certificate ends.
    pub(crate) fn saw_certificate(&self, not_after: i64) {
        self.lock().certificate_expiry = Some(not_after);
    }

    /// The phase that the probe is in.
    pub(crate) fn current(&self) -> Option<Phase> {
        self.lock().current.map(|(phase, _)| phase)
    }

    /// Closes the journal: phases and certificate expiry.
    pub(crate) fn close(&self) -> (Phases, Option<i64>) {
        let mut entries = self.lock();
        entries.leave();
        (entries.phases, entries.certificate_expiry)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn leave(&mut self) {
        if let Some((phase, watch)) = self.current.take() {
            self.add(phase, watch.elapsed());
        }
    }

    fn add(&mut self, phase: Phase, time: Duration) {
        let slot = match phase {
            Phase::Resolve => &mut self.phases.resolve,
            Phase::Connect => &mut self.phases.connect,
            Phase::Tls => &mut self.phases.tls,
            Phase::FirstByte => &mut self.phases.first_byte,
            Phase::Transfer => &mut self.phases.transfer,
        };
        *slot = Some(slot.unwrap_or_default() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_phases_add_up_and_others_stay_empty() {
        let journal = Journal::default();
        journal.add(Phase::Connect, Duration::from_millis(2));
        journal.add(Phase::Connect, Duration::from_millis(3));
        journal.enter(Phase::Transfer);
        assert_eq!(journal.current(), Some(Phase::Transfer));
        let (phases, expiry) = journal.close();
        assert_eq!(phases.connect, Some(Duration::from_millis(5)));
        assert!(phases.transfer.is_some());
        assert_eq!((phases.resolve, phases.tls, expiry), (None, None, None));
        assert_eq!(journal.current(), None);
    }
}
