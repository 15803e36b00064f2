//! Edits by hand on a running follower.

use std::os::unix::fs::PermissionsExt as _;

use testkit::{QU_SECRET, Qu, QuCluster, wait_until};

use super::{LIMIT, cluster, edit, equal, says};

/// A node that does not lead.
fn follower(cluster: &QuCluster) -> &Qu {
    let master = cluster.master().unwrap();
    &cluster.nodes[(master + 1) % 3]
}

fn rejected(node: &Qu) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(node.config_dir()).unwrap().flatten();
    let named = files.filter(|file| {
        file.file_name()
            .to_string_lossy()
            .starts_with("cluster.yaml.rejected-")
    });
    named.map(|file| file.path()).collect()
}

#[test]
fn a_valid_edit_becomes_the_configuration_of_all() {
    let cluster = cluster();
    let node = follower(&cluster);
    let version = node.version();
    edit(node, |text| {
        let changed = text.replace("target: 127.0.0.1:1\n", "target: 127.0.0.1:2\n");
        changed.replace(
            "checks:\n",
            "checks:\n  - name: added # by hand\n    type: tcp\n    target: 127.0.0.1:3\n",
        )
    });
    wait_until(LIMIT, "the edit to be applied", || node.version() == version + 1);
    let text = equal(&cluster);
    for part in ["name: added\n", "target: 127.0.0.1:2\n", "target: 127.0.0.1:3\n"] {
        assert!(text.contains(part), "{text}");
    }
    // What had no id has got one.
    assert_eq!(text.matches("  - id: ").count(), 3, "{text}");
    assert!(text.contains(&format!("updated_by: {}\n", node.id())), "{text}");
    assert!(
        node.log().contains("manual-edit: 2 changes found, proposing"),
        "{}",
        node.log()
    );
    for node in &cluster.nodes {
        let log = node.run(&["cluster", "log"]).unwrap().ok();
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.contains("  hand edit  added check added; changed check "),
            "{log}"
        );
        assert!(node.check("added").is_some());
        for name in ["cluster.yaml", "trust.yaml", "node.yaml", "keys/private.pem"] {
            let metadata = std::fs::metadata(node.config_dir().join(name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
        }
        let raft = std::fs::metadata(node.config_dir().join("raft")).unwrap();
        assert_eq!(raft.permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn an_invalid_edit_changes_nothing_and_names_its_line() {
    let cluster = cluster();
    let node = follower(&cluster);
    let (version, good) = (node.version(), node.cluster_text());
    let lines = good.lines().count();
    for (bad, told) in [
        (
            format!("{good}colour: blue\n"),
            format!("line {}: unknown field", lines + 1),
        ),
        (
            good.replace("    type: tcp\n", "    type: tcp\n    interval: soon\n"),
            "bad duration \"soon\"".to_owned(),
        ),
        (
            good.replace("    type: tcp\n", "    type: tcp\n    alert_ids: [nobody]\n"),
            "there is no alert \"nobody\"".to_owned(),
        ),
    ] {
        edit(node, |_| bad.clone());
        says(node, &told);
        says(node, "hand edit: not applied: line ");
        let log = node.log();
        assert!(log.contains("manual-edit: not applied: line "), "{log}");
        assert_eq!(node.cluster_text(), bad, "the operator's text stays");
    }
    assert_eq!(node.version(), version);
    // The others go on, and so does this one in its state.
    cluster.nodes[cluster.master().unwrap()]
        .run(&["check", "disable", "port"])
        .unwrap()
        .ok();
    says(node, "(disabled)");
    // Mended by putting back what was there: that undoes nothing that was done meanwhile.
    edit(node, |_| good.clone());
    let text = equal(&cluster);
    assert!(text.contains("disabled: true\n"), "{text}");
    assert!(!node.run(&["status"]).unwrap().ok().contains("hand edit"));
}

/// A rejected edit that somebody copies back is rejected once more, and told and kept as the first time.
#[test]
fn a_rejected_edit_in_the_place_of_the_file_is_told_again() {
    let cluster = cluster();
    let node = follower(&cluster);
    // An editor was open while somebody else changed the same check.
    let late = node
        .cluster_text()
        .replace("target: 127.0.0.1:1\n", "target: 127.0.0.1:2\n");
    node.run(&["check", "edit", "port", "--interval", "7s"])
        .unwrap()
        .ok();
    let (version, before) = (node.version(), equal(&cluster));
    for times in 1..=3 {
        edit(node, |_| late.clone());
        wait_until(LIMIT, "the edit to be kept", || rejected(node).len() == times);
        says(node, "hand edit: rejected: ");
        wait_until(LIMIT, "the file to be written again", || {
            node.cluster_text() == before
        });
    }
    says(node, "make the change in cluster.yaml as it is now");
    for kept in rejected(node) {
        assert_eq!(std::fs::read_to_string(kept).unwrap(), late);
    }
    assert_eq!(node.version(), version);
}

#[test]
fn comments_are_kept_and_version_0_is_a_placeholder() {
    let cluster = cluster();
    let node = follower(&cluster);
    let version = node.version();
    let good = node.cluster_text();
    edit(node, |text| format!("{text}# a remark of the operator\n"));
    let commented = node.cluster_text();
    // A placeholder is written over; after that the comment has been looked at as well.
    let other = &cluster.nodes[cluster.master().unwrap()];
    edit(other, |text| {
        text.replacen(&format!("version: {version}\n"), "version: 0\n", 1)
    });
    wait_until(LIMIT, "the placeholder to be written over", || {
        other.cluster_text() == good
    });
    assert_eq!(node.cluster_text(), commented);
    assert_eq!(node.version(), version);
    assert!(!node.run(&["status"]).unwrap().ok().contains("hand edit"));
    // The next change writes the file as everybody has it.
    node.run(&["check", "disable", "port"]).unwrap().ok();
    let text = equal(&cluster);
    assert!(!text.contains("remark"), "{text}");
    assert_eq!(node.version(), version + 1);
}

#[test]
fn a_placeholder_with_other_content_is_not_proposed() {
    let cluster = cluster();
    let node = follower(&cluster);
    let (version, good) = (node.version(), node.cluster_text());
    edit(node, |text| {
        let placeholder = text.replacen(&format!("version: {version}\n"), "version: 0\n", 1);
        placeholder.replace("name: port\n", "name: another\n")
    });
    wait_until(LIMIT, "the placeholder to be written over", || {
        node.cluster_text() == good
    });
    assert_eq!(node.version(), version);
    assert!(node.check("another").is_none());
}

#[test]
fn edits_of_other_entries_survive_each_other_and_the_same_entry_conflicts() {
    let cluster = cluster();
    let node = follower(&cluster);
    let master = &cluster.nodes[cluster.master().unwrap()];
    // While the file makes no sense it is not written over, so it still is what its author saw when the others go on.
    let seen = node.cluster_text();
    edit(node, |text| format!("{text}colour: blue\n"));
    says(node, "hand edit: not applied");
    master
        .run(&["check", "edit", "port", "--timeout", "3s"])
        .unwrap()
        .ok();
    master
        .run(&["check", "add", "tcp", "other", "127.0.0.1:2"])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the node to follow", || node.check("other").is_some());
    // Another entry than those that were changed meanwhile.
    edit(node, |_| {
        seen.replace(
            "webhook_url: http://127.0.0.1:1/\n",
            "webhook_url: http://127.0.0.1:9/\n",
        )
    });
    let text = equal(&cluster);
    for part in ["http://127.0.0.1:9/\n", "timeout: 3s\n", "name: other\n"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(rejected(node).is_empty());

    // The same entry on both sides.
    let seen = text;
    edit(node, |text| format!("{text}colour: blue\n"));
    says(node, "hand edit: not applied");
    master
        .run(&["check", "edit", "port", "--timeout", "4s"])
        .unwrap()
        .ok();
    wait_until(LIMIT, "the node to follow", || node.version() == master.version());
    let version = master.version();
    let mine = seen.replace("target: 127.0.0.1:1\n", "target: 127.0.0.1:8\n");
    edit(node, |_| mine.clone());
    says(node, "hand edit: rejected: ");
    let kept = rejected(node);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), mine);
    let mode = std::fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = equal(&cluster);
    assert!(
        text.contains("timeout: 4s\n") && !text.contains("127.0.0.1:8\n"),
        "{text}"
    );
    assert_eq!(node.version(), version);
}

#[test]
fn an_older_text_that_is_put_back_whole_is_kept_and_told() {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    let add = |node: &Qu, name: &str| {
        let args = ["check", "add", "tcp", name, "127.0.0.1:1", "--interval", "1h"];
        node.run(&args).unwrap().ok();
        node.cluster_text()
    };
    let old = add(&node, "first");
    for name in ["second", "third", "fourth"] {
        add(&node, name);
    }
    let last = add(&node, "fifth");
    assert!(last.starts_with("version: 6\n"), "{last}");
    edit(&node, |_| old.clone());
    says(
        &node,
        "hand edit: rejected: it is version 2 as that was, and the cluster is at 6; the edit is kept in ",
    );
    let kept = rejected(&node);
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), old);
    let restore = format!("; to go back to it, say qu cluster restore {}", kept[0].display());
    says(&node, &restore);
    wait_until(LIMIT, "the file to be written again", || {
        node.cluster_text() == last
    });
    let told = node.log().matches("it is version 2 as that was").count();
    assert_eq!(told, 1, "{}", node.log());

    // What it says works.
    node.run(&["cluster", "restore", kept[0].to_str().unwrap()])
        .unwrap()
        .ok();
    let restored = node.cluster_text();
    assert!(restored.starts_with("version: 7\n") && !restored.contains("name: second"));

    // What a crash between the log and the file leaves there is the daemon's own.
    node.kill9().unwrap();
    std::fs::write(node.cluster_file(), &last).unwrap();
    node.start().unwrap();
    wait_until(LIMIT, "the newest file", || node.cluster_text() == restored);
    assert_eq!(rejected(&node).len(), 1);
    assert_eq!(node.version(), 7);
}
