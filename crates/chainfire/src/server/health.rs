//! gRPC health checking, for load balancers and probes that speak nothing else.
//!
//! The server as a whole (service "") and each of its services are healthy together: from the moment the port is served until
//! it drains, unless the data is known to be corrupt. What a write needs beyond that (a leader, space) is `/health`'s to tell.

use std::pin::Pin;
use std::time::Duration;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Server;
use super::dispatch::SERVICES;
use crate::wire::etcdserverpb::AlarmType;
use crate::wire::health::health_check_response::ServingStatus;
use crate::wire::health::health_server::Health;
use crate::wire::health::{HealthCheckRequest, HealthCheckResponse};

/// How often a watch looks whether the data was found to be corrupt.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Server {
    fn serving(&self) -> ServingStatus {
        if self.shutdown.is_triggered() || self.node.machine.has_alarm(AlarmType::Corrupt) {
            ServingStatus::NotServing
        } else {
            ServingStatus::Serving
        }
    }
}

fn reply(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

#[tonic::async_trait]
impl Health for Server {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if is_known(&request.get_ref().service) {
            Ok(Response::new(reply(self.serving())))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    /// The status now and whenever it has changed, until the server has drained.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let server = self.clone();
        let replies = futures::stream::unfold(None, move |told| {
            let server = server.clone();
            async move {
                loop {
                    let status = if known {
                        server.serving()
                    } else {
                        ServingStatus::ServiceUnknown
                    };
                    if told != Some(status) {
                        return Some((Ok(reply(status)), Some(status)));
                    }
                    if server.shutdown.is_triggered() {
                        return None;
                    }
                    tokio::select! {
                        () = server.shutdown.wait() => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(replies)))
    }
}
