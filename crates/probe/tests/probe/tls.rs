//! Certificates: of https targets, and in the tls check.

use probe::{Host, Http, Kind, Outcome, Tls};

use crate::servers::{self, Identity, authority, new_authority, whole};
use crate::{
    AMPLE, DAY_S, SHORT, TODAY_S, assert_down, assert_up, look, probe_of, prober, prober_with, settings,
};

async fn server(identity: &Identity) -> u16 {
    servers::https(identity, |_| whole("200 OK", "", "ok"))
        .await
        .port()
}

async fn https(identity: &Identity, host: &str) -> Outcome {
    let url = format!("https://{host}:{}/", server(identity).await);
    look(Kind::Http(Http::get(url.parse().unwrap()))).await
}

fn tls(port: u16, warn_days: u32, verify: bool) -> Tls {
    Tls {
        host: Host::parse("127.0.0.1").unwrap(),
        port,
        server_name: None,
        warn_days,
        verify,
    }
}

fn expired() -> Identity {
    Identity::issued(authority(), &["127.0.0.1"], (2026, 1, 1), (2026, 5, 30))
}

#[tokio::test]
async fn https_is_verified() {
    let good = Identity::valid();
    for host in ["127.0.0.1", "localhost"] {
        let outcome = https(&good, host).await;
        assert_up(&outcome, "status 200");
        assert_eq!(outcome.certificate_expiry, Some(TODAY_S + 214 * DAY_S));
    }
    let outcome = https(&expired(), "127.0.0.1").await;
    assert_down(&outcome, "tls: certificate expired 2d ago");
    assert_eq!(outcome.certificate_expiry, Some(TODAY_S - 2 * DAY_S));

    let early = Identity::issued(authority(), &["127.0.0.1"], (2026, 6, 2), (2027, 1, 1));
    let outcome = https(&early, "127.0.0.1").await;
    assert_down(&outcome, "tls: certificate not valid before 2026-06-02");

    let other = Identity::issued(
        authority(),
        &["a.example", "b.example"],
        (2026, 1, 1),
        (2027, 1, 1),
    );
    let outcome = https(&other, "localhost").await;
    assert_down(
        &outcome,
        "tls: certificate not valid for name localhost (it is for a.example, b.example)",
    );

    let outcome = https(&Identity::self_signed((2026, 1, 1), (2027, 1, 1)), "127.0.0.1").await;
    assert_down(&outcome, "tls: self-signed certificate");
    assert_eq!(outcome.certificate_expiry, Some(TODAY_S + 214 * DAY_S));

    let stranger = new_authority("Stranger");
    let foreign = Identity::issued(&stranger, &["127.0.0.1"], (2026, 1, 1), (2027, 1, 1));
    let outcome = https(&foreign, "127.0.0.1").await;
    assert_down(&outcome, "tls: certificate of unknown issuer Stranger");
}

#[tokio::test]
async fn a_check_may_have_its_own_authority() {
    let own = new_authority("Own");
    let identity = Identity::issued(&own, &["127.0.0.1"], (2026, 1, 1), (2027, 1, 1));
    let port = server(&identity).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.pem");
    let prober = prober();
    let probe = probe_of(
        Kind::Http(Http {
            ca_file: Some(path.clone()),
            ..Http::get(format!("https://127.0.0.1:{port}/").parse().unwrap())
        }),
        AMPLE,
        &[],
    );
    let missing = format!("tls: ca_file {}: no such file or directory", path.display());
    assert_down(&prober.probe(&probe).await, &missing);
    std::fs::write(&path, "nothing").unwrap();
    let empty = format!("tls: ca_file {}: no certificate in it", path.display());
    assert_down(&prober.probe(&probe).await, &empty);
    // A change of the file counts for the next probe.
    std::fs::write(&path, own.pem()).unwrap();
    assert_up(&prober.probe(&probe).await, "status 200");
    assert_up(&prober.probe(&probe).await, "status 200");
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_in_time() {
    // It ends on 2027-01-01, in 214 days.
    let port = server(&Identity::valid()).await;
    let text = "certificate expires in 214d (2027-01-01)";
    for verify in [false, true] {
        for (warn_days, up) in [(0, true), (14, true), (213, true), (214, false), (400, false)] {
            let outcome = look(Kind::Tls(tls(port, warn_days, verify))).await;
            if up {
                assert_up(&outcome, text);
            } else {
                assert_down(&outcome, text);
            }
            assert_eq!(outcome.certificate_expiry, Some(TODAY_S + 214 * DAY_S));
            assert!(outcome.phases.tls.is_some());
        }
    }
}

#[tokio::test]
async fn odd_certificates_are_read_and_only_refused_when_asked() {
    let lonely = Identity::self_signed((2026, 1, 1), (2027, 1, 1));
    let early = Identity::issued(authority(), &["x.example"], (2026, 6, 2), (2027, 1, 1));
    // An authority's own certificate on a server.
    let stranger = new_authority("Stranger");
    let whole_authority = Identity::of(stranger.der(), stranger.key());
    for (identity, unverified, verified) in [
        (
            &lonely,
            "certificate expires in 214d (2027-01-01)",
            "tls: self-signed certificate",
        ),
        (
            &early,
            "certificate expires in 214d (2027-01-01), not valid before 2026-06-02",
            "tls: certificate not valid before 2026-06-02",
        ),
        (
            &whole_authority,
            "certificate expires in 4962d (2040-01-01)",
            "tls: self-signed certificate",
        ),
    ] {
        let port = server(identity).await;
        assert_up(&look(Kind::Tls(tls(port, 14, false))).await, unverified);
        assert_down(&look(Kind::Tls(tls(port, 14, true))).await, verified);
    }
    let port = server(&expired()).await;
    let outcome = look(Kind::Tls(tls(port, 0, false))).await;
    assert_down(&outcome, "certificate expired 2d ago (2026-05-30)");
    assert_eq!(outcome.certificate_expiry, Some(TODAY_S - 2 * DAY_S));
    let outcome = look(Kind::Tls(tls(port, 0, true))).await;
    assert_down(&outcome, "tls: certificate expired 2d ago");
}

#[tokio::test]
async fn another_name_can_be_asked_for() {
    let identity = Identity::issued(authority(), &["www.example"], (2026, 1, 1), (2027, 1, 1));
    let port = server(&identity).await;
    let named = |name: &str| {
        Kind::Tls(Tls {
            server_name: Host::parse(name),
            ..tls(port, 14, true)
        })
    };
    assert_up(
        &look(named("www.example.")).await,
        "certificate expires in 214d (2027-01-01)",
    );
    assert_down(
        &look(named("other.example")).await,
        "tls: certificate not valid for name other.example (it is for www.example)",
    );
}

#[tokio::test]
async fn failed_handshakes_are_named() {
    let plain = servers::http(|_| whole("200 OK", "", "")).await;
    let outcome = prober()
        .probe(&probe_of(Kind::Tls(tls(plain.port(), 14, false)), SHORT, &[]))
        .await;
    assert_down(&outcome, "timeout after 2s in tls");

    // Talks first, and not TLS; then a server that hangs up.
    for (bytes, detail) in [
        (&b"220 mail.example ESMTP\r\n"[..], "tls: not a TLS server"),
        (b"", "tls: connection closed in the handshake"),
    ] {
        let (listener, address) = servers::listener().await;
        let server = async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            // Read what was sent, so that the end is a plain one.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        };
        let prober = prober();
        let probe = probe_of(Kind::Tls(tls(address.port(), 14, false)), AMPLE, &[]);
        let (outcome, ()) = tokio::join!(prober.probe(&probe), server);
        assert_down(&outcome, detail);
    }
}

#[tokio::test]
async fn a_host_without_roots_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.pem");
    std::fs::write(&path, "").unwrap();
    let refused = probe::Prober::new(
        probe::Settings {
            roots: probe::Roots::File(path.clone()),
            ..settings()
        },
        service::SystemClock::shared(),
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("root certificates: {}: no certificate in it", path.display())
    );
    // The platform's store holds none of our certificates, wherever it is and if there is one at all.
    let outcome = prober_with(settings())
        .probe(&probe_of(
            Kind::Tls(tls(server(&Identity::valid()).await, 14, true)),
            AMPLE,
            &[],
        ))
        .await;
    assert!(!outcome.is_up(), "{outcome:?}");
}
