//! A configuration as large as it may be, and one that an older program has let grow beyond what is read.

use std::time::Duration;

use quptime::document::size::{WRITTEN_MAX, upper_bound};
use quptime::document::{Change, Check, CheckKind, Document, Entry, parse, render};
use quptime::machine::command::{Command, Configure};
use quptime::raft::disk::Disk;
use testkit::{QU_SECRET, Qu, wait_until};

use super::edit;

/// Longest wait: megabytes are read and written many times, by a program without optimisation.
const LIMIT: Duration = Duration::from_mins(2);

/// A check with a long text made of one letter, which nobody makes.
fn long(number: usize, letter: &str) -> Check {
    Check {
        id: format!("c{number}"),
        body_match: letter.repeat(3900),
        disabled: true,
        ..Check::new(format!("c{number}"), CheckKind::Http, "http://127.0.0.1:1/")
    }
}

/// As many of them as there may be beside what a node has.
fn full(node: &Qu, letter: &str) -> Document {
    let mut document = parse(&node.cluster_text()).unwrap();
    document.checks = vec![long(0, letter)];
    let one = upper_bound(&document);
    document.checks.push(long(1, letter));
    // Numbers grow, and so does the version.
    let each = upper_bound(&document) - one + 8;
    let count = (WRITTEN_MAX - 1000 - one) / each;
    document.checks = (0..count).map(|number| long(number, letter)).collect();
    document
}

fn restore(node: &Qu, document: &Document) -> testkit::Output {
    let file = node.config_dir().join("backup");
    std::fs::write(&file, render(document)).unwrap();
    node.run(&["cluster", "restore", file.to_str().unwrap()]).unwrap()
}

/// It was made, or will be: on a busy machine a command may end before that.
#[track_caller]
fn begun(said: &testkit::Output) {
    let slow = said.stderr.contains("may have taken effect all the same");
    assert!(said.code == 0 || slow, "{said:?}");
}

#[track_caller]
fn has(node: &Qu, letter: &str) {
    let wanted = letter.repeat(3900);
    wait_until(LIMIT, "the configuration to be there", || {
        let text = node.cluster_text();
        text.contains(&wanted) && text.starts_with(&format!("version: {}\n", node.version()))
    });
}

#[test]
fn what_may_be_written_is_read_and_carried_everywhere() {
    let mut first = Qu::init(1, QU_SECRET).unwrap();
    first.start().unwrap();
    let document = full(&first, "a");
    begun(&restore(&first, &document));
    has(&first, "a");
    let version = first.version();

    // A few more are too much.
    let mut larger = document.clone();
    larger.checks.extend((9980..9999).map(|number| long(number, "a")));
    let refused = restore(&first, &larger);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.starts_with("error: cluster.yaml would take 84")
            && refused
                .stderr
                .contains("bytes; at most 8388608 are possible: shorten texts or remove entries")
            && refused.stderr.contains("the largest is check c"),
        "{refused:?}"
    );
    assert_eq!(first.version(), version);

    // It is read again, and a node that comes gets it.
    first.sigterm().unwrap();
    first.start().unwrap();
    has(&first, "a");
    let mut second = Qu::init(2, QU_SECRET).unwrap();
    second.start().unwrap();
    first
        .run(&["node", "add", "-y", &second.peer_address()])
        .unwrap()
        .ok();
    has(&second, "a");

    // A change of all of it holds it twice, and goes to the master and to the others.
    begun(&restore(&second, &full(&second, "b")));
    has(&first, "b");
    has(&second, "b");
    wait_until(LIMIT, "equal files", || {
        first.cluster_text() == second.cluster_text()
    });
}

/// What an older program, which knew no limit, has committed.
fn commit_as_before(node: &Qu, check: Check) {
    let mut disk = Disk::open(&node.config_dir().join("raft")).unwrap().unwrap().disk;
    let command = Command::Configure(Configure {
        changes: vec![Change::add(Entry::Check(Box::new(check)))],
        by: node.id().parse().unwrap(),
        uid: None,
        what: "check add http".to_owned(),
        at: "2026-05-15T14:01:00Z".to_owned(),
        schema: 1,
        closes: None,
        leaves: None,
        bytes_max: None,
        insists: false,
    });
    let last = disk.last();
    let entry = consensus::Entry {
        index: last.index + 1,
        term: last.term,
        kind: consensus::Kind::Command,
        payload: command.encode().into(),
    };
    let mut hard = disk.hard_state().clone();
    hard.commit = last.index + 1;
    disk.write(&[entry], Some(&hard)).unwrap();
}

#[test]
fn a_node_starts_with_a_file_that_an_older_program_let_grow_too_large() {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    let args = ["check", "add", "tcp", "small", "127.0.0.1:1", "--interval", "1h"];
    node.run(&args).unwrap().ok();
    node.sigterm().unwrap();
    let huge = Check {
        id: "huge".to_owned(),
        body_match: "m".repeat(17 << 20),
        ..long(7, "m")
    };
    commit_as_before(&node, huge);
    node.start().unwrap();
    wait_until(LIMIT, "the file to be too large", || {
        node.cluster_file().metadata().unwrap().len() > 17 << 20
    });

    node.sigterm().unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "the node to run as before", || {
        node.has_quorum() && node.version() == 3
    });
    let log = node.log();
    let told = log.lines().filter(|line| line.contains("written by an older qu"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(!log.contains("manual-edit"), "{log}");
    let args = ["check", "add", "tcp", "other", "127.0.0.1:1", "--interval", "1h"];
    let refused = node.run(&args).unwrap();
    assert!(
        refused.stderr.contains("at most 8388608 are possible")
            && refused.stderr.contains("the largest is check c7 with 1"),
        "{refused:?}"
    );
    // Whoever makes it smaller, here by hand, is through.
    edit(&node, |text| {
        let huge = text.find("  - id: huge").unwrap();
        let rest = text[huge..].find("\nalerts:").unwrap();
        format!("{}{}", &text[..huge], &text[huge + rest + 1..])
    });
    wait_until(LIMIT, "the edit to be applied", || node.version() == 4);
    assert!(node.check("c7").is_none() && node.check("small").is_some());
    node.run(&args).unwrap().ok();
    node.sigterm().unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "all of it", || node.version() == 5);
}
