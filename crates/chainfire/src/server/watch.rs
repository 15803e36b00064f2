//! The Watch stream: one task for each client, fed by its [`Session`].
//!
//! Permission is asked when a watch is made and, unlike in etcd, again whenever users or roles have changed: a watch that its
//! user may no longer have is canceled with the words of a refusal, and nothing that changed later is told. What counts is the
//! user under whose name the stream was last seen; that a token has run out since ends nothing.

use std::time::Duration;

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
        tokio::select! {
            _ = self.serve(requests) => {}
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
            let now = self.server.node.now_ms();
            let mut replies = self.session.advance(now);
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
                request = requests.message(), if listening => match request {
                    Ok(Some(request)) => self.take(request).await?,
                    Ok(None) => listening = false,
                    // A client that has gone away does not hear of it.
                    Err(status) => return self.replies.send(Err(status)).await.map_err(|_| Gone),
                },
                () = tokio::task::yield_now(), if busy => {}
                () = stream.filled() => {}
                // Fails only if the node is gone.
                _ = permissions.changed() => permissions.mark_changed(),
                () = tokio::time::sleep(notice.unwrap_or_default()), if notice.is_some() => {}
            }
        }
    }

    async fn take(&mut self, request: WatchRequest) -> Result<(), Gone> {
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
        Ok(())
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
        for (id, error) in denied {
            replies.retain(|reply| reply.watch_id != id);
            replies.extend(self.session.withdraw(id, &in_words(&error)));
        }
    }
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
    fn refusals_are_worded_as_go_clients_compare_them() {
        assert_eq!(
            in_words(&Error::InvalidAuthToken),
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        );
    }
}
