//! What clients did and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use chainfire::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chainfire::wire::etcdserverpb::request_op::Request;
use chainfire::wire::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Everything a client may try. Values are unique, so an operation is known by what it left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    /// Deletes the keys that start with this.
    Delete {
        prefix: String,
    },
    /// If `key` has `old` (empty: is not there), writes all of `puts`.
    Swap {
        key: String,
        old: String,
        puts: Vec<(String, String)>,
    },
    Grant {
        id: i64,
    },
    Revoke {
        id: i64,
    },
    Compact {
        revision: i64,
    },
}

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) value: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// The keys as of one revision.
pub(crate) type State = BTreeMap<String, Stored>;

/// What one revision did: the value and lease each key got, or none for a deletion.
pub(crate) type Changes = BTreeMap<String, Option<(String, i64)>>;

/// The first key after all that start with `prefix` (which ends in `/`).
pub(crate) fn prefix_end(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').expect("prefixes end in a slash"))
}

impl Operation {
    /// What it changes when it meets this state.
    pub(crate) fn effect(&self, state: &State) -> Changes {
        match self {
            Operation::Put { key, value, lease } => {
                BTreeMap::from([(key.clone(), Some((value.clone(), *lease)))])
            }
            Operation::Delete { prefix } => state
                .keys()
                .filter(|key| key.starts_with(prefix))
                .map(|key| (key.clone(), None))
                .collect(),
            Operation::Swap { key, old, puts } => {
                if state.get(key).map_or("", |stored| &stored.value) == old {
                    let put = |(key, value): &(String, String)| (key.clone(), Some((value.clone(), 0)));
                    puts.iter().map(put).collect()
                } else {
                    Changes::new()
                }
            }
            Operation::Revoke { id } => state
                .iter()
                .filter(|(_, stored)| stored.lease == *id)
                .map(|(key, _)| (key.clone(), None))
                .collect(),
            Operation::Grant { .. } | Operation::Compact { .. } => Changes::new(),
        }
    }
}

/// Requests as they go over the wire.
pub(crate) fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

pub(crate) fn delete(prefix: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: prefix.to_owned().into(),
        range_end: prefix_end(prefix).into(),
        prev_kv: false,
    }
}

pub(crate) fn swap(key: &str, old: &str, puts: &[(String, String)]) -> TxnRequest {
    let (target, union) = if old.is_empty() {
        (CompareTarget::Version, TargetUnion::Version(0))
    } else {
        (CompareTarget::Value, TargetUnion::Value(old.to_owned().into()))
    };
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Default::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let read = RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: puts
            .iter()
            .map(|(key, value)| operation(Request::RequestPut(put(key, value, 0))))
            .collect(),
        failure: vec![operation(Request::RequestRange(read))],
    }
}

/// The answers of one round.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Operations that were answered and changed something, by the revision in the answer.
    pub(crate) changed: BTreeMap<i64, Operation>,
    /// Operations that were answered and changed nothing, with the revision in the answer.
    pub(crate) unchanged: Vec<(i64, Operation)>,
    /// Revocations that were answered, with the revision in the answer; whether they changed anything was not told.
    pub(crate) revocations: Vec<(i64, Operation)>,
    /// Operations that were sent and never answered.
    pub(crate) unknown: Vec<Operation>,
    pub(crate) granted: BTreeSet<i64>,
    pub(crate) revoked: BTreeSet<i64>,
    /// The highest compaction that was acknowledged.
    pub(crate) compacted: i64,
}

impl Ledger {
    pub(crate) fn changed(&mut self, revision: i64, operation: Operation) {
        if let Some(other) = self.changed.insert(revision, operation.clone()) {
            panic!("revision {revision} was promised twice: for {other:?} and {operation:?}");
        }
    }
}
