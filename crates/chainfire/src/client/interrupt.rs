//! The wish to end: SIGINT (Ctrl-C), SIGTERM or SIGHUP, turned into a future so that a command can release what it holds.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Failure, Result};

/// Which wish it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGINT. From a terminal it went to the whole foreground group, a child included.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
}

/// Listens from its creation on: these signals no longer end the program by themselves.
#[derive(Debug)]
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self> {
        let open =
            |kind| signal(kind).map_err(|error| Failure::refused(format!("listen for signals: {error}")));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Nothing is lost when the future is dropped.
    pub(super) async fn wait(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.hangup.recv() => Wish::Terminate,
        }
    }
}
