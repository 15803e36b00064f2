//! Rust files: a header that explains, a length that can be read, no loose ends, and no IO where decisions are made.

use std::path::{Component, Path};

use super::{Finding, TextFile, layers};

/// Past this a file says in its header why it is one file.
const LINES_MAX: usize = 1000;

/// Marks of unfinished work, in two pieces so that this file contains none.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// What a decision must not touch, as it appears in `use` and in paths.
const IO: &[&str] = &[
    "tokio::",
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "tokio;",
];

/// Findings in one file; generated code is not judged.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.is_generated() {
        findings.extend(loose_ends(file));
    }
    if !file.is_rust() || file.is_generated() {
        return findings;
    }
    let first = file
        .text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if !first.starts_with("//!") {
        findings.push(file.finding(
            1,
            "no module header; begin with //! and say what this is for and what it does not do",
        ));
    }
    let lines = file.text.lines().count();
    let header: String = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    if lines > LINES_MAX && !header.to_lowercase().contains("one file because") {
        findings.push(file.finding(
            LINES_MAX,
            format!("{lines} lines, more than {LINES_MAX}; look for a second subject, or say in the header \"one file because ...\""),
        ));
    }
    if is_decision(&file.path) {
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(io) = IO.iter().find(|io| code.contains(*io)) {
                let io = io.trim_end_matches([':', ';']);
                findings.push(file.finding(
                    number,
                    format!("{io} in a state machine; take the value as an input, return an action"),
                ));
            }
        }
    }
    findings
}

/// Whether the file belongs to a `machine/` folder, or is its root `machine.rs`, in a crate that decides things over time. Its tests
/// may read scenario files.
fn is_decision(path: &Path) -> bool {
    let mut parts = path.components().map(Component::as_os_str);
    let in_crate = parts.next().is_some_and(|part| part == "crates")
        && parts
            .next()
            .and_then(|name| name.to_str())
            .is_some_and(layers::decides);
    in_crate
        && parts.any(|part| part == "machine" || part == "machine.rs")
        && path.file_name().is_some_and(|name| name != "tests.rs")
}

/// Marks of unfinished work, unless followed by an issue number in the form `(#12)`.
fn loose_ends(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for word in MARKS {
            let Some(at) = line.find(word) else { continue };
            let rest = &line[at + word.len()..];
            let whole_word = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            let numbered = rest
                .strip_prefix("(#")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            // In backquotes it is spoken about, not meant.
            let quoted = line[..at].ends_with('`');
            // Shell templates such as mktemp's XXXXXX are longer and so no whole word.
            if whole_word && !numbered && !quoted {
                findings.push(file.finding(
                    number,
                    format!("{word} without a number; do it now, or write {word}(#N) with its issue"),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::{MARKS, check};

    #[test]
    fn a_file_begins_with_its_header() {
        assert_eq!(
            check(&file("crates/x/src/a.rs", "//! What it is.\nfn f() {}\n")),
            []
        );
        assert_eq!(check(&file("crates/x/src/a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(check(&file("crates/x/src/gen/a.rs", "use std::fmt;\n")), []);
    }

    #[test]
    fn a_long_file_says_why() {
        let long = "fn f() {}\n".repeat(1001);
        assert_eq!(
            check(&file("crates/x/src/a.rs", &format!("//! What.\n{long}"))).len(),
            1
        );
        assert_eq!(
            check(&file(
                "crates/x/src/a.rs",
                &format!("//! One file because of X.\n{long}")
            )),
            []
        );
    }

    #[test]
    fn loose_ends_need_a_number() {
        let mark = MARKS[0];
        assert_eq!(check(&file("docs/a.md", &format!("{mark}: later\n"))).len(), 1);
        let fine = format!("{mark}(#12): later\nmktemp dir.XXXXXX\nA `{mark}` is not.\n");
        assert_eq!(check(&file("docs/a.md", &fine)), []);
    }

    #[test]
    fn decisions_do_no_io() {
        let text = "//! What.\nuse std::fs::File; // why\n// tokio::spawn is for drivers\n";
        let found = check(&file("crates/chainfire/src/machine/lease.rs", text));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, 2);
        assert_eq!(check(&file("crates/chainfire/src/driver.rs", text)), []);
        assert_eq!(check(&file("crates/lab/src/machine/boot.rs", text)), []);
    }
}
