//! A node that comes to a cluster whose master it has never heard of.

use testkit::{QU_SECRET, Qu, QuCluster, wait_until};

use super::LIMIT;

#[test]
fn a_node_is_introduced_to_a_master_that_came_while_it_was_away() {
    let mut cluster = QuCluster::start(3).unwrap();
    cluster.nodes[2].sigterm().unwrap();
    // One comes, one goes, and the one that came is preferred.
    let mut newcomer = Qu::init(0, QU_SECRET).unwrap();
    newcomer.start().unwrap();
    let first = &cluster.nodes[0];
    first
        .run(&["node", "add", "-y", &newcomer.peer_address()])
        .unwrap()
        .ok();
    let needs = |need: &str| first.field("quorum").as_deref() == Some(need);
    wait_until(LIMIT, "the newcomer to vote", || needs("true (need 3)"));
    let gone = cluster.nodes[1].id();
    first.run(&["node", "remove", &gone]).unwrap().ok();
    wait_until(LIMIT, "the second to vote no more", || needs("true (need 2)"));
    cluster.nodes[1].sigterm().unwrap();
    cluster.nodes[0].restart().unwrap();
    let first = &cluster.nodes[0];
    wait_until(LIMIT, "the newcomer to be master", || {
        first.field("master") == Some(newcomer.id()) && newcomer.has_quorum()
    });

    // It knows the first, who follows, and the second, who is gone.
    let away = &mut cluster.nodes[2];
    away.start().unwrap();
    let version = newcomer.version();
    wait_until(LIMIT, "the node that was away to catch up", || {
        away.version() == version && away.field("master") == Some(newcomer.id())
    });
    away.run(&["check", "add", "tcp", "here", "127.0.0.1:1"])
        .unwrap()
        .ok();
}
