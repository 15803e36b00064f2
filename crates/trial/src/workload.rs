//! What clients do: puts, reads and compare-and-swaps of a few keys, one operation at a time each, through any member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::Rng;
use sim::history::{Operation, Record};

use crate::client::{Answer, Client, Failure};
use crate::keys::{Key, Keys};
use crate::ledger::{Ledger, Write};

/// How long an answer is waited for, in milliseconds: short ones give many unknown outcomes, long ones see late answers.
const PATIENCE_MS: &[u64] = &[300, 1_000, 4_000];

/// Between two operations of a client, in milliseconds, at most.
const PAUSE_MS_MAX: u64 = 12;

/// After a member that was not there.
const PAUSE_NOT_SENT: Duration = Duration::from_millis(30);

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) keys: Keys,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) counts: Counts,
    pub(crate) serializable_reads: bool,
    /// How many clients there are.
    pub(crate) clients: u32,
    pub(crate) ends: AtomicBool,
    pub(crate) zero: Instant,
}

/// How many operations came to what.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) swaps: AtomicU64,
    pub(crate) swaps_refused: AtomicU64,
    /// Writes that may have been carried out.
    pub(crate) unknown: AtomicU64,
    /// Reads without an answer.
    pub(crate) unread: AtomicU64,
    pub(crate) not_sent: AtomicU64,
}

impl Counts {
    /// Writes that were acknowledged.
    pub(crate) fn written(&self) -> u64 {
        self.puts.load(Ordering::Relaxed) + self.swaps.load(Ordering::Relaxed)
    }
}

/// How far an operation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Answered,
    Unanswered,
    /// Nobody was there.
    No,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Workload {
    /// One client, until the end.
    pub(crate) async fn client(self: Arc<Self>, mut clients: Vec<Client>, mut rng: Rng) {
        while !self.ends.load(Ordering::Relaxed) {
            let member = rng.below(clients.len() as u64) as usize;
            let key = self.keys.begin(rng.next());
            let pause = match self.operation(&clients[member], member, &key, &mut rng).await {
                Sent::Answered => Duration::from_micros(rng.below(PAUSE_MS_MAX * 1000)),
                Sent::No => PAUSE_NOT_SENT,
                Sent::Unanswered => {
                    if let Ok(renewed) = clients[member].renewed() {
                        clients[member] = renewed;
                    }
                    Duration::ZERO
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }

    /// One operation, from the choice to the record.
    async fn operation(&self, client: &Client, member: usize, key: &Arc<Key>, rng: &mut Rng) -> Sent {
        let patience = Duration::from_millis(*rng.pick(PATIENCE_MS));
        let chosen = match rng.below(10) {
            0..4 => Operation::Read(None),
            4..8 => Operation::Write(self.ledger.new_value()),
            _ => Operation::Swap {
                // Now and then a value that is hardly there.
                old: if rng.chance(100) { None } else { key.seen() },
                new: self.ledger.new_value(),
                swapped: None,
            },
        };
        let write = |value| Write {
            key: key.number,
            value,
        };
        let before = self.ledger.answered();
        let called = self.now();
        let outcome = match chosen {
            Operation::Read(_) => client.get(key.number, self.serializable_reads, patience).await,
            Operation::Write(value) => client.put(write(value), patience).await,
            Operation::Swap { old, new, .. } => client.swap(old, write(new), patience).await,
        };
        let returned = self.now();
        match outcome {
            Ok(answer) => {
                let who = || {
                    format!(
                        "{chosen:?} of key {} through member {} from {called} to {returned} ns",
                        key.number,
                        member + 1
                    )
                };
                let operation = self.answered(chosen, answer, write, &who);
                self.ledger.answer(before, answer.revision, answer.stored, &who);
                let record = Record {
                    called,
                    returned: Some(returned),
                    operation,
                };
                self.keys.end(key, Some(record));
                Sent::Answered
            }
            Err(Failure::NotSent) => {
                count(&self.counts.not_sent);
                self.keys.end(key, None);
                Sent::No
            }
            Err(Failure::Unknown(_)) => {
                let is_read = matches!(chosen, Operation::Read(_));
                count(if is_read {
                    &self.counts.unread
                } else {
                    &self.counts.unknown
                });
                let record = Record {
                    called,
                    returned: None,
                    operation: chosen,
                };
                self.keys.end(key, (!is_read).then_some(record));
                Sent::Unanswered
            }
        }
    }

    /// Tells the ledger what an answer says, and gives the operation with its outcome.
    fn answered(
        &self,
        chosen: Operation,
        answer: Answer,
        write: impl Fn(u64) -> Write,
        who: &dyn Fn() -> String,
    ) -> Operation {
        if let Some((value, revision)) = answer.found {
            self.ledger.told(revision, write(value), &who());
        }
        match chosen {
            Operation::Read(_) => {
                count(&self.counts.gets);
                Operation::Read(answer.found.map(|(value, _)| value))
            }
            Operation::Write(value) => {
                count(&self.counts.puts);
                self.ledger.told(answer.revision, write(value), &who());
                chosen
            }
            Operation::Swap { old, new, .. } if answer.stored => {
                count(&self.counts.swaps);
                self.ledger.told(answer.revision, write(new), &who());
                Operation::Swap {
                    old,
                    new,
                    swapped: Some(true),
                }
            }
            // What it found instead says more than that it was refused.
            Operation::Swap { .. } => {
                count(&self.counts.swaps_refused);
                Operation::Read(answer.found.map(|(value, _)| value))
            }
        }
    }
}
