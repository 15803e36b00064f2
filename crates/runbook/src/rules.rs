//! Prometheus alert rules, as far as runbooks are concerned: the name of each alert and the page its `runbook` annotation
//! names.
//!
//! ```yaml
//! - alert: ChainfireNodeDown
//!   annotations:
//!     runbook: chainfire-health
//! ```
//!
//! Rules are read line by line, which is enough for files written with one key per line, as ours and promtool's are. The
//! `alert:` line of a page and the annotations of the rules say the same thing from two sides; [`compare`] finds where
//! they disagree.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::library::{CHECKOUT_FOLDER, SYSTEM_FOLDER};
use crate::model::Page;
use crate::problem::{Problem, Severity, excerpt, suggestion};

/// Largest file of rules read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub alert: String,
    /// Name of the page that its `runbook` annotation names.
    pub runbook: Option<String>,
    /// How messages name its file.
    pub file: String,
    /// Line of the annotation, or of the name if there is none; from 1.
    pub line: usize,
}

/// The folder of rules that belongs to a folder of pages: `config/prometheus` of a checkout, or what the package ships.
pub fn folder_of(pages: &Path) -> Option<PathBuf> {
    let pages = std::path::absolute(pages).ok()?;
    let beside = if pages.ends_with(CHECKOUT_FOLDER) {
        pages.ancestors().nth(2)?.join("config/prometheus")
    } else if pages == Path::new(SYSTEM_FOLDER) {
        pages.parent()?.join("prometheus")
    } else {
        return None;
    };
    beside.is_dir().then_some(beside)
}

/// Reads all rules of a folder, in the order of the files' names.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Rule>> {
    let context = || format!("read alert rules in {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let mut rules = Vec::new();
    for file in files {
        let context = || format!("read alert rules {}", file.display());
        let bytes = std::fs::metadata(&file).with_context(context)?.len();
        anyhow::ensure!(
            bytes <= FILE_BYTES_MAX,
            "read alert rules {}: {bytes} bytes are too many",
            file.display()
        );
        let text = std::fs::read_to_string(&file).with_context(context)?;
        rules.extend(parse(&file.display().to_string(), &text));
    }
    Ok(rules)
}

/// The rules in a file's text; `label` is how messages name the file.
pub fn parse(label: &str, text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let line = line.strip_prefix("- ").map_or(line, str::trim_start);
        if let Some(name) = line.strip_prefix("alert:") {
            rules.push(Rule {
                alert: plain(name),
                runbook: None,
                file: label.to_owned(),
                line: number,
            });
        } else if let (Some(page), Some(rule)) = (line.strip_prefix("runbook:"), rules.last_mut()) {
            rule.runbook = Some(plain(page));
            rule.line = number;
        }
    }
    rules
}

/// A YAML scalar without its quotes and the comment after it.
fn plain(value: &str) -> String {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let bare = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    bare.unwrap_or(value).to_owned()
}

/// Where these pages and the rules disagree. `names` are all pages that exist.
pub fn compare(pages: &[&Page], rules: &[Rule], names: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |file: &str, line: usize, message: String| {
        let (file, severity) = (file.to_owned(), Severity::Error);
        problems.push(Problem {
            file,
            line,
            column: 1,
            severity,
            message,
        });
    };
    for rule in rules {
        let alert = excerpt(&rule.alert);
        match &rule.runbook {
            None => wrong(
                &rule.file,
                rule.line,
                format!("alert `{alert}` names no runbook; add the annotation `runbook: PAGE`"),
            ),
            Some(name) if !names.contains(name) => {
                let known = suggestion(name, names.iter().map(String::as_str));
                let message = format!(
                    "alert `{alert}` names runbook `{}`, which is no page; {known}",
                    excerpt(name)
                );
                wrong(&rule.file, rule.line, message);
            }
            Some(name) => {
                if let Some(page) = pages.iter().find(|page| page.name == *name)
                    && !page.alerts.contains(&rule.alert)
                {
                    let message =
                        format!("alert `{alert}` sends its reader here; add it to the `alert:` line");
                    wrong(&page.label, alert_line(page), message);
                }
            }
        }
    }
    for page in pages {
        for alert in &page.alerts {
            let found = rules.iter().find(|rule| rule.alert == *alert);
            let message = match found.map(|rule| rule.runbook.as_deref()) {
                None => format!(
                    "alert `{}` is in no rule; remove it, or write the rule",
                    excerpt(alert)
                ),
                Some(Some(other)) if other != page.name => {
                    format!(
                        "alert `{}` names runbook `{}` in its rule, not this page",
                        excerpt(alert),
                        excerpt(other)
                    )
                }
                Some(_) => continue,
            };
            wrong(&page.label, alert_line(page), message);
        }
    }
    problems
}

/// Line of the page's `alert:` line, or the first.
fn alert_line(page: &Page) -> usize {
    let at = page.text.lines().position(|line| line.starts_with("alert:"));
    at.map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse as parse_page;

    const RULES: &str = "groups:\n  - name: x\n    rules:\n      - alert: Down\n        annotations:\n          \
                         runbook: \"health\" # first\n      - alert: Slow\n        annotations:\n          runbook: speed\n";

    fn page(name: &str, alerts: &str) -> Page {
        let text = format!("# T\n\nalert: {alerts}\n");
        parse_page(name, &format!("{name}.md"), text.as_bytes()).page
    }

    fn differences(pages: &[Page], rules: &str) -> Vec<String> {
        let names: Vec<String> = pages.iter().map(|page| page.name.clone()).collect();
        let pages: Vec<&Page> = pages.iter().collect();
        let problems = compare(&pages, &parse("r.yml", rules), &names);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_and_pages_that_agree_are_silent() {
        let rules = parse("r.yml", RULES);
        assert_eq!((rules[0].alert.as_str(), rules[0].line), ("Down", 6));
        assert_eq!(rules[0].runbook.as_deref(), Some("health"));
        let pages = [
            page("health", "Down"),
            page("speed", "Slow"),
            page("other", "none"),
        ];
        assert_eq!(differences(&pages, RULES), Vec::<String>::new());
    }

    #[test]
    fn every_disagreement_is_named_at_its_place() {
        let pages = [page("health", "Slow, Gone"), page("speed", "Slow")];
        let rules = RULES.replace("speed", "sped") + "      - alert: Lonely\n";
        assert_eq!(
            differences(&pages, &rules),
            [
                "health.md:3:1: error: alert `Down` sends its reader here; add it to the `alert:` line",
                "r.yml:9:1: error: alert `Slow` names runbook `sped`, which is no page; did you mean `speed`?",
                "r.yml:10:1: error: alert `Lonely` names no runbook; add the annotation `runbook: PAGE`",
                "health.md:3:1: error: alert `Slow` names runbook `sped` in its rule, not this page",
                "health.md:3:1: error: alert `Gone` is in no rule; remove it, or write the rule",
                "speed.md:3:1: error: alert `Slow` names runbook `sped` in its rule, not this page",
            ]
        );
    }

    #[test]
    fn rules_are_looked_for_beside_the_pages_of_a_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("docs/runbooks");
        assert_eq!(folder_of(&pages), None);
        let rules = folder.path().join("config/prometheus");
        std::fs::create_dir_all(&rules).unwrap();
        assert_eq!(folder_of(&pages), Some(rules.clone()));
        std::fs::write(rules.join("a.yml"), RULES).unwrap();
        std::fs::write(rules.join("README"), "alert: no\n").unwrap();
        assert_eq!(read(&rules).unwrap().len(), 2);
    }
}
