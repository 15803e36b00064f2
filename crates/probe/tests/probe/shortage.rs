//! What a probe says when this process has no descriptors left.

use std::fs::File;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use probe::{Dns, Finding, Host, Http, Kind, RecordType, Tcp, Tls};

use crate::{AMPLE, probe_of, prober, servers};

/// Descriptors that this process may have; enough for the runtime.
const FILES_MAX: u64 = 128;

/// All descriptors that are left.
fn exhaust() -> Vec<File> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, FILES_MAX, hard).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[tokio::test]
async fn a_node_without_descriptors_does_not_vote() {
    let address = servers::silent().await;
    let host = Host::Ip(address.ip());
    let port = address.port();
    let tcp = Kind::Tcp(Tcp {
        host: host.clone(),
        port,
    });
    let http = Kind::Http(Http::get(format!("http://{address}/").parse().unwrap()));
    let tls = Kind::Tls(Tls {
        host,
        port,
        server_name: None,
        warn_days: 14,
        verify: false,
    });
    let named = Kind::Tcp(Tcp {
        host: Host::parse("www.test").unwrap(),
        port,
    });
    let dns = Kind::Dns(Dns {
        hostname: "www.test".to_owned(),
        record: RecordType::A,
        resolver: None,
        expect: String::new(),
    });
    let list = [format!("127.0.0.1:{port}")];
    let prober = prober();

    let held = exhaust();
    assert!(!held.is_empty());
    for (kind, phase) in [
        (tcp.clone(), "connect"),
        (http, "connect"),
        (tls, "connect"),
        (named, "resolve"),
    ] {
        let outcome = prober.probe(&probe_of(kind, AMPLE, &list)).await;
        let expected = format!("cannot look from here: {phase}: too many open files");
        assert_eq!(outcome.result, Finding::NoReport, "{outcome:?}");
        assert!(outcome.detail.starts_with(&expected), "{outcome:?}");
    }
    let outcome = prober.probe(&probe_of(dns, AMPLE, &list)).await;
    assert_eq!(outcome.result, Finding::NoReport, "{outcome:?}");

    drop(held);
    assert!(prober.probe(&probe_of(tcp, AMPLE, &[])).await.is_up());
}
