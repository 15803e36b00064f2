//! Each command that changes something: the line that it prints, and what is seen afterwards.

use regex::Regex;
use testkit::Qu;

use super::single;

/// Runs commands that are each to say one line, which ends with the version that follows.
struct Changes {
    node: Qu,
    version: u64,
}

impl Changes {
    fn new() -> Self {
        let node = single();
        let version = node.version();
        Self { node, version }
    }

    /// The command raises the version by one and says this; `[..]` stands for an id.
    #[track_caller]
    fn says(&mut self, args: &[&str], text: &str) {
        self.version += 1;
        let said = self.node.run(args).unwrap().ok();
        let form = regex::escape(text).replace(r"\[\.\.\]", "[0-9a-f]{16}");
        let form = format!("^{form} \\(cluster version now {}\\)\n$", self.version);
        assert!(
            Regex::new(&form).unwrap().is_match(&said),
            "{args:?}: {said:?}, not {form}"
        );
        assert_eq!(self.node.version(), self.version);
    }

    fn yaml(&self) -> String {
        self.node.run(&["cluster", "export"]).unwrap().ok()
    }

    #[track_caller]
    fn has(&self, parts: &[&str]) {
        let yaml = self.yaml();
        for part in parts {
            assert!(yaml.contains(part), "{part:?} is not in\n{yaml}");
        }
    }

    #[track_caller]
    fn has_not(&self, part: &str) {
        let yaml = self.yaml();
        assert!(!yaml.contains(part), "{part:?} is in\n{yaml}");
    }
}

#[test]
fn checks_are_added_in_every_type() {
    let mut changes = Changes::new();
    changes.says(
        &[
            "check",
            "add",
            "http",
            "page",
            "http://127.0.0.1:1/",
            "--expect",
            "204",
            "--body-match",
            "fine",
        ],
        "check page added, id [..]",
    );
    changes.has(&[
        "type: http\n",
        "expect_status: 204\n",
        "body_match: fine\n",
        "interval: 30s\n",
        "timeout: 10s\n",
    ]);
    changes.says(
        &[
            "check",
            "add",
            "tcp",
            "port",
            "127.0.0.1:1",
            "--interval",
            "1m30s",
            "--timeout",
            "5s",
        ],
        "check port added, id [..]",
    );
    changes.has(&["type: tcp\n", "interval: 1m30s\n", "timeout: 5s\n"]);
    changes.says(
        &[
            "check",
            "add",
            "icmp",
            "host",
            "127.0.0.1",
            "--count",
            "3",
            "--max-loss",
            "50%",
        ],
        "check host added, id [..]",
    );
    changes.has(&["type: icmp\n", "icmp_count: 3\n", "icmp_max_loss: 50\n"]);
    // No loss is not the same as nothing said.
    changes.says(
        &["check", "edit", "host", "--max-loss", "0%"],
        "check host changed",
    );
    changes.has(&["icmp_max_loss: 0\n"]);
    changes.says(
        &["check", "edit", "host", "--min-reports", "1"],
        "check host changed",
    );
    changes.has(&["min_reports: 1\n"]);
    changes.says(
        &[
            "check",
            "add",
            "tls",
            "cert",
            "127.0.0.1:1",
            "--warn-days",
            "21",
            "--sni",
            "example.com",
        ],
        "check cert added, id [..]",
    );
    changes.has(&[
        "type: tls\n",
        "tls_warn_days: 21\n",
        "tls_server_name: example.com\n",
    ]);
    changes.says(
        &[
            "check",
            "add",
            "dns",
            "name",
            "example.com",
            "--record",
            "mx",
            "--resolver",
            "127.0.0.1:1",
            "--expect",
            "mail",
        ],
        "check name added, id [..]",
    );
    changes.has(&["type: dns\n", "dns_record: mx\n", "dns_expect: mail\n"]);
    let list = changes.node.run(&["check", "list"]).unwrap().ok();
    let names: Vec<&str> = list
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(names, ["page", "port", "host", "cert", "name"], "{list}");
    let heading: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    let first = ["ID", "NAME", "STATE", "OK/TOTAL", "ALERTS"];
    assert_eq!(heading[..5], first, "as in status: {list}");
    assert_eq!(heading[5..], ["TYPE", "INTERVAL", "TARGET", "DETAIL"]);
    assert!(list.contains(" dns   30s       example.com"), "{list}");
}

#[test]
fn checks_are_edited_paused_and_removed() {
    let mut changes = Changes::new();
    changes.says(
        &[
            "check",
            "add",
            "http",
            "page",
            "http://127.0.0.1:1/",
            "--body-match",
            "fine",
        ],
        "check page added, id [..]",
    );
    changes.says(
        &["check", "edit", "page", "--expect", "503", "--interval", "2m"],
        "check page changed",
    );
    // Only what is given changes.
    changes.has(&[
        "expect_status: 503\n",
        "interval: 2m\n",
        "body_match: fine\n",
        "timeout: 10s\n",
    ]);
    changes.says(
        &[
            "check",
            "edit",
            "page",
            "--name",
            "site",
            "--target",
            "http://127.0.0.1:2/",
        ],
        "check site changed",
    );
    changes.has(&["name: site\n", "target: http://127.0.0.1:2/\n"]);
    changes.says(&["check", "disable", "site"], "check site disabled");
    assert!(changes.node.check("site").unwrap().contains("(disabled)"));
    changes.says(&["check", "enable", "site"], "check site enabled");
    assert!(!changes.node.check("site").unwrap().contains("(disabled)"));
    // By id as well as by name.
    let row = changes.node.check("site").unwrap();
    let id = row.split(' ').next().unwrap();
    changes.says(&["check", "remove", id], "check site removed");
    assert_eq!(changes.node.check("site"), None);
}

#[test]
fn alerts_are_added_in_every_type() {
    let mut changes = Changes::new();
    changes.says(
        &[
            "alert",
            "add",
            "smtp",
            "mail",
            "--host",
            "127.0.0.1",
            "--from",
            "qu@example.com",
            "--to",
            "a@example.com,b@example.com",
            "--starttls=false",
            "--port",
            "2525",
        ],
        "alert mail added, id [..]",
    );
    changes.has(&[
        "type: smtp\n",
        "smtp_port: 2525\n",
        "smtp_starttls: false\n",
        "b@example.com",
    ]);
    let secret = "http://127.0.0.1:1/token-of-the-channel";
    for (kind, args) in [
        ("discord", ["--webhook", secret]),
        ("slack", ["--url", secret]),
        ("webhook", ["--url", secret]),
        ("ntfy", ["--url", secret]),
        ("alertmanager", ["--url", "http://127.0.0.1:1/"]),
        ("pagerduty", ["--routing-key", "token-of-the-channel"]),
    ] {
        let line = ["alert", "add", kind, kind, args[0], args[1]];
        changes.says(&line, &format!("alert {kind} added, id [..]"));
        changes.has(&[&format!("type: {kind}\n")]);
    }
    for args in [&["alert", "list"][..], &["alert", "list", "--json"], &["status"]] {
        let said = changes.node.run(args).unwrap().ok();
        assert!(!said.contains("token-of-the-channel"), "{said}");
    }
    assert!(!changes.node.log().contains("token-of-the-channel"));
    let list = changes.node.run(&["alert", "list"]).unwrap().ok();
    let heading: Vec<&str> = list.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["ID", "TYPE", "ENABLED", "DEFAULT", "NAME", "TO"]);
    assert!(list.contains("http://127.0.0.1:1 ...nnel\n"), "{list}");
    assert_eq!(list.lines().count(), 8, "{list}");
}

#[test]
fn alerts_are_edited_attached_paused_and_removed() {
    let mut changes = Changes::new();
    changes.says(
        &[
            "alert",
            "add",
            "webhook",
            "hook",
            "--url",
            "http://127.0.0.1:1/",
            "--body",
            "{{.Verb}}",
        ],
        "alert hook added, id [..]",
    );
    changes.says(
        &["check", "add", "tcp", "port", "127.0.0.1:1", "--alerts", "hook"],
        "check port added, id [..]",
    );
    assert!(changes.node.check("port").unwrap().contains(" hook"));
    changes.says(&["alert", "default", "hook", "on"], "alert hook is a default now");
    changes.says(&["check", "edit", "port", "--alerts", ""], "check port changed");
    assert!(changes.node.check("port").unwrap().contains(" hook*"));
    changes.says(
        &["check", "edit", "port", "--suppress-alerts", "hook"],
        "check port changed",
    );
    assert!(!changes.node.check("port").unwrap().contains("hook"));
    changes.says(
        &["alert", "default", "hook", "off"],
        "alert hook is no default any more",
    );
    changes.says(&["alert", "disable", "hook"], "alert hook disabled");
    changes.has(&["disabled: true\n"]);
    changes.says(&["alert", "enable", "hook"], "alert hook enabled");
    changes.says(
        &["alert", "edit", "hook", "--subject", "{{.Check.Name}}"],
        "alert hook changed",
    );
    changes.has(&["{{.Check.Name}}", "{{.Verb}}"]);
    changes.says(
        &[
            "check",
            "edit",
            "port",
            "--alerts",
            "hook",
            "--suppress-alerts",
            "",
        ],
        "check port changed",
    );
    let said = super::refused(changes.node.run(&["alert", "remove", "hook"]).unwrap(), 1);
    assert!(said.contains("alert hook: port tells it; "), "{said}");
    // The check that names it goes on without it.
    changes.says(&["alert", "remove", "hook", "--force"], "alert hook removed");
    changes.has_not("hook");
    changes.has(&["name: port\n"]);
}

#[test]
fn resolvers_and_nodes() {
    let mut changes = Changes::new();
    changes.says(
        &["cluster", "resolvers", "set", "127.0.0.53,127.0.0.54:5353"],
        "resolvers set to 127.0.0.53, 127.0.0.54:5353",
    );
    let shown = changes.node.run(&["cluster", "resolvers", "show"]).unwrap().ok();
    assert_eq!(shown, "127.0.0.53\n127.0.0.54:5353\n");
    changes.says(&["cluster", "resolvers", "clear"], "resolvers cleared");
    let id = changes.node.id();
    changes.says(
        &["node", "edit", &id, "--location", "eu-west"],
        &format!("node {id} changed"),
    );
    changes.has(&["location: eu-west\n"]);
}

#[test]
fn what_is_there_already_changes_nothing() {
    let mut changes = Changes::new();
    changes.says(
        &["check", "add", "tcp", "port", "127.0.0.1:1"],
        "check port added, id [..]",
    );
    let said = changes.node.run(&["check", "enable", "port"]).unwrap().ok();
    let version = changes.version;
    assert_eq!(
        said,
        format!("check port enabled (cluster version now {version})\n")
    );
}

#[test]
fn what_refers_to_something_follows_its_new_name() {
    let changes = Changes::new();
    for args in [
        &["alert", "add", "webhook", "hook", "--url", "http://127.0.0.1:1/"] as &[&str],
        &["check", "add", "tcp", "parent", "127.0.0.1:1", "--alerts", "hook"],
        &[
            "check",
            "add",
            "tcp",
            "child",
            "127.0.0.1:2",
            "--depends-on",
            "parent",
        ],
        &["maintenance", "add", "work", "--checks", "parent", "--for", "1h"],
        &["check", "edit", "parent", "--name", "mother"],
        &["alert", "edit", "hook", "--name", "pager"],
    ] {
        changes.node.run(args).unwrap().ok();
    }
    let yaml = changes.yaml();
    assert!(!yaml.contains("parent") && !yaml.contains(" hook\n"), "{yaml}");
    changes.has(&["name: child", "- mother", "- pager"]);
}
