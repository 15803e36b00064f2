//! What becomes of locks and watches of users who may not, or no longer.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what failed")]

use std::time::Duration;

use chainfire::wire::authpb::Permission;
use chainfire::wire::authpb::permission::Type;
use chainfire::wire::etcdserverpb::auth_client::AuthClient;
use chainfire::wire::etcdserverpb::kv_client::KvClient;
use chainfire::wire::etcdserverpb::lease_client::LeaseClient;
use chainfire::wire::etcdserverpb::watch_client::WatchClient;
use chainfire::wire::etcdserverpb::watch_request::RequestUnion;
use chainfire::wire::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserGrantRoleRequest, AuthenticateRequest, LeaseLeasesRequest, PutRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use chainfire::wire::v3electionpb::CampaignRequest;
use chainfire::wire::v3electionpb::election_client::ElectionClient;
use chainfire::wire::v3lockpb::LockRequest;
use chainfire::wire::v3lockpb::lock_client::LockClient;
use testkit::Chainfire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

const LIMIT: Duration = Duration::from_secs(20);

/// A server where root may do everything, and ann what lies below `app/`.
struct Guarded {
    server: Chainfire,
    channel: Channel,
    root: String,
    ann: String,
}

impl Guarded {
    async fn start() -> Guarded {
        let server = Chainfire::start_new().unwrap();
        let channel = Channel::from_shared(server.endpoint())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut auth = AuthClient::new(channel.clone());
        for name in ["root", "ann"] {
            let user = AuthUserAddRequest {
                name: name.to_owned(),
                password: name.to_owned(),
                ..Default::default()
            };
            auth.user_add(user).await.unwrap();
        }
        for (user, role) in [("root", "root"), ("ann", "app")] {
            auth.role_add(AuthRoleAddRequest {
                name: role.to_owned(),
            })
            .await
            .unwrap();
            let grant = AuthUserGrantRoleRequest {
                user: user.to_owned(),
                role: role.to_owned(),
            };
            auth.user_grant_role(grant).await.unwrap();
        }
        for (key, range_end) in [("app/", "app0"), ("shared", "")] {
            let grant = AuthRoleGrantPermissionRequest {
                name: "app".to_owned(),
                perm: Some(Permission {
                    perm_type: Type::Readwrite as i32,
                    key: key.into(),
                    range_end: range_end.into(),
                }),
            };
            auth.role_grant_permission(grant).await.unwrap();
        }
        auth.auth_enable(AuthEnableRequest {}).await.unwrap();
        let mut login = async |name: &str| {
            let request = AuthenticateRequest {
                name: name.to_owned(),
                password: name.to_owned(),
            };
            auth.authenticate(request).await.unwrap().into_inner().token
        };
        let (root, ann) = (login("root").await, login("ann").await);
        Guarded {
            server,
            channel,
            root,
            ann,
        }
    }

    async fn leases(&self) -> usize {
        let request = named(&self.root, LeaseLeasesRequest {});
        let mut leases = LeaseClient::new(self.channel.clone());
        leases
            .lease_leases(request)
            .await
            .unwrap()
            .into_inner()
            .leases
            .len()
    }
}

fn named<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

#[tokio::test]
async fn a_lock_that_is_refused_leaves_no_lease_behind() {
    let guarded = Guarded::start().await;
    let mut locks = LockClient::new(guarded.channel.clone());
    let mut elections = ElectionClient::new(guarded.channel.clone());
    let lock = |name: &'static str| LockRequest {
        name: name.into(),
        lease: 0,
    };
    let refused = locks.lock(named(&guarded.ann, lock("secret"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let nobody = locks.lock(lock("app/door")).await.unwrap_err();
    assert_eq!(nobody.message(), "etcdserver: user name is empty");
    let campaign = CampaignRequest {
        name: "secret".into(),
        lease: 0,
        value: "v".into(),
    };
    let refused = elections
        .campaign(named(&guarded.ann, campaign))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(guarded.leases().await, 0);
    // A name too long for a key is refused after the lease was made.
    let long = LockRequest {
        name: vec![b'a'; 64 << 10].into(),
        lease: 0,
    };
    locks.lock(named(&guarded.root, long)).await.unwrap_err();
    let none = tokio::time::timeout(LIMIT, async {
        while guarded.leases().await > 0 {
            tokio::task::yield_now().await;
        }
    });
    none.await.unwrap();
    locks.lock(named(&guarded.ann, lock("app/door"))).await.unwrap();
    assert_eq!(guarded.leases().await, 1);
}

struct Watches {
    requests: mpsc::Sender<WatchRequest>,
    replies: Streaming<WatchResponse>,
}

impl Watches {
    async fn open(guarded: &Guarded, token: &str) -> Watches {
        let (requests, receiver) = mpsc::channel(8);
        let mut client = WatchClient::new(guarded.channel.clone());
        let request = named(token, ReceiverStream::new(receiver));
        let replies = client.watch(request).await.unwrap().into_inner();
        Watches { requests, replies }
    }

    async fn create(&mut self, key: &'static str, range_end: &'static str) -> i64 {
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.requests.send(request).await.unwrap();
        let reply = self.next().await;
        assert!(reply.created && !reply.canceled, "{reply:?}");
        reply.watch_id
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(LIMIT, self.replies.message());
        next.await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_watch_ends_with_the_permission_for_it() {
    let guarded = Guarded::start().await;
    let mut anns = Watches::open(&guarded, &guarded.ann).await;
    let mut roots = Watches::open(&guarded, &guarded.root).await;
    let app = anns.create("app/", "app0").await;
    let shared = anns.create("shared", "").await;
    roots.create("app/", "app0").await;

    let mut auth = AuthClient::new(guarded.channel.clone());
    let revoke = AuthRoleRevokePermissionRequest {
        role: "app".to_owned(),
        key: "app/".into(),
        range_end: "app0".into(),
    };
    auth.role_revoke_permission(named(&guarded.root, revoke))
        .await
        .unwrap();
    let mut kv = KvClient::new(guarded.channel.clone());
    for key in ["app/1", "shared"] {
        let put = PutRequest {
            key: key.into(),
            ..Default::default()
        };
        kv.put(named(&guarded.root, put)).await.unwrap();
    }
    let canceled = anns.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled), (app, true));
    assert!(canceled.events.is_empty());
    assert_eq!(
        canceled.cancel_reason,
        "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    );
    // Neither what ann may still have nor what others have is touched.
    let told = anns.next().await;
    assert_eq!((told.watch_id, told.events.len()), (shared, 1));
    assert_eq!(roots.next().await.events.len(), 1);
    assert!(guarded.server.is_running());
}
