//! Three nodes: the pictures of the page, a fourth node that joins, one that may not leave, and the end of the quorum.

use testkit::{QU_SECRET, Qu, QuCluster};

use super::page::Page;
use super::terminal::Terminal;

fn do_it(node: &Qu, args: &[&str]) {
    node.run(args).unwrap().ok();
}

#[test]
fn nodes_join_and_leave_and_a_lost_quorum_is_told() {
    let mut cluster = QuCluster::start(3).unwrap();
    let first = &cluster.nodes[0];
    let (smtp, to) = ("mail.example.com", "oncall@example.com");
    let from = "qu@example.com";
    do_it(
        first,
        &[
            "alert",
            "add",
            "smtp",
            "oncall",
            "--host",
            smtp,
            "--from",
            from,
            "--to",
            to,
            "--user",
            "qu",
            "--password",
            "a secret",
            "--default",
        ],
    );
    // Nobody is to be told by mail.
    do_it(first, &["alert", "disable", "oncall"]);
    do_it(
        first,
        &[
            "alert",
            "add",
            "webhook",
            "tickets",
            "--url",
            "http://127.0.0.1:1/secret",
            "--default",
        ],
    );
    let often = ["--interval", "1s"];
    let web = cluster.nodes[1].peer_address();
    do_it(
        first,
        &[&["check", "add", "tcp", "homepage", &web], &often[..]].concat(),
    );
    // It is down: it tells nobody.
    do_it(
        first,
        &[
            &["check", "add", "tcp", "database", "127.0.0.1:1"],
            &often[..],
            &["--suppress-alerts", "tickets"],
        ]
        .concat(),
    );

    let screen = Terminal::open(first);
    screen.start("");
    let mut page = Page::open();
    screen.shows("[2 Checks 2, 1 down]");
    screen.shows("homepage up 3/3");
    screen.shows("database down 0/3");
    page.compare("checks", &screen.picture());
    screen.write("1");
    screen.shows("[1 Peers 3/3 live]");
    page.compare("peers", &screen.picture());
    screen.write("3");
    screen.shows("[3 Alerts 2]");
    page.compare("alerts", &screen.picture());
    screen.write("e");
    screen.shows("Edit alert oncall (smtp)");
    page.compare("form", &screen.picture());
    screen.press(&["Escape"]);
    screen.lacks("Edit alert");
    screen.write("?");
    screen.shows("close it without sending");
    page.compare("help", &screen.picture());
    page.close();
    screen.write("q");

    // A fourth node joins.
    let mut fourth = Qu::init(4, QU_SECRET).unwrap();
    fourth.start().unwrap();
    screen.lacks("close it without sending");
    screen.write("1a");
    screen.shows("Add a node");
    screen.write(&fourth.peer_address());
    screen.press(&["Enter"]);
    screen.shows("Add this node to the cluster?");
    screen.shows(&format!("node id {}", fourth.id()));
    screen.shows("fingerprint sha256:");
    screen.write("y");
    screen.shows("secret proof succeeded, node 00000004-0000-4000-8000-000000000000 added");
    screen.shows("[1 Peers 4/4 live]");

    // It goes again.
    screen.press(&["End"]);
    screen.shows("> 00000004-");
    screen.write("d");
    screen.shows("Remove node 00000004-0000-4000-8000-000000000000 at");
    screen.write("y");
    screen.shows("removed, quorum is now 2 (cluster version now ");
    screen.shows("[1 Peers 3/3 live]");
    drop(fourth);

    // Of three nodes one is dead: the other may not leave.
    cluster.nodes[2].kill9().unwrap();
    screen.shows("[1 Peers 2/3 live]");
    screen.press(&["Home", "Down"]);
    screen.shows("> 00000002-");
    screen.write("dy");
    screen.shows("error: ");
    screen.shows("quorum");
    assert!(screen.picture().contains("[1 Peers 2/3 live]"));

    // The end of the quorum, and its return.
    cluster.nodes[1].kill9().unwrap();
    screen.shows("NO QUORUM: no change is taken and no alert is sent; probing goes on.");
    screen.write("2x");
    screen.shows("error: no quorum, change refused (live 1, need 2)");
    cluster.nodes[1].spawn().unwrap();
    screen.lacks("NO QUORUM");
    screen.shows("quorum true (need 2)");
}
