//! The Watch stream: one task for each client, fed by its [`Session`].
//!
//! Permission is asked when a watch is made and, unlike in etcd, again whenever users or roles have changed: a watch that its
//! user may no longer have is canceled with the words of a refusal, and nothing that changed later is told. What counts is the
//! user under whose name the stream was last seen; that a token has run out since ends nothing.

use std::collections::HashSet;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Server;
use super::calls::{Replies, code_name};
use crate::auth::{Access, Identity};
use crate::error::Error;
use crate::mvcc::KeyRange;
use crate::watch::{Session, WatchId};
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::watch_server::Watch;
use crate::wire::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

/// Replies between the session and the connection. Small: what a slow client does not take waits in the session's bounded
/// buffer, not here.
const REPLIES_IN_FLIGHT: usize = 16;

/// Requests of one client taken before its watches are looked at.
const REQUESTS_AT_ONCE: usize = 256;

#[tonic::async_trait]
impl Watch for Server {
    type WatchStream = Replies<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.calls
            .count_stream("Watch", async {
                let metadata = request.metadata().clone();
                self.want_leader(metadata.as_ref())?;
                let (sender, receiver) = mpsc::channel(REPLIES_IN_FLIGHT);
                let session = Session::new(
                    self.node.machine.clone(),
                    self.node.hub.clone(),
                    self.node.session_settings(),
                );
                let client = Client {
                    server: self.clone(),
                    metadata,
                    user: String::new(),
                    session,
                    replies: sender,
                };
                tokio::spawn(client.run(request.into_inner()));
                Ok(ReceiverStream::new(receiver))
            })
            .await
    }
}

struct Client {
    server: Server,
    /// Who it is, which is asked anew for each watch: users and roles change while a stream lives.
    metadata: MetadataMap,
    /// Who it was when that was last known; empty for nobody.
    user: String,
    session: Session,
    replies: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// The client has gone away, so nobody is left to tell.
struct Gone;

impl Client {
    async fn run(mut self, requests: Streaming<WatchRequest>) {
        let shutdown = self.server.shutdown.clone();
        let replies = self.replies.clone();
        let (server, metadata) = (self.server.clone(), self.metadata.clone());
        tokio::select! {
            _ = self.serve(requests) => {}
            () = server.leader_lost(metadata.as_ref()) => {
                // Best effort, as below.
                let _ = replies.try_send(Err(Error::NoLeader.into()));
            }
            () = replies.closed() => {}
            () = shutdown.wait() => {
                // Best effort: a client that does not read now will see the connection close.
                let _ = replies.try_send(Err(Error::Stopped.into()));
            }
        }
    }

    async fn serve(&mut self, mut requests: Streaming<WatchRequest>) -> Result<(), Gone> {
        let stream = self.session.stream().clone();
        let mut permissions = self.server.node.machine.permissions();
        // A client may end its side and go on listening.
        let mut listening = true;
        loop {
            let (now, mut replies) = self.advance().await;
            // Looked at when the events are taken: those of later changes are not among them.
            if permissions.has_changed().is_ok_and(|changed| changed) {
                permissions.mark_unchanged();
                self.withdraw(&mut replies);
            }
            for reply in replies {
                self.replies.send(Ok(reply)).await.map_err(|_| Gone)?;
            }
            let busy = self.session.is_catching_up();
            let notice = self
                .session
                .next_notice_ms()
                .map(|due| Duration::from_millis(due.saturating_sub(now).max(1)));
            tokio::select! {
                biased;
                request = requests.message(), if listening => {
                    listening = self.take(request).await?;
                    // With those that have arrived too: whoever makes many watches does not wait for a round after each.
                    for _ in 1..REQUESTS_AT_ONCE {
                        match requests.message().now_or_never() {
                            Some(request) if listening => listening = self.take(request).await?,
                            _ => break,
                        }
                    }
                }
                () = tokio::task::yield_now(), if busy => {}
                () = stream.filled() => {}
                // Fails only if the node is gone.
                _ = permissions.changed() => permissions.mark_changed(),
                () = tokio::time::sleep(notice.unwrap_or_default()), if notice.is_some() => {}
            }
        }
    }

    /// The time, and what there is to tell now.
    async fn advance(&mut self) -> (u64, Vec<WatchResponse>) {
        let node = self.server.node.clone();
        if !self.session.is_catching_up() {
            let now = node.now_ms();
            return (now, self.session.advance(now));
        }
        // One stream at a time reads the past, on a thread that nobody else needs: the others' calls go on.
        let _turn = node.hub.turn().await;
        let now = node.now_ms();
        (now, tokio::task::block_in_place(|| self.session.advance(now)))
    }

    /// Does what the client asks for. False if it has ended its side.
    async fn take(&mut self, request: Result<Option<WatchRequest>, Status>) -> Result<bool, Gone> {
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(false),
            // A client that has gone away does not hear of it.
            Err(status) => {
                let _ = self.replies.send(Err(status)).await;
                return Err(Gone);
            }
        };
        let replies = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.session.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                self.session.request_progress();
                Vec::new()
            }
            None => Vec::new(),
        };
        for reply in replies {
            self.replies.send(Ok(reply)).await.map_err(|_| Gone)?;
        }
        Ok(true)
    }

    fn create(&mut self, request: WatchCreateRequest) -> Vec<WatchResponse> {
        let node = &self.server.node;
        let access = Access::Read {
            key: &request.key,
            range_end: &request.range_end,
        };
        let permitted = self.server.identify(&self.metadata).and_then(|identity| {
            node.machine.auth.read().check(&identity, access)?;
            self.user = identity.user;
            Ok(())
        });
        if let Err(error) = permitted {
            return vec![self.session.denied(&in_words(&error))];
        }
        let most = node.config.limits.max_watchers;
        if most > 0 && node.hub.len() as u64 >= most {
            return vec![self.session.denied(&in_words(&Error::TooManyRequests))];
        }
        self.session.create(request, node.now_ms())
    }

    /// Ends the watches that the client may no longer have, and takes back what it was to be told of them.
    fn withdraw(&mut self, replies: &mut Vec<WatchResponse>) {
        if let Ok(identity) = self.server.identify(&self.metadata)
            && !identity.user.is_empty()
        {
            self.user = identity.user;
        }
        let machine = self.server.node.machine.clone();
        let auth = machine.auth.read();
        if !auth.enabled() || auth.is_root(&self.user) {
            return;
        }
        let identity = match self.user.as_str() {
            "" => Identity::nobody(),
            user => Identity::new(user, auth.revision()),
        };
        let check = |range: &KeyRange| {
            let (key, range_end): (&[u8], &[u8]) = match (range.as_single(), &range.end) {
                (Some(key), _) => (key, b""),
                (None, Some(end)) => (&range.start, end),
                (None, None) => (&range.start, b"\0"),
            };
            auth.check(&identity, Access::Read { key, range_end })
        };
        let denied: Vec<(WatchId, Error)> = self
            .session
            .ranges()
            .filter_map(|(id, range)| Some((id, check(range).err()?)))
            .collect();
        let ended = denied
            .into_iter()
            .filter_map(|(id, error)| self.session.withdraw(id, &in_words(&error)));
        take_back(replies, ended.collect());
    }
}

/// Takes out what the watches that have ended were to be told, and tells their end first: a notice among the others of how far
/// everything is would tell a client that a watch has seen what was taken back.
fn take_back(replies: &mut Vec<WatchResponse>, ended: Vec<WatchResponse>) {
    let ids: HashSet<WatchId> = ended.iter().map(|reply| reply.watch_id).collect();
    replies.retain(|reply| !ids.contains(&reply.watch_id));
    replies.splice(0..0, ended);
}

/// The error as Go prints a status. Go clients compare the reason of a refused watch with this text, and try again with a new
/// token if that is what it says.
fn in_words(error: &Error) -> String {
    format!("rpc error: code = {} desc = {error}", code_name(error.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_watch_is_told_before_a_notice_that_speaks_for_it() {
        let reply = |watch_id, canceled| WatchResponse {
            watch_id,
            canceled,
            ..Default::default()
        };
        let mut replies = vec![
            reply(1, false),
            reply(2, false),
            reply(1, false),
            reply(-1, false),
        ];
        take_back(&mut replies, vec![reply(1, true)]);
        assert_eq!(replies, [reply(1, true), reply(2, false), reply(-1, false)]);
    }

    #[test]
    fn refusals_are_worded_as_go_clients_compare_them() {
        assert_eq!(
            in_words(&Error::InvalidAuthToken),
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        );
    }
}
