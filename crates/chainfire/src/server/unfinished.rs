//! Requests that have begun and are not all there yet: bounded in number, bytes and time.
//!
//! A request costs memory from its first frame on, whether or not its end ever comes, so a client that begins many and ends
//! none could hold as much as it likes. Each connection counts what it waits for in an [`Unfinished`] of its own, which
//! counts it in that of the whole server too; what would go beyond either is refused, and the log says so once in a while.
//! Whoever waits gives up after [`TIME_MAX`].
//!
//! A request that comes in one piece, as nearly all do, is never counted. Neither is a stream between two messages: it may be
//! idle for as long as its client likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use service::SharedClock;
use service::logs::Throttle;

/// How long the whole of a request, or of one message of a stream, may take to come in.
pub(super) const TIME_MAX: Duration = Duration::from_mins(1);

/// What may be unfinished at a time.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    requests: usize,
    bytes: usize,
}

/// Of one connection: a client that has thousands of calls begun before it sends what they are about, or a hundred of the
/// largest puts on their way at once, is still served.
const OF_CONNECTION: Bounds = Bounds {
    requests: 4096,
    bytes: 128 << 20,
};

/// Of all connections together.
const OF_SERVER: Bounds = Bounds {
    requests: 32 << 10,
    bytes: 512 << 20,
};

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There are too many others.
    Requests,
    /// They hold too much.
    Bytes,
}

/// What one connection, or the whole server, waits for.
#[derive(Debug)]
pub(super) struct Unfinished {
    bounds: Bounds,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// That of the server, in that of a connection.
    all: Option<Arc<Unfinished>>,
    told: Throttle,
    clock: SharedClock,
}

impl Unfinished {
    pub(super) fn of_server(clock: SharedClock) -> Arc<Unfinished> {
        Unfinished::new(OF_SERVER, None, clock)
    }

    pub(super) fn of_connection(all: &Arc<Unfinished>) -> Arc<Unfinished> {
        Unfinished::new(OF_CONNECTION, Some(all.clone()), all.clock.clone())
    }

    fn new(bounds: Bounds, all: Option<Arc<Unfinished>>, clock: SharedClock) -> Arc<Unfinished> {
        Arc::new(Unfinished {
            bounds,
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            all,
            told: Throttle::new(Duration::from_secs(10)),
            clock,
        })
    }

    /// Begins to wait for the rest of a request of which `bytes` are there.
    pub(super) fn wait(self: &Arc<Unfinished>, bytes: usize) -> Result<Waiting, Full> {
        for level in self.levels() {
            level.requests.fetch_add(1, Ordering::Relaxed);
        }
        let mut waiting = Waiting {
            of: self.clone(),
            bytes: 0,
        };
        let over = |level: &Unfinished| level.requests.load(Ordering::Relaxed) > level.bounds.requests;
        if self.levels().any(over) {
            self.tell(Full::Requests);
            return Err(Full::Requests);
        }
        waiting.hold(bytes)?;
        Ok(waiting)
    }

    fn levels(&self) -> impl Iterator<Item = &Unfinished> {
        std::iter::once(self).chain(self.all.as_deref())
    }

    fn tell(&self, full: Full) {
        let server = self.all.as_deref().unwrap_or(self);
        if server.told.permit(server.clock.now()) {
            tracing::warn!(
                target: "chainfire_network",
                requests = server.requests.load(Ordering::Relaxed),
                bytes = server.bytes.load(Ordering::Relaxed),
                more = server.told.take_held_back(),
                too_many = match full {
                    Full::Requests => "requests",
                    Full::Bytes => "bytes",
                },
                "Refused a request whose end does not come"
            );
        }
    }
}

/// A request that is waited for, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    of: Arc<Unfinished>,
    bytes: usize,
}

impl Waiting {
    /// `bytes` of it are there now.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        for level in self.of.levels() {
            // Wraps around where fewer are held than before, which is what is meant.
            level
                .bytes
                .fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        }
        let more = bytes > self.bytes;
        self.bytes = bytes;
        let over = |level: &Unfinished| level.bytes.load(Ordering::Relaxed) > level.bounds.bytes;
        if more && self.of.levels().any(over) {
            self.of.tell(Full::Bytes);
            return Err(Full::Bytes);
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for level in self.of.levels() {
            level.requests.fetch_sub(1, Ordering::Relaxed);
            level.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::clock::ManualClock;

    fn bounds(requests: usize, bytes: usize) -> Bounds {
        Bounds { requests, bytes }
    }

    #[test]
    fn what_is_over_a_bound_is_refused_and_what_has_ended_is_forgotten() {
        let clock: SharedClock = Arc::new(ManualClock::default());
        let server = Unfinished::new(bounds(3, 100), None, clock.clone());
        let connection = || Unfinished::new(bounds(2, 60), Some(server.clone()), clock.clone());
        let (one, other) = (connection(), connection());

        let mut first = one.wait(10).unwrap();
        let second = one.wait(0).unwrap();
        assert_eq!(one.wait(0).err(), Some(Full::Requests));
        assert_eq!(first.hold(61), Err(Full::Bytes));
        first.hold(60).unwrap();

        // Another connection has room of its own, within that of the server.
        let mut third = other.wait(40).unwrap();
        assert_eq!(third.hold(41), Err(Full::Bytes));
        third.hold(5).unwrap();
        assert_eq!(other.wait(0).err(), Some(Full::Requests));
        drop(second);
        other.wait(35).unwrap();

        drop((first, third));
        for level in [&one, &other, &server] {
            assert_eq!(level.requests.load(Ordering::Relaxed), 0);
            assert_eq!(level.bytes.load(Ordering::Relaxed), 0);
        }
    }
}
