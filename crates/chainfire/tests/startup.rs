//! How the program starts, reloads and ends, and how it refuses to start: exit code and one line that says what to do.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chainfire::mvcc::family;
use nix::sys::signal::Signal;
use store::{Durability, Store};
use testkit::{Chainfire, Output, TestDir, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `chainfire` with these arguments until it ends by itself.
fn chainfire(args: &[&str]) -> Output {
    Output::of(
        Command::new(testkit::mainstay_binary().unwrap())
            .arg("chainfire")
            .args(args),
    )
    .unwrap()
}

/// Runs `chainfire` with this configuration, which it should refuse; the code and the one line.
#[track_caller]
fn refused(config: &str) -> (i32, String) {
    let dir = TestDir::new("chainfire-config").unwrap();
    let path = dir.join("chainfire.toml");
    std::fs::write(&path, config).unwrap();
    let output = chainfire(&["--config", path.to_str().unwrap()]);
    assert_eq!(output.stdout, "");
    let line = one_error(&output.stderr);
    (output.code, line.replace(path.to_str().unwrap(), "FILE"))
}

/// The only line that begins with `Error: `; it is the last one.
#[track_caller]
fn one_error(log: &str) -> String {
    let errors: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("Error: "))
        .collect();
    assert_eq!(errors.len(), 1, "one error line: {log}");
    assert!(
        log.lines().last().unwrap().starts_with("Error: "),
        "the error comes last: {log}"
    );
    errors[0].to_owned()
}

/// Starts a server that should end by itself; its exit code, its error and all it logged meanwhile.
#[track_caller]
fn start_and_end(server: &mut Chainfire) -> (i32, String, String) {
    let before = server.log().len();
    server.spawn().unwrap();
    let code = server.wait_exit().unwrap().code().expect("it ends by itself");
    let log = server.log()[before..].to_owned();
    let error = one_error(&log);
    (code, error, log)
}

/// Changes one setting of a server that does not run.
fn set(server: &Chainfire, section: &str, key: &str, value: impl Into<toml::Value>) {
    let text = std::fs::read_to_string(server.config_file()).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let section = config.entry(section).or_insert_with(|| toml::Table::new().into());
    section
        .as_table_mut()
        .unwrap()
        .insert(key.to_owned(), value.into());
    std::fs::write(server.config_file(), config.to_string()).unwrap();
}

/// How an error says where a key was written, which only one section has.
fn place(server: &Chainfire, key: &str) -> String {
    let file = server.config_file();
    let config: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let has = |section: &toml::Value| section.get(key).is_some();
    let (section, _) = config.iter().find(|(_, section)| has(section)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with(&format!("{key} =")))
        .unwrap();
    format!("{section}.{key} in {} line {}", file.display(), line + 1)
}

fn put(server: &Chainfire, key: &str, value: &str) {
    server.client(&["put", key, value]).unwrap().ok();
}

fn get(server: &Chainfire, key: &str) -> String {
    let value = server.client(&["get", "--print-value-only", key]).unwrap().ok();
    value.trim_end().to_owned()
}

#[test]
fn settings_that_cannot_be_are_refused_with_the_key_and_the_place() {
    for (config, line) in [
        (
            "[node]\nid = 0\n",
            "bad value 0 for \"node.id\" in FILE line 2: expected a number from 1 up, unique in the cluster",
        ),
        (
            "[storage]\nwrite_bufer_size = 1\n",
            "unknown key \"storage.write_bufer_size\" in FILE line 2: did you mean \"write_buffer_size\"?",
        ),
        (
            "[raft]\ntick_interval_ms = \"fast\"\n",
            "bad value \"fast\" for \"raft.tick_interval_ms\" in FILE line 2: expected a whole number, not negative",
        ),
        (
            "[network]\napi_addr = \"everywhere\"\n",
            "bad value \"everywhere\" for \"network.api_addr\" in FILE line 2: expected host:port, for example 0.0.0.0:2379",
        ),
    ] {
        assert_eq!(refused(config), (2, line.to_owned()), "{config}");
    }
    let (code, line) = refused("[node\n");
    assert_eq!(code, 2);
    assert!(line.starts_with("FILE:1:"), "{line}");
}

/// A newcomer mends a file in one go, not in as many as it has mistakes.
#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let dir = TestDir::new("chainfire-config").unwrap();
    let path = dir.join("chainfire.toml");
    let config = "[storage]\ndata_dir = \"\"\nwrite_bufer_size = 1\n[network]\nraft_addr = \"0.0.0.0:2379\"\n[raft]\n\
                  tick_interval_ms = \"fast\"\n";
    std::fs::write(&path, config).unwrap();
    for check in [&[][..], &["--check-config"]] {
        let output = chainfire(&[&["--config", path.to_str().unwrap()], check].concat());
        assert_eq!((output.code, output.stdout.as_str()), (2, ""));
        assert_eq!(
            output.stderr.replace(path.to_str().unwrap(), "FILE"),
            "\
Error: bad value \"\" for \"storage.data_dir\" in FILE line 2: expected a directory, for example /var/lib/chainfire
Error: unknown key \"storage.write_bufer_size\" in FILE line 3: did you mean \"write_buffer_size\"?
Error: bad value \"0.0.0.0:2379\" for \"network.raft_addr\" in FILE line 5: expected another port than network.api_addr has, which is 0.0.0.0:2379
Error: bad value \"fast\" for \"raft.tick_interval_ms\" in FILE line 7: expected a whole number, not negative
"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = TestDir::new("chainfire-config").unwrap();
    let missing = dir.join("missing.toml");
    for (path, reason) in [
        (
            missing.as_path(),
            "there is no such file; name another with --config FILE",
        ),
        (dir.path(), "Is a directory (os error 21)"),
    ] {
        let path = path.to_str().unwrap();
        let output = chainfire(&["--config", path]);
        assert_eq!(output.code, 2);
        assert_eq!(
            one_error(&output.stderr),
            format!("read settings from {path}: {reason}")
        );
    }
}

#[test]
fn check_config_says_ok_or_what_is_wrong_and_touches_nothing() {
    let dir = TestDir::new("chainfire-config").unwrap();
    let path = dir.join("chainfire.toml");
    let data = dir.join("data");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        chainfire(&["--check-config", "--config", path.to_str().unwrap()])
    };
    let storage = format!("[storage]\ndata_dir = \"{}\"\n", data.display());
    let good = check(&storage);
    assert_eq!(
        (good.code, good.stdout, good.stderr.as_str()),
        (0, format!("{}: ok\n", path.display()), "")
    );
    let bad = check(&format!("{storage}max_open_fils = 3\n"));
    assert_eq!(bad.code, 2);
    assert!(
        one_error(&bad.stderr).contains("storage.max_open_fils"),
        "{}",
        bad.stderr
    );
    let keys = check(&format!(
        "{storage}[auth]\ntoken = \"jwt\"\n[auth.jwt]\nsign_method = \"RS256\"\nprivate_key = \"/no/such/key\"\n"
    ));
    assert_eq!(keys.code, 2);
    let error = one_error(&keys.stderr);
    let place = format!("auth.jwt.private_key in {} line 7", path.display());
    assert!(
        error.contains("/no/such/key") && error.contains(&place),
        "{error}"
    );
    assert!(!data.exists());
    assert_eq!(chainfire(&["--no-such-flag"]).code, 64);
}

#[test]
fn an_address_in_use_is_refused_before_the_data_is_touched() {
    let running = Chainfire::start_new().unwrap();
    let mut second = Chainfire::builder()
        .config(&format!("[network]\napi_addr = \"{}\"", running.socket()))
        .build()
        .unwrap();
    let (code, error, _) = start_and_end(&mut second);
    assert_eq!(code, 2);
    assert_eq!(
        error,
        format!(
            "address in use: {} ({}): another process listens there",
            running.socket(),
            place(&second, "api_addr")
        )
    );
    assert!(!second.data_dir().exists());
    put(&running, "still", "here");
}

#[test]
fn a_directory_held_by_a_running_server_is_refused() {
    let running = Chainfire::start_new().unwrap();
    let data = running.data_dir();
    let mut second = Chainfire::builder()
        .config(&format!("[storage]\ndata_dir = \"{}\"", data.display()))
        .build()
        .unwrap();
    let (code, error, _) = start_and_end(&mut second);
    assert_eq!(code, 2);
    assert_eq!(
        error,
        format!(
            "open {}: the database is in use: another process holds its LOCK file ({})",
            data.display(),
            place(&second, "data_dir")
        )
    );
    put(&running, "still", "here");
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused() {
    let mut server = Chainfire::start_new().unwrap();
    put(&server, "a", "1");
    assert!(server.sigterm().unwrap().success());

    set(&server, "node", "id", 3);
    let (code, error, _) = start_and_end(&mut server);
    let belongs = "data directory belongs to node 1 of cluster 1, config says node";
    let data = server.data_dir().display().to_string();
    let places = |key: &str| {
        let config: String = std::fs::read_to_string(server.config_file()).unwrap();
        let section = config.find(&format!("[{key}]")).unwrap();
        let line = section + config[section..].find("\nid =").unwrap() + 1;
        let line = config[..line].lines().count() + 1;
        let file = server.config_file();
        format!(
            "{key}.id in {} line {line}, {}",
            file.display(),
            place(&server, "data_dir")
        )
    };
    let wanted = format!("{belongs} 3 of cluster 1: {data} ({})", places("node"));
    assert_eq!((code, error), (2, wanted));

    set(&server, "node", "id", 1);
    set(&server, "cluster", "id", 9);
    let (code, error, _) = start_and_end(&mut server);
    let wanted = format!("{belongs} 1 of cluster 9: {data} (cluster.id in ");
    assert!(code == 2 && error.starts_with(&wanted), "{error}");

    set(&server, "cluster", "id", 1);
    server.start().unwrap();
    assert_eq!(get(&server, "a"), "1");
}

#[test]
fn an_empty_directory_without_bootstrap_waits_to_be_added_and_stays_usable() {
    let mut server = Chainfire::builder()
        .config("[cluster]\nbootstrap = false\n[limits]\nrequest_timeout_ms = 300")
        .build()
        .unwrap();
    server.spawn().unwrap();
    server.wait_log("waiting to be added to a cluster").unwrap();
    assert!(server.sigterm().unwrap().success());
    set(&server, "cluster", "bootstrap", true);
    server.start().unwrap();
    put(&server, "a", "1");
    // With data there the setting no longer matters.
    assert!(server.sigterm().unwrap().success());
    set(&server, "cluster", "bootstrap", false);
    server.start().unwrap();
    assert_eq!(get(&server, "a"), "1");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let mut server = Chainfire::builder().build().unwrap();
    let data = server.config_file().join("data");
    set(&server, "storage", "data_dir", data.to_str().unwrap());
    let (code, error, _) = start_and_end(&mut server);
    assert_eq!(code, 2);
    assert_eq!(
        error,
        format!(
            "create directory {}: Not a directory (os error 20) ({})",
            data.display(),
            place(&server, "data_dir")
        )
    );
}

/// A server that holds a few keys and was killed.
fn killed() -> Chainfire {
    let mut server = Chainfire::start_new().unwrap();
    for n in 0..20 {
        put(&server, &format!("k{n}"), &format!("v{n}"));
    }
    server.kill9().unwrap();
    server
}

#[track_caller]
fn holds_everything(server: &mut Chainfire) {
    server.start().unwrap();
    let count = server
        .client(&["get", "--prefix", "k", "--count-only"])
        .unwrap()
        .ok();
    assert!(count.contains("20"), "{count}");
    for n in [0, 7, 19] {
        assert_eq!(get(server, &format!("k{n}")), format!("v{n}"));
    }
    put(server, "after", "wards");
}

type Change = fn(&mut Vec<u8>);

/// Changes an entry of the log where the store's own checksums do not see it; what it was before.
fn damage(data: &Path, index: u64, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let store = Store::open(data, &store::Options::default(), family::ALL).unwrap();
    let entry = store
        .get(family::LOG, &index.to_be_bytes())
        .unwrap()
        .unwrap()
        .to_vec();
    let mut changed = entry.clone();
    change(&mut changed);
    write(&store, index, &changed);
    entry
}

fn write(store: &Store, index: u64, entry: &[u8]) {
    let mut batch = store.batch();
    batch.put(family::LOG, &index.to_be_bytes(), entry);
    store.write(batch, Durability::Synced).unwrap();
}

#[test]
fn a_corrupted_log_entry_stops_the_start_and_nothing_is_thrown_away() {
    let mut server = killed();
    let data = server.data_dir();
    let checks: [(&str, Change); 3] = [
        ("checksum", |entry| entry[25] ^= 0x40),
        ("checksum", |entry| *entry.last_mut().unwrap() ^= 1),
        ("length", |entry| entry.truncate(10)),
    ];
    for (reason, change) in checks {
        let entry = damage(&data, 9, change);
        let (code, error, log) = start_and_end(&mut server);
        assert_eq!(code, 3, "{error}");
        let line = format!("corrupted log entry, index=9, error={reason}");
        assert_eq!(
            error,
            format!(
                "{line}: the data is untouched; see `rocksdb_ldb --db={} repair`, which keeps what is readable, or restore a \
                 snapshot with `chainfire-client snapshot restore`",
                data.display()
            )
        );
        assert!(
            log.lines()
                .any(|logged| logged == format!("ERROR chainfire_storage: {line}")),
            "{log}"
        );
        let store = Store::open(&data, &store::Options::default(), family::ALL).unwrap();
        write(&store, 9, &entry);
    }
    let store = Arc::new(Store::open(&data, &store::Options::default(), family::ALL).unwrap());
    let entry = store
        .get(family::LOG, &9u64.to_be_bytes())
        .unwrap()
        .unwrap()
        .to_vec();
    let mut batch = store.batch();
    batch.delete(family::LOG, &9u64.to_be_bytes());
    store.write(batch, Durability::Synced).unwrap();
    drop(store);
    let (code, error, _) = start_and_end(&mut server);
    assert_eq!(code, 3);
    assert!(
        error.starts_with("corrupted log entry, index=9, error=missing"),
        "{error}"
    );
    let store = Store::open(&data, &store::Options::default(), family::ALL).unwrap();
    write(&store, 9, &entry);
    drop(store);
    holds_everything(&mut server);
}

/// The store's write-ahead log, into which nothing has been flushed yet.
fn write_ahead_log(server: &Chainfire) -> PathBuf {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(server.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| path.metadata().unwrap().len() > 0)
        .collect();
    logs.sort();
    logs.pop().expect("a killed server leaves a write-ahead log")
}

#[test]
fn a_flipped_byte_on_disk_stops_the_start_and_nothing_is_thrown_away() {
    let mut server = killed();
    let path = write_ahead_log(&server);
    let content = std::fs::read(&path).unwrap();
    // In the data of records, and in the length and type of the first: a length that leads beyond the end of the file looks
    // like a record that a crash cut short.
    for position in [content.len() / 3, content.len() / 2, content.len() - 3, 4, 5, 6] {
        let mut damaged = content.clone();
        damaged[position] ^= 0x14;
        std::fs::write(&path, &damaged).unwrap();
        let (code, error, _) = start_and_end(&mut server);
        assert_eq!(code, 3, "{error}");
        assert!(
            error.contains("corrupted log entry in ") && error.contains("rocksdb_ldb --db="),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "the file is as it was");
    }
    std::fs::write(&path, &content).unwrap();
    holds_everything(&mut server);
}

fn files_of(server: &Chainfire) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.data_dir()).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_missing_file_stops_the_start_however_often_and_nothing_is_thrown_away() {
    let mut server = killed();
    server.start().unwrap();
    server.sigterm().unwrap();
    let is_data = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst")
    };
    let data: Vec<PathBuf> = files_of(&server).into_iter().filter(is_data).collect();
    assert!(data.len() > 2, "{data:?}");
    let aside = server.dir().join("aside");
    for missing in &data {
        std::fs::rename(missing, &aside).unwrap();
        // A start that has failed must not have made what the next one takes for an empty database.
        for _ in 0..2 {
            let (code, error, _) = start_and_end(&mut server);
            assert_eq!(code, 3, "without {}: {error}", missing.display());
            assert!(error.contains("chainfire-client snapshot restore"), "{error}");
        }
        assert!(!missing.exists());
        std::fs::rename(&aside, missing).unwrap();
    }
    let left: Vec<PathBuf> = files_of(&server).into_iter().filter(is_data).collect();
    assert_eq!(left, data);
    holds_everything(&mut server);
}

#[test]
fn a_torn_write_at_the_end_of_the_log_is_dropped() {
    // What a crash leaves of a write that nobody was told of: the beginning of a record, or room for one.
    for tail in ["record", "zeros"] {
        let mut server = killed();
        let path = write_ahead_log(&server);
        let content = std::fs::read(&path).unwrap();
        let mut torn = content.clone();
        match tail {
            // The first record is longer than this.
            "record" => torn.extend_from_slice(&content[..20]),
            _ => torn.extend_from_slice(&[0; 5000]),
        }
        std::fs::write(&path, &torn).unwrap();
        let before = server.log().len();
        holds_everything(&mut server);
        // RocksDB says nothing of it; room for a record is no record.
        let warning = format!(
            "WARN chainfire_storage: Dropped a torn write at the end of the log, which nobody was told of, file={}, bytes=20\n",
            path.file_name().unwrap().display()
        );
        assert_eq!(
            server.log()[before..].contains(&warning),
            tail == "record",
            "{}",
            server.log()
        );
        server.kill9().unwrap();
        holds_everything(&mut server);
    }
}

#[test]
fn garbage_at_the_end_of_the_log_is_not_taken_for_a_torn_write() {
    let mut server = killed();
    let path = write_ahead_log(&server);
    let content = std::fs::read(&path).unwrap();
    // Whole as its header says: a checksum of 4 bytes, the length 50 in two, the type of a record in one piece.
    let mut garbage = vec![0x5a; 300];
    garbage[4..7].copy_from_slice(&[50, 0, 1]);
    std::fs::write(&path, [content.as_slice(), &garbage].concat()).unwrap();
    let (code, error, _) = start_and_end(&mut server);
    assert_eq!(code, 3, "{error}");
    std::fs::write(&path, &content).unwrap();
    holds_everything(&mut server);
}

/// Every table file, and whether it holds user data, is damaged here and there: the server refuses to start, or says so when
/// it comes across, and never answers with anything that was not written.
#[test]
fn a_flipped_byte_in_a_table_is_never_served() {
    let mut server = Chainfire::start_new().unwrap();
    for n in 0..20 {
        put(&server, &format!("k{n}"), &format!("v{n}"));
    }
    assert!(server.sigterm().unwrap().success());
    let saved = TestDir::new("saved").unwrap();
    let copy = |from: &Path, to: &Path| {
        let ok = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(ok.success());
    };
    copy(&server.data_dir(), &saved.join("data"));
    let mut tables: Vec<PathBuf> = std::fs::read_dir(server.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    assert!(!tables.is_empty(), "a flushed store has tables");
    let (mut refused, mut told, mut unharmed) = (0, 0, 0);
    for table in tables {
        let content = std::fs::read(&table).unwrap();
        for position in [10, content.len() / 2] {
            let mut damaged = content.clone();
            damaged[position] ^= 0x04;
            std::fs::write(&table, &damaged).unwrap();
            let before = server.log().len();
            server.spawn().unwrap();
            // With damage in what every read meets it lives and is not ready.
            wait_until(LIMIT, "an end or an answer", || {
                !server.is_running() || server.get("/livez").is_ok_and(|answer| answer.status == 200)
            });
            if server.is_running() {
                let read = server
                    .client(&["get", "--prefix", "k", "--print-value-only"])
                    .unwrap();
                if read.code == 0 {
                    assert_eq!(read.stdout.lines().count(), 20, "{read:?}");
                    assert!(
                        read.stdout.lines().all(|value| value.starts_with('v')),
                        "{read:?}"
                    );
                    unharmed += 1;
                } else {
                    assert!(read.stderr.contains("Corruption"), "{read:?}");
                    // A write that has to read the damaged place ends the server the same way.
                    let write = server.client(&["put", "k3", "new"]).unwrap();
                    assert_ne!(write.code, 0);
                    assert_eq!(server.wait_exit().unwrap().code(), Some(3), "{}", server.log());
                    told += 1;
                }
                if server.is_running() {
                    server.kill9().unwrap();
                }
            } else {
                let (code, error) = (
                    server.wait_exit().unwrap().code(),
                    server.log()[before..].to_owned(),
                );
                assert_eq!(code, Some(3), "{error}");
                assert!(error.contains("Corruption"), "{error}");
                refused += 1;
            }
            std::fs::remove_dir_all(server.data_dir()).unwrap();
            copy(&saved.join("data"), &server.data_dir());
        }
    }
    assert!(
        refused > 0 && told > 0,
        "{refused} refused, {told} told, {unharmed} unharmed"
    );
    holds_everything(&mut server);
}

#[test]
fn the_lines_that_operators_search_for_appear_as_they_know_them() {
    let server = Chainfire::start_new().unwrap();
    put(&server, "a", "1");
    let log = server.log();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has = |check: &dyn Fn(&str) -> bool| log.lines().any(check);
    assert!(
        has(&|line| line == "INFO chainfire_raft: Leader elected, term=2"),
        "{log}"
    );
    assert!(
        has(&|line| line
            .strip_prefix("INFO chainfire_storage: Committed entry, index=")
            .is_some_and(is_number)),
        "{log}"
    );
    assert!(
        has(&|line| {
            let rest = line.strip_prefix("INFO chainfire_api: Handled put request, latency=");
            rest.and_then(|rest| rest.strip_suffix("ms"))
                .is_some_and(is_number)
        }),
        "{log}"
    );
}

#[test]
fn lines_that_were_held_back_are_counted() {
    let server = Chainfire::start_new().unwrap();
    let counted = |log: &str| {
        log.lines().any(|line| {
            let rest = line.strip_prefix("INFO chainfire_api: Handled put request, latency=");
            let held_back = rest.and_then(|rest| rest.split_once("ms, held_back="));
            held_back.is_some_and(|(_, count)| count.parse::<u64>().is_ok_and(|count| count > 0))
        })
    };
    wait_until(LIMIT, "a line that tells how many it stands for", || {
        put(&server, "a", "1");
        put(&server, "a", "2");
        counted(&server.log())
    });
}

#[test]
fn lines_in_a_file_begin_with_the_time() {
    let server = Chainfire::builder()
        .config("[log]\ntimestamps = \"auto\"")
        .start()
        .unwrap();
    let log = server.log();
    let (time, line) = log.lines().next().unwrap().split_once(' ').unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && line.starts_with("INFO "),
        "{log}"
    );
}

#[test]
fn sigterm_ends_with_0_and_leaves_nothing_to_replay() {
    let mut server = Chainfire::start_new().unwrap();
    for n in 0..20 {
        put(&server, &format!("k{n}"), &format!("v{n}"));
    }
    let status = server.sigterm().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    let before = server.log().len();
    holds_everything(&mut server);
    let log = server.log()[before..].to_owned();
    assert!(log.contains("Leader elected, term=3"), "{log}");
    assert!(!log.contains("Log replayed"), "{log}");
}

/// A request whose end the server waits for.
fn unfinished_request(server: &Chainfire) -> TcpStream {
    let mut stream = TcpStream::connect(server.socket()).unwrap();
    let head = "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "the server waits for the rest");
    stream
}

fn stopping(server: &Chainfire) {
    server.signal(Signal::SIGTERM).unwrap();
    wait_until(LIMIT, "the drain to begin", || {
        server.log().contains("INFO service: Stopping")
    });
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let mut server = Chainfire::start_new().unwrap();
    let mut stream = unfinished_request(&server);
    stopping(&server);
    wait_until(LIMIT, "new connections to be refused", || {
        TcpStream::connect(server.socket()).is_err()
    });
    let body = r#"{"key":"bGF0ZQ==","value":"b2s="}"#;
    write!(stream, "{body:40}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    assert_eq!(server.wait_exit().unwrap().code(), Some(0));
    server.start().unwrap();
    assert_eq!(get(&server, "late"), "ok");
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    let mut server = Chainfire::start_new().unwrap();
    put(&server, "a", "1");
    let _stream = unfinished_request(&server);
    stopping(&server);
    server.signal(Signal::SIGTERM).unwrap();
    assert_eq!(server.wait_exit().unwrap().code(), Some(128 + 15));
    assert_eq!(
        one_error(&server.log()),
        "stop: second signal SIGTERM before the end of the drain"
    );
    server.start().unwrap();
    assert_eq!(get(&server, "a"), "1");
}

#[test]
fn a_client_that_never_finishes_does_not_hold_up_the_end() {
    let mut server = Chainfire::start_new().unwrap();
    let _stream = unfinished_request(&server);
    stopping(&server);
    assert_eq!(server.wait_exit().unwrap().code(), Some(0));
    let log = server.log();
    assert!(
        log.contains("WARN chainfire_network: Some connections did not finish in time"),
        "{log}"
    );
}

#[test]
fn sighup_changes_the_log_level_and_bad_settings_change_nothing() {
    let server = Chainfire::start_new().unwrap();
    let debug = "DEBUG chainfire_storage: Committed entry";
    put(&server, "a", "1");
    assert!(!server.log().contains(debug));

    let good = std::fs::read_to_string(server.config_file()).unwrap();
    std::fs::write(server.config_file(), "[log]\nlevel = \"loud\"\n").unwrap();
    server.signal(Signal::SIGHUP).unwrap();
    wait_until(LIMIT, "the refusal", || server.log().contains("Reload failed"));
    let log = server.log();
    let refusal = log.lines().find(|line| line.contains("Reload failed")).unwrap();
    assert!(
        refusal.starts_with("ERROR service: Reload failed") && refusal.contains("log.level"),
        "{refusal}"
    );

    std::fs::write(server.config_file(), good).unwrap();
    set(&server, "log", "level", "debug");
    server.signal(Signal::SIGHUP).unwrap();
    wait_until(LIMIT, "the new level", || {
        server
            .log()
            .contains("INFO chainfire_api: Settings reloaded, level=debug")
    });
    wait_until(LIMIT, "a line of the new level", || {
        put(&server, "a", "2");
        server.log().contains(debug)
    });
}
