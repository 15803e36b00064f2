//! What nodes tell by themselves: lost quorum, and to a watchdog that all is well.

use testkit::{Qu, QuCluster, wait_until};

use super::LIMIT;
use super::sink::Sink;

/// Two nodes that tell of lost quorum after a second at their own paths, and call a watchdog each second.
fn start(sink: &Sink) -> QuCluster {
    let mut cluster = QuCluster::start(2).unwrap();
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        node.sigterm().unwrap();
        let path = node.config_dir().join("node.yaml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        let (note, alive) = (
            sink.url(&format!("/note-{number}")),
            sink.url(&format!("/alive-{number}")),
        );
        text = format!(
            "{text}fallback_alert:\n  type: webhook\n  webhook_url: {note}\nfallback_after: 1s\n\
             watchdog_url: {alive}\nwatchdog_every: 1s\n"
        );
        std::fs::write(path, text).unwrap();
    }
    for node in &mut cluster.nodes {
        node.spawn().unwrap();
    }
    for node in &mut cluster.nodes {
        node.wait_ready().unwrap();
    }
    cluster.settled().unwrap();
    cluster
}

fn subjects(sink: &Sink, number: usize) -> Vec<String> {
    let told = sink.at(&format!("/note-{number}"));
    told.iter()
        .map(|told| told.body["subject"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn lost(node: &Qu) -> String {
    format!("[quptime] cluster lost quorum: {}", node.peer_address())
}

fn back(node: &Qu) -> String {
    format!("[quptime] cluster has quorum again: {}", node.peer_address())
}

#[test]
fn lost_quorum_is_told_once_by_each_node_and_so_is_its_return() {
    let sink = Sink::start();
    let mut cluster = start(&sink);
    // Whoever was elected gives the role to the first at once: the cluster has just begun.
    let (master, other) = (0, 1);
    wait_until(LIMIT, "the first to be master", || {
        cluster.master().unwrap() == master
    });
    wait_until(LIMIT, "the watchdog to hear of the master", || {
        sink.at(&format!("/alive-{master}")).len() >= 2
    });
    // Starting anew may have taken longer than a second, which is told and taken back.
    let noise = subjects(&sink, other).len();

    cluster.nodes[master].kill9().unwrap();
    wait_until(LIMIT, "the note about lost quorum", || {
        subjects(&sink, other).last() == Some(&lost(&cluster.nodes[other]))
    });
    let alive = sink.at(&format!("/alive-{other}")).len();
    let told = subjects(&sink, other).len();
    assert!(told <= noise + 3, "{:?}", subjects(&sink, other));

    // What is heard and not yet noted down is told again after a crash.
    let note = cluster.nodes[other].config_dir().join("quorum.note");
    wait_until(LIMIT, "the note to be kept as told", || {
        std::fs::read_to_string(&note).is_ok_and(|text| text.contains("\"told\":true"))
    });

    // A restart repeats nothing, and nobody pretends to be well meanwhile.
    cluster.nodes[other].kill9().unwrap();
    cluster.nodes[other].start().unwrap();
    wait_until(LIMIT, "the node to be without quorum again", || {
        cluster.nodes[other]
            .field("quorum")
            .is_some_and(|quorum| quorum.starts_with("false"))
    });
    assert_eq!(sink.at(&format!("/alive-{other}")).len(), alive);

    cluster.nodes[master].start().unwrap();
    cluster.settled().unwrap();
    wait_until(LIMIT, "the note that it is back", || {
        subjects(&sink, other).last() == Some(&back(&cluster.nodes[other]))
    });
    let after = subjects(&sink, other);
    assert_eq!(after.len(), told + 1, "{after:?}");
    let notes = sink.at(&format!("/note-{other}"));
    let keys: Vec<&str> = notes[told - 1..]
        .iter()
        .map(|told| told.body["dedup_key"].as_str().unwrap())
        .collect();
    assert_eq!(keys[0], keys[1]);
    wait_until(LIMIT, "the note to be gone", || !note.exists());
}
