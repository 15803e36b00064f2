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
    int: Signal,
    term: Signal,
    hup: Signal,
}

impl Interrupt {
    pub(super) fn listen() -> Result<Self> {
        let open =
            |kind| signal(kind).map_err(|error| Failure::refused(format!("listen for signals: {error}")));
        Ok(Self {
            int: open(SignalKind::interrupt())?,
            term: open(SignalKind::terminate())?,
            hup: open(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Nothing is lost when the future is dropped.
    pub(super) async fn wait(&mut self) -> Wish {
        tokio::select! {
            _ = self.int.recv() => Wish::Interrupt,
            _ = self.term.recv() => Wish::Terminate,
            _ = self.hup.recv() => Wish::Terminate,
        }
    }
}
