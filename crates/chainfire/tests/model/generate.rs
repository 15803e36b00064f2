//! Requests over a key space so small that they keep meeting each other.
//!
//! Revisions are generated as distances and turned into real ones when it is known what the newest is ([`resolve`]): 0 stays
//! 0, a negative one stays, and a positive one `d` becomes `newest + 3 - d`, so 1 and 2 lie in the future.

use bytes::Bytes;
use chainfire::wire::etcdserverpb::compare::TargetUnion;
use chainfire::wire::etcdserverpb::request_op::Request as Operation;
use chainfire::wire::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseCheckpoint, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use chainfire::wire::logpb::LeaseExpire;
use chainfire::wire::logpb::command::Request;
use proptest::prelude::*;
use proptest::sample::select;

/// Prefixes of each other, and the bytes that escaping and range ends treat specially.
pub(crate) const KEYS: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"a",
    b"a\0",
    b"a\0\0",
    b"a\0\xff",
    b"aa",
    b"ab",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b"\xff",
    b"\xff\xff",
];

pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        60 => select(KEYS).prop_map(Bytes::from_static),
        1 => Just(Bytes::new()),
    ]
}

pub(crate) fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => Just(Bytes::new()),
        2 => Just(Bytes::from_static(b"\0")),
        4 => select(KEYS).prop_map(Bytes::from_static),
        1 => Just(Bytes::from_static(b"c")),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        4 => select(vec![b"v".as_slice(), b"w", b"vv"]).prop_map(Bytes::from_static),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
    ]
}

/// A revision as a distance.
pub(crate) fn distance() -> impl Strategy<Value = i64> {
    prop_oneof![10 => Just(0i64), 10 => 1..14i64, 1 => Just(-2i64)]
}

/// A distance that is a bound: mostly none.
fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0i64), 1 => 3..14i64]
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0i64), 5 => 1..5i64]
}

pub(crate) fn range() -> impl Strategy<Value = RangeRequest> {
    let bounds = (bound(), bound(), bound(), bound());
    let sort = prop_oneof![
        4 => Just((0, 0)),
        8 => (0..3i32, 0..5i32),
        1 => select(vec![(3, 0), (0, 5), (-1, 0)]),
    ];
    let limit = prop_oneof![4 => Just(0i64), 4 => 1..5i64, 1 => Just(-1i64)];
    let switches = (prop::bool::weighted(0.2), prop::bool::weighted(0.15));
    (key(), range_end(), distance(), sort, limit, bounds, switches).prop_map(
        |(key, range_end, revision, (sort_order, sort_target), limit, bounds, (keys_only, count_only))| {
            RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            }
        },
    )
}

fn put_of(value: impl Strategy<Value = Bytes>) -> impl Strategy<Value = PutRequest> {
    let ignore = prop_oneof![
        8 => Just((false, false)),
        1 => Just((true, false)),
        1 => Just((false, true)),
        1 => Just((true, true)),
    ];
    let given = prop::bool::weighted(0.1);
    (key(), value, lease(), any::<bool>(), ignore, given).prop_map(
        |(key, value, lease, prev_kv, (ignore_value, ignore_lease), given)| PutRequest {
            key,
            // Mostly as it should be, so that more than the refusal is seen.
            value: if ignore_value && !given {
                Bytes::new()
            } else {
                value
            },
            lease: if ignore_lease && !given { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = |target: i32| match target {
        0 => (0..4i64).prop_map(TargetUnion::Version).boxed(),
        1 => distance().prop_map(TargetUnion::CreateRevision).boxed(),
        2 => distance().prop_map(TargetUnion::ModRevision).boxed(),
        3 => value().prop_map(TargetUnion::Value).boxed(),
        _ => (0..4i64).prop_map(TargetUnion::Lease).boxed(),
    };
    let sides = (0..5i32, prop::bool::weighted(0.05)).prop_flat_map(move |(target, mismatch)| {
        let union = union(if mismatch { (target + 1) % 5 } else { target });
        (Just(target), prop::option::weighted(0.95, union))
    });
    let end = prop_oneof![3 => Just(Bytes::new()), 2 => range_end()];
    (key(), end, 0..4i32, sides).prop_map(|(key, range_end, result, (target, target_union))| Compare {
        result,
        target,
        key,
        range_end,
        target_union,
    })
}

/// A transaction whose operations come from `operation`.
fn txn_of(operation: BoxedStrategy<Operation>) -> impl Strategy<Value = TxnRequest> {
    let operation = prop::option::weighted(0.995, operation).prop_map(|request| RequestOp { request });
    let branch = prop::collection::vec(operation, 0..4);
    (prop::collection::vec(compare(), 0..3), branch.clone(), branch).prop_map(
        |(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        },
    )
}

fn nested(flat: BoxedStrategy<Operation>) -> impl Strategy<Value = TxnRequest> {
    let inner = txn_of(flat.clone()).prop_map(Operation::RequestTxn);
    let deeper = txn_of(prop_oneof![4 => flat.clone(), 1 => inner].boxed()).prop_map(Operation::RequestTxn);
    txn_of(prop_oneof![5 => flat, 1 => deeper].boxed())
}

/// A transaction that may write.
pub(crate) fn txn() -> impl Strategy<Value = TxnRequest> {
    nested(
        prop_oneof![
            3 => range().prop_map(Operation::RequestRange),
            5 => put_of(value()).prop_map(Operation::RequestPut),
            2 => delete().prop_map(Operation::RequestDeleteRange),
        ]
        .boxed(),
    )
}

/// A transaction that only reads.
pub(crate) fn read_txn() -> impl Strategy<Value = TxnRequest> {
    nested(range().prop_map(Operation::RequestRange).boxed())
}

fn alarm() -> impl Strategy<Value = AlarmRequest> {
    prop_oneof![
        2 => (1..3u64, 1..3i32).prop_map(|(member, alarm)| (1, member, alarm)),
        3 => (1..3u64, 1..3i32).prop_map(|(member, alarm)| (2, member, alarm)),
        4 => Just((2, 0, 0)),
        1 => Just((0, 0, 0)),
    ]
    .prop_map(|(action, member_id, alarm)| AlarmRequest {
        action,
        member_id,
        alarm,
    })
}

/// Anything that goes through the log; puts take their values from `values`.
pub(crate) fn command(values: impl Strategy<Value = Bytes> + 'static) -> impl Strategy<Value = Request> {
    let checkpoint =
        (1..5i64, 1..50i64).prop_map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    prop_oneof![
        30 => put_of(values).prop_map(Request::Put),
        12 => delete().prop_map(Request::DeleteRange),
        16 => txn().prop_map(Request::Txn),
        5 => distance().prop_map(|revision| Request::Compaction(CompactionRequest { revision, physical: false })),
        5 => (1..5i64, 1..100i64).prop_map(|(id, ttl)| Request::LeaseGrant(LeaseGrantRequest { id, ttl })),
        2 => (1..5i64).prop_map(|id| Request::LeaseRevoke(LeaseRevokeRequest { id })),
        2 => prop::collection::vec(1..5i64, 1..4).prop_map(|ids| Request::LeaseExpire(LeaseExpire { ids })),
        1 => prop::collection::vec(checkpoint, 1..3)
            .prop_map(|checkpoints| Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })),
        2 => alarm().prop_map(Request::Alarm),
    ]
}

/// The revision that a distance means.
pub(crate) fn revision_of(distance: i64, newest: i64) -> i64 {
    if distance > 0 {
        (newest + 3 - distance).max(0)
    } else {
        distance
    }
}

/// Turns the distances in a range request into revisions.
pub(crate) fn resolve_range(range: &mut RangeRequest, newest: i64) {
    for field in [
        &mut range.revision,
        &mut range.min_mod_revision,
        &mut range.max_mod_revision,
        &mut range.min_create_revision,
        &mut range.max_create_revision,
    ] {
        *field = revision_of(*field, newest);
    }
}

/// Turns the distances in a transaction into revisions.
pub(crate) fn resolve_txn(txn: &mut TxnRequest, newest: i64) {
    for compare in &mut txn.compare {
        if let Some(TargetUnion::CreateRevision(number) | TargetUnion::ModRevision(number)) =
            &mut compare.target_union
        {
            *number = revision_of(*number, newest);
        }
    }
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut operation.request {
            Some(Operation::RequestRange(range)) => resolve_range(range, newest),
            Some(Operation::RequestTxn(nested)) => resolve_txn(nested, newest),
            _ => {}
        }
    }
}

/// Turns the distances in a command into revisions.
pub(crate) fn resolve(request: &mut Request, newest: i64) {
    match request {
        Request::Txn(txn) => resolve_txn(txn, newest),
        Request::Compaction(compaction) => compaction.revision = revision_of(compaction.revision, newest),
        _ => {}
    }
}
