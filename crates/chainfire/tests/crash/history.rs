//! What the server must have done, as the ledgers of all rounds say, compared with what it says.

use std::collections::{BTreeMap, BTreeSet};

use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest,
    WatchCreateRequest, WatchRequest,
};
use chainfire::wire::mvccpb::event::EventType;
use rand::RngExt;
use rand::rngs::StdRng;
use tonic::transport::Channel;

use crate::ledger::{Changes, Ledger, Operation, State, Stored};

/// The key `\0` with the end `\0` is everything.
const ALL: &[u8] = &[0];

/// What a round brought.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) unknown_that_happened: u64,
}

/// Everything that is known to have happened, revision by revision, compacted or not.
#[derive(Debug, Default)]
pub(crate) struct History {
    changes: BTreeMap<i64, Changes>,
    state: State,
    compacted: i64,
    leases: BTreeSet<i64>,
    hash: Option<HashKvResponse>,
}

/// One revision as a watch tells it: what each key became.
type Told = BTreeMap<String, Option<Stored>>;

impl History {
    /// The newest revision.
    pub(crate) fn revision(&self) -> i64 {
        self.changes.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// The revisions that may be compacted without the next check missing anything.
    pub(crate) fn compactable(&self) -> (i64, i64) {
        // One round in which half of what is there goes is followed by others with little to do.
        (self.compacted + 1, self.revision() - 100)
    }

    /// Checks the server against all rounds, the newest of which is `ledger`.
    pub(crate) async fn check(&mut self, endpoint: &str, mut ledger: Ledger, random: &mut StdRng) -> Counts {
        let channel = Channel::from_shared(endpoint.to_owned())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let hash = self.check_hash(&channel, &ledger).await;
        let newest = hash.hash_revision;
        let promised = ledger
            .changed
            .last_key_value()
            .map_or(0, |(revision, _)| *revision);
        assert!(
            newest >= promised,
            "revision {promised} was promised, the store is at {newest}"
        );
        assert!(
            newest >= self.revision(),
            "the store went back to {newest} from {}",
            self.revision()
        );

        let mut counts = Counts {
            acknowledged: (ledger.changed.len() + ledger.unchanged.len() + ledger.revocations.len()) as u64,
            unknown: ledger.unknown.len() as u64,
            unknown_that_happened: 0,
        };
        let told = watch(&channel, self.compacted + 1, newest).await;
        let known = self.revision();
        self.check_unchanged(known, &ledger);
        for (revision, told) in &told {
            let changes: Changes = told
                .iter()
                .map(|(key, stored)| {
                    (
                        key.clone(),
                        stored.as_ref().map(|stored| (stored.value.clone(), stored.lease)),
                    )
                })
                .collect();
            if *revision <= known {
                assert_eq!(
                    self.changes.get(revision),
                    Some(&changes),
                    "revision {revision} is not what it was"
                );
                continue;
            }
            counts.unknown_that_happened += u64::from(self.attribute(*revision, &changes, &mut ledger));
            apply(&mut self.state, *revision, &changes);
            for (key, stored) in told {
                assert_eq!(
                    self.state.get(key),
                    stored.as_ref(),
                    "{key} at revision {revision}"
                );
            }
            self.changes.insert(*revision, changes);
            self.check_unchanged(*revision, &ledger);
        }
        assert_eq!(self.revision(), newest, "the watch told all there is");
        if let Some((revision, operation)) = ledger.changed.pop_first() {
            panic!("acknowledged at {revision} and lost: {operation:?}");
        }

        assert_eq!(range(&channel, 0).await, self.state, "the present");
        let past = random.random_range(self.compacted.max(1)..=newest);
        assert_eq!(
            range(&channel, past).await,
            self.state_at(past),
            "revision {past}"
        );
        self.check_leases(&channel, &ledger, random).await;
        counts
    }

    /// Finds who wrote `changes`. True if it is one of whom that was not known.
    fn attribute(&self, revision: i64, changes: &Changes, ledger: &mut Ledger) -> bool {
        if let Some(operation) = ledger.changed.remove(&revision) {
            assert_eq!(
                &operation.effect(&self.state),
                changes,
                "revision {revision}: {operation:?}"
            );
            return false;
        }
        let by =
            |(at, operation): &(i64, Operation)| *at == revision && operation.effect(&self.state) == *changes;
        if let Some(place) = ledger.revocations.iter().position(by) {
            ledger.revocations.swap_remove(place);
            return false;
        }
        let by = |operation: &Operation| operation.effect(&self.state) == *changes;
        let place = ledger.unknown.iter().position(by);
        let place = place
            .unwrap_or_else(|| panic!("nobody wrote revision {revision}, or it is there twice: {changes:?}"));
        if let Operation::Revoke { id } = ledger.unknown.swap_remove(place) {
            ledger.revoked.insert(id);
        }
        true
    }

    /// Operations that were answered as changing nothing at this revision.
    fn check_unchanged(&self, revision: i64, ledger: &Ledger) {
        let answers = ledger.unchanged.iter().chain(&ledger.revocations);
        for (_, operation) in answers.filter(|(at, _)| *at == revision) {
            let effect = operation.effect(&self.state);
            assert!(
                effect.is_empty(),
                "{operation:?} changed nothing at {revision}: {effect:?}"
            );
        }
    }

    fn state_at(&self, revision: i64) -> State {
        let mut state = State::new();
        for (revision, changes) in self.changes.range(..=revision) {
            apply(&mut state, *revision, changes);
        }
        state
    }

    /// Two passes agree, and so does the pass before the crash if no compaction came between. Takes over how far the server
    /// has compacted.
    async fn check_hash(&mut self, channel: &Channel, ledger: &Ledger) -> HashKvResponse {
        let mut client = MaintenanceClient::new(channel.clone());
        let mut ask = async |revision| {
            client
                .hash_kv(HashKvRequest { revision })
                .await
                .unwrap()
                .into_inner()
        };
        let hash = ask(0).await;
        let again = ask(hash.hash_revision).await;
        assert_eq!(
            (again.hash, again.compact_revision),
            (hash.hash, hash.compact_revision)
        );
        if let Some(before) = self.hash.take()
            && before.compact_revision == hash.compact_revision
        {
            let now = ask(before.hash_revision).await;
            assert_eq!(
                now.hash, before.hash,
                "hash at revision {} changed",
                before.hash_revision
            );
        }
        let compacted = hash.compact_revision.max(0);
        assert!(
            compacted >= self.compacted.max(ledger.compacted),
            "compaction at {} was promised, the store is at {compacted}",
            ledger.compacted
        );
        self.compacted = compacted;
        self.hash = Some(hash);
        hash
    }

    async fn check_leases(&mut self, channel: &Channel, ledger: &Ledger, random: &mut StdRng) {
        let mut client = LeaseClient::new(channel.clone());
        let answer = client
            .lease_leases(LeaseLeasesRequest {})
            .await
            .unwrap()
            .into_inner();
        let found: BTreeSet<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        self.leases.extend(&ledger.granted);
        self.leases.retain(|id| !ledger.revoked.contains(id));
        for operation in &ledger.unknown {
            match operation {
                Operation::Grant { id } if found.contains(id) => drop(self.leases.insert(*id)),
                Operation::Revoke { id } if !found.contains(id) => drop(self.leases.remove(id)),
                _ => {}
            }
        }
        assert_eq!(found, self.leases, "leases");
        let Some(id) = self
            .leases
            .iter()
            .nth(random.random_range(0..self.leases.len().max(1)))
        else {
            return;
        };
        let request = LeaseTimeToLiveRequest { id: *id, keys: true };
        let answer = client.lease_time_to_live(request).await.unwrap().into_inner();
        let keys: BTreeSet<String> = answer.keys.iter().map(|key| text(key)).collect();
        let attached = self.state.iter().filter(|(_, stored)| stored.lease == *id);
        assert_eq!(
            keys,
            attached.map(|(key, _)| key.clone()).collect(),
            "keys of lease {id}"
        );
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn apply(state: &mut State, revision: i64, changes: &Changes) {
    for (key, change) in changes {
        let Some((value, lease)) = change else {
            assert!(
                state.remove(key).is_some(),
                "{key} was deleted and not there at {revision}"
            );
            continue;
        };
        let before = state.get(key);
        let stored = Stored {
            value: value.clone(),
            created: before.map_or(revision, |before| before.created),
            modified: revision,
            version: before.map_or(0, |before| before.version) + 1,
            lease: *lease,
        };
        state.insert(key.clone(), stored);
    }
}

/// Everything there is at a revision (0: now).
async fn range(channel: &Channel, revision: i64) -> State {
    let request = RangeRequest {
        key: ALL.into(),
        range_end: ALL.into(),
        revision,
        ..Default::default()
    };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let answer = client.range(request).await.unwrap().into_inner();
    assert_eq!(answer.count, answer.kvs.len() as i64);
    answer
        .kvs
        .into_iter()
        .map(|kv| {
            let stored = Stored {
                value: text(&kv.value),
                created: kv.create_revision,
                modified: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
            };
            (text(&kv.key), stored)
        })
        .collect()
}

/// All changes from `from` to `to`, as a watch of everything tells them. Revisions come in order, without a gap.
async fn watch(channel: &Channel, from: i64, to: i64) -> BTreeMap<i64, Told> {
    let mut told: BTreeMap<i64, Told> = BTreeMap::new();
    // Revision 1 is the empty store: nothing is told of it.
    let from = from.max(2);
    if to < from {
        return told;
    }
    let create = WatchCreateRequest {
        key: ALL.into(),
        range_end: ALL.into(),
        start_revision: from,
        ..Default::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    // The stream of requests must stay open, or the server may think that the client is done.
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut replies = client.watch(requests).await.unwrap().into_inner();
    let mut next = from;
    while next <= to {
        let reply = replies.message().await.unwrap().expect("the watch goes on");
        assert!(!reply.canceled, "the watch from {from} was canceled: {reply:?}");
        for event in reply.events {
            let kv = event.kv.unwrap();
            let revision = kv.mod_revision;
            assert!(
                revision == next || revision == next - 1 && told.contains_key(&revision),
                "revision {revision} came when {next} was next"
            );
            let stored = (event.r#type == EventType::Put as i32).then(|| Stored {
                value: text(&kv.value),
                created: kv.create_revision,
                modified: revision,
                version: kv.version,
                lease: kv.lease,
            });
            let before = told.entry(revision).or_default().insert(text(&kv.key), stored);
            assert!(
                before.is_none(),
                "{} changed twice in revision {revision}",
                text(&kv.key)
            );
            next = revision + 1;
        }
    }
    told
}
