//! What people type into a newcomer's `cluster.yaml` while a cluster takes it: nothing of it vanishes without a copy.

use testkit::{QU_SECRET, Qu, wait_until};

use super::{LIMIT, alone};

/// What was kept beside the file.
fn kept(node: &Qu) -> Vec<String> {
    let files = std::fs::read_dir(node.config_dir()).unwrap().flatten();
    let named = files.filter(|file| {
        let name = file.file_name();
        name.to_string_lossy().starts_with("cluster.yaml.rejected-")
    });
    named
        .map(|file| std::fs::read_to_string(file.path()).unwrap())
        .collect()
}

/// Puts a new file in the place of the old one, as most editors do.
fn replace(node: &Qu, text: &str) {
    let new = node.config_dir().join("cluster.yaml.edited");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, node.cluster_file()).unwrap();
}

#[track_caller]
fn says(node: &Qu, text: &str) {
    wait_until(LIMIT, &format!("status to say {text:?}"), || {
        let output = node.run(&["status", "--no-wait"]);
        output.is_ok_and(|output| output.stdout.contains(text))
    });
}

/// The file with a check more.
fn typed(node: &Qu) -> String {
    let text = node.cluster_text();
    assert!(text.contains("\nchecks: []\n"), "{text}");
    let check = "\nchecks:\n  - name: typed\n    type: tcp\n    target: 127.0.0.1:1\n";
    text.replacen("\nchecks: []\n", check, 1)
}

/// The file is the cluster's, the edit is beside it, and whoever looks is told.
#[track_caller]
fn is_kept(first: &Qu, newcomer: &Qu, text: &str) {
    wait_until(LIMIT, "equal files", || {
        newcomer.version() == first.version() && newcomer.cluster_text() == first.cluster_text()
    });
    assert_eq!(kept(newcomer), [text]);
    says(newcomer, "hand edit: rejected: ");
    let doctor = first.run(&["doctor"]).unwrap().stdout;
    assert!(
        doctor.contains("cluster.yaml.rejected-"),
        "whoever looks is told:\n{doctor}"
    );
}

#[test]
fn an_edit_at_a_newcomer_is_kept_when_the_clusters_configuration_takes_its_place() {
    let first = alone(1, QU_SECRET);

    // One that was refused.
    let newcomer = alone(2, QU_SECRET);
    let text = newcomer.cluster_text() + "colour: blue\n";
    replace(&newcomer, &text);
    says(&newcomer, "hand edit: not applied: ");
    let add = ["node", "add", "--yes", &newcomer.peer_address()];
    first.run(&add).unwrap().ok();
    is_kept(&first, &newcomer, &text);

    // One that waits: it looks as if it were being saved.
    let newcomer = alone(3, QU_SECRET);
    let text = typed(&newcomer).trim_end().to_owned();
    replace(&newcomer, &text);
    says(&newcomer, "hand edit: waits: ");
    let add = ["node", "add", "--yes", &newcomer.peer_address()];
    first.run(&add).unwrap().ok();
    is_kept(&first, &newcomer, &text);
}

/// Whether the promise, the placeholder or the cluster's configuration comes first: the editor was open before.
#[test]
fn an_edit_that_is_saved_just_when_a_newcomer_is_taken_is_kept() {
    let (first, newcomer) = (alone(1, QU_SECRET), alone(2, QU_SECRET));
    let text = typed(&newcomer);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            newcomer.wait_log("joining a cluster").unwrap();
            replace(&newcomer, &text);
        });
        let add = ["node", "add", "--yes", &newcomer.peer_address()];
        first.run(&add).unwrap().ok();
    });
    is_kept(&first, &newcomer, &text);
    assert!(first.check("typed").is_none());
}

#[test]
fn an_edit_at_a_removed_node_is_kept_when_it_comes_back() {
    let first = alone(1, QU_SECRET);
    let other = alone(2, QU_SECRET);
    let add = ["node", "add", "--yes", &other.peer_address()];
    first.run(&add).unwrap().ok();
    wait_until(LIMIT, "equal files", || {
        other.cluster_text() == first.cluster_text()
    });
    wait_until(LIMIT, "two voters", || first.log().contains("change=Promote"));
    first.run(&["node", "remove", &other.id()]).unwrap().ok();
    says(&other, "removed from cluster");
    let text = typed(&other);
    replace(&other, &text);
    says(
        &other,
        "hand edit: not applied: this node was removed from the cluster",
    );
    assert!(kept(&other).is_empty());
    first.run(&add).unwrap().ok();
    is_kept(&first, &other, &text);
}
