//! Folders of groups that this node has left, `raft.orphan-<time>`: the newest few are kept, for whoever wonders afterwards.
//!
//! Such a folder may hold what nobody else has until the node is in a group that runs and has got that group's state: a majority has begun
//! or gone on with it then, out of all that could be counted on. So nothing is removed before ([`super::Entry::look`] says when). What
//! people moved aside under other names is theirs.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that stay. Each may be as large as the state of a cluster.
pub(super) const KEPT: usize = 3;
const BEGINNING: &str = "raft.orphan-";

/// What a folder that is put aside at this time is called, unless there is one.
pub(super) fn name(stamp: &str) -> String {
    format!("{BEGINNING}{stamp}")
}

/// Removes all but the newest.
pub(super) fn sweep(home: &Path) {
    for folder in too_many(home) {
        match fs::remove_dir_all(&folder) {
            Ok(()) => tracing::info!(
                target: "quptime", folder = %folder.display(), kept = KEPT,
                "removed the folder of a group that this node has left; newer ones are kept"
            ),
            Err(error) => {
                tracing::warn!(target: "quptime", "remove {}: {error}", folder.display());
            }
        }
    }
}

fn too_many(home: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(home) else {
        return Vec::new();
    };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut orphans: Vec<_> = listing
        .flatten()
        .filter(is_folder)
        .filter_map(|entry| Some((age(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    orphans.sort();
    orphans.truncate(orphans.len().saturating_sub(KEPT));
    orphans.into_iter().map(|(_, path)| path).collect()
}

/// What orders the names: the time, and the number that tells folders of one second apart ([`crate::home::free_path`]).
fn age(name: &str) -> Option<(String, u32)> {
    let rest = name.strip_prefix(BEGINNING)?;
    let (stamp, number) = match rest.split_once('-') {
        None => (rest, 1),
        Some((stamp, number)) => (stamp, number.parse().ok()?),
    };
    let is_stamp = stamp.len() == "20260131T235959Z".len()
        && stamp.char_indices().all(|(at, letter)| match at {
            8 => letter == 'T',
            15 => letter == 'Z',
            _ => letter.is_ascii_digit(),
        });
    is_stamp.then(|| (stamp.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_other_names_are_nobodys_business() {
        let home = tempfile::tempdir().unwrap();
        let made = |name: &str| fs::create_dir(home.path().join(name)).unwrap();
        for name in [
            "raft.orphan-20260131T235959Z",
            "raft.orphan-20260131T235959Z-2",
            "raft.orphan-20260131T235959Z-10",
            "raft.orphan-20260201T000000Z",
            "raft.orphan-20251231T000000Z",
            "raft.orphan-keep",
            "raft.orphan-20200101T000000Z.bak",
            "raft.damaged",
            "raft",
        ] {
            made(name);
        }
        fs::write(home.path().join("raft.orphan-20200101T000000Z"), "a file").unwrap();
        let gone = |name: &str| home.path().join(name);
        assert_eq!(
            too_many(home.path()),
            [
                gone("raft.orphan-20251231T000000Z"),
                gone("raft.orphan-20260131T235959Z")
            ]
        );
        sweep(home.path());
        assert!(too_many(home.path()).is_empty());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 8);
    }
}
