//! Every page we ship is sound, and the author's guide tells the truth about the format.

use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn every_shipped_page_is_sound() {
    let library = runbook::library::Library::find(Some(docs().join("runbooks"))).unwrap();
    let names = library.names().unwrap();
    assert!(names.iter().any(|name| name == "chainfire-health"), "{names:?}");
    for name in names {
        let parsed = library.read(&name).unwrap();
        let lints = runbook::check::lint(&parsed.page);
        let problems: Vec<String> = parsed
            .problems
            .iter()
            .chain(&lints)
            .map(ToString::to_string)
            .collect();
        assert_eq!(problems, Vec::<String>::new());
        assert!(!parsed.page.steps.is_empty(), "{name} has steps");
    }
}

#[test]
fn pages_and_alert_rules_name_each_other() {
    let library = runbook::library::Library::find(Some(docs().join("runbooks"))).unwrap();
    let names = library.names().unwrap();
    let pages: Vec<runbook::Page> = names
        .iter()
        .map(|name| library.read(name).unwrap().page)
        .collect();
    let rules = runbook::rules::read(&docs().join("../config/prometheus")).unwrap();
    assert!(!rules.is_empty());
    let pages: Vec<&runbook::Page> = pages.iter().collect();
    assert_eq!(runbook::rules::compare(&pages, &rules, &names), []);
    for rule in rules {
        let page = library.read(&rule.alert).unwrap().page;
        assert_eq!(Some(page.name), rule.runbook, "{}", rule.alert);
    }
}

#[test]
fn guide_names_every_attribute() {
    let guide = std::fs::read_to_string(docs().join("dev/runbooks.md")).unwrap();
    for attribute in runbook::attribute::KNOWN
        .iter()
        .filter(|known| **known != "repeat-until")
    {
        let row = guide
            .lines()
            .any(|line| line.starts_with(&format!("| `{attribute}")));
        assert!(row, "docs/dev/runbooks.md has a row for `{attribute}`");
    }
}

#[test]
fn every_step_is_valid_shell() {
    let library = runbook::library::Library::find(Some(docs().join("runbooks"))).unwrap();
    for name in library.names().unwrap() {
        for step in library.read(&name).unwrap().page.steps {
            let output = std::process::Command::new("bash")
                .args(["-n", "-c", &step.command])
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{name} {}: {}",
                step.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}
