//! Finding pages: which folder holds the runbooks, and which file a name means.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::parse::{PAGE_BYTES_MAX, Parsed, parse};

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

    /// Reads and parses a page by its name, or by a path that ends in `.md`.
    pub fn read(&self, name: &str) -> anyhow::Result<Parsed> {
        let (name, path) = if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            let stem = Path::new(name)
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or(name);
            (stem.to_owned(), PathBuf::from(name))
        } else {
            let known = self.names()?;
            if !known.iter().any(|each| each == name) {
                let near = crate::problem::suggestion(name, known.iter().map(String::as_str));
                anyhow::bail!("read runbook `{name}`: not in {}; {near}", self.folder.display());
            }
            (name.to_owned(), self.folder.join(format!("{name}.md")))
        };
        let bytes = read_bounded(&path).with_context(|| format!("read runbook {}", path.display()))?;
        Ok(parse(&name, &path.display().to_string(), &bytes))
    }
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
    fn folder_that_was_named_must_exist() {
        let error = Library::find(Some(PathBuf::from("no-such-folder")))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "find runbooks: no-such-folder is no folder");
    }
}
