//! Nothing that is true of one machine or of one place in the network gets into a tracked file: no home folders, no package
//! registries' hosts.

use super::{Finding, TextFile};

/// The forbidden pieces. They are put together from halves so that this file does not contain them.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "/roo",
        "t/",
        "a path of one machine; use a path relative to the checkout, or $HOME",
    ),
    (
        "/hom",
        "e/",
        "a path of one machine; use a path relative to the checkout, or $HOME",
    ),
    (
        "/Use",
        "rs/",
        "a path of one machine; use a path relative to the checkout, or $HOME",
    ),
    (
        "/wor",
        "k/",
        "a path of one machine; use a path relative to the checkout",
    ),
    (
        "crates.",
        "io/",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "index.crates.",
        "io",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "static.crates.",
        "io",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "registry.npmjs",
        ".org",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "registry.yarnpkg",
        ".com",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "pypi",
        ".org",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "files.pythonhosted",
        ".org",
        "a package registry's host; leave it to the tool's own configuration",
    ),
    (
        "deb.debian",
        ".org",
        "a package mirror's host; use what apt is configured with",
    ),
    (
        "proxy.golang",
        ".org",
        "a package registry's host; leave it to the tool's own configuration",
    ),
];

/// Root's home folder.
const ROOT_HOME: &str = concat!("/roo", "t/");

/// Findings in one file. `Cargo.lock` is exempt: cargo writes the registry's name there by itself.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    if file.path.as_os_str() == "Cargo.lock" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for (head, tail, why) in FORBIDDEN {
            let needle = format!("{head}{tail}");
            // The lab's containers are machines of its own making, and there this is root's home.
            let own_machine = needle == ROOT_HOME && file.path.starts_with("crates/lab");
            if let Some(at) = line.find(&needle)
                && !own_machine
                && !(needle.starts_with('/') && is_inner_part(line, at))
            {
                findings.push(file.finding(number, format!("\"{needle}\" is {why}")));
            }
        }
    }
    findings
}

/// Whether a path piece at `at` continues a longer path (`target/work/`) rather than starting at the root.
fn is_inner_part(line: &str, at: usize) -> bool {
    line[..at]
        .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '}' | '*' | '>'))
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::check;

    #[test]
    fn paths_of_one_machine_are_found_and_relative_ones_are_not() {
        let home = format!("see {}x\n", ["/roo", "t/"].concat());
        assert_eq!(check(&file("a.md", &home)).len(), 1);
        assert_eq!(check(&file("crates/lab/src/a.rs", &home)), []);
        assert_eq!(
            check(&file("a.md", "mkdir target/work/lab\n\"$dir\"/home-page\n")),
            []
        );
    }

    #[test]
    fn registry_hosts_are_found_with_their_line() {
        let text = format!("first\nget it from {}\n", ["pypi", ".org"].concat());
        let found = check(&file("notes.md", &text));
        assert_eq!((found.len(), found[0].line), (1, 2));
    }
}
