//! From a request line to who answers it.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::unfinished::Unfinished;
use super::{Server, gateway, http2, pages};
use crate::wire::chainfire::v1::cluster_server::ClusterServer as OwnClusterServer;
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
pub(super) const SERVICES: [&str; 9] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
    "chainfire.v1.Cluster",
];

/// All gRPC services and what the plain pages need.
pub(super) struct Services {
    pub(super) server: Server,
    pub(super) gateway: gateway::Gateway,
    /// The largest gRPC message taken.
    pub(super) message_bytes_max: usize,
    /// Requests that have begun, of all connections.
    pub(super) unfinished: Arc<Unfinished>,
    /// Large replies that clients have not read, of all connections.
    pub(super) unread: Arc<http2::Unread>,
    /// Room for streams and rare calls, of all connections.
    pub(super) streams: Arc<Semaphore>,
    kv: KvServer<Server>,
    watch: WatchServer<Server>,
    lease: LeaseServer<Server>,
    cluster: ClusterServer<Server>,
    maintenance: MaintenanceServer<Server>,
    auth: AuthServer<Server>,
    lock: LockServer<Server>,
    election: ElectionServer<Server>,
    health: HealthServer<Server>,
    own_cluster: OwnClusterServer<Server>,
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
            unfinished: Unfinished::of_server(server.node.clock.clone()),
            unread: Arc::default(),
            streams: Arc::new(Semaphore::new(http2::RELAYED_MAX)),
            kv: service!(KvServer),
            watch: service!(WatchServer),
            lease: service!(LeaseServer),
            cluster: service!(ClusterServer),
            maintenance: service!(MaintenanceServer),
            auth: service!(AuthServer),
            lock: service!(LockServer),
            election: service!(ElectionServer),
            health: service!(HealthServer),
            own_cluster: service!(OwnClusterServer),
            server,
        }
    }

    /// Answers a request that came in on the port.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        // Boxed, so that the future of a call is not as large as that of the largest page.
        if is_grpc(request.headers()) {
            match no_call(&request) {
                Some(refusal) => refusal,
                None => self.call(request).await,
            }
        } else if names_a_service(request.uri().path()) {
            wrong_content_type(request.headers())
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
            "chainfire.v1.Cluster" => self.own_cluster.clone().call(request).await,
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

/// True for the content types that gRPC has: `application/grpc`, alone or with an encoding or parameters behind it.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn names_a_service(path: &str) -> bool {
    let service = path.split('/').nth(1).unwrap_or_default();
    SERVICES.contains(&service) || service == "grpc.health.v1.Health"
}

/// Why a request that says it is gRPC is none. Status, code and text are those of etcd's gRPC library.
fn no_call(request: &Request<Body>) -> Option<Response<Body>> {
    if request.version() < Version::HTTP_2 {
        let text = "gRPC requires HTTP/2\n";
        return Some(pages::page(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            pages::TEXT,
            text,
        ));
    }
    if request.method() == Method::POST {
        return None;
    }
    let text = format!(
        "Received a HEADERS frame with :method \"{}\" which should be POST",
        request.method()
    );
    let mut refusal = Status::internal(text).into_http();
    *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    refusal
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST"));
    Some(refusal)
}

fn wrong_content_type(headers: &HeaderMap) -> Response<Body> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let text = format!(
        "invalid gRPC request content-type {:?}: want application/grpc",
        String::from_utf8_lossy(kind)
    );
    let mut refusal = Status::invalid_argument(text).into_http();
    *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    refusal
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
