//! What the entries of the log do.
//!
//! Every member applies the same entries in the same order and so holds the same keys, leases, users and alarms. Applying
//! reads no clock and no randomness: times travel in the command. (The deadlines of leases are kept here too, because grants
//! and expiries change them, but only the leader looks at them; see [`crate::lease`].)
//!
//! An error that belongs to a command (a missing lease, a denied permission) is an answer and the same everywhere. A local
//! failure, say of the disk, is not: the node stops, because it can no longer tell what the others can.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use store::Store;
use tokio::sync::watch;

use crate::auth::{AuthStore, Identity, Tokens};
use crate::error::{Error, Result};
use crate::lease::{self, Lease, Lessor};
use crate::mvcc::{self, Event, Group, Mvcc, Revision, WriteEffects, family};
use crate::wire::etcdserverpb::alarm_request::AlarmAction;
use crate::wire::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeResponse,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse, PutResponse,
    TxnResponse,
};
use crate::wire::logpb::Command;
use crate::wire::logpb::command::Request;

/// A committed command and its place in the log.
#[derive(Debug)]
pub struct Committed {
    /// Position in the log.
    pub index: u64,
    /// Term of the leader that accepted it.
    pub term: u64,
    /// What to do.
    pub command: Command,
}

/// What the client that sent a command is told, before the header is filled in.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a compaction.
    Compaction(CompactionResponse),
    /// Of a lease grant.
    LeaseGrant(LeaseGrantResponse),
    /// Of a lease revocation.
    LeaseRevoke(LeaseRevokeResponse),
    /// Of an alarm request.
    Alarm(AlarmResponse),
    /// Of a command about users or roles; tells which tokens are void from now on.
    Auth(Tokens),
    /// Of a command of the store itself.
    Done,
}

/// The outcome of one command.
#[derive(Debug)]
pub struct Outcome {
    /// Its reply or refusal.
    pub reply: Result<Reply>,
    /// The store's revision right after it.
    pub revision: Revision,
    /// Its position in the log.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// Keys, leases, users and alarms of one member.
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct StateMachine {
    /// The keys.
    pub mvcc: Mvcc,
    /// Leases and, on the leader, their deadlines.
    pub lessor: Mutex<Lessor>,
    /// Users and roles.
    pub auth: RwLock<AuthStore>,
    /// Told when users or roles have changed.
    permissions: watch::Sender<()>,
    alarms: RwLock<BTreeSet<(u64, i32)>>,
    store: Arc<Store>,
}

/// Tells writes whether a lease is there.
struct Leases<'a>(&'a Mutex<Lessor>);

impl WriteEffects for Leases<'_> {
    fn lease_exists(&self, id: i64) -> bool {
        self.0.lock().contains(id)
    }
}

const ALARM_PREFIX: &[u8] = b"alarm/";

fn alarm_key(member: u64, alarm: i32) -> Vec<u8> {
    let mut key = ALARM_PREFIX.to_vec();
    key.extend_from_slice(&member.to_be_bytes());
    key.extend_from_slice(&alarm.to_be_bytes());
    key
}

impl StateMachine {
    /// As the database has it.
    pub fn load(store: Arc<Store>) -> Result<StateMachine> {
        let lessor = Lessor::new(lease::load(&store)?);
        let auth = load_auth(&store)?;
        let alarms = load_alarms(&store)?;
        Ok(StateMachine {
            mvcc: Mvcc::load(store.clone())?,
            lessor: Mutex::new(lessor),
            auth: RwLock::new(auth),
            permissions: watch::Sender::new(()),
            alarms: RwLock::new(alarms),
            store,
        })
    }

    /// Lets `change` replace the database, then takes everything anew. Nobody may apply anything meanwhile. Deadlines of leases start
    /// over with the next [`Lessor::lead`].
    pub fn replace<E: From<Error>>(
        &self,
        change: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.mvcc.replace(|| -> std::result::Result<(), E> {
            change()?;
            self.lessor.lock().reload(lease::load(&self.store)?);
            *self.auth.write() = load_auth(&self.store)?;
            *self.alarms.write() = load_alarms(&self.store)?;
            Ok(())
        })?;
        self.permissions.send_replace(());
        Ok(())
    }

    /// Tells when what somebody may do has changed. A change is told before events of later ones are published.
    pub fn permissions(&self) -> watch::Receiver<()> {
        self.permissions.subscribe()
    }

    /// Active alarms, by member and kind.
    pub fn alarms(&self) -> Vec<AlarmMember> {
        let member = |(member_id, alarm): &(u64, i32)| AlarmMember {
            member_id: *member_id,
            alarm: *alarm,
        };
        self.alarms.read().iter().map(member).collect()
    }

    /// True if any member has raised `alarm`.
    pub fn has_alarm(&self, alarm: AlarmType) -> bool {
        self.alarms
            .read()
            .iter()
            .any(|(_, active)| *active == alarm as i32)
    }

    /// Applies `entries`, which follow the last applied one, and answers each. `now` is this node's clock in milliseconds,
    /// for deadlines only. `publish` is given events when they can be read, in order.
    ///
    /// Errors are local failures: the node must stop.
    pub fn apply(
        &self,
        entries: impl IntoIterator<Item = Committed>,
        now: u64,
        publish: &mut dyn FnMut(Vec<Event>),
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        let mut group = Group::new(&self.mvcc);
        for Committed { index, term, command } in entries {
            if self.reads_the_database(&command) && !group.is_empty() {
                publish(group.commit()?);
                group = Group::new(&self.mvcc);
            }
            let reply = match self.apply_one(&mut group, command, now) {
                Err(error @ (Error::Local(_) | Error::Damaged(_))) => return Err(error),
                Err(Error::NoSpace) if !self.has_alarm(AlarmType::Nospace) => {
                    return Err(Error::Local("apply: the disk is full".to_owned()));
                }
                reply => reply,
            };
            group.finish_revision();
            group.applied(index, term);
            outcomes.push(Outcome {
                reply,
                revision: group.revision(),
                index,
                term,
            });
        }
        if !outcomes.is_empty() {
            publish(group.commit()?);
        }
        Ok(outcomes)
    }

    /// True for commands that read more than a group can lay over the database: what hangs on a lease, or the past.
    fn reads_the_database(&self, command: &Command) -> bool {
        match &command.request {
            Some(Request::LeaseRevoke(_) | Request::LeaseExpire(_)) => true,
            Some(Request::Txn(txn)) => mvcc::reads_the_past(txn) || self.auth.read().enabled(),
            Some(Request::Put(put)) => put.lease != 0 && self.auth.read().enabled(),
            _ => false,
        }
    }

    fn apply_one(&self, group: &mut Group<'_>, command: Command, now: u64) -> Result<Reply> {
        let Some(request) = command.request else {
            return Ok(Reply::Done);
        };
        if !command.internal {
            let identity = Identity {
                user: command.user,
                auth_revision: command.auth_revision,
            };
            let keys_of = |id: i64| lease::attached(&self.store, id).unwrap_or_default();
            self.auth.read().check_command(&identity, &request, &keys_of)?;
            self.refuse_under_alarm(&request)?;
        }
        let leases = Leases(&self.lessor);
        Ok(match request {
            Request::Put(put) => Reply::Put(group.apply_put(put, &leases)?),
            Request::DeleteRange(delete) => Reply::DeleteRange(group.apply_delete(delete)?),
            Request::Txn(txn) => Reply::Txn(group.apply_txn(txn, &leases)?),
            Request::Compaction(compaction) => {
                if compaction.revision > group.revision() {
                    return Err(Error::FutureRevision);
                }
                if compaction.revision <= group.compacted() {
                    return Err(Error::Compacted);
                }
                group.compact(compaction.revision);
                Reply::Compaction(CompactionResponse::default())
            }
            Request::LeaseGrant(grant) => Reply::LeaseGrant(self.grant(group, &grant, now)?),
            Request::LeaseRevoke(revoke) => {
                if !self.lessor.lock().contains(revoke.id) {
                    return Err(Error::LeaseNotFound);
                }
                self.end_lease(group, revoke.id)?;
                Reply::LeaseRevoke(LeaseRevokeResponse::default())
            }
            Request::LeaseExpire(expire) => {
                for id in expire.ids {
                    if self.lessor.lock().contains(id) {
                        self.end_lease(group, id)?;
                    }
                }
                Reply::Done
            }
            Request::LeaseCheckpoint(checkpoint) => {
                self.checkpoint_leases(group, &checkpoint, now);
                Reply::Done
            }
            Request::Alarm(alarm) => Reply::Alarm(self.change_alarm(group, &alarm)),
            Request::LeaderStarted(_) => Reply::Done,
            Request::TokenGiven(given) => Reply::Auth(Tokens::Given {
                user: given.user,
                fingerprint: given.fingerprint,
            }),
            request @ (Request::AuthEnable(_)
            | Request::AuthDisable(_)
            | Request::AuthUserAdd(_)
            | Request::AuthUserDelete(_)
            | Request::AuthUserChangePassword(_)
            | Request::AuthUserGrantRole(_)
            | Request::AuthUserRevokeRole(_)
            | Request::AuthRoleAdd(_)
            | Request::AuthRoleDelete(_)
            | Request::AuthRoleGrantPermission(_)
            | Request::AuthRoleRevokePermission(_)) => {
                let outcome = self.auth.write().apply(&request)?;
                self.permissions.send_replace(());
                for change in outcome.changes {
                    match change.value {
                        Some(value) => group.batch().put(family::AUTH, &change.key, &value),
                        None => group.batch().delete(family::AUTH, &change.key),
                    }
                }
                Reply::Auth(outcome.tokens)
            }
        })
    }

    /// Without space only what frees some is taken; with corrupt members nothing is.
    fn refuse_under_alarm(&self, request: &Request) -> Result<()> {
        let alarms = self.alarms.read();
        if alarms.is_empty() || matches!(request, Request::Alarm(_)) {
            return Ok(());
        }
        if alarms
            .iter()
            .any(|(_, alarm)| *alarm == AlarmType::Corrupt as i32)
        {
            return Err(Error::Corrupt);
        }
        let takes_space = match request {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(txn) => mvcc::puts(txn),
            _ => false,
        };
        if takes_space { Err(Error::NoSpace) } else { Ok(()) }
    }

    fn grant(
        &self,
        group: &mut Group<'_>,
        request: &LeaseGrantRequest,
        now: u64,
    ) -> Result<LeaseGrantResponse> {
        let mut lessor = self.lessor.lock();
        if lessor.contains(request.id) {
            return Err(Error::LeaseExists);
        }
        Lease {
            id: request.id,
            ttl: request.ttl,
            remaining: 0,
        }
        .save(group.batch());
        lessor.grant(request.id, request.ttl, now);
        Ok(LeaseGrantResponse {
            id: request.id,
            ttl: request.ttl,
            ..Default::default()
        })
    }

    /// Deletes what hangs on the lease, in one revision, and the lease.
    fn end_lease(&self, group: &mut Group<'_>, id: i64) -> Result<()> {
        for key in lease::attached(&self.store, id)? {
            // What hangs on it may have moved or gone within this very group.
            if group.newest(&key)?.is_some_and(|version| version.lease == id) {
                group.delete(key)?;
            }
        }
        group.finish_revision();
        Lease::remove(id, group.batch());
        self.lessor.lock().remove(id);
        Ok(())
    }

    fn checkpoint_leases(&self, group: &mut Group<'_>, request: &LeaseCheckpointRequest, now: u64) {
        let mut lessor = self.lessor.lock();
        for checkpoint in &request.checkpoints {
            if let Some(lease) = lessor.checkpoint(checkpoint.id, checkpoint.remaining_ttl, now) {
                lease.save(group.batch());
            }
        }
    }

    fn change_alarm(&self, group: &mut Group<'_>, request: &AlarmRequest) -> AlarmResponse {
        let mut alarms = self.alarms.write();
        let named = |(member, alarm): &(u64, i32)| {
            (request.member_id == 0 || *member == request.member_id)
                && (request.alarm == AlarmType::None as i32 || *alarm == request.alarm)
        };
        let concerned: Vec<(u64, i32)> = match request.action() {
            AlarmAction::Get => alarms.iter().filter(|alarm| named(alarm)).copied().collect(),
            AlarmAction::Activate => {
                let alarm = (request.member_id, request.alarm);
                if request.alarm == AlarmType::None as i32 {
                    Vec::new()
                } else {
                    if alarms.insert(alarm) {
                        group.batch().put(family::META, &alarm_key(alarm.0, alarm.1), &[]);
                    }
                    vec![alarm]
                }
            }
            AlarmAction::Deactivate => {
                let gone: Vec<(u64, i32)> = alarms.iter().filter(|alarm| named(alarm)).copied().collect();
                for alarm in &gone {
                    alarms.remove(alarm);
                    group.batch().delete(family::META, &alarm_key(alarm.0, alarm.1));
                }
                gone
            }
        };
        let member = |(member_id, alarm)| AlarmMember { member_id, alarm };
        AlarmResponse {
            header: None,
            alarms: concerned.into_iter().map(member).collect(),
        }
    }
}

fn load_auth(store: &Store) -> Result<AuthStore> {
    let mut entries = Vec::new();
    let mut cursor = store.cursor(family::AUTH, None, None);
    cursor.seek_to_first();
    while let Some((key, value)) = cursor.entry() {
        entries.push((key.to_vec(), value.to_vec()));
        cursor.next();
    }
    cursor.check()?;
    AuthStore::load(entries)
}

fn load_alarms(store: &Store) -> Result<BTreeSet<(u64, i32)>> {
    let mut alarms = BTreeSet::new();
    let mut cursor = store.cursor(family::META, None, None);
    cursor.seek(ALARM_PREFIX);
    while let Some((key, _)) = cursor.entry() {
        let Some(rest) = key.strip_prefix(ALARM_PREFIX) else {
            break;
        };
        if let (Some(Ok(member)), Some(Ok(alarm))) = (
            rest.get(..8).map(TryInto::try_into),
            rest.get(8..).map(TryInto::try_into),
        ) {
            alarms.insert((u64::from_be_bytes(member), i32::from_be_bytes(alarm)));
        }
        cursor.next();
    }
    cursor.check()?;
    Ok(alarms)
}
