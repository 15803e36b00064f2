//! What is refused, with which text and exit code.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use testkit::{Output, QU_SECRET, Qu, wait_until};

use super::{LIMIT, refused, single};

#[test]
fn without_a_daemon_commands_fail_with_1() {
    let node = Qu::init(1, QU_SECRET).unwrap();
    for args in [
        &["status"][..],
        &["check", "list"],
        &["check", "add", "tcp", "a", "b:1"],
        &["alert", "test", "a"],
        &["node", "list"],
    ] {
        let said = refused(node.run(args).unwrap(), 1);
        assert!(said.contains("qu.sock"), "{said}");
    }
}

#[test]
fn wrong_usage_is_2() {
    let node = Qu::bare().unwrap();
    for args in [
        &[][..],
        &["nonsense"],
        &["check", "add", "http", "only-a-name"],
        &["check", "add", "tcp", "a", "b:1", "--interval", "soon"],
        &["check", "add", "tcp", "a", "b:1", "--expect", "200"],
        &["alert", "default", "a", "perhaps"],
        &["check", "add", "tcp", "a", "b:1", "--confirm", "0"],
        &["check", "add", "tcp", "a", "b:1", "--recover", "0"],
        &["check", "add", "icmp", "a", "b", "--count", "0"],
        &["alert", "add", "smtp", "a", "--port", "0"],
        &["init", "--port", "0"],
        &["init", "--secret", "a", "--secret-file", "b"],
    ] {
        let output = node.run(args).unwrap();
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (2, ""),
            "{args:?}: {output:?}"
        );
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let said = node
        .run(&["check", "add", "tcp", "a", "b:1", "--interval", "soon"])
        .unwrap();
    assert!(
        said.stderr
            .contains("bad duration \"soon\": write a number with a unit"),
        "{}",
        said.stderr
    );
    for args in [
        &["check", "add", "tcp", "a", "b:1", "--interval", "-5s"][..],
        &["check", "edit", "a", "--remind-every", "-5s"],
        &["maintenance", "add", "w", "--all", "--for", "-5s"],
        &["enroll", "create", "--ttl", "-5s"],
        &["ack", "a", "--for", "-5s"],
    ] {
        let said = node.run(args).unwrap();
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.stderr
                .contains("duration \"-5s\" is negative; write it without the minus"),
            "{said:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let node = single();
    node.run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    node.run(&["alert", "add", "webhook", "hook", "--url", "http://127.0.0.1:1/"])
        .unwrap()
        .ok();
    let args = [
        "check",
        "add",
        "tcp",
        "child",
        "127.0.0.1:1",
        "--group",
        "office",
        "--depends-on",
        "port",
    ];
    node.run(&args).unwrap().ok();
    let version = node.version();
    for (args, text) in [
        (
            &["check", "add", "tcp", "port", "127.0.0.1:2"][..],
            "checks: the name \"port\" is used twice",
        ),
        (
            &["alert", "add", "webhook", "hook", "--url", "http://127.0.0.1:2/"],
            "alerts: the name \"hook\" is used twice",
        ),
        (
            &[
                "check",
                "add",
                "tcp",
                "other",
                "127.0.0.1:2",
                "--alerts",
                "nobody",
            ],
            "check other: there is no alert \"nobody\"",
        ),
        (
            &[
                "check",
                "add",
                "tcp",
                "other",
                "127.0.0.1:2",
                "--interval",
                "10ms",
            ],
            "interval 10ms is too short; at least 1s",
        ),
        (
            &["check", "add", "http", "other", "http://h/", "--expect", "fine"],
            "--expect fine: write an HTTP status",
        ),
        (
            &["check", "edit", "port", "--body-match", "x"],
            "body_match belongs to checks of type http, not tcp",
        ),
        (
            &["check", "edit", "port", "--expect", "200"],
            "--expect belongs to checks of type http and dns, not tcp",
        ),
        (&["check", "edit", "port"], "nothing to change"),
        (
            &["check", "edit", "nobody", "--timeout", "1s"],
            "there is no check \"nobody\"",
        ),
        (&["check", "remove", "nobody"], "there is no check \"nobody\""),
        (&["alert", "remove", "nobody"], "there is no alert \"nobody\""),
        (
            &["alert", "add", "discord", "d"],
            "discord_webhook is missing; discord takes --webhook URL",
        ),
        (
            &["alert", "add", "discord", "d", "--token", "t"],
            "--token does not fit an alert of type discord, which takes --webhook URL",
        ),
        (
            &["maintenance", "add", "w", "--group", "nosuch", "--for", "1h"],
            "no check is in group \"nosuch\"; there are office",
        ),
        (
            &[
                "maintenance",
                "add",
                "w",
                "--all",
                "--start",
                "2020-01-01T00:00:00Z",
                "--for",
                "1h",
            ],
            "the end, 2020-01-01T01:00:00Z, is past: it is 20",
        ),
        (
            &["check", "remove", "port"],
            "check port cannot be removed: child depends on it; first say qu check edit 'child' --depends-on ''",
        ),
        (
            &["alert", "add", "smtp", "s", "--host", "h"],
            "smtp_from is missing",
        ),
        (
            &["alert", "edit", "hook", "--host", "h"],
            "options of mail do not fit an alert of type webhook",
        ),
        (&["alert", "edit", "hook", "--body", "{{.Verb"], "body_template"),
        (
            &[
                "alert",
                "add",
                "webhook",
                "t",
                "--url",
                "http://127.0.0.1:1/",
                "--subject",
                "{{if}}",
            ],
            "subject_template",
        ),
        (
            &["cluster", "resolvers", "set", "dns.example.com"],
            "is no address of a DNS server",
        ),
        (
            &["node", "remove", "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091"],
            "there is no node",
        ),
    ] {
        let said = refused(node.run(args).unwrap(), 1);
        assert!(said.contains(text), "{args:?}: {said}");
    }
    let id = node.id();
    refused(node.run(&["node", "remove", &id]).unwrap(), 1);
    assert_eq!(node.version(), version);
}

#[test]
fn texts_that_could_forge_lines_or_fill_the_screen_are_refused_in_short() {
    let node = single();
    node.run(&["check", "add", "tcp", "port", "127.0.0.1:1"])
        .unwrap()
        .ok();
    let version = node.version();
    let (long, note) = ("x".repeat(70_000), "ü".repeat(501));
    for (args, text) in [
        (
            &["check", "add", "http", "web", "http://127.0.0.1:1/\nstate     up"][..],
            "check web: target contains '\\n'; write it in one line, without line breaks",
        ),
        (
            &[
                "check",
                "add",
                "http",
                "web",
                "http://127.0.0.1:1/",
                "--body-match",
                "a\rb",
            ],
            "check web: body_match contains '\\r'",
        ),
        (
            &["check", "edit", "port", "--group", "a\u{1b}[2J"],
            "check port: group contains '\\u{1b}'",
        ),
        (
            &[
                "alert",
                "add",
                "webhook",
                "hook",
                "--url",
                "http://127.0.0.1:1/\n",
            ],
            "alert hook: webhook: url contains a line break or control character",
        ),
        (&["ack", "port", "--note", "a\nb"], "--note contains '\\n'"),
        (
            &["ack", "port", "--note", &note],
            "--note: 501 characters are too many; at most 500",
        ),
        (&["ack", "port", "--note", &note[..1000]], "is not down"),
        (
            &["check", "add", "tcp", "long", &long],
            "check long: target: 70000 bytes are too many; at most 2048",
        ),
        (
            &["check", "add", "tcp", "long", &long[..2000]],
            "xxx…\": want HOST:PORT",
        ),
        (
            &["check", "add", "tcp", &long, "h:1"],
            "a name has 1 to 128 bytes",
        ),
        (&["check", "remove", &long], "there is no check \"xxx"),
        (&["node", "add", "--yes", &long], "…\" is no address"),
    ] {
        let said = refused(node.run(args).unwrap(), 1);
        assert!(said.contains(text) && said.len() < 400, "{}: {said}", args[1]);
    }
    for (args, text) in [
        (
            &["ack", "port", "--for", "999999999h"][..],
            "duration \"999999999h\" is too long; at most 87840h, ten years, is possible",
        ),
        (&["check", "add", &long, "a", "h:1"], "unrecognized subcommand"),
        (
            &["check", "add", "tcp", "a", "h:1", "--interval", &long],
            "bad duration \"xxx",
        ),
    ] {
        let output = node.run(args).unwrap();
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (2, ""),
            "{}",
            output.stderr
        );
        assert!(
            output.stderr.contains(text) && output.stderr.len() < 600,
            "{}",
            output.stderr
        );
    }
    assert_eq!(node.version(), version);
}

#[test]
fn passwords_of_urls_are_masked_wherever_they_are_shown() {
    let node = single();
    let url = "http://watcher:hunter2@127.0.0.1:1/health?a=b@c";
    node.run(&[
        "check",
        "add",
        "http",
        "web",
        url,
        "--interval",
        "1s",
        "--timeout",
        "1s",
    ])
    .unwrap()
    .ok();
    wait_until(LIMIT, "the check to be down", || {
        let row = node.check("web").unwrap_or_default();
        row.contains("down")
    });
    let mut shown = Vec::new();
    for args in [
        &["check", "list"][..],
        &["check", "list", "--json"],
        &["status"],
        &["status", "--json"],
        &["incidents", "--json"],
        &["doctor"],
    ] {
        shown.push(node.run(args).unwrap().stdout);
    }
    assert!(
        shown[0].contains("http://watcher:***@127.0.0.1:1/health?a=b@c"),
        "{}",
        shown[0]
    );
    assert!(
        shown[1].contains("http://watcher:***@127.0.0.1:1/health?a=b@c"),
        "{}",
        shown[1]
    );
    shown.push(node.log());
    for text in shown {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // The file is what is edited, so it says all.
    assert!(node.cluster_text().contains(url));
}

/// Starts the daemon, which is to end at once; what it said.
#[track_caller]
fn does_not_start(node: &Qu) -> String {
    let output = node.run(&["serve"]).unwrap();
    assert_eq!(output.code, 1, "{output:?}");
    output.stderr
}

#[test]
fn a_daemon_refuses_files_that_it_does_not_understand() {
    let node = Qu::init(1, QU_SECRET).unwrap();
    let (cluster, settings) = (node.cluster_file(), node.config_dir().join("node.yaml"));
    let good = node.cluster_text().replace("checks: []\n", "");
    let good_settings = std::fs::read_to_string(&settings).unwrap();
    let lines = good.lines().count();
    for (added, text) in [
        ("colour: blue\n", format!("line {}: unknown field", lines + 1)),
        ("checks: 7\n", format!("line {}: ", lines + 1)),
        (
            "checks:\n  - name: a\n    type: tcp\n    target: h:1\n    interval: soon\n",
            format!("line {}: bad duration \"soon\"", lines + 5),
        ),
        (
            "checks:\n  - name: a\n    type: tcp\n    target: h:1\n  - name: a\n    type: tcp\n    target: h:2\n",
            format!("line {}: checks: the name \"a\" is used twice", lines + 5),
        ),
        (
            "checks:\n  - name: a\n    type: tcp\n    target: h:1\n    alert_ids: [nobody]\n",
            format!("line {}: check a: there is no alert \"nobody\"", lines + 2),
        ),
        ("version: 2\n", format!("line {}: ", lines + 1)),
    ] {
        std::fs::write(&cluster, format!("{good}{added}")).unwrap();
        let said = does_not_start(&node);
        assert!(
            said.contains(&format!("cluster.yaml: {text}")),
            "{added:?}: {said}"
        );
    }
    std::fs::write(&cluster, &good).unwrap();
    std::fs::write(&settings, format!("{good_settings}colour: blue\n")).unwrap();
    let said = does_not_start(&node);
    let line = good_settings.lines().count() + 1;
    assert!(
        said.contains(&format!("node.yaml: line {line}: unknown field")),
        "{said}"
    );
}

#[test]
fn a_daemon_refuses_secrets_that_others_can_read() {
    for name in ["keys/private.pem", "node.yaml"] {
        let node = Qu::init(1, QU_SECRET).unwrap();
        let path = node.config_dir().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let said = does_not_start(&node);
        assert!(said.contains("mode 0644") && said.contains("chmod 600"), "{said}");
        assert!(!said.contains(QU_SECRET), "{said}");
    }
}

#[test]
fn the_program_is_called_qu_or_qu_new() {
    let node = Qu::bare().unwrap();
    let binary = testkit::mainstay_binary().unwrap();
    let mut said = Vec::new();
    for name in ["qu", "qu-new"] {
        let output = Output::of(Command::new(&binary).arg0(name).arg("version")).unwrap();
        said.push(output.ok());
        // The runbook installs a file that has this name.
        let link = node.dir().join(name);
        std::os::unix::fs::symlink(&binary, &link).unwrap();
        said.push(Output::of(Command::new(&link).arg("version")).unwrap().ok());
    }
    assert!(said.iter().all(|text| *text == said[0]), "{said:?}");
    let labels: Vec<&str> = said[0]
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(labels, ["qu", "schema", "protocol"], "{said:?}");
    let output = Output::of(Command::new(&binary).arg0("qu-new").arg("--version")).unwrap();
    assert!(output.ok().starts_with("qu "));
    let said = refused(node.run(&["update"]).unwrap(), 1);
    assert!(said.contains("does not update itself"), "{said}");
}
