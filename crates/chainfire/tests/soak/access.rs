//! The way to the server: connections, and a token while authentication is on.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use chainfire::wire::etcdserverpb::auth_client::AuthClient;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
    AuthenticateRequest, PutRequest, RangeRequest,
};
use chainfire::wire::v3electionpb::election_client::ElectionClient;
use chainfire::wire::v3lockpb::lock_client::LockClient;
use testkit::Server;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const PASSWORD: &str = "soak";

/// Puts the token of the moment on every call.
#[derive(Clone, Default)]
pub(crate) struct Token(Arc<RwLock<Option<String>>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &*self.0.read().unwrap() {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        Ok(request)
    }
}

pub(crate) type Way = InterceptedService<Channel, Token>;

/// Connections to one server. What it gives shares a few; [`Access::own`] gives one that may be cut.
#[derive(Clone)]
pub(crate) struct Access {
    endpoint: Endpoint,
    channel: Channel,
    token: Token,
}

macro_rules! clients {
    ($($name:ident $client:ident;)*) => {
        $(
            pub(crate) fn $name(&self) -> $client<Way> {
                $client::with_interceptor(self.channel.clone(), self.token.clone())
            }
        )*
    };
}

impl Access {
    clients! {
        kv KvClient;
        leases LeaseClient;
        watch WatchClient;
        auth AuthClient;
        locks LockClient;
        elections ElectionClient;
        maintenance MaintenanceClient;
    }

    /// Makes the user that authentication needs.
    pub(crate) async fn prepare(server: &Server) -> Access {
        let access = Access::to(server, Token::default()).await;
        let mut auth = access.auth();
        let user = AuthUserAddRequest {
            name: "root".into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        auth.user_add(user).await.unwrap();
        let role = AuthRoleAddRequest { name: "root".into() };
        auth.role_add(role).await.unwrap();
        let grant = AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        };
        auth.user_grant_role(grant).await.unwrap();
        access
    }

    async fn to(server: &Server, token: Token) -> Access {
        let endpoint = Channel::from_shared(server.endpoint()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Access {
            endpoint,
            channel,
            token,
        }
    }

    /// After a restart.
    pub(crate) async fn again(&self, server: &Server) -> Access {
        Access::to(server, Token::default()).await
    }

    /// With a connection of its own.
    pub(crate) async fn own(&self) -> Access {
        Access {
            channel: self.endpoint.connect().await.unwrap(),
            ..self.clone()
        }
    }

    /// The newest revision.
    pub(crate) async fn revision(&self) -> i64 {
        let any = RangeRequest {
            key: "any".into(),
            ..Default::default()
        };
        loop {
            match self.kv().range(any.clone()).await {
                Ok(found) => return found.into_inner().header.unwrap().revision,
                Err(status) => expected(&status),
            }
            pause().await;
        }
    }

    /// Turns authentication on for a moment: strangers are refused, and everybody else goes on with a token.
    pub(crate) async fn authenticate_for(&self, time: Duration) {
        self.auth().auth_enable(AuthEnableRequest {}).await.unwrap();
        let stranger = PutRequest {
            key: "stranger".into(),
            ..Default::default()
        };
        let refused = KvClient::new(self.channel.clone())
            .put(stranger)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let login = AuthenticateRequest {
            name: "root".into(),
            password: PASSWORD.into(),
        };
        let token = self.auth().authenticate(login).await.unwrap().into_inner().token;
        *self.token.0.write().unwrap() = Some(token);
        tokio::time::sleep(time).await;
        self.auth().auth_disable(AuthDisableRequest {}).await.unwrap();
        *self.token.0.write().unwrap() = None;
    }
}

/// A call that changed nothing, because authentication came or went meanwhile; anything else is a failure.
#[track_caller]
pub(crate) fn expected(status: &Status) {
    let text = status.message();
    assert!(
        [
            "etcdserver: user name is empty",
            "etcdserver: invalid auth token",
            "etcdserver: permission denied",
            "etcdserver: revision of auth store is old",
            "etcdserver: authentication is not enabled",
        ]
        .contains(&text),
        "{status:?}"
    );
}

/// Between two tries.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
