//! A node that takes over the configuration of a cluster, and what people typed into its `cluster.yaml` meanwhile.
//!
//! The file of such a node is written over without being compared with anything: by a placeholder when the node keeps its promise to join,
//! and by the cluster's configuration when that comes. Somebody may have it open in an editor at that time, or an edit may be waiting in it.
//! **Invariant:** a text that this node did not write is kept beside the file before it is written over, and is told like any edit
//! that was refused.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::super::file::written::Written;
use super::super::shared::Shared;
use super::disk::{remove_dir, write_note};
use crate::document::{self, Digest, Document};
use crate::home::Home;
use crate::machine::Millis;
use crate::machine::entrance::Note;
use crate::raft::disk::sync_dir;

/// A promise that was kept.
#[derive(Debug)]
pub struct Kept {
    /// What the file says now, whatever becomes of it next.
    pub placeholder: Document,
    /// What was in the file and where it is now, if anybody typed it.
    pub refused: Option<String>,
}

/// A node that has promised to join a cluster leaves behind a placeholder that says whose group to look for, and no memory.
///
/// The promise is on disk before it is told, and every step can be repeated: with the promise gone, all of them are done.
///
/// # Errors
/// The disk.
pub fn keep_promise(home: &Home, wall: Millis) -> anyhow::Result<Option<Kept>> {
    let path = home.joining();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let placeholder = document::parse(&text).with_context(|| format!("understand {}", path.display()))?;
    let written = Written::load(&home.raft());
    let mut refused = None;
    loop {
        let mut stamp = home.cluster_stamp();
        if let Some(told) = keep_typed(home, wall, |text| written.is(text))? {
            refused = Some(told);
        }
        // What has been moved aside is no longer there.
        if home.read_cluster_text().is_ok_and(|text| text.is_none()) {
            stamp = None;
        }
        // Whoever saves it at this very moment is looked at once more.
        if home.write_cluster(&text, || home.cluster_stamp() == stamp)? {
            break;
        }
    }
    remove_dir(&home.raft())?;
    remove_dir(&home.trial())?;
    // Groups of another cluster are compared with nothing of this one.
    write_note(home, &Note::default())?;
    // A host that enrolled has come to where it wanted.
    for path in [home.enrolling(), path] {
        remove_file(&path)?;
    }
    sync_dir(home.dir())?;
    Ok(Some(Kept { placeholder, refused }))
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The folder of the group that this node enters has been made: what is in the file now will be written over when the state comes.
pub(super) fn entered(shared: &Shared) -> anyhow::Result<()> {
    // What the start-up decision has looked at, it has dealt with.
    let looked_at = Digest::of(&shared.document_at_start);
    keep_and_tell(shared, |text| {
        document::parse(text).is_ok_and(|document| Digest::of(&document) == looked_at)
    })?;
    super::disk::remember_as_written(&shared.home)
}

/// The text that is in the file is about to be written over.
pub(super) fn rewrite(shared: &Shared) -> anyhow::Result<()> {
    let facts = shared.entrance.lock().statement().data.map(|data| data.facts);
    // With a state, the start-up decision has compared the file with it.
    if facts.is_none_or(|facts| facts.version == 0) {
        let written = Written::load(&shared.home.raft());
        keep_and_tell(shared, |text| written.is(text))?;
    }
    super::disk::remember_as_written(&shared.home)
}

fn keep_and_tell(shared: &Shared, known: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    // What makes no sense stays in its place, for its author to mend.
    let makes_sense = |text: &str| document::parse(text).is_ok();
    let is_there = shared.home.read_cluster_text().ok().flatten();
    if is_there.is_some_and(|text| makes_sense(&text))
        && let Some(told) = keep_typed(&shared.home, shared.wall(), known)?
    {
        shared.file.lock().reject(told);
    }
    Ok(())
}

/// Keeps what somebody typed into the file: whatever this node neither knows nor could have written itself. Yields what is told.
fn keep_typed(home: &Home, wall: Millis, known: impl Fn(&str) -> bool) -> anyhow::Result<Option<String>> {
    let kept = match home.read_cluster_text() {
        Ok(None) => return Ok(None),
        Ok(Some(text)) if text.trim().is_empty() || is_bare(&text) || known(&text) => return Ok(None),
        Ok(Some(text)) => home.keep_beside("rejected", wall, &text)?,
        // No text, or nothing that could be one.
        Err(_) => home.move_beside("rejected", wall)?,
    };
    let told = format!(
        "this node has joined a cluster, whose configuration takes its place; the edit is kept in {}",
        kept.display()
    );
    tracing::error!(target: "quptime", "manual-edit: not applied: {told}");
    Ok(Some(told))
}

/// Whether a text is a placeholder as nodes write it: it lists peers and says nothing else.
fn is_bare(text: &str) -> bool {
    document::parse(text).is_ok_and(|document| {
        let bare = Document {
            peers: document.peers.clone(),
            ..Document::default()
        };
        document == bare && document::render(&bare) == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "version: 1\nresolvers: []\npeers: []\n";

    fn placeholder() -> String {
        document::render(&Document::default())
    }

    /// A node that wrote [`OWN`] and has promised to join.
    fn promised() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        fs::create_dir(home.raft()).unwrap();
        Written::note(&home.raft(), OWN.to_owned()).unwrap();
        fs::write(home.joining(), placeholder()).unwrap();
        (dir, home)
    }

    fn kept(home: &Home) -> Vec<std::path::PathBuf> {
        let files = fs::read_dir(home.dir()).unwrap().flatten();
        let is_kept =
            |path: &std::path::PathBuf| path.display().to_string().contains("cluster.yaml.rejected-");
        files.map(|file| file.path()).filter(is_kept).collect()
    }

    #[test]
    fn whatever_a_person_typed_is_kept_when_the_placeholder_is_written() {
        let edit = format!("{OWN}checks:\n  - name: one\n    type: tcp\n    target: h:1\n");
        let placeholder = placeholder();
        for (text, is_kept) in [
            (OWN, false),
            (placeholder.as_str(), false),
            ("", false),
            (edit.as_str(), true),
            ("version: 1\n\tnonsense", true),
            ("version: 0\nresolvers:\n  - 127.0.0.1:53\n", true),
            ("version: 0\n# typed\n", true),
        ] {
            let (_dir, home) = promised();
            fs::write(home.cluster_file(), text).unwrap();
            let promise = keep_promise(&home, 1_770_000_000_000).unwrap().unwrap();
            let found: Vec<String> = kept(&home)
                .iter()
                .map(|path| fs::read_to_string(path).unwrap())
                .collect();
            assert_eq!(found, if is_kept { vec![text] } else { vec![] }, "{text:?}");
            assert_eq!(promise.refused.is_some(), is_kept, "{text:?}");
            assert_eq!(fs::read_to_string(home.cluster_file()).unwrap(), placeholder);
            assert!(!home.raft().exists() && !home.joining().exists());
            assert!(keep_promise(&home, 0).unwrap().is_none(), "it is kept once");
        }
    }

    #[test]
    fn what_is_no_text_is_moved_out_of_the_way() {
        let (_dir, home) = promised();
        fs::create_dir(home.cluster_file()).unwrap();
        fs::write(home.cluster_file().join("notes"), "typed").unwrap();
        let promise = keep_promise(&home, 1_770_000_000_000).unwrap().unwrap();
        let moved = kept(&home).pop().unwrap();
        assert_eq!(fs::read_to_string(moved.join("notes")).unwrap(), "typed");
        assert!(promise.refused.unwrap().ends_with(&moved.display().to_string()));

        let (_dir, home) = promised();
        fs::write(home.cluster_file(), b"version: 1\n# \xff\n").unwrap();
        keep_promise(&home, 1_770_000_000_000).unwrap().unwrap();
        assert_eq!(
            fs::read(kept(&home).pop().unwrap()).unwrap(),
            b"version: 1\n# \xff\n"
        );
    }
}
