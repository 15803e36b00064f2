//! The closed loop: a number of clients, each sending its next request when the last one was answered.
//!
//! A few worker threads, each with its own single-threaded runtime, its own connections and its own share of the clients: no request
//! crosses a thread, so the generator takes as little as possible from the cores it shares with the server. Counting begins after the
//! warm-up; an operation counts when its answer falls into the measured window. The first error ends the run, because figures of a
//! server that refuses are worth nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use hdrhistogram::Histogram;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::data::Chance;
use crate::procfs;
use crate::server::Server;

/// Connections shared by the clients, as a Go program with a few client objects would have.
const CONNECTIONS_MAX: usize = 8;

/// How long after the end of the window the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// No counted run takes longer, at 300 operations per second and a million of them.
const COUNTED_RUN_MAX: Duration = Duration::from_hours(1);

/// Slowest answer the histogram can tell, in microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;

/// What one client does over and over.
pub(crate) trait Operation: Send + Sync + 'static {
    /// Sends one request and checks the answer as far as that is cheap.
    fn perform(
        &self,
        connection: &mut Connection,
        chance: &mut Chance,
        number: u64,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// How long the loop runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// For a time, counting after the warm-up.
    Window { warm_up: Duration, measured: Duration },
    /// For this many operations, numbered from 0, all of them counted.
    Operations(u64),
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Measurement {
    pub(crate) elapsed: Duration,
    /// One entry per counted operation, in microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) server_cpu: Duration,
    pub(crate) generator_cpu: Duration,
}

impl Measurement {
    pub(crate) fn operations(&self) -> f64 {
        self.latency.len() as f64
    }
}

/// An empty latency histogram: microseconds, three digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
        .expect("1 to 120,000,000 with 3 digits is a valid histogram")
}

/// Adds a time to the histogram; longer than the histogram can tell counts as the longest.
pub(crate) fn record(latencies: &mut Histogram<u64>, time: Duration) {
    latencies.saturating_record((time.as_micros() as u64).max(1));
}

/// Who is loaded: one server, or the members of a cluster.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where clients connect; they are dealt evenly.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whose CPU time counts.
    pub(crate) processes: Vec<u32>,
}

impl From<&Server> for Target {
    fn from(server: &Server) -> Self {
        Self {
            addresses: vec![server.address],
            processes: vec![server.process()],
        }
    }
}

impl Target {
    fn cpu_time(&self) -> Result<Duration> {
        self.processes
            .iter()
            .map(|&process| procfs::cpu_time(process))
            .sum()
    }
}

/// When counting starts and ends.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    counted_from: Instant,
    ends: Instant,
}

/// What all clients share.
struct Shared<O> {
    operation: O,
    /// The number of the next operation.
    next: AtomicU64,
    operations_max: u64,
    failed: AtomicBool,
}

/// Puts `clients` clients on the target.
pub(crate) fn drive<O: Operation>(
    target: impl Into<Target>,
    workers: usize,
    clients: usize,
    extent: Extent,
    operation: O,
) -> Result<Measurement> {
    let target = target.into();
    let connections = clients.min(CONNECTIONS_MAX);
    let workers = workers.min(connections);
    let shared = Arc::new(Shared {
        operation,
        next: AtomicU64::new(0),
        operations_max: match extent {
            Extent::Window { .. } => u64::MAX,
            Extent::Operations(count) => count,
        },
        failed: AtomicBool::new(false),
    });
    let (ready, all_ready) = mpsc::channel();
    let mut threads = Vec::with_capacity(workers);
    for worker in 0..workers {
        let share = Share {
            addresses: dealt(&target.addresses, worker, part(connections, worker, workers)),
            clients: part(clients, worker, workers),
            seed: worker as u64,
        };
        let (go, start) = oneshot::channel();
        let (shared, ready) = (Arc::clone(&shared), ready.clone());
        let thread = std::thread::Builder::new()
            .name(format!("load-{worker}"))
            .spawn(move || share.work(&shared, &ready, start))
            .context("start a worker thread")?;
        threads.push((go, thread));
    }
    drop(ready);
    for _ in 0..workers {
        all_ready
            .recv()
            .map_err(|_| anyhow!("a worker thread ended early"))??;
    }

    let started = Instant::now();
    let (counted_from, ends) = match extent {
        Extent::Window { warm_up, measured } => (started + warm_up, started + warm_up + measured),
        Extent::Operations(_) => (started, started + COUNTED_RUN_MAX),
    };
    let mut running = Vec::with_capacity(workers);
    for (go, thread) in threads {
        // A worker that is gone tells why when it is joined.
        let _ = go.send(Schedule { counted_from, ends });
        running.push(thread);
    }
    sleep_until(counted_from, &shared.failed);
    let before = (target.cpu_time()?, procfs::cpu_time(std::process::id())?);
    let window_end = match extent {
        Extent::Window { .. } => {
            sleep_until(ends, &shared.failed);
            Some((target.cpu_time()?, procfs::cpu_time(std::process::id())?))
        }
        Extent::Operations(_) => None,
    };
    let mut latency = latencies();
    for thread in running {
        let part = thread.join().map_err(|_| anyhow!("a worker thread panicked"))??;
        latency.add(part).context("add the histograms of the workers")?;
    }
    let (elapsed, after) = match window_end {
        Some(times) => (ends - counted_from, times),
        None => (
            started.elapsed(),
            (target.cpu_time()?, procfs::cpu_time(std::process::id())?),
        ),
    };
    if latency.is_empty() {
        bail!("no operation was answered within the measured time");
    }
    Ok(Measurement {
        elapsed,
        latency,
        server_cpu: after.0.saturating_sub(before.0),
        generator_cpu: after.1.saturating_sub(before.1),
    })
}

/// The share of part `at` when `whole` things are dealt to `parts`.
pub(crate) fn part(whole: usize, at: usize, parts: usize) -> usize {
    whole / parts + usize::from(at < whole % parts)
}

/// The address of each connection of a worker: at least so many connections, and as many to each address. Workers begin at different
/// addresses, so that what does not divide evenly is not always the first one's.
fn dealt(addresses: &[SocketAddr], worker: usize, connections: usize) -> Vec<SocketAddr> {
    let count = connections.next_multiple_of(addresses.len());
    (0..count)
        .map(|at| addresses[(worker + at) % addresses.len()])
        .collect()
}

/// Sleeps in short naps, so that a failed run ends soon.
fn sleep_until(when: Instant, failed: &AtomicBool) {
    const NAP: Duration = Duration::from_millis(100);
    loop {
        let rest = when.saturating_duration_since(Instant::now());
        if rest.is_zero() || failed.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(rest.min(NAP));
    }
}

/// The part of one worker thread.
struct Share {
    /// One connection to each.
    addresses: Vec<SocketAddr>,
    clients: usize,
    seed: u64,
}

impl Share {
    fn work<O: Operation>(
        self,
        shared: &Arc<Shared<O>>,
        ready: &mpsc::Sender<Result<()>>,
        start: oneshot::Receiver<Schedule>,
    ) -> Result<Histogram<u64>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        runtime.block_on(async {
            let mut connections = Vec::with_capacity(self.addresses.len());
            for &address in &self.addresses {
                match Connection::open(address).await {
                    Ok(connection) => connections.push(connection),
                    Err(error) => {
                        // The receiver is there: it waits for every worker's word.
                        let _ = ready.send(Err(error));
                        return Ok(latencies());
                    }
                }
            }
            let _ = ready.send(Ok(()));
            // No start means that another worker could not connect.
            let Ok(schedule) = start.await else {
                return Ok(latencies());
            };
            let recorded = Arc::new(Mutex::new(latencies()));
            let mut clients = JoinSet::new();
            for client in 0..self.clients {
                let connection = connections[client % connections.len()].clone();
                let chance = Chance::new(self.seed << 32 | client as u64);
                clients.spawn(run_client(
                    connection,
                    chance,
                    Arc::clone(shared),
                    schedule,
                    Arc::clone(&recorded),
                ));
            }
            let patience = schedule.ends + LAST_ANSWERS;
            while let Some(result) = tokio::time::timeout_at(patience.into(), clients.join_next())
                .await
                .context("answers are missing 30 s after the end of the run")?
            {
                let outcome = result.context("a client panicked")?;
                if outcome.is_err() {
                    shared.failed.store(true, Ordering::Relaxed);
                }
                outcome?;
            }
            let mut recorded = recorded
                .lock()
                .map_err(|_| anyhow!("a client panicked while recording"))?;
            Ok(std::mem::replace(&mut *recorded, latencies()))
        })
    }
}

async fn run_client<O: Operation>(
    mut connection: Connection,
    mut chance: Chance,
    shared: Arc<Shared<O>>,
    schedule: Schedule,
    recorded: Arc<Mutex<Histogram<u64>>>,
) -> Result<()> {
    let mut started = Instant::now();
    while started < schedule.ends && !shared.failed.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.operations_max {
            break;
        }
        shared
            .operation
            .perform(&mut connection, &mut chance, number)
            .await?;
        let ended = Instant::now();
        if schedule.counted_from <= ended && ended <= schedule.ends {
            // Only the clients of this thread share it, so it is never contended.
            if let Ok(mut histogram) = recorded.lock() {
                record(&mut histogram, ended - started);
            }
        }
        started = ended;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        for (whole, parts) in [(1, 1), (8, 3), (512, 2), (100, 7)] {
            assert_eq!((0..parts).map(|at| part(whole, at, parts)).sum::<usize>(), whole);
        }
    }

    #[test]
    fn clients_are_spread_evenly_over_the_members() {
        let addresses: Vec<SocketAddr> = (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect();
        for (clients, workers) in [(64, 2), (512, 2), (512, 4), (64, 1)] {
            let mut on = [0_usize; 3];
            for worker in 0..workers {
                let connections = dealt(&addresses, worker, part(CONNECTIONS_MAX, worker, workers));
                for client in 0..part(clients, worker, workers) {
                    let address = connections[client % connections.len()];
                    on[usize::from(address.port()) - 1] += 1;
                }
            }
            let (least, most) = (on.iter().min().unwrap(), on.iter().max().unwrap());
            assert!(most - least <= workers, "{clients} clients: {on:?}");
            assert_eq!(on.iter().sum::<usize>(), clients);
        }
        assert_eq!(dealt(&addresses[..1], 1, 4), vec![addresses[0]; 4]);
    }
}
