//! Real commands through [`LocalHost`]: their ends, their environment, and that nothing of them stays.

use super::*;

async fn run_with(host: &LocalHost, command: &str, limit: Duration, stop: &Stop) -> Output {
    let env = BTreeMap::from([("NODE_IP".to_owned(), "127.0.0.11; echo pasted".to_owned())]);
    host.run(
        &Task {
            command,
            env: &env,
            timeout: limit,
        },
        stop,
    )
    .await
    .unwrap()
}

async fn run(command: &str) -> Output {
    let (_stopper, stop) = Stop::pair();
    run_with(&LocalHost::default(), command, Duration::from_secs(30), &stop).await
}

/// Waits until no process has this id any more.
async fn gone(id: &str) {
    let path = PathBuf::from(format!("/proc/{}/stat", id.trim()));
    for _ in 0..500 {
        match std::fs::read_to_string(&path) {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return, // killed, only not yet reaped by init
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("process {id} is still there");
}

/// Waits until a file is there.
async fn appears(file: &std::path::Path) {
    for _ in 0..3000 {
        if file.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never appeared", file.display());
}

#[tokio::test]
async fn exit_code_and_both_streams_are_kept() {
    let output = run("echo out; echo err >&2; exit 3").await;
    assert_eq!(output.ended, Ended::Exit(3));
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[tokio::test]
async fn shell_is_strict() {
    assert_eq!(run("false; echo no").await.ended, Ended::Exit(1));
    assert_eq!(run("false | true").await.ended, Ended::Exit(1));
    assert!(
        run("echo $UNSET_VARIABLE")
            .await
            .stderr
            .contains("unbound variable")
    );
}

#[tokio::test]
async fn parameters_are_variables_and_never_code() {
    assert_eq!(run("echo \"$NODE_IP\"").await.stdout, "127.0.0.11; echo pasted\n");
}

#[tokio::test]
async fn host_has_its_own_path_environment_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("tool");
    std::fs::write(&tool, "#!/bin/sh\necho tool of $NODE\n").unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let host = LocalHost {
        path: vec![folder.path().to_owned()],
        env: BTreeMap::from([("NODE".to_owned(), "node1".to_owned())]),
        folder: Some(folder.path().to_owned()),
        enter: vec!["env".to_owned(), "ENTERED=yes".to_owned()],
        ..LocalHost::default()
    };
    let (_stopper, stop) = Stop::pair();
    let output = run_with(&host, "tool; ls; echo $ENTERED", Duration::from_secs(30), &stop).await;
    assert_eq!(output.stdout, "tool of node1\ntool\nyes\n");
}

#[tokio::test]
async fn timeout_ends_the_whole_group() {
    let (_stopper, stop) = Stop::pair();
    let command = "sleep 600 & echo $!; wait";
    let output = run_with(&LocalHost::default(), command, Duration::from_secs(2), &stop).await;
    assert_eq!(output.ended, Ended::TimedOut);
    gone(&output.stdout).await;
}

#[tokio::test]
async fn command_that_ignores_the_polite_signal_is_killed() {
    let (_stopper, stop) = Stop::pair();
    let command = "trap '' TERM; echo $$; while true; do sleep 600; done";
    let output = run_with(&LocalHost::default(), command, Duration::from_secs(2), &stop).await;
    assert_eq!(output.ended, Ended::TimedOut);
    gone(&output.stdout).await;
}

#[tokio::test]
async fn stop_ends_a_running_command_and_keeps_its_output() {
    let (stopper, stop) = Stop::pair();
    let host = LocalHost::default();
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let command = format!("echo begun; touch {}; sleep 600", begun.display());
    let (output, ()) = tokio::join!(run_with(&host, &command, Duration::from_mins(1), &stop), async {
        appears(&begun).await;
        stopper.stop();
    });
    assert_eq!(output.ended, Ended::Stopped);
    assert_eq!(output.stdout, "begun\n");
}

#[tokio::test]
async fn what_a_step_leaves_behind_is_stopped() {
    let output = run("sleep 600 >/dev/null 2>&1 & echo $!").await;
    assert_eq!(output.ended, Ended::Exit(0));
    gone(&output.stdout).await;
}

#[tokio::test]
async fn output_is_capped_without_blocking_the_command() {
    let output = run("head -c 3000000 /dev/zero; echo done >&2").await;
    assert_eq!(
        (output.ended, output.stdout.len(), output.truncated),
        (Ended::Exit(0), OUTPUT_BYTES_MAX, true)
    );
    assert_eq!(output.stderr, "done\n");
}

#[tokio::test]
async fn signal_from_elsewhere_is_told_apart() {
    assert_eq!(run("kill -9 $$").await.ended, Ended::Signal(9));
}
