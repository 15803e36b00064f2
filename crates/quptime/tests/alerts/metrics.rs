//! `/metrics`, judged by promtool.

use std::io::Write as _;
use std::process::{Command, Stdio};

use testkit::{Output, QU_SECRET, Qu, require, wait_until};

use super::{LIMIT, Sink, Target, watch};

fn page(node: &Qu, accept: &str) -> String {
    let url = format!("{}/metrics", node.endpoint());
    let args = [
        "-sf",
        "--max-time",
        "20",
        "-H",
        &format!("Accept: {accept}"),
        &url,
    ];
    let answer = Output::of(Command::new(require("curl").unwrap()).args(args));
    answer.unwrap().ok()
}

#[track_caller]
fn wait_for(node: &Qu, line: &str) {
    wait_until(LIMIT, &format!("{line} in /metrics"), || {
        page(node, "*/*").lines().any(|known| known.starts_with(line))
    });
}

/// What promtool has to say.
fn promtool(page: &str) -> String {
    let mut promtool = Command::new(require("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
}

#[test]
fn metrics_say_what_was_found_and_told_and_forget_what_is_removed() {
    let (target, sink) = (Target::start(), Sink::start());
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    for (name, path) in [("hook", "/hook"), ("deaf", "/refused")] {
        let args = [
            "alert",
            "add",
            "webhook",
            name,
            "--url",
            &sink.url(path),
            "--default",
        ];
        node.run(&args).unwrap().ok();
    }
    watch(&node, "page", &target);
    // A port that nobody has, and one that speaks TLS.
    let nobody = Qu::bare().unwrap().peer_address();
    let args = ["check", "add", "tcp", "gone", &nobody, "--interval", "1s"];
    node.run(&args).unwrap().ok();
    let args = [
        "check",
        "add",
        "tls",
        "own",
        &node.peer_address(),
        "--interval",
        "1s",
    ];
    node.run(&args).unwrap().ok();

    let id = node.id();
    for line in [
        "quptime_check_transitions_total{check=\"gone\",to=\"down\"} 1".to_owned(),
        "quptime_check_transitions_total{check=\"page\",to=\"up\"} 1".to_owned(),
        "quptime_check_reports{check=\"page\"} 1".to_owned(),
        "quptime_deliveries_total{alert=\"hook\",result=\"sent\"} 1".to_owned(),
        "quptime_deliveries_total{alert=\"deaf\",result=\"failed\"} ".to_owned(),
        "quptime_delivery_seconds_count{alert=\"hook\"} 1".to_owned(),
        "quptime_deliveries_queued 1".to_owned(),
        format!("quptime_probe_success{{check=\"page\",node=\"{id}\"}} 1"),
        format!("quptime_probe_success{{check=\"gone\",node=\"{id}\"}} 0"),
        "quptime_probe_duration_seconds_bucket{check=\"page\",phase=\"first_byte\",le=\"+Inf\"} ".to_owned(),
        "quptime_probe_duration_seconds_sum{check=\"gone\",phase=\"connect\"} ".to_owned(),
        "quptime_probe_cert_expiry_timestamp_seconds{check=\"own\"} ".to_owned(),
        "quptime_probes_total{type=\"http\",result=\"up\"} ".to_owned(),
        "quptime_probes_total{type=\"tcp\",result=\"down\"} ".to_owned(),
        "quptime_probe_queue_delay_seconds_count ".to_owned(),
        "quptime_master_changes_total 1".to_owned(),
        format!("quptime_node_impaired{{peer=\"{}\"}} 0", node.peer_address()),
        "quptime_raft_commit_index ".to_owned(),
        "quptime_raft_applied_index ".to_owned(),
    ] {
        wait_for(&node, &line);
    }
    let classic = page(&node, "*/*");
    assert_eq!(promtool(&classic), "", "{classic}");
    let open = page(&node, "application/openmetrics-text; version=1.0.0");
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    assert!(
        open.contains("# TYPE quptime_check_transitions counter\n"),
        "{open}"
    );

    node.run(&["check", "remove", "gone"]).unwrap().ok();
    node.run(&["alert", "remove", "hook"]).unwrap().ok();
    wait_until(LIMIT, "the series of what was removed to vanish", || {
        let page = page(&node, "*/*");
        !page.contains("\"gone\"") && !page.contains("\"hook\"")
    });
    wait_for(
        &node,
        "quptime_probe_duration_seconds_count{check=\"page\",phase=\"connect\"} ",
    );
}
