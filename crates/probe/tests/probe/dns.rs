//! The dns check, and looking up the hosts of other checks.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType as Type};
use probe::{Dns, Host, Kind, Outcome, RecordType, Settings, Tcp};

use crate::servers::{self, Via};
use crate::{AMPLE, SHORT, assert_down, assert_up, probe_of, prober, prober_with, settings};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn reply(query: &Message, code: ResponseCode, records: Vec<RData>) -> Message {
    let mut answer = query.clone().into_response();
    answer.metadata.response_code = code;
    let owner = query.queries[0].name().clone();
    answer.add_answers(
        records
            .into_iter()
            .map(|data| Record::from_rdata(owner.clone(), 60, data)),
    );
    answer
}

/// A zone with one of everything.
fn zone(query: &Message, via: Via) -> Option<Message> {
    let question = &query.queries[0];
    let ok = |records| reply(query, ResponseCode::NoError, records);
    Some(
        match (
            question.name().to_ascii().to_lowercase().as_str(),
            question.query_type(),
        ) {
            ("www.example.", Type::A) => ok(vec![
                RData::A(A(Ipv4Addr::LOCALHOST)),
                RData::A(A::new(192, 0, 2, 2)),
            ]),
            ("www.example.", Type::AAAA) => ok(vec![RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))]),
            ("www.example.", Type::MX) => ok(vec![RData::MX(MX::new(10, name("mx.example.")))]),
            ("www.example.", Type::NS) => ok(vec![
                RData::NS(NS(name("ns1.example."))),
                RData::NS(NS(name("ns2.example."))),
            ]),
            ("www.example.", Type::TXT) => {
                ok(vec![RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()]))])
            }
            ("alias.example.", Type::CNAME) => ok(vec![RData::CNAME(CNAME(name("www.example.")))]),
            ("alias.example.", Type::A) => ok(vec![
                RData::CNAME(CNAME(name("www.example."))),
                RData::A(A(Ipv4Addr::LOCALHOST)),
            ]),
            ("here.example.", Type::A) => ok(vec![RData::A(A(Ipv4Addr::LOCALHOST))]),
            ("six.example.", Type::AAAA) => ok(vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))]),
            ("big.example.", _) if via == Via::Udp => {
                let mut answer = ok(vec![]);
                answer.metadata.truncation = true;
                answer
            }
            ("big.example.", _) => ok(vec![RData::TXT(TXT::new(vec!["x".repeat(255); 8]))]),
            ("fails.example.", _) => reply(query, ResponseCode::ServFail, vec![]),
            ("refused.example.", _) => reply(query, ResponseCode::Refused, vec![]),
            ("silent.example.", _) => return None,
            ("www.example." | "here.example." | "six.example." | "empty.example.", _) => ok(vec![]),
            _ => reply(query, ResponseCode::NXDomain, vec![]),
        },
    )
}

fn asks(hostname: &str, record: RecordType, expect: &str) -> Dns {
    Dns {
        hostname: hostname.to_owned(),
        record,
        resolver: None,
        expect: expect.to_owned(),
    }
}

async fn ask(hostname: &str, record: RecordType, expect: &str, server: &str) -> Outcome {
    let kind = Kind::Dns(asks(hostname, record, expect));
    prober().probe(&probe_of(kind, AMPLE, &[server.to_owned()])).await
}

#[tokio::test]
async fn records_of_all_types_are_compared() {
    let server = servers::dns(zone).await;
    for (record, hostname, expect, detail) in [
        (RecordType::A, "www.example", "", "a 127.0.0.1, 192.0.2.2"),
        (
            RecordType::A,
            "WWW.example.",
            "192.0.2.2",
            "a 127.0.0.1, 192.0.2.2",
        ),
        (RecordType::A, "alias.example", "127.0.0.1", "a 127.0.0.1"),
        (RecordType::Aaaa, "www.example", "2001:DB8::1", "aaaa 2001:db8::1"),
        (
            RecordType::Cname,
            "alias.example",
            "www.example.",
            "cname www.example",
        ),
        (RecordType::Mx, "www.example", "mx.example", "mx 10 mx.example"),
        (RecordType::Mx, "www.example", "10 mx.example", "mx 10 mx.example"),
        (
            RecordType::Ns,
            "www.example",
            "NS2.example",
            "ns ns1.example, ns2.example",
        ),
        (RecordType::Txt, "www.example", "spf1 -all", "txt \"v=spf1 -all\""),
    ] {
        let outcome = ask(hostname, record, expect, &server).await;
        assert_up(&outcome, detail);
        assert!(outcome.phases.resolve.is_some() && outcome.phases.connect.is_none());
    }
    for (record, expect, detail) in [
        (
            RecordType::A,
            "2.0.2.2",
            "no match: want a 2.0.2.2, got 127.0.0.1, 192.0.2.2",
        ),
        (
            RecordType::Mx,
            "20 mx.example",
            "no match: want mx 20 mx.example, got 10 mx.example",
        ),
    ] {
        let outcome = ask("www.example", record, expect, &server).await;
        assert_down(&outcome, &format!("{detail} from {server}"));
    }
}

#[tokio::test]
async fn what_is_no_answer_is_named() {
    let server = servers::dns(zone).await;
    for (hostname, detail) in [
        ("none.example", format!("NXDOMAIN from {server}")),
        (
            "empty.example",
            format!("no a record (empty answer from {server})"),
        ),
        ("fails.example", format!("SERVFAIL from {server}")),
        ("refused.example", format!("REFUSED from {server}")),
        ("bad..example", "\"bad..example\" is not a DNS name".to_owned()),
    ] {
        assert_down(&ask(hostname, RecordType::A, "", &server).await, &detail);
    }
    let kind = Kind::Dns(asks("silent.example", RecordType::A, ""));
    let outcome = prober()
        .probe(&probe_of(kind, SHORT, std::slice::from_ref(&server)))
        .await;
    assert_down(&outcome, &format!("timeout from {server}"));
    // The server has half of the time, the other half is for what would come next; so it is named, not the clock.
    assert!(outcome.latency >= SHORT / 2);
    let closed = servers::closed().await.to_string();
    let outcome = ask("www.example", RecordType::A, "", &closed).await;
    assert_down(&outcome, &format!("connection refused from {closed}"));
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    let server = servers::dns(zone).await;
    let outcome = ask("big.example", RecordType::Txt, &"x".repeat(300), &server).await;
    assert!(outcome.is_up(), "{outcome:?}");
}

#[tokio::test]
async fn a_lost_query_is_sent_again() {
    let asked = AtomicUsize::new(0);
    let server = servers::dns(move |query, via| {
        // The first datagram is lost.
        (asked.fetch_add(1, Ordering::SeqCst) > 0)
            .then(|| zone(query, via))
            .flatten()
    })
    .await;
    let outcome = ask("www.example", RecordType::Mx, "", &server).await;
    assert_up(&outcome, "mx 10 mx.example");
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let good = servers::dns(zone).await;
    let failing = servers::dns(|query, _| Some(reply(query, ResponseCode::ServFail, vec![]))).await;
    let silent = servers::dns(|_, _| None).await;
    let closed = servers::closed().await.to_string();
    let prober = prober();
    for bad in [&failing, &silent, &closed] {
        let kind = Kind::Dns(asks("www.example", RecordType::Mx, ""));
        let list = [bad.clone(), good.clone()];
        let outcome = prober.probe(&probe_of(kind, 2 * SHORT, &list)).await;
        assert_up(&outcome, "mx 10 mx.example");
    }
    // A name that does not exist is an answer.
    let empty = servers::dns(|query, _| Some(reply(query, ResponseCode::NXDomain, vec![]))).await;
    let kind = Kind::Dns(asks("www.example", RecordType::Mx, ""));
    let outcome = prober
        .probe(&probe_of(kind, AMPLE, &[empty.clone(), good.clone()]))
        .await;
    assert_down(&outcome, &format!("NXDOMAIN from {empty}"));

    let kind = Kind::Dns(asks("www.example", RecordType::Mx, ""));
    let outcome = prober
        .probe(&probe_of(kind, AMPLE, &[failing.clone(), closed.clone()]))
        .await;
    assert_down(
        &outcome,
        &format!("SERVFAIL from {failing}, connection refused from {closed}"),
    );
    // The check's own server comes after the lists.
    let dns = Dns {
        resolver: Some(good.parse().unwrap()),
        ..asks("www.example", RecordType::Mx, "")
    };
    let outcome = prober
        .probe(&probe_of(Kind::Dns(dns.clone()), AMPLE, &[failing]))
        .await;
    assert_up(&outcome, "mx 10 mx.example");
    assert_up(
        &prober.probe(&probe_of(Kind::Dns(dns), AMPLE, &[])).await,
        "mx 10 mx.example",
    );
}

async fn connect(host: &str, port: u16, list: &[String]) -> Outcome {
    let host = Host::parse(host).unwrap();
    prober()
        .probe(&probe_of(Kind::Tcp(Tcp { host, port }), AMPLE, list))
        .await
}

#[tokio::test]
async fn hosts_of_other_checks_are_looked_up_the_same_way() {
    let target = servers::silent().await;
    let list = [
        servers::dns(|query, _| Some(reply(query, ResponseCode::ServFail, vec![]))).await,
        servers::dns(zone).await,
    ];
    for host in ["here.example", "alias.example"] {
        let outcome = connect(host, target.port(), &list).await;
        assert_up(&outcome, &format!("connected to {target}"));
        assert!(outcome.phases.resolve.is_some());
    }
    // Of the two addresses one is there.
    let outcome = connect("www.example", target.port(), &list).await;
    assert_up(&outcome, &format!("connected to {target}"));
    assert_down(
        &connect("none.example", target.port(), &list).await,
        "resolve: no such host",
    );
    assert_down(
        &connect("empty.example", target.port(), &list).await,
        "resolve: host has no address",
    );
    assert_down(
        &connect("fails.example", target.port(), &list[1..]).await,
        &format!("resolve: SERVFAIL from {}", list[1]),
    );
    // An address is not looked up, and a server that is down does not matter to it.
    let closed = [servers::closed().await.to_string()];
    let outcome = connect("127.0.0.1", target.port(), &closed).await;
    assert_up(&outcome, &format!("connected to {target}"));
    assert_eq!(outcome.phases.resolve, None);
}

#[tokio::test]
async fn answers_are_not_kept() {
    let target = servers::silent().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = servers::dns(move |query, via| {
        count.fetch_add(1, Ordering::SeqCst);
        zone(query, via)
    })
    .await;
    let prober = prober();
    let kind = || {
        Kind::Tcp(Tcp {
            host: Host::parse("here.example").unwrap(),
            port: target.port(),
        })
    };
    for probes in 1..=3 {
        let outcome = prober
            .probe(&probe_of(kind(), AMPLE, std::slice::from_ref(&server)))
            .await;
        assert!(outcome.is_up());
        // One look-up asks twice, for both families; three probes cannot live on that.
        assert!(asked.load(Ordering::SeqCst) >= probes);
    }
}

#[tokio::test]
async fn the_system_is_asked_only_without_a_list() {
    let target = servers::silent().await;
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 db db.example\n").unwrap();
    let prober = prober_with(Settings { hosts, ..settings() });
    let kind = |host: &str| {
        Kind::Tcp(Tcp {
            host: Host::parse(host).unwrap(),
            port: target.port(),
        })
    };
    for host in ["db", "DB.example."] {
        let outcome = prober.probe(&probe_of(kind(host), AMPLE, &[])).await;
        assert_up(&outcome, &format!("connected to {target}"));
    }
    let list = [servers::dns(zone).await];
    let outcome = prober.probe(&probe_of(kind("db"), AMPLE, &list)).await;
    assert_down(&outcome, "resolve: no such host");
    // A server that is given by name is looked up with the system's files.
    let port = list[0].rsplit_once(':').unwrap().1;
    let outcome = prober
        .probe(&probe_of(kind("here.example"), AMPLE, &[format!("db:{port}")]))
        .await;
    assert_up(&outcome, &format!("connected to {target}"));
    let outcome = prober
        .probe(&probe_of(
            kind("here.example"),
            AMPLE,
            &[format!("localhost:{port}")],
        ))
        .await;
    assert_up(&outcome, &format!("connected to {target}"));
}
