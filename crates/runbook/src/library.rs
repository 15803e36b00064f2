//! Finding pages: which folder holds the runbooks, and which file a name means.
//!
//! An alert's name means the page that its rule names, or the page that lists it: who is woken has the alert's name at
//! hand.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::parse::{PAGE_BYTES_MAX, Parsed, parse};
use crate::problem::{excerpt, suggestion};
use crate::rules;

/// Where a package puts the pages.
pub const SYSTEM_FOLDER: &str = "/usr/share/mainstay/runbooks";

/// Where a checkout has them.
pub const CHECKOUT_FOLDER: &str = "docs/runbooks";

/// Variable that names the folder.
pub const FOLDER_VARIABLE: &str = "MAINSTAY_RUNBOOKS";

/// A folder of runbooks.
#[derive(Debug, Clone)]
pub struct Library {
    folder: PathBuf,
}

impl Library {
    /// Picks the folder: the given one (flag or variable, which must exist), else the checkout's, else the system's.
    pub fn find(given: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(folder) = given {
            anyhow::ensure!(
                folder.is_dir(),
                "find runbooks: {} is no folder",
                folder.display()
            );
            return Ok(Self { folder });
        }
        let places = [CHECKOUT_FOLDER, SYSTEM_FOLDER];
        let found = places.iter().map(PathBuf::from).find(|folder| folder.is_dir());
        let folder = found.with_context(|| {
            format!(
                "find runbooks: neither {CHECKOUT_FOLDER} nor {SYSTEM_FOLDER} exists; \
                 name a folder with --dir or {FOLDER_VARIABLE}"
            )
        })?;
        Ok(Self { folder })
    }

    /// Names of all pages, sorted.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.folder)
            .with_context(|| format!("list runbooks in {}", self.folder.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry
                .with_context(|| format!("list runbooks in {}", self.folder.display()))?
                .path();
            if path.extension().is_some_and(|extension| extension == "md")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The page that an alert of this name sends its reader to; an error if several pages list it and no rule decides.
    fn page_of_alert(&self, alert: &str, names: &[String]) -> anyhow::Result<Option<String>> {
        if let Some(folder) = rules::folder_of(&self.folder) {
            let rules = rules::read(&folder)?;
            let page = rules
                .into_iter()
                .find(|rule| rule.alert == alert)
                .and_then(|rule| rule.runbook);
            if let Some(page) = page.filter(|page| names.contains(page)) {
                return Ok(Some(page));
            }
        }
        let mut pages = self
            .alerts(names)?
            .into_iter()
            .filter(|(listed, _)| listed == alert);
        let first = pages.next().map(|(_, page)| page);
        if let (Some(first), Some((_, second))) = (&first, pages.next()) {
            anyhow::bail!(
                "read runbook of alert `{alert}`: `{first}` and `{second}` both list it; name one of them"
            );
        }
        Ok(first)
    }

    /// Every alert that a page lists, with the page's name.
    fn alerts(&self, names: &[String]) -> anyhow::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for name in names {
            let page = self.read_page(name)?.page;
            found.extend(page.alerts.into_iter().map(|alert| (alert, name.clone())));
        }
        Ok(found)
    }

    /// Reads and parses a page by its name, by the name of an alert, or by a path that ends in `.md`.
    pub fn read(&self, name: &str) -> anyhow::Result<Parsed> {
        let path = Path::new(name);
        if path.extension().is_some_and(|extension| extension == "md") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
            return read_file(stem, path);
        }
        let known = self.names()?;
        if known.iter().any(|each| each == name) {
            return self.read_page(name);
        }
        if let Some(page) = self.page_of_alert(name, &known)? {
            return self.read_page(&page);
        }
        let alerts = self.alerts(&known)?;
        let words = known.iter().chain(alerts.iter().map(|(alert, _)| alert));
        let near = suggestion(name, words.map(String::as_str));
        anyhow::bail!(
            "read runbook `{}`: no page or alert of that name in {}; {near}",
            excerpt(name),
            self.folder.display()
        );
    }

    fn read_page(&self, name: &str) -> anyhow::Result<Parsed> {
        read_file(name, &self.folder.join(format!("{name}.md")))
    }
}

fn read_file(name: &str, path: &Path) -> anyhow::Result<Parsed> {
    let bytes = read_bounded(path).with_context(|| format!("read runbook {}", path.display()))?;
    Ok(parse(name, &path.display().to_string(), &bytes))
}

/// Reads one byte more than a page may have, so that the parser can say that it is too large.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(PAGE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_suggests_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chainfire-health.md"), "# Health\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let library = Library::find(Some(folder.path().to_owned())).unwrap();
        assert_eq!(library.names().unwrap(), ["chainfire-health"]);
        assert_eq!(library.read("chainfire-health").unwrap().page.title, "Health");
        let error = library.read("chainfire-heath").unwrap_err().to_string();
        assert!(error.ends_with("did you mean `chainfire-health`?"), "{error}");
        let file = folder.path().join("chainfire-health.md");
        assert_eq!(
            library.read(file.to_str().unwrap()).unwrap().page.name,
            "chainfire-health"
        );
    }

    #[test]
    fn alert_means_the_page_that_its_rule_names_or_that_lists_it() {
        let root = tempfile::tempdir().unwrap();
        let (pages, rules) = (
            root.path().join("docs/runbooks"),
            root.path().join("config/prometheus"),
        );
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::create_dir_all(&rules).unwrap();
        std::fs::write(pages.join("health.md"), "# Health\n\nalert: NodeDown, NoLeader\n").unwrap();
        std::fs::write(pages.join("speed.md"), "# Speed\n\nalert: NodeDown\n").unwrap();
        let library = Library::find(Some(pages)).unwrap();
        assert_eq!(library.read("NoLeader").unwrap().page.name, "health");
        let error = library.read("NodeDown").unwrap_err().to_string();
        assert!(error.contains("`health` and `speed` both list it"), "{error}");
        let rule = "- alert: NodeDown\n  annotations:\n    runbook: speed\n";
        std::fs::write(rules.join("x.yml"), rule).unwrap();
        assert_eq!(library.read("NodeDown").unwrap().page.name, "speed");
        let error = library.read("NoLaeder").unwrap_err().to_string();
        assert!(error.ends_with("did you mean `NoLeader`?"), "{error}");
    }

    #[test]
    fn folder_that_was_named_must_exist() {
        let error = Library::find(Some(PathBuf::from("no-such-folder")))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "find runbooks: no-such-folder is no folder");
    }
}
