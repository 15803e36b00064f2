//! What becomes of a node whose `raft/` or `raft.trial/` is damaged: it does not start, and says how it gets back.
//!
//! It may have voted, or acknowledged an entry, by what is lost. If it went on from the rest it might help to elect a leader without that entry,
//! so that the entry is gone although a majority had it. A node that comes without the folder is safe: it has another life, which the
//! others let vote only when it has got everything from them. That is not done without being asked, because of who else may be away: if
//! a majority comes up without its folders while the node that still has all is slow to start, the cluster would begin anew from
//! `cluster.yaml` after a while ([`crate::machine::entrance::Row::FoundsByMajority`]). Whoever moves the folder knows what else is down.
//!
//! Before it says anything the note is made true: a life that is over must not be gone on with after the folder has been moved.

use std::path::Path;

use super::disk::write_note;
use crate::home::{Home, free_path};
use crate::identity::NodeId;
use crate::machine::entrance::Note;
use crate::raft::disk::{Disk, DiskError};

/// Why a node with this `raft/` does not start.
pub(super) fn refuse_log(home: &Home, me: NodeId, note: Note, error: DiskError) -> anyhow::Error {
    // One that cannot be read is there all the same.
    let has_trial = !matches!(Disk::look(&home.trial()), Ok(None));
    refuse(
        home,
        me,
        note.clone(),
        note.without_log(has_trial),
        &home.raft(),
        error,
    )
}

/// Why a node with this `raft.trial/` does not start.
pub(super) fn refuse_trial(home: &Home, me: NodeId, note: Note, error: DiskError) -> anyhow::Error {
    refuse(home, me, note.clone(), note.without_trial(), &home.trial(), error)
}

fn refuse(
    home: &Home,
    me: NodeId,
    before: Note,
    after: Note,
    folder: &Path,
    error: DiskError,
) -> anyhow::Error {
    if !matches!(error, DiskError::Damaged { .. }) {
        return error.into();
    }
    if after != before
        && let Err(error) = write_note(home, &after)
    {
        return error;
    }
    let mut aside = folder.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = free_path(Path::new(&aside));
    let command = format!("mv {} {}", folder.display(), aside.display());
    let is_alone = home.read_cluster().ok().flatten().is_some_and(|document| {
        !document.peers.is_empty() && document.peers.iter().all(|peer| peer.node_id == me)
    });
    let how = if is_alone {
        format!(
            "no other node has it; type {command} and start qu again: it begins anew from cluster.yaml, \
             without the outages under way, acknowledgements and messages that it had yet to send"
        )
    } else {
        format!(
            "while a majority of the cluster runs, type {command} and start qu again: \
             it comes back as a new member and the others send it everything"
        )
    };
    anyhow::anyhow!(
        "{error}; it may have been what this node promised to others, so it does not go on from the rest; {how}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use consensus::{Entry, HardState, Kind, Snapshot, Term};

    use super::super::{boot, disk::read_note, known_as};
    use super::*;
    use crate::machine::entrance::{Content, Digest, Founding, Group, Incarnation, Standing};
    use crate::machine::state::State;

    fn trial(me: NodeId) -> Standing {
        Standing::Trial(Founding {
            group: Group { generation: 2, id: 5 },
            founder: known_as(NodeId::draw()),
            members: BTreeMap::from([(known_as(me), Incarnation(7))]),
            digest: Digest([0; 32]),
            content: Content::File,
            version: 3,
            base: None,
        })
    }

    /// A node on trial, with an entry in the new group's log.
    fn home_on_trial(me: NodeId) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let life = HardState::new(consensus::Incarnation(7), true);
        Disk::create(
            &home.trial(),
            (2, 5),
            &Snapshot::default(),
            &State::default(),
            &life,
        )
        .unwrap();
        let note = Note {
            standing: trial(me),
            generation: 2,
        };
        write_note(&home, &note).unwrap();
        (dir, home)
    }

    fn append(home: &Home) {
        let mut disk = Disk::open(&home.trial()).unwrap().unwrap().disk;
        let entry = Entry {
            index: disk.last().index + 1,
            term: Term(1),
            kind: Kind::Blank,
            payload: bytes::Bytes::new(),
        };
        disk.write(&[entry], None).unwrap();
    }

    #[test]
    fn a_trial_that_lost_its_end_is_over_and_one_that_was_cut_off_is_not() {
        let me = NodeId::draw();
        let (dir, home) = home_on_trial(me);
        append(&home);
        let log = home.trial().join("log");
        let synced = std::fs::read(home.trial().join("synced")).unwrap();
        let length = std::fs::metadata(&log).unwrap().len();
        let cut = || {
            std::fs::OpenOptions::new()
                .write(true)
                .open(&log)
                .unwrap()
                .set_len(length + 3)
        };

        // A crash before the sync: nobody was told.
        append(&home);
        cut().unwrap();
        std::fs::write(home.trial().join("synced"), &synced).unwrap();
        let known = boot(&home, me, None).unwrap();
        assert_eq!(known.trial.unwrap().last.index, 1);
        assert_eq!(known.note.standing, trial_of(&home));

        // The same after it.
        append(&home);
        cut().unwrap();
        let told = boot(&home, me, None).unwrap_err().to_string();
        let folder = home.trial().display().to_string();
        let why = format!("{folder}/log is damaged at byte {length}: the last ");
        let how =
            format!("type mv {folder} {folder}.damaged and start qu again: it comes back as a new member");
        assert!(told.starts_with(&why) && told.contains(&how), "{told}");
        assert_eq!(
            std::fs::metadata(&log).unwrap().len(),
            length + 3,
            "it is left as it is"
        );
        assert_eq!(trial_of(&home), Standing::Left);

        std::fs::rename(&folder, format!("{folder}.damaged")).unwrap();
        let known = boot(&home, me, None).unwrap();
        assert_eq!((known.note.standing, known.trial), (Standing::Left, None));
        drop(dir);
    }

    fn trial_of(home: &Home) -> Standing {
        read_note(&home.note()).unwrap().standing
    }
}
