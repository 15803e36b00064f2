//! Who may do what.
//!
//! Every check answers `Ok` while authentication is off. Otherwise it answers, in this order: nobody named
//! ([`Error::UserEmpty`]), an identity from before a change ([`Error::AuthOldRevision`]), and what the user's roles lack
//! ([`Error::PermissionDenied`]).
//!
//! Key access refuses an identity as soon as *anything* changed since it was established, as in etcd. The other checks
//! only ask that the user still is the same with the same password, so that a script may change roles one after the other
//! with one token.

use prost::bytes::Bytes;

use super::Identity;
use super::machine::{Account, AuthStore};
use super::ranges::Span;
use crate::error::{Error, Result};
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::wire::logpb::command::Request;

#[cfg(test)]
mod tests;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    /// Reading keys: Range, Watch, a comparison. `range_end` as in a request.
    Read {
        /// First key.
        key: &'a [u8],
        /// Empty: only `key`. `\0`: everything from `key`.
        range_end: &'a [u8],
    },
    /// Writing or deleting keys.
    Write {
        /// First key.
        key: &'a [u8],
        /// As for `Read`.
        range_end: &'a [u8],
    },
    /// Both.
    ReadWrite {
        /// First key.
        key: &'a [u8],
        /// As for `Read`.
        range_end: &'a [u8],
    },
    /// What any user may: Status, MemberList, listing alarms, granting, keeping and listing leases.
    Authenticated,
    /// What takes role `root`: users, roles, AuthStatus, membership changes, setting alarms, Compact, Defragment, Hash,
    /// HashKV, Snapshot, MoveLeader, Downgrade.
    Admin,
    /// UserGet: `root`, and the user itself.
    ReadUser(&'a str),
    /// RoleGet: `root`, and who has the role.
    ReadRole(&'a str),
}

/// Answers which keys hang on a lease; no keys for an unknown one.
pub type LeaseKeys<'a> = &'a dyn Fn(i64) -> Vec<Bytes>;

impl AuthStore {
    /// Whether `identity` has `access`.
    pub fn check(&self, identity: &Identity, access: Access<'_>) -> Result<()> {
        match access {
            Access::Read { key, range_end } => self.check_keys(identity, key, range_end, true, false),
            Access::Write { key, range_end } => self.check_keys(identity, key, range_end, false, true),
            Access::ReadWrite { key, range_end } => self.check_keys(identity, key, range_end, true, true),
            Access::Authenticated => {
                self.current_account(identity, Error::PermissionDenied)?;
                Ok(())
            }
            Access::Admin => self.check_admin_or(identity, |_| false),
            Access::ReadUser(name) => self.check_admin_or(identity, |_| identity.user == name),
            Access::ReadRole(name) => self.check_admin_or(identity, |account| {
                account.user.roles.iter().any(|role| role == name)
            }),
        }
    }

    /// Whether `identity` may read the range.
    pub fn check_range(&self, identity: &Identity, request: &RangeRequest) -> Result<()> {
        self.check(
            identity,
            Access::Read {
                key: &request.key,
                range_end: &request.range_end,
            },
        )
    }

    /// Whether `identity` may put the key. A lease needs write permission on all keys that hang on it already: they
    /// disappear with the lease, so sharing it means being able to delete them.
    pub fn check_put(&self, identity: &Identity, request: &PutRequest, keys_of: LeaseKeys<'_>) -> Result<()> {
        let (key, range_end): (&[u8], &[u8]) = (&request.key, b"");
        let access = if request.prev_kv {
            Access::ReadWrite { key, range_end }
        } else {
            Access::Write { key, range_end }
        };
        self.check(identity, access)?;
        if request.lease == 0 {
            Ok(())
        } else {
            self.check_lease_write(identity, request.lease, keys_of)
        }
    }

    /// Whether `identity` may delete the range.
    pub fn check_delete(&self, identity: &Identity, request: &DeleteRangeRequest) -> Result<()> {
        let (key, range_end): (&[u8], &[u8]) = (&request.key, &request.range_end);
        let access = if request.prev_kv {
            Access::ReadWrite { key, range_end }
        } else {
            Access::Write { key, range_end }
        };
        self.check(identity, access)
    }

    /// Whether `identity` may do all that the transaction might: both branches, nested ones too.
    pub fn check_txn(&self, identity: &Identity, request: &TxnRequest, keys_of: LeaseKeys<'_>) -> Result<()> {
        self.check(identity, Access::Authenticated)?;
        for compare in &request.compare {
            self.check(
                identity,
                Access::Read {
                    key: &compare.key,
                    range_end: &compare.range_end,
                },
            )?;
        }
        for operation in request.success.iter().chain(&request.failure) {
            self.check_operation(identity, operation, keys_of)?;
        }
        Ok(())
    }

    fn check_operation(
        &self,
        identity: &Identity,
        operation: &RequestOp,
        keys_of: LeaseKeys<'_>,
    ) -> Result<()> {
        match &operation.request {
            Some(Op::RequestRange(request)) => self.check_range(identity, request),
            Some(Op::RequestPut(request)) => self.check_put(identity, request, keys_of),
            Some(Op::RequestDeleteRange(request)) => self.check_delete(identity, request),
            Some(Op::RequestTxn(request)) => self.check_txn(identity, request, keys_of),
            // An empty operation is refused as malformed elsewhere.
            None => Ok(()),
        }
    }

    /// Whether `identity` may end the lease, or hang a key on it: it must be allowed to write all keys of the lease.
    pub fn check_lease_write(&self, identity: &Identity, lease: i64, keys_of: LeaseKeys<'_>) -> Result<()> {
        self.check_lease(identity, lease, keys_of, |key| Access::Write {
            key,
            range_end: b"",
        })
    }

    /// Whether `identity` may see the keys of the lease (TimeToLive with keys).
    pub fn check_lease_read(&self, identity: &Identity, lease: i64, keys_of: LeaseKeys<'_>) -> Result<()> {
        self.check_lease(identity, lease, keys_of, |key| Access::Read {
            key,
            range_end: b"",
        })
    }

    fn check_lease(
        &self,
        identity: &Identity,
        lease: i64,
        keys_of: LeaseKeys<'_>,
        access: impl Fn(&[u8]) -> Access<'_>,
    ) -> Result<()> {
        match self.current_account(identity, Error::PermissionDenied)? {
            // A lease may have a great many keys: they are not listed where nothing depends on them.
            None => Ok(()),
            Some(account) if account.is_root => Ok(()),
            Some(_) => keys_of(lease)
                .iter()
                .try_for_each(|key| self.check(identity, access(key))),
        }
    }

    /// Whether `identity` may give a command of the log. Commands of the store itself (`internal`) are not asked about.
    pub fn check_command(
        &self,
        identity: &Identity,
        request: &Request,
        keys_of: LeaseKeys<'_>,
    ) -> Result<()> {
        match request {
            Request::Put(request) => self.check_put(identity, request, keys_of),
            Request::DeleteRange(request) => self.check_delete(identity, request),
            Request::Txn(request) => self.check_txn(identity, request, keys_of),
            Request::LeaseGrant(_) => self.check(identity, Access::Authenticated),
            Request::LeaseRevoke(request) => self.check_lease_write(identity, request.id, keys_of),
            Request::Alarm(request) if request.action == i32::from(AlarmAction::Get) => {
                self.check(identity, Access::Authenticated)
            }
            Request::Alarm(_)
            | Request::Compaction(_)
            | Request::AuthEnable(_)
            | Request::AuthDisable(_)
            | Request::AuthUserAdd(_)
            | Request::AuthUserDelete(_)
            | Request::AuthUserChangePassword(_)
            | Request::AuthUserGrantRole(_)
            | Request::AuthUserRevokeRole(_)
            | Request::AuthRoleAdd(_)
            | Request::AuthRoleDelete(_)
            | Request::AuthRoleGrantPermission(_)
            | Request::AuthRoleRevokePermission(_)
            // Only the store itself says these, as `internal`.
            | Request::LeaseExpire(_)
            | Request::LeaseCheckpoint(_)
            | Request::LeaderStarted(_)
            | Request::TokenGiven(_) => self.check(identity, Access::Admin),
        }
    }

    fn check_keys(
        &self,
        identity: &Identity,
        key: &[u8],
        range_end: &[u8],
        read: bool,
        write: bool,
    ) -> Result<()> {
        if !self.enabled() {
            return Ok(());
        }
        require_name(identity)?;
        if identity.auth_revision < self.revision() {
            return Err(Error::AuthOldRevision);
        }
        let account = self.account(&identity.user).ok_or(Error::PermissionDenied)?;
        let span = Span::new(key, range_end);
        let covered = (!read || account.readable.covers(&span)) && (!write || account.writable.covers(&span));
        if account.is_root || covered {
            Ok(())
        } else {
            Err(Error::PermissionDenied)
        }
    }

    fn check_admin_or(&self, identity: &Identity, exception: impl FnOnce(&Account) -> bool) -> Result<()> {
        match self.current_account(identity, Error::UserNotFound)? {
            None => Ok(()),
            Some(account) if account.is_root || exception(account) => Ok(()),
            Some(_) => Err(Error::PermissionDenied),
        }
    }

    /// The account behind `identity`; `None` while authentication is off. `unknown` is the answer for a user that is gone.
    fn current_account(&self, identity: &Identity, unknown: Error) -> Result<Option<&Account>> {
        if !self.enabled() {
            return Ok(None);
        }
        require_name(identity)?;
        let account = self.account(&identity.user).ok_or(unknown)?;
        if identity.auth_revision < account.since {
            Err(Error::AuthOldRevision)
        } else {
            Ok(Some(account))
        }
    }

    /// Whether `user` has role `root`; false while authentication is off.
    pub fn is_root(&self, user: &str) -> bool {
        self.enabled() && self.account(user).is_some_and(|account| account.is_root)
    }
}

fn require_name(identity: &Identity) -> Result<()> {
    if identity.user.is_empty() || identity.auth_revision == 0 {
        Err(Error::UserEmpty)
    } else {
        Ok(())
    }
}
