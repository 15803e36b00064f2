//! Alerts in Debian's Alertmanager.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says with a panic what failed, and on standard error what it skipped"
)]

use std::sync::Arc;
use std::time::Duration;

use lab::Readiness;
use notify::{Alertmanager, Channel, DEFAULT_DEADLINE, Link, Message, Options, Pairs, Secret, Sender, Verb};
use serde_json::{Value, json};
use service::clock::{Clock as _, SystemClock};
use service::settings::Millis;
use testkit::{Server, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_secs(20);

fn alertmanager() -> Option<Server> {
    let program = lab::applets::find_program("prometheus-alertmanager")?;
    let ready = Readiness::Http {
        port: 9093,
        path: "/-/ready".into(),
    };
    let mut server = Server::new("alertmanager", program, ready).unwrap();
    let config = server.dir().join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
    server.set_args([
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", server.dir().join("data").display()),
        format!("--web.listen-address={}", server.socket()),
        "--cluster.listen-address=".to_owned(),
    ]);
    server.start().unwrap();
    Some(server)
}

fn alerts(server: &Server) -> Vec<Value> {
    serde_json::from_str(&server.get("/api/v2/alerts").unwrap().body).unwrap()
}

#[tokio::test]
async fn an_alert_fires_until_it_is_resolved() {
    let Some(server) = alertmanager() else {
        eprintln!(
            "skipped: prometheus-alertmanager is not installed: apt-get install prometheus-alertmanager"
        );
        return;
    };
    let clock = SystemClock::shared();
    let options = Options {
        proxy: false,
        ..Options::default()
    };
    let sender = Sender::new(&options, clock.clone()).unwrap();
    let channel = Channel::Alertmanager(Alertmanager {
        url: Secret::new(server.endpoint()),
        hold: Some(Millis::seconds(3600)),
    });
    let began = clock.unix_ms() - 60_000;
    let mut message = Message::new("quptime", Verb::Down, "[quptime] DOWN: homepage", "größe & <b>");
    message.labels = Pairs::from_iter([("check", "homepage"), ("check-type", "http")]);
    message.details = Pairs::from_iter([("reports", "1/3")]);
    message.links = vec![Link {
        title: "Runbook".into(),
        url: "https://wiki.example.com/x".into(),
    }];
    message.dedup_key = "c/i".into();
    message.when_unix_ms = began;
    // A repeat changes nothing: the labels say that it is the same alert.
    for repeat in [false, true] {
        message.repeat = repeat;
        let receipt = sender.send(&channel, &message, DEFAULT_DEADLINE).await.unwrap();
        assert_eq!(receipt.answer, "200 OK");
    }
    wait_until(LIMIT, "the alert to be there", || alerts(&server).len() == 1);
    let alert = &alerts(&server)[0];
    assert_eq!(
        alert["labels"],
        json!({"alertname": "quptime", "source": "quptime", "check": "homepage", "check_type": "http"})
    );
    assert_eq!(alert["annotations"]["summary"], "[quptime] DOWN: homepage");
    assert_eq!(alert["annotations"]["description"], "größe & <b>");
    assert_eq!(alert["annotations"]["runbook_url"], "https://wiki.example.com/x");

    let mut recovered = message.clone();
    recovered.verb = Verb::Recovered;
    recovered.open = false;
    recovered.since_unix_ms = Some(began);
    recovered.when_unix_ms = clock.unix_ms();
    sender.send(&channel, &recovered, DEFAULT_DEADLINE).await.unwrap();
    wait_until(LIMIT, "the alert to be over", || alerts(&server).is_empty());
}

#[tokio::test]
async fn a_test_is_another_alert_than_the_real_one() {
    let Some(server) = alertmanager() else {
        eprintln!(
            "skipped: prometheus-alertmanager is not installed: apt-get install prometheus-alertmanager"
        );
        return;
    };
    let clock = SystemClock::new();
    let options = Options {
        proxy: false,
        ..Options::default()
    };
    let sender = Sender::new(&options, Arc::new(clock)).unwrap();
    let channel = Channel::Alertmanager(Alertmanager {
        url: Secret::new(format!("{}/", server.endpoint())),
        hold: None,
    });
    let mut message = Message::new("slo", Verb::Firing, "burning", "");
    message.when_unix_ms = clock.unix_ms();
    for test in [false, true] {
        message.test = test;
        sender.send(&channel, &message, DEFAULT_DEADLINE).await.unwrap();
    }
    wait_until(LIMIT, "both alerts to be there", || alerts(&server).len() == 2);
}
