//! Requests and what their callers may conclude.

use std::time::Duration;

use bytes::Bytes;
use consensus::NodeId;
use peer::RequestError;

use crate::harness::{BLOW_UP, ECHO, Event, HANG, LONG, Member, Net, REFUSE, pair};

async fn ask(member: &Member, to: u64, kind: u8, body: &'static [u8]) -> Result<Bytes, RequestError> {
    member
        .transport
        .request(NodeId(to), kind, Bytes::from_static(body), LONG)
        .await
}

#[tokio::test]
async fn requests_are_answered_and_refused_in_both_directions() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    assert_eq!(ask(&one, 2, ECHO, b"ping").await, Ok(Bytes::from_static(b"ping")));
    assert_eq!(ask(&two, 1, ECHO, b"pong").await, Ok(Bytes::from_static(b"pong")));
    assert_eq!(
        ask(&two, 1, REFUSE, b"").await,
        Err(RequestError::Refused("not today".to_owned()))
    );
    let many = (0..200u8).map(|number| {
        let body = Bytes::from(vec![number; 10_000]);
        let transport = &one.transport;
        async move { (transport.request(NodeId(2), ECHO, body.clone(), LONG).await, body) }
    });
    for (answer, body) in futures::future::join_all(many).await {
        assert_eq!(answer, Ok(body));
    }
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn a_request_that_was_sent_when_the_connection_broke_has_an_unknown_outcome() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let hanging = tokio::spawn({
        let transport = one.transport.clone();
        async move { transport.request(NodeId(2), HANG, Bytes::new(), LONG).await }
    });
    two.told.until_event(Event::Request(1, HANG, Bytes::new())).await;
    two.transport.stop().await;
    let outcome = hanging.await.unwrap();
    assert!(
        matches!(outcome, Err(RequestError::Unknown { to: 2, .. })),
        "{outcome:?}"
    );
    one.told.until_event(Event::Disconnected(2)).await;
    let outcome = ask(&one, 2, ECHO, b"").await;
    assert!(
        matches!(outcome, Err(RequestError::NotSent { to: 2, .. })),
        "{outcome:?}"
    );
    let outcome = ask(&one, 5, ECHO, b"").await;
    assert!(
        matches!(outcome, Err(RequestError::NotSent { to: 5, .. })),
        "{outcome:?}"
    );
    one.transport.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_has_an_unknown_outcome() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let soon = Duration::from_millis(100);
    let outcome = one.transport.request(NodeId(2), HANG, Bytes::new(), soon).await;
    assert!(
        matches!(outcome, Err(RequestError::Unknown { .. })),
        "{outcome:?}"
    );
    assert!(outcome.unwrap_err().to_string().contains("timeout"));
    // And the connection goes on.
    assert_eq!(ask(&one, 2, ECHO, b"next").await, Ok(Bytes::from_static(b"next")));
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn too_many_and_too_large_ones_are_refused() {
    let net = Net::new();
    let (mut first, mut second) = (net.settings(1).await, net.settings(2).await);
    for settings in [&mut first, &mut second] {
        settings.limits.requests_served = 2;
        settings.limits.frame_bytes = 10_000;
    }
    let (one, two) = (Member::start(first), Member::start(second));
    one.name([(2, net.address(2))]);
    one.until_connected(2).await;
    let large = one
        .transport
        .request(NodeId(2), ECHO, Bytes::from(vec![0; 10_000]), LONG)
        .await;
    assert!(
        matches!(&large, Err(RequestError::NotSent { reason, .. }) if reason.contains("too large")),
        "{large:?}"
    );
    let blown = one
        .transport
        .request(NodeId(2), BLOW_UP, Bytes::from(vec![0; 1000]), LONG)
        .await;
    assert!(
        matches!(&blown, Err(RequestError::Refused(text)) if text.contains("too large")),
        "{blown:?}"
    );
    let hanging = [(), ()].map(|()| {
        let transport = one.transport.clone();
        tokio::spawn(async move { transport.request(NodeId(2), HANG, Bytes::new(), LONG).await })
    });
    two.told
        .until("two requests", |events| {
            events
                .iter()
                .filter(|event| matches!(event, Event::Request(_, HANG, _)))
                .count()
                == 2
        })
        .await;
    assert_eq!(
        ask(&one, 2, ECHO, b"").await,
        Err(RequestError::Refused("too many requests".to_owned()))
    );
    for task in hanging {
        task.abort();
    }
    one.transport.stop().await;
    two.transport.stop().await;
}
