//! The data semantics of etcd v3 in the plainest form: every key with all it ever was, every event that ever happened.
//!
//! Written from the specification, not from the store: no index, no batch, nothing forgotten. Whatever is asked is answered
//! by looking at everything. A transaction works on a copy of the whole that is thrown away if it fails.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chainfire::error::Error;
use chainfire::state_machine::Reply;
use chainfire::wire::etcdserverpb::alarm_request::AlarmAction;
use chainfire::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use chainfire::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use chainfire::wire::etcdserverpb::request_op::Request as Operation;
use chainfire::wire::etcdserverpb::response_op::Response;
use chainfire::wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, Compare, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use chainfire::wire::logpb::command::Request;
use chainfire::wire::mvccpb::KeyValue;

pub(crate) type Key = Vec<u8>;

/// What a write made of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) revision: i64,
    pub(crate) created: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// `None`: deleted.
    pub(crate) value: Option<Vec<u8>>,
}

impl Written {
    pub(crate) fn key_value(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: self.created,
            mod_revision: self.revision,
            version: self.version,
            value: Bytes::from(self.value.clone().unwrap_or_default()),
            lease: self.lease,
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) revision: i64,
    pub(crate) key: Key,
    /// `None`: deleted.
    pub(crate) now: Option<Written>,
    pub(crate) before: Option<Written>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) ttl: i64,
    pub(crate) remaining: i64,
}

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) revision: i64,
    /// -1 before the first compaction, as etcd has it.
    pub(crate) compacted: i64,
    pub(crate) histories: BTreeMap<Key, Vec<Written>>,
    pub(crate) happened: Vec<Happened>,
    pub(crate) leases: BTreeMap<i64, Granted>,
    pub(crate) alarms: BTreeSet<(u64, i32)>,
    /// Events of the request that is being carried out.
    changing: usize,
}

impl Default for Reference {
    fn default() -> Self {
        Reference {
            revision: 1,
            compacted: -1,
            histories: BTreeMap::new(),
            happened: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            changing: 0,
        }
    }
}

/// The meaning of `key` and `range_end`.
pub(crate) fn in_range(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => start <= key && key < end,
    }
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        revision,
        ..Default::default()
    }
}

/// True for commands of the store itself, which no alarm stops.
pub(crate) fn is_internal(request: &Request) -> bool {
    matches!(request, Request::LeaseExpire(_) | Request::LeaseCheckpoint(_))
}

impl Reference {
    /// The revision that reads and writes of a running request speak of.
    fn seen(&self) -> i64 {
        self.revision + i64::from(self.changing > 0)
    }

    fn live_at(&self, at: i64) -> Vec<(&Key, &Written)> {
        let newest = |history: &'_ Vec<Written>| history.iter().rposition(|written| written.revision <= at);
        self.histories
            .iter()
            .filter_map(|(key, history)| newest(history).map(|index| (key, &history[index])))
            .filter(|(_, written)| written.value.is_some())
            .collect()
    }

    fn live(&self, key: &[u8]) -> Option<Written> {
        let newest = self.histories.get(key)?.last()?;
        newest.value.is_some().then(|| newest.clone())
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>, lease: i64) -> Option<Written> {
        let before = self.live(key);
        let revision = self.revision + 1;
        let now = match (&value, &before) {
            (None, _) => Written {
                revision,
                created: 0,
                version: 0,
                lease: 0,
                value: None,
            },
            (Some(_), before) => Written {
                revision,
                created: before.as_ref().map_or(revision, |before| before.created),
                version: before.as_ref().map_or(1, |before| before.version + 1),
                lease,
                value,
            },
        };
        self.histories.entry(key.to_vec()).or_default().push(now.clone());
        self.happened.push(Happened {
            revision,
            key: key.to_vec(),
            now: now.value.is_some().then_some(now),
            before: before.clone(),
        });
        self.changing += 1;
        before
    }

    fn finish(&mut self) {
        self.revision = self.seen();
        self.changing = 0;
    }

    /// Carries out one command of the log.
    pub(crate) fn apply(&mut self, request: &Request) -> Result<Reply, Error> {
        let mut copy = self.clone();
        let reply = copy.run(request)?;
        copy.finish();
        *self = copy;
        Ok(reply)
    }

    fn run(&mut self, request: &Request) -> Result<Reply, Error> {
        if !is_internal(request) {
            self.alarmed(request)?;
        }
        Ok(match request {
            Request::Put(put) => {
                if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(Error::LeaseNotFound);
                }
                if (put.ignore_value || put.ignore_lease) && self.live(&put.key).is_none() {
                    return Err(Error::KeyNotFound);
                }
                Reply::Put(self.put(put))
            }
            Request::DeleteRange(delete) => Reply::DeleteRange(self.delete(delete)),
            Request::Txn(txn) => {
                let before = self.clone();
                self.may_run(&before, txn)?;
                Reply::Txn(self.txn(&before, txn, true))
            }
            Request::Compaction(compaction) => {
                if compaction.revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                if compaction.revision > self.revision {
                    return Err(Error::FutureRevision);
                }
                self.compacted = compaction.revision;
                Reply::Compaction(CompactionResponse::default())
            }
            Request::LeaseGrant(grant) => {
                if self.leases.contains_key(&grant.id) {
                    return Err(Error::LeaseExists);
                }
                let granted = Granted {
                    ttl: grant.ttl,
                    remaining: 0,
                };
                self.leases.insert(grant.id, granted);
                Reply::LeaseGrant(LeaseGrantResponse {
                    id: grant.id,
                    ttl: grant.ttl,
                    ..Default::default()
                })
            }
            Request::LeaseRevoke(revoke) => {
                if !self.leases.contains_key(&revoke.id) {
                    return Err(Error::LeaseNotFound);
                }
                self.end_lease(revoke.id);
                Reply::LeaseRevoke(LeaseRevokeResponse::default())
            }
            Request::LeaseExpire(expire) => {
                for id in &expire.ids {
                    if self.leases.contains_key(id) {
                        self.end_lease(*id);
                    }
                }
                Reply::Done
            }
            Request::LeaseCheckpoint(checkpoint) => {
                for checkpoint in &checkpoint.checkpoints {
                    if let Some(granted) = self.leases.get_mut(&checkpoint.id) {
                        granted.remaining = checkpoint.remaining_ttl;
                    }
                }
                Reply::Done
            }
            Request::Alarm(alarm) => Reply::Alarm(self.alarm(alarm)),
            other => unreachable!("never generated: {other:?}"),
        })
    }

    fn alarmed(&self, request: &Request) -> Result<(), Error> {
        let raised = |kind: AlarmType| self.alarms.iter().any(|(_, alarm)| *alarm == kind as i32);
        let takes_space = match request {
            Request::Alarm(_) => return Ok(()),
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => {
                any_operation(txn, &|operation| matches!(operation, Operation::RequestPut(_)))
            }
            _ => false,
        };
        if raised(AlarmType::Corrupt) {
            Err(Error::Corrupt)
        } else if raised(AlarmType::Nospace) && takes_space {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    /// All keys of a lease go in one revision of their own, in order.
    fn end_lease(&mut self, id: i64) {
        let attached = self.attached(id);
        for key in attached {
            self.write(&key, None, 0);
        }
        self.leases.remove(&id);
        self.finish();
    }

    /// Keys that hang on a lease.
    pub(crate) fn attached(&self, id: i64) -> Vec<Key> {
        let live = self.live_at(i64::MAX).into_iter();
        live.filter(|(_, written)| written.lease == id)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let named = |(member, alarm): &(u64, i32)| {
            (request.member_id == 0 || request.member_id == *member)
                && (request.alarm == 0 || request.alarm == *alarm)
        };
        let mut named: Vec<(u64, i32)> = self.alarms.iter().copied().filter(named).collect();
        match request.action() {
            AlarmAction::Get => {}
            AlarmAction::Activate if request.alarm == 0 => named.clear(),
            AlarmAction::Activate => {
                named = vec![(request.member_id, request.alarm)];
                self.alarms.insert(named[0]);
            }
            AlarmAction::Deactivate => self.alarms.retain(|alarm| !named.contains(alarm)),
        }
        let alarms = named
            .into_iter()
            .map(|(member_id, alarm)| AlarmMember { member_id, alarm });
        AlarmResponse {
            header: None,
            alarms: alarms.collect(),
        }
    }

    fn put(&mut self, put: &PutRequest) -> PutResponse {
        let old = self.live(&put.key);
        let value = match &old {
            Some(old) if put.ignore_value => old.value.clone(),
            _ => Some(put.value.to_vec()),
        };
        let lease = match &old {
            Some(old) if put.ignore_lease => old.lease,
            _ => put.lease,
        };
        self.write(&put.key, value, lease);
        PutResponse {
            header: Some(header(self.seen())),
            prev_kv: old.filter(|_| put.prev_kv).map(|old| old.key_value(&put.key)),
        }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
        let live = self.live_at(i64::MAX).into_iter();
        let gone: Vec<Key> = live
            .map(|(key, _)| key.clone())
            .filter(|key| in_range(key, &delete.key, &delete.range_end))
            .collect();
        let mut response = DeleteRangeResponse::default();
        for key in gone {
            let before = self.write(&key, None, 0);
            response.deleted += 1;
            if delete.prev_kv {
                response
                    .prev_kvs
                    .extend(before.map(|before| before.key_value(&key)));
            }
        }
        response.header = Some(header(self.seen()));
        response
    }

    /// Answers a range request of its own.
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if request.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(self.list(request))
    }

    /// Answers a transaction that does not write.
    pub(crate) fn read_txn(&self, txn: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut copy = self.clone();
        copy.may_run(self, txn)?;
        Ok(copy.txn(self, txn, true))
    }

    fn list(&self, request: &RangeRequest) -> RangeResponse {
        let at = if request.revision > 0 {
            request.revision
        } else {
            i64::MAX
        };
        let mut found = self.live_at(at);
        found.retain(|(key, _)| in_range(key, &request.key, &request.range_end));
        let count = found.len() as i64;
        if request.count_only {
            return RangeResponse {
                count,
                ..Default::default()
            };
        }
        let at_least = |value: i64, least: i64| least == 0 || value >= least;
        let at_most = |value: i64, most: i64| most == 0 || value <= most;
        found.retain(|(_, written)| {
            at_least(written.revision, request.min_mod_revision)
                && at_most(written.revision, request.max_mod_revision)
                && at_least(written.created, request.min_create_revision)
                && at_most(written.created, request.max_create_revision)
        });
        let compare = |a: &(&Key, &Written), b: &(&Key, &Written)| match request.sort_target() {
            SortTarget::Key => a.0.cmp(b.0),
            SortTarget::Version => a.1.version.cmp(&b.1.version),
            SortTarget::Create => a.1.created.cmp(&b.1.created),
            SortTarget::Mod => a.1.revision.cmp(&b.1.revision),
            SortTarget::Value => a.1.value.cmp(&b.1.value),
        };
        // Equals stay in the order of their keys either way.
        match request.sort_order() {
            SortOrder::Descend => found.sort_by(|a, b| compare(b, a)),
            SortOrder::None | SortOrder::Ascend => found.sort_by(compare),
        }
        let more = request.limit > 0 && found.len() as i64 > request.limit;
        if more {
            found.truncate(request.limit as usize);
        }
        let kvs = found.into_iter().map(|(key, written)| {
            let mut kv = written.key_value(key);
            if request.keys_only {
                kv.value = Bytes::new();
            }
            kv
        });
        RangeResponse {
            kvs: kvs.collect(),
            more,
            count,
            ..Default::default()
        }
    }

    fn succeeds(&self, txn: &TxnRequest) -> bool {
        txn.compare.iter().all(|compare| self.holds(compare))
    }

    /// What is said against the branches that `before` chooses: first all that puts say, then all that ranges say.
    fn may_run(&self, before: &Reference, txn: &TxnRequest) -> Result<(), Error> {
        let mut chosen = Vec::new();
        before.choose(txn, &mut chosen);
        for operation in &chosen {
            if let Operation::RequestPut(put) = operation {
                if (put.ignore_value || put.ignore_lease) && before.live(&put.key).is_none() {
                    return Err(Error::KeyNotFound);
                }
                if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(Error::LeaseNotFound);
                }
            }
        }
        for operation in &chosen {
            if let Operation::RequestRange(range) = operation {
                if range.revision > before.revision {
                    return Err(Error::FutureRevision);
                }
                // Unlike a range of its own, a negative revision is no "now" here.
                if range.revision != 0 && range.revision < before.compacted.max(0) {
                    return Err(Error::Compacted);
                }
            }
        }
        Ok(())
    }

    fn choose(&self, txn: &TxnRequest, chosen: &mut Vec<Operation>) {
        let branch = if self.succeeds(txn) {
            &txn.success
        } else {
            &txn.failure
        };
        for operation in branch.iter().filter_map(|operation| operation.request.clone()) {
            match operation {
                Operation::RequestTxn(nested) => self.choose(&nested, chosen),
                other => chosen.push(other),
            }
        }
    }

    fn txn(&mut self, before: &Reference, txn: &TxnRequest, outermost: bool) -> TxnResponse {
        let succeeded = before.succeeds(txn);
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::new();
        for RequestOp { request } in branch {
            let response = match request.as_ref().expect("checked before") {
                Operation::RequestRange(range) => {
                    let mut response = self.list(range);
                    response.header = Some(header(self.seen()));
                    Response::ResponseRange(response)
                }
                Operation::RequestPut(put) => Response::ResponsePut(self.put(put)),
                Operation::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
                Operation::RequestTxn(nested) => Response::ResponseTxn(self.txn(before, nested, false)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(header(if outermost { self.seen() } else { 0 })),
            succeeded,
            responses,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let live = self.live_at(i64::MAX);
        let mut in_question = live
            .into_iter()
            .filter(|(key, _)| in_range(key, &compare.key, &compare.range_end))
            .peekable();
        if in_question.peek().is_none() {
            let nothing = Written {
                revision: 0,
                created: 0,
                version: 0,
                lease: 0,
                value: None,
            };
            return compare.target() != CompareTarget::Value && judge(compare, &nothing);
        }
        in_question.all(|(_, written)| judge(compare, written))
    }

    /// Versions that a complete sweep leaves, by key and revision.
    pub(crate) fn kept(&self) -> Vec<(&Key, &Written)> {
        let mut kept = Vec::new();
        for (key, history) in &self.histories {
            for (index, written) in history.iter().enumerate() {
                let replaced = history.get(index + 1).map_or(i64::MAX, |next| next.revision);
                let forgotten = written.value.is_none() && written.revision <= self.compacted;
                if replaced > self.compacted && !forgotten {
                    kept.push((key, written));
                }
            }
        }
        kept
    }

    /// Bytes in use after a complete sweep: for each version twice its key, its value, and 48.
    pub(crate) fn bytes_in_use(&self) -> u64 {
        let cost = |(key, written): &(&Key, &Written)| {
            2 * key.len() as u64 + written.value.as_ref().map_or(0, Vec::len) as u64 + 48
        };
        self.kept().iter().map(cost).sum()
    }

    /// The hash of what is kept of revisions up to `at`, laid out as its documentation says.
    pub(crate) fn hash(&self, at: i64) -> u32 {
        let mut bytes = Vec::new();
        for (key, written) in self.kept() {
            if written.revision > at {
                continue;
            }
            let value = written.value.clone().unwrap_or_default();
            bytes.extend_from_slice(&(key.len() as i64).to_be_bytes());
            bytes.extend_from_slice(key);
            for number in [written.created, written.revision, written.version, written.lease] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            bytes.extend_from_slice(&(value.len() as i64).to_be_bytes());
            bytes.extend_from_slice(&value);
        }
        crc32c::crc32c(&bytes)
    }

    /// What can be said against a range request without looking at the data.
    pub(crate) fn check_range(request: &RangeRequest) -> Result<(), Error> {
        check_operation(&Operation::RequestRange(request.clone()), 0, 0)
    }

    /// What can be said against a command without looking at the data.
    pub(crate) fn check(request: &Request, operations_max: usize, bytes_max: usize) -> Result<(), Error> {
        match request {
            Request::Put(put) => check_operation(&Operation::RequestPut(put.clone()), 0, bytes_max),
            Request::DeleteRange(delete) => {
                check_operation(&Operation::RequestDeleteRange(delete.clone()), 0, bytes_max)
            }
            Request::Txn(txn) => {
                check_operation(&Operation::RequestTxn(txn.clone()), operations_max, bytes_max)?;
                if changes_twice(&txn.success) || changes_twice(&txn.failure) {
                    return Err(Error::DuplicateKey);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// True if `wanted` holds for some operation, however deep.
pub(crate) fn any_operation(txn: &TxnRequest, wanted: &dyn Fn(&Operation) -> bool) -> bool {
    let operations = txn.success.iter().chain(&txn.failure);
    operations
        .filter_map(|operation| operation.request.as_ref())
        .any(|operation| match operation {
            Operation::RequestTxn(nested) => any_operation(nested, wanted),
            operation => wanted(operation),
        })
}

fn judge(compare: &Compare, written: &Written) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match compare.target() {
        CompareTarget::Version => written.version.cmp(&match union {
            Some(TargetUnion::Version(number)) => *number,
            _ => 0,
        }),
        CompareTarget::Create => written.created.cmp(&match union {
            Some(TargetUnion::CreateRevision(number)) => *number,
            _ => 0,
        }),
        CompareTarget::Mod => written.revision.cmp(&match union {
            Some(TargetUnion::ModRevision(number)) => *number,
            _ => 0,
        }),
        CompareTarget::Lease => written.lease.cmp(&match union {
            Some(TargetUnion::Lease(number)) => *number,
            _ => 0,
        }),
        CompareTarget::Value => written.value.clone().unwrap_or_default().cmp(&match union {
            Some(TargetUnion::Value(value)) => value.to_vec(),
            _ => Vec::new(),
        }),
    };
    match compare.result() {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

fn check_operation(operation: &Operation, operations_max: usize, bytes_max: usize) -> Result<(), Error> {
    let key_given = |key: &Bytes| {
        if key.is_empty() {
            Err(Error::EmptyKey)
        } else {
            Ok(())
        }
    };
    match operation {
        Operation::RequestRange(range) => {
            key_given(&range.key)?;
            let known = (0..=2).contains(&range.sort_order) && (0..=4).contains(&range.sort_target);
            if known {
                Ok(())
            } else {
                Err(Error::InvalidSortOption)
            }
        }
        Operation::RequestPut(put) => {
            key_given(&put.key)?;
            if put.ignore_value && !put.value.is_empty() {
                return Err(Error::ValueProvided);
            }
            if put.ignore_lease && put.lease != 0 {
                return Err(Error::LeaseProvided);
            }
            if put.key.len() + put.value.len() > bytes_max {
                return Err(Error::RequestTooLarge);
            }
            Ok(())
        }
        Operation::RequestDeleteRange(delete) => key_given(&delete.key),
        Operation::RequestTxn(txn) => {
            let lists = [txn.compare.len(), txn.success.len(), txn.failure.len()];
            let longest = lists.into_iter().max().expect("three of them");
            if longest > operations_max {
                return Err(Error::TooManyOps);
            }
            for compare in &txn.compare {
                key_given(&compare.key)?;
            }
            for operation in txn.success.iter().chain(&txn.failure) {
                match &operation.request {
                    None => return Err(Error::KeyNotFound),
                    Some(operation) => check_operation(operation, operations_max - longest, bytes_max)?,
                }
            }
            Ok(())
        }
    }
}

/// Puts and deleted ranges that an operation may lead to, whichever branches are chosen.
fn may_write(operation: &RequestOp) -> (Vec<Bytes>, Vec<(Bytes, Bytes)>) {
    match &operation.request {
        Some(Operation::RequestPut(put)) => (vec![put.key.clone()], Vec::new()),
        Some(Operation::RequestDeleteRange(delete)) => {
            (Vec::new(), vec![(delete.key.clone(), delete.range_end.clone())])
        }
        Some(Operation::RequestTxn(nested)) => {
            let mut all = (Vec::new(), Vec::new());
            for operation in nested.success.iter().chain(&nested.failure) {
                let (puts, deletes) = may_write(operation);
                all.0.extend(puts);
                all.1.extend(deletes);
            }
            all
        }
        Some(Operation::RequestRange(_)) | None => (Vec::new(), Vec::new()),
    }
}

/// True if two operations of a branch may put one key, or one put what the other deletes.
fn changes_twice(branch: &[RequestOp]) -> bool {
    let inside = branch.iter().any(|operation| match &operation.request {
        Some(Operation::RequestTxn(nested)) => {
            changes_twice(&nested.success) || changes_twice(&nested.failure)
        }
        _ => false,
    });
    let clash = |one: &RequestOp, other: &RequestOp| {
        let (puts, _) = may_write(one);
        let (others, deletes) = may_write(other);
        puts.iter()
            .any(|key| others.contains(key) || deletes.iter().any(|(start, end)| in_range(key, start, end)))
    };
    let pairs = branch.iter().enumerate().flat_map(|(i, one)| {
        branch
            .iter()
            .enumerate()
            .map(move |(j, other)| (i, one, j, other))
    });
    inside
        || pairs
            .into_iter()
            .any(|(i, one, j, other)| i != j && clash(one, other))
}
