//! Probes: every node makes every check, each at its own moment.
//!
//! The moments of a check are spread over the interval by check and node, so nodes do not come to a target together and a restart
//! makes no burst. A probe that is late is skipped, never stacked: while one is under way the next is not begun. What is found goes to
//! the master in batches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use probe::{Finding, Prober};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::network::Arrived;
use super::shared::Shared;
use super::wire::{Found, Report, Reports, encode, kind};
use crate::document::{Check, CheckKind, Document};
use crate::machine::announce::window_of;
use crate::machine::rounds::SECOND_OPINION_MS;
use crate::target::{definition, probe_of};

/// Probes under way at once on one node.
pub const CONCURRENT_MAX: usize = 500;
/// Probes that are begun but wait for their turn, beyond which the next ones are skipped.
const WAITING_MAX: usize = 2000;
/// How long reports are gathered before they go to the master.
const BATCH: Duration = Duration::from_millis(250);
/// Reports of one batch.
const BATCH_MAX: usize = 2000;
/// How long a batch may take to the master.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A check that is being made.
struct Planned {
    definition: u64,
    interval: Duration,
    kind: CheckKind,
    probe: Arc<probe::Probe>,
    /// The moment that counts; older ones in the heap are void.
    due: Instant,
    under_way: bool,
}

/// Makes all checks until the run ends.
pub async fn run(shared: Arc<Shared>, prober: Arc<Prober>, mut look_again: mpsc::Receiver<Vec<String>>) {
    let (found, founds) = mpsc::channel(CONCURRENT_MAX + WAITING_MAX);
    tokio::spawn(tell(shared.clone(), founds));
    let (done, mut ends) = mpsc::unbounded_channel::<String>();
    let mut schedule = Schedule {
        shared: shared.clone(),
        prober,
        permits: Arc::new(Semaphore::new(CONCURRENT_MAX)),
        planned: BTreeMap::new(),
        heap: BinaryHeap::new(),
        found,
        done,
        waiting: 0,
        document: Arc::new(Document::default()),
    };
    let mut look = tokio::time::interval(Duration::from_millis(500));
    loop {
        let due = schedule.heap.peek().map(|Reverse((due, _))| *due);
        let next = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => schedule.begin_due(),
            _ = look.tick() => schedule.follow(),
            Some(check) = ends.recv() => schedule.ended(&check),
            Some(checks) = look_again.recv() => schedule.again(&checks),
            () = shared.stop.cancelled() => return,
        }
    }
}

struct Schedule {
    shared: Arc<Shared>,
    prober: Arc<Prober>,
    permits: Arc<Semaphore>,
    planned: BTreeMap<String, Planned>,
    heap: BinaryHeap<Reverse<(Instant, String)>>,
    found: mpsc::Sender<Report>,
    done: mpsc::UnboundedSender<String>,
    waiting: usize,
    document: Arc<Document>,
}

impl Schedule {
    /// Takes a new configuration.
    fn follow(&mut self) {
        let document = self.shared.document();
        let paused = document.maintenance.iter().any(|window| window.pause);
        if Arc::ptr_eq(&document, &self.document) && !paused {
            return;
        }
        let view = self.shared.view();
        let wall = self.shared.wall();
        let pauses = |check: &Check| {
            let window = view.as_ref().and_then(|view| window_of(&view.state, check, wall));
            window.is_some_and(|window| window.pause)
        };
        let mut kept = BTreeMap::new();
        for check in document
            .checks
            .iter()
            .filter(|check| !check.disabled && !pauses(check))
        {
            let interval = Duration::from(check.interval);
            let definition = definition(check, &document);
            if let Some(planned) = self.planned.remove(&check.id)
                && planned.definition == definition
                && planned.interval == interval
            {
                kept.insert(check.id.clone(), planned);
                continue;
            }
            match probe_of(check, &document) {
                Ok(probe) => {
                    let due = self.first_moment(&check.id, interval);
                    self.heap.push(Reverse((due, check.id.clone())));
                    let planned = Planned {
                        definition,
                        interval,
                        kind: check.kind,
                        probe: Arc::new(probe),
                        due,
                        under_way: false,
                    };
                    kept.insert(check.id.clone(), planned);
                }
                Err(error) => {
                    tracing::error!(target: "quptime", check = check.name, error, "check cannot be made");
                }
            }
        }
        self.planned = kept;
        self.shared
            .found
            .lock()
            .retain(|check, _| self.planned.contains_key(check));
        self.shared.counts.follow(&document);
        self.document = document;
    }

    /// A place within the interval that check and node decide; soon for a new check with a long interval.
    fn first_moment(&self, check: &str, interval: Duration) -> Instant {
        let place = hash_of(&(check, self.shared.me)) % interval.as_millis().max(1) as u64;
        let soon = Duration::from_secs(30).min(interval).as_millis().max(1) as u64;
        Instant::now() + Duration::from_millis(place % soon)
    }

    fn begin_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, _))) = self.heap.peek() {
            if *due > now {
                return;
            }
            let Some(Reverse((due, check))) = self.heap.pop() else {
                return;
            };
            let Some(planned) = self.planned.get_mut(&check).filter(|planned| planned.due == due) else {
                continue;
            };
            // A machine that was asleep does not make up for what it missed.
            let behind = now.duration_since(due).as_millis() / planned.interval.as_millis().max(1);
            planned.due = due + planned.interval * (behind as u32 + 1);
            self.heap.push(Reverse((planned.due, check.clone())));
            self.begin(&check, due);
        }
    }

    fn begin(&mut self, check: &str, due: Instant) {
        let Some(planned) = self.planned.get_mut(check) else {
            return;
        };
        if planned.under_way || self.waiting >= CONCURRENT_MAX + WAITING_MAX {
            return;
        }
        planned.under_way = true;
        self.waiting += 1;
        let (probe, definition, kind) = (planned.probe.clone(), planned.definition, planned.kind);
        let (prober, permits) = (self.prober.clone(), self.permits.clone());
        let (found, done) = (self.found.clone(), self.done.clone());
        let (shared, check) = (self.shared.clone(), check.to_owned());
        tokio::spawn(async move {
            let looked = async {
                let permit = permits.acquire().await;
                shared.counts.probe_begins(due.elapsed());
                let outcome = prober.probe(&probe).await;
                drop(permit);
                outcome
            };
            let outcome = tokio::select! {
                outcome = looked => outcome,
                () = shared.stop.cancelled() => return,
            };
            let result = match outcome.result {
                Finding::Up => Found::Up,
                Finding::Down => Found::Down,
                Finding::NoReport => Found::Unable,
            };
            shared.counts.probe_ended(&check, kind, result, &outcome.phases);
            let took = outcome.latency.as_millis() as u64;
            let arrived = Arrived {
                result,
                detail: outcome.detail.clone(),
                at: shared.now(),
                took,
                certificate_end: outcome.certificate_expiry,
            };
            shared.found.lock().insert(check.clone(), arrived);
            let report = Report {
                check: check.clone(),
                definition,
                result,
                detail: outcome.detail,
                age: 0,
                took,
                certificate_end: outcome.certificate_expiry,
            };
            // Nobody listens any more only when the run ends.
            drop(found.send(report).await);
            drop(done.send(check));
        });
    }

    fn ended(&mut self, check: &str) {
        self.waiting -= 1;
        if let Some(planned) = self.planned.get_mut(check) {
            planned.under_way = false;
        }
    }

    /// A second opinion is wanted.
    fn again(&mut self, checks: &[String]) {
        let due = Instant::now() + Duration::from_millis(SECOND_OPINION_MS);
        for check in checks {
            if let Some(planned) = self.planned.get_mut(check)
                && planned.due > due
            {
                planned.due = due;
                self.heap.push(Reverse((due, check.clone())));
            }
        }
    }
}

fn hash_of<T: std::hash::Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Sends what was found to the master.
async fn tell(shared: Arc<Shared>, mut founds: mpsc::Receiver<Report>) {
    let mut batch = Vec::new();
    while let Some(first) = founds.recv().await {
        batch.push((Instant::now(), first));
        let until = Instant::now() + BATCH;
        while batch.len() < BATCH_MAX {
            match tokio::time::timeout_at(until, founds.recv()).await {
                Ok(Some(report)) => batch.push((Instant::now(), report)),
                Ok(None) | Err(_) => break,
            }
        }
        let now = Instant::now();
        let aged = batch.drain(..).map(|(since, report)| Report {
            age: now.duration_since(since).as_millis() as u64,
            ..report
        });
        let reports: Vec<Report> = aged.collect();
        match shared.master() {
            Some(master) if master == shared.me => {
                // If too many wait they are dropped; the next probes come soon.
                drop(shared.reports.try_send((shared.me, reports)));
            }
            Some(master) => {
                let body = encode(&Reports { reports });
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Some(transport) = shared.transport.get() {
                        // What is lost is found again.
                        drop(
                            transport
                                .request(master.number(), kind::REPORTS, body, SEND_TIMEOUT)
                                .await,
                        );
                    }
                });
            }
            None => {}
        }
    }
}
