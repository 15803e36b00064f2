//! Status, hashes, alarms, snapshot; the list of members.

use etcd_client::{AlarmAction, AlarmType, Client};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::{against_both, refused, soon};

#[tokio::test]
async fn maintenance_answers() {
    against_both(maintenance).await;
}

#[tokio::test]
async fn a_snapshot_ends_with_the_hash_of_what_came_before() {
    against_both(snapshot).await;
}

#[tokio::test]
async fn the_only_member_is_the_leader() {
    against_both(cluster).await;
}

async fn maintenance(mut client: Client) {
    client.put("a", "1", None).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(
        !status.version().is_empty() && status.db_size() > 0 && !status.is_learner(),
        "{status:?}"
    );
    assert_eq!(status.leader(), status.header().unwrap().member_id());
    assert!(status.raft_term() > 0 && status.raft_index() >= status.raft_applied_index());
    assert!(status.errors().is_empty());

    assert_ne!(client.hash().await.unwrap().hash(), 0);
    let hash = client.hash_kv(0).await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash.hash());
    client.put("a", "2", None).await.unwrap();
    assert_ne!(client.hash_kv(0).await.unwrap().hash(), hash.hash());
    client.defragment().await.unwrap();

    let none = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert!(none.alarms().is_empty());
    client
        .alarm(AlarmAction::Activate, AlarmType::Nospace, None)
        .await
        .unwrap();
    let raised = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await
        .unwrap();
    assert_eq!(raised.alarms()[0].alarm(), AlarmType::Nospace);
    assert!(!client.status().await.unwrap().errors().is_empty());
    let error = refused(client.put("a", "3", None).await);
    assert_eq!(
        error,
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded".into()
        )
    );
    client.delete("a", None).await.unwrap();
    client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, None)
        .await
        .unwrap();
    client.put("a", "4", None).await.unwrap();
}

async fn snapshot(mut client: Client) {
    for n in 0..100 {
        client.put(format!("k{n}"), vec![n; 10_000], None).await.unwrap();
    }
    let mut pieces = client.snapshot().await.unwrap();
    let mut copy = Vec::new();
    while let Some(piece) = soon(pieces.message()).await.unwrap() {
        copy.extend_from_slice(piece.blob());
    }
    let (content, hash) = copy.split_at(copy.len() - 32);
    assert!(!content.is_empty());
    assert_eq!(hash, &Sha256::digest(content)[..]);
}

async fn cluster(mut client: Client) {
    let list = client.member_list().await.unwrap();
    let [member] = list.members() else {
        panic!("one member was expected: {list:?}")
    };
    assert_eq!(client.status().await.unwrap().leader(), member.id());
    assert!(!member.name().is_empty() && !member.is_learner());
    for url in member.peer_urls().iter().chain(member.client_urls()) {
        assert!(url.starts_with("http://"), "{url}");
    }
    let error = refused(client.member_remove(4711).await);
    assert_eq!(error, (Code::NotFound, "etcdserver: member not found".into()));
    let error = refused(client.member_promote(member.id()).await);
    assert_eq!(
        error,
        (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member".into()
        )
    );
    client.move_leader(member.id()).await.unwrap();
}
