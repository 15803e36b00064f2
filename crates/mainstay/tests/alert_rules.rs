//! The shipped alerts, as Prometheus itself reads them: they are valid, and say what they should about made-up measurements.

use std::path::Path;
use std::process::Command;

fn promtool(folder: &Path, arguments: &[&str]) {
    let output =
        Command::new(lab::applets::find_program("promtool").expect("promtool: apt-get install prometheus"))
            .current_dir(folder)
            .args(arguments)
            .output()
            .expect("promtool starts");
    assert!(
        output.status.success(),
        "promtool {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn promtool_accepts_the_rules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/prometheus");
    promtool(&folder, &["check", "rules", "chainfire-rules.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_else_are_quiet() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alert_rules");
    promtool(&folder, &["test", "rules", "chainfire.yml"]);
}
