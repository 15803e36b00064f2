//! Locks and elections under contention, by clients many of whom leave while they wait or hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chainfire::wire::etcdserverpb::LeaseGrantRequest;
use chainfire::wire::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use chainfire::wire::v3lockpb::{LockRequest, UnlockRequest};
use rand::RngExt;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::access::{Access, expected, pause};
use crate::history::Promise;
use crate::{World, count};

/// Longer than anybody holds on, so that whoever holds has it alone.
const TTL: i64 = 10;

/// A client that waits for longer gives up, and with it everything it asked for.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn start_all(world: &Arc<World>) -> Vec<JoinHandle<Vec<Promise>>> {
    let mut all = Vec::new();
    for _ in 0..2 {
        let (lock, leader) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let name = all.len();
        for _ in 0..4 {
            all.push(tokio::spawn(contend(
                world.clone(),
                format!("lock/{name}"),
                lock.clone(),
                hold,
            )));
            let campaign = contend(world.clone(), format!("election/{name}"), leader.clone(), lead);
            all.push(tokio::spawn(campaign));
        }
        all.push(tokio::spawn(observe(world.clone(), format!("election/{name}"))));
    }
    all
}

/// Tries again and again, each time with a connection that is simply closed at the end.
async fn contend<F>(
    world: Arc<World>,
    name: String,
    held: Arc<AtomicBool>,
    once: fn(Arc<World>, Access, String, Arc<AtomicBool>) -> F,
) -> Vec<Promise>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    while !world.is_done() {
        let access = world.access.own().await;
        let attempt = once(world.clone(), access, name.clone(), held.clone());
        match tokio::time::timeout(PATIENCE, attempt).await {
            Err(_) | Ok(Ok(())) => {}
            Ok(Err(status)) => {
                // The lease has run out while it waited, or authentication came or went.
                let text = status.message();
                if !text.contains("requested lease not found")
                    && !text.contains("session expired")
                    && !text.contains("lease expired")
                {
                    expected(&status);
                }
                pause().await;
            }
        }
    }
    Vec::new()
}

async fn lease(access: &Access) -> Result<i64, Status> {
    let grant = LeaseGrantRequest { id: 0, ttl: TTL };
    Ok(access.leases().lease_grant(grant).await?.into_inner().id)
}

/// Says that somebody holds it, until it goes away, be it with a client that is cut off.
struct Held<'h>(&'h AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Nobody else holds it while this does.
async fn alone(held: &AtomicBool, name: &str) {
    assert!(!held.swap(true, Ordering::SeqCst), "{name} was given to two");
    let _held = Held(held);
    let time = rand::rng().random_range(0..20);
    tokio::time::sleep(Duration::from_millis(time)).await;
}

async fn hold(world: Arc<World>, access: Access, name: String, held: Arc<AtomicBool>) -> Result<(), Status> {
    let lease = lease(&access).await?;
    let request = LockRequest {
        name: name.clone().into(),
        lease,
    };
    let key = access.locks().lock(request).await?.into_inner().key;
    alone(&held, &name).await;
    count(&world.counts.locks);
    // One in ten leaves with the lock, which then ends with its lease.
    if rand::rng().random_bool(0.9) {
        access.locks().unlock(UnlockRequest { key }).await?;
    }
    Ok(())
}

async fn lead(world: Arc<World>, access: Access, name: String, held: Arc<AtomicBool>) -> Result<(), Status> {
    let lease = lease(&access).await?;
    let campaign = CampaignRequest {
        name: name.clone().into(),
        lease,
        value: "first".into(),
    };
    let leader = access.elections().campaign(campaign).await?.into_inner().leader;
    let proclaim = ProclaimRequest {
        leader: leader.clone(),
        value: "second".into(),
    };
    access.elections().proclaim(proclaim).await?;
    alone(&held, &name).await;
    count(&world.counts.campaigns);
    if rand::rng().random_bool(0.9) {
        access.elections().resign(ResignRequest { leader }).await?;
    }
    Ok(())
}

/// Looks on for a while and leaves.
async fn observe(world: Arc<World>, name: String) -> Vec<Promise> {
    while !world.is_done() {
        let access = world.access.own().await;
        let request = LeaderRequest {
            name: name.clone().into(),
        };
        let look = async {
            let mut stream = access.elections().observe(request).await?.into_inner();
            // Leaders come in the order in which they stood, and what each says in the order in which it said it.
            let mut newest = (0, 0);
            while let Some(reply) = stream.message().await? {
                let kv = reply.kv.unwrap();
                let said = (kv.create_revision, kv.mod_revision);
                assert!(said > newest, "{name}: {said:?} after {newest:?}");
                newest = said;
            }
            Ok::<(), Status>(())
        };
        let time = Duration::from_millis(rand::rng().random_range(1..2000));
        if let Ok(Err(status)) = tokio::time::timeout(time, look).await {
            expected(&status);
            pause().await;
        }
    }
    Vec::new()
}
