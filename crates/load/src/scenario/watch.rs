//! Ten thousand watchers on a hundred streams and one writer.
//!
//! Idle: every watcher has its own key and the writer puts another one, so nothing is to be delivered; a put must not become dearer
//! by watchers that it does not concern. Fan-out: all watch one key and the writer puts it, each time waiting until the last watcher
//! has the event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use hdrhistogram::Histogram;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{
    GENERATOR_CPU, P50, P99, P999, RESIDENT, SERVER_CPU, Scenario, THROUGHPUT, mebibytes, throughput_figures,
};
use crate::bench::Bench;
use crate::closed_loop::{Measurement, latencies, part, record};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::figure::{Figure, Goal, Unit};
use crate::procfs;
use crate::server::Server;
use crate::system::System;

const WATCHERS: usize = 10_000;
const STREAMS: usize = 100;
const CONNECTIONS: usize = 8;

/// The number of the key that the writer puts; watchers with their own key have the numbers below [`WATCHERS`].
const WRITTEN_KEY: u64 = 1_000_000;

/// How long the server may take to create all watches, and to deliver one event to all of them.
const PATIENCE: Duration = Duration::from_mins(1);

/// The scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    Idle,
    Fanout,
}

impl Scenario for Watch {
    fn name(&self) -> String {
        match self {
            Self::Idle => "watch-idle".to_owned(),
            Self::Fanout => "watch-fanout".to_owned(),
        }
    }

    fn about(&self) -> String {
        let what = match self {
            Self::Idle => "each on its own key; one writer puts another key (an operation is a put)",
            Self::Fanout => {
                "all on one key; one writer puts it and waits for the last watcher (an operation is an event; p50 to p99.9 are of \
                 the time until the last watcher has it)"
            }
        };
        format!("{WATCHERS} watchers on {STREAMS} streams, {what}")
    }

    fn goals(&self) -> Vec<Goal> {
        Vec::new()
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let site = bench.site(system)?;
        let server = site.start_ready()?;
        let (delivered, mut progress) = mpsc::unbounded_channel();
        let delivery = Arc::new(Delivery {
            watch: *self,
            events: AtomicU64::new(0),
            progress: delivered,
        });
        let workers = bench.workers.min(CONNECTIONS);
        for worker in 0..workers {
            let share = Share {
                address: server.address,
                first_stream: (0..worker).map(|before| part(STREAMS, before, workers)).sum(),
                streams: part(STREAMS, worker, workers),
                connections: part(CONNECTIONS, worker, workers),
            };
            let delivery = Arc::clone(&delivery);
            // Never joined: it ends when the server has gone and with it the last stream.
            std::thread::Builder::new()
                .name(format!("watch-{worker}"))
                .spawn(move || share.work(&delivery))
                .context("start a worker thread")?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        runtime.block_on(async {
            for _ in 0..STREAMS {
                match next(&mut progress).await.context("create the watches")? {
                    Progress::Watching => {}
                    Progress::AllDelivered(_) => bail!("an event came before anything was put"),
                    Progress::Failed(error) => return Err(error),
                }
            }
            self.write(bench, &server, &mut progress).await
        })
    }
}

impl Watch {
    /// The writer, and the figures.
    async fn write(
        self,
        bench: &Bench,
        server: &Server,
        progress: &mut UnboundedReceiver<Progress>,
    ) -> Result<Vec<Figure>> {
        let mut connection = Connection::open(server.address).await?;
        let mut chance = Chance::new(0);
        let key = Keys::Scattered.key(WRITTEN_KEY);
        let mut write_latency = latencies();
        let mut last_watcher = latencies();
        let counted_from = Instant::now() + bench.warm_up;
        let mut counting: Option<(Instant, Duration, Duration)> = None;
        let cpu = || anyhow::Ok((server.cpu_time()?, procfs::cpu_time(std::process::id())?));
        let (ended, after) = loop {
            let started = Instant::now();
            match counting {
                None if started >= counted_from => {
                    let (server_cpu, generator_cpu) = cpu()?;
                    counting = Some((started, server_cpu, generator_cpu));
                }
                Some((from, ..)) if started >= from + bench.measured => break (started, cpu()?),
                _ => {}
            }
            let request = PutRequest {
                key: key.clone(),
                value: chance.value(),
                ..PutRequest::default()
            };
            connection.put(&request).await?;
            let written = started.elapsed();
            let delivered = match self {
                Self::Idle => written,
                Self::Fanout => match next(progress).await.context("wait for the last watcher")? {
                    Progress::AllDelivered(when) => when.saturating_duration_since(started),
                    Progress::Watching => bail!("a watch was created twice"),
                    Progress::Failed(error) => return Err(error),
                },
            };
            if counting.is_some() {
                record(&mut write_latency, written);
                record(&mut last_watcher, delivered);
            }
        };
        let (from, server_before, generator_before) = counting.context("no put was counted")?;
        let measurement = Measurement {
            elapsed: ended - from,
            latency: last_watcher,
            server_cpu: after.0.saturating_sub(server_before),
            generator_cpu: after.1.saturating_sub(generator_before),
        };
        let mut figures = match self {
            Self::Idle => throughput_figures(&measurement),
            Self::Fanout => fanout_figures(&measurement, &write_latency),
        };
        figures.push(mebibytes(RESIDENT, server.memory()?.resident));
        Ok(figures)
    }
}

/// Throughput and CPU per event, latencies per put.
fn fanout_figures(measurement: &Measurement, write_latency: &Histogram<u64>) -> Vec<Figure> {
    let events = measurement.operations() * WATCHERS as f64;
    let quantile = |latency: &Histogram<u64>, at: f64| latency.value_at_quantile(at) as f64 / 1000.0;
    let cpu = |name, time: Duration| Figure::new(name, Unit::Microseconds, time.as_secs_f64() * 1e6 / events);
    let milliseconds = |name, value| Figure::new(name, Unit::Milliseconds, value);
    vec![
        Figure::new(
            THROUGHPUT,
            Unit::PerSecond,
            events / measurement.elapsed.as_secs_f64(),
        ),
        milliseconds(P50, quantile(&measurement.latency, 0.5)),
        milliseconds(P99, quantile(&measurement.latency, 0.99)),
        milliseconds(P999, quantile(&measurement.latency, 0.999)),
        milliseconds("write p50", quantile(write_latency, 0.5)),
        milliseconds("write p99", quantile(write_latency, 0.99)),
        cpu(SERVER_CPU, measurement.server_cpu),
        cpu(GENERATOR_CPU, measurement.generator_cpu),
    ]
}

/// What the streams tell the writer.
enum Progress {
    /// One more stream has all its watches.
    Watching,
    /// Every watcher has the newest event, since this moment.
    AllDelivered(Instant),
    Failed(anyhow::Error),
}

async fn next(progress: &mut UnboundedReceiver<Progress>) -> Result<Progress> {
    tokio::time::timeout(PATIENCE, progress.recv())
        .await
        .with_context(|| format!("nothing happened for {} s", PATIENCE.as_secs()))?
        .context("all streams have ended")
}

/// What all streams share.
struct Delivery {
    watch: Watch,
    /// Events received by all watchers together.
    events: AtomicU64,
    progress: UnboundedSender<Progress>,
}

impl Delivery {
    fn key(&self, watcher: usize) -> Bytes {
        match self.watch {
            Watch::Idle => Keys::Scattered.key(watcher as u64),
            Watch::Fanout => Keys::Scattered.key(WRITTEN_KEY),
        }
    }

    /// The writer may be gone already: then nobody wants to know.
    fn tell(&self, progress: Progress) {
        let _ = self.progress.send(progress);
    }
}

/// The streams of one worker thread.
struct Share {
    address: SocketAddr,
    first_stream: usize,
    streams: usize,
    connections: usize,
}

impl Share {
    fn work(&self, delivery: &Arc<Delivery>) {
        if let Err(error) = self.follow(delivery) {
            delivery.tell(Progress::Failed(error));
        }
    }

    fn follow(&self, delivery: &Arc<Delivery>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        runtime.block_on(async {
            let mut connections = Vec::with_capacity(self.connections);
            for _ in 0..self.connections {
                connections.push(Connection::open(self.address).await?);
            }
            let mut streams = tokio::task::JoinSet::new();
            for stream in 0..self.streams {
                let connection = connections[stream % connections.len()].clone();
                streams.spawn(follow_stream(
                    connection,
                    self.first_stream + stream,
                    Arc::clone(delivery),
                ));
            }
            while let Some(ended) = streams.join_next().await {
                ended.map_err(|_| anyhow!("a stream panicked"))??;
            }
            Ok(())
        })
    }
}

/// Creates the watches of one stream and counts their events until the stream ends.
async fn follow_stream(mut connection: Connection, stream: usize, delivery: Arc<Delivery>) -> Result<()> {
    const PER_STREAM: usize = WATCHERS / STREAMS;
    let requests: Vec<WatchRequest> = (0..PER_STREAM)
        .map(|watcher| {
            let create = WatchCreateRequest {
                key: delivery.key(stream * PER_STREAM + watcher),
                ..WatchCreateRequest::default()
            };
            WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            }
        })
        .collect();
    let mut replies = connection.watch(&requests).await?;
    let mut created = 0;
    while let Some(reply) = replies.next().await.context("read a watch stream")? {
        if reply.canceled {
            bail!("watch {} was cancelled: {}", reply.watch_id, reply.cancel_reason);
        }
        if reply.created {
            created += 1;
            if created == PER_STREAM {
                delivery.tell(Progress::Watching);
            }
        }
        let events = reply.events.len() as u64;
        if events > 0 {
            let all = delivery.events.fetch_add(events, Ordering::Relaxed) + events;
            if all.is_multiple_of(WATCHERS as u64) {
                delivery.tell(Progress::AllDelivered(Instant::now()));
            }
        }
    }
    bail!("the server ended a watch stream")
}
