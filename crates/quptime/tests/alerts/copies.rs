//! A data directory that was copied, and runs twice.

use std::process::Command;
use std::time::Duration;

use testkit::{Qu, happens_within, wait_until};

use super::{LIMIT, Watched};

/// Twice the time that an answer between nodes may take.
const OLDER: Duration = Duration::from_secs(4);

/// A node with another address that runs on a copy of this one's directory, of which nothing was changed.
fn copy_of(node: &Qu) -> Qu {
    let mut copy = Qu::bare().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([node.config_dir(), copy.config_dir()])
        .status();
    assert!(copied.unwrap().success());
    let address = copy.address().to_string();
    copy.set_env("QUPTIME_BIND_ADDR", &address);
    let file = copy.config_dir().join("node.yaml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        settings.replace(
            &format!("web_listen: {}", node.address()),
            &format!("web_listen: {address}"),
        ),
    )
    .unwrap();
    copy
}

/// What a process says that is refused.
fn refusal(copy: &mut Qu) -> String {
    assert_eq!(copy.wait_exit().unwrap().code(), Some(1));
    let log = copy.log();
    log.lines().last().unwrap().to_owned()
}

#[test]
fn a_copy_does_not_start_beside_its_original() {
    let mut node = Qu::init(1, "s").unwrap();
    node.start().unwrap();
    let mut copy = copy_of(&node);
    let before = listing(&copy);
    copy.spawn().unwrap();
    assert_eq!(
        refusal(&mut copy),
        format!(
            "error: another process runs as node {} already and answers at {} with its key; this data directory, or that one, is a copy: \
             every node needs its own (qu init or qu enroll join), or stop the other one first",
            node.id(),
            node.peer_address()
        )
    );
    assert_eq!(listing(&copy), before, "nothing is written");
    // Also if its address was changed: that of the node stands in cluster.yaml as well.
    let elsewhere = copy.peer_address();
    copy.set_env("QUPTIME_ADVERTISE", &elsewhere);
    copy.spawn().unwrap();
    assert!(refusal(&mut copy).contains(&node.peer_address()));
    let added = node.run(&["check", "add", "tcp", "web", "127.0.0.1:1"]);
    added.unwrap().ok();
    // When the original is gone for good the copy takes its place.
    node.kill9().unwrap();
    copy.start().unwrap();
    wait_until(LIMIT, "the copy to go on as the node", || copy.has_quorum());
}

/// Names, sizes and times of all files.
fn listing(node: &Qu) -> String {
    let mut list = Command::new("find");
    list.arg(node.config_dir()).args(["-printf", "%P %s %T@\\n"]);
    String::from_utf8(list.output().unwrap().stdout).unwrap()
}

#[test]
fn of_two_processes_of_a_cluster_the_newer_one_ends() {
    let mut watched = Watched::start();
    let master = watched.cluster.master().unwrap();
    let number = (master + 1) % 3;
    // The original is away when its copy starts, so that nobody answers for it, and comes back while the copy runs: the copy came first.
    watched.cluster.nodes[number].kill9().unwrap();
    let mut copy = copy_of(&watched.cluster.nodes[number]);
    copy.start().unwrap();
    wait_until(LIMIT, "the copy to be in the cluster", || copy.has_quorum());
    // It stays there, and is clearly the older one then, however slow this machine is.
    assert!(!happens_within(OLDER, || !copy.is_running()), "{}", copy.log());
    let second = &mut watched.cluster.nodes[number];
    second.spawn().unwrap();
    let said = refusal(second);
    let (id, first) = (second.id(), copy.pid().unwrap());
    // If a master was elected meanwhile it is also behind.
    let told = |why: &str| said.starts_with(&format!("error: another process runs as node {id} and {why}: "));
    assert!(
        (told("was there before") || told("holds more"))
            && said.contains(&format!(" (pid {first}, "))
            && said.contains("every node needs its own (qu init or qu enroll join)"),
        "{said}"
    );
    let told = |node: &Qu| node.log().matches("two processes run as node").count();
    let others = [master, (master + 2) % 3].map(|other| &watched.cluster.nodes[other]);
    assert!(others.iter().any(|node| told(node) > 0), "{}", others[0].log());
    assert!(others.iter().all(|node| told(node) <= 1), "{}", others[0].log());
    let doctor = others.map(|node| node.run(&["doctor"]).unwrap().stdout);
    let row = |text: &str| {
        text.lines()
            .any(|line| line.starts_with("fail    copies") && line.contains(&id))
    };
    assert!(doctor.iter().any(|text| row(text)), "{doctor:?}");
    // One process is left, and all is well with it.
    wait_until(LIMIT, "all to be heard", || {
        let list = others[0].run(&["node", "list"]).unwrap().stdout;
        copy.is_running() && copy.has_quorum() && list.matches(" true  ").count() == 3
    });
    watched.target.fail();
    watched.sink.wait("page", &["DOWN"]);
    watched.target.recover();
    watched.sink.wait("page", &["DOWN", "RECOVERED"]);
}
