//! Finding and removing what a lab of machines has left behind after it was killed.
//!
//! Everything of such a lab is named `mainstay-PID-N`, PID being the program that made it. It is abandoned when that
//! program is gone and no lab on record uses the name (a detached lab outlives its maker).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{container, network};
use crate::pid::ProcessRef;
use crate::registry;
use crate::state::LabState;

/// Removes every abandoned lab and returns a line for each.
pub(crate) fn clear() -> Result<Vec<String>> {
    let mut used = BTreeSet::new();
    for dir in registry::all()? {
        // A state file of another version must not keep leftovers alive, nor its lab from being cleared.
        if let Ok(Some(state)) = LabState::read(&dir)
            && state.is_alive()
        {
            used.extend(state.network);
        }
    }
    let mut lines = vec![];
    for name in names()? {
        let abandoned =
            maker(&name).is_some_and(|pid| ProcessRef::of(pid).is_none()) && !used.contains(&name);
        if abandoned {
            // Whoever starts a lab is not to blame for another one, and its name is free whatever is left of that.
            lines.push(match remove(&name) {
                Ok(()) => format!("removed machines left over from lab {name}"),
                Err(error) => {
                    format!("cannot remove all that is left over from lab {name}, going on: {error:#}")
                }
            });
        }
    }
    Ok(lines)
}

/// PID of `mainstay-PID-N`.
fn maker(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix("mainstay-")?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// Names of all labs that have a network namespace or a mount.
fn names() -> Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = mounts()?.into_iter().map(|(name, _)| name).collect();
    if let Ok(entries) = std::fs::read_dir("/run/netns") {
        names.extend(
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok()),
        );
    }
    names.retain(|name| maker(name).is_some());
    Ok(names)
}

/// Source and place of every overlay mount.
fn mounts() -> Result<Vec<(String, PathBuf)>> {
    let text = std::fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (source, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "overlay").then(|| (source.to_owned(), PathBuf::from(place)))
        })
        .collect())
}

/// Removes whatever carries the name of a lab.
pub(super) fn remove(name: &str) -> Result<()> {
    for supervisor in supervisors(name) {
        container::kill(supervisor)?;
    }
    let prefix = format!("{name}-");
    for root in container::control_group_roots() {
        for group in children(&root) {
            if group
                .file_name()
                .is_some_and(|group| group.to_string_lossy().starts_with(&prefix))
            {
                container::remove_groups(&group)?;
            }
        }
    }
    for (source, place) in mounts()? {
        if source == name {
            container::unmount_path(&place)?;
        }
    }
    network::delete(name)?;
    Ok(())
}

/// The nspawn processes of a lab, by the machine name on their command line.
fn supervisors(name: &str) -> Vec<ProcessRef> {
    let wanted = format!("--machine={name}-");
    children(Path::new("/proc"))
        .into_iter()
        .filter_map(|path| {
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            let words = std::fs::read(path.join("cmdline")).ok()?;
            let mut words = words.split(|&byte| byte == 0);
            let nspawn = words.next()?.ends_with(b"systemd-nspawn");
            (nspawn && words.any(|word| word.starts_with(wanted.as_bytes())))
                .then(|| ProcessRef::of(pid))
                .flatten()
        })
        .collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        assert_eq!(maker("mainstay-812-0"), Some(812));
        assert_eq!(maker("mainstay-812-0-node1"), None);
        assert_eq!(maker("mainstay-old"), None);
        assert_eq!(maker("docker-812-0"), None);
    }
}
