//! No error about a file repeats what may be a secret, however it was written.

use super::{parse, review};
use crate::home::NodeFile;

/// Stands in every secret.
const MARK: &str = "geheim";

/// Ways of writing a value, right and wrong.
fn written() -> Vec<String> {
    let mut ways: Vec<String> = [
        "geheim",
        "\"geheim\\n\"",
        "\"geheim\\d\"",
        "\"geheim",
        "'geheim' geheim",
        "geheim: geheim",
        "[geheim]",
        "{geheim: geheim}",
        "{geheim: 1, geheim: 2}",
        "!x geheim",
        "!geheim x",
        "!!binary geheim!",
        "!!int geheim",
        "*geheim",
        "&geheim",
        "@geheim",
        "%geheim",
        "\tgeheim",
        "[geheim",
        "|\ngeheim",
        "http://geheim@",
        "ftp://h/geheim",
        "https:///geheim",
        "https://u:geheim@h:99999/",
        "https://u:geheim@h h/",
        "https://u:geheim@/x",
        "https://h/geheim\u{202e}",
    ]
    .map(str::to_owned)
    .into();
    ways.push(MARK.repeat(2000));
    ways
}

fn told_of_cluster(text: &str) -> Option<String> {
    match parse(text) {
        Err(mistake) => Some(mistake.to_string()),
        Ok(document) => review::review(&document)
            .err()
            .map(|objection| objection.to_string()),
    }
}

fn told_of_node(text: &str) -> Option<String> {
    match parse::parse_strictly::<NodeFile>(text) {
        Err(mistake) => Some(mistake.to_string()),
        Ok(node) => node.review().err().map(|(key, text)| format!("{key}: {text}")),
    }
}

#[test]
fn errors_do_not_repeat_secrets() {
    let mut refused = 0;
    for value in written() {
        let mut texts = Vec::new();
        for (kind, key) in [
            ("smtp", "smtp_password"),
            ("discord", "discord_webhook"),
            ("webhook", "webhook_url"),
            ("webhook", "webhook_secret"),
            ("slack", "slack_webhook"),
            ("pagerduty", "pagerduty_routing_key"),
            ("pagerduty", "pagerduty_url"),
            ("ntfy", "ntfy_url"),
            ("ntfy", "ntfy_token"),
            ("alertmanager", "alertmanager_url"),
        ] {
            texts.push((key, format!("version: 1\nalerts:\n  - id: a\n    name: a\n    type: {kind}\n    {key}: {value}\n    smtp_host: h\n")));
        }
        let check = "version: 1\nchecks:\n  - id: a\n    name: a\n    type: http\n    target";
        if value.contains("u:geheim@") {
            texts.push(("target", format!("{check}: {value}\n")));
        } else if !value.contains("://") {
            let word = value.replace(['"', '\\', '\n'], "");
            texts.push(("target", format!("{check}: \"https://u:{word}@h:1/ x\"\n")));
        }
        for (key, text) in &texts {
            let Some(told) = told_of_cluster(text) else {
                continue;
            };
            refused += 1;
            assert!(!told.contains(MARK), "{key}: {value:.60?}: {told}");
            assert!(
                told.len() < 500 && !told.contains('\n'),
                "{key}: {value:.60?}: {told}"
            );
        }
        let node = "node_id: 00000001-0000-4000-8000-000000000000\nadvertise: h:1\n";
        for text in [
            format!("{node}cluster_secret: {value}\n"),
            format!("{node}watchdog_url: {value}\n"),
            format!("{node}fallback_alert:\n  type: webhook\n  webhook_url: {value}\n"),
            format!(
                "{node}fallback_alert:\n  type: webhook\n  webhook_url: http://h/\n  webhook_secret: {value}\n"
            ),
        ] {
            let Some(told) = told_of_node(&text) else { continue };
            refused += 1;
            assert!(!told.contains(MARK), "{value:.60?}: {told}");
            assert!(told.len() < 500 && !told.contains('\n'), "{value:.60?}: {told}");
        }
    }
    assert!(refused > 250, "{refused}");
}
