//! Carrying out puts, deletes and transactions in a group.
//!
//! Every compare of a transaction, nested ones included, is judged against the state before the transaction; its operations
//! see those before them. Whatever can fail is checked before the first change, so a transaction happens whole or not at all.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Revision;
use super::codec::Version;
use super::group::Group;
use super::range::KeyRange;
use super::state::Mvcc;
use super::view::{Source, View, range};
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::request_op::Request;
use crate::wire::etcdserverpb::response_op::Response;
use crate::wire::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

/// What writing needs to know from outside the keys.
pub trait WriteEffects {
    /// True if the lease is there.
    fn lease_exists(&self, id: i64) -> bool;
}

fn check_lease(request: &PutRequest, effects: &dyn WriteEffects) -> Result<()> {
    if request.lease != 0 && !effects.lease_exists(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// A header that tells only the revision, as responses inside a transaction carry it.
#[allow(clippy::unnecessary_wraps, reason = "every use is a field that may be empty")]
fn revision_header(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

impl Group<'_> {
    /// A put request of its own: one revision.
    pub fn apply_put(&mut self, request: PutRequest, effects: &dyn WriteEffects) -> Result<PutResponse> {
        // etcd looks for the lease first here, and for the key first in a transaction.
        check_lease(&request, effects)?;
        self.check_present(&request)?;
        let response = self.run_put(request)?;
        self.finish_revision();
        Ok(response)
    }

    /// A delete request of its own: one revision if anything was there.
    pub fn apply_delete(&mut self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let response = self.run_delete(request)?;
        self.finish_revision();
        Ok(response)
    }

    /// A transaction: one revision if it changes anything. `view_of` past revisions is the database, so the group must have
    /// been committed up to here if [`reads_the_past`] says so.
    pub fn apply_txn(&mut self, request: TxnRequest, effects: &dyn WriteEffects) -> Result<TxnResponse> {
        let plan = plan(self, request)?;
        // etcd's order: whatever puts have against them comes before what ranges have.
        self.check_writes(&plan, effects)?;
        check_reads(&plan, self.revision(), self.compacted())?;
        let mut response = self.run_plan(plan)?;
        response.header = revision_header(self.seen_revision());
        self.finish_revision();
        Ok(response)
    }

    fn check_present(&self, request: &PutRequest) -> Result<()> {
        if (request.ignore_value || request.ignore_lease) && self.newest(&request.key)?.is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn run_put(&mut self, mut request: PutRequest) -> Result<PutResponse> {
        if request.ignore_value || request.ignore_lease {
            let before = self.newest(&request.key)?.ok_or(Error::KeyNotFound)?;
            if request.ignore_value {
                request.value = before.value.unwrap_or_default();
            }
            if request.ignore_lease {
                request.lease = before.lease;
            }
        }
        let before = self.put(request.key.clone(), request.value, request.lease)?;
        let prev_kv = before
            .filter(|_| request.prev_kv)
            .map(|before| before.key_value(request.key));
        Ok(PutResponse {
            header: revision_header(self.next_revision()),
            prev_kv,
        })
    }

    fn run_delete(&mut self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let range = KeyRange::new(request.key, &request.range_end);
        let keys = match range.as_single() {
            Some(key) => vec![key.clone()],
            None => self.keys(&range)?,
        };
        let mut response = DeleteRangeResponse::default();
        for key in keys {
            if let Some(before) = self.delete(key.clone())? {
                response.deleted += 1;
                if request.prev_kv {
                    response.prev_kvs.push(before.key_value(key));
                }
            }
        }
        response.header = revision_header(self.seen_revision());
        Ok(response)
    }

    /// Live keys of `range`.
    fn keys(&self, range: &KeyRange) -> Result<Vec<Bytes>> {
        let mut keys = Vec::new();
        self.scan(range, &mut |key, _, _| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// The revision as operations of the running transaction see it.
    fn seen_revision(&self) -> Revision {
        if self.has_changes() {
            self.next_revision()
        } else {
            self.revision()
        }
    }

    fn check_writes(&self, plan: &Plan, effects: &dyn WriteEffects) -> Result<()> {
        for step in &plan.steps {
            match step {
                Step::Range(_) | Step::Delete(_) => {}
                Step::Put(request) => {
                    self.check_present(request)?;
                    check_lease(request, effects)?;
                }
                Step::Nested(plan) => self.check_writes(plan, effects)?,
            }
        }
        Ok(())
    }

    fn run_plan(&mut self, plan: Plan) -> Result<TxnResponse> {
        let mut responses = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            let response = match step {
                Step::Range(request) => {
                    let mut response = if request.revision > 0 {
                        range(&View::new(self.mvcc(), request.revision), &request)?
                    } else {
                        range(self, &request)?
                    };
                    response.header = revision_header(self.seen_revision());
                    Response::ResponseRange(response)
                }
                Step::Put(request) => Response::ResponsePut(self.run_put(request)?),
                Step::Delete(request) => Response::ResponseDeleteRange(self.run_delete(request)?),
                Step::Nested(plan) => Response::ResponseTxn(self.run_plan(plan)?),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        // As in etcd, only the outermost transaction tells a revision.
        Ok(TxnResponse {
            header: revision_header(0),
            succeeded: plan.succeeded,
            responses,
        })
    }
}

/// Decides every compare, nested ones too, before anything changes.
fn plan(source: &dyn Source, request: TxnRequest) -> Result<Plan> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(source, compare)? {
            succeeded = false;
            break;
        }
    }
    let branch = if succeeded {
        request.success
    } else {
        request.failure
    };
    let steps = branch.into_iter().map(|RequestOp { request }| {
        Ok(match request.ok_or(Error::KeyNotFound)? {
            Request::RequestRange(request) => Step::Range(request),
            Request::RequestPut(request) => Step::Put(request),
            Request::RequestDeleteRange(request) => Step::Delete(request),
            Request::RequestTxn(request) => Step::Nested(plan(source, request)?),
        })
    });
    Ok(Plan {
        succeeded,
        steps: steps.collect::<Result<_>>()?,
    })
}

/// Judges one compare. Over a range it must hold for every key there. Where there is no key it compares with all zeros, and
/// no compare of a value holds.
fn holds(source: &dyn Source, compare: &Compare) -> Result<bool> {
    let absent = || compare.target() != CompareTarget::Value && judge(compare, &Version::tombstone(0));
    let range = KeyRange::new(compare.key.clone(), &compare.range_end);
    if let Some(key) = range.as_single() {
        return Ok(source
            .get(key)?
            .map_or_else(absent, |version| judge(compare, &version)));
    }
    let mut holds = None;
    source.scan(&range, &mut |_, head, value| {
        let version = Version {
            created: head.created,
            modified: head.modified,
            version: head.version,
            lease: head.lease,
            value: Some(Bytes::copy_from_slice(value)),
        };
        let this = judge(compare, &version);
        holds = Some(this);
        if this {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(holds.unwrap_or_else(absent))
}

/// Refuses reads of revisions that are gone or not there yet. A negative revision counts as gone here, as in etcd, while a
/// range of its own takes it for the present.
fn check_reads(plan: &Plan, newest: Revision, compacted: Revision) -> Result<()> {
    for step in &plan.steps {
        match step {
            Step::Range(request) if request.revision > newest => return Err(Error::FutureRevision),
            Step::Range(request) if request.revision != 0 && request.revision < compacted.max(0) => {
                return Err(Error::Compacted);
            }
            Step::Range(_) | Step::Put(_) | Step::Delete(_) => {}
            Step::Nested(plan) => check_reads(plan, newest, compacted)?,
        }
    }
    Ok(())
}

impl Mvcc {
    /// Answers a transaction that only reads, as of one revision.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<(TxnResponse, Revision)> {
        loop {
            let at = self.revision();
            let view = View::new(self, at);
            let response = plan(&view, request.clone()).and_then(|plan| {
                check_reads(&plan, at, self.compacted())?;
                let mut response = self.read_plan(&view, at, plan)?;
                response.header = revision_header(at);
                Ok(response)
            });
            // As for a range: if a compaction came in between, the answer may be partial.
            if at >= self.compacted() {
                return Ok((response?, at));
            }
        }
    }

    fn read_plan(&self, view: &View<'_>, at: Revision, plan: Plan) -> Result<TxnResponse> {
        let mut responses = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            let response = match step {
                Step::Range(request) => {
                    let mut response = match request.revision {
                        past if past > 0 => range(&View::new(self, past), &request)?,
                        _ => range(view, &request)?,
                    };
                    if request.revision > 0 && request.revision < self.compacted() {
                        return Err(Error::Compacted);
                    }
                    response.header = revision_header(at);
                    Response::ResponseRange(response)
                }
                Step::Nested(plan) => Response::ResponseTxn(self.read_plan(view, at, plan)?),
                Step::Put(_) | Step::Delete(_) => {
                    return Err(Error::Local(
                        "a writing transaction was taken for a reading one".to_owned(),
                    ));
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: revision_header(0),
            succeeded: plan.succeeded,
            responses,
        })
    }
}

fn judge(compare: &Compare, version: &Version) -> bool {
    let number = |wanted: Option<i64>, have: i64| have.cmp(&wanted.unwrap_or(0));
    let ordering = match (compare.target(), &compare.target_union) {
        (CompareTarget::Value, union) => {
            let wanted = match union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            version.value.as_deref().unwrap_or_default().cmp(wanted)
        }
        (CompareTarget::Version, Some(TargetUnion::Version(wanted))) => {
            number(Some(*wanted), version.version)
        }
        (CompareTarget::Version, _) => number(None, version.version),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted))) => {
            number(Some(*wanted), version.created)
        }
        (CompareTarget::Create, _) => number(None, version.created),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted))) => {
            number(Some(*wanted), version.modified)
        }
        (CompareTarget::Mod, _) => number(None, version.modified),
        (CompareTarget::Lease, Some(TargetUnion::Lease(wanted))) => number(Some(*wanted), version.lease),
        (CompareTarget::Lease, _) => number(None, version.lease),
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

/// A transaction whose branches are chosen.
struct Plan {
    succeeded: bool,
    steps: Vec<Step>,
}

enum Step {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Nested(Plan),
}

/// True if some operation of the transaction reads a past revision. Its reads go to the database, so everything before the
/// transaction has to be there first.
pub(crate) fn reads_the_past(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|operation| match &operation.request {
            Some(Request::RequestRange(range)) => range.revision > 0,
            Some(Request::RequestTxn(nested)) => reads_the_past(nested),
            _ => false,
        })
}

/// True if some operation of the transaction may write.
pub(crate) fn writes(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|operation| match &operation.request {
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
            Some(Request::RequestTxn(nested)) => writes(nested),
            _ => false,
        })
}

/// True if some operation of the transaction puts, so that it takes space.
pub(crate) fn puts(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|operation| match &operation.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(nested)) => puts(nested),
            _ => false,
        })
}
