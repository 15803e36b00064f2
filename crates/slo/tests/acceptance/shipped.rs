//! The files that are shipped are those that the examples make, and their readers accept them.

use super::{dir, judge, read, root, slo, text};

#[test]
fn the_shipped_rules_are_those_of_the_examples() {
    let dir = dir();
    for _ in 0..2 {
        slo(&["generate", "examples/slo", "--out", text(dir.path())]).ok();
        assert_eq!(
            read(&dir.join("slo.yml")),
            read(&root("config/prometheus/slo.yml")),
            "run `slo generate examples/slo --out config/prometheus`"
        );
    }
    assert_eq!(
        slo(&["generate", "examples/slo"]).ok(),
        read(&dir.join("slo.yml"))
    );
    let told = judge(
        "promtool",
        &root("config/prometheus"),
        &["check", "rules", "slo.yml"],
    )
    .ok();
    assert!(told.contains("SUCCESS: 18 rules found\n"), "{told}");
    let rules = read(&dir.join("slo.yml"));
    assert_eq!(
        (
            rules.matches("- record: ").count(),
            rules.matches("- alert: ").count()
        ),
        (12, 6)
    );
}

#[test]
fn more_rules_and_the_operators_form_are_valid_too() {
    let dir = dir();
    let arguments = [
        "generate",
        "examples/slo",
        "--extra-rules",
        "--out",
        text(dir.path()),
    ];
    slo(&arguments).ok();
    let told = judge(
        "promtool",
        dir.path(),
        &["check", "rules", "slo.yml", "slo-extra.yml"],
    )
    .ok();
    assert!(
        told.contains("SUCCESS: 18 rules found\n") && told.contains("SUCCESS: 27 rules found\n"),
        "{told}"
    );
    let plain = ["slo.yml", "slo-extra.yml"].map(|name| yaml(&read(&dir.join(name))));
    slo(&[&arguments[..], &["--format", "operator"]].concat()).ok();
    let wrapped = ["slo.yml", "slo-extra.yml"].map(|name| yaml(&read(&dir.join(name))));
    for (plain, wrapped) in plain.iter().zip(&wrapped) {
        assert_eq!(wrapped["kind"], "PrometheusRule");
        assert_eq!(wrapped["spec"]["groups"], plain["groups"]);
        assert!(plain["groups"].as_array().is_some_and(|groups| groups.len() == 3));
    }
}

fn yaml(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn labels_and_metrics_are_set_everywhere() {
    let set = ["--set", "job=api", "--set", "http_requests_total=requests_total"];
    let rules = slo(&[&["generate", "examples/slo"], &set[..]].concat()).ok();
    assert!(
        !rules.contains("veza-backend") && !rules.contains("http_requests_total"),
        "{rules}"
    );
    assert!(
        rules.contains("requests_total{job=\"api\",method=\"GET\",status=~\"5..\"}[6h]"),
        "{rules}"
    );
    let refused = slo(&["generate", "examples/slo", "--set", "jop=x"]);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.stderr,
        "error: --set jop=x: no plain selector has a label or a metric \"jop\"\n"
    );
}

#[test]
fn the_shipped_routes_lead_pages_and_tickets_apart() {
    let dir = dir();
    let made = dir.join("routes.yml");
    slo(&["routes", "--out", text(&made)]).ok();
    let shipped = root("config/alertmanager/routes.yml");
    assert_eq!(
        read(&made),
        read(&shipped),
        "run `slo routes --out config/alertmanager/routes.yml`"
    );
    let told = judge("amtool", dir.path(), &["check-config", text(&made)]).ok();
    assert!(
        told.contains("SUCCESS") && told.contains(" - 2 receivers\n"),
        "{told}"
    );
    let file = format!("--config.file={}", text(&made));
    for (labels, receiver) in [
        (&["severity=critical", "page=true"][..], "page-oncall"),
        (&["severity=warning", "page=false"], "ticket-oncall"),
        (&["severity=warning", "page=true"], "ticket-oncall"),
        (&["severity=critical"], "ticket-oncall"),
        (&[], "ticket-oncall"),
    ] {
        let arguments = [&["config", "routes", "test", &file], labels].concat();
        assert_eq!(
            judge("amtool", dir.path(), &arguments).ok().trim(),
            receiver,
            "{labels:?}"
        );
    }
    let other = slo(&[
        "routes",
        "--slack-url-file",
        "/run/slack",
        "--pagerduty-key-file",
        "/run/key",
    ])
    .ok();
    assert_eq!(
        (
            other.matches("api_url_file: '/run/slack'").count(),
            other.matches("routing_key_file: '/run/key'").count()
        ),
        (2, 1)
    );
}

#[test]
fn the_shipped_pages_are_those_of_the_examples() {
    let dir = dir();
    let names =
        ["api-availability", "api-latency", "payment-success"].map(|name| format!("{name}-slo-burn.md"));
    for name in &names {
        std::fs::copy(root("docs/runbooks").join(name), dir.join(name)).unwrap();
    }
    let done = slo(&["runbooks", "examples/slo", "--out", text(dir.path())]);
    assert_eq!(done.code, 0, "{done:?}");
    for name in &names {
        assert_eq!(
            read(&dir.join(name)),
            read(&root("docs/runbooks").join(name)),
            "run `slo runbooks examples/slo`"
        );
    }
    assert_eq!(
        slo(&["validate", "examples/slo"]).ok(),
        "3 files: 3 objectives, 6 alerts\n"
    );
}
