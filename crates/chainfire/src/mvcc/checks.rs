//! What can be said against a request without looking at the data. Done before a request enters the log.
//!
//! The rules and their order are etcd's (`server/etcdserver/api/v3rpc/key.go`), with two tightened: a key may change once in
//! a transaction whatever the nesting, while etcd misses a put in one nested transaction and a delete in a later one; and
//! transactions nest so deep that the log can always be read again, where etcd counts operations alone.

use std::collections::HashSet;

use bytes::Bytes;

use super::range::KeyRange;
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::request_op::Request;
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// Longest key in bytes. RocksDB would take more; nothing sensible does.
pub(super) const KEY_BYTES_MAX: usize = 64 << 10;

/// Transactions within transactions. A decoder of messages gives up at 100 messages within each other, of which one transaction
/// takes two, and a transaction is once read from its client and later, deeper in other messages, from the log: what was
/// accepted must never be too deep for the log.
const TXN_NESTING_MAX: usize = 32;

/// What a request may ask for at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a whole request.
    pub request_bytes: usize,
    /// Operations in any list of a transaction, nested ones counted down.
    pub txn_ops: usize,
}

impl Limits {
    /// Checks a range request.
    pub fn check_range(&self, request: &RangeRequest) -> Result<()> {
        check_key(&request.key)?;
        SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
        SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
        Ok(())
    }

    /// Checks a put request.
    pub fn check_put(&self, request: &PutRequest) -> Result<()> {
        check_key(&request.key)?;
        if request.ignore_value && !request.value.is_empty() {
            return Err(Error::ValueProvided);
        }
        if request.ignore_lease && request.lease != 0 {
            return Err(Error::LeaseProvided);
        }
        if request.key.len() + request.value.len() > self.request_bytes {
            return Err(Error::RequestTooLarge);
        }
        Ok(())
    }

    /// Checks a delete request.
    pub fn check_delete(&self, request: &DeleteRangeRequest) -> Result<()> {
        check_key(&request.key)
    }

    /// Checks a transaction.
    pub fn check_txn(&self, request: &TxnRequest) -> Result<()> {
        self.check_operations(request, self.txn_ops, TXN_NESTING_MAX)?;
        for branch in [&request.success, &request.failure] {
            Writes::of(branch)?;
        }
        Ok(())
    }

    fn check_operations(&self, request: &TxnRequest, allowed: usize, nesting: usize) -> Result<()> {
        let most = request
            .compare
            .len()
            .max(request.success.len())
            .max(request.failure.len());
        let Some(left) = allowed.checked_sub(most) else {
            return Err(Error::TooManyOps);
        };
        for compare in &request.compare {
            check_key(&compare.key)?;
        }
        for operation in request.success.iter().chain(&request.failure) {
            match &operation.request {
                None => return Err(Error::KeyNotFound),
                Some(Request::RequestRange(request)) => self.check_range(request)?,
                Some(Request::RequestPut(request)) => self.check_put(request)?,
                Some(Request::RequestDeleteRange(request)) => self.check_delete(request)?,
                Some(Request::RequestTxn(request)) => {
                    let nesting = nesting.checked_sub(1).ok_or(Error::TooManyOps)?;
                    self.check_operations(request, left, nesting)?;
                }
            }
        }
        Ok(())
    }
}

fn check_key(key: &Bytes) -> Result<()> {
    match key.len() {
        0 => Err(Error::EmptyKey),
        len if len > KEY_BYTES_MAX => Err(Error::RequestTooLarge),
        _ => Ok(()),
    }
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    /// Of a branch, refusing one that may change a key twice.
    fn of(operations: &[RequestOp]) -> Result<Writes> {
        let mut all = Writes::default();
        for operation in operations {
            match &operation.request {
                Some(Request::RequestPut(put)) => {
                    all.add(Writes {
                        puts: HashSet::from([put.key.clone()]),
                        deletes: Vec::new(),
                    })?;
                }
                Some(Request::RequestDeleteRange(delete)) => {
                    let range = KeyRange::new(delete.key.clone(), &delete.range_end);
                    all.add(Writes {
                        puts: HashSet::new(),
                        deletes: vec![range],
                    })?;
                }
                Some(Request::RequestTxn(nested)) => {
                    // Only one of the branches will run, so they may overlap each other but not what is around them.
                    let mut either = Writes::of(&nested.success)?;
                    let other = Writes::of(&nested.failure)?;
                    either.puts.extend(other.puts);
                    either.deletes.extend(other.deletes);
                    all.add(either)?;
                }
                Some(Request::RequestRange(_)) | None => {}
            }
        }
        Ok(all)
    }

    fn add(&mut self, more: Writes) -> Result<()> {
        let clash = |puts: &HashSet<Bytes>, deletes: &[KeyRange]| {
            deletes.iter().any(|range| match range.as_single() {
                Some(key) => puts.contains(key),
                None => puts.iter().any(|key| range.contains(key)),
            })
        };
        if clash(&self.puts, &more.deletes)
            || clash(&more.puts, &self.deletes)
            || more.puts.iter().any(|key| self.puts.contains(key))
        {
            return Err(Error::DuplicateKey);
        }
        self.puts.extend(more.puts);
        self.deletes.extend(more.deletes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::logpb::Command;
    use crate::wire::logpb::command::Request as Logged;
    use prost::Message;

    const LIMITS: Limits = Limits {
        request_bytes: 1000,
        txn_ops: 4,
    };

    fn put(key: &str) -> RequestOp {
        let put = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        RequestOp {
            request: Some(Request::RequestPut(put)),
        }
    }

    fn delete(key: &str, end: &str) -> RequestOp {
        let delete = DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(end.as_bytes()),
            prev_kv: false,
        };
        RequestOp {
            request: Some(Request::RequestDeleteRange(delete)),
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(TxnRequest {
                compare: vec![],
                success,
                failure,
            })),
        }
    }

    fn check(success: Vec<RequestOp>) -> Result<()> {
        LIMITS.check_txn(&TxnRequest {
            compare: vec![],
            success,
            failure: vec![],
        })
    }

    #[test]
    fn a_key_changes_at_most_once() {
        assert_eq!(check(vec![put("a"), put("b")]), Ok(()));
        assert_eq!(check(vec![put("a"), put("a")]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![delete("a", "c"), put("b")]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![delete("a", "c"), delete("b", "d")]), Ok(()));
        assert_eq!(check(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
        assert_eq!(
            check(vec![nested(vec![put("a")], vec![]), put("a")]),
            Err(Error::DuplicateKey)
        );
        assert_eq!(
            check(vec![
                nested(vec![put("a")], vec![]),
                nested(vec![delete("a", "")], vec![])
            ]),
            Err(Error::DuplicateKey)
        );
    }

    #[test]
    fn nesting_counts_against_the_operations() {
        assert_eq!(check(vec![put("a"), put("b"), put("c"), put("d")]), Ok(()));
        assert_eq!(
            check(vec![put("a"), put("b"), put("c"), put("d"), put("e")]),
            Err(Error::TooManyOps)
        );
        let inner = nested(vec![put("a"), put("b"), put("c")], vec![]);
        assert_eq!(check(vec![inner.clone()]), Ok(()));
        assert_eq!(check(vec![inner, put("x")]), Err(Error::TooManyOps));
    }

    #[test]
    fn what_nests_as_deep_as_it_may_can_be_read_from_the_log() {
        let limits = Limits {
            txn_ops: usize::MAX,
            ..LIMITS
        };
        let deep = |nesting: usize| TxnRequest {
            success: vec![(0..nesting).fold(put("a"), |inner, _| nested(vec![inner], vec![]))],
            ..Default::default()
        };
        let deepest = deep(TXN_NESTING_MAX);
        assert_eq!(limits.check_txn(&deepest), Ok(()));
        let command = Command {
            request: Some(Logged::Txn(deepest)),
            ..Default::default()
        };
        assert_eq!(
            Command::decode(command.encode_to_vec().as_slice()).ok(),
            Some(command)
        );
        assert_eq!(
            limits.check_txn(&deep(TXN_NESTING_MAX + 1)),
            Err(Error::TooManyOps)
        );
    }

    #[test]
    fn malformed_requests_have_their_texts() {
        assert_eq!(check(vec![put("")]), Err(Error::EmptyKey));
        assert_eq!(check(vec![RequestOp { request: None }]), Err(Error::KeyNotFound));
        let range = RangeRequest {
            key: Bytes::from_static(b"a"),
            sort_order: 9,
            ..Default::default()
        };
        assert_eq!(LIMITS.check_range(&range), Err(Error::InvalidSortOption));
        let long = PutRequest {
            key: Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]),
            ..Default::default()
        };
        assert_eq!(LIMITS.check_put(&long), Err(Error::RequestTooLarge));
    }
}
