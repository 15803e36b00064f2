//! What only the leader can do, asked of it by other members. The leader itself goes the same way, so there is one meaning to each.
//!
//! An answer is the bytes that the request's kind says, or the text of an [`Error`], from which the asker makes the same error again.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use consensus::{Change, Configuration, NodeId};
use peer::RequestError;
use prost::Message as _;
use tokio::sync::SemaphorePermit;

use super::Peers;
use crate::error::{Error, Result};
use crate::lease::Remaining;
use crate::node::Node;
use crate::wire::chainfire::v1::StatusResponse;
use crate::wire::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use crate::wire::logpb::command::Request;

/// Puts the command that is the body into the log. Answered, with nothing, when it is there.
pub(super) const PROPOSE: u8 = 1;
/// Changes the membership: [`Wish`]. Answered, with nothing, when that is committed.
const CHANGE: u8 = 2;
/// Renews the lease with this id (8 bytes). Answer: its time to live in seconds, 0 if there is no such lease (8 bytes).
const RENEW: u8 = 3;
/// What is left of the lease with this id (8 bytes). Answer: nothing, or seconds granted and left (16 bytes).
const REMAINING: u8 = 4;
/// Hands leadership to this member (8 bytes, 0 for the most advanced). Answer: who it is (8 bytes).
const TRANSFER: u8 = 5;
/// The leader's view: an encoded [`StatusResponse`].
const STATUS: u8 = 6;

/// The hash of the history up to this revision (8 bytes). Answer: hash, and the compaction point it was taken above (12 bytes).
const HASH: u8 = 7;

/// How long to wait before a change is tried again that another one is in the way of.
const HASH_LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_millis(50);

/// Renewals and questions that a node has at the leader; the rest waits here. Half of what a member serves before it refuses, so
/// that a flood of them leaves room for writes.
pub(super) const ASKED_AT_ONCE: usize = 512;

/// The same for writes, which leave some room for what is rare.
pub(super) const PASSED_ON_AT_ONCE: usize = 480;

/// A change of membership on its way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Wish {
    /// 1 add a learner, 2 promote, 3 remove, 4 set the context.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bytes = "bytes", tag = "3")]
    context: Bytes,
}

impl Wish {
    fn of(change: Change) -> Wish {
        let (kind, node, context) = match change {
            Change::AddLearner { node, context } => (1, node, context),
            Change::Promote { node } => (2, node, Bytes::new()),
            Change::Remove { node } => (3, node, Bytes::new()),
            Change::SetContext { node, context } => (4, node, context),
        };
        Wish {
            kind,
            node: node.0,
            context,
        }
    }

    fn change(self) -> Option<Change> {
        let node = NodeId(self.node);
        Some(match self.kind {
            1 => Change::AddLearner {
                node,
                context: self.context,
            },
            2 => Change::Promote { node },
            3 => Change::Remove { node },
            4 => Change::SetContext {
                node,
                context: self.context,
            },
            _ => return None,
        })
    }
}

/// Whether a configuration is as the change wanted it.
fn is_done(change: &Change, configuration: &Configuration) -> bool {
    match change {
        Change::AddLearner { node, .. } => configuration.member(*node).is_some(),
        Change::Promote { node } => configuration.is_voter(*node),
        Change::Remove { node } => configuration.member(*node).is_none(),
        Change::SetContext { node, context } => configuration
            .member(*node)
            .is_none_or(|member| member.context == *context),
    }
}

/// Answers another member.
pub(super) async fn answer(
    node: &Node,
    from: NodeId,
    kind: u8,
    body: Bytes,
) -> std::result::Result<Bytes, String> {
    // Members vouch for their clients, so nobody else may ask.
    if node.raft.view().configuration.member(from).is_none() {
        return Err(format!("node {from} is no member of the cluster"));
    }
    here(node, kind, body).await.map_err(|error| error.to_string())
}

/// Does what is asked, on the leader.
async fn here(node: &Node, kind: u8, mut body: Bytes) -> Result<Bytes> {
    let malformed = || Error::Invalid("malformed request of a member".to_owned());
    match kind {
        PROPOSE => {
            node.raft
                .take_over(body)
                .await
                .map_err(|refusal| crate::raft::error_of(&refusal))?;
            Ok(Bytes::new())
        }
        CHANGE => {
            let wish = Wish::decode(body).map_err(|_| malformed())?;
            change_here(node, wish.change().ok_or_else(malformed)?).await?;
            Ok(Bytes::new())
        }
        RENEW => {
            let id = body.try_get_i64().map_err(|_| malformed())?;
            let left = renew_here(node, id).await?;
            Ok(Bytes::copy_from_slice(&left.to_be_bytes()))
        }
        REMAINING => {
            let id = body.try_get_i64().map_err(|_| malformed())?;
            node.raft.read().await?;
            let remaining = node.machine.lessor.lock().remaining(id, node.now_ms());
            let mut answer = BytesMut::new();
            if let Some(remaining) = remaining {
                answer.put_i64(remaining.granted);
                answer.put_i64(remaining.left);
            }
            Ok(answer.freeze())
        }
        TRANSFER => {
            let to = body.try_get_u64().map_err(|_| malformed())?;
            let to = (to != 0).then_some(NodeId(to));
            let to = node.raft.transfer(to).await;
            let to = to.map_err(|refusal| crate::raft::error_of(&refusal))?;
            Ok(Bytes::copy_from_slice(&to.0.to_be_bytes()))
        }
        HASH => {
            let revision = body.try_get_i64().map_err(|_| malformed())?;
            let machine = node.machine.clone();
            let hash = tokio::task::spawn_blocking(move || machine.mvcc.hash_kv(revision));
            let hash = hash.await.map_err(|_| Error::Stopped)??;
            let mut answer = BytesMut::new();
            answer.put_u32(hash.hash);
            answer.put_i64(hash.compacted);
            Ok(answer.freeze())
        }
        STATUS => Ok(node.own_status().await?.encode_to_vec().into()),
        _ => Err(Error::Unsupported(format!("request {kind} of a member"))),
    }
}

/// Changes the membership and waits until that is committed. One change at a time: another one in progress is waited for.
async fn change_here(node: &Node, change: Change) -> Result<()> {
    use consensus::Refusal;
    loop {
        match node.raft.change(change.clone()).await {
            Ok(position) => {
                node.raft.applied_to(position.index).await?;
                if is_done(&change, &node.raft.view().configuration) {
                    return Ok(());
                }
                // Another leader's entry took its place.
                return Err(Error::LeaderChanged);
            }
            Err(Refusal::ChangeInProgress | Refusal::LeaderNotSettled | Refusal::Transferring { .. }) => {
                tokio::time::sleep(PATIENCE).await;
            }
            Err(refusal) => return Err(crate::raft::error_of(&refusal)),
        }
    }
}

async fn renew_here(node: &Node, id: i64) -> Result<i64> {
    // A leader of the past must not let a client believe that its lease lives.
    node.raft.read().await?;
    let renewed = node.machine.lessor.lock().renew(id, node.now_ms());
    let Some((ttl, checkpointed)) = renewed else {
        return Ok(0);
    };
    if checkpointed {
        // The next leader would start from the checkpoint and let the lease run out too early.
        let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl: 0 }];
        let request = Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
        node.propose_internal(request).await?;
    }
    Ok(ttl)
}

impl Peers {
    /// Asks another member.
    pub(super) async fn request(&self, to: NodeId, kind: u8, body: Bytes, limit: Duration) -> Result<Bytes> {
        let transport = self.transport.get().ok_or(Error::NoLeader)?;
        match transport.request(to, kind, body, limit).await {
            Ok(answer) => Ok(answer),
            Err(RequestError::NotSent { .. }) => Err(Error::NoLeader),
            Err(RequestError::Refused(text)) => Err(Error::from_text(&text)),
            Err(RequestError::Unknown { .. }) => Err(Error::TimeoutConnectionLost),
        }
    }

    /// Waits for one of the places at the leader that this node has for writes; they are given in the order of asking.
    pub(in crate::node) async fn place_for_write(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.passing.acquire().await.ok()
    }

    /// Passes an encoded command on to the leader.
    pub(in crate::node) async fn pass_on(&self, to: NodeId, command: Bytes, limit: Duration) -> Result<()> {
        self.request(to, PROPOSE, command, limit).await.map(drop)
    }
}

impl Node {
    /// Has the leader do something, whoever that is, within the time that requests have. What may be done twice is asked of
    /// the next leader when the first does not answer.
    async fn at_leader(&self, kind: u8, body: Bytes) -> Result<Bytes> {
        let limit = Duration::from_millis(self.config.limits.request_timeout_ms);
        let repeatable = matches!(kind, RENEW | REMAINING | STATUS);
        let attempts = async {
            loop {
                let view = self.raft.view();
                let outcome = match view.leader {
                    _ if view.leads() => here(self, kind, body.clone()).await,
                    Some(leader) => {
                        let asked = async {
                            // It is never closed. Those at a leader that is gone leave their places below.
                            let _place = if repeatable {
                                self.peers.asking.acquire().await.ok()
                            } else {
                                None
                            };
                            self.peers.request(leader, kind, body.clone(), limit).await
                        };
                        tokio::select! {
                            answer = asked => answer,
                            () = self.led_by_another(leader), if repeatable => Err(Error::LeaderChanged),
                        }
                    }
                    None => Err(Error::NoLeader),
                };
                match outcome {
                    Err(Error::TimeoutConnectionLost) if repeatable => self.news_of_leader().await,
                    Err(error) if super::super::leader::asks_again(&error) => self.news_of_leader().await,
                    outcome => return outcome,
                }
            }
        };
        match tokio::time::timeout(limit, attempts).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Returns when this node no longer holds `leader` for the leader. A node that is paused or cut off breaks no connection.
    pub(in crate::node) async fn led_by_another(&self, leader: NodeId) {
        let mut view = self.raft.watch();
        if view.wait_for(|view| view.leader != Some(leader)).await.is_err() {
            // This node stops, and whoever waits is told so.
            std::future::pending::<()>().await;
        }
    }

    /// Hash of the history up to `revision`, and the compaction point it was taken above, as that member has it.
    pub(in crate::node) async fn hash_of(&self, member: NodeId, revision: i64) -> Result<(u32, i64)> {
        let body = Bytes::copy_from_slice(&revision.to_be_bytes());
        let mut answer = if member.0 == self.id() {
            here(self, HASH, body).await?
        } else {
            self.peers.request(member, HASH, body, HASH_LIMIT).await?
        };
        match (answer.try_get_u32(), answer.try_get_i64()) {
            (Ok(hash), Ok(compacted)) => Ok((hash, compacted)),
            _ => Err(Error::Local("malformed answer of a member".to_owned())),
        }
    }

    /// Changes who belongs to the cluster; committed, and known to this node, when it returns.
    pub async fn change(&self, change: Change) -> Result<()> {
        let wish = Wish::of(change.clone()).encode_to_vec().into();
        match self.at_leader(CHANGE, wish).await {
            Ok(_) => {
                // It was agreed on, even if this node should not hear of it in time.
                self.comes_true(&change).await;
                Ok(())
            }
            // A leader that is removed ends its connections at once; whether it was shows in what the others know.
            Err(Error::TimeoutConnectionLost) if self.comes_true(&change).await => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until the members are, as far as this node knows, as `change` wants them; false if that takes longer than a request may.
    async fn comes_true(&self, change: &Change) -> bool {
        let limit = Duration::from_millis(self.config.limits.request_timeout_ms);
        let mut view = self.raft.watch();
        let done = view.wait_for(|view| is_done(change, &view.configuration));
        matches!(tokio::time::timeout(limit, done).await, Ok(Ok(_)))
    }

    /// Renews a lease. Its time to live in seconds, 0 if there is no such lease.
    pub async fn renew_lease(&self, id: i64) -> Result<i64> {
        let body = Bytes::copy_from_slice(&id.to_be_bytes());
        let answer = self.at_leader(RENEW, body).await?.try_get_i64();
        answer.map_err(|_| Error::Local("malformed answer of the leader".to_owned()))
    }

    /// What is left of a lease.
    pub(crate) async fn lease_remaining(&self, id: i64) -> Result<Option<Remaining>> {
        let body = Bytes::copy_from_slice(&id.to_be_bytes());
        let mut answer = self.at_leader(REMAINING, body).await?;
        let (Ok(granted), Ok(left)) = (answer.try_get_i64(), answer.try_get_i64()) else {
            return Ok(None);
        };
        Ok(Some(Remaining { granted, left }))
    }

    /// Hands leadership to `to`, or to the most advanced voter; tells to whom.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId> {
        let body = Bytes::copy_from_slice(&to.map_or(0, |to| to.0).to_be_bytes());
        let answer = self.at_leader(TRANSFER, body).await?.try_get_u64();
        let to = answer.map_err(|_| Error::Local("malformed answer of the leader".to_owned()))?;
        Ok(NodeId(to))
    }

    /// The leader's view of the cluster.
    pub async fn leader_status(&self) -> Result<StatusResponse> {
        let answer = self.at_leader(STATUS, Bytes::new()).await?;
        StatusResponse::decode(answer).map_err(|_| Error::Local("malformed answer of the leader".to_owned()))
    }
}
