//! Crashes between any two steps of an installation, and between any two of doing it again.
//!
//! A crash is the data directory as it is at one instant, copied while the database is open: what is only in memory is lost.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use consensus::{Configuration, Entry, Incarnation, Kind, NodeId, Term};

use super::*;
use crate::log::Log;
use crate::state_machine::Committed;
use crate::wire::etcdserverpb::{LeaseGrantRequest, PutRequest};
use crate::wire::logpb::Command;
use crate::wire::logpb::command::Request;

type Content = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Everything in a database but the log and what belongs to the node.
fn state(store: &Store) -> Content {
    let mut content = Content::new();
    for family in STATE.iter().chain(&[family::META]) {
        let mut cursor = store.cursor(family, None, None);
        cursor.seek_to_first();
        while let Some((key, value)) = cursor.entry() {
            if *family != family::META || is_state(key) {
                content.insert((*family, key.to_vec()), value.to_vec());
            }
            cursor.next();
        }
        cursor.check().unwrap();
    }
    content
}

fn open(path: &Path) -> Arc<Store> {
    Arc::new(Store::open(path, &Options::default(), family::ALL).unwrap())
}

/// A node that has applied a log of `entries` puts, and a lease, in `term`.
fn play(path: &Path, term: u64, value: &str, entries: u64) -> (Arc<Store>, HardState) {
    let store = open(path);
    let mut batch = store.batch();
    batch.put(family::META, b"identity", path.as_os_str().as_encoded_bytes());
    store.write(batch, Durability::Synced).unwrap();
    let machine = StateMachine::load(store.clone()).unwrap();
    let mut log = Log::open(store.clone(), 0).unwrap();
    let mut hard_state = HardState::new(Incarnation(term), false);
    hard_state.term = Term(term);
    hard_state.commit = entries;
    let command = |index: u64| {
        let request = if index == 1 {
            Request::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 7 })
        } else {
            Request::Put(PutRequest {
                key: format!("key{:02}", index % 50).into(),
                value: format!("{value} {index}").into(),
                ..PutRequest::default()
            })
        };
        Command {
            internal: true,
            request: Some(request),
            ..Command::default()
        }
    };
    let written: Vec<Entry> = (1..=entries)
        .map(|index| Entry {
            index,
            term: Term(term),
            kind: Kind::Command,
            payload: Bytes::from_static(b"not read here"),
        })
        .collect();
    log.write(&written, Some(&hard_state)).unwrap();
    let committed = (1..=entries).map(|index| Committed {
        index,
        term,
        command: command(index),
    });
    machine.apply(committed, 0, &mut drop).unwrap();
    (store, hard_state)
}

type Listing = BTreeMap<PathBuf, (u64, SystemTime)>;

fn list(dir: &Path, into: &mut Listing) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            list(&entry.path(), into)?;
        }
        let length = if about.is_dir() { 0 } else { about.len() };
        into.insert(entry.path(), (length, about.modified()?));
    }
    Ok(())
}

/// Copies a data directory as of one instant: if anything in it changed meanwhile, the copy is made again.
fn copy(from: &Path, to: &Path) {
    for _ in 0..1000 {
        let attempt = || -> std::io::Result<bool> {
            let (mut before, mut after) = (Listing::new(), Listing::new());
            list(from, &mut before)?;
            std::fs::create_dir(to)?;
            for path in before.keys() {
                let target = to.join(path.strip_prefix(from).expect("it was listed there"));
                if path.is_dir() {
                    std::fs::create_dir(target)?;
                } else {
                    std::fs::copy(path, target)?;
                }
            }
            list(from, &mut after)?;
            Ok(before == after)
        };
        match attempt() {
            Ok(true) => return,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            // Files come and go in the background.
            _ if to.exists() => std::fs::remove_dir_all(to).unwrap(),
            _ => {}
        }
    }
    panic!("the directory never stood still");
}

/// A node that is to take over the state of another.
struct Case {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    old: Content,
    old_hard_state: HardState,
    new: Content,
    base: Snapshot,
    hard_state: HardState,
    tables: PathBuf,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let (source, _) = play(&dir.path().join("source"), 3, "new", 300);
        source.checkpoint(&dir.path().join("checkpoint")).unwrap();
        let data = dir.path().join("data");
        let (store, old_hard_state) = play(&data, 1, "old", 90);
        // Some of the old state is on disk and some is not.
        store.flush().unwrap();
        let mut batch = store.batch();
        batch.put(family::KEY, b"only in memory", b"old");
        store.write(batch, Durability::Volatile).unwrap();
        let tables = data.join("snapshot-3-300.tables");
        prepare(&dir.path().join("checkpoint"), &tables).unwrap();
        let mut hard_state = HardState::new(Incarnation(1), false);
        (hard_state.term, hard_state.commit) = (Term(4), 300);
        Case {
            old: state(&store),
            old_hard_state,
            new: state(&source),
            base: Snapshot {
                position: Position {
                    term: Term(3),
                    index: 300,
                },
                configuration: Configuration::of_voters([(NodeId(1), Incarnation(1), Bytes::new())]),
            },
            hard_state,
            tables,
            store,
            dir,
        }
    }

    fn installation(&self) -> Installation<'_> {
        Installation {
            base: &self.base,
            hard_state: &self.hard_state,
            from: Some(&self.tables),
        }
    }

    /// A start in `data` finds the new state and a log that goes on after it, and nothing is left to do.
    fn check_new(&self, data: &Path, after: &str) {
        let store = open(data);
        finish_interrupted(&store).unwrap_or_else(|error| panic!("{after}: {error}"));
        assert_eq!(store.get(family::HARD, MARK).unwrap().as_deref(), None, "{after}");
        assert!(state(&store) == self.new, "{after}: the state differs");
        let machine = StateMachine::load(store.clone()).unwrap();
        assert_eq!(machine.mvcc.applied_index(), 300, "{after}");
        assert!(machine.lessor.lock().contains(7), "{after}");
        let log = Log::open(store.clone(), 300).unwrap();
        assert_eq!(
            (log.first(), log.last(), log.base()),
            (301, 300, &self.base),
            "{after}"
        );
        assert_eq!(
            log.hard_state().unwrap().as_ref(),
            Some(&self.hard_state),
            "{after}"
        );
        let own = store.get(family::META, b"identity").unwrap();
        let expected = self.dir.path().join("data");
        assert_eq!(
            own.as_deref(),
            Some(expected.as_os_str().as_encoded_bytes()),
            "{after}"
        );
    }
}

#[test]
fn a_crash_between_any_two_steps_leaves_the_old_state_or_the_new_one() {
    let case = Case::new();
    let images = case.dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let data = case.store.path();
    let before = images.join("before");
    copy(data, &before);
    let mut steps = Vec::new();
    install(&case.store, &case.installation(), &mut |step| {
        copy(data, &images.join(steps.len().to_string()));
        steps.push(step);
    })
    .unwrap();
    assert!(!case.tables.exists());
    assert_eq!((steps[0], steps.len()), (Step::Marked, 6 + STATE.len()));
    case.check_new(&images.join((steps.len() - 1).to_string()), "all");

    // Before the mark nothing has happened: what was in memory comes back from the log.
    let store = open(&before);
    finish_interrupted(&store).unwrap();
    let mut old = case.old.clone();
    old.remove(&(family::KEY, b"only in memory".to_vec()));
    assert!(state(&store) == old);
    let log = Log::open(store, 90).unwrap();
    assert_eq!((log.first(), log.last()), (1, 90));
    assert_eq!(log.hard_state().unwrap().as_ref(), Some(&case.old_hard_state));
    drop(log);

    for (number, step) in steps.iter().enumerate() {
        let image = images.join(number.to_string());
        // The next start crashes as well, at each of its steps.
        let again = images.join("again");
        copy(&image, &again);
        let store = open(&again);
        let mut twice = Vec::new();
        do_again(&store, &mut |then| {
            let to = images.join(format!("{number}-{}", twice.len()));
            copy(&again, &to);
            twice.push((then, to));
        })
        .unwrap();
        drop(store);
        std::fs::remove_dir_all(&again).unwrap();
        let is_done = matches!(step, Step::Switched | Step::Removed);
        assert_eq!(twice.is_empty(), is_done, "{step:?}");
        for (then, image) in twice {
            case.check_new(&image, &format!("{step:?}, {then:?}"));
            std::fs::remove_dir_all(&image).unwrap();
        }
        if *step != Step::Removed {
            case.check_new(&image, &format!("{step:?}"));
        }
    }
}

#[test]
fn tables_that_are_gone_are_named_and_nothing_more_is_lost() {
    let case = Case::new();
    let image = case.dir.path().join("image");
    let data = case.store.path();
    install(&case.store, &case.installation(), &mut |step| {
        if step == Step::Marked {
            copy(data, &image);
        }
    })
    .unwrap();
    std::fs::remove_dir_all(image.join("snapshot-3-300.tables")).unwrap();
    let store = open(&image);
    let told = finish_interrupted(&store).unwrap_err().to_string();
    assert_eq!(
        told,
        "corrupted log entry, index=300, error=the snapshot that was being installed is gone"
    );
    assert_eq!(state(&store).len(), case.old.len() - 1);
}

#[test]
fn a_discarded_state_is_gone_whenever_the_crash_comes() {
    let case = Case::new();
    let data = case.store.path();
    let nothing = Snapshot::default();
    let installation = Installation {
        base: &nothing,
        hard_state: &case.hard_state,
        from: None,
    };
    let mut images = Vec::new();
    install(&case.store, &installation, &mut |_| {
        let image = case.dir.path().join(format!("image{}", images.len()));
        copy(data, &image);
        images.push(image);
    })
    .unwrap();
    for image in images {
        let store = open(&image);
        finish_interrupted(&store).unwrap();
        assert!(state(&store).is_empty());
        let log = Log::open(store, 0).unwrap();
        assert_eq!((log.first(), log.last()), (1, 0));
        assert_eq!(log.hard_state().unwrap().as_ref(), Some(&case.hard_state));
    }
}

#[test]
fn half_prepared_tables_are_not_taken_for_whole_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = play(&dir.path().join("source"), 3, "new", 10);
    let checkpoint = dir.path().join("checkpoint");
    source.checkpoint(&checkpoint).unwrap();
    let tables = dir.path().join("snapshot-3-10.tables");
    let part = dir.path().join("snapshot-3-10.part");
    std::fs::create_dir(&part).unwrap();
    std::fs::write(part.join("key.table"), b"cut sh").unwrap();
    std::fs::remove_file(checkpoint.join("CURRENT")).unwrap();
    assert!(prepare(&checkpoint, &tables).is_err());
    assert!(!tables.exists());
    std::fs::remove_dir_all(&checkpoint).unwrap();
    source.checkpoint(&checkpoint).unwrap();
    prepare(&checkpoint, &tables).unwrap();
    assert!(tables.join("key.table").exists() && !part.exists());
}
