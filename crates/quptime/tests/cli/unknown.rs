//! Changes of which nobody knows whether they were made: the answer says so, and how to find out.

use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use testkit::{Qu, QuCluster, wait_until};

use super::LIMIT;

const UNKNOWN: &str =
    "; it may have taken effect all the same, look at qu cluster log before you repeat it\n";
/// Attempts to catch a master that nobody answers any more, before it notices.
const TRIES: usize = 10;

#[test]
fn a_master_that_loses_the_others_meanwhile_says_that_it_does_not_know() {
    let cluster = QuCluster::start(3).unwrap();
    let master = cluster.master().unwrap();
    let others = || {
        let all = cluster.nodes.iter().enumerate();
        all.filter(|(index, _)| *index != master).map(|(_, node)| node)
    };
    let mut uncertain = None;
    for number in 0..TRIES {
        others().for_each(|node| node.signal(Signal::SIGSTOP).unwrap());
        let name = format!("c{number}");
        let added = cluster.nodes[master]
            .run(&["check", "add", "tcp", &name, "127.0.0.1:1"])
            .unwrap();
        others().for_each(|node| node.signal(Signal::SIGCONT).unwrap());
        cluster.settled().unwrap();
        // A master that has noticed refuses for lack of quorum, and nothing is changed.
        if added.code != 4 {
            uncertain = Some((name, added));
            break;
        }
        assert!(cluster.nodes[0].check(&name).is_none());
        if cluster.master().unwrap() != master {
            break;
        }
    }
    let Some((name, added)) = uncertain else {
        panic!("the master always noticed before it took a change");
    };
    assert_eq!(added.code, 1, "{added:?}");
    let expected =
        format!("error: propose to master: the master changed before the change was confirmed{UNKNOWN}");
    assert_eq!(added.stderr, expected);
    // The answer is right to say where to look: either all nodes have it, or none.
    let shown = |node: &Qu| node.run(&["cluster", "log"]).unwrap().ok().contains(&name);
    let first = shown(&cluster.nodes[0]);
    assert!(cluster.nodes.iter().all(|node| shown(node) == first));
}

/// Whether a command has asked and waits for the answer.
fn waits(command: &Child) -> bool {
    let proc = format!("/proc/{}", command.id());
    let stat = std::fs::read_to_string(format!("{proc}/stat")).unwrap_or_default();
    let sleeps = stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('S'));
    let files = std::fs::read_dir(format!("{proc}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut links = files.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    sleeps && links.any(|link| link.to_string_lossy().starts_with("socket:"))
}

#[test]
fn a_daemon_that_ends_while_it_is_asked_leaves_a_change_unknown() {
    let mut node = super::single();
    node.signal(Signal::SIGSTOP).unwrap();
    let ask = |args: &[&str]| {
        let mut command = node.command(args);
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let asked = [
        ask(&["check", "add", "tcp", "port", "127.0.0.1:1"]),
        ask(&["check", "list"]),
    ];
    for command in &asked {
        let mut before = false;
        wait_until(LIMIT, "the command to wait for its answer", || {
            let was = std::mem::replace(&mut before, waits(command));
            was && before
        });
    }
    node.kill9().unwrap();
    let said = asked.map(|command| command.wait_with_output().unwrap());
    let texts = said
        .each_ref()
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    for output in &said {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    let changes =
        "; the change may have taken effect all the same, look at qu cluster log before you repeat it\n";
    assert!(
        texts[0].starts_with("error: the daemon ") && texts[0].ends_with(changes),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("error: the daemon ") && texts[1].ends_with("; try again when it runs\n"),
        "{texts:?}"
    );
}
