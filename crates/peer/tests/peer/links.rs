//! Connections come up, carry messages, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use consensus::Body;
use peer::Settings;
use service::clock::ManualClock;
use service::logs::{Format, capture};
use tokio::net::TcpListener;

use crate::harness::{Event, Member, Net, append, heartbeat, is_connected, pair, until};
use crate::relay::Relay;

#[tokio::test]
async fn messages_arrive_in_order_and_answers_go_back_over_the_accepted_connection() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    for round in 0..1000 {
        one.transport.send(heartbeat(1, 2, round));
        two.transport.send(heartbeat(2, 1, round));
    }
    let sent = |from, to| {
        (0..1000)
            .map(|round| heartbeat(from, to, round))
            .collect::<Vec<_>>()
    };
    assert_eq!(two.told.until_messages(1000).await, sent(1, 2));
    assert_eq!(one.told.until_messages(1000).await, sent(2, 1));
    let (at_one, at_two) = (one.status(2).unwrap(), two.status(1).unwrap());
    assert_eq!(at_one.address, Some(net.address(2)));
    assert_eq!((at_two.address, at_two.connected), (None, true));
    assert!(at_one.sent_bytes > 66_000 && at_two.received_bytes > 66_000);
    until("round trip", || {
        let round_trip = one.status(2).unwrap().round_trip;
        (
            round_trip.is_some_and(|time| time < Duration::from_secs(5)),
            round_trip,
        )
    })
    .await;
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_that_all_dial_each_other_end_with_one_connection_per_pair() {
    let net = Net::new();
    for _ in 0..10 {
        let members = [net.start(1).await, net.start(2).await, net.start(3).await];
        for member in &members {
            member.name([1, 2, 3].map(|node| (node, net.address(node))));
        }
        for (own, member) in (1..).zip(&members) {
            for other in (1..=3).filter(|other| *other != own) {
                member.until_connected(other).await;
            }
        }
        until("three connections", || {
            let connections = net.connections();
            (connections == 3, connections)
        })
        .await;
        for (own, member) in (1..).zip(&members) {
            for other in (1..=3).filter(|other| *other != own) {
                member.transport.send(heartbeat(own, other, 7));
            }
        }
        for member in &members {
            member.told.until_messages(2).await;
            assert_eq!(
                member.told.all().len(),
                4,
                "no connection came and went: {:?}",
                member.told.all()
            );
        }
        for member in &members {
            member.transport.stop().await;
        }
    }
}

#[tokio::test]
async fn a_member_that_was_started_anew_is_connected_to_again() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    two.transport.stop().await;
    one.told.until_event(Event::Disconnected(2)).await;
    one.until_error(2, "connection refused").await;
    assert_eq!(one.status(2).unwrap().round_trip, None);
    let again = net.start(2).await;
    again.until_connected(1).await;
    one.until_connected(2).await;
    one.transport.send(heartbeat(1, 2, 1));
    assert_eq!(again.told.until_messages(1).await, [heartbeat(1, 2, 1)]);
    one.transport.stop().await;
    again.transport.stop().await;
}

#[tokio::test]
async fn an_urgent_message_overtakes_megabytes_of_entries() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    for index in 1..=32 {
        one.transport.send(append(1, 2, index, 1 << 20));
    }
    one.transport.send(heartbeat(1, 2, 9));
    let arrived = two.told.until_messages(33).await;
    let place = arrived
        .iter()
        .position(|message| matches!(message.body, Body::Heartbeat { .. }));
    assert!(place.unwrap() < 4, "it came {place:?}");
    let entries: Vec<_> = arrived
        .into_iter()
        .filter(|message| *message != heartbeat(1, 2, 9))
        .collect();
    assert_eq!(
        entries,
        (1..=32)
            .map(|index| append(1, 2, index, 1 << 20))
            .collect::<Vec<_>>()
    );
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted_newest_first() {
    let net = Net::new();
    let two = net.start(2).await;
    let mut settings = net.settings(1).await;
    settings.limits.urgent_bytes = 70 * 10;
    let one = Member::start(settings);
    one.name([(2, net.address(2))]);
    one.until_connected(2).await;
    for round in 0..100 {
        one.transport.send(heartbeat(1, 2, round));
    }
    let arrived = two.told.until_messages(10).await;
    let expected: Vec<_> = (0..10).map(|round| heartbeat(1, 2, round)).collect();
    assert_eq!(arrived, expected);
    assert_eq!(one.status(2).unwrap().dropped, 90);
    one.transport.send(heartbeat(1, 7, 0));
    assert_eq!(one.transport.counts().unaddressed, 1);
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn members_that_are_not_named_any_more_are_disconnected_and_those_that_came_are_not() {
    let net = Net::new();
    let (one, two) = pair(&net).await;
    let three = net.start(3).await;
    three.name([(1, net.address(1))]);
    one.until_connected(3).await;
    one.name([]);
    two.told.until_event(Event::Disconnected(1)).await;
    one.told.until_event(Event::Disconnected(2)).await;
    until("status to go", || {
        (one.status(2).is_none(), one.transport.statuses())
    })
    .await;
    assert!(is_connected(&one.told.all(), 3));
    for member in [one, two, three] {
        member.transport.stop().await;
    }
}

#[tokio::test]
async fn a_new_address_is_dialled_at_once() {
    let net = Net::new();
    let mut settings = net.settings(1).await;
    settings.limits.retry_min = Duration::from_mins(10);
    settings.limits.retry_max = Duration::from_mins(10);
    let one = Member::start(settings);
    one.name([(2, net.address(9))]);
    one.until_error(2, "connection refused").await;
    let two = net.start(2).await;
    one.name([(2, net.address(2))]);
    one.until_connected(2).await;
    one.transport.stop().await;
    two.transport.stop().await;
}

#[tokio::test]
async fn names_that_cannot_be_looked_up_are_unreachable() {
    let net = Net::new();
    let one = net.start(1).await;
    one.name([(2, "no such name:2380".to_owned())]);
    one.until_error(2, "unreachable").await;
    one.transport.stop().await;
}

#[tokio::test]
async fn a_failure_to_connect_is_told_once_and_ends_with_the_address() {
    let logs = capture(Format::Text, "info");
    let net = Net::new();
    let closing = TcpListener::bind(net.address(2)).await.unwrap();
    let attempts = Arc::new(AtomicUsize::new(0));
    let closer = tokio::spawn({
        let attempts = attempts.clone();
        async move {
            loop {
                drop(closing.accept().await.unwrap());
                attempts.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let settings = Settings {
        // Stands still, so the half minute is never over.
        clock: Arc::new(ManualClock::default()),
        sink: peer::log_lines!("my_network"),
        ..net.settings(1).await
    };
    let one = Member::start(settings);
    one.name([(2, net.address(2)), (3, net.address(3))]);
    until("attempts", || {
        let attempts = attempts.load(Ordering::Relaxed);
        (attempts > 5, attempts)
    })
    .await;
    one.until_error(3, "connection refused").await;
    closer.abort();
    one.transport.stop().await;
    let text = logs.text();
    let failed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("Failed to connect"))
        .collect();
    assert_eq!(failed.len(), 2, "{text}");
    let refused = format!(
        "ERROR my_network: Failed to connect to peer, node_id=3, error=connection refused, addr={}",
        net.address(3)
    );
    assert!(failed.contains(&refused.as_str()), "{text}");
    assert!(
        failed
            .iter()
            .any(|line| line.ends_with(&format!("addr={}", net.address(2)))),
        "{text}"
    );
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_disconnected() {
    let net = Net::new();
    let mut settings = net.settings(1).await;
    settings.limits.silence_max = Duration::from_millis(300);
    let (one, two) = (Member::start(settings), net.start(2).await);
    let relay = Relay::start(&net.host(8), &net.address(2)).await;
    one.name([(2, relay.address())]);
    one.until_connected(2).await;
    relay.freeze();
    one.told.until_event(Event::Disconnected(2)).await;
    one.until_error(2, "timeout").await;
    relay.thaw();
    one.until_connected(2).await;
    one.transport.stop().await;
    two.transport.stop().await;
}
