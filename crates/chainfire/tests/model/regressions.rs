//! Sequences that once failed, as short as they got, and etcd's answers where the specification does not say.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use chainfire::error::Error;
use chainfire::mvcc::{Group, family};
use chainfire::state_machine::Reply;
use chainfire::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use chainfire::wire::etcdserverpb::request_op::Request as Operation;
use chainfire::wire::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use chainfire::wire::logpb::command::Request;
use store::Store;

use crate::agreement::{agree, agree_when_swept};
use crate::machine::Member;
use crate::reference::Reference;

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: Bytes::from(key),
        value: Bytes::from_static(b"same"),
        ..Default::default()
    }
}

fn delete(key: &'static str) -> Request {
    Request::DeleteRange(DeleteRangeRequest {
        key: Bytes::from(key),
        ..Default::default()
    })
}

fn compact(revision: i64) -> Request {
    Request::Compaction(CompactionRequest {
        revision,
        physical: false,
    })
}

fn range(key: &'static str, revision: i64) -> Operation {
    Operation::RequestRange(RangeRequest {
        key: Bytes::from(key),
        revision,
        ..Default::default()
    })
}

fn txn(operations: Vec<Operation>) -> TxnRequest {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        success: operations.into_iter().map(operation).collect(),
        ..Default::default()
    }
}

fn missing_lease(key: &'static str) -> PutRequest {
    PutRequest {
        lease: 77,
        ..put(key)
    }
}

/// A member and a model that have both done `requests`.
struct Pair {
    member: Member,
    model: Reference,
    _directory: tempfile::TempDir,
}

impl Pair {
    fn new(requests: &[Request]) -> Pair {
        let directory = tempfile::tempdir().expect("a place for temporary files");
        let store =
            Store::open(directory.path(), &store::Options::default(), family::ALL).expect("a new store");
        let mut pair = Pair {
            member: Member::new(Arc::new(store)).expect("an empty store loads"),
            model: Reference::default(),
            _directory: directory,
        };
        for request in requests {
            pair.both(request.clone())
                .expect("nothing is refused while preparing");
        }
        pair
    }

    /// The answer of both, which must be the same.
    fn both(&mut self, request: Request) -> Result<Reply, Error> {
        let (mut outcomes, _) = self
            .member
            .apply(std::slice::from_ref(&request))
            .expect("applying");
        let found = outcomes.pop().expect("one for one").reply;
        assert_eq!(found, self.model.apply(&request), "{request:?}");
        found
    }

    fn agree(&self) {
        agree(&self.member.machine, &self.member.store, &self.model).expect("before the sweep");
        agree_when_swept(&self.member.machine, &self.member.store, &self.model).expect("after the sweep");
    }

    fn sweep(&self) {
        let swept = self.member.machine.mvcc.sweep(&mut || ControlFlow::Continue(()));
        assert_eq!(swept, Ok(true));
    }
}

/// The value under a compacted deletion was shown at the compaction point, and hashed, once the key was written anew.
#[test]
fn deleted_key_written_anew_stays_deleted_at_the_compaction_point() {
    let pair = Pair::new(&[
        Request::Put(put("a")),
        delete("a"),
        compact(3),
        Request::Put(put("a")),
        Request::Put(put("b")),
    ]);
    pair.agree();
}

/// A tombstone that the sweep removes between being read by a group and the group's end is not left behind.
#[test]
fn sweep_during_a_group_leaves_no_tombstone() {
    let mut pair = Pair::new(&[Request::Put(put("a")), delete("a"), compact(3)]);
    let mvcc = &pair.member.machine.mvcc;
    let mut group = Group::new(mvcc);
    group
        .put(Bytes::from_static(b"a"), Bytes::from_static(b"same"), 0)
        .expect("a put");
    group.finish_revision();
    pair.sweep();
    group.commit().expect("a commit");
    assert!(pair.model.apply(&Request::Put(put("a"))).is_ok());
    pair.agree();
}

/// A reading of changes that was cut short did not notice that what it gave was compacted.
#[test]
fn changes_below_the_compaction_point_are_refused_in_pieces_too() {
    let pair = Pair::new(&[
        Request::Put(put("a")),
        Request::Put(put("a")),
        Request::Put(put("a")),
        compact(3),
    ]);
    let mvcc = &pair.member.machine.mvcc;
    assert_eq!(mvcc.changes(2, 4, &|_| true, 0), Err(Error::Compacted));
    pair.sweep();
    assert_eq!(mvcc.changes(2, 4, &|_| true, 0), Err(Error::Compacted));
    let (changes, next) = mvcc
        .changes(3, 4, &|_| true, 0)
        .expect("the point itself is there");
    assert_eq!((changes.len(), next), (1, 4));
}

/// etcd's point is -1 before the first compaction, so one at 0 succeeds, once.
#[test]
fn compaction_at_zero_succeeds_once() {
    let mut pair = Pair::new(&[]);
    assert_eq!(
        pair.member.machine.mvcc.hash_kv(0).map(|hash| hash.compacted),
        Ok(-1)
    );
    assert!(pair.both(compact(0)).is_ok());
    assert_eq!(pair.both(compact(0)), Err(Error::Compacted));
    assert_eq!(pair.both(compact(2)), Err(Error::FutureRevision));
    pair.agree();
}

/// Where several things are wrong, etcd names: in a put the lease before the key, in a transaction the key before the lease and
/// any put before any range.
#[test]
fn first_of_several_faults_is_etcds() {
    let mut pair = Pair::new(&[]);
    let both = PutRequest {
        ignore_value: true,
        value: Bytes::new(),
        ..missing_lease("a")
    };
    assert_eq!(pair.both(Request::Put(both.clone())), Err(Error::LeaseNotFound));
    let within = txn(vec![Operation::RequestPut(both)]);
    assert_eq!(pair.both(Request::Txn(within)), Err(Error::KeyNotFound));
    let later = txn(vec![range("a", 99), Operation::RequestPut(missing_lease("a"))]);
    assert_eq!(pair.both(Request::Txn(later)), Err(Error::LeaseNotFound));
}

/// A negative revision is the present for a range of its own and compacted for one in a transaction.
#[test]
fn negative_revision_is_compacted_in_a_transaction() {
    let mut pair = Pair::new(&[Request::Put(put("a"))]);
    let reads = txn(vec![range("a", -2)]);
    assert_eq!(pair.member.machine.mvcc.read_txn(&reads), Err(Error::Compacted));
    let writes = txn(vec![range("a", -2), Operation::RequestPut(put("b"))]);
    assert_eq!(pair.both(Request::Txn(writes)), Err(Error::Compacted));
}

/// Only the outermost transaction tells a revision.
#[test]
fn nested_transaction_has_an_empty_header() {
    let mut pair = Pair::new(&[]);
    let nested = txn(vec![Operation::RequestPut(put("a")), range("a", 0)]);
    let reply = pair.both(Request::Txn(txn(vec![Operation::RequestTxn(nested)])));
    let Ok(Reply::Txn(reply)) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(reply.header.map(|header| header.revision), Some(2));
}

/// Whatever equals in what is sorted by stays in key order, upwards and downwards.
#[test]
fn equals_stay_in_key_order() {
    let pair = Pair::new(&[
        Request::Put(put("a")),
        Request::Put(put("b")),
        Request::Put(put("c")),
    ]);
    for order in [SortOrder::Ascend, SortOrder::Descend] {
        let request = RangeRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"z"),
            sort_order: order as i32,
            sort_target: SortTarget::Value as i32,
            ..Default::default()
        };
        let (response, _) = pair.member.machine.mvcc.range(&request).expect("a range");
        let keys: Vec<&[u8]> = response.kvs.iter().map(|kv| kv.key.as_ref()).collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
    }
}
