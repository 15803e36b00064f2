//! Reaching a server: endpoints in order, TLS, the authentication token, and the time limit of each request.
//!
//! A [`Session`] is one connection to the first endpoint that could be reached; nothing is asked twice behind the caller's
//! back, since a write whose answer was lost may have happened. Commands that may repeat (watch, keepalive, observe) open a
//! new session themselves. TLS failures fail over like refused connections, and the last error of each endpoint is told.

use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::failure::{Failure, Result, chain};
use super::secure;
use crate::wire::chainfire::v1::cluster_client::ClusterClient as OwnClusterClient;
use crate::wire::etcdserverpb as pb;
use crate::wire::etcdserverpb::auth_client::AuthClient;
use crate::wire::etcdserverpb::cluster_client::ClusterClient;
use crate::wire::etcdserverpb::kv_client::KvClient;
use crate::wire::etcdserverpb::lease_client::LeaseClient;
use crate::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::wire::etcdserverpb::watch_client::WatchClient;
use crate::wire::v3electionpb::election_client::ElectionClient;
use crate::wire::v3lockpb::lock_client::LockClient;

/// Who is asked when nobody is named.
pub(super) const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";

/// Longest wait for one endpoint to take the connection; the request's own limit when that is shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for what a node says of itself after it has not answered a request.
const DIAGNOSIS: Duration = Duration::from_secs(1);

/// Pings find a dead server under a stream that is silent anyway. etcd refuses them more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(6);

/// Whom to ask, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Complete URLs, in the order they are tried.
    pub(super) endpoints: Vec<String>,
    pub(super) tls: Tls,
    pub(super) login: Option<Login>,
    /// Limit of one request.
    pub(super) timeout: Duration,
}

/// Files of the TLS flags.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    pub(super) authority: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// Name and password.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Puts the token into every request.
#[derive(Debug, Clone, Default)]
pub(super) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// What the generated clients send through.
pub(super) type Transport = InterceptedService<Channel, Token>;

/// A connection to one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) endpoint: String,
    channel: Channel,
    token: Token,
    tls: Tls,
    timeout: Duration,
}

macro_rules! services {
    ($( $name:ident: $client:ident; )*) => {
        impl Session {
            $(
                /// The client of this service. Replies may be of any size, as for `etcdctl`.
                pub(super) fn $name(&self) -> $client<Transport> {
                    let transport = InterceptedService::new(self.channel.clone(), self.token.clone());
                    $client::new(transport).max_decoding_message_size(usize::MAX)
                }
            )*
        }
    };
}

services! {
    kv: KvClient;
    watch: WatchClient;
    lease: LeaseClient;
    cluster: ClusterClient;
    own_cluster: OwnClusterClient;
    maintenance: MaintenanceClient;
    auth: AuthClient;
    lock: LockClient;
    election: ElectionClient;
}

impl Settings {
    /// What to do when no endpoint takes the connection.
    pub(super) fn advice(&self) -> &'static str {
        if self.endpoints == [DEFAULT_ENDPOINT] {
            "does it run (systemctl status chainfire)? name another server with --endpoint URL or in CHAINFIRE_ENDPOINT"
        } else {
            "does it run there? endpoints come from --endpoint URL or from CHAINFIRE_ENDPOINT"
        }
    }
}

impl Session {
    /// Connects to the first endpoint that can be reached, and logs in.
    pub(super) async fn open(settings: &Settings) -> Result<Self> {
        let mut failures = Vec::new();
        let mut was_taken = false;
        for endpoint in &settings.endpoints {
            match Self::open_at(endpoint, settings).await {
                Ok(session) => return Ok(session),
                Err(Failure::NotConnected(text)) => failures.push(text),
                Err(Failure::Unreachable(text)) => {
                    was_taken = true;
                    failures.push(text);
                }
                Err(refused) => return Err(refused),
            }
        }
        let text = failures.join("; ");
        // Whether something runs there is the question only if nobody took the connection.
        Err(if was_taken {
            Failure::Unreachable(text)
        } else {
            Failure::NotConnected(text)
        })
    }

    /// Connects to this endpoint and no other.
    pub(super) async fn open_at(endpoint: &str, settings: &Settings) -> Result<Self> {
        let mut session = Self {
            endpoint: endpoint.to_owned(),
            channel: connect(endpoint, settings).await?,
            token: Token::default(),
            tls: settings.tls.clone(),
            timeout: settings.timeout,
        };
        if let Some(login) = &settings.login {
            session.log_in(login).await?;
        }
        Ok(session)
    }

    async fn log_in(&mut self, login: &Login) -> Result<()> {
        let request = pb::AuthenticateRequest {
            name: login.name.clone(),
            password: login.password.clone(),
        };
        let reply = match self.ask(self.auth().authenticate(request)).await {
            // Giving a name while authentication is off is no mistake; etcd's clients go on as well.
            Err(Failure::Refused(text)) if text == "etcdserver: authentication is not enabled" => {
                return Ok(());
            }
            reply => reply?,
        };
        let token = reply
            .token
            .parse()
            .map_err(|_| Failure::refused(format!("{} gave an unusable token", self.endpoint)))?;
        self.token = Token(Some(token));
        Ok(())
    }

    /// Waits for the answer to a request, at most as long as one may take.
    pub(super) async fn ask<T>(
        &self,
        request: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status).await),
            Err(_elapsed) => Err(self.silence().because(self.without_leader().await)),
        }
    }

    /// What the node says of itself if it knows no leader, which is why most requests are not answered.
    async fn without_leader(&self) -> Option<String> {
        let mut maintenance = self.maintenance();
        let status = maintenance.status(pb::StatusRequest {});
        let status = tokio::time::timeout(DIAGNOSIS, status)
            .await
            .ok()?
            .ok()?
            .into_inner();
        let errors = status.errors.iter().map(|error| error.trim());
        let errors: Vec<&str> = errors.filter(|error| !error.contains(" alarm:")).collect();
        (status.leader == 0).then(|| errors.join("; "))
    }

    /// Waits for the answer to a request that may take as long as it takes: a lock, a campaign, a stream.
    pub(super) async fn wait<T>(
        &self,
        request: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match request.await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failure(&status).await),
        }
    }

    /// What a failed request means, also when the reason is not in the answer.
    async fn failure(&self, status: &Status) -> Failure {
        let failure = Failure::of_status(status, &self.endpoint);
        if self.endpoint.starts_with("https://")
            && matches!(failure, Failure::Unreachable(_))
            && let Some(text) = secure::diagnose(&self.endpoint, &self.tls).await
        {
            return Failure::Unreachable(format!("{}: {text}", self.endpoint));
        }
        failure
    }

    /// Longest silence taken from the server.
    pub(super) fn patience(&self) -> Duration {
        self.timeout
    }

    /// The failure of a request that was not answered.
    pub(super) fn silence(&self) -> Failure {
        Failure::unreachable(format!("{}: no answer within {:?}", self.endpoint, self.timeout))
    }
}

async fn connect(endpoint: &str, settings: &Settings) -> Result<Channel> {
    let unusable = |error: tonic::transport::Error| Failure::usage(format!("{endpoint}: {}", chain(&error)));
    let limit = CONNECT_TIMEOUT.min(settings.timeout);
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(unusable)?
        .connect_timeout(limit)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    if endpoint.starts_with("https://") {
        builder = builder
            .tls_config(secure::config(endpoint, &settings.tls)?)
            .map_err(unusable)?;
    }
    // `connect_timeout` covers TCP only; a server that takes the connection and stays silent must not hold up the next one.
    match tokio::time::timeout(limit, builder.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => {
            let text = format!("{endpoint}: {}", chain(&error));
            Err(match pki::Trouble::of(&error) {
                Some(_) => Failure::Unreachable(text),
                None => Failure::NotConnected(text),
            })
        }
        Err(_elapsed) => Err(Failure::NotConnected(format!(
            "{endpoint}: no connection within {limit:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoints: &[&str]) -> Settings {
        Settings {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            tls: Tls::default(),
            login: None,
            timeout: Duration::from_millis(300),
        }
    }

    #[tokio::test]
    async fn every_endpoint_is_named_when_none_answers() {
        // Port 1 of an address of the loopback net that nobody serves.
        let settings = settings(&["http://127.83.0.1:1", "http://127.83.0.2:1"]);
        let failure = Session::open(&settings).await.unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        let text = failure.text().unwrap();
        assert!(
            text.contains("http://127.83.0.1:1: ") && text.contains("http://127.83.0.2:1: "),
            "{text}"
        );
        assert!(text.to_lowercase().contains("connection refused"), "{text}");
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let session = Session::open(&settings(&[&endpoint])).await.unwrap();
        let failure = session
            .ask(session.kv().range(pb::RangeRequest::default()))
            .await
            .unwrap_err();
        assert_eq!(failure.exit_code(), 3);
        assert!(
            failure.text().unwrap().ends_with("no answer within 300ms"),
            "{failure:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_speaks_something_else_is_told_from_a_broken_one() {
        use tokio::io::AsyncWriteExt as _;

        for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2p1\r\n"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(greeting.as_bytes()).await.unwrap();
                stream
            });
            let mut settings = settings(&[&endpoint]);
            settings.timeout = Duration::from_secs(20);
            let failure = match Session::open(&settings).await {
                Ok(session) => session
                    .ask(session.kv().range(pb::RangeRequest::default()))
                    .await
                    .unwrap_err(),
                Err(failure) => failure,
            };
            assert_eq!(failure.exit_code(), 3);
            assert!(
                failure.text().unwrap().contains("does not speak gRPC"),
                "{greeting}: {failure:?}"
            );
            drop(server.await.unwrap());
        }
    }

    #[tokio::test]
    async fn https_without_an_authority_is_refused() {
        let failure = Session::open(&settings(&["https://127.83.0.1:1"]))
            .await
            .unwrap_err();
        assert_eq!(failure.exit_code(), Failure::USAGE);
        assert!(failure.text().unwrap().contains("--cacert"), "{failure:?}");
    }

    #[test]
    fn passwords_are_not_printed() {
        let login = Login {
            name: "root".to_owned(),
            password: "secret".to_owned(),
        };
        assert!(!format!("{login:?}").contains("secret"));
    }
}
