//! Watches: some from beginning to end, fast and slow, and many that come late and leave without a word.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chainfire::mvcc::KeyRange;
use chainfire::wire::etcdserverpb::watch_create_request::FilterType;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use chainfire::wire::mvccpb::Event;
use chainfire::wire::mvccpb::event::EventType;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::access::{expected, pause};
use crate::history::{Promise, chain, digest};
use crate::{World, count, within};

/// Longest silence on a watch that asks for progress.
const SILENCE: Duration = Duration::from_mins(2);

/// Which revisions the watches still need, and the last one there will be.
#[derive(Default)]
pub(crate) struct Needed {
    next: Mutex<BTreeMap<u64, i64>>,
    numbers: AtomicU64,
    end: AtomicI64,
}

impl Needed {
    /// Below this nobody needs anything.
    pub(crate) fn lowest(&self) -> i64 {
        self.next.lock().unwrap().values().copied().min().unwrap_or(0)
    }

    /// A watch that needs everything from the revision on that is chosen, given the lowest it may be.
    fn join(&self, choose: impl FnOnce(i64) -> i64) -> (u64, i64) {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let mut all = self.next.lock().unwrap();
        let lowest = all.values().copied().min().unwrap_or(0);
        let start = choose(lowest);
        all.insert(number, start);
        (number, start)
    }

    fn at(&self, number: u64, next: i64) {
        self.next.lock().unwrap().insert(number, next);
    }

    fn leave(&self, number: u64) {
        self.next.lock().unwrap().remove(&number);
    }

    /// No change comes after `revision`.
    pub(crate) fn end_at(&self, revision: i64) {
        self.end.store(revision, Ordering::SeqCst);
    }
}

/// What a watch asks for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) range: KeyRange,
    pub(crate) prev_kv: bool,
    progress: bool,
    fragment: bool,
    deletes: bool,
    /// Waits this long after each reply.
    slow: Option<Duration>,
}

impl Wanted {
    pub(crate) fn all(range: KeyRange) -> Wanted {
        Wanted {
            range,
            prev_kv: false,
            progress: false,
            fragment: false,
            deletes: true,
            slow: None,
        }
    }

    pub(crate) fn wants(&self, key: &[u8], deleted: bool) -> bool {
        self.range.contains(key) && (self.deletes || !deleted)
    }
}

/// A watch and what it saw.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) wanted: Wanted,
    pub(crate) start: i64,
    /// The first revision it has not seen to the end.
    pub(crate) next: i64,
    pub(crate) count: usize,
    pub(crate) chain: u64,
    /// The same with the part of a revision that has come in fragments.
    partly: (usize, u64),
}

impl Follower {
    pub(crate) fn new(start: i64, wanted: Wanted) -> Follower {
        Follower {
            wanted,
            start,
            next: start,
            count: 0,
            chain: 0,
            partly: (0, 0),
        }
    }

    /// Those that stay from the beginning to the end.
    pub(crate) fn start_all(world: &Arc<World>, begin: i64, seed: u64) -> Vec<JoinHandle<Follower>> {
        let mut random = StdRng::seed_from_u64(seed ^ 1);
        (0..24)
            .map(|_| {
                let mut follower = Follower::new(begin, random_wanted(&mut random));
                let world = world.clone();
                tokio::spawn(async move {
                    follower.follow(&world, &mut |_| {}).await;
                    follower
                })
            })
            .collect()
    }

    /// Watches until the end is known and seen, however often it is turned away meanwhile.
    pub(crate) async fn follow(&mut self, world: &World, each: &mut (dyn FnMut(&Event) + Send)) {
        let (number, _) = world.needed.join(|_| self.next);
        while !self.look(world, number, usize::MAX, each).await {
            pause().await;
        }
        world.needed.leave(number);
    }

    /// Watches on one stream, for so many replies at most. True if everything has been seen, or enough.
    async fn look(
        &mut self,
        world: &World,
        number: u64,
        replies: usize,
        each: &mut (dyn FnMut(&Event) + Send),
    ) -> bool {
        let (sender, receiver) = mpsc::channel(4);
        let union = RequestUnion::CreateRequest(self.request());
        sender.send(request(union)).await.unwrap();
        let access = world.access.own().await;
        let mut stream = match access.watch().watch(ReceiverStream::new(receiver)).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => {
                expected(&status);
                return false;
            }
        };
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        for _ in 0..replies {
            let reply = loop {
                tokio::select! {
                    reply = within("a reply to a watch", SILENCE, stream.message()) => break reply,
                    _ = ticks.tick() => {
                        // At the end nothing else would tell that there is nothing more.
                        let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                        let _ = sender.try_send(request(progress));
                    }
                }
            };
            let reply = match reply {
                Ok(Some(reply)) => reply,
                Ok(None) => panic!("a stream has ended: {self:?}"),
                Err(status) => {
                    expected(&status);
                    return false;
                }
            };
            if reply.canceled {
                assert_eq!(reply.compact_revision, 0, "{self:?}");
                assert!(
                    reply.cancel_reason.contains("permission denied")
                        || reply.cancel_reason.contains("user name is empty")
                        || reply.cancel_reason.contains("invalid auth token")
                        || reply.cancel_reason.contains("revision of auth store is old"),
                    "{reply:?}"
                );
                return false;
            }
            self.take(&reply, each);
            world.needed.at(number, self.next);
            let end = world.needed.end.load(Ordering::SeqCst);
            if end > 0 && self.next > end {
                return true;
            }
            if let (Some(slow), 0) = (self.wanted.slow, end) {
                tokio::time::sleep(slow).await;
            }
        }
        true
    }

    fn request(&self) -> WatchCreateRequest {
        let filters = if self.wanted.deletes {
            vec![]
        } else {
            vec![FilterType::Nodelete as i32]
        };
        let range = &self.wanted.range;
        WatchCreateRequest {
            key: range.start.clone(),
            range_end: match (&range.end, range.as_single()) {
                (_, Some(_)) => Bytes::new(),
                (Some(end), None) => end.clone(),
                (None, None) => Bytes::from_static(b"\0"),
            },
            start_revision: self.next,
            progress_notify: self.wanted.progress,
            filters,
            prev_kv: self.wanted.prev_kv,
            fragment: self.wanted.fragment,
            ..Default::default()
        }
    }

    fn take(&mut self, reply: &WatchResponse, each: &mut (dyn FnMut(&Event) + Send)) {
        let mut last = self.next;
        for event in &reply.events {
            let kv = event.kv.as_ref().unwrap();
            assert!(
                kv.mod_revision >= last,
                "{event:?} came again or too late: {self:?}"
            );
            last = kv.mod_revision;
            let value = (event.r#type() == EventType::Put).then(|| digest(&kv.value));
            assert!(self.wanted.wants(&kv.key, value.is_none()), "{event:?}: {self:?}");
            if let (Some(previous), true) = (&event.prev_kv, value.is_some()) {
                assert!(
                    self.wanted.prev_kv && previous.version + 1 == kv.version,
                    "{event:?}"
                );
            }
            self.partly = (
                self.partly.0 + 1,
                chain(self.partly.1, kv.mod_revision, &kv.key, value),
            );
            each(event);
        }
        if reply.fragment {
            return;
        }
        (self.count, self.chain) = self.partly;
        if !reply.events.is_empty() {
            self.next = last + 1;
        } else if !reply.created {
            // Progress: everything up to this revision has been told.
            let told = reply.header.as_ref().unwrap().revision;
            self.next = self.next.max(told + 1);
        }
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

fn random_wanted(random: &mut StdRng) -> Wanted {
    let range = match random.random_range(0..6) {
        0 => KeyRange::new(Bytes::from_static(b"\0"), &Bytes::from_static(b"\0")),
        1 => KeyRange::prefix(b"w/"),
        2 => KeyRange::prefix(b"l/"),
        3 => KeyRange::new(Bytes::from_static(b"w/3"), &Bytes::from_static(b"w/6/k2")),
        n => KeyRange::single(Bytes::from(format!("w/{n}/k{}", random.random_range(0..20)))),
    };
    let slow = random
        .random_bool(0.3)
        .then(|| Duration::from_millis(random.random_range(10..1000)));
    Wanted {
        prev_kv: random.random_bool(0.5),
        progress: random.random_bool(0.5),
        fragment: random.random_bool(0.3),
        deletes: random.random_bool(0.8),
        slow,
        ..Wanted::all(range)
    }
}

/// Those that start somewhere in the past, see some and are cut off.
pub(crate) fn start_short_ones(world: &Arc<World>, seed: u64) -> Vec<JoinHandle<Vec<Promise>>> {
    (0..4)
        .map(|number| {
            let world = world.clone();
            let mut random = StdRng::seed_from_u64(seed ^ (100 + number));
            tokio::spawn(async move {
                while !world.is_done() {
                    let newest = world.access.revision().await;
                    let (watch, start) = world
                        .needed
                        .join(|lowest| random.random_range(lowest..=newest.max(lowest)));
                    let mut follower = Follower::new(start, random_wanted(&mut random));
                    let replies = random.random_range(1..30);
                    let mut ignore = |_: &Event| {};
                    let look = follower.look(&world, watch, replies, &mut ignore);
                    let limit = Duration::from_millis(random.random_range(1..3000));
                    // A time limit here is a client that leaves in the middle.
                    let _ = tokio::time::timeout(limit, look).await;
                    count(&world.counts.short_watches);
                    world.needed.leave(watch);
                    world.short.lock().unwrap().push(follower);
                }
                Vec::new()
            })
        })
        .collect()
}
