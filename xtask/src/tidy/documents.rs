//! Documents point to files that exist.
//!
//! Looked at are the targets of Markdown links, words in backquotes that start with a folder of the workspace, and the runbook that
//! an alert names: the name of a page in `docs/runbooks`, as `mainstay runbook run` takes it. Whether the page lists the alert in its
//! turn is for `mainstay runbook check`, which a test runs over what we ship.

use std::path::{Path, PathBuf};

use super::{Finding, TextFile};

/// A backquoted word starting with one of these is meant as a path of this repository.
const FOLDERS: &[&str] = &[
    "crates/", "docs/", "xtask/", "config/", "scripts/", ".cargo/", ".ci/", ".config/",
];

/// Paths that exist only after a command has made them.
const MADE: &[&str] = &[".cargo/local.toml"];

/// Findings in Markdown at the root and in `docs/`, apart from texts that came from elsewhere.
pub(super) fn check(files: &[TextFile], exists: &dyn Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        if file.path.starts_with("config/prometheus") {
            for (number, line) in file.lines() {
                let Some(name) = line.trim().strip_prefix("runbook: ") else {
                    continue;
                };
                if name.contains('/') || !exists(&Path::new("docs/runbooks").join(format!("{name}.md"))) {
                    findings.push(file.finding(
                        number,
                        format!("runbook {name} is no page; name a file of docs/runbooks without its .md"),
                    ));
                }
            }
        }
        let is_markdown = file.path.extension().is_some_and(|extension| extension == "md");
        let ours = file.path.components().count() == 1 || file.path.starts_with("docs");
        if !is_markdown || !ours || file.path.starts_with("docs/seeds") {
            continue;
        }
        let folder = file.path.parent().unwrap_or(Path::new("")).to_owned();
        for (number, line) in file.lines() {
            for target in link_targets(line) {
                if !exists(&folder.join(target)) {
                    findings.push(file.finding(number, format!("link to {target}, which does not exist")));
                }
            }
            for path in backquoted_paths(line) {
                if !exists(&PathBuf::from(path)) {
                    findings
                        .push(file.finding(number, format!("{path} does not exist; name a path that does")));
                }
            }
        }
    }
    findings
}

/// Link targets inside the repository, without the anchor.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains(':')).then_some(target)
    })
}

fn backquoted_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        FOLDERS.iter().any(|folder| word.starts_with(folder))
            && !word.contains(['*', '<', '{', ' ', '…', '$', '|'])
            && !word.contains("NNNN")
            && !word.contains("...")
            && !MADE.contains(word)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file;
    use super::check;

    #[test]
    fn alerts_name_pages_and_not_their_paths() {
        let exists = |path: &Path| path == Path::new("docs/runbooks/health.md");
        let rules = |name: &str| {
            let text = format!("- alert: Down\n  annotations:\n    runbook: {name}\n");
            check(&[file("config/prometheus/x.yml", &text)], &exists)
        };
        assert_eq!(rules("health"), []);
        for wrong in ["helth", "docs/runbooks/health.md", "../runbooks/health"] {
            assert_eq!(rules(wrong).len(), 1, "{wrong}");
            assert_eq!(rules(wrong)[0].line, 3);
        }
    }

    #[test]
    fn missing_targets_are_found_and_patterns_are_left_alone() {
        let exists =
            |path: &Path| path == Path::new("docs/there.md") || path == Path::new("docs/adr/../there.md");
        let text = "[a](docs/there.md#part) [b](docs/gone.md) [c](https://example.com/x) `docs/there.md` `docs/adr/NNNN-title.md`\n\
                    `crates/gone/src/lib.rs` `crates/*` `docs`\n";
        let found = check(&[file("README.md", text)], &exists);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1].line, 2);
        assert_eq!(
            check(&[file("docs/adr/0001-x.md", "[a](../there.md)\n")], &exists),
            []
        );
    }
}
