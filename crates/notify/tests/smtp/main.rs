//! Mail through a real relay, and through relays that mean no good.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod hostile;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hostile::{Hostile, Manner};
use notify::{
    Channel, DEFAULT_DEADLINE, Failure, Gate, Kind, Message, Options, Receipt, Secret, Sender, Smtp, Verb,
};
use relay::{PASSWORD, Relay, Security, USER};
use service::clock::ManualClock;
use tokio::net::TcpListener;

/// 2026-05-12T15:01:32Z
const NOW_MS: u64 = 1_778_598_092_000;

fn message() -> Message {
    let mut message = Message::new(
        "quptime",
        Verb::Down,
        "[quptime] DOWN: größe",
        "es fällt\n.\n..zwei Punkte\nend",
    );
    message.delivery_id = "check/7/oncall".into();
    message.dedup_key = "cluster/incident".into();
    message
}

async fn send_within(settings: Smtp, message: &Message, deadline: Duration) -> Result<Receipt, Failure> {
    let sender = Sender::new(&Options::default(), Arc::new(ManualClock::at(NOW_MS))).unwrap();
    let channel = Channel::Smtp(settings);
    let outcome = sender.send(&channel, message, deadline).await;
    let shown = format!("{outcome:?} {channel:?} {:?}", channel.check());
    assert!(!shown.contains(PASSWORD), "{shown}");
    outcome
}

async fn send(settings: Smtp) -> Result<Receipt, Failure> {
    send_within(settings, &message(), DEFAULT_DEADLINE).await
}

fn to(address: SocketAddr) -> Smtp {
    let mut settings = Smtp::new(
        address.ip().to_string(),
        "qu@example.com",
        vec!["ops@example.com".into()],
    );
    settings.port = address.port();
    settings.starttls = false;
    settings
}

#[tokio::test]
async fn a_closed_gate_keeps_the_mail_from_the_relay() {
    let relay = Relay::with_login(Security::StartTls, None);
    let sender = Sender::new(&Options::default(), Arc::new(ManualClock::at(NOW_MS))).unwrap();
    let channel = Channel::Smtp(relay.settings(&["ops@example.com"]));
    let gate = Gate::new(|| false);
    let held = sender
        .send_through(&channel, &message(), DEFAULT_DEADLINE, &gate)
        .await;
    assert!(held.as_ref().is_err_and(|failure| failure.held), "{held:?}");
    let receipt = send(relay.settings(&["ops@example.com"])).await.unwrap();
    assert_eq!(
        receipt.to_string(),
        "250 2.0.0 Ok: queued as M1",
        "the first one it took"
    );
}

#[tokio::test]
async fn mail_arrives_as_it_was_written() {
    let relay = Relay::with_login(Security::StartTls, None);
    let receipt = send(relay.settings(&["ops@example.com", "Zoë <zoe@example.org>"]))
        .await
        .unwrap();
    assert_eq!(receipt.to_string(), "250 2.0.0 Ok: queued as M1");
    let mail = &relay.mails(1)[0];
    assert_eq!(mail.from, "qu@example.com");
    assert_eq!(mail.to, ["ops@example.com", "zoe@example.org"]);
    assert!(mail.tls);
    assert_eq!(mail.login.as_deref(), Some(USER));
    assert_eq!(mail.subject, "[quptime] DOWN: größe");
    assert_eq!(mail.id, "<check/7/oncall@example.com>");
    assert_eq!(mail.date, "Tue, 12 May 2026 15:01:32 +0000");
    assert_eq!(mail.body, "es fällt\r\n.\r\n..zwei Punkte\r\nend\r\n");
    assert!(
        mail.raw
            .contains("Content-Transfer-Encoding: quoted-printable\r\n")
    );
}

#[tokio::test]
async fn a_second_copy_has_the_same_id_and_text() {
    let relay = Relay::open(Security::Plain);
    let mut message = message();
    for repeat in [false, true] {
        message.repeat = repeat;
        send_within(relay.settings(&["ops@example.com"]), &message, DEFAULT_DEADLINE)
            .await
            .unwrap();
    }
    let mails = relay.mails(2);
    assert_eq!(mails[0].raw, mails[1].raw);
    assert!(!mails[0].tls);
    assert_eq!(mails[0].login, None);
}

#[tokio::test]
async fn log_in_works_both_ways_and_with_tls_from_the_start() {
    for mechanism in ["PLAIN", "LOGIN"] {
        let relay = Relay::with_login(Security::Implicit, Some(mechanism));
        send(relay.settings(&["ops@example.com"])).await.unwrap();
        let mail = &relay.mails(1)[0];
        assert_eq!(mail.login.as_deref(), Some(USER), "{mechanism}");
        assert!(mail.tls);
    }
}

#[tokio::test]
async fn a_password_may_come_from_a_file() {
    let relay = Relay::with_login(Security::StartTls, None);
    let file = relay.dir().join("password");
    let mut settings = relay.settings(&["ops@example.com"]);
    settings.password = Secret::default();
    settings.password_file = Some(file.clone());
    let missing = send(settings.clone()).await.unwrap_err();
    assert_eq!(missing.kind, Kind::Permanent);
    assert!(
        missing.text.ends_with(&format!(
            "password_file {}: No such file or directory (os error 2)",
            file.display()
        )),
        "{missing}"
    );
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    send(settings.clone()).await.unwrap();
    relay.mails(1);
    std::fs::write(&file, format!("{PASSWORD}\nmore\n")).unwrap();
    let long = send(settings).await.unwrap_err();
    assert!(
        long.text.ends_with("expected one line with the password"),
        "{long}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_permanent_and_not_shown() {
    let relay = Relay::with_login(Security::StartTls, None);
    let mut settings = relay.settings(&["ops@example.com"]);
    settings.user = "somebody".into();
    let place = Channel::Smtp(settings.clone()).place();
    let failure = send(settings).await.unwrap_err();
    assert_eq!((failure.kind, failure.uncertain), (Kind::Permanent, false));
    assert_eq!(
        failure.text,
        format!("{place}: log-in: 535 5.7.8 Authentication credentials invalid")
    );

    let quoting = Hostile::start(Manner::QuotesLogIn).await;
    let mut settings = to(quoting.address);
    settings.user = USER.into();
    settings.password = Secret::new(PASSWORD);
    let failure = send(settings).await.unwrap_err();
    assert_eq!(
        failure.text,
        format!(
            "smtp {}: log-in: 535 5.7.8 you said AUTH PLAIN <secret>",
            quoting.address
        )
    );
}

#[tokio::test]
async fn no_way_to_log_in_is_permanent() {
    // It offers a log-in only after STARTTLS.
    let relay = Relay::with_login(Security::StartTls, None);
    let mut settings = relay.settings(&["ops@example.com"]);
    settings.starttls = false;
    let failure = send(settings).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(failure.text.contains("log-in: "), "{failure}");
    relay.mails(0);
}

#[tokio::test]
async fn only_believed_certificates_will_do() {
    for security in [Security::StartTls, Security::Implicit] {
        let relay = Relay::with_login(security, None);
        let mut settings = relay.settings(&["ops@example.com"]);
        settings.ca_file = None;
        let failure = send(settings.clone()).await.unwrap_err();
        assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
        assert!(
            failure
                .text
                .contains("TLS: invalid peer certificate: UnknownIssuer"),
            "{failure}"
        );
        settings.ca_file = Some(relay.dir().join("none.pem"));
        let failure = send(settings).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Permanent);
        assert!(failure.text.contains("authorities in "), "{failure}");
        relay.mails(0);
    }
}

#[tokio::test]
async fn refused_recipients_do_not_keep_the_mail_from_others() {
    let relay = Relay::open(Security::Plain);
    let receipt = send(relay.settings(&["refused@example.com", "ops@example.com", "later@example.com"]))
        .await
        .unwrap();
    assert_eq!(
        receipt.remarks,
        [
            "refused recipient refused@example.com: 550 5.1.1 no such mailbox",
            "refused recipient later@example.com: 451 4.2.0 try again later",
        ]
    );
    assert_eq!(relay.mails(1)[0].to, ["ops@example.com"]);
}

#[tokio::test]
async fn without_any_recipient_nothing_is_sent() {
    let relay = Relay::open(Security::Plain);
    for (to, kind, text) in [
        (
            &["refused@example.com"][..],
            Kind::Permanent,
            "recipient refused@example.com: 550 5.1.1 no such mailbox",
        ),
        (
            &["refused@example.com", "later@example.com"],
            Kind::Temporary,
            "recipient refused@example.com: 550 5.1.1 no such mailbox; recipient later@example.com: 451 4.2.0 try \
             again later",
        ),
        (
            &["full@example.com"],
            Kind::Permanent,
            "mail: 552 5.2.2 mailbox full",
        ),
    ] {
        let settings = relay.settings(to);
        let place = Channel::Smtp(settings.clone()).place();
        let failure = send(settings).await.unwrap_err();
        assert_eq!((failure.kind, failure.uncertain), (kind, false));
        assert_eq!(failure.text, format!("{place}: {text}"));
    }
    relay.mails(0);
}

#[tokio::test]
async fn texts_cannot_become_headers_or_recipients() {
    let relay = Relay::open(Security::Plain);
    let mut message = message();
    let evil = "x\r\nBcc: evil@example.net\r\nX-Evil: 1\r\n\r\nmore\r\n.\r\nMAIL FROM:<evil@example.net>\r\n";
    message.subject = evil.into();
    message.delivery_id = evil.into();
    message.dedup_key = evil.into();
    message.body = evil.into();
    send_within(relay.settings(&["ops@example.com"]), &message, DEFAULT_DEADLINE)
        .await
        .unwrap();
    let mail = &relay.mails(1)[0];
    assert_eq!(mail.to, ["ops@example.com"]);
    assert_eq!(
        mail.headers,
        [
            "From",
            "Subject",
            "Date",
            "Message-ID",
            "To",
            "References",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding"
        ]
    );
    assert_eq!(
        mail.subject,
        "x Bcc: evil@example.net X-Evil: 1 more . MAIL FROM:<evil@example.net>"
    );
    assert_eq!(mail.body, evil);
}

#[tokio::test]
async fn bad_addresses_never_reach_a_relay() {
    let relay = Relay::open(Security::Plain);
    let failure = send(relay.settings(&["ops@example.com>\r\nRCPT TO:<evil@example.net"]))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(
        failure
            .text
            .ends_with("contains a line break or control character"),
        "{failure}"
    );
    relay.mails(0);
}

#[tokio::test]
async fn nothing_listening_is_temporary_and_certain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = send(to(address)).await.unwrap_err();
    assert_eq!(
        failure.text,
        format!("smtp {address}: cannot connect: Connection refused (os error 111)")
    );
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
}

/// What an attempt ends with when the relay falls silent. The deadline is long enough to get that far on a busy machine.
async fn silenced(manner: Manner) -> (String, Failure) {
    let relay = Hostile::start(manner).await;
    let failure = send_within(to(relay.address), &message(), Duration::from_secs(3))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Temporary);
    (
        format!("smtp {}: no answer within 3s, while", relay.address),
        failure,
    )
}

#[tokio::test]
async fn a_relay_that_never_greets_ends_at_the_deadline() {
    let (start, failure) = silenced(Manner::NeverGreets).await;
    assert_eq!(failure.text, format!("{start} waiting for the relay's greeting"));
    assert!(!failure.uncertain);
}

#[tokio::test]
async fn a_relay_that_keeps_the_mail_and_hangs_ends_at_the_deadline() {
    let (start, failure) = silenced(Manner::SilentAfterMail).await;
    assert_eq!(
        failure.text,
        format!("{start} waiting for the relay to take the mail")
    );
    assert!(failure.uncertain);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_mail_leaves_it_open() {
    let relay = Hostile::start(Manner::ClosesAfterMail).await;
    let failure = send(to(relay.address)).await.unwrap_err();
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, true));
}

#[tokio::test]
async fn a_busy_relay_is_temporary() {
    let relay = Hostile::start(Manner::Busy).await;
    let failure = send(to(relay.address)).await.unwrap_err();
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
    assert_eq!(
        failure.text,
        format!(
            "smtp {}: the relay does not greet: 421 4.3.2 too busy",
            relay.address
        )
    );
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let relay = Hostile::start(Manner::EndlessGreeting).await;
    let failure = send(to(relay.address)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(
        failure.text.ends_with("the relay says more than 1048576 bytes"),
        "{failure}"
    );
}

#[tokio::test]
async fn starttls_is_not_given_up() {
    let relay = Hostile::start(Manner::NoStartTls).await;
    let mut settings = to(relay.address);
    settings.starttls = true;
    settings.user = USER.into();
    settings.password = Secret::new(PASSWORD);
    let failure = send(settings).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Permanent);
    assert!(failure.text.contains("the relay offers no STARTTLS"), "{failure}");
    assert!(!relay.heard().contains("AUTH"), "{}", relay.heard());
}

#[tokio::test]
async fn an_answer_smuggled_before_tls_breaks_the_handshake() {
    let relay = Hostile::start(Manner::SmuggledAnswer).await;
    let mut settings = to(relay.address);
    settings.starttls = true;
    settings.user = USER.into();
    settings.password = Secret::new(PASSWORD);
    let failure = send(settings).await.unwrap_err();
    assert_eq!((failure.kind, failure.uncertain), (Kind::Temporary, false));
    assert!(
        failure.text.contains(": TLS: received corrupt message"),
        "{failure}"
    );
    assert!(!relay.heard().contains("AUTH"), "{}", relay.heard());
}
