//! Puts, gets, deletes, transactions, compaction.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use tonic::Code;

use crate::{against_both, refused};

#[tokio::test]
async fn keys_are_put_got_and_deleted() {
    against_both(put_get_delete).await;
}

#[tokio::test]
async fn transactions_are_one_revision() {
    against_both(transactions).await;
}

#[tokio::test]
async fn history_ends_at_the_compaction() {
    against_both(compaction).await;
}

fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| kv.key_str().unwrap()).collect()
}

async fn put_get_delete(mut client: Client) {
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("d", "")] {
        client.put(key, value, None).await.unwrap();
    }
    let reply = client
        .put("a", "4", Some(PutOptions::new().with_prev_key()))
        .await
        .unwrap();
    assert_eq!(reply.prev_key().unwrap().value(), b"3");
    let revision = reply.header().unwrap().revision();
    assert_eq!(revision, 6);

    let got = client.get("a", None).await.unwrap();
    let kv = &got.kvs()[0];
    assert_eq!(
        (
            kv.value(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version(),
            kv.lease()
        ),
        (&b"4"[..], 2, 6, 2, 0)
    );
    let old = client
        .get("a", Some(GetOptions::new().with_revision(revision - 1)))
        .await
        .unwrap();
    assert_eq!(old.kvs()[0].value(), b"3");

    let by_value = GetOptions::new()
        .with_all_keys()
        .with_sort(SortTarget::Value, SortOrder::Descend)
        .with_limit(3);
    let got = client.get("", Some(by_value)).await.unwrap();
    assert_eq!(
        (keys(got.kvs()), got.more(), got.count()),
        (vec!["a", "c", "b"], true, 4)
    );
    let from_b = GetOptions::new()
        .with_from_key()
        .with_keys_only()
        .with_serializable();
    let got = client.get("b", Some(from_b)).await.unwrap();
    assert_eq!(keys(got.kvs()), ["b", "c", "d"]);
    assert!(got.kvs().iter().all(|kv| kv.value().is_empty()));
    let recent = GetOptions::new()
        .with_all_keys()
        .with_min_mod_revision(4)
        .with_max_create_revision(4);
    assert_eq!(
        keys(client.get("", Some(recent)).await.unwrap().kvs()),
        ["a", "c"]
    );
    let count = GetOptions::new().with_prefix().with_count_only();
    let got = client.get("", Some(count)).await.unwrap();
    assert_eq!((got.count(), got.kvs().len()), (4, 0));

    let deleted = client
        .delete("b", Some(DeleteOptions::new().with_range("d").with_prev_key()))
        .await
        .unwrap();
    assert_eq!((deleted.deleted(), keys(deleted.prev_kvs())), (2, vec!["b", "c"]));
    let nothing = client.delete("b", None).await.unwrap();
    assert_eq!(
        (nothing.deleted(), nothing.header().unwrap().revision()),
        (0, revision + 1)
    );

    let error = refused(client.put("", "1", None).await);
    assert_eq!(
        error,
        (Code::InvalidArgument, "etcdserver: key is not provided".into())
    );
    let error = refused(
        client
            .put("x", "", Some(PutOptions::new().with_ignore_value()))
            .await,
    );
    assert_eq!(error, (Code::InvalidArgument, "etcdserver: key not found".into()));
    let (code, text) = refused(client.put("x", vec![0; 1_600_000], None).await);
    assert_eq!(
        (code, text.as_str()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let (code, _) = refused(client.put("x", vec![0; 3_000_000], None).await);
    assert_eq!(code, Code::ResourceExhausted);
    let future = GetOptions::new().with_revision(1000);
    let error = refused(client.get("a", Some(future)).await);
    assert_eq!(
        error,
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".into()
        )
    );
}

async fn transactions(mut client: Client) {
    client.put("a", "1", None).await.unwrap();
    let swap = Txn::new()
        .when([
            Compare::value("a", CompareOp::Equal, "1"),
            Compare::version("b", CompareOp::Equal, 0),
            Compare::mod_revision("a", CompareOp::Less, 3),
            Compare::create_revision("a", CompareOp::Greater, 0).with_range("z"),
        ])
        .and_then([
            TxnOp::put("a", "2", Some(PutOptions::new().with_prev_key())),
            TxnOp::put("b", "3", None),
            TxnOp::get("", Some(GetOptions::new().with_all_keys())),
            TxnOp::txn(
                Txn::new()
                    .when([Compare::version("b", CompareOp::Equal, 0)])
                    .and_then([TxnOp::get("b", None)])
                    .or_else([TxnOp::delete("c", None)]),
            ),
        ])
        .or_else([TxnOp::get("a", None)]);
    let done = client.txn(swap.clone()).await.unwrap();
    assert!(done.succeeded());
    let revision = done.header().unwrap().revision();
    assert_eq!(revision, 3);
    let replies = done.op_responses();
    let [
        TxnOpResponse::Put(first),
        TxnOpResponse::Put(_),
        TxnOpResponse::Get(all),
        TxnOpResponse::Txn(inner),
    ] = &replies[..]
    else {
        panic!("unexpected replies: {replies:?}")
    };
    assert_eq!(first.prev_key().unwrap().value(), b"1");
    assert_eq!(keys(all.kvs()), ["a", "b"]);
    assert!(all.kvs().iter().all(|kv| kv.mod_revision() == revision));
    // All comparisons, those of nested transactions too, see what was there before.
    assert!(inner.succeeded(), "{inner:?}");

    let undone = client.txn(swap).await.unwrap();
    assert!(!undone.succeeded());
    assert_eq!(undone.header().unwrap().revision(), revision);

    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    let error = refused(client.txn(twice).await);
    assert_eq!(
        error,
        (
            Code::InvalidArgument,
            "etcdserver: duplicate key given in txn request".into()
        )
    );
    let many: Vec<TxnOp> = (0..129).map(|n| TxnOp::put(format!("k{n}"), "", None)).collect();
    let error = refused(client.txn(Txn::new().and_then(many)).await);
    assert_eq!(
        error,
        (
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request".into()
        )
    );
    assert_eq!(
        client
            .get("k", Some(GetOptions::new().with_prefix()))
            .await
            .unwrap()
            .count(),
        0
    );
}

async fn compaction(mut client: Client) {
    for n in 0..10 {
        client.put("a", n.to_string(), None).await.unwrap();
    }
    client.delete("a", None).await.unwrap();
    let revision = client
        .put("b", "", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    assert_eq!(revision, 13);
    client
        .compact(revision - 2, Some(CompactionOptions::new().with_physical()))
        .await
        .unwrap();
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    assert_eq!(client.get("a", at(11)).await.unwrap().kvs()[0].value(), b"9");
    assert_eq!(client.get("a", at(12)).await.unwrap().count(), 0);
    let compacted = (
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted".to_owned(),
    );
    assert_eq!(refused(client.get("a", at(10)).await), compacted);
    assert_eq!(refused(client.compact(11, None).await), compacted);
    let error = refused(client.compact(1000, None).await);
    assert_eq!(
        error,
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".into()
        )
    );
}
