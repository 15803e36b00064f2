//! The store of users and roles: what each command of the log does to it, and what the queries answer.
//!
//! A command is judged completely before anything changes, so a refused one leaves no trace. What it changes is returned
//! as [`Change`]s for column family `auth`, to be written in the batch of the log entry.
//!
//! The auth revision starts at 1. As in etcd, every successful change adds 1, also one that replaces a value by itself;
//! granting a role that is there already, enabling (at any time) and disabling what is off add nothing.
//!
//! Whether the sender *may* give the command is not asked here but in [`super::access`].

use std::collections::BTreeMap;
use std::fmt;

use prost::bytes::Bytes;

use super::ranges::{Ranges, Span};
use super::record::{self, Change, Entry, Meta};
use super::{ROOT, password};
use crate::error::{Error, Result};
use crate::wire::authpb::permission::Type;
use crate::wire::authpb::{Permission, Role, User, UserAddOptions};
use crate::wire::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleListResponse, AuthRoleRevokePermissionRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetResponse, AuthUserGrantRoleRequest,
    AuthUserListResponse, AuthUserRevokeRoleRequest,
};
use crate::wire::logpb::command::Request;

#[cfg(test)]
mod tests;

/// The revision of a store that was never changed.
const FIRST_REVISION: u64 = 1;

/// What a carried-out command leaves to do. The replies of all these commands are empty but for their header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What to write to column family `auth`; empty when the command changed nothing.
    pub changes: Vec<Change>,
    /// What to tell the [`super::TokenProvider`] of this node.
    pub tokens: Tokens,
}

impl Outcome {
    fn nothing() -> Self {
        Self {
            changes: Vec::new(),
            tokens: Tokens::Keep,
        }
    }
}

/// Which tokens a command voids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// None.
    Keep,
    /// Those of one user: it was deleted, or got a new password.
    DropUser(String),
    /// All: authentication was turned off.
    DropAll,
    /// None; a member gave one, which all know from now on.
    Given {
        /// Whose it is.
        user: String,
        /// SHA-256 of it.
        fingerprint: bytes::Bytes,
    },
}

/// One user and what follows from its roles.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) user: User,
    /// Identities established under an older auth revision are void: another user, or another password.
    pub(super) since: u64,
    /// Whether it has role `root`.
    pub(super) is_root: bool,
    pub(super) readable: Ranges,
    pub(super) writable: Ranges,
}

/// Users, roles, and whether they matter.
#[derive(Clone)]
pub struct AuthStore {
    enabled: bool,
    revision: u64,
    accounts: BTreeMap<String, Account>,
    roles: BTreeMap<String, Role>,
}

impl Default for AuthStore {
    /// The store of a new cluster: off, empty, at revision 1.
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_REVISION,
            accounts: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for AuthStore {
    /// Password hashes are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthStore")
            .field("enabled", &self.enabled)
            .field("revision", &self.revision)
            .field("users", &self.accounts.keys())
            .field("roles", &self.roles.keys())
            .finish()
    }
}

/// What is needed to verify one login, taken out of the store so that verifying holds no lock.
#[derive(Clone)]
pub struct Credential {
    user: String,
    /// The hash to verify against; a decoy where nothing can match.
    phc: String,
    /// Whether a match counts. False for unknown users and those without password.
    usable: bool,
    revision: u64,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The auth revision the credential was read at. A token may only be assigned while the store is still there;
    /// otherwise the password may have changed meanwhile: read a new credential and verify again.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Verifies a password. Slow, and equally slow whether the user is unknown, has no password, or another one; all
    /// three are [`Error::AuthFailed`].
    pub fn verify(&self, password: &str) -> Result<()> {
        let matches = password::matches(password, &self.phc)?;
        if matches && self.usable {
            Ok(())
        } else {
            Err(Error::AuthFailed)
        }
    }
}

impl AuthStore {
    /// Reads the store back from column family `auth`; without entries it is that of a new cluster.
    ///
    /// Errors: [`Error::Local`] naming the entry that cannot be read.
    pub fn load<K, V>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut store = Self::default();
        let mut has_meta = false;
        for (key, value) in entries {
            match record::decode(key.as_ref(), value.as_ref())? {
                Entry::Meta(meta) => {
                    has_meta = true;
                    store.enabled = meta.enabled;
                    store.revision = meta.revision.max(FIRST_REVISION);
                }
                Entry::User(user, since) => {
                    let name = text(&user.name)?;
                    let account = Account {
                        user,
                        since,
                        is_root: false,
                        readable: Ranges::default(),
                        writable: Ranges::default(),
                    };
                    store.accounts.insert(name, account);
                }
                Entry::Role(role) => {
                    store.roles.insert(text(&role.name)?, role);
                }
            }
        }
        let is_empty = store.accounts.is_empty() && store.roles.is_empty();
        if !has_meta && !is_empty {
            // Every change writes `meta`, so it can only be lost together with whether authentication is on.
            return Err(Error::Local(
                "load users and roles: entry \"meta\" of column family auth is missing".into(),
            ));
        }
        store.derive_all();
        Ok(store)
    }

    /// Whether permissions are asked for at all.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The auth revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The user's account.
    pub(super) fn account(&self, user: &str) -> Option<&Account> {
        self.accounts.get(user)
    }

    /// Carries out a command about users, roles or the switch. Whether the sender may give it was checked before.
    ///
    /// Errors: those etcd gives; the store is then unchanged. [`Error::Invalid`] for a command of another kind, and for
    /// one that carries a plain password or something that is no hash.
    pub fn apply(&mut self, request: &Request) -> Result<Outcome> {
        match request {
            Request::AuthEnable(_) => self.enable(),
            Request::AuthDisable(_) => Ok(self.disable()),
            Request::AuthUserAdd(request) => self.add_user(request),
            Request::AuthUserDelete(request) => self.delete_user(request),
            Request::AuthUserChangePassword(request) => self.change_password(request),
            Request::AuthUserGrantRole(request) => self.grant_role(request),
            Request::AuthUserRevokeRole(request) => self.revoke_role(request),
            Request::AuthRoleAdd(request) => self.add_role(request),
            Request::AuthRoleDelete(request) => self.delete_role(request),
            Request::AuthRoleGrantPermission(request) => self.grant_permission(request),
            Request::AuthRoleRevokePermission(request) => self.revoke_permission(request),
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseExpire(_)
            | Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::LeaderStarted(_)
            | Request::TokenGiven(_) => Err(Error::Invalid(
                "auth: the command is not about users or roles".into(),
            )),
        }
    }

    /// What is needed to verify a login of `user`. An unknown user gives a credential too, which nothing matches.
    ///
    /// Errors: [`Error::AuthNotEnabled`].
    pub fn credential(&self, user: &str) -> Result<Credential> {
        if !self.enabled {
            return Err(Error::AuthNotEnabled);
        }
        let stored = self
            .accounts
            .get(user)
            .filter(|account| !has_no_password(&account.user))
            .and_then(|account| std::str::from_utf8(&account.user.password).ok());
        Ok(Credential {
            user: user.to_owned(),
            phc: stored.unwrap_or(password::DECOY).to_owned(),
            usable: stored.is_some(),
            revision: self.revision,
        })
    }

    /// Whether authentication is on, and the revision. The header is the caller's to fill.
    pub fn status(&self) -> AuthStatusResponse {
        AuthStatusResponse {
            header: None,
            enabled: self.enabled,
            auth_revision: self.revision,
        }
    }

    /// The roles of a user, sorted.
    pub fn user_get(&self, name: &str) -> Result<AuthUserGetResponse> {
        let account = self.accounts.get(name).ok_or(Error::UserNotFound)?;
        Ok(AuthUserGetResponse {
            header: None,
            roles: account.user.roles.clone(),
        })
    }

    /// All users, sorted.
    pub fn user_list(&self) -> AuthUserListResponse {
        AuthUserListResponse {
            header: None,
            users: self.accounts.keys().cloned().collect(),
        }
    }

    /// The permissions of a role, sorted by key and range end. Those of role `root` are always everything.
    pub fn role_get(&self, name: &str) -> Result<AuthRoleGetResponse> {
        let role = self.roles.get(name).ok_or(Error::RoleNotFound)?;
        let perm = if name == ROOT {
            let everything = Permission {
                perm_type: Type::Readwrite.into(),
                key: Bytes::new(),
                range_end: Bytes::from_static(b"\0"),
            };
            vec![everything]
        } else {
            role.key_permission.clone()
        };
        Ok(AuthRoleGetResponse { header: None, perm })
    }

    /// All roles, sorted.
    pub fn role_list(&self) -> AuthRoleListResponse {
        AuthRoleListResponse {
            header: None,
            roles: self.roles.keys().cloned().collect(),
        }
    }

    fn enable(&mut self) -> Result<Outcome> {
        if self.enabled {
            return Ok(Outcome::nothing());
        }
        let root = self.accounts.get(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.is_root {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(Outcome {
            changes: vec![self.meta()],
            tokens: Tokens::Keep,
        })
    }

    fn disable(&mut self) -> Outcome {
        if !self.enabled {
            return Outcome::nothing();
        }
        self.enabled = false;
        self.changed(Vec::new(), Tokens::DropAll)
    }

    fn add_user(&mut self, request: &AuthUserAddRequest) -> Result<Outcome> {
        if request.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.accounts.contains_key(&request.name) {
            return Err(Error::UserExists);
        }
        let options = request.options.unwrap_or_default();
        let user = User {
            name: Bytes::copy_from_slice(request.name.as_bytes()),
            password: sealed(&request.password, &request.hashed_password, options)?,
            roles: Vec::new(),
            options: Some(options),
        };
        let since = self.revision + 1;
        let change = record::put_user(&user, since);
        let account = Account {
            user,
            since,
            is_root: false,
            readable: Ranges::default(),
            writable: Ranges::default(),
        };
        self.accounts.insert(request.name.clone(), account);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    fn delete_user(&mut self, request: &AuthUserDeleteRequest) -> Result<Outcome> {
        if self.enabled && request.name == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.accounts.remove(&request.name).ok_or(Error::UserNotFound)?;
        let change = record::delete_user(&request.name);
        Ok(self.changed(vec![change], Tokens::DropUser(request.name.clone())))
    }

    fn change_password(&mut self, request: &AuthUserChangePasswordRequest) -> Result<Outcome> {
        let since = self.revision + 1;
        let account = self.accounts.get_mut(&request.name).ok_or(Error::UserNotFound)?;
        let options = account.user.options.unwrap_or_default();
        // As in etcd, a user without password stays one: the command succeeds and sets none.
        account.user.password = sealed(&request.password, &request.hashed_password, options)?;
        account.since = since;
        let change = record::put_user(&account.user, since);
        Ok(self.changed(vec![change], Tokens::DropUser(request.name.clone())))
    }

    fn grant_role(&mut self, request: &AuthUserGrantRoleRequest) -> Result<Outcome> {
        let account = self.accounts.get_mut(&request.user).ok_or(Error::UserNotFound)?;
        // Role `root` needs no permissions, so it can be granted without having been added.
        if request.role != ROOT && !self.roles.contains_key(&request.role) {
            return Err(Error::RoleNotFound);
        }
        let Err(place) = account.user.roles.binary_search(&request.role) else {
            return Ok(Outcome::nothing());
        };
        account.user.roles.insert(place, request.role.clone());
        account.derive(&self.roles);
        let change = record::put_user(&account.user, account.since);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    fn revoke_role(&mut self, request: &AuthUserRevokeRoleRequest) -> Result<Outcome> {
        if self.enabled && request.name == ROOT && request.role == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        let account = self.accounts.get_mut(&request.name).ok_or(Error::UserNotFound)?;
        let place = account
            .user
            .roles
            .binary_search(&request.role)
            .map_err(|_| Error::RoleNotGranted)?;
        account.user.roles.remove(place);
        account.derive(&self.roles);
        let change = record::put_user(&account.user, account.since);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    fn add_role(&mut self, request: &AuthRoleAddRequest) -> Result<Outcome> {
        if request.name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if self.roles.contains_key(&request.name) {
            return Err(Error::RoleExists);
        }
        let role = Role {
            name: Bytes::copy_from_slice(request.name.as_bytes()),
            key_permission: Vec::new(),
        };
        let change = record::put_role(&role);
        self.roles.insert(request.name.clone(), role);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    fn delete_role(&mut self, request: &AuthRoleDeleteRequest) -> Result<Outcome> {
        if self.enabled && request.role == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.roles.remove(&request.role).ok_or(Error::RoleNotFound)?;
        let mut changes = vec![record::delete_role(&request.role)];
        for account in self.accounts.values_mut() {
            if let Ok(place) = account.user.roles.binary_search(&request.role) {
                account.user.roles.remove(place);
                account.derive(&self.roles);
                changes.push(record::put_user(&account.user, account.since));
            }
        }
        Ok(self.changed(changes, Tokens::Keep))
    }

    fn grant_permission(&mut self, request: &AuthRoleGrantPermissionRequest) -> Result<Outcome> {
        let permission = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
        if !is_grantable(permission) {
            return Err(Error::InvalidAuthManagement);
        }
        let role = self.roles.get_mut(&request.name).ok_or(Error::RoleNotFound)?;
        match place_of(role, &permission.key, &permission.range_end) {
            Ok(place) => role.key_permission[place].perm_type = permission.perm_type,
            Err(place) => role.key_permission.insert(place, permission.clone()),
        }
        let change = record::put_role(role);
        self.derive_holders(&request.name);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    fn revoke_permission(&mut self, request: &AuthRoleRevokePermissionRequest) -> Result<Outcome> {
        let role = self.roles.get_mut(&request.role).ok_or(Error::RoleNotFound)?;
        let place =
            place_of(role, &request.key, &request.range_end).map_err(|_| Error::PermissionNotGranted)?;
        role.key_permission.remove(place);
        let change = record::put_role(role);
        self.derive_holders(&request.role);
        Ok(self.changed(vec![change], Tokens::Keep))
    }

    /// Counts a change and says what to write for it.
    fn changed(&mut self, mut changes: Vec<Change>, tokens: Tokens) -> Outcome {
        self.revision += 1;
        changes.push(self.meta());
        Outcome { changes, tokens }
    }

    fn meta(&self) -> Change {
        record::put_meta(&Meta {
            enabled: self.enabled,
            revision: self.revision,
        })
    }

    fn derive_all(&mut self) {
        for account in self.accounts.values_mut() {
            account.derive(&self.roles);
        }
    }

    fn derive_holders(&mut self, role: &str) {
        for account in self.accounts.values_mut() {
            if account.user.roles.iter().any(|held| held == role) {
                account.derive(&self.roles);
            }
        }
    }
}

impl Account {
    /// Works out again what the roles allow.
    fn derive(&mut self, roles: &BTreeMap<String, Role>) {
        self.is_root = self.user.roles.iter().any(|role| role == ROOT);
        let granted: Vec<&Permission> = self
            .user
            .roles
            .iter()
            .filter_map(|role| roles.get(role))
            .flat_map(|role| &role.key_permission)
            .collect();
        let union = |wanted: Type| {
            let allows = |permission: &&&Permission| {
                Type::try_from(permission.perm_type)
                    .is_ok_and(|held| held == wanted || held == Type::Readwrite)
            };
            Ranges::union(
                granted
                    .iter()
                    .filter(allows)
                    .map(|p| Span::new(&p.key, &p.range_end)),
            )
        };
        self.readable = union(Type::Read);
        self.writable = union(Type::Write);
    }
}

fn has_no_password(user: &User) -> bool {
    user.options.is_some_and(|options| options.no_password)
}

/// The password to store: a hash that the proposing node made, or nothing for a user without password.
fn sealed(plain: &str, hashed: &str, options: UserAddOptions) -> Result<Bytes> {
    if !plain.is_empty() {
        return Err(Error::Invalid(
            "auth: the command carries a password in the clear, expected its hash".into(),
        ));
    }
    if options.no_password {
        return Ok(Bytes::new());
    }
    if !password::is_hash(hashed) {
        return Err(Error::Invalid(
            "auth: the command carries no usable password hash, expected argon2id".into(),
        ));
    }
    Ok(Bytes::copy_from_slice(hashed.as_bytes()))
}

/// Whether the permission names a type and at least one key.
fn is_grantable(permission: &Permission) -> bool {
    !permission.key.is_empty()
        && Type::try_from(permission.perm_type).is_ok()
        && !Span::new(&permission.key, &permission.range_end).is_empty()
}

/// Where the permission on exactly this range is in the role, or where it belongs.
fn place_of(role: &Role, key: &[u8], range_end: &[u8]) -> std::result::Result<usize, usize> {
    role.key_permission.binary_search_by(|held| {
        held.key
            .as_ref()
            .cmp(key)
            .then_with(|| held.range_end.as_ref().cmp(range_end))
    })
}

fn text(name: &[u8]) -> Result<String> {
    String::from_utf8(name.to_vec()).map_err(|_| {
        Error::Local(format!(
            "load users and roles: name \"{}\" is not UTF-8",
            name.escape_ascii()
        ))
    })
}
