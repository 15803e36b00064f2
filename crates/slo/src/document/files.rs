//! Which files are meant by the words of a command, and their text. The only IO of reading.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Largest file that is read: thousands of objectives.
pub const BYTES_MAX: u64 = 4 << 20;

/// A file and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// As messages name it.
    pub file: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// Reads files, and of folders every `.yaml` and `.yml` in them, in the order of their names; none twice.
///
/// # Errors
/// A file or folder that cannot be read, a folder without such a file, a file that is too large or no UTF-8.
pub fn read_all(words: &[PathBuf]) -> Result<Vec<Input>> {
    let mut paths = BTreeSet::new();
    for word in words {
        if word.is_dir() {
            let found = in_folder(word)?;
            ensure!(
                !found.is_empty(),
                "{}: no .yaml or .yml file in it",
                word.display()
            );
            paths.extend(found);
        } else {
            paths.insert(word.clone());
        }
    }
    let mut seen = BTreeSet::new();
    let mut inputs = Vec::new();
    for path in paths {
        let context = || format!("read {}", path.display());
        if !seen.insert(fs::canonicalize(&path).with_context(context)?) {
            continue;
        }
        let bytes = fs::metadata(&path).with_context(context)?.len();
        ensure!(
            bytes <= BYTES_MAX,
            "read {}: it has {bytes} bytes; at most {BYTES_MAX} are read",
            path.display()
        );
        let text = fs::read_to_string(&path).with_context(context)?;
        let file = path.display().to_string();
        inputs.push(Input { file, path, text });
    }
    Ok(inputs)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if is_yaml && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}
