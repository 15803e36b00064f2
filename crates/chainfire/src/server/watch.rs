//! The Watch stream: one task for each client, fed by its [`Session`].

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Server;
use super::calls::code_name;
use crate::auth::Access;
use crate::error::Error;
use crate::watch::Session;
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::watch_server::Watch;
use crate::wire::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

/// Replies between the session and the connection. Small: what a slow client does not take waits in the session's bounded
/// buffer, not here.
const REPLIES_IN_FLIGHT: usize = 16;

type Replies = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Watch for Server {
    type WatchStream = Replies;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Replies>, Status> {
        self.calls.stream_started("Watch");
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
            session,
            replies: sender,
        };
        tokio::spawn(client.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct Client {
    server: Server,
    /// Who it is, which is asked anew for each watch: users and roles change while a stream lives.
    metadata: MetadataMap,
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
        // A client may end its side and go on listening.
        let mut listening = true;
        loop {
            let now = self.server.node.now_ms();
            for reply in self.session.advance(now) {
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
                    Err(_) => return Err(Gone),
                },
                () = tokio::task::yield_now(), if busy => {}
                () = stream.filled() => {}
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
        let permitted = self
            .server
            .identify(&self.metadata)
            .and_then(|identity| node.machine.auth.read().check(&identity, access));
        if let Err(error) = permitted {
            return vec![self.session.denied(&in_words(&error))];
        }
        let most = node.config.limits.max_watchers;
        if most > 0 && node.hub.len() as u64 >= most {
            return vec![self.session.denied(&in_words(&Error::TooManyRequests))];
        }
        self.session.create(request, node.now_ms())
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
