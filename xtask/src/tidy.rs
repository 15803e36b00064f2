//! `cargo xtask tidy`: conventions that neither the compiler nor clippy knows.
//!
//! Each file below `tidy/` holds rules about one subject and reports findings as `path:line: what; what would be right`. Rules look
//! at tracked files only. A rule has no exceptions list: where code must differ, it says so in itself (a reason in the module header,
//! say), so that a reader sees the exception in its place.

mod documents;
mod layers;
mod manifests;
mod paths;
mod sources;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// Something to put right.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    /// Counted from 1; 0 speaks of the whole file.
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line.max(1), self.text)
    }
}

/// A tracked text file.
struct TextFile {
    /// Relative to the root.
    path: PathBuf,
    text: String,
}

impl TextFile {
    fn finding(&self, line: usize, text: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            text: text.into(),
        }
    }

    /// Its lines, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    /// Rust made by the generator; it follows its own style.
    fn is_generated(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "gen")
    }
}

/// The command: findings on stdout, one per line; exit 1 if there are any.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(extra) = arguments.first() {
        return Ok(crate::wrong_usage(
            "tidy",
            &format!("unexpected argument \"{extra}\", it takes none"),
        ));
    }
    check(workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints every finding; any finding is an error.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let files = text_files(workspace)?;
    let mut findings = Vec::new();
    findings.extend(layers::check(workspace)?);
    for file in &files {
        findings.extend(paths::check(file));
        findings.extend(manifests::check(file));
        findings.extend(sources::check(file));
    }
    findings.extend(documents::check(&files, &|path: &Path| {
        workspace.path(path).exists()
    }));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings, listed above", findings.len());
    }
    Ok(())
}

fn text_files(workspace: &Workspace) -> Result<Vec<TextFile>> {
    let mut files = Vec::new();
    for path in workspace.tracked_files()? {
        let full = workspace.path(&path);
        if full.is_symlink() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("read {}", full.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(TextFile { path, text });
        }
    }
    Ok(files)
}

#[cfg(test)]
fn file(path: &str, text: &str) -> TextFile {
    TextFile {
        path: path.into(),
        text: text.into(),
    }
}
