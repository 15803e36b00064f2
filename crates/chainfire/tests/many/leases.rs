//! Leases, each with a key, and clients that keep them alive. A watch of the keys tells when one has ended.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest,
};
use chainfire::wire::mvccpb::event::EventType;
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;
use tonic::transport::Channel;

use crate::{Members, PER_STREAM, pause, until, violation};

pub(crate) struct Leases {
    world: Arc<World>,
    keepers: Vec<Arc<Keeper>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct World {
    members: Arc<Members>,
    ttl: Duration,
    count: usize,
    /// When the key of a lease was seen to go.
    ended: Mutex<HashMap<i64, Instant>>,
    died: Mutex<Option<Instant>>,
    slowest_round_ms: AtomicU64,
    stop: AtomicBool,
}

/// A client with some of the leases.
struct Keeper {
    ids: Range<i64>,
    /// It is to let its leases be.
    leaves: AtomicBool,
    left: AtomicBool,
    /// When it last began a round of renewals that all were answered.
    renewed: Mutex<Option<Instant>>,
}

fn key(id: i64) -> String {
    format!("lease/{id}")
}

impl Leases {
    /// Grants that many, and keeps them alive from then on.
    pub(crate) async fn grant(members: &Arc<Members>, count: usize, ttl: u64) -> Leases {
        let world = Arc::new(World {
            members: members.clone(),
            ttl: Duration::from_secs(ttl),
            count,
            ended: Mutex::default(),
            died: Mutex::default(),
            slowest_round_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut tasks = vec![tokio::spawn(world.clone().follow())];
        let keepers: Vec<_> = (0..count.div_ceil(PER_STREAM))
            .map(|number| {
                let first = number * PER_STREAM;
                let last = count.min(first + PER_STREAM);
                Arc::new(Keeper::of(first as i64 + 1..last as i64 + 1))
            })
            .collect();
        for some in keepers.chunks(4) {
            let mut granting = JoinSet::new();
            for keeper in some {
                granting.spawn(grant_all(members.connect().await, keeper.ids.clone(), ttl));
            }
            granting.join_all().await;
            for keeper in some {
                tasks.push(tokio::spawn(keeper.clone().keep(world.clone())));
            }
        }
        let leases = Leases {
            world,
            keepers,
            tasks: Mutex::new(tasks),
        };
        leases.all_renewed_since(Instant::now()).await;
        leases
    }

    /// The longest round of renewals since the last time this was asked.
    pub(crate) fn slowest_round(&self) -> Duration {
        Duration::from_millis(self.world.slowest_round_ms.swap(0, Ordering::Relaxed))
    }

    /// How long it takes to renew all of them on one stream, as a client that has them all does.
    pub(crate) async fn renew_on_one_stream(&self) -> Duration {
        let all = Keeper::of(1..self.world.count as i64 + 1);
        let mut client = LeaseClient::new(self.world.members.connect().await);
        let asked = Instant::now();
        all.renew(&mut client).await.unwrap();
        asked.elapsed()
    }

    /// Every other keeper stops. Returns when all of those have.
    pub(crate) async fn leave_half(&self) {
        let leaving: Vec<_> = self.keepers.iter().step_by(2).collect();
        for keeper in &leaving {
            keeper.leaves.store(true, Ordering::Release);
        }
        until("keepers to stop", || {
            leaving.iter().all(|keeper| keeper.left.load(Ordering::Acquire))
        })
        .await;
    }

    /// How many leases are left alone.
    pub(crate) fn left(&self) -> usize {
        let left = self
            .keepers
            .iter()
            .filter(|keeper| keeper.left.load(Ordering::Acquire));
        left.map(|keeper| keeper.ids.clone().count()).sum()
    }

    pub(crate) fn ended(&self) -> usize {
        self.world.ended.lock().unwrap().len()
    }

    pub(crate) fn leader_dies(&self, at: Instant) {
        *self.world.died.lock().unwrap() = Some(at);
    }

    /// Waits until all that are kept alive have been renewed by renewals asked for after `since`.
    pub(crate) async fn all_renewed_since(&self, since: Instant) {
        until("leases to be renewed", || {
            let mut kept = self
                .keepers
                .iter()
                .filter(|keeper| !keeper.left.load(Ordering::Acquire));
            kept.all(|keeper| *keeper.renewed.lock().unwrap() > Some(since))
        })
        .await;
    }

    /// Those that were kept alive are all there, and end when they are kept alive no longer.
    pub(crate) async fn check(self) {
        let left: Vec<bool> = self
            .keepers
            .iter()
            .map(|keeper| keeper.left.load(Ordering::Acquire))
            .collect();
        for (keeper, left) in self.keepers.iter().zip(left) {
            let ended = self.world.ended.lock().unwrap();
            let gone = keeper.ids.clone().filter(|id| ended.contains_key(id)).count();
            assert_eq!(gone, if left { keeper.ids.clone().count() } else { 0 });
        }
        let stopped = Instant::now();
        for keeper in &self.keepers {
            keeper.leaves.store(true, Ordering::Release);
        }
        until("all leases to end", || self.ended() == self.world.count).await;
        let took = stopped.elapsed().as_secs_f64();
        println!("the rest ended within {took:.2} s of the last renewals");
        self.world.stop.store(true, Ordering::Release);
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

async fn grant_all(channel: Channel, ids: Range<i64>, ttl: u64) {
    let mut tasks = JoinSet::new();
    let ids = Arc::new(Mutex::new(ids));
    // As many at a time as make the members write together, and not so many that one waits long.
    for _ in 0..32 {
        let (ids, channel) = (ids.clone(), channel.clone());
        tasks.spawn(async move {
            let (mut leases, mut keys) = (LeaseClient::new(channel.clone()), KvClient::new(channel));
            loop {
                let Some(id) = ids.lock().unwrap().next() else {
                    return;
                };
                let grant = LeaseGrantRequest { id, ttl: ttl as i64 };
                leases.lease_grant(grant).await.unwrap();
                let put = PutRequest {
                    key: key(id).into(),
                    value: "leased".into(),
                    lease: id,
                    ..Default::default()
                };
                keys.put(put).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

impl Keeper {
    fn of(ids: Range<i64>) -> Keeper {
        Keeper {
            ids,
            leaves: AtomicBool::new(false),
            left: AtomicBool::new(false),
            renewed: Mutex::default(),
        }
    }

    async fn keep(self: Arc<Keeper>, world: Arc<World>) {
        let mut client = LeaseClient::new(world.members.connect().await);
        while !self.leaves.load(Ordering::Acquire) {
            let asked = Instant::now();
            if self.renew(&mut client).await.is_ok() {
                let took = asked.elapsed();
                let ms = u64::try_from(took.as_millis()).unwrap();
                world.slowest_round_ms.fetch_max(ms, Ordering::Relaxed);
                *self.renewed.lock().unwrap() = Some(asked);
                tokio::time::sleep((world.ttl / 3).saturating_sub(took)).await;
            } else {
                pause().await;
                client = LeaseClient::new(world.members.connect().await);
            }
        }
        self.left.store(true, Ordering::Release);
    }

    async fn renew(&self, client: &mut LeaseClient<Channel>) -> Result<(), Status> {
        let requests = tokio_stream::iter(self.ids.clone().map(|id| LeaseKeepAliveRequest { id }));
        let mut replies = client.lease_keep_alive(requests).await?.into_inner();
        for id in self.ids.clone() {
            let reply = replies.message().await?;
            let reply = reply.ok_or_else(|| Status::unavailable("the stream has ended"))?;
            if reply.id != id || reply.ttl <= 0 {
                violation(format!("lease {id} was to be kept alive: {reply:?}"));
            }
        }
        Ok(())
    }
}

impl World {
    /// Notes when keys go, over changes of connections.
    async fn follow(self: Arc<World>) {
        let mut next = 0;
        while !self.stop.load(Ordering::Acquire) {
            let channel = self.members.connect().await;
            // It ends with the member's death.
            drop(self.follow_on(channel, &mut next).await);
            pause().await;
        }
    }

    async fn follow_on(&self, channel: Channel, next: &mut i64) -> Result<(), Status> {
        let create = WatchCreateRequest {
            key: "lease/".into(),
            range_end: "lease0".into(),
            start_revision: *next,
            ..Default::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let requests = futures::stream::once(async { request });
        let requests = futures::StreamExt::chain(requests, futures::stream::pending());
        let mut replies = WatchClient::new(channel).watch(requests).await?.into_inner();
        while let Some(reply) = replies.message().await? {
            let now = Instant::now();
            if reply.created && *next == 0 {
                *next = reply.header.unwrap_or_default().revision + 1;
            }
            for event in reply.events {
                let kv = event.kv.unwrap_or_default();
                *next = kv.mod_revision + 1;
                if event.r#type == EventType::Delete as i32 {
                    let id = std::str::from_utf8(&kv.key[6..]).unwrap().parse().unwrap();
                    self.note_end(id, now);
                }
            }
        }
        Ok(())
    }

    /// It ended by now. Nothing may have before the leader's death, nor sooner after it than a lease lives.
    fn note_end(&self, id: i64, now: Instant) {
        let died = self.died.lock().unwrap();
        let lived = died.map(|died| now - died);
        if lived <= Some(self.ttl) {
            violation(format!("lease {id} ended {lived:?} after the leader's death"));
        }
        if self.ended.lock().unwrap().insert(id, now).is_some() {
            violation(format!("lease {id} ended twice"));
        }
    }
}
