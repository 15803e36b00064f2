//! Several members restored from one snapshot, each in its own directory, begin a new cluster together.

use std::path::Path;

use testkit::{Chainfire, ChainfireCluster};

fn client(node: &Chainfire, args: &[&str]) -> String {
    let output = node.client(args).unwrap();
    assert_eq!(output.code, 0, "{args:?}: {}{}", output.stdout, output.stderr);
    output.stdout
}

fn value(node: &Chainfire, key: &str) -> String {
    client(node, &["get", key, "--print-value-only"])
        .trim_end()
        .to_owned()
}

/// Servers whose settings know nothing of each other: the directories say it.
fn strangers(size: u64) -> ChainfireCluster {
    let nodes = (1..=size).map(|id| {
        let config = "[cluster]\nbootstrap = false";
        Chainfire::builder().node(id).config(config).build().unwrap()
    });
    ChainfireCluster {
        nodes: nodes.collect(),
    }
}

/// What every `--initial-members` says.
fn members(cluster: &ChainfireCluster) -> String {
    let members = cluster.nodes.iter().zip(1..);
    let members: Vec<String> = members
        .map(|(node, id)| format!("{id}={}", node.peer_address()))
        .collect();
    members.join(",")
}

fn restore(cluster: &mut ChainfireCluster, node: u64, file: &Path, bump: &str) -> String {
    let list = members(cluster);
    let node_id = node.to_string();
    let node = cluster.node(node);
    let data = node.data_dir();
    if data.exists() {
        std::fs::remove_dir_all(&data).unwrap();
    }
    let (file, data) = (file.display().to_string(), data.display().to_string());
    let arguments = [
        "snapshot",
        "restore",
        &file,
        "--data-dir",
        &data,
        "--node-id",
        &node_id,
        "--initial-members",
        &list,
        "--bump-revision",
        bump,
        "--mark-compacted",
    ];
    client(node, &arguments)
}

/// A snapshot of a cluster of two that has `keys` keys.
fn snapshot(dir: &Path, keys: u32) -> std::path::PathBuf {
    let mut old = ChainfireCluster::start(2, "").unwrap();
    for number in 0..keys {
        client(old.node(1), &["put", &format!("key{number}"), "old"]);
    }
    let file = dir.join("all.snapshot");
    client(old.node(1), &["snapshot", "save", &file.display().to_string()]);
    file
}

#[test]
fn three_members_restored_from_one_file_are_one_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let file = snapshot(dir.path(), 30);
    let mut cluster = strangers(3);
    for node in 1..=3 {
        let told = restore(&mut cluster, node, &file, "1000");
        assert!(
            told.contains(&format!(
                "Node {node} serves when nodes 1, 2, 3 have been restored from the same file and all of them are started"
            )),
            "{told}"
        );
    }
    // Two of three could agree, but only all of them know that nobody holds anything else.
    cluster.node(1).spawn().unwrap();
    cluster.node(2).spawn().unwrap();
    let waiting = "Waiting for the other first members, missing=3";
    cluster.node(1).wait_log(waiting).unwrap();
    let refused = cluster.node(1).client(&["put", "too", "early"]).unwrap();
    assert_ne!(refused.code, 0, "{refused:?}");
    cluster.start_all().unwrap();
    assert!(cluster.node(1).log().contains("Cluster founded, voters=3"));
    for node in &cluster.nodes {
        assert_eq!(value(node, "key29"), "old");
        let list = client(node, &["member-list"]);
        assert_eq!(list.matches("started").count(), 3, "{list}");
    }
    client(cluster.node(3), &["put", "new", "1"]);
    let status = client(cluster.node(2), &["status"]);
    let revision = status.lines().find_map(|line| line.strip_prefix("revision: "));
    assert!(revision.unwrap().parse::<i64>().unwrap() > 1000, "{status}");
    let old = cluster.node(2).client(&["get", "key1", "--rev", "20"]).unwrap();
    assert!(
        old.stderr.contains("required revision has been compacted"),
        "{old:?}"
    );

    // It is a cluster like any other: it survives a member, and that member comes back.
    cluster.node(1).kill9().unwrap();
    client(cluster.node(2), &["put", "new", "2"]);
    cluster.node(1).start().unwrap();
    assert_eq!(value(cluster.node(1), "new"), "2");
    // One that is restored once more has forgotten what it said, and is admitted.
    cluster.node(3).kill9().unwrap();
    restore(&mut cluster, 3, &file, "1000");
    cluster.node(3).start().unwrap();
    cluster.node(3).wait_log("Node admitted").unwrap();
    assert_eq!(value(cluster.node(3), "new"), "2");
}

#[test]
fn members_that_were_restored_in_another_way_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let file = snapshot(dir.path(), 3);
    let mut cluster = strangers(2);
    restore(&mut cluster, 1, &file, "1000");
    restore(&mut cluster, 2, &file, "2000");
    for node in &mut cluster.nodes {
        node.spawn().unwrap();
    }
    let line = "Members were not restored from the same snapshot with the same --initial-members and --bump-revision, nodes=2";
    cluster.node(1).wait_log(line).unwrap();
    cluster.node(2).kill9().unwrap();
    restore(&mut cluster, 2, &file, "1000");
    cluster.start_all().unwrap();
    assert_eq!(value(cluster.node(2), "key2"), "old");
}

#[test]
fn a_list_without_the_node_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = snapshot(dir.path(), 1);
    let node = Chainfire::builder().build().unwrap();
    let (file, data) = (file.display().to_string(), dir.path().join("data"));
    let restore = |members: &str| {
        let data = data.display().to_string();
        let arguments = [
            "snapshot",
            "restore",
            &file,
            "--data-dir",
            &data,
            "--node-id",
            "3",
            "--initial-members",
            members,
        ];
        node.client(&arguments).unwrap()
    };
    let refused = restore("1=a:2380,2=b:2380");
    assert_eq!(refused.code, 2);
    assert_eq!(
        refused.stderr.trim_end(),
        "Error: --initial-members: node 3 is not among them: give the same list on all machines, and on each its own --node-id"
    );
    let twice = restore("1=a:2380,3=a:2380");
    assert!(twice.stderr.contains("a:2380 is there twice"), "{twice:?}");
    assert!(!data.exists());
    // Alone it begins at once.
    let alone = restore("3=a:2380");
    assert_eq!((alone.code, alone.stdout.lines().count()), (0, 1), "{alone:?}");
}
