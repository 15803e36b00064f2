//! The program `rocksdb_ldb` as operators call it, and Debian's own `ldb` on the same directories.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chainfire::mvcc::family;
use lab::wait;
use testkit::{Chainfire, Output, TestDir};

/// Runs `rocksdb_ldb` with these arguments.
fn rocksdb_ldb(args: &[&str]) -> Output {
    let mut command = Command::new(testkit::mainstay_binary().unwrap());
    Output::of(command.arg("rocksdb_ldb").args(args)).unwrap()
}

fn on(data: &Path, verb: &str) -> Output {
    rocksdb_ldb(&[&format!("--db={}", data.display()), verb])
}

#[track_caller]
fn says(output: Output, code: i32, stdout: &str) {
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (code, stdout, "")
    );
}

fn put(server: &Chainfire, key: &str, value: &str) {
    server.client(&["put", key, value]).unwrap().ok();
}

fn keys(server: &Chainfire) -> usize {
    let found = server
        .client(&["get", "--prefix", "k", "--print-value-only"])
        .unwrap()
        .ok();
    found.lines().count()
}

/// A server that holds twenty keys, in tables or, `killed`, in the log.
fn with_keys(killed: bool) -> Chainfire {
    let mut server = Chainfire::start_new().unwrap();
    for n in 0..20 {
        put(&server, &format!("k{n}"), &format!("v{n}"));
    }
    if killed {
        server.kill9().unwrap();
    } else {
        assert!(server.sigterm().unwrap().success());
    }
    server
}

/// Everything in a directory, with its content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            (path, content)
        })
        .collect()
}

fn with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = content(dir)
        .into_iter()
        .filter(|(path, content)| {
            !content.is_empty() && path.extension().is_some_and(|found| found == extension)
        })
        .map(|(path, _)| path)
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, position: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let position = position(bytes.len());
    bytes[position] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_directory_is_ok_and_stays_as_it_is() {
    for killed in [false, true] {
        let mut server = with_keys(killed);
        let data = server.data_dir();
        let before = content(&data);
        says(on(&data, "checkconsistency"), 0, "OK\n");
        says(on(&data, "repair"), 0, "OK: nothing to repair\n");
        // The verb may come first, and the value apart.
        let db = data.to_str().unwrap();
        says(rocksdb_ldb(&["checkconsistency", "--db", db]), 0, "OK\n");
        assert!(content(&data) == before, "nothing changes");
        server.start().unwrap();
        assert_eq!(keys(&server), 20);
    }
}

#[test]
fn a_server_that_runs_keeps_its_directory() {
    let server = Chainfire::start_new().unwrap();
    let lock = server.data_dir().join("LOCK");
    for verb in ["repair", "checkconsistency"] {
        let output = on(&server.data_dir(), verb);
        assert_eq!((output.code, output.stdout.as_str()), (1, ""));
        let line = format!(
            "Error: {} is held by process {}: stop the server first\n",
            lock.display(),
            server.pid().unwrap()
        );
        assert_eq!(output.stderr, line);
    }
    put(&server, "still", "here");
}

#[test]
fn what_is_no_database_stays_none() {
    let dir = TestDir::new("no-database").unwrap();
    let missing = dir.join("missing");
    for place in [dir.path(), &missing] {
        for verb in ["repair", "checkconsistency"] {
            let output = on(place, verb);
            let line = format!("Error: there is no database in {}\n", place.display());
            assert_eq!((output.code, output.stderr), (1, line));
        }
    }
    assert!(!missing.exists() && content(dir.path()).is_empty());
}

#[test]
fn other_verbs_are_left_to_debians_ldb() {
    let line = "Error: there is no `scan` here, only `repair` and `checkconsistency`; Debian's `ldb` (package rocksdb-tools) does \
                the rest\n";
    for args in [
        &["--db=/var/lib/chainfire", "scan", "--max_keys=3"][..],
        &["scan", "--hex"],
    ] {
        let output = rocksdb_ldb(args);
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (64, "", line)
        );
    }
    assert_eq!(rocksdb_ldb(&["--db=/var/lib/chainfire"]).code, 64);
    assert_eq!(rocksdb_ldb(&["repair"]).code, 64);
    assert_eq!(rocksdb_ldb(&["--help"]).code, 0);
}

/// The recipe for "corrupted log entry": the server names the tool, the tool keeps what comes before, the server starts.
#[test]
fn a_damaged_log_is_cut_and_the_server_starts() {
    let mut server = with_keys(true);
    let data = server.data_dir();
    let [log] = with_extension(&data, "log").try_into().unwrap();
    flip(&log, |length| length * 2 / 3);
    server.spawn().unwrap();
    assert_eq!(server.wait_exit().unwrap().code(), Some(3));
    let told = server.log();
    let told = told.lines().last().unwrap();
    assert!(
        told.contains("corrupted log entry")
            && told.contains(&format!("`rocksdb_ldb --db={} repair`", data.display())),
        "{told}"
    );

    let before = content(&data);
    let problems = on(&data, "checkconsistency");
    assert_eq!(problems.code, 1);
    assert!(
        problems.stdout.contains("corrupted log entry in "),
        "{problems:?}"
    );
    assert!(content(&data) == before, "nothing changes");

    let repaired = on(&data, "repair");
    assert_eq!((repaired.code, repaired.stderr.as_str()), (0, ""));
    for part in [
        " is damaged in 1 place, first at byte ",
        "the log is cut: entries ",
        "OK: repaired; ",
    ] {
        assert!(repaired.stdout.contains(part), "{repaired:?}");
    }
    let lost = data.join("lost/1");
    assert_eq!(content(&lost)[&lost.join(log.file_name().unwrap())], before[&log]);
    assert!(data.join("RESTORED").exists(), "the next start is told");
    says(on(&data, "checkconsistency"), 0, "OK\n");
    says(on(&data, "repair"), 0, "OK: nothing to repair\n");

    server.start().unwrap();
    let log = server.log();
    assert!(
        log.contains("WARN chainfire_storage: Data repaired, what could not be read is missing, revision="),
        "{log}"
    );
    assert!(!log.contains("restored from a snapshot"), "{log}");
    let kept = keys(&server);
    assert!((1..20).contains(&kept), "{kept}");
    put(&server, "k_after", "v");
    server.kill9().unwrap();
    server.start().unwrap();
    assert_eq!(keys(&server), kept + 1);
}

/// A log that ends too early, but between two records, is not what a crash leaves: what lay behind was synced.
#[test]
fn a_log_whose_end_is_gone_is_told_from_one_that_a_crash_ended() {
    let mut server = with_keys(true);
    let data = server.data_dir();
    server.start().unwrap();
    let noted = || std::fs::read(data.join("SYNCED")).unwrap_or_default();
    let before = noted();
    put(&server, "k_lost", "v");
    // With the next tick.
    wait::until(
        Duration::from_mins(1),
        "the note of how far the log was synced",
        || Ok((noted() != before).then_some(())),
    )
    .unwrap();
    server.kill9().unwrap();
    let log = with_extension(&data, "log").pop().unwrap();
    let ends = records(&std::fs::read(&log).unwrap());
    let cut = ends[ends.len() - 2];
    let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(u64::try_from(cut).unwrap()).unwrap();
    drop(file);

    for _ in 0..2 {
        let before = server.log().len();
        server.spawn().unwrap();
        assert_eq!(server.wait_exit().unwrap().code(), Some(3));
        let told = server.log()[before..].to_owned();
        assert!(
            told.contains("corrupted log entry, index=") && told.contains(", error=missing"),
            "{told}"
        );
        assert!(told.contains("rocksdb_ldb --db="), "{told}");
    }
    let problems = on(&data, "checkconsistency");
    assert_eq!(problems.code, 1);
    assert!(problems.stdout.contains("error=missing"), "{problems:?}");
    let repaired = on(&data, "repair");
    assert!(
        repaired.code == 0 && repaired.stdout.contains("error=missing"),
        "{repaired:?}"
    );
    says(on(&data, "checkconsistency"), 0, "OK\n");
    server.start().unwrap();
    assert_eq!(keys(&server), 20);
    put(&server, "k_after", "v");
    server.kill9().unwrap();
    server.start().unwrap();
    assert_eq!(keys(&server), 21);
}

/// Where the records of a write-ahead log end. (Seven bytes of header each, of which the fifth and sixth are the length; none of these is
/// longer than a block.)
fn records(log: &[u8]) -> Vec<usize> {
    const BLOCK: usize = 32 << 10;
    let (mut at, mut ends) = (0, Vec::new());
    while at + 7 <= log.len() {
        let length = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        if log[at + 6] == 0 || at % BLOCK + 7 > BLOCK {
            at = (at / BLOCK + 1) * BLOCK;
            continue;
        }
        at += 7 + length;
        ends.push(at);
    }
    ends
}

#[test]
fn a_lost_manifest_is_made_anew() {
    for killed in [false, true] {
        let mut server = with_keys(killed);
        let data = server.data_dir();
        for entry in content(&data).into_keys() {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if name == "CURRENT" || name.starts_with("MANIFEST-") {
                std::fs::remove_file(entry).unwrap();
            }
        }
        server.spawn().unwrap();
        assert_eq!(server.wait_exit().unwrap().code(), Some(3));
        assert_eq!(on(&data, "checkconsistency").code, 1);
        let repaired = on(&data, "repair");
        assert_eq!(repaired.code, 0, "{repaired:?}");
        says(on(&data, "checkconsistency"), 0, "OK\n");
        server.start().unwrap();
        assert_eq!(keys(&server), 20, "nothing is lost, killed: {killed}");
    }
}

/// Each table is damaged in turn. Whichever it was, everything is there again: the state is made anew from the log, and without
/// the log the state is enough.
#[test]
fn any_one_damaged_table_can_be_spared() {
    let mut server = with_keys(false);
    let data = server.data_dir();
    let saved = TestDir::new("saved").unwrap();
    let copy = |from: &Path, to: &Path| {
        let ok = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(ok.success());
    };
    copy(&data, &saved.join("data"));
    let (mut anew, mut alone) = (0, 0);
    for table in with_extension(&data, "sst") {
        flip(&table, |_| 10);
        let problems = on(&data, "checkconsistency");
        assert_eq!(problems.code, 1, "{problems:?}");
        let name = table.file_name().unwrap().to_string_lossy().into_owned();
        assert!(problems.stdout.contains(&name), "{problems:?}");
        let repaired = on(&data, "repair");
        assert_eq!(repaired.code, 0, "{repaired:?}");
        says(on(&data, "checkconsistency"), 0, "OK\n");
        anew += usize::from(
            repaired
                .stdout
                .contains("the next start makes it anew from the log"),
        );
        if repaired.stdout.contains("chainfire recover --force-new-cluster") {
            alone += 1;
            let mut recover = Command::new(testkit::mainstay_binary().unwrap());
            recover.args([
                "chainfire",
                "recover",
                "--force-new-cluster",
                "--yes-i-lose-writes",
                "--data-dir",
            ]);
            Output::of(recover.arg(&data)).unwrap().ok();
        }
        server.start().unwrap();
        assert_eq!(keys(&server), 20, "{repaired:?}");
        server.kill9().unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        copy(&saved.join("data"), &data);
    }
    assert!(anew > 0 && alone > 0, "{anew} made anew, {alone} alone");
}

/// Crashes in the middle of a repair, as it leaves the directory.
#[test]
fn an_interrupted_repair_is_finished_by_the_next_and_starts_no_server_before() {
    for stage in ["repaired", "replacing"] {
        let mut server = with_keys(false);
        let data = server.data_dir();
        let place = data.join(stage);
        std::fs::create_dir(&place).unwrap();
        for path in content_files(&data) {
            let name = path.file_name().unwrap().to_owned();
            if name == "LOCK" {
                continue;
            }
            // Before the old files have gone, and after.
            if stage == "repaired" && name != "CURRENT" {
                std::fs::copy(&path, place.join(name)).unwrap();
            } else {
                std::fs::rename(&path, place.join(name)).unwrap();
            }
        }
        server.spawn().unwrap();
        assert_eq!(server.wait_exit().unwrap().code(), Some(3), "{stage}");
        assert_eq!(on(&data, "checkconsistency").code, 1);
        let output = on(&data, "repair");
        assert_eq!(output.code, 0, "{output:?}");
        assert!(
            output.stdout.contains("went on with an earlier repair"),
            "{output:?}"
        );
        says(on(&data, "checkconsistency"), 0, "OK\n");
        server.start().unwrap();
        assert_eq!(keys(&server), 20);
    }
}

fn content_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}

/// Debian's, many releases older than what we write with.
fn ldb(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(testkit::require("ldb").unwrap());
    Output::of(command.arg(format!("--db={}", data.display())).args(args)).unwrap()
}

#[test]
fn debians_ldb_reads_what_we_write() {
    for killed in [false, true] {
        let mut server = with_keys(killed);
        let data = server.data_dir();
        let families = ldb(&data, &["list_column_families"]).ok();
        for family in family::ALL {
            assert!(families.contains(family), "{family}: {families}");
        }
        assert_eq!(ldb(&data, &["checkconsistency"]).ok().trim(), "OK");
        let scanned = ldb(&data, &["--column_family=log", "scan", "--hex"]).ok();
        assert!(scanned.lines().count() >= 20, "{scanned}");
        if !killed {
            let scanned = ldb(&data, &["--column_family=key", "scan", "--hex"]).ok();
            assert_eq!(scanned.lines().count(), 20, "{scanned}");
            // The key k7 and, behind its numbers, the value v7.
            assert!(
                scanned
                    .lines()
                    .any(|line| line.starts_with("0x6B37 ") && line.ends_with("7637")),
                "{scanned}"
            );
        }
        // It has opened the database, and left it one of ours.
        says(on(&data, "checkconsistency"), 0, "OK\n");
        server.start().unwrap();
        assert_eq!(keys(&server), 20);
    }
}
