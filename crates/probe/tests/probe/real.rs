//! Real servers: nginx, unbound and openssl from Debian.

use std::process::Command;

use lab::Readiness;
use probe::{Dns, Host, Http, Kind, Outcome, RecordType, Tls};
use testkit::{Output, Server};

use crate::servers::authority;
use crate::{AMPLE, assert_down, assert_up, probe_of, prober};

async fn look(kind: Kind, resolvers: &[String]) -> Outcome {
    prober().probe(&probe_of(kind, AMPLE, resolvers)).await
}

/// A key and a certificate of the trusted authority in files of the server.
fn identity(server: &Server, names: &[&str]) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = params.signed_by(&key, authority()).unwrap();
    std::fs::write(server.dir().join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(server.dir().join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn nginx() {
    let program = testkit::require("nginx").unwrap();
    let mut server = Server::new("nginx", program, Readiness::Tcp { port: 8080 }).unwrap();
    let address = server.address();
    identity(&server, &[&address.to_string()]);
    let dir = server.dir().display().to_string();
    let big = "x".repeat(300_000) + "needle";
    std::fs::write(server.dir().join("big.txt"), big).unwrap();
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log stderr; events {{}}
         http {{
           access_log off;
           client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
           uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
           server {{
             listen {address}:8080;
             location = / {{ return 301 https://$host:8443/welcome; }}
             location = /busy {{ return 503; }}
             location = /big.txt {{ root {dir}; }}
             location = /away {{ return 444; }}
           }}
           server {{
             listen {address}:8443 ssl;
             ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
             ssl_protocols TLSv1.2;
             return 200 'welcome to $host over $ssl_protocol';
           }}
         }}\n"
    );
    std::fs::write(server.dir().join("nginx.conf"), config).unwrap();
    server.set_args(["-p", &dir, "-e", "stderr", "-c", &format!("{dir}/nginx.conf")]);
    server.start().unwrap();
    let http = |path: &str, text: &str| {
        Kind::Http(Http {
            body_match: text.to_owned(),
            ..Http::get(format!("http://{address}:8080{path}").parse().unwrap())
        })
    };
    let outcome = look(http("/", &format!("welcome to {address} over TLSv1.2")), &[]).await;
    assert_up(&outcome, "status 200");
    assert!(outcome.certificate_expiry.is_some());
    assert_down(&look(http("/busy", ""), &[]).await, "status 503");
    assert_up(&look(http("/big.txt", "xneedle"), &[]).await, "status 200");
    assert_down(
        &look(http("/away", ""), &[]).await,
        "first byte: connection closed before the answer was complete",
    );
    let tls = Tls {
        host: Host::Ip(address.into()),
        port: 8443,
        server_name: None,
        warn_days: 14,
        verify: true,
    };
    assert_up(
        &look(Kind::Tls(tls.clone()), &[]).await,
        "certificate expires in 214d (2027-01-01)",
    );
    // Plain HTTP where TLS is wanted: nginx answers in clear text.
    let plain = Tls { port: 8080, ..tls };
    assert_down(&look(Kind::Tls(plain), &[]).await, "tls: not a TLS server");
}

#[tokio::test]
async fn unbound() {
    let program = testkit::require("unbound").unwrap();
    let mut server = Server::new("unbound", program, Readiness::Tcp { port: 5353 }).unwrap();
    let address = server.address();
    let dir = server.dir().display().to_string();
    let long = "y".repeat(250);
    let texts = (0..6)
        .map(|n| format!("local-data: 'big.test. TXT \"{n}{long}\"'"))
        .collect::<Vec<_>>()
        .join("\n");
    let config = format!(
        "server:
           interface: {address}
           port: 5353
           access-control: 127.0.0.0/8 allow
           do-daemonize: no
           use-syslog: no
           logfile: \"\"
           chroot: \"\"
           username: \"\"
           directory: \"{dir}\"
           pidfile: \"{dir}/pid\"
           module-config: iterator
           local-zone: test. static
           local-zone: broken. refuse
           local-data: 'www.test. A {address}'
           local-data: 'www.test. MX 10 mx.test.'
           {texts}
         remote-control:
           control-enable: no\n"
    );
    std::fs::write(server.dir().join("unbound.conf"), config).unwrap();
    server.set_args(["-d", "-c", &format!("{dir}/unbound.conf")]);
    server.start().unwrap();
    let list = [format!("{address}:5353")];
    let asks = |hostname: &str, record, expect: &str| {
        Kind::Dns(Dns {
            hostname: hostname.to_owned(),
            record,
            resolver: None,
            expect: expect.to_owned(),
        })
    };
    let outcome = look(asks("www.test", RecordType::A, ""), &list).await;
    assert_up(&outcome, &format!("a {address}"));
    let outcome = look(asks("www.test", RecordType::Mx, "mx.test"), &list).await;
    assert_up(&outcome, "mx 10 mx.test");
    assert!(
        look(asks("big.test", RecordType::Txt, "5yy"), &list)
            .await
            .is_up()
    );
    assert_down(
        &look(asks("none.test", RecordType::A, ""), &list).await,
        &format!("NXDOMAIN from {}", list[0]),
    );
    assert_down(
        &look(asks("www.test", RecordType::Aaaa, ""), &list).await,
        &format!("no aaaa record (empty answer from {})", list[0]),
    );
    assert_down(
        &look(asks("www.broken", RecordType::A, ""), &list).await,
        &format!("REFUSED from {}", list[0]),
    );
}

/// A server as it may stand in a cellar: 1024-bit RSA, a SHA-1 signature, no names, only one version of TLS.
#[tokio::test]
async fn openssl_with_a_weak_key() {
    let openssl = testkit::require("openssl").unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = Server::new("openssl", openssl.clone(), Readiness::Tcp { port: 4433 }).unwrap();
        let address = server.address();
        let make =
            "req -x509 -newkey rsa:1024 -sha1 -nodes -keyout key.pem -out cert.pem -subj /CN=weak -days 3650";
        let mut command = Command::new(&openssl);
        command.args(make.split(' ')).current_dir(server.dir());
        Output::of(&mut command).unwrap().ok();
        let accept = format!("{address}:4433");
        server.set_args([
            "s_server",
            version,
            "-www",
            "-cipher",
            "DEFAULT@SECLEVEL=0",
            "-cert",
            "cert.pem",
            "-key",
            "key.pem",
            "-accept",
            &accept,
        ]);
        server.start().unwrap();
        let tls = Tls {
            host: Host::Ip(address.into()),
            port: 4433,
            server_name: None,
            warn_days: 14,
            verify: false,
        };
        let outcome = look(Kind::Tls(tls.clone()), &[]).await;
        assert!(
            outcome.is_up() && outcome.certificate_expiry.is_some(),
            "{version}: {outcome:?}"
        );
        let outcome = look(Kind::Tls(Tls { verify: true, ..tls }), &[]).await;
        assert!(
            !outcome.is_up() && outcome.detail.starts_with("tls: "),
            "{outcome:?}"
        );
    }
}
