//! Archives that `backup --dir` names after the time, and which of them `--keep` removes.
//!
//! The names sort by time. A file with another name is never touched.

use std::path::{Path, PathBuf};

use crate::client::failure::{Failure, Result, system};

const BEFORE: &str = "chainfire-";
const AFTER: &str = "Z.tar.gz";

/// `chainfire-20260131T235959Z.tar.gz`
pub(super) fn name(unix_ms: u64) -> String {
    format!("{BEFORE}{}.tar.gz", service::clock::utc_compact(unix_ms))
}

fn is_ours(name: &str) -> bool {
    let time = name
        .strip_prefix(BEFORE)
        .and_then(|rest| rest.strip_suffix(AFTER));
    time.and_then(|time| time.split_once('T'))
        .is_some_and(|(day, second)| {
            let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
            digits(day, 8) && digits(second, 6)
        })
}

/// Removes all but the newest `keep` and gives what it removed.
pub(super) fn remove_oldest(dir: &Path, keep: usize) -> Result<Vec<PathBuf>> {
    let refuse = |operation: &str, path: &Path, error: &std::io::Error| {
        Failure::refused(format!("{operation} {}: {}", path.display(), system(error)))
    };
    let entries = std::fs::read_dir(dir).map_err(|error| refuse("list", dir, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| refuse("list", dir, &error))?;
        if let Ok(name) = entry.file_name().into_string()
            && is_ours(&name)
        {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(names.len().saturating_sub(keep));
    let mut removed = Vec::new();
    for name in names {
        let path = dir.join(name);
        std::fs::remove_file(&path).map_err(|error| refuse("remove old backup", &path, &error))?;
        removed.push(path);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_archives_named_after_a_time_are_ours() {
        assert_eq!(name(1_700_000_000_123), "chainfire-20231114T221320Z.tar.gz");
        assert!(is_ours(&name(0)) && is_ours(&name(1_700_000_000_123)));
        for other in [
            "chainfire-before-upgrade.tar.gz",
            "chainfire-20231114T221320Z.tar",
            "chainfire-20231114T22132Z.tar.gz",
            "chainfire-2023111xT221320Z.tar.gz",
            ".chainfire-20231114T221320Z.tar.gz.part-7",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn the_newest_are_kept_and_strangers_too() {
        let dir = tempfile::tempdir().unwrap();
        let day = 86_400_000;
        for n in [3, 1, 4, 2, 0] {
            std::fs::write(dir.path().join(name(n * day)), b"").unwrap();
        }
        std::fs::write(dir.path().join("chainfire-manual.tar.gz"), b"").unwrap();
        let removed = remove_oldest(dir.path(), 2).unwrap();
        let oldest: Vec<PathBuf> = (0..3).map(|n| dir.path().join(name(n * day))).collect();
        assert_eq!(removed, oldest);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(remove_oldest(dir.path(), 2).unwrap().is_empty());
    }
}
