//! A million keys: how fast they are loaded, what they cost in memory and on disk, and how long a restart takes.
//!
//! The load is 512 clients with a put each, as real stores are filled, so the log holds what it would hold. Memory is read when the
//! server has come to rest. A restart counts from the start of the process to the first answer of a linearizable read; the page cache
//! is warm for both systems. Before `kill -9` a part of the keys is written again, so that the log has something to tell.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chainfire::wire::etcdserverpb::{PutRequest, RangeRequest};

use super::{RESIDENT, SERVER_CPU, Scenario, THROUGHPUT, mebibytes};
use crate::bench::Bench;
use crate::closed_loop::{Extent, Operation, drive};
use crate::connection::Connection;
use crate::data::{Chance, Keys};
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::server::{Server, Site};
use crate::system::System;

const CLIENTS: usize = 512;

/// One of this many keys is written again before the kill.
const REWRITTEN_PART: u64 = 50;

/// How long the server may go on working after the load before its memory is read anyway.
const REST: Duration = Duration::from_secs(30);

/// How long a restart may take.
const RESTART_MAX: Duration = Duration::from_mins(5);

const RESTART: &str = "restart";
const RESTART_AFTER_KILL: &str = "restart after kill";

/// The scenario.
pub(super) struct Million {
    pub(super) keys: u64,
}

impl Scenario for Million {
    fn name(&self) -> String {
        "million".to_owned()
    }

    fn about(&self) -> String {
        format!(
            "{} keys with values of 256 B loaded by {CLIENTS} clients, then memory, disk and restarts",
            self.keys
        )
    }

    fn goals(&self) -> Vec<Goal> {
        let at_most = |figure| Goal {
            figure,
            bound: Bound::AtMost(3.0),
        };
        vec![
            Goal {
                figure: RESIDENT,
                bound: Bound::RatioAtMost(0.5),
            },
            at_most(RESTART),
            at_most(RESTART_AFTER_KILL),
        ]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let site = bench.site(system)?;
        let server = site.start_ready()?;
        let load = drive(
            &server,
            bench.workers,
            CLIENTS,
            Extent::Operations(self.keys),
            PutEach,
        )?;
        server.wait_idle(REST)?;
        let memory = server.memory()?;
        let disk = site.disk_bytes()?;

        let stop = server.stop()?;
        let (server, restart) = self.restart(&site)?;
        let memory_restarted = server.memory()?;
        let again = Extent::Operations(self.keys / REWRITTEN_PART);
        drive(&server, bench.workers, CLIENTS, again, PutEach)?;
        server.kill()?;
        let (server, restart_after_kill) = self.restart(&site)?;
        server.kill()?;

        let seconds = |name, time: Duration| Figure::new(name, Unit::Seconds, time.as_secs_f64());
        Ok(vec![
            Figure::new(
                THROUGHPUT,
                Unit::PerSecond,
                load.operations() / load.elapsed.as_secs_f64(),
            ),
            Figure::new(
                SERVER_CPU,
                Unit::Microseconds,
                load.server_cpu.as_secs_f64() * 1e6 / load.operations(),
            ),
            mebibytes(RESIDENT, memory.resident),
            mebibytes("PSS", memory.proportional),
            mebibytes("anonymous", memory.anonymous),
            mebibytes("RSS restarted", memory_restarted.resident),
            mebibytes("disk", disk),
            seconds("stop", stop),
            seconds(RESTART, restart),
            seconds(RESTART_AFTER_KILL, restart_after_kill),
        ])
    }
}

impl Million {
    /// Starts the server on what it wrote; the time until it answered, and a look whether every key is there.
    fn restart(&self, site: &Site) -> Result<(Server, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let started = Instant::now();
        let mut server = site.start()?;
        while !runtime.block_on(answers(server.address)) {
            server.check_alive()?;
            if started.elapsed() > RESTART_MAX {
                bail!(
                    "restart {}: no answer after {} s",
                    site.system.name(),
                    RESTART_MAX.as_secs()
                );
            }
        }
        let time = started.elapsed();
        let count = runtime.block_on(count(server.address))?;
        if count != self.keys {
            bail!(
                "restart {}: {count} keys are there, {} were put",
                site.system.name(),
                self.keys
            );
        }
        Ok((server, time))
    }
}

/// One try of a linearizable read of one key. A server that is not there is asked again a little later.
async fn answers(address: SocketAddr) -> bool {
    const PAUSE: Duration = Duration::from_millis(2);
    const ANSWER_MAX: Duration = Duration::from_secs(10);
    let read = async {
        let mut connection = Connection::open(address).await.ok()?;
        let request = RangeRequest {
            key: Keys::Scattered.key(0),
            ..RangeRequest::default()
        };
        let reply = connection.range(&request).await.ok()?;
        (reply.kvs.len() == 1).then_some(())
    };
    let answered = matches!(tokio::time::timeout(ANSWER_MAX, read).await, Ok(Some(())));
    if !answered {
        tokio::time::sleep(PAUSE).await;
    }
    answered
}

async fn count(address: SocketAddr) -> Result<u64> {
    let everything = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let reply = Connection::open(address).await?.range(&everything).await;
    Ok(reply.context("count the keys")?.count as u64)
}

/// Puts each key once, in the order of the numbers, which is no order of the keys.
pub(super) struct PutEach;

impl Operation for PutEach {
    async fn perform(&self, connection: &mut Connection, chance: &mut Chance, number: u64) -> Result<()> {
        let request = PutRequest {
            key: Keys::Scattered.key(number),
            value: chance.value(),
            ..PutRequest::default()
        };
        connection.put(&request).await?;
        Ok(())
    }
}
