//! The life of a daemon, played with signals on real processes.

use std::io::{BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::anyhow;
use nix::sys::signal::{self, kill};
use nix::unistd::Pid;

use super::*;

fn signals() -> (mpsc::Sender<Signal>, mpsc::Receiver<Signal>) {
    mpsc::channel(8)
}

async fn drains(lifecycle: Lifecycle) -> anyhow::Result<()> {
    lifecycle.shutdown.wait().await;
    Ok(())
}

async fn never_drains(_lifecycle: Lifecycle) -> anyhow::Result<()> {
    std::future::pending().await
}

#[tokio::test]
async fn a_service_that_ends_by_itself_ends_the_run() {
    let (_keep, receiver) = signals();
    let error = Runner::new()
        .run_with(receiver, async |_| Err(exit::with_code(3, anyhow!("disk"))))
        .await
        .unwrap_err();
    assert_eq!((exit::code_of(&error), error.to_string()), (3, "disk".to_owned()));
}

#[tokio::test]
async fn a_signal_drains_and_succeeds() {
    for stop in [Signal::Terminate, Signal::Interrupt] {
        let (sender, receiver) = signals();
        sender.send(stop).await.unwrap();
        Runner::new().run_with(receiver, drains).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_may_ask_for_the_end_itself() {
    let (_keep, receiver) = signals();
    let serve = async |lifecycle: Lifecycle| {
        lifecycle.shutdown.trigger();
        drains(lifecycle).await
    };
    Runner::new().run_with(receiver, serve).await.unwrap();
}

#[tokio::test]
async fn grace_is_bounded() {
    let (sender, receiver) = signals();
    sender.send(Signal::Terminate).await.unwrap();
    let error = Runner::new()
        .grace(Duration::ZERO)
        .run_with(receiver, never_drains)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "stop: work still in hand after 0 s of grace");
    assert_eq!(exit::code_of(&error), exit::FAILED);
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let (sender, receiver) = signals();
    for signal in [Signal::Terminate, Signal::Hangup, Signal::Interrupt] {
        sender.send(signal).await.unwrap();
    }
    let error = Runner::new().run_with(receiver, never_drains).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "stop: second signal SIGINT before the end of the drain"
    );
    assert_eq!(exit::code_of(&error), 130);
}

#[tokio::test]
async fn reload_runs_and_may_fail_without_harm() {
    let (sender, receiver) = signals();
    let count = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&count);
    let runner = Runner::new().on_reload(move || match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Err(anyhow!("unreadable key")),
        _ => Ok(()),
    });
    for signal in [Signal::Hangup, Signal::Hangup, Signal::Terminate] {
        sender.send(signal).await.unwrap();
    }
    runner.run_with(receiver, drains).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// Set in the copy of the test below that is the daemon.
const DAEMON: &str = "SERVICE_TEST_DAEMON";

#[test]
fn a_real_daemon_talks_to_its_service_manager() {
    if std::env::var_os(DAEMON).is_some() {
        crate::logs::init(&crate::logs::LogSettings::default()).unwrap();
        let result = Runner::new()
            .on_reload(|| Ok(()))
            .start(async |lifecycle: Lifecycle| {
                lifecycle.ready("serving");
                drains(lifecycle).await
            });
        std::process::exit(i32::from(
            result.map_or_else(|error| exit::code_of(&error), |()| exit::OK),
        ));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut message = [0; 512];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };

    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "run::tests::a_real_daemon_talks_to_its_service_manager",
            "--nocapture",
        ])
        .env(DAEMON, "1")
        .env("NOTIFY_SOCKET", &path)
        .env_remove("JOURNAL_STREAM")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    assert_eq!(next(), "READY=1\nSTATUS=serving\n");
    kill(pid, signal::Signal::SIGHUP).unwrap();
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1\n");
    kill(pid, signal::Signal::SIGTERM).unwrap();
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));

    let mut stderr = BufReader::new(daemon.stderr.take().unwrap());
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    let lines: Vec<&str> = log
        .lines()
        .map(|line| {
            // No journal is there to add the time.
            let (time, line) = line.split_once(' ').unwrap();
            assert!(time.starts_with("20") && time.ends_with('Z'), "{log}");
            line
        })
        .collect();
    assert_eq!(
        lines,
        [
            "INFO service: Reloaded",
            "INFO service: Stopping, grace_s=30, cause=SIGTERM"
        ]
    );
}
