//! Every byte of every file of a small data directory is changed, one at a time, and the server started on it: it says what is
//! wrong and leaves everything as it is, or all that was acknowledged is there, exactly. Nothing in between.
//!
//! What is refused is then repaired: what is there afterwards is what was there at some moment, or the repair says that it is
//! not possible and has changed nothing.
//!
//! Damage in a table is not looked for at the start (there may be many gigabytes), so there a read may be what says it.
//!
//! An ordinary run takes some hundreds of the bytes; `MAINSTAY_DAMAGE=all` takes every one, those of logs and manifests in
//! two ways, and repairs some thousands.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chainfire::auth::Identity;
use chainfire::config::Config;
use chainfire::mvcc::family;
use chainfire::node::Node;
use chainfire::repair::{self, Outcome};
use chainfire::wire::etcdserverpb::alarm_request::AlarmAction;
use chainfire::wire::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
};
use chainfire::wire::logpb::command::Request;
use service::SystemClock;
use store::Store;

/// What is to be there: all of these families, and how far the state has got.
const CONTENT: [&str; 5] = [
    family::KEY,
    family::HIST,
    family::REV,
    family::LEASE,
    family::AUTH,
];

/// Revision, compaction point, alarms and entries.
type Content = (i64, i64, Vec<(u64, i32)>, Vec<(&'static str, Vec<u8>, Vec<u8>)>);

fn start(dir: &Path) -> Result<Arc<Node>, chainfire::node::StartError> {
    let mut config = Config::default();
    dir.clone_into(&mut config.storage.data_dir);
    // The beginning of the log is dropped as soon as there are tables.
    config.raft.snapshot_entries = 4;
    config.raft.snapshot_catchup_entries = 2;
    Node::start(config, SystemClock::shared(), Arc::new(|_| {}))
}

fn content(node: &Node) -> store::Result<Content> {
    let mut entries = Vec::new();
    for family in CONTENT {
        let mut cursor = Store::cursor(&node.store, family, None, None);
        cursor.seek_to_first();
        while let Some((key, value)) = cursor.entry() {
            entries.push((family, key.to_vec(), value.to_vec()));
            cursor.next();
        }
        cursor.check()?;
    }
    let mvcc = &node.machine.mvcc;
    let alarms = node.machine.alarms();
    let alarms = alarms
        .iter()
        .map(|alarm| (alarm.member_id, alarm.alarm))
        .collect();
    Ok((mvcc.revision(), mvcc.compacted(), alarms, entries))
}

fn put(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    })
}

/// Something of everything, with this lease, which is the revision of the compaction too: keys anew, again, gone and back, leases, an alarm, a compaction.
fn requests(name: &str, lease: i64) -> Vec<Request> {
    let mut requests = vec![
        Request::LeaseGrant(LeaseGrantRequest { id: lease, ttl: 4000 }),
        put(&format!("{name}/a"), "first", 0),
        put(&format!("{name}/b"), "hangs on a lease", lease),
        put(&format!("{name}/a"), "second", 0),
        Request::DeleteRange(DeleteRangeRequest {
            key: format!("{name}/a").into(),
            ..Default::default()
        }),
        Request::Alarm(AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: 9,
            alarm: AlarmType::Nospace as i32,
        }),
        Request::Alarm(AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: 9,
            alarm: AlarmType::Nospace as i32,
        }),
        Request::Compaction(CompactionRequest {
            revision: lease,
            physical: false,
        }),
    ];
    requests.extend((0..4).map(|n| put(&format!("{name}/{n}"), "value", 0)));
    requests
}

/// A directory to damage.
struct Form {
    name: &'static str,
    dir: tempfile::TempDir,
    /// What was there after each request; the last is what is to be there.
    moments: Vec<Content>,
}

impl Form {
    fn truth(&self) -> &Content {
        self.moments.last().unwrap()
    }
}

/// In memory where the machine allows, for there is nothing to be learnt from waiting for a disk.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Writes on `dir` until it looks as each form wants it, and copies it as it is at that moment, which is what a crash leaves.
async fn forms() -> Vec<Form> {
    let dir = directory();
    let mut forms = Vec::new();
    let mut node = start(dir.path()).unwrap();
    let mut moments = vec![content(&node).unwrap()];
    for (name, lease, stop) in [
        ("all in the log", 3, true),
        ("all in tables", 0, false),
        ("in both", 9, false),
    ] {
        if lease != 0 {
            for request in requests(name, lease) {
                node.propose(request, &Identity::nobody()).await.unwrap();
                moments.push(content(&node).unwrap());
            }
        }
        let image = directory();
        copy(dir.path(), image.path());
        forms.push(Form {
            name,
            dir: image,
            moments: moments.clone(),
        });
        if stop {
            node.stop().unwrap();
            drop(node);
            node = start(dir.path()).unwrap();
            node.stop().unwrap();
            drop(node);
            node = start(dir.path()).unwrap();
        }
    }
    forms
}

/// The files that hold data, and what is in them.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        // What RocksDB tells of itself, and what only serves to be locked.
        !name.starts_with("LOG") && name != "LOCK" && !name.starts_with("OPTIONS-")
    });
    paths
        .map(|path| {
            let content = std::fs::read(&path).unwrap();
            (PathBuf::from(path.file_name().unwrap()), content)
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Refused,
    ToldByARead,
    Harmless,
    RepairedWhole,
    RepairedInPart,
    BeyondRepair,
}

/// Repairs a copy of the form that differs in one byte, and judges what is there afterwards.
fn mend(form: &Form, file: &Path, position: usize, mask: u8) -> Result<Verdict, String> {
    let dir = directory();
    copy(form.dir.path(), dir.path());
    let path = dir.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position] ^= mask;
    std::fs::write(&path, &bytes).unwrap();
    let before = files(dir.path());
    let problems = repair::check(dir.path()).map_err(|error| format!("check: {error}"))?;
    if files(dir.path()) != before {
        return Err("checking changed files".to_owned());
    }
    let outcome = repair::repair(dir.path());
    match outcome {
        Ok(Outcome::Clean) if problems.is_empty() => return Ok(Verdict::Harmless),
        Ok(Outcome::Clean) => return Err(format!("nothing was repaired of {problems:?}")),
        Ok(Outcome::Repaired { .. }) => {}
        Err(repair::Error::Impossible { .. }) if !problems.is_empty() => {
            let same = files(dir.path()) == before;
            return if same {
                Ok(Verdict::BeyondRepair)
            } else {
                Err("a refused repair changed files".to_owned())
            };
        }
        Err(error) => return Err(format!("repair: {error}")),
    }
    if problems.is_empty() || !dir.path().join("RESTORED").exists() {
        return Err(format!("repaired without need or mark: {problems:?}"));
    }
    let node = start(dir.path()).map_err(|error| format!("repaired: {error}"))?;
    let content = content(&node).map_err(|error| format!("repaired: {error}"))?;
    match form.moments.iter().rposition(|moment| *moment == content) {
        Some(moment) if moment + 1 == form.moments.len() => Ok(Verdict::RepairedWhole),
        Some(_) => Ok(Verdict::RepairedInPart),
        None => Err(format!("repaired to what never was: {problems:?}")),
    }
}

fn is_table(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "sst")
}

/// Starts on a copy of the form that differs in one byte, and judges; an error if data was lost, changed or touched.
fn judge(form: &Form, file: &Path, position: usize, mask: u8) -> Result<Verdict, String> {
    let dir = directory();
    copy(form.dir.path(), dir.path());
    let path = dir.path().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position] ^= mask;
    std::fs::write(&path, &bytes).unwrap();
    let before = files(dir.path());
    match start(dir.path()) {
        Err(error) => {
            let text = error.to_string();
            if error.exit_code() != 3 || text.contains('\n') || !text.contains("rocksdb_ldb --db=") {
                return Err(format!("refused with {}: {text}", error.exit_code()));
            }
            if is_table(file) {
                // It showed when the database was open already, which moves data from one file to another.
                bytes[position] ^= mask;
                std::fs::write(&path, &bytes).unwrap();
                let node = start(dir.path()).map_err(|error| format!("undone: {error}"))?;
                if content(&node).map_err(|error| format!("undone: {error}"))? != *form.truth() {
                    return Err(
                        "something was thrown away: undoing the damage does not bring it back".to_owned(),
                    );
                }
            } else if files(dir.path()) != before {
                return Err(format!("files were touched: {text}"));
            }
            Ok(Verdict::Refused)
        }
        Ok(node) => match content(&node) {
            Err(error) if error.is_corruption() => Ok(Verdict::ToldByARead),
            Err(error) => Err(format!("read: {error}")),
            Ok(content) if content == *form.truth() => Ok(Verdict::Harmless),
            Ok(content) => Err(format!(
                "wrong content: revision {} instead of {}, {} entries instead of {}",
                content.0,
                form.truth().0,
                content.3.len(),
                form.truth().3.len()
            )),
        },
    }
}

/// What is done with a flip: form, file, position and mask.
type Act = fn(&Form, &Path, usize, u8) -> Result<Verdict, String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_byte_is_told_or_harmless() {
    flip(judge, 100, usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_leaves_what_once_was_or_changes_nothing() {
    flip(mend, 30, 1500).await;
}

/// Does `act` with about `sample` flips of each form, or about `most` where all are asked for.
async fn flip(act: Act, sample: usize, most: usize) {
    let all = std::env::var_os("MAINSTAY_DAMAGE").is_some_and(|value| value == "all");
    let forms = forms().await;
    let mut wrong = Vec::new();
    for (number, form) in forms.iter().enumerate() {
        assert_eq!(
            judge(form, Path::new("CURRENT"), 0, 0),
            Ok(Verdict::Harmless),
            "{}",
            form.name
        );
        let mut flips: Vec<(PathBuf, usize, u8)> = Vec::new();
        for (file, content) in files(form.dir.path()) {
            for position in 0..content.len() {
                flips.push((file.clone(), position, 1 << (position % 8)));
                if all && !is_table(&file) {
                    flips.push((file.clone(), position, 0xff));
                }
            }
        }
        let step = (flips.len() / if all { most } else { sample }).max(1);
        flips = flips.into_iter().skip(number % step).step_by(step).collect();
        let counts: Mutex<BTreeMap<(String, Verdict), usize>> = Mutex::default();
        let failures: Mutex<Vec<String>> = Mutex::default();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some((file, position, mask)) = flips.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match act(form, file, *position, *mask) {
                            Ok(verdict) => {
                                let name = file.display().to_string();
                                *counts.lock().unwrap().entry((name, verdict)).or_default() += 1;
                            }
                            Err(reason) => failures.lock().unwrap().push(format!(
                                "{}: {} byte {position} ^ {mask:#04x}: {reason}",
                                form.name,
                                file.display()
                            )),
                        }
                    }
                });
            }
        });
        println!("{}: {} flips", form.name, flips.len());
        for ((file, verdict), count) in counts.into_inner().unwrap() {
            println!("  {file}: {verdict:?} {count}");
        }
        wrong.extend(failures.into_inner().unwrap());
    }
    assert!(wrong.is_empty(), "{} flips:\n{}", wrong.len(), wrong.join("\n"));
}
