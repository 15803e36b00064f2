//! Who is concerned by a change, and the buffers between the store and the clients.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::intervals::IntervalMap;
use crate::mvcc::{Event, KeyRange, Revision, Version};

/// A watch within its stream.
pub type WatchId = i64;

/// Bytes of events a stream may hold for a client that does not read. What comes on top is read from the store later.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Counted for an event beside its key and values.
const EVENT_OVERHEAD: usize = 96;

/// The buffer between the hub and one client.
#[derive(Debug, Default)]
pub struct Stream {
    buffer: Mutex<Buffer>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    events: Vec<(WatchId, Arc<Event>)>,
    bytes: usize,
    /// Watches that are no longer live, with the first revision they missed.
    missed: BTreeMap<WatchId, Revision>,
}

/// What a stream had buffered.
#[derive(Debug, Default)]
pub struct Drained {
    /// Events in order, each with the watch it is for. A revision is always whole.
    pub events: Vec<(WatchId, Arc<Event>)>,
    /// Watches that have to read from the store from this revision on, once their events above are delivered.
    pub missed: BTreeMap<WatchId, Revision>,
}

impl Stream {
    /// Takes everything out.
    pub fn drain(&self) -> Drained {
        let mut buffer = self.buffer.lock();
        buffer.bytes = 0;
        Drained {
            events: std::mem::take(&mut buffer.events),
            missed: std::mem::take(&mut buffer.missed),
        }
    }

    /// Throws away what is buffered for a watch that has left.
    pub(super) fn forget(&self, id: WatchId) {
        let mut buffer = self.buffer.lock();
        buffer.events.retain(|(other, _)| *other != id);
        buffer.missed.remove(&id);
        buffer.bytes = buffer.events.iter().map(|(_, event)| event_bytes(event)).sum();
    }

    /// Returns when something has been buffered since the last return.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

/// A live watch.
#[derive(Debug)]
struct Live {
    stream: Arc<Stream>,
    id: WatchId,
    range: KeyRange,
    /// Earlier revisions are not for it: it has them already, or starts later.
    from: Revision,
}

/// All live watches.
#[derive(Debug)]
pub struct Hub {
    index: Mutex<Index>,
    /// Bytes of events one stream may hold.
    buffer_max: usize,
    /// Watches that read from the store to catch up, of all sessions.
    behind: AtomicUsize,
    /// Whose turn it is to do so.
    turn: Semaphore,
}

/// Watches of the same keys by their stream's address and their id, so that a hundred thousand can leave or fall behind at
/// once. The order among them does not show: a session sorts what it tells.
type Lives = HashMap<(usize, WatchId), Arc<Live>>;

fn place(stream: &Arc<Stream>, id: WatchId) -> (usize, WatchId) {
    (Arc::as_ptr(stream).addr(), id)
}

#[derive(Debug)]
struct Index {
    /// Watches of single keys: one look-up however many there are.
    keys: HashMap<Bytes, Lives>,
    ranges: IntervalMap<Lives>,
    /// Everything up to here has been handed to the streams.
    revision: Revision,
    watches: usize,
}

/// What one stream gets in one publication.
type Batch = Vec<(Arc<Live>, Arc<Event>)>;

impl Hub {
    /// A hub without watches; `revision` is the store's.
    pub fn new(revision: Revision) -> Hub {
        Hub::with_buffer(revision, BUFFER_BYTES_MAX)
    }

    /// The same with streams that hold at most `buffer_max` bytes of events each.
    pub fn with_buffer(revision: Revision, buffer_max: usize) -> Hub {
        let index = Index {
            keys: HashMap::new(),
            ranges: IntervalMap::default(),
            revision,
            watches: 0,
        };
        Hub {
            index: Mutex::new(index),
            buffer_max,
            behind: AtomicUsize::new(0),
            turn: Semaphore::new(1),
        }
    }

    /// Waits for the turn to read the past from the store, which lasts until what is returned is dropped. First come, first
    /// served: clients that have much to catch up with wait for each other, not everybody else for them.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turn.acquire().await.ok()
    }

    /// Everything up to this revision that concerns a live watch is in its stream.
    pub fn revision(&self) -> Revision {
        self.index.lock().revision
    }

    /// Number of live watches.
    pub fn len(&self) -> usize {
        self.index.lock().watches
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of watches that are not live but read from the store.
    pub fn behind(&self) -> usize {
        self.behind.load(Ordering::Relaxed)
    }

    /// Counts watches that have fallen behind.
    pub(super) fn count_behind(&self, watches: usize) {
        self.behind.fetch_add(watches, Ordering::Relaxed);
    }

    /// Counts watches that are behind no longer.
    pub(super) fn uncount_behind(&self, watches: usize) {
        self.behind.fetch_sub(watches, Ordering::Relaxed);
    }

    /// Makes a watch live from revision `from` on. False if `from` has passed: read it from the store and try again.
    pub fn join(&self, stream: &Arc<Stream>, id: WatchId, range: &KeyRange, from: Revision) -> bool {
        let mut index = self.index.lock();
        if index.revision >= from {
            return false;
        }
        let live = Arc::new(Live {
            stream: stream.clone(),
            id,
            range: range.clone(),
            from,
        });
        let place = place(stream, id);
        let replaced = match range.as_single() {
            Some(key) => index.keys.entry(key.clone()).or_default().insert(place, live),
            None => {
                if let Some(watches) = index.ranges.get_mut(range) {
                    watches.insert(place, live)
                } else {
                    index.ranges.insert(range.clone(), Lives::from([(place, live)]));
                    None
                }
            }
        };
        index.watches += usize::from(replaced.is_none());
        true
    }

    /// Ends a live watch. Events already buffered stay in the stream. Nothing happens if it is not live.
    pub fn leave(&self, stream: &Arc<Stream>, id: WatchId, range: &KeyRange) {
        self.index.lock().remove(stream, id, range);
    }

    /// Hands `events`, whole revisions in order up to `revision`, to the streams they concern.
    pub fn publish(&self, events: Vec<Event>, revision: Revision) {
        let mut index = self.index.lock();
        let mut batches: HashMap<*const Stream, Batch> = HashMap::new();
        if index.watches > 0 {
            for event in events {
                index.distribute(event, &mut batches);
            }
        }
        for batch in batches.into_values() {
            for lost in deliver(batch, self.buffer_max) {
                // No longer live; its session makes it so again when it has caught up.
                index.remove(&lost.stream, lost.id, &lost.range);
            }
        }
        index.revision = index.revision.max(revision);
    }
}

impl Hub {
    /// The whole state was replaced, and is at `revision` now: no live watch was told what happened on the way, so all of them have to
    /// read it from the store.
    pub fn leap(&self, revision: Revision) {
        let mut index = self.index.lock();
        let first_missed = index.revision + 1;
        let singles = std::mem::take(&mut index.keys).into_values();
        let ranges = std::mem::take(&mut index.ranges).into_values();
        for live in singles.chain(ranges).flat_map(Lives::into_values) {
            let mut buffer = live.stream.buffer.lock();
            buffer.missed.insert(live.id, first_missed.max(live.from));
            drop(buffer);
            live.stream.filled.notify_one();
        }
        index.watches = 0;
        index.revision = revision;
    }
}

impl Index {
    fn distribute(&self, event: Event, batches: &mut HashMap<*const Stream, Batch>) {
        let event = Arc::new(event);
        let mut give = |live: &Arc<Live>| {
            if live.from <= event.revision {
                batches
                    .entry(Arc::as_ptr(&live.stream))
                    .or_default()
                    .push((live.clone(), event.clone()));
            }
        };
        let single = self.keys.get(&event.key);
        single.into_iter().flat_map(Lives::values).for_each(&mut give);
        self.ranges
            .containing(&event.key, &mut |watches| watches.values().for_each(&mut give));
    }

    fn remove(&mut self, stream: &Arc<Stream>, id: WatchId, range: &KeyRange) {
        let watches = match range.as_single() {
            Some(key) => self.keys.get_mut(key),
            None => self.ranges.get_mut(range),
        };
        let Some(watches) = watches else { return };
        if watches.remove(&place(stream, id)).is_none() {
            return;
        }
        let empty = watches.is_empty();
        self.watches -= 1;
        if empty {
            match range.as_single() {
                Some(key) => drop(self.keys.remove(key)),
                None => drop(self.ranges.remove(range)),
            }
        }
    }
}

/// Puts a batch, all for one stream, into its buffer. Returns the watches that no longer fit.
fn deliver(batch: Batch, buffer_max: usize) -> Vec<Arc<Live>> {
    let Some(stream) = batch.first().map(|(live, _)| live.stream.clone()) else {
        return Vec::new();
    };
    let mut lost = Vec::new();
    let mut buffer = stream.buffer.lock();
    let before = buffer.events.len();
    for (live, event) in batch {
        if buffer.missed.contains_key(&live.id) {
            continue;
        }
        let bytes = event_bytes(&event);
        if buffer.bytes + bytes > buffer_max {
            buffer.missed.insert(live.id, event.revision);
            lost.push(live);
        } else {
            buffer.bytes += bytes;
            buffer.events.push((live.id, event));
        }
    }
    if !lost.is_empty() {
        // A revision comes whole or later. One pass for all, and only over this batch: it has all of its revisions.
        let Buffer { events, missed, .. } = &mut *buffer;
        let batch = events.split_off(before);
        let cut = |(id, event): &(WatchId, Arc<Event>)| missed.get(id) == Some(&event.revision);
        events.extend(batch.into_iter().filter(|event| !cut(event)));
        buffer.bytes = buffer.events.iter().map(|(_, event)| event_bytes(event)).sum();
    }
    drop(buffer);
    stream.filled.notify_one();
    lost
}

/// What an event counts in a buffer.
pub(super) fn event_bytes(event: &Event) -> usize {
    let value = |version: &Option<Version>| version.as_ref().map_or(0, Version::value_len);
    event.key.len() + value(&event.version) + value(&event.previous) + EVENT_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: Revision, len: usize) -> Event {
        let value = Some(Bytes::from(vec![b'v'; len]));
        let version = Version {
            created: revision,
            modified: revision,
            version: 1,
            lease: 0,
            value,
        };
        Event {
            revision,
            key: Bytes::copy_from_slice(key.as_bytes()),
            version: Some(version),
            previous: None,
        }
    }

    fn received(stream: &Stream) -> Vec<(WatchId, Revision)> {
        stream
            .drain()
            .events
            .iter()
            .map(|(id, event)| (*id, event.revision))
            .collect()
    }

    #[test]
    fn a_watch_gets_what_concerns_it_from_its_revision_on() {
        let hub = Hub::new(10);
        let stream = Arc::new(Stream::default());
        let (key, prefix) = (KeyRange::single(Bytes::from_static(b"a")), KeyRange::prefix(b"a"));
        assert!(!hub.join(&stream, 0, &key, 10));
        assert!(hub.join(&stream, 0, &key, 11));
        assert!(hub.join(&stream, 1, &prefix, 13));
        hub.publish(vec![put("a", 11, 1), put("ab", 12, 1)], 12);
        assert_eq!(received(&stream), [(0, 11)]);
        hub.publish(vec![put("a", 13, 1), put("ab", 13, 1), put("b", 13, 1)], 13);
        assert_eq!(received(&stream), [(0, 13), (1, 13), (1, 13)]);
        hub.leave(&stream, 0, &key);
        hub.leave(&stream, 1, &prefix);
        hub.publish(vec![put("a", 14, 1)], 14);
        assert!(received(&stream).is_empty() && hub.is_empty());
    }

    /// With a look through all of the others for each of them, this would take minutes.
    #[test]
    fn a_hundred_thousand_watches_fall_behind_and_leave_at_once() {
        let hub = Hub::new(1);
        let stream = Arc::new(Stream::default());
        let key = KeyRange::single(Bytes::from_static(b"a"));
        let count = 200_000;
        for id in 0..count {
            assert!(hub.join(&stream, id, &key, 2));
        }
        hub.publish(vec![put("a", 2, 100)], 2);
        let drained = stream.drain();
        let mut told: Vec<WatchId> = drained.events.iter().map(|(id, _)| *id).collect();
        told.extend(drained.missed.keys());
        told.sort_unstable();
        assert_eq!(told, (0..count).collect::<Vec<_>>());
        assert_eq!(hub.len(), drained.events.len());
        assert!(hub.len() > 10_000 && drained.missed.len() > 100_000);
        for id in 0..count {
            hub.leave(&stream, id, &key);
        }
        assert!(hub.is_empty());
    }

    #[test]
    fn a_full_buffer_turns_a_watch_into_one_that_catches_up() {
        let hub = Hub::new(1);
        let stream = Arc::new(Stream::default());
        let all = KeyRange {
            start: Bytes::new(),
            end: None,
        };
        assert!(hub.join(&stream, 7, &all, 2));
        let big = BUFFER_BYTES_MAX / 2;
        hub.publish(vec![put("a", 2, big)], 2);
        hub.publish(vec![put("a", 3, 1), put("b", 3, big), put("c", 3, big)], 3);
        hub.publish(vec![put("a", 4, 1)], 4);
        let drained = stream.drain();
        assert_eq!(
            drained
                .events
                .iter()
                .map(|(_, event)| event.revision)
                .collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(drained.missed, BTreeMap::from([(7, 3)]));
        assert!(hub.is_empty());
    }
}
