//! Leases with short lives, most of which nobody ends: kept alive for a while, revoked, or left by clients that go in the middle of
//! the grant.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chainfire::mvcc::KeyRange;
use chainfire::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::access::{Access, expected, pause};
use crate::history::Promise;
use crate::{World, count};

const TTL: i64 = 2;

/// How late a lease may end, on a machine that is busy with all the rest.
const LATE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
struct Life {
    /// When its grant or last renewal was asked for, and when that was answered at the latest.
    asked: Instant,
    answered: Instant,
    revoked: bool,
}

/// All leases that were ever asked for.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: Mutex<HashMap<i64, Life>>,
    next: AtomicI64,
}

impl Ledger {
    fn asked(&self, id: i64) {
        let now = Instant::now();
        let mut lives = self.lives.lock().unwrap();
        let life = lives.entry(id).or_insert(Life {
            asked: now,
            answered: now,
            revoked: false,
        });
        // Whatever becomes of it, it was not renewed later than it will be known to be.
        life.answered = now + Duration::from_secs(10);
    }

    fn answered(&self, id: i64, asked: Instant) {
        let mut lives = self.lives.lock().unwrap();
        let life = lives.get_mut(&id).unwrap();
        (life.asked, life.answered) = (asked, Instant::now());
    }

    fn revoked(&self, id: i64) {
        self.lives.lock().unwrap().get_mut(&id).unwrap().revoked = true;
    }

    /// Before this it cannot have run out; none if it was revoked.
    pub(crate) fn earliest_end(&self, id: i64) -> Option<Instant> {
        let life = self.lives.lock().unwrap().get(&id).copied()?;
        (!life.revoked).then(|| life.asked + Duration::from_secs(TTL as u64))
    }

    /// Those that ought to be gone.
    fn overdue(&self, ids: impl Iterator<Item = i64>) -> Vec<i64> {
        let lives = self.lives.lock().unwrap();
        let now = Instant::now();
        ids.filter(|id| {
            let ends = |life: &Life| life.answered + Duration::from_secs(TTL as u64) + LATE;
            lives.get(id).is_some_and(|life| now > ends(life))
        })
        .collect()
    }
}

/// The lease that a key hangs on, by its name.
pub(crate) fn of_key(key: &[u8]) -> Option<i64> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix("l/")?;
    rest.split('/').next()?.parse().ok()
}

pub(crate) fn start_all(world: &Arc<World>, seed: u64) -> Vec<JoinHandle<Vec<Promise>>> {
    let mut all: Vec<_> = (0..6)
        .map(|number| {
            let (world, random) = (world.clone(), StdRng::seed_from_u64(seed ^ (2000 + number)));
            tokio::spawn(live(world, random))
        })
        .collect();
    let world = world.clone();
    all.push(tokio::spawn(async move {
        while !world.is_done() {
            if let Err(status) = look(&world).await {
                expected(&status);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Vec::new()
    }));
    all
}

async fn live(world: Arc<World>, mut random: StdRng) -> Vec<Promise> {
    let access = world.access.own().await;
    while !world.is_done() {
        let id = 1 + world.leases.next.fetch_add(1, Ordering::Relaxed);
        count(&world.counts.leases);
        let fate = random.random_range(0..10);
        let keys = random.random_range(0..4);
        let (world, access) = (world.clone(), access.clone());
        let life = tokio::spawn(async move {
            if let Err(status) = one(&world, &access, id, keys, fate).await {
                // It may have run out while authentication was coming or going.
                if status.message() != "etcdserver: requested lease not found" {
                    expected(&status);
                }
            }
        });
        match fate {
            // Gone in the middle of the grant, or of what follows.
            0 => tokio::task::yield_now().await,
            1 => tokio::time::sleep(Duration::from_micros(random.random_range(100..5000))).await,
            _ => {
                tokio::time::sleep(Duration::from_millis(random.random_range(10..80))).await;
                continue;
            }
        }
        life.abort();
    }
    Vec::new()
}

async fn one(world: &World, access: &Access, id: i64, keys: u32, fate: u32) -> Result<(), tonic::Status> {
    let mut leases = access.leases();
    let asked = Instant::now();
    world.leases.asked(id);
    leases.lease_grant(LeaseGrantRequest { id, ttl: TTL }).await?;
    world.leases.answered(id, asked);
    for key in 0..keys {
        let put = PutRequest {
            key: format!("l/{id}/{key}").into(),
            value: "leased".into(),
            lease: id,
            ..Default::default()
        };
        access.kv().put(put).await?;
    }
    match fate {
        2 => {
            world.leases.revoked(id);
            leases.lease_revoke(LeaseRevokeRequest { id }).await?;
        }
        3 | 4 => {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(700)).await;
                let asked = Instant::now();
                world.leases.asked(id);
                let renewals = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
                let answer = leases
                    .lease_keep_alive(renewals)
                    .await?
                    .into_inner()
                    .message()
                    .await?;
                if answer.is_some_and(|answer| answer.ttl > 0) {
                    world.leases.answered(id, asked);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// No lease, and no key of one, is there long after its time.
async fn look(world: &World) -> Result<(usize, usize), tonic::Status> {
    let all = world.access.leases().lease_leases(LeaseLeasesRequest {}).await?;
    let ids: Vec<i64> = all.into_inner().leases.iter().map(|lease| lease.id).collect();
    assert_eq!(
        world.leases.overdue(ids.iter().copied()),
        Vec::<i64>::new(),
        "leases too old"
    );
    let range = KeyRange::prefix(b"l/");
    let request = RangeRequest {
        key: range.start,
        range_end: range.end.unwrap_or_default(),
        keys_only: true,
        ..Default::default()
    };
    let found = world.access.kv().range(request).await?.into_inner().kvs;
    let of_keys = found.iter().map(|kv| of_key(&kv.key).unwrap());
    assert_eq!(
        world.leases.overdue(of_keys),
        Vec::<i64>::new(),
        "keys of leases too old"
    );
    Ok((ids.len(), found.len()))
}

/// After the load nothing is renewed, so all of them end.
pub(crate) async fn wait_until_gone(world: &World) {
    let waiting = async {
        while look(world).await.unwrap() != (0, 0) {
            pause().await;
        }
    };
    crate::within("all leases to run out", Duration::from_mins(1), waiting).await;
}
