//! What the start-up decision reads from the disk and has done there: facts, the note, folders that are made, moved and put aside.
//!
//! Every step can be repeated after a crash; in which order they are taken is decided elsewhere.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use consensus::{Configuration, HardState, Kind, Snapshot};

use super::super::file::written::{Seen, Written, carry_over, version_of};
use super::super::shared::Shared;
use super::{damage, known_as, name, names_of};
use crate::document::{self, Digest, Document};
use crate::home::{Home, free_path, write};
use crate::identity::NodeId;
use crate::machine::command::Command;
use crate::machine::entrance::{
    self as entrance, Boot, Content, Directory, Extent, FileFacts, Founding, Group, Note, RaftFacts, Standing,
};
use crate::machine::state::State;
use crate::raft::disk::{Disk, DiskError, Loaded, sync_dir};
use crate::secret::random;

/// Reads all that decides from the disk. A file that makes no sense is a mistake of whoever starts the daemon; once the daemon runs, it is an
/// edit that cannot be applied, and the configuration that was `known` counts.
///
/// # Errors
/// The disk, or damage.
pub fn boot(home: &Home, me: NodeId, known: Option<&Document>) -> anyhow::Result<Boot> {
    let note = read_note(&home.note())?;
    let raft = match Disk::open(&home.raft()) {
        Ok(None) => Directory::Absent,
        Ok(Some(loaded)) => Directory::Present(facts(&loaded, false)),
        Err(DiskError::Newer { .. }) => Directory::Newer,
        Err(error) => return Err(damage::refuse_log(home, me, note, error)),
    };
    let is_founder = matches!(&note.standing, Standing::Trial(founding) if founding.founder == known_as(me));
    let trial = match Disk::open(&home.trial()) {
        Ok(trial) => trial.map(|loaded| facts(&loaded, is_founder)),
        Err(error) => return Err(damage::refuse_trial(home, me, note, error)),
    };
    let genuine = matches!(raft, Directory::Present(_));
    let file = match (read_file(home, genuine), known) {
        (Err(_), Some(known)) => Ok(match &raft {
            // As if nobody had touched it.
            Directory::Present(facts) => FileFacts {
                version: facts.version,
                digest: facts.digest,
                peers: facts.voters.keys().copied().collect(),
                as_written: true,
                is_edit: false,
            },
            _ => file_facts(known, false),
        }),
        (file, _) => file,
    };
    Ok(Boot {
        node: known_as(me),
        note,
        raft,
        trial,
        file,
    })
}

/// The configuration of this node if its file is what it wrote last itself, and longer than what is read: an older program had no limit.
///
/// # Errors
/// The disk, or damage.
pub fn too_large_to_read(home: &Home) -> anyhow::Result<Option<Document>> {
    let written = Written::load(&home.raft());
    let Some(text) = written.standing(home) else {
        return Ok(None);
    };
    // What is wrong with it is told by whoever needs it.
    let Ok(Some(loaded)) = Disk::open(&home.raft()) else {
        return Ok(None);
    };
    let state = replay(&loaded, loaded.disk.hard_state().commit);
    tracing::warn!(
        target: "quptime",
        "cluster.yaml has {} bytes; at most {} are read: it was written by an older qu, and the configuration is taken from raft/ instead; shorten texts or remove entries until it takes less than {}",
        text.len(), document::parse::BYTES_MAX, document::size::WRITTEN_MAX
    );
    Ok(Some(Document::clone(&state.document)))
}

fn read_file(home: &Home, genuine: bool) -> Result<FileFacts, String> {
    let text = home.read_cluster_text().map_err(|error| error.to_string())?;
    let Some(text) = text else {
        // A file that is missing is a placeholder.
        return Ok(file_facts(&Document::default(), false));
    };
    let document = document::parse(&text);
    let document = document.map_err(|mistake| format!("{}: {mistake}", home.cluster_file().display()))?;
    let written = if genuine {
        Written::load(&home.raft())
    } else {
        Written::default()
    };
    let texts = Seen::load(&home.raft());
    let seen = texts.of(document.version).filter(|_| genuine);
    let newest = written
        .newest()
        .filter(|text| version_of(text) == Some(document.version));
    let is_edit = !written.is(&text) && (newest.is_some() || seen.is_some_and(|seen| seen != text));
    Ok(FileFacts {
        is_edit,
        ..file_facts(&document, written.is(&text))
    })
}

/// What the placeholder says that this node has just written.
pub fn placeholder_facts(placeholder: &Document) -> FileFacts {
    file_facts(placeholder, false)
}

pub(super) fn file_facts(document: &Document, as_written: bool) -> FileFacts {
    FileFacts {
        version: document.version,
        digest: entrance::Digest(Digest::of(document).0),
        peers: document.peers.iter().map(|peer| known_as(peer.node_id)).collect(),
        as_written,
        is_edit: false,
    }
}

/// What a folder that is not in use holds. `founder`: whether this node wrote its first entry.
fn facts(loaded: &Loaded, founder: bool) -> RaftFacts {
    let disk = &loaded.disk;
    let (base, last) = (disk.base().position, disk.last());
    let hard = disk.hard_state();
    let state = replay(loaded, hard.commit);
    let names = names_of(&state.document);
    let voters = disk.newest_configuration();
    RaftFacts {
        group: Group {
            generation: loaded.meta.generation,
            id: loaded.meta.group,
        },
        incarnation: entrance::Incarnation(hard.incarnation.0),
        voters: voters
            .voters()
            .map(|(node, life)| (name(&names, node), entrance::Incarnation(life.0)))
            .collect(),
        last: entrance::Position {
            term: last.term.0,
            index: last.index,
        },
        beyond_founding: if founder {
            last.index > base.index + 1
        } else {
            last.index > 0
        },
        recovering: hard.recovering,
        version: state.document.version,
        digest: entrance::Digest(Digest::of(&state.document).0),
    }
}

/// The state after the entries up to `until`.
fn replay(loaded: &Loaded, until: u64) -> State {
    let mut state = loaded.state.clone();
    let commands = loaded
        .disk
        .entries()
        .filter(|entry| entry.index <= until && entry.kind == Kind::Command);
    for entry in commands {
        if let Ok(command) = Command::decode(&entry.payload) {
            state.apply(&command);
        }
    }
    state
}

pub(super) fn read_note(path: &Path) -> anyhow::Result<Note> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Note::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

pub(super) fn write_note(home: &Home, note: &Note) -> anyhow::Result<()> {
    let text = serde_json::to_vec(note).expect("a note consists of numbers and lists");
    write(&home.note(), &text).map_err(Into::into)
}

/// The text that is there counts as written here, so it is written over.
pub(super) fn remember_as_written(home: &Home) -> anyhow::Result<()> {
    // What makes no sense stays, for its author to mend.
    if let Some(text) = readable(home)
        && document::parse(&text).is_ok()
        // A disk that is full need not be written to for what is known.
        && !Written::load(&home.raft()).is(&text)
    {
        Written::note(&home.raft(), text)?;
    }
    Ok(())
}

/// The text of the file; nothing if there is none, or something that cannot be read, which its keeper tells about.
fn readable(home: &Home) -> Option<String> {
    home.read_cluster_text().ok().flatten()
}

fn stamp(shared: &Shared) -> String {
    service::clock::utc_compact(shared.wall())
}

pub(super) fn keep_stale(shared: &Shared) -> anyhow::Result<()> {
    let Some(text) = readable(&shared.home) else {
        return Ok(());
    };
    let kept = shared.home.keep_beside("stale", shared.wall(), &text)?;
    tracing::warn!(target: "quptime", kept = %kept.display(), "cluster.yaml was older than the cluster and is replaced");
    // A node without memory takes the cluster's; with one, the text counts as written.
    if shared.home.raft().exists() {
        Written::note(&shared.home.raft(), text)?;
    }
    Ok(())
}

/// What is in `raft/` does not count and must not be in the way.
pub(super) fn set_aside(shared: &Shared) -> anyhow::Result<()> {
    let raft = shared.home.raft();
    if !raft.exists() {
        return Ok(());
    }
    let aside = free_path(&raft.with_file_name(super::orphans::name(&stamp(shared))));
    fs::rename(&raft, &aside).with_context(|| format!("move {} aside", raft.display()))?;
    sync_dir(shared.home.dir())?;
    Ok(())
}

pub(super) fn adopt(shared: &Shared) -> anyhow::Result<()> {
    let trial = shared.home.trial();
    if !trial.exists() {
        return Ok(());
    }
    // The file that all agreed on is no edit of what came of it; one that was changed meanwhile is, and its author saw what was written last.
    let note = read_note(&shared.home.note())?;
    let document = readable(&shared.home).and_then(|text| document::parse(&text).ok());
    let agreed = matches!((note.standing, document), (Standing::Trial(founding), Some(document))
        if Digest::of(&document).0 == founding.digest.0);
    if !agreed {
        carry_over(&shared.home.raft(), &trial);
    }
    set_aside(shared)?;
    fs::rename(&trial, shared.home.raft()).with_context(|| format!("move {}", trial.display()))?;
    sync_dir(shared.home.dir())?;
    if agreed {
        remember_as_written(&shared.home)?;
    }
    Ok(())
}

pub(super) fn remove_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The founder's folder: it begins after a snapshot that holds all that the new group begins with, so whoever hears of the group's first
/// members from it has that as well.
pub(super) fn make_founders(shared: &Shared, founding: &Founding) -> anyhow::Result<()> {
    let before = Disk::open(&shared.home.raft())?;
    let before = before.map(|loaded| replay(&loaded, u64::MAX));
    let state = match (founding.content, before) {
        (Content::Log, Some(before)) => before,
        (Content::Log | Content::File, before) => {
            let mut document = shared.home.read_cluster()?.unwrap_or_default();
            document.version = founding.version;
            let cluster = format!("{:032x}", u128::from_be_bytes(random::<16>()));
            State::begun(document, cluster, before)
        }
    };
    let Extent { last, .. } = founding.base.unwrap_or(Extent {
        group: founding.group,
        last: entrance::Position { term: 1, index: 1 },
    });
    let base = Snapshot {
        position: consensus::Position {
            term: consensus::Term(last.term.max(1)),
            index: last.index.max(1),
        },
        configuration: Configuration::default(),
    };
    let life = founding
        .members
        .get(&founding.founder)
        .context("a founding names its founder")?;
    let hard = HardState {
        term: base.position.term,
        commit: base.position.index,
        ..HardState::new(consensus::Incarnation(life.0), false)
    };
    let group = (founding.group.generation, founding.group.id);
    Disk::create(&shared.home.trial(), group, &base, &state, &hard)?;
    Ok(())
}

pub(super) fn make_followers(shared: &Shared, founding: &Founding) -> anyhow::Result<()> {
    let life = founding
        .members
        .get(&known_as(shared.me))
        .context("a founding names who follows")?;
    let hard = HardState::new(consensus::Incarnation(life.0), true);
    let group = (founding.group.generation, founding.group.id);
    Disk::create(
        &shared.home.trial(),
        group,
        &Snapshot::default(),
        &State::default(),
        &hard,
    )?;
    Ok(())
}
