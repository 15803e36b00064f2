//! From a request line to who answers it.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tonic::body::Body;
use tower::Service;

use super::{Server, gateway, pages};
use crate::wire::etcdserverpb::auth_server::AuthServer;
use crate::wire::etcdserverpb::cluster_server::ClusterServer;
use crate::wire::etcdserverpb::kv_server::KvServer;
use crate::wire::etcdserverpb::lease_server::LeaseServer;
use crate::wire::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::wire::etcdserverpb::watch_server::WatchServer;
use crate::wire::health::health_server::HealthServer;
use crate::wire::v3electionpb::election_server::ElectionServer;
use crate::wire::v3lockpb::lock_server::LockServer;

/// What a gRPC message may have on top of the largest request: names, headers, the framing of a transaction.
const MESSAGE_OVERHEAD: usize = 512 << 10;

/// The services whose health can be asked for.
pub(super) const SERVICES: [&str; 8] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
];

/// All gRPC services and what the plain pages need.
pub(super) struct Services {
    pub(super) server: Server,
    pub(super) gateway: gateway::Gateway,
    /// The largest gRPC message taken.
    pub(super) message_bytes_max: usize,
    kv: KvServer<Server>,
    watch: WatchServer<Server>,
    lease: LeaseServer<Server>,
    cluster: ClusterServer<Server>,
    maintenance: MaintenanceServer<Server>,
    auth: AuthServer<Server>,
    lock: LockServer<Server>,
    election: ElectionServer<Server>,
    health: HealthServer<Server>,
}

impl Services {
    pub(super) fn new(server: Server) -> Services {
        let most = server.node.limits().request_bytes + MESSAGE_OVERHEAD;
        let shared = Arc::new(server.clone());
        macro_rules! service {
            ($kind:ident) => {
                $kind::from_arc(shared.clone())
                    .max_decoding_message_size(most)
                    .max_encoding_message_size(usize::MAX)
            };
        }
        Services {
            gateway: gateway::Gateway::new(most),
            message_bytes_max: most,
            kv: service!(KvServer),
            watch: service!(WatchServer),
            lease: service!(LeaseServer),
            cluster: service!(ClusterServer),
            maintenance: service!(MaintenanceServer),
            auth: service!(AuthServer),
            lock: service!(LockServer),
            election: service!(ElectionServer),
            health: service!(HealthServer),
            server,
        }
    }

    /// Answers a request that came in on the port.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let is_grpc = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        // Boxed, so that the future of a call is not as large as that of the largest page.
        if is_grpc {
            self.call(request).await
        } else if request.uri().path().starts_with("/v3") {
            Box::pin(gateway::answer(self, request)).await
        } else {
            Box::pin(pages::answer(&self.server, &request.map(drop))).await
        }
    }

    /// Calls the gRPC service that the path names.
    pub(super) async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let response = match service {
            "etcdserverpb.KV" => self.kv.clone().call(request).await,
            "etcdserverpb.Watch" => self.watch.clone().call(request).await,
            "etcdserverpb.Lease" => self.lease.clone().call(request).await,
            "etcdserverpb.Cluster" => self.cluster.clone().call(request).await,
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request).await,
            "etcdserverpb.Auth" => self.auth.clone().call(request).await,
            "v3lockpb.Lock" => self.lock.clone().call(request).await,
            "v3electionpb.Election" => self.election.clone().call(request).await,
            "grpc.health.v1.Health" => self.health.clone().call(request).await,
            unknown => Ok(unimplemented(unknown)),
        };
        match response {
            Ok(response) => self.too_large_as_grpc_says(response),
            Err(never) => absurd(never),
        }
    }

    /// A message over the limit is `OutOfRange` to tonic; clients of etcd know `ResourceExhausted`.
    fn too_large_as_grpc_says(&self, mut response: Response<Body>) -> Response<Body> {
        let is_out_of_range = response
            .headers()
            .get("grpc-status")
            .is_some_and(|status| status == "11");
        let about_length = |message: &HeaderValue| {
            message
                .as_bytes()
                .starts_with(b"Error,%20decoded%20message%20length")
        };
        if is_out_of_range && response.headers().get("grpc-message").is_some_and(about_length) {
            let text = format!(
                "grpc:%20received%20message%20larger%20than%20max%20({})",
                self.message_bytes_max
            );
            response
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static("8"));
            if let Ok(text) = HeaderValue::from_str(&text) {
                response.headers_mut().insert("grpc-message", text);
            }
        }
        response
    }
}

fn unimplemented(service: &str) -> Response<Body> {
    tonic::Status::unimplemented(format!("unknown service {service}")).into_http()
}

fn absurd(never: Infallible) -> Response<Body> {
    match never {}
}

/// A body of bytes that are all there.
pub(super) fn whole(content: impl Into<bytes::Bytes>) -> Body {
    Body::new(Full::new(content.into()))
}
