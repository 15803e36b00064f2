//! The icmp check in each of its modes.
//!
//! Raw sockets need a capability that tests have only as root. The other modes are tried by running this test program
//! again in a network namespace of its own (whose sysctl can be changed without harm), with the capability taken away.

use std::process::Command;

use caps::{CapSet, Capability};
use probe::{Finding, Host, Icmp, IcmpMode, Kind};
use testkit::Output;

use crate::{AMPLE, SHORT, assert_down, probe_of, prober};

/// Names the mode that the test program, run again, must find.
const EXPECTED: &str = "PROBE_TEST_ICMP_MODE";

fn echo(host: &str, count: u16) -> Kind {
    Kind::Icmp(Icmp {
        host: Host::parse(host).unwrap(),
        count,
        max_loss: 0,
    })
}

fn may_raw() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap()
}

#[tokio::test]
async fn echoes_come_back_in_the_mode_that_is_allowed() {
    let prober = prober();
    let mode = prober.icmp_mode().to_string();
    match std::env::var(EXPECTED) {
        Ok(expected) => assert!(mode.starts_with(&expected), "{mode}"),
        Err(_) => assert_eq!(*prober.icmp_mode() == IcmpMode::Raw, may_raw(), "{mode}"),
    }
    for (host, count) in [("127.0.0.1", 1), ("127.0.0.1", 3), ("::1", 2), ("localhost", 1)] {
        let outcome = prober.probe(&probe_of(echo(host, count), AMPLE, &[])).await;
        if let IcmpMode::None(why) = prober.icmp_mode() {
            assert_eq!((outcome.result, &outcome.detail), (Finding::NoReport, why));
            assert!(
                why.contains("setcap cap_net_raw+ep ") && why.contains("ping_group_range"),
                "{why}"
            );
            continue;
        }
        assert_eq!(outcome.result, Finding::Up, "{outcome:?}");
        // Names are asked over IPv4 if they have such an address.
        let address = host.replace("localhost", "127.0.0.1");
        let beginning = format!("{count}/{count} replies from {address}, ");
        assert!(outcome.detail.starts_with(&beginning), "{outcome:?}");
        assert!(
            outcome
                .phases
                .first_byte
                .is_some_and(|mean| mean <= outcome.latency)
        );
    }
}

#[tokio::test]
async fn many_echoes_at_once_find_their_way_back() {
    let prober = prober();
    if matches!(prober.icmp_mode(), IcmpMode::None(_)) {
        println!("skipped: this machine does not let a test send echo requests");
        return;
    }
    let probe = probe_of(echo("127.0.0.1", 2), AMPLE, &[]);
    let outcomes = futures::future::join_all((0..200).map(|_| prober.probe(&probe))).await;
    for outcome in outcomes {
        assert_eq!(outcome.result, Finding::Up, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_down() {
    let prober = prober();
    if *prober.icmp_mode() != IcmpMode::Raw {
        println!("skipped: an unanswered address needs a network namespace of root's");
        return;
    }
    let closed = crate::servers::closed().await;
    let outcome = prober
        .probe(&probe_of(echo("none.example", 1), AMPLE, &[closed.to_string()]))
        .await;
    assert_down(&outcome, &format!("resolve: connection refused from {closed}"));
}

/// Runs the first test of this file again: prepared by `setup`, without the capability, expecting `mode`.
fn again(setup: &str, mode: &str) {
    if !may_raw() || !nix_is_root() {
        println!("skipped: a network namespace needs root");
        return;
    }
    let Ok(unshare) = testkit::require("unshare") else {
        panic!("unshare is not installed: apt-get install util-linux");
    };
    let script = format!(
        "ip link set lo up && {setup} && exec setpriv --bounding-set=-net_raw --inh-caps=-net_raw -- \"$0\" --exact \
         icmp::echoes_come_back_in_the_mode_that_is_allowed --nocapture"
    );
    let mut command = Command::new(unshare);
    command
        .args(["--net", "--", "sh", "-ec", &script])
        .arg(std::env::current_exe().unwrap())
        .env(EXPECTED, mode);
    let output = Output::of(&mut command).unwrap();
    assert!(
        output.code == 0 && output.stdout.contains("1 passed"),
        "{output:?}"
    );
}

fn nix_is_root() -> bool {
    Output::of(Command::new("id").arg("-u")).unwrap().stdout.trim() == "0"
}

#[test]
fn the_kernels_ping_socket_will_do() {
    again("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range", "ping");
}

#[test]
fn without_any_right_there_is_no_report() {
    again(
        "echo 1 0 > /proc/sys/net/ipv4/ping_group_range",
        "none: icmp not permitted",
    );
}

#[test]
fn lost_echoes_are_counted() {
    if !may_raw() || !nix_is_root() {
        println!("skipped: a network namespace needs root");
        return;
    }
    let script = "ip link set lo up && echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all && exec \"$0\" --exact \
                  icmp::an_ignored_echo_is_lost --nocapture";
    let mut command = Command::new(testkit::require("unshare").unwrap());
    command
        .args(["--net", "--", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .env(EXPECTED, "raw");
    let output = Output::of(&mut command).unwrap();
    assert!(
        output.code == 0 && output.stdout.contains("1 passed"),
        "{output:?}"
    );
}

/// In the namespace of the test above 127.0.0.1 does not answer; here it does.
#[tokio::test]
async fn an_ignored_echo_is_lost() {
    let prober = prober();
    let outcome = prober.probe(&probe_of(echo("127.0.0.1", 3), SHORT, &[])).await;
    if std::env::var(EXPECTED).is_ok() {
        assert_down(&outcome, "no reply from 127.0.0.1 (0/3)");
    } else {
        assert_ne!(outcome.result, Finding::Down, "{outcome:?}");
    }
}
