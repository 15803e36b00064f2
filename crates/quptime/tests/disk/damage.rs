//! Damage of `raft/`. What a node that does not start tells people to type is typed here.

use std::path::PathBuf;
use std::process::Command;

use testkit::{Qu, QuCluster, wait_until};

use super::{LIMIT, named};

type Damage = fn(&Qu);

fn log_of(node: &Qu) -> PathBuf {
    node.config_dir().join("raft/log")
}

/// What the log got since it had `before` bytes.
fn since(node: &Qu, before: usize) -> String {
    node.log()[before..].to_owned()
}

/// The node does not start, and says so in one line.
#[track_caller]
fn refuses(node: &mut Qu) -> String {
    let before = node.log().len();
    node.spawn().unwrap();
    let status = node.wait_exit().unwrap();
    assert_eq!(status.code(), Some(1), "{}", node.log());
    let log = since(node, before);
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("error: ")).collect();
    let [line] = errors[..] else {
        panic!("one line: {log}")
    };
    line.to_owned()
}

/// Types the command that the line names.
#[track_caller]
fn obey(line: &str) {
    let (_, rest) = line.split_once("type ").unwrap();
    let (command, _) = rest.split_once(" and start qu again: ").unwrap();
    assert!(command.starts_with("mv "), "{line}");
    let done = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success(), "{command}");
}

fn flip_in_the_middle(node: &Qu) {
    let mut content = std::fs::read(log_of(node)).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    // In place: a new file is another log.
    std::fs::write(log_of(node), content).unwrap();
}

fn cut_the_end(node: &Qu) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(log_of(node))
        .unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 100).unwrap();
}

fn empty_meta(node: &Qu) {
    std::fs::write(node.config_dir().join("raft/meta"), "").unwrap();
}

#[test]
fn a_damaged_member_says_how_it_comes_back_and_that_works() {
    let mut cluster = QuCluster::start(3).unwrap();
    let added = cluster.nodes[0].run(&["check", "add", "tcp", "port", "127.0.0.1:1", "--interval", "1h"]);
    added.unwrap().ok();
    cluster.settled().unwrap();

    let cases: [(Damage, &str, &str); 3] = [
        (
            flip_in_the_middle,
            "raft/log is damaged at byte ",
            "whole ones follow; ",
        ),
        (
            cut_the_end,
            "raft/log is damaged at byte ",
            "that were synced are wrong or missing; ",
        ),
        (empty_meta, "raft/meta is damaged at byte 0: ", "it is empty; "),
    ];
    for (number, (damage, which, why)) in cases.into_iter().enumerate() {
        let node = &mut cluster.nodes[2];
        node.sigterm().unwrap();
        damage(node);
        let line = refuses(node);
        assert!(line.contains(which) && line.contains(why), "{line}");
        assert_eq!(refuses(node), line, "the folder is left as it is");
        obey(&line);
        assert_eq!(named(node, "raft.damaged").len(), number + 1);
        let before = node.log().len();
        node.start().unwrap();
        wait_until(LIMIT, "the node to be admitted with a new life", || {
            let log = since(&cluster.nodes[2], before);
            log.contains("admitted to the group")
        });
        cluster.settled().unwrap();
    }
    // It is a voter again: with it and one other there is quorum.
    cluster.nodes[1].kill9().unwrap();
    cluster.settled().unwrap();
    let edited = cluster.nodes[2].run(&["check", "edit", "port", "--timeout", "4s"]);
    edited.unwrap().ok();
}

#[test]
fn a_node_that_is_alone_begins_anew_from_its_file_and_an_append_that_was_cut_off_is_nothing() {
    let mut node = Qu::init(1, testkit::QU_SECRET).unwrap();
    node.start().unwrap();
    let added = node.run(&["check", "add", "tcp", "port", "127.0.0.1:1", "--interval", "1h"]);
    added.unwrap().ok();

    // The beginning of a record of 200 bytes.
    node.sigterm().unwrap();
    let mut content = std::fs::read(log_of(&node)).unwrap();
    let whole = content.len();
    content.extend([0, 0, 0, 200, 1, 2, 3, 4, 2, 0, 0]);
    std::fs::write(log_of(&node), content).unwrap();
    let before = node.log().len();
    node.start().unwrap();
    wait_until(LIMIT, "the group to run", || {
        assert!(
            node.cluster_text().contains("name: port\n"),
            "the file never goes back"
        );
        node.check("port").is_some() && node.has_quorum()
    });
    let log = since(&node, before);
    let told = log
        .lines()
        .find(|line| line.contains("an append that a crash cut off"));
    let told = told.unwrap_or_else(|| panic!("{log}"));
    assert!(
        told.contains("INFO") && told.contains(&format!("at={whole}")) && told.contains("bytes=11"),
        "{told}"
    );
    assert!(!log.contains("mv ") && !log.contains("aside"), "{log}");
    let version = node.version();

    node.sigterm().unwrap();
    flip_in_the_middle(&node);
    let line = refuses(&mut node);
    assert!(
        line.contains("; no other node has it; type mv ")
            && line.contains("it begins anew from cluster.yaml, "),
        "{line}"
    );
    obey(&line);
    node.start().unwrap();
    wait_until(LIMIT, "the check of the file to be known", || {
        node.check("port").is_some() && node.has_quorum()
    });
    assert!(node.version() >= version);
}
