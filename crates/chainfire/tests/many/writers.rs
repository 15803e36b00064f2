//! Clients that put all the time, to whoever takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chainfire::wire::etcdserverpb::PutRequest;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::{Members, pause, watches};

const WRITERS: u64 = 4;

/// Pause of each between two puts: they are to be there, not to be the load.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Writers {
    world: Arc<World>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct World {
    stop: AtomicBool,
    /// When each put that was acknowledged was asked for, and how long it took.
    puts: Mutex<Vec<(Instant, Duration)>>,
}

impl Writers {
    pub(crate) fn start(members: &Arc<Members>, keys: usize) -> Writers {
        let world = Arc::new(World::default());
        let tasks = (0..WRITERS)
            .map(|number| tokio::spawn(write(world.clone(), members.clone(), keys, number)))
            .collect();
        Writers { world, tasks }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.world.puts.lock().unwrap().len()
    }

    /// When the newest put that was acknowledged was asked for.
    pub(crate) fn last_asked(&self) -> Option<Instant> {
        self.world
            .puts
            .lock()
            .unwrap()
            .iter()
            .map(|(asked, _)| *asked)
            .max()
    }

    /// The longest that a put asked for since then took.
    pub(crate) fn slowest_since(&self, since: Instant) -> Duration {
        let puts = self.world.puts.lock().unwrap();
        let since = puts.iter().filter(|(asked, _)| *asked >= since);
        since.map(|(_, took)| *took).max().unwrap_or_default()
    }

    pub(crate) async fn stop(self) {
        self.world.stop.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn write(world: Arc<World>, members: Arc<Members>, keys: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = KvClient::new(members.connect().await);
    while !world.stop.load(Ordering::Acquire) {
        let put = PutRequest {
            key: watches::key(random.random_range(0..keys)).into(),
            value: "value".into(),
            ..Default::default()
        };
        let asked = Instant::now();
        if client.put(put).await.is_ok() {
            world.puts.lock().unwrap().push((asked, asked.elapsed()));
            tokio::time::sleep(PAUSE).await;
        } else {
            pause().await;
            client = KvClient::new(members.connect().await);
        }
    }
}
