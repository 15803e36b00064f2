//! Users, roles, tokens.

use etcd_client::{Client, Error, GetOptions, Permission, PermissionType};
use testkit::{Chainfire, Etcd};
use tonic::Code;

use crate::{connect, refused};

#[tokio::test]
async fn roles_say_who_may_do_what() {
    let chainfire = Chainfire::start_new().unwrap();
    Box::pin(session(&chainfire.endpoint())).await;
    let etcd = Etcd::start().unwrap();
    Box::pin(session(&etcd.endpoint())).await;
}

async fn set_up(client: &mut Client) {
    client.user_add("root", "secret", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("ann", "pass", None).await.unwrap();
    client.role_add("app").await.unwrap();
    client.user_grant_role("ann", "app").await.unwrap();
    for permission in [
        Permission::read_write("app/").with_prefix(),
        Permission::new(PermissionType::Read, "shared"),
    ] {
        client.role_grant_permission("app", permission).await.unwrap();
    }
}

async fn session(endpoint: &str) {
    let mut nobody = connect(endpoint, None).await;
    let error = refused(nobody.auth_enable().await);
    assert_eq!(
        error,
        (
            Code::FailedPrecondition,
            "etcdserver: root user does not exist".into()
        )
    );
    set_up(&mut nobody).await;
    nobody.put("shared", "1", None).await.unwrap();
    assert_eq!(nobody.user_list().await.unwrap().users(), ["ann", "root"]);
    assert_eq!(nobody.user_get("ann").await.unwrap().roles(), ["app"]);
    assert_eq!(
        nobody.role_get("app").await.unwrap().permissions(),
        [
            Permission::read_write("app/").with_prefix(),
            Permission::read("shared")
        ]
    );
    nobody.auth_enable().await.unwrap();

    let error = refused(nobody.get("shared", None).await);
    assert_eq!(
        error,
        (Code::InvalidArgument, "etcdserver: user name is empty".into())
    );
    let wrong = etcd_client::ConnectOptions::new().with_user("ann", "wrong");
    let Err(Error::GRpcStatus(status)) = Client::connect([endpoint], Some(wrong)).await else {
        panic!("a wrong password opened the door")
    };
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password"
        )
    );

    let mut ann = connect(endpoint, Some(("ann", "pass"))).await;
    ann.put("app/x", "1", None).await.unwrap();
    assert_eq!(ann.get("shared", None).await.unwrap().kvs()[0].value(), b"1");
    let denied = (Code::PermissionDenied, "etcdserver: permission denied".to_owned());
    assert_eq!(refused(ann.put("shared", "2", None).await), denied);
    let everything = GetOptions::new().with_all_keys();
    assert_eq!(refused(ann.get("", Some(everything)).await), denied);
    assert_eq!(refused(ann.role_add("mine").await), denied);

    let mut root = connect(endpoint, Some(("root", "secret"))).await;
    root.role_revoke_permission("app", "shared", None).await.unwrap();
    assert_eq!(refused(ann.get("shared", None).await), denied);
    root.user_delete("ann").await.unwrap();
    assert!(ann.get("app/x", None).await.is_err());
    root.auth_disable().await.unwrap();
    nobody.put("shared", "3", None).await.unwrap();
}
