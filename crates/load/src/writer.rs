//! One client that writes without a pause and goes to the next member when one does not answer: what an application notices when members
//! come and go.
//!
//! It keeps every attempt with its beginning and end, so that gaps can be told afterwards. A request that the member certainly did not
//! look at (no connection, or refused by HTTP/2) counts as moved, as client libraries send it to another member silently; everything
//! else that is not a success counts as failed. Nothing is in flight twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use chainfire::wire::etcdserverpb::PutRequest;

use crate::connection::{self, Connection};
use crate::data::{Chance, Keys};

/// After an attempt that came to nothing, so that a member that refuses is not asked a thousand times a second.
const PAUSE: Duration = Duration::from_millis(2);

/// Between two looks at what the writer did.
const POLL: Duration = Duration::from_millis(1);

/// Different keys that are written.
const KEY_SPACE: u64 = 1_000;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// The member did not look at it; the next one gets it.
    Moved,
    /// An error or no answer in time: it may have been carried out. With the reason.
    Failed(String),
}

/// A running writer. Dropping it without [`Writer::finish`] ends it too.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
}

impl Writer {
    /// Starts it. A request gets this long to be answered.
    pub(crate) fn start(addresses: Vec<SocketAddr>, patience: Duration) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("start a runtime")?
                    .block_on(write(&addresses, patience, &for_thread));
                Ok(())
            })
            .context("start the thread of the writer")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits for the first success that was begun at `since` or later.
    pub(crate) fn success_since(&self, since: Instant, at_most: Duration) -> Result<Attempt> {
        let mut seen = 0;
        loop {
            {
                let attempts = self
                    .shared
                    .attempts
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let found = attempts[seen..]
                    .iter()
                    .find(|attempt| attempt.begun >= since && attempt.outcome == Outcome::Written);
                if let Some(attempt) = found {
                    return Ok(attempt.clone());
                }
                seen = attempts.len();
            }
            if since.elapsed() > at_most {
                bail!("no write succeeded for {} s", at_most.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends it after the request in flight; all that it did.
    pub(crate) fn finish(mut self) -> Result<Vec<Attempt>> {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the writer panicked"))??;
        }
        let mut attempts = self
            .shared
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *attempts))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

async fn write(addresses: &[SocketAddr], patience: Duration, shared: &Shared) {
    let mut chance = Chance::new(0);
    let mut connection: Option<Connection> = None;
    let mut at = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        let request = PutRequest {
            key: Keys::Scattered.key(chance.below(KEY_SPACE)),
            value: chance.value(),
            ..PutRequest::default()
        };
        let begun = Instant::now();
        let outcome =
            match tokio::time::timeout(patience, put(addresses[at], &mut connection, &request)).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Failed(format!("no answer after {} ms", patience.as_millis())),
            };
        let ended = Instant::now();
        if outcome != Outcome::Written {
            connection = None;
            at = (at + 1) % addresses.len();
            tokio::time::sleep(PAUSE).await;
        }
        shared
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Attempt {
                begun,
                ended,
                outcome,
            });
    }
}

async fn put(address: SocketAddr, connection: &mut Option<Connection>, request: &PutRequest) -> Outcome {
    let open = match connection {
        Some(open) => open,
        None => match Connection::open(address).await {
            Ok(open) => connection.insert(open),
            Err(_) => return Outcome::Moved,
        },
    };
    match open.put(request).await {
        Ok(_) => Outcome::Written,
        Err(error) if connection::untouched(&error) => Outcome::Moved,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

/// The longest time between the ends of two successes that follow each other.
pub(crate) fn longest_gap(attempts: &[Attempt]) -> Duration {
    let ends: Vec<Instant> = attempts
        .iter()
        .filter(|attempt| attempt.outcome == Outcome::Written)
        .map(|attempt| attempt.ended)
        .collect();
    ends.windows(2)
        .map(|two| two[1] - two[0])
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_from_success_to_success() {
        let zero = Instant::now();
        let attempt = |from: u64, to: u64, outcome| Attempt {
            begun: zero + Duration::from_millis(from),
            ended: zero + Duration::from_millis(to),
            outcome,
        };
        let attempts = [
            attempt(0, 5, Outcome::Written),
            attempt(5, 105, Outcome::Failed("no answer".to_owned())),
            attempt(107, 108, Outcome::Moved),
            attempt(110, 115, Outcome::Written),
            attempt(115, 120, Outcome::Written),
        ];
        assert_eq!(longest_gap(&attempts), Duration::from_millis(110));
        assert_eq!(longest_gap(&attempts[..2]), Duration::ZERO);
    }
}
