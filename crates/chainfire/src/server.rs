//! What clients talk to: one port for gRPC (HTTP/2) and HTTP/1.1.
//!
//! [`listen`] accepts connections and tells the protocols apart; [`http2`] drives HTTP/2 connections and carries out the most
//! frequent calls itself; [`dispatch`] sends every other request to the gRPC service or the plain page it names; the files
//! named after etcd's services turn requests into reads of the store or commands of the log. The JSON [`gateway`] is a client
//! of these same services, so whatever is said over JSON means what it means over gRPC.

mod auth;
mod authority;
mod calls;
mod cluster;
mod deadline;
mod dispatch;
mod election;
pub mod gateway;
mod health;
mod http2;
mod kv;
mod lease;
mod listen;
mod lock;
mod maintenance;
mod pages;
mod recipes;
mod snapshot;
pub mod tls;
mod transport;
mod unfinished;
mod values;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::auth::Identity;
use crate::error::Error;
use crate::node::Node;

pub use calls::Calls;
pub use listen::{Listener, serve};
pub use tls::Tls;

/// Shared by all services.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds the database")]
pub struct Server {
    /// The node served.
    pub node: Arc<Node>,
    /// Counters of every call.
    pub calls: Arc<Calls>,
    /// Ends streams when the server drains.
    pub shutdown: service::Shutdown,
}

impl Server {
    /// Who sends a request with these metadata. Not known to be anybody is no error while nobody has to be somebody.
    fn identify(&self, metadata: &MetadataMap) -> Result<Identity, Error> {
        self.identify_headers(metadata.as_ref())
    }

    /// Refuses a request that wants a leader (`hasleader`) when there is none.
    fn want_leader(&self, headers: &HeaderMap) -> Result<(), Error> {
        let wants = headers.get("hasleader").is_some_and(|value| value == "true");
        if wants && !self.node.raft.is_alone() && self.node.raft.view().leader.is_none() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    fn identify_headers(&self, headers: &HeaderMap) -> Result<Identity, Error> {
        self.want_leader(headers)?;
        let (enabled, revision) = {
            let auth = self.node.machine.auth.read();
            (auth.enabled(), auth.revision())
        };
        if !enabled {
            return Ok(Identity::nobody());
        }
        let token = headers.get("token").or_else(|| headers.get("authorization"));
        let Some(token) = token else {
            return Ok(self.certificate_user(headers, revision));
        };
        let token = token.to_str().map_err(|_| Error::InvalidAuthToken)?;
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        self.node
            .tokens
            .identify(token, revision, &*self.node.clock)
            .ok_or(Error::InvalidAuthToken)
    }

    /// Returns when nobody has led for three election timeouts, if the client wants its stream to end then (`hasleader`); never
    /// otherwise.
    async fn leader_lost(&self, headers: &HeaderMap) {
        if headers.get("hasleader").is_none_or(|value| value != "true") {
            return std::future::pending().await;
        }
        let raft = &self.node.config.raft;
        let patience = raft.tick_interval_ms * u64::from(raft.election_ticks) * 3;
        let mut view = self.node.raft.watch();
        loop {
            if view.wait_for(|view| view.leader.is_none()).await.is_err() {
                return std::future::pending().await;
            }
            let elected = view.wait_for(|view| view.leader.is_some());
            if tokio::time::timeout(Duration::from_millis(patience), elected)
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// The user that the client's certificate names, where clients have to show one. As in etcd a token goes first.
    fn certificate_user(&self, headers: &HeaderMap, revision: u64) -> Identity {
        let tls = self.node.config.network.tls.as_ref();
        if !tls.is_some_and(|tls| tls.require_client_cert) {
            return Identity::nobody();
        }
        match headers
            .get(tls::USER)
            .map(|name| std::str::from_utf8(name.as_bytes()))
        {
            Some(Ok(name)) => Identity::new(name, revision),
            _ => Identity::nobody(),
        }
    }
}

/// A reply that can only be of another kind means that two matches in this crate have drifted apart.
fn mismatched() -> Status {
    Status::internal("etcdserver: a command was answered with another one's reply")
}
