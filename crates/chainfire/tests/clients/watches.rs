//! Watches: several on one stream, progress, cancel, replay from a revision.

use etcd_client::{
    Client, CompactionOptions, DeleteOptions, EventType, PutOptions, WatchFilterType, WatchOptions,
    WatchResponse, WatchStream,
};

use crate::{against_both, soon};

#[tokio::test]
async fn several_watches_share_a_stream() {
    against_both(several_on_a_stream).await;
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_left() {
    against_both(resumption).await;
}

#[tokio::test]
async fn a_watch_of_compacted_history_is_cancelled() {
    against_both(compacted).await;
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    soon(stream.message()).await.unwrap().unwrap()
}

/// `put a 1 (3)` for each event: kind, key, value, revision.
fn events(reply: &WatchResponse) -> Vec<String> {
    let of = |event: &etcd_client::Event| {
        let kv = event.kv().unwrap();
        let kind = match event.event_type() {
            EventType::Put => "put",
            EventType::Delete => "delete",
        };
        let (key, value) = (kv.key_str().unwrap(), kv.value_str().unwrap());
        format!("{kind} {key} {value} ({})", kv.mod_revision())
    };
    reply.events().iter().map(of).collect()
}

async fn several_on_a_stream(mut client: Client) {
    let all = WatchOptions::new()
        .with_all_keys()
        .with_watch_id(1)
        .with_prev_key();
    let mut stream = client.watch("", Some(all)).await.unwrap();
    let created = next(&mut stream).await;
    assert_eq!(
        (created.created(), created.watch_id(), created.events().len()),
        (true, 1, 0)
    );
    let deletes = WatchOptions::new()
        .with_prefix()
        .with_filters([WatchFilterType::NoPut])
        .with_watch_id(2);
    stream.watch("a/", Some(deletes)).await.unwrap();
    assert_eq!(next(&mut stream).await.watch_id(), 2);
    // The same id again is refused and harms nobody.
    stream
        .watch("b", Some(WatchOptions::new().with_watch_id(2)))
        .await
        .unwrap();
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled(), "{refused:?}");

    client.put("a/1", "x", None).await.unwrap();
    let reply = next(&mut stream).await;
    assert_eq!(
        (reply.watch_id(), events(&reply)),
        (1, vec!["put a/1 x (2)".to_owned()])
    );
    client.put("a/1", "y", Some(PutOptions::new())).await.unwrap();
    let reply = next(&mut stream).await;
    assert_eq!(reply.events()[0].prev_kv().unwrap().value(), b"x");

    client.put("a/2", "", None).await.unwrap();
    assert_eq!(events(&next(&mut stream).await), ["put a/2  (4)"]);
    client
        .delete("a/", Some(DeleteOptions::new().with_prefix()))
        .await
        .unwrap();
    let mut both = [next(&mut stream).await, next(&mut stream).await];
    both.sort_by_key(WatchResponse::watch_id);
    for (reply, id) in both.iter().zip([1, 2]) {
        assert_eq!(reply.watch_id(), id);
        // All of one revision come together.
        assert_eq!(events(reply), ["delete a/1  (5)", "delete a/2  (5)"]);
    }

    stream.request_progress().await.unwrap();
    let progress = next(&mut stream).await;
    assert_eq!(
        (progress.watch_id(), progress.header().unwrap().revision()),
        (-1, 5)
    );

    stream.cancel(1).await.unwrap();
    let reply = next(&mut stream).await;
    assert_eq!((reply.watch_id(), reply.canceled()), (1, true));
    client.put("a/3", "", None).await.unwrap();
    client.delete("a/3", None).await.unwrap();
    let reply = next(&mut stream).await;
    assert_eq!(
        (reply.watch_id(), events(&reply)),
        (2, vec!["delete a/3  (7)".to_owned()])
    );
}

async fn resumption(mut client: Client) {
    let mut stream = client.watch("k", None).await.unwrap();
    assert!(next(&mut stream).await.created());
    client.put("k", "1", None).await.unwrap();
    let last = next(&mut stream).await.header().unwrap().revision();
    drop(stream);
    for n in 2..200 {
        client.put("k", n.to_string(), None).await.unwrap();
    }
    let mut stream = client
        .watch("k", Some(WatchOptions::new().with_start_revision(last + 1)))
        .await
        .unwrap();
    assert!(next(&mut stream).await.created());
    let mut seen = Vec::new();
    while seen.len() < 198 {
        seen.extend(events(&next(&mut stream).await));
    }
    let expected: Vec<String> = (2..200).map(|n| format!("put k {n} ({})", n + 1)).collect();
    assert_eq!(seen, expected);
    client.put("k", "live", None).await.unwrap();
    assert_eq!(events(&next(&mut stream).await), ["put k live (201)"]);

    // A revision yet to come: nothing before it is told.
    let mut stream = client
        .watch("k", Some(WatchOptions::new().with_start_revision(203)))
        .await
        .unwrap();
    assert!(next(&mut stream).await.created());
    for value in ["early", "due"] {
        client.put("k", value, None).await.unwrap();
    }
    assert_eq!(events(&next(&mut stream).await), ["put k due (203)"]);
}

async fn compacted(mut client: Client) {
    for n in 0..10 {
        client.put("k", n.to_string(), None).await.unwrap();
    }
    client
        .compact(6, Some(CompactionOptions::new().with_physical()))
        .await
        .unwrap();
    let mut stream = client
        .watch("k", Some(WatchOptions::new().with_start_revision(3)))
        .await
        .unwrap();
    assert!(next(&mut stream).await.created());
    let reply = next(&mut stream).await;
    assert_eq!((reply.canceled(), reply.compact_revision()), (true, 6));
    // The stream itself goes on.
    stream
        .watch("k", Some(WatchOptions::new().with_start_revision(10)))
        .await
        .unwrap();
    assert!(next(&mut stream).await.created());
    assert_eq!(events(&next(&mut stream).await), ["put k 8 (10)", "put k 9 (11)"]);
}
