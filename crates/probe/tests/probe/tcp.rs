//! The tcp check, and connecting in general.

use probe::{Finding, Host, Kind, Tcp};

use crate::servers::{self, BlackHole};
use crate::{AMPLE, SHORT, assert_down, assert_up, look, probe_of, prober};

fn tcp(host: &str, port: u16) -> Kind {
    Kind::Tcp(Tcp {
        host: Host::parse(host).unwrap(),
        port,
    })
}

#[tokio::test]
async fn an_open_port_is_up() {
    let address = servers::silent().await;
    let outcome = look(tcp("127.0.0.1", address.port())).await;
    assert_up(&outcome, &format!("connected to {address}"));
    assert!(outcome.phases.connect.is_some() && outcome.phases.connect <= Some(outcome.latency));
    assert_eq!((outcome.phases.resolve, outcome.phases.tls), (None, None));
}

#[tokio::test]
async fn a_closed_port_is_down() {
    let address = servers::closed().await;
    let outcome = look(tcp("127.0.0.1", address.port())).await;
    assert_down(&outcome, "connect: connection refused");
}

#[tokio::test]
async fn a_black_hole_times_out_in_connect() {
    let hole = BlackHole::new();
    let outcome = prober()
        .probe(&probe_of(tcp("127.0.0.1", hole.address.port()), SHORT, &[]))
        .await;
    assert_down(&outcome, "timeout after 2s in connect");
    assert!(outcome.latency >= SHORT && outcome.phases.connect.is_some());
}

#[tokio::test]
async fn localhost_needs_no_server_and_all_of_its_addresses_are_tried() {
    // It listens on the second address only.
    let address = servers::silent().await;
    let outcome = look(tcp("localhost", address.port())).await;
    assert_up(&outcome, &format!("connected to {address}"));
    let nobody = servers::closed().await;
    let outcome = look(tcp("localhost", nobody.port())).await;
    assert_down(&outcome, "connect: connection refused (::1 and 1 more)");
}

#[tokio::test]
async fn a_dropped_probe_closes_its_connection() {
    use tokio::io::AsyncReadExt as _;

    let (listener, address) = servers::listener().await;
    let http = probe::Http::get(format!("http://{address}/").parse().unwrap());
    let prober = prober();
    let probe = probe_of(Kind::Http(http), AMPLE, &[]);
    let running = prober.probe(&probe);
    let mut seen = tokio::select! {
        outcome = running => panic!("nobody answered, but {outcome:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    // The end of the stream comes although this side keeps it open.
    let mut rest = Vec::new();
    tokio::time::timeout(AMPLE, seen.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn probes_can_be_spawned_and_run_side_by_side() {
    let address = servers::silent().await;
    let prober = std::sync::Arc::new(prober());
    let probes: Vec<_> = (0..50)
        .map(|_| {
            let prober = std::sync::Arc::clone(&prober);
            let probe = probe_of(tcp("localhost", address.port()), AMPLE, &[]);
            tokio::spawn(async move { prober.probe(&probe).await.result })
        })
        .collect();
    for probe in probes {
        assert_eq!(probe.await.unwrap(), Finding::Up);
    }
}
