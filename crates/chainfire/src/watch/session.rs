//! The watches of one client: what it asked for, and what it has to be told next.
//!
//! A session is fed with the client's requests and woken when its [`Stream`] fills or time passes; it answers with replies to
//! send, in order. It never waits for the client: whoever sends the replies asks for more only when they are gone, so a
//! client that does not read holds at most one round of replies and one stream buffer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::hub::{Hub, Stream, WatchId, event_bytes};
use super::together::Together;
use crate::error::Error;
use crate::mvcc::{Event, KeyRange, Mvcc, Revision};
use crate::state_machine::StateMachine;
use crate::wire::etcdserverpb::watch_create_request::FilterType;
use crate::wire::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use crate::wire::mvccpb::event::EventType;
use crate::wire::mvccpb::{self, KeyValue};

/// The id etcd uses where no watch is meant.
const NO_WATCH: WatchId = -1;

/// Bytes of events read from the store in one round, for all watches that catch up.
const CATCH_UP_BYTES: usize = 1 << 20;

/// Watches that catch up together in one round, with one reading of the store (etcd's number).
const TOGETHER_MAX: usize = 512;

/// What a session needs to know of its server.
#[derive(Debug, Clone, Copy)]
pub struct SessionSettings {
    /// Template of every reply's header; the revision is filled in.
    pub header: ResponseHeader,
    /// Replies of watches with `fragment` are split above this many bytes.
    pub fragment_bytes: usize,
    /// Milliseconds after which a quiet watch with `progress_notify` is told the revision.
    pub progress_interval_ms: u64,
}

/// Where a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The hub hands it its events.
    Live,
    /// It reads from the store, from this revision on.
    CatchingUp(Revision),
}

#[derive(Debug)]
struct Watch {
    range: KeyRange,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// The first revision it is for.
    start: Revision,
    mode: Mode,
    /// When it was last told anything, in milliseconds; kept up only with `progress_notify`.
    told_ms: u64,
}

/// The watches of one client connection.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Session {
    machine: Arc<StateMachine>,
    hub: Arc<Hub>,
    stream: Arc<Stream>,
    settings: SessionSettings,
    watches: BTreeMap<WatchId, Watch>,
    /// Those that are not live, by the first revision they lack. With the two sets below, a round costs nothing for watches
    /// that have nothing to do.
    behind: BTreeSet<(Revision, WatchId)>,
    /// Those that start after the newest revision, by start.
    future: BTreeSet<(Revision, WatchId)>,
    /// Those that want progress notices, by when they were last told anything.
    quiet: BTreeSet<(u64, WatchId)>,
    next_id: WatchId,
    /// Progress was asked for and not all watches were up to date.
    progress_wanted: bool,
    /// Bytes read from the store in one round.
    catch_up_bytes: usize,
    /// Watches that are to catch up together in the next round.
    together_max: usize,
}

impl Session {
    /// A session without watches.
    pub fn new(machine: Arc<StateMachine>, hub: Arc<Hub>, settings: SessionSettings) -> Session {
        Session {
            machine,
            hub,
            stream: Arc::default(),
            settings,
            watches: BTreeMap::new(),
            behind: BTreeSet::new(),
            future: BTreeSet::new(),
            quiet: BTreeSet::new(),
            next_id: 0,
            progress_wanted: false,
            catch_up_bytes: CATCH_UP_BYTES,
            together_max: TOGETHER_MAX,
        }
    }

    /// The same, reading about `bytes` of events at a time for the watches that catch up.
    #[must_use]
    pub fn with_catch_up_bytes(mut self, bytes: usize) -> Session {
        self.catch_up_bytes = bytes;
        self
    }

    /// What wakes this session.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Number of watches.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    fn mvcc(&self) -> &Mvcc {
        &self.machine.mvcc
    }

    fn reply(&self, revision: Revision, id: WatchId) -> WatchResponse {
        let header = ResponseHeader {
            revision,
            ..self.settings.header
        };
        WatchResponse {
            header: Some(header),
            watch_id: id,
            ..Default::default()
        }
    }

    /// A watch that cannot be: created and canceled in one reply.
    fn refused(&self, reason: &str) -> WatchResponse {
        WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.reply(self.mvcc().revision(), NO_WATCH)
        }
    }

    /// The reply to a watch the client may not have.
    pub fn denied(&self, reason: &str) -> WatchResponse {
        self.refused(reason)
    }

    /// Adds a watch. Its first reply says so, whatever follows.
    pub fn create(&mut self, request: WatchCreateRequest, now_ms: u64) -> Vec<WatchResponse> {
        if request.start_revision < 0 {
            return vec![self.refused(&Error::Compacted.to_string())];
        }
        // An empty key stands for the smallest there is.
        let key = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            request.key
        };
        let range = KeyRange::new(key, &request.range_end);
        if range.is_empty() {
            return vec![self.refused("mvcc: watcher range is empty")];
        }
        let id = match request.watch_id {
            0 => {
                while self.watches.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            // etcd takes it, and then the client cannot tell the watch's replies from those about no watch.
            NO_WATCH => {
                return vec![self.refused("mvcc: watch ID -1 means no watch: choose another, or 0 for any")];
            }
            id if self.watches.contains_key(&id) => {
                return vec![self.refused("mvcc: duplicate watch ID provided on the WatchStream")];
            }
            id => id,
        };
        let revision = self.mvcc().revision();
        let created = WatchResponse {
            created: true,
            ..self.reply(revision, id)
        };
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let start = if request.start_revision == 0 {
            revision + 1
        } else {
            request.start_revision
        };
        let watch = Watch {
            puts: !filtered(FilterType::Noput),
            deletes: !filtered(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            start,
            mode: Mode::CatchingUp(start),
            told_ms: now_ms,
            range,
        };
        if watch.progress_notify {
            self.quiet.insert((now_ms, id));
        }
        self.future.insert((start, id));
        self.watches.insert(id, watch);
        self.fall_behind(id, start);
        self.try_join(id);
        vec![created]
    }

    /// Makes a watch live if it has read everything.
    fn try_join(&mut self, id: WatchId) {
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        if let Mode::CatchingUp(next) = watch.mode
            && self.hub.join(&self.stream, id, &watch.range, next)
        {
            watch.mode = Mode::Live;
            self.no_longer_behind(id, next);
        }
    }

    fn fall_behind(&mut self, id: WatchId, next: Revision) {
        if self.behind.insert((next, id)) {
            self.hub.count_behind(1);
        }
    }

    fn no_longer_behind(&mut self, id: WatchId, next: Revision) {
        if self.behind.remove(&(next, id)) {
            self.hub.uncount_behind(1);
        }
    }

    /// Takes a watch out of everything but the hub.
    fn remove(&mut self, id: WatchId) -> Option<Watch> {
        let watch = self.watches.remove(&id)?;
        if let Mode::CatchingUp(next) = watch.mode {
            self.no_longer_behind(id, next);
        }
        self.future.remove(&(watch.start, id));
        self.quiet.remove(&(watch.told_ms, id));
        Some(watch)
    }

    /// Notes that a watch was told something.
    fn told(&mut self, id: WatchId, now_ms: u64) {
        if let Some(watch) = self.watches.get_mut(&id)
            && watch.progress_notify
        {
            self.quiet.remove(&(watch.told_ms, id));
            self.quiet.insert((now_ms, id));
            watch.told_ms = now_ms;
        }
    }

    /// The watches and the keys they are for.
    pub fn ranges(&self) -> impl Iterator<Item = (WatchId, &KeyRange)> {
        self.watches.iter().map(|(id, watch)| (*id, &watch.range))
    }

    /// Ends a watch. An id that is not there is ignored, as etcd does.
    pub fn cancel(&mut self, id: WatchId) -> Vec<WatchResponse> {
        self.withdraw(id, "").into_iter().collect()
    }

    /// Ends a watch that the client did not want to end, and says why.
    pub fn withdraw(&mut self, id: WatchId, reason: &str) -> Option<WatchResponse> {
        let watch = self.remove(id)?;
        self.hub.leave(&self.stream, id, &watch.range);
        // The id may be used again, and must not inherit anything.
        self.stream.forget(id);
        Some(WatchResponse {
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.reply(self.mvcc().revision(), id)
        })
    }

    /// The client wants to know how far everything is. Answered once it is.
    pub fn request_progress(&mut self) {
        self.progress_wanted = true;
    }

    /// True if some watch reads from the store, so that [`Session::advance`] should be called without waiting.
    pub fn is_catching_up(&self) -> bool {
        !self.behind.is_empty()
    }

    /// When the next progress notice is due, if any watch wants one.
    pub fn next_notice_ms(&self) -> Option<u64> {
        let (told_ms, _) = self.quiet.first()?;
        Some(told_ms + self.settings.progress_interval_ms)
    }

    /// What there is to tell now. Never waits.
    pub fn advance(&mut self, now_ms: u64) -> Vec<WatchResponse> {
        let mut replies = Vec::new();
        // Taken before the buffer is: every change up to it that concerns a live watch is in the buffer by then.
        let settled = self.hub.revision();
        self.deliver_buffered(settled, now_ms, &mut replies);
        self.catch_up(now_ms, &mut replies);
        self.notify_progress(settled, now_ms, &mut replies);
        replies
    }

    fn deliver_buffered(&mut self, settled: Revision, now_ms: u64, replies: &mut Vec<WatchResponse>) {
        let drained = self.stream.drain();
        let mut events: BTreeMap<WatchId, Vec<Arc<Event>>> = BTreeMap::new();
        for (id, event) in drained.events {
            events.entry(id).or_default().push(event);
        }
        for (id, events) in events {
            if let Some(watch) = self.watches.get_mut(&id) {
                let newest = events.last().map_or(settled, |event| event.revision.max(settled));
                let header = ResponseHeader {
                    revision: newest,
                    ..self.settings.header
                };
                let before = replies.len();
                watch.tell(
                    id,
                    header,
                    events.iter().map(AsRef::as_ref),
                    self.settings.fragment_bytes,
                    replies,
                );
                if replies.len() > before {
                    self.told(id, now_ms);
                }
            }
        }
        for (id, revision) in drained.missed {
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.mode = Mode::CatchingUp(revision);
                self.fall_behind(id, revision);
            }
        }
    }

    /// Reads the next piece for those watches that are furthest behind, all of them at once: the store is read once however
    /// many they are, and what a client that does not read can make us hold does not grow with the number of its watches.
    /// Makes those live that have read everything.
    fn catch_up(&mut self, now_ms: u64, replies: &mut Vec<WatchResponse>) {
        let machine = self.machine.clone();
        let mvcc = &machine.mvcc;
        let (compacted, newest) = (mvcc.compacted(), mvcc.revision());
        let mut furthest: Vec<_> = self.behind.iter().take(self.together_max).copied().collect();
        furthest.retain(|(next, id)| {
            if *next < compacted {
                self.give_up(*id, &Error::Compacted, replies);
            }
            *next >= compacted
        });
        let Some((from, _)) = furthest.first().copied() else {
            return;
        };
        let mut together = Together::default();
        for (next, id) in &furthest {
            if let Some(watch) = self.watches.get(id) {
                together.add(*id, &watch.range, *next);
            }
        }
        let (changes, continued) = if from > newest {
            (Vec::new(), from)
        } else {
            match mvcc.changes(from, newest, &|key| together.concerns(key), self.catch_up_bytes) {
                Ok(read) => read,
                // The compaction came while we read. The next round tells whom it concerns.
                Err(Error::Compacted) => return,
                Err(reason) => {
                    for (_, id) in furthest {
                        self.give_up(id, &reason, replies);
                    }
                    return;
                }
            }
        };
        let mut lacking: BTreeMap<WatchId, Vec<&Event>> = BTreeMap::new();
        for change in &changes {
            together.lacking(&change.key, change.revision, &mut |id| {
                lacking.entry(id).or_default().push(change);
            });
        }
        let header = ResponseHeader {
            revision: newest,
            ..self.settings.header
        };
        let mut told_bytes = 0;
        let mut together_max = (self.together_max * 2).min(TOGETHER_MAX);
        for (next, id) in furthest {
            let events = lacking.remove(&id).unwrap_or_default();
            // Whoever finds the round's bytes used up is first in the next one, for which less is read in vain.
            if !events.is_empty() && told_bytes > 0 && told_bytes >= self.catch_up_bytes {
                together_max = (self.together_max / 2).max(1);
                continue;
            }
            let Some(watch) = self.watches.get_mut(&id) else {
                continue;
            };
            told_bytes += events.iter().map(|event| event_bytes(event)).sum::<usize>();
            let before = replies.len();
            watch.tell(
                id,
                header,
                events.into_iter(),
                self.settings.fragment_bytes,
                replies,
            );
            if next < continued {
                watch.mode = Mode::CatchingUp(continued);
                self.behind.remove(&(next, id));
                self.behind.insert((continued, id));
            }
            if replies.len() > before {
                self.told(id, now_ms);
            }
            self.try_join(id);
        }
        self.together_max = together_max;
    }

    /// Ends a watch that cannot catch up.
    fn give_up(&mut self, id: WatchId, reason: &Error, replies: &mut Vec<WatchResponse>) {
        self.remove(id);
        let mvcc = self.mvcc();
        let compact_revision = if *reason == Error::Compacted {
            mvcc.compacted()
        } else {
            0
        };
        replies.push(WatchResponse {
            canceled: true,
            compact_revision,
            cancel_reason: reason.to_string(),
            ..self.reply(mvcc.revision(), id)
        });
    }

    fn notify_progress(&mut self, settled: Revision, now_ms: u64, replies: &mut Vec<WatchResponse>) {
        // A watch that starts in the future must not hear of a revision before its own: its client would resume from there.
        while self
            .future
            .first()
            .is_some_and(|(start, _)| *start <= settled + 1)
        {
            self.future.pop_first();
        }
        if self.progress_wanted && self.behind.is_empty() && self.future.is_empty() {
            self.progress_wanted = false;
            replies.push(self.reply(settled, NO_WATCH));
        }
        let interval = self.settings.progress_interval_ms;
        while let Some((told_ms, id)) = self.quiet.first().copied()
            && now_ms >= told_ms + interval
        {
            let up_to_date = self
                .watches
                .get(&id)
                .is_some_and(|watch| watch.mode == Mode::Live && watch.start <= settled + 1);
            if up_to_date {
                replies.push(self.reply(settled, id));
            }
            // Whoever cannot be told now is asked about again one interval later.
            self.told(id, now_ms);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.uncount_behind(self.behind.len());
        for (id, watch) in &self.watches {
            self.hub.leave(&self.stream, *id, &watch.range);
        }
    }
}

impl Watch {
    /// Puts events into replies: one reply, or several where that would be too much, cut between revisions. Only a watch
    /// with `fragment` gets a revision in pieces.
    fn tell<'e>(
        &self,
        id: WatchId,
        header: ResponseHeader,
        events: impl Iterator<Item = &'e Event>,
        fragment_bytes: usize,
        replies: &mut Vec<WatchResponse>,
    ) {
        let empty = || WatchResponse {
            header: Some(header),
            watch_id: id,
            ..Default::default()
        };
        let mut reply = empty();
        let mut bytes = 0usize;
        let mut last = 0;
        for event in events {
            let wanted = if event.version.is_some() {
                self.puts
            } else {
                self.deletes
            };
            if !wanted {
                continue;
            }
            let message = message(event, self.prev_kv);
            let size = message.encoded_len() + 8;
            if bytes > 0 && bytes + size > fragment_bytes {
                let same_revision = event.revision == last;
                if !same_revision || self.fragment {
                    reply.fragment = same_revision;
                    replies.push(std::mem::replace(&mut reply, empty()));
                    bytes = 0;
                }
            }
            bytes += size;
            last = event.revision;
            reply.events.push(message);
        }
        if !reply.events.is_empty() {
            replies.push(reply);
        }
    }
}

/// An event as clients see it.
fn message(event: &Event, prev_kv: bool) -> mvccpb::Event {
    let (kind, kv) = if let Some(version) = &event.version {
        (EventType::Put, version.clone().key_value(event.key.clone()))
    } else {
        let kv = KeyValue {
            key: event.key.clone(),
            mod_revision: event.revision,
            ..Default::default()
        };
        (EventType::Delete, kv)
    };
    let before = if prev_kv { event.previous.clone() } else { None };
    mvccpb::Event {
        r#type: kind as i32,
        kv: Some(kv),
        prev_kv: before.map(|before| before.key_value(event.key.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{Group, WriteEffects, family};
    use crate::wire::etcdserverpb::PutRequest;

    struct NoLeases;

    impl WriteEffects for NoLeases {
        fn lease_exists(&self, _id: i64) -> bool {
            false
        }
    }

    /// A store whose key `k` was written once, with a value of 1000 bytes.
    fn machine(dir: &std::path::Path) -> Arc<StateMachine> {
        let store = store::Store::open(dir, &store::Options::default(), family::ALL).unwrap();
        let machine = StateMachine::load(Arc::new(store)).unwrap();
        let mut group = Group::new(&machine.mvcc);
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![b'v'; 1000]),
            ..Default::default()
        };
        group.apply_put(put, &NoLeases).unwrap();
        group.applied(1, 1);
        group.commit().unwrap();
        Arc::new(machine)
    }

    const SETTINGS: SessionSettings = SessionSettings {
        header: ResponseHeader {
            cluster_id: 1,
            member_id: 1,
            revision: 0,
            raft_term: 1,
        },
        fragment_bytes: 1 << 20,
        progress_interval_ms: 1000,
    };

    fn from_the_past() -> WatchCreateRequest {
        WatchCreateRequest {
            key: Bytes::from_static(b"k"),
            start_revision: 2,
            ..Default::default()
        }
    }

    #[test]
    fn one_round_reads_as_much_for_many_watches_as_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let hub = Arc::new(Hub::new(machine.mvcc.revision()));
        let mut session = Session::new(machine, hub.clone(), SETTINGS).with_catch_up_bytes(2000);
        for _ in 0..9 {
            session.create(from_the_past(), 0);
        }
        let mut told = Vec::new();
        for _ in 0..5 {
            let replies = session.advance(0);
            assert!(replies.len() <= 2, "{} replies in one round", replies.len());
            told.extend(replies.iter().map(|reply| reply.watch_id));
        }
        told.sort_unstable();
        assert_eq!(told, (0..9).collect::<Vec<_>>());
        assert_eq!((hub.behind(), hub.len()), (0, 9));
    }

    #[test]
    fn the_past_is_read_once_for_all_and_in_pieces_where_it_concerns_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let leases = NoLeases;
        for revision in 3..=1000 {
            let mut group = Group::new(&machine.mvcc);
            let put = PutRequest {
                key: Bytes::from_static(b"another"),
                ..Default::default()
            };
            group.apply_put(put, &leases).unwrap();
            group.applied(revision, 1);
            group.commit().unwrap();
        }
        let hub = Arc::new(Hub::new(machine.mvcc.revision()));
        let mut session = Session::new(machine.clone(), hub.clone(), SETTINGS).with_catch_up_bytes(6400);
        let count = 5 * TOGETHER_MAX;
        for number in 0..count {
            let absent = WatchCreateRequest {
                key: format!("absent {number}").into(),
                start_revision: 2,
                ..Default::default()
            };
            session.create(absent, 0);
        }
        let mut rounds = 0;
        while session.is_catching_up() {
            assert!(session.advance(0).is_empty());
            rounds += 1;
        }
        // A hundred changes or so at a time, for five hundred watches at a time.
        assert!((40..60).contains(&rounds), "{rounds} rounds");
        assert_eq!((hub.behind(), hub.len()), (0, count));
    }

    #[test]
    fn watches_that_read_from_the_store_are_counted_until_they_are_live_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let hub = Arc::new(Hub::new(machine.mvcc.revision()));
        let mut session = Session::new(machine, hub.clone(), SETTINGS);
        session.create(from_the_past(), 0);
        assert_eq!((hub.behind(), hub.len()), (1, 0));
        assert_eq!(session.advance(0).len(), 1);
        assert_eq!((hub.behind(), hub.len()), (0, 1));
        session.create(from_the_past(), 0);
        drop(session);
        assert_eq!((hub.behind(), hub.len()), (0, 0));
    }
}
