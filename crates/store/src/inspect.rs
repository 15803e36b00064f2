//! A look at the files of a directory before RocksDB opens them: it would drop damaged records without a word (see
//! [`crate::framing`]), and write over what could have been rescued.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::{framing, replace};

/// The file that names the manifest, which in turn names all files that count.
pub(crate) const HEAD: &str = "CURRENT";

/// A write that the end of a file cuts short: nobody was told that it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornWrite {
    /// Name of the file in the database directory.
    pub file: String,
    /// How much of the write is there.
    pub bytes: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Writes that a crash cut short.
    pub(crate) torn: Vec<TornWrite>,
    /// What is not as it was written.
    pub(crate) damage: Vec<Error>,
    /// The manifest that counts, if it can be told.
    pub(crate) manifest: Option<String>,
}

/// Everything in the write-ahead logs and the manifest of `dir` that is not as it was written, at most one place of each file.
pub fn damage(dir: &Path) -> Result<Vec<Error>> {
    Ok(inspect(dir)?.damage)
}

/// Reads the write-ahead logs and the manifest of `dir`. An empty or missing directory is fine.
pub(crate) fn inspect(dir: &Path) -> Result<Inspection> {
    let mut found = Inspection::default();
    let names = match names(dir) {
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        names => names?,
    };
    let manifest = match manifest(dir, &names) {
        Ok(manifest) => manifest,
        Err(error @ Error::File { .. }) => return Err(error),
        Err(damage) => {
            found.damage.push(damage);
            None
        }
    };
    for name in &names {
        let is_manifest = manifest.as_ref() == Some(name);
        if !(is_manifest || is_numbered(name, "log")) {
            continue;
        }
        let findings = framing::read(&dir.join(name), &mut |_| {})
            .map_err(|source| file_error("read", &dir.join(name), source))?;
        if findings.torn > 0 && !is_manifest {
            found.torn.push(TornWrite {
                file: name.clone(),
                bytes: findings.torn,
            });
        }
        found
            .damage
            .extend(findings.damage.first().map(|first| Error::Damaged {
                path: dir.to_owned(),
                what: if is_manifest {
                    "manifest record"
                } else {
                    "log entry"
                },
                file: name.clone(),
                at: first.at,
                reason: first.reason,
            }));
    }
    found.manifest = manifest;
    Ok(found)
}

/// Names of the files in `dir`, in order.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = |source| file_error("list", dir, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        // RocksDB's names are all ASCII.
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// True for `NUMBER.extension`.
pub(crate) fn is_numbered(name: &str, extension: &str) -> bool {
    name.strip_suffix(extension)
        .and_then(|name| name.strip_suffix('.'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The manifest that counts; none where there is no database yet.
///
/// RocksDB takes a directory without [`HEAD`] for a new one, makes an empty database in it and removes the files that it does
/// not know: all of the data. A directory that a crash left while it was made has neither tables nor logs yet.
fn manifest(dir: &Path, names: &[String]) -> Result<Option<String>> {
    let head = dir.join(HEAD);
    if !names.iter().any(|name| name == HEAD) {
        let data = names.iter().find(|name| {
            is_numbered(name, "sst") || is_numbered(name, "log") || replace::STAGES.contains(&name.as_str())
        });
        return data.map_or(Ok(None), |file| {
            Err(Error::Headless {
                path: dir.to_owned(),
                file: PathBuf::from(file),
            })
        });
    }
    let content = std::fs::read(&head).map_err(|source| file_error("read", &head, source))?;
    let named = std::str::from_utf8(&content).ok().and_then(|text| {
        let name = text.strip_suffix('\n')?;
        let number = name.strip_prefix("MANIFEST-")?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.to_owned())
    });
    let named = named.filter(|name| names.contains(name));
    named.map(Some).ok_or_else(|| Error::Damaged {
        path: dir.to_owned(),
        what: "name of the manifest",
        file: HEAD.to_owned(),
        at: 0,
        reason: "there is no such file",
    })
}

pub(crate) fn file_error(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
