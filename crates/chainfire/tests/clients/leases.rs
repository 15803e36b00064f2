//! Leases with keepalive, and what stands on them: locks and elections.

use etcd_client::{
    Client, Compare, CompareOp, Error, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions,
    ProclaimOptions, PutOptions, ResignOptions, Txn, TxnOp,
};
use tonic::Code;

use crate::{against_both, refused, soon};

#[tokio::test]
async fn leases_live_while_they_are_kept_alive() {
    against_both(leases).await;
}

#[tokio::test]
async fn one_holder_of_a_lock_at_a_time() {
    against_both(locks).await;
}

#[tokio::test]
async fn an_election_has_one_leader_and_successors() {
    against_both(elections).await;
}

async fn leases(mut client: Client) {
    let granted = client
        .lease_grant(60, Some(LeaseGrantOptions::new().with_id(77)))
        .await
        .unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 60));
    let error = refused(
        client
            .lease_grant(60, Some(LeaseGrantOptions::new().with_id(77)))
            .await,
    );
    assert_eq!(
        error,
        (
            Code::FailedPrecondition,
            "etcdserver: lease already exists".into()
        )
    );
    for key in ["b", "a"] {
        client
            .put(key, "", Some(PutOptions::new().with_lease(77)))
            .await
            .unwrap();
    }
    let error = refused(client.put("c", "", Some(PutOptions::new().with_lease(78))).await);
    assert_eq!(
        error,
        (Code::NotFound, "etcdserver: requested lease not found".into())
    );

    let (mut keeper, mut replies) = client.lease_keep_alive(77).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let reply = soon(replies.message()).await.unwrap().unwrap();
        assert_eq!((reply.id(), reply.ttl()), (77, 60));
    }
    let left = client
        .lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await
        .unwrap();
    // etcd has them in no particular order.
    let mut keys = left.keys().to_vec();
    keys.sort();
    assert_eq!(
        (left.granted_ttl(), keys),
        (60, vec![b"a".to_vec(), b"b".to_vec()])
    );
    assert!((50..=60).contains(&left.ttl()), "{left:?}");
    let ids: Vec<i64> = client
        .leases()
        .await
        .unwrap()
        .leases()
        .iter()
        .map(etcd_client::LeaseStatus::id)
        .collect();
    assert_eq!(ids, [77]);

    client.lease_revoke(77).await.unwrap();
    assert_eq!(client.get("a", None).await.unwrap().count(), 0);
    keeper.keep_alive().await.unwrap();
    assert_eq!(soon(replies.message()).await.unwrap().unwrap().ttl(), 0);
    assert!(matches!(
        client.lease_keep_alive(77).await,
        Err(Error::LeaseKeepAliveError(_))
    ));
    assert_eq!(client.lease_time_to_live(77, None).await.unwrap().ttl(), -1);

    // Nobody keeps this one alive.
    let short = client.lease_grant(1, None).await.unwrap();
    assert!(short.id() > 0 && short.ttl() >= 1, "{short:?}");
    let mut watch = client.watch("short", None).await.unwrap();
    assert!(soon(watch.message()).await.unwrap().unwrap().created());
    client
        .put("short", "", Some(PutOptions::new().with_lease(short.id())))
        .await
        .unwrap();
    for kind in [etcd_client::EventType::Put, etcd_client::EventType::Delete] {
        let reply = soon(watch.message()).await.unwrap().unwrap();
        assert_eq!(reply.events()[0].event_type(), kind);
    }
}

async fn locks(mut client: Client) {
    let mut lease = async |ttl| client.lease_grant(ttl, None).await.unwrap().id();
    let (first, second, third) = (lease(60).await, lease(60).await, lease(60).await);
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let held = client.lock("job", with(first)).await.unwrap();
    let key = held.key().to_vec();
    assert_eq!(key, format!("job/{first:x}").into_bytes());
    // The same lease has the lock already.
    assert_eq!(client.lock("job", with(first)).await.unwrap().key(), key);

    let waiting = |client: &Client, lease| {
        let mut client = client.clone();
        tokio::spawn(async move { client.lock("job", with(lease)).await.unwrap().key().to_vec() })
    };
    let waiter = waiting(&client, second);
    // It stands in the queue when its key is there.
    let queued = format!("job/{second:x}");
    soon(async {
        while client.get(queued.as_str(), None).await.unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let last = waiting(&client, third);
    assert!(!waiter.is_finished());
    // A key of the lock can guard a transaction.
    let guarded = Txn::new()
        .when([Compare::create_revision(key.clone(), CompareOp::Greater, 0)])
        .and_then([TxnOp::put("done", "1", None)]);
    assert!(client.txn(guarded.clone()).await.unwrap().succeeded());
    client.unlock(key.clone()).await.unwrap();
    let key = soon(waiter).await.unwrap();
    assert_eq!(key, queued.into_bytes());
    assert!(!client.txn(guarded).await.unwrap().succeeded());
    // The holder's lease ends, and so does its hold.
    client.lease_revoke(second).await.unwrap();
    let key = soon(last).await.unwrap();
    assert_eq!(key, format!("job/{third:x}").into_bytes());
    client.unlock(key).await.unwrap();
    assert!(
        soon(client.lock("job", None))
            .await
            .unwrap()
            .key()
            .starts_with(b"job/")
    );
}

async fn elections(mut client: Client) {
    let first = client.lease_grant(60, None).await.unwrap().id();
    let second = client.lease_grant(60, None).await.unwrap().id();
    let (code, text) = refused(client.leader("boss").await);
    assert_eq!((code, text.as_str()), (Code::Unknown, "election: no leader"));

    let won = client.campaign("boss", "one", first).await.unwrap();
    let leader = won.leader().unwrap().clone();
    assert_eq!((leader.name(), leader.lease()), (&b"boss"[..], first));
    assert_eq!(leader.key_str().unwrap(), format!("boss/{first:x}"));
    let mut observed = client.observe("boss").await.unwrap();
    let mut seen = async || {
        let reply = soon(observed.message()).await.unwrap().unwrap();
        reply.kv().unwrap().value_str().unwrap().to_owned()
    };
    assert_eq!(seen().await, "one");
    client
        .proclaim(
            "still one",
            Some(ProclaimOptions::new().with_leader(leader.clone())),
        )
        .await
        .unwrap();
    assert_eq!(seen().await, "still one");
    assert_eq!(
        client.leader("boss").await.unwrap().kv().unwrap().value(),
        b"still one"
    );

    let mut rival = client.clone();
    let rival = tokio::spawn(async move { rival.campaign("boss", "two", second).await.unwrap() });
    client
        .resign(Some(ResignOptions::new().with_leader(leader.clone())))
        .await
        .unwrap();
    let won = soon(rival).await.unwrap();
    assert_eq!(won.leader().unwrap().lease(), second);
    assert_eq!(seen().await, "two");
    let (code, text) = refused(
        client
            .proclaim("late", Some(ProclaimOptions::new().with_leader(leader)))
            .await,
    );
    assert_eq!((code, text.as_str()), (Code::Unknown, "election: not leader"));
}
