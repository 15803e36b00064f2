//! What happened, as one watch of everything saw it, and the judgement of everything else by it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chainfire::mvcc::KeyRange;
use chainfire::wire::mvccpb::event::EventType;
use chainfire::wire::mvccpb::{Event, KeyValue};

use crate::World;
use crate::leases::{self, Ledger};
use crate::watchers::{Follower, Wanted};

/// A write that the server has acknowledged.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) revision: i64,
    pub(crate) key: Bytes,
    /// None for a deletion.
    pub(crate) value: Option<u64>,
}

/// One change, without its value.
#[derive(Debug)]
struct Happened {
    revision: i64,
    key: Bytes,
    value: Option<u64>,
}

/// All changes.
pub(crate) struct History {
    events: Vec<Happened>,
    state: BTreeMap<Bytes, KeyValue>,
    /// When keys of leases were seen to go.
    gone: HashMap<Bytes, Instant>,
}

/// What stands for a value.
pub(crate) fn digest(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What stands for a row of events.
pub(crate) fn chain(before: u64, revision: i64, key: &[u8], value: Option<u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, revision, key, value).hash(&mut hasher);
    hasher.finish()
}

impl History {
    /// Watches everything from revision `begin` on, until the end is known and seen.
    pub(crate) async fn record(world: Arc<World>, begin: i64) -> History {
        let mut history = History {
            events: Vec::new(),
            state: BTreeMap::new(),
            gone: HashMap::new(),
        };
        let everything = KeyRange::new(Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
        let mut wanted = Wanted::all(everything);
        wanted.prev_kv = true;
        Follower::new(begin, wanted)
            .follow(&world, &mut |event| history.add(event, begin))
            .await;
        history
    }

    /// Takes an event, which must follow from those before.
    fn add(&mut self, event: &Event, begin: i64) {
        let kv = event.kv.as_ref().unwrap();
        let revision = kv.mod_revision;
        let last = self.events.last().map_or(begin - 1, |event| event.revision);
        assert!(
            revision == last || revision == last + 1,
            "after revision {last} came {event:?}"
        );
        let before = self.state.get(&kv.key);
        if let (Some(previous), Some(before)) = (&event.prev_kv, before) {
            assert_eq!(previous, before, "{event:?}");
        }
        assert!(event.prev_kv.is_none() || before.is_some(), "{event:?}");
        let value = match event.r#type() {
            EventType::Put => {
                let created = before.map_or(revision, |before| before.create_revision);
                let version = before.map_or(1, |before| before.version + 1);
                assert_eq!((kv.create_revision, kv.version), (created, version), "{event:?}");
                self.state.insert(kv.key.clone(), kv.clone());
                Some(digest(&kv.value))
            }
            EventType::Delete => {
                assert!(before.is_some(), "{event:?} of nothing");
                self.state.remove(&kv.key);
                if leases::of_key(&kv.key).is_some() {
                    self.gone.insert(kv.key.clone(), Instant::now());
                }
                None
            }
        };
        self.events.push(Happened {
            revision,
            key: kv.key.clone(),
            value,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// A watch saw exactly what it wanted of what happened.
    pub(crate) fn judge(&self, follower: &Follower) {
        let first = self
            .events
            .partition_point(|event| event.revision < follower.start);
        let wanted = &follower.wanted;
        let mut row = (0, 0);
        let seen = |event: &&Happened| event.revision < follower.next;
        for event in self.events[first..].iter().take_while(seen) {
            if wanted.wants(&event.key, event.value.is_none()) {
                row = (row.0 + 1, chain(row.1, event.revision, &event.key, event.value));
            }
        }
        assert_eq!((follower.count, follower.chain), row, "{follower:?}");
    }

    /// What was acknowledged has happened, at the revision that was told.
    pub(crate) fn judge_promises(&self, promises: &[Promise]) {
        for promise in promises {
            let first = self
                .events
                .partition_point(|event| event.revision < promise.revision);
            let found = self.events[first..]
                .iter()
                .take_while(|event| event.revision == promise.revision)
                .any(|event| event.key == promise.key && event.value == promise.value);
            assert!(found, "{promise:?} has not happened");
        }
    }

    /// Keys of leases did not go before their time. (That they went in time was looked at meanwhile.)
    pub(crate) fn judge_leases(&self, ledger: &Ledger) {
        for (key, when) in &self.gone {
            let id = leases::of_key(key).unwrap();
            if let Some(earliest) = ledger.earliest_end(id) {
                assert!(
                    *when >= earliest,
                    "{key:?} went {:?} before its lease could end",
                    earliest - *when
                );
            }
        }
    }

    /// The state is what all changes lead to.
    pub(crate) fn judge_state(&self, (found, revision, _): &(Vec<KeyValue>, i64, u32)) {
        assert_eq!(self.events.last().unwrap().revision, *revision);
        assert!(
            self.state.values().eq(found),
            "the state is not what the history leads to"
        );
    }
}
