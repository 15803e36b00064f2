//! What is there after a start, also after a start that follows a crash or damage.

use bytes::Bytes;
use consensus::Incarnation;

use super::*;

fn hard(term: u64) -> HardState {
    HardState {
        term: Term(term),
        ..HardState::new(Incarnation(9), false)
    }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index,
        term: Term(term),
        kind: Kind::Command,
        payload: Bytes::from(format!("entry {index} of {term}")),
    }
}

struct Folder {
    _parent: tempfile::TempDir,
    dir: PathBuf,
}

fn folder() -> Folder {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("raft");
    Folder { _parent: parent, dir }
}

fn made(dir: &Path, group: u64) -> Disk {
    Disk::create(dir, (1, group), &Snapshot::default(), &State::default(), &hard(0)).unwrap();
    reopen(dir).disk
}

fn reopen(dir: &Path) -> Loaded {
    Disk::open(dir).unwrap().unwrap()
}

#[test]
fn what_was_written_is_there() {
    let folder = folder();
    assert!(Disk::open(&folder.dir).unwrap().is_none());
    let mut disk = made(&folder.dir, 77);
    disk.write(&[entry(1, 1), entry(2, 1), entry(3, 1)], Some(&hard(1)))
        .unwrap();
    // Another leader replaces the last two.
    disk.write(&[entry(2, 2)], Some(&hard(2))).unwrap();
    drop(disk);
    let loaded = reopen(&folder.dir);
    assert_eq!(loaded.meta.group, 77);
    assert_eq!(loaded.disk.hard_state(), &hard(2));
    let entries: Vec<Entry> = loaded.disk.entries().cloned().collect();
    assert_eq!(entries, [entry(1, 1), entry(2, 2)]);
    assert_eq!(loaded.disk.term(2), Some(Term(2)));
    assert_eq!(loaded.disk.term(3), None);
}

#[test]
fn an_append_that_was_cut_off_is_forgotten_at_every_length() {
    let folder = folder();
    let mut disk = made(&folder.dir, 1);
    disk.write(&[entry(1, 1)], None).unwrap();
    let whole = disk.log_bytes();
    // The crash comes before the append is synced.
    let synced = fs::read(folder.dir.join("synced")).unwrap();
    disk.write(&[entry(2, 1)], None).unwrap();
    let path = folder.dir.join("log");
    let content = fs::read(&path).unwrap();
    for length in whole..content.len() as u64 {
        fs::write(&path, &content[..length as usize]).unwrap();
        fs::write(folder.dir.join("synced"), &synced).unwrap();
        let mut loaded = reopen(&folder.dir);
        assert_eq!(loaded.disk.last().index, 1, "cut to {length}");
        // And what is appended afterwards can be read.
        loaded.disk.write(&[entry(2, 5)], None).unwrap();
        assert_eq!(reopen(&folder.dir).disk.last(), entry(2, 5).position());
    }
}

#[test]
fn damage_in_the_middle_is_told_and_never_read_over() {
    let folder = folder();
    let mut disk = made(&folder.dir, 1);
    disk.write(&[entry(1, 1)], None).unwrap();
    disk.write(&[entry(2, 1)], None).unwrap();
    let path = folder.dir.join("log");
    let content = fs::read(&path).unwrap();
    for position in 0..content.len() {
        let mut damaged = content.clone();
        damaged[position] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        match Disk::open(&folder.dir) {
            Err(DiskError::Damaged { path: named, at, .. }) => {
                assert_eq!(named, path);
                assert!(at <= position as u64, "byte {position}, told as {at}");
            }
            other => panic!("byte {position}: {other:?}"),
        }
    }
}

#[test]
fn an_end_that_was_synced_and_is_gone_is_told() {
    let folder = folder();
    let mut disk = made(&folder.dir, 1);
    disk.write(&[entry(1, 1)], None).unwrap();
    let whole = disk.log_bytes();
    disk.write(&[entry(2, 1)], Some(&hard(3))).unwrap();
    let path = folder.dir.join("log");
    let content = fs::read(&path).unwrap();
    for length in whole..content.len() as u64 {
        fs::write(&path, &content[..length as usize]).unwrap();
        match Disk::open(&folder.dir) {
            Err(DiskError::Damaged { at, .. }) => assert!((whole..=length).contains(&at), "cut to {length}"),
            other => panic!("cut to {length}: {other:?}"),
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), length, "it is left as it is");
    }
    fs::write(&path, &content).unwrap();
    assert_eq!(reopen(&folder.dir).disk.last().index, 2);
    // A log that took the place of a longer one has lost nothing, also if the crash came right then.
    let before = fs::read(folder.dir.join("synced")).unwrap();
    let snapshot = Snapshot {
        position: entry(2, 1).position(),
        configuration: Configuration::default(),
    };
    let mut disk = reopen(&folder.dir).disk;
    disk.rebase(&snapshot, &State::default(), &hard(3), false)
        .unwrap();
    fs::write(folder.dir.join("synced"), before).unwrap();
    drop(reopen(&folder.dir));
    // Without the file, or with half of it, nothing is known.
    for left in [&[1_u8, 2, 3][..], &[]] {
        fs::write(folder.dir.join("synced"), left).unwrap();
        drop(reopen(&folder.dir));
    }
}

#[test]
fn a_copied_folder_counts_as_absent() {
    let folder = folder();
    drop(made(&folder.dir, 1));
    let copy = folder.dir.with_file_name("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&folder.dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    fs::rename(&folder.dir, folder.dir.with_file_name("gone")).unwrap();
    fs::rename(&copy, &folder.dir).unwrap();
    assert!(Disk::open(&folder.dir).unwrap().is_none());
}

#[test]
fn a_snapshot_replaces_the_log() {
    let folder = folder();
    let mut disk = made(&folder.dir, 1);
    disk.write(&[entry(1, 1), entry(2, 1), entry(3, 1)], Some(&hard(1)))
        .unwrap();
    let state = State {
        cluster: "k".to_owned(),
        ..State::default()
    };
    let snapshot = Snapshot {
        position: entry(2, 1).position(),
        configuration: Configuration::default(),
    };
    disk.rebase(&snapshot, &state, &hard(1), true).unwrap();
    drop(disk);
    let mut loaded = reopen(&folder.dir);
    assert_eq!(loaded.state, state);
    assert_eq!(loaded.disk.base(), &snapshot);
    assert_eq!(loaded.disk.entries().cloned().collect::<Vec<_>>(), [entry(3, 1)]);
    // A snapshot of a leader whose log is another: nothing of the own log stays.
    let other = Snapshot {
        position: entry(9, 4).position(),
        configuration: Configuration::default(),
    };
    loaded
        .disk
        .rebase(&other, &State::default(), &hard(4), false)
        .unwrap();
    let loaded = reopen(&folder.dir);
    assert_eq!(
        (loaded.disk.last(), loaded.state),
        (other.position, State::default())
    );
    let snapshots = fs::read_dir(&folder.dir)
        .unwrap()
        .filter(|file| {
            file.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("snapshot-")
        })
        .count();
    assert_eq!(snapshots, 1);
}

#[test]
fn every_part_that_is_missing_or_empty_is_told_by_name() {
    let folder = folder();
    let mut disk = made(&folder.dir, 1);
    disk.write(&[entry(1, 1), entry(2, 1)], None).unwrap();
    let snapshot = Snapshot {
        position: entry(1, 1).position(),
        configuration: Configuration::default(),
    };
    disk.rebase(&snapshot, &State::default(), &hard(1), true).unwrap();
    drop(disk);
    let told = || Disk::open(&folder.dir).unwrap_err().to_string();
    for (name, missing, empty) in [
        (
            "log",
            "byte 0: the file is missing",
            "byte 0: it does not begin like a log",
        ),
        (
            "snapshot-1-1",
            "byte 0: the file is missing",
            "byte 0: it ends there",
        ),
        ("meta", "", "byte 0: it is empty"),
    ] {
        let path = folder.dir.join(name);
        let content = fs::read(&path).unwrap();
        let text = |what: &str| format!("{} is damaged at {what}", path.display());
        fs::write(&path, "").unwrap();
        assert_eq!(told(), text(empty));
        fs::remove_file(&path).unwrap();
        if !missing.is_empty() {
            assert_eq!(told(), text(missing));
        }
        fs::write(&path, content).unwrap();
    }
    // An entry that is whole and cannot stand there.
    let mut file = OpenOptions::new()
        .append(true)
        .open(folder.dir.join("log"))
        .unwrap();
    let at = file.metadata().unwrap().len();
    let mut content = Vec::new();
    record::put(&mut content, record::KIND_ENTRY, |out| {
        out.put_u64(9);
        entry(9, 1).encode(out);
    });
    file.write_all(&content).unwrap();
    assert!(told().ends_with(&format!(
        "raft/log is damaged at byte {at}: entry 9 comes after entry 2"
    )));
}
