//! What locks and elections share: a queue of keys under one prefix, ordered by creation.
//!
//! Each contender has the key `prefix/LEASE`, its lease in hexadecimal. The oldest key holds; everybody else waits for the
//! keys before its own to go away. This is how etcd's Go clients do it, so both kinds of client can share a lock.

use std::time::Duration;

use bytes::Bytes;

use super::Server;
use crate::auth::Identity;
use crate::error::Error;
use crate::mvcc::{KeyRange, Revision};
use crate::watch::Session;
use crate::wire::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::wire::etcdserverpb::request_op::Request as Op;
use crate::wire::etcdserverpb::response_op::Response as OpResponse;
use crate::wire::etcdserverpb::watch_create_request::FilterType;
use crate::wire::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, TxnResponse, WatchCreateRequest,
};
use crate::wire::logpb::command::Request as Command;
use crate::wire::mvccpb::KeyValue;

/// Seconds of a lease made here for a client that brought none (etcd's default for a session).
const OWN_LEASE_TTL: i64 = 60;

/// A contender's key, and since when it stands.
pub(super) struct Place {
    /// `prefix/LEASE`.
    pub(super) key: Bytes,
    /// When it was created.
    pub(super) created: Revision,
    /// The lease it hangs on.
    pub(super) lease: i64,
    /// The value it had already, if it stood before this request.
    pub(super) old_value: Option<Bytes>,
}

/// A compare of a key's creation.
pub(super) fn created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn operation(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// Puts `value` if `compare` holds.
pub(super) fn put_if(compare: Compare, key: Bytes, value: Bytes, lease: i64) -> TxnRequest {
    let put = PutRequest {
        key,
        value,
        lease,
        ..Default::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(Op::RequestPut(put))],
        failure: Vec::new(),
    }
}

/// Deletes `key` if `compare` holds.
pub(super) fn delete_if(compare: Compare, key: Bytes) -> TxnRequest {
    let delete = DeleteRangeRequest {
        key,
        ..Default::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(Op::RequestDeleteRange(delete))],
        failure: Vec::new(),
    }
}

/// `name/`, under which all contenders stand.
pub(super) fn prefix(name: &Bytes) -> Bytes {
    let mut prefix = name.to_vec();
    prefix.push(b'/');
    Bytes::from(prefix)
}

/// Gives up a place unless told that it was won: a client that goes away must not block those behind it.
struct Standing {
    server: Server,
    identity: Identity,
    key: Option<(Bytes, Revision)>,
    /// A lease that was made for this place alone, and goes with it.
    own_lease: Option<i64>,
}

impl Standing {
    fn won(mut self) {
        self.key = None;
        self.own_lease = None;
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let server = self.server.clone();
        if let Some(id) = self.own_lease.take() {
            tokio::spawn(async move {
                let revoke = Command::LeaseRevoke(LeaseRevokeRequest { id });
                if let Err(error) = server.node.propose_internal(revoke).await {
                    tracing::debug!(target: "chainfire_api", error = %error, "Lease of a place left to run out");
                }
            });
        } else if let Some((key, created)) = self.key.take() {
            let identity = self.identity.clone();
            tokio::spawn(async move {
                let request = delete_if(created_at(&key, created), key);
                if let Err(error) = server.run_txn(request, &identity).await {
                    tracing::debug!(target: "chainfire_api", error = %error, "Place in a queue left to its lease");
                }
            });
        }
    }
}

/// Takes a place: puts `PREFIX/LEASE`, or reads it if it stands already. A lease of 0 stands for a new one.
async fn stand(
    server: Server,
    identity: Identity,
    prefix: Bytes,
    lease: i64,
    value: Bytes,
) -> Result<(Place, Standing), Error> {
    let own = lease == 0;
    let lease = if own { server.new_lease_id()? } else { lease };
    let key = Bytes::from([prefix.as_ref(), format!("{lease:x}").as_bytes()].concat());
    let get = RangeRequest {
        key: key.clone(),
        ..Default::default()
    };
    let request = TxnRequest {
        failure: vec![operation(Op::RequestRange(get))],
        ..put_if(created_at(&key, 0), key.clone(), value, lease)
    };
    let mut standing = Standing {
        server: server.clone(),
        identity: identity.clone(),
        key: None,
        own_lease: None,
    };
    if own {
        // Asked before there is a lease, which nobody would revoke if the server stopped between the two.
        let none = |_| Vec::new();
        server
            .node
            .machine
            .auth
            .read()
            .check_txn(&identity, &request, &none)?;
        let grant = LeaseGrantRequest {
            ttl: OWN_LEASE_TTL,
            id: lease,
        };
        server.grant_lease(grant, &identity).await?;
        standing.own_lease = Some(lease);
    }
    let response = server.run_txn(request, &identity).await?;
    let revision = response.header.map_or(0, |header| header.revision);
    // A place that stood before this request belongs to another one, which may still wait for it.
    let before = found(&response).map(|kv| (kv.create_revision, kv.value.clone()));
    standing.key = before.is_none().then(|| (key.clone(), revision));
    let place = Place {
        key,
        created: before.as_ref().map_or(revision, |(created, _)| *created),
        lease,
        old_value: before.map(|(_, value)| value),
    };
    Ok((place, standing))
}

impl Server {
    /// Stands in the queue under `name` and waits until nobody is before. A lease of 0 stands for a new one.
    pub(super) async fn queue(
        &self,
        name: &Bytes,
        lease: i64,
        value: Bytes,
        identity: &Identity,
    ) -> Result<Place, Error> {
        let prefix = prefix(name);
        // In a task of its own: once asked for, the place is taken whether or not the client still waits, and somebody has to
        // give it up again if not.
        let taking = stand(self.clone(), identity.clone(), prefix.clone(), lease, value);
        let (place, standing) = tokio::spawn(taking).await.map_err(|_| Error::Stopped)??;
        self.wait_for_turn(&prefix, place.created, standing.own_lease, identity)
            .await?;
        // The lease may have run out meanwhile, and the place with it.
        let get = RangeRequest {
            key: place.key.clone(),
            ..Default::default()
        };
        let still = self.read(get, identity).await?;
        if still
            .kvs
            .first()
            .is_none_or(|kv| kv.create_revision != place.created)
        {
            return Err(Error::LeaseNotFound);
        }
        standing.won();
        Ok(place)
    }

    /// Returns when no key under `prefix` is older than `created`.
    async fn wait_for_turn(
        &self,
        prefix: &Bytes,
        created: Revision,
        own_lease: Option<i64>,
        identity: &Identity,
    ) -> Result<(), Error> {
        loop {
            let range = KeyRange::prefix(prefix);
            let request = RangeRequest {
                key: range.start,
                range_end: range.end.unwrap_or_else(|| Bytes::from_static(&[0])),
                max_create_revision: created - 1,
                sort_target: SortTarget::Create as i32,
                sort_order: SortOrder::Descend as i32,
                limit: 1,
                keys_only: true,
                ..Default::default()
            };
            let response = self.read(request, identity).await?;
            let Some(before) = response.kvs.into_iter().next() else {
                return Ok(());
            };
            let revision = response.header.map_or(0, |header| header.revision);
            self.wait_until_deleted(before.key, revision + 1, own_lease)
                .await?;
        }
    }

    /// Returns when `key` has been deleted at or after `from`. Keeps `own_lease` alive meanwhile.
    async fn wait_until_deleted(
        &self,
        key: Bytes,
        from: Revision,
        own_lease: Option<i64>,
    ) -> Result<(), Error> {
        let node = &self.node;
        let mut session = Session::new(node.machine.clone(), node.hub.clone(), node.session_settings());
        let request = WatchCreateRequest {
            key,
            start_revision: from,
            filters: vec![FilterType::Noput as i32],
            ..Default::default()
        };
        session.create(request, node.now_ms());
        let stream = session.stream().clone();
        let renew_every = Duration::from_secs(OWN_LEASE_TTL as u64 / 3);
        loop {
            for reply in session.advance(node.now_ms()) {
                if reply.canceled {
                    // Compacted: whatever happened, the caller looks again.
                    return Ok(());
                }
                if !reply.events.is_empty() {
                    return Ok(());
                }
            }
            let busy = session.is_catching_up();
            tokio::select! {
                () = tokio::task::yield_now(), if busy => {}
                () = stream.filled() => {}
                () = tokio::time::sleep(renew_every), if own_lease.is_some() => {
                    if let Some(lease) = own_lease {
                        node.machine.lessor.lock().renew(lease, node.now_ms());
                    }
                }
                () = self.shutdown.wait() => return Err(Error::Stopped),
            }
        }
    }

    /// The oldest key under `name/`, as of now or of a past revision.
    pub(super) async fn oldest(
        &self,
        name: &Bytes,
        identity: &Identity,
    ) -> Result<(Option<KeyValue>, Revision), Error> {
        let range = KeyRange::prefix(&prefix(name));
        let request = RangeRequest {
            key: range.start,
            range_end: range.end.unwrap_or_else(|| Bytes::from_static(&[0])),
            sort_target: SortTarget::Create as i32,
            sort_order: SortOrder::Ascend as i32,
            limit: 1,
            ..Default::default()
        };
        let response = self.read(request, identity).await?;
        let revision = response.header.map_or(0, |header| header.revision);
        Ok((response.kvs.into_iter().next(), revision))
    }
}

/// The key that the failure branch of a transaction read.
fn found(response: &TxnResponse) -> Option<&KeyValue> {
    match response.responses.first()?.response.as_ref()? {
        OpResponse::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}
