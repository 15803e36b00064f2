//! Member manifests (those without a `[workspace]` of their own) take lints and versions from the root, so that there is one place to read and one to change.

use super::{Finding, TextFile};

/// Findings in one file; other files than member manifests have none.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let is_member =
        file.path.file_name().is_some_and(|name| name == "Cargo.toml") && file.path.components().count() > 1;
    if !is_member || file.text.lines().any(|line| line == "[workspace]") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut section = "";
    let mut lints = false;
    for (number, line) in file.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
            continue;
        }
        if section == "[lints]" && line.replace(' ', "") == "workspace=true" {
            lints = true;
        }
        let in_dependencies = section.trim_matches(['[', ']']).ends_with("dependencies");
        if in_dependencies
            && line.contains('=')
            && !line.starts_with('#')
            && !line.replace(' ', "").contains("workspace=true")
        {
            let name = line.split(['=', '.']).next().unwrap_or(line).trim();
            findings.push(file.finding(
                number,
                format!("{name} is not taken from the workspace; state it in the root manifest and write {name}.workspace = true"),
            ));
        }
    }
    if !lints {
        findings.push(file.finding(
            0,
            "the workspace's lints are not on; add [lints] workspace = true",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::check;

    #[test]
    fn versions_belong_to_the_root() {
        let text = "[package]\nname = \"x\"\nversion = \"1\"\n[lints]\nworkspace = true\n[dev-dependencies]\na.workspace = true\nb = \"1\"\n\
                    c = { workspace = true, features = [\"x\"] }\n";
        let found = check(&file("crates/x/Cargo.toml", text));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, 8);
        assert_eq!(
            check(&file("Cargo.toml", "[workspace.dependencies]\na = \"1\"\n")),
            []
        );
    }

    #[test]
    fn every_crate_turns_the_lints_on() {
        assert_eq!(
            check(&file("crates/x/Cargo.toml", "[package]\nname = \"x\"\n")).len(),
            1
        );
    }
}
