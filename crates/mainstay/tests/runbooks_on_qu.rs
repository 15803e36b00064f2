//! The runbooks about qu, carried out as an operator would against the three nodes that watch a lab of `mainstay up`.

use std::process::{Command, Output};

use lab::AddressBlock;

/// Three hosts in a directory of their own, taken down whatever happens.
struct Watched {
    dir: tempfile::TempDir,
    /// Nobody else's while the lab is up.
    _block: AddressBlock,
}

impl Watched {
    fn up() -> Watched {
        let block = AddressBlock::free().expect("a free block of addresses");
        let number = block.host(0).expect("a block has hosts").octets()[2].to_string();
        let watched = Watched {
            dir: tempfile::tempdir().expect("a directory for the lab"),
            _block: block,
        };
        let up = [
            "up",
            "--nodes",
            "3",
            "--detach",
            "--block",
            &number,
            "--dir",
            watched.path(),
        ];
        assert_passed(&mainstay(&up));
        watched
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("temporary paths are text")
    }

    fn page(&self, name: &str, more: &[&str]) -> Output {
        let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/runbooks");
        let arguments = [
            "runbook",
            "run",
            name,
            "--dir",
            pages,
            "--lab",
            self.path(),
            "--yes",
        ];
        mainstay(&[&arguments, more].concat())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let down = mainstay(&["down", "--dir", self.path()]);
        if !std::thread::panicking() {
            assert_passed(&down);
        }
    }
}

fn mainstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

#[track_caller]
fn assert_passed(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, text(output));
}

#[test]
fn the_checklist_passes_and_every_node_can_be_restarted_in_turn() {
    let watched = Watched::up();
    assert_passed(&watched.page("qu-upgrade", &[]));
    assert_passed(&watched.page("qu-checklist", &[]));
}

#[test]
fn a_file_from_a_backup_gives_way_to_the_running_cluster() {
    let watched = Watched::up();
    assert_passed(&watched.page("qu-backup-restore", &[]));
}

#[test]
fn a_node_that_is_gone_is_replaced() {
    let watched = Watched::up();
    assert_passed(&watched.page("qu-replace-node", &[]));
}

#[test]
fn lost_quorum_is_found_and_comes_back_with_the_nodes() {
    let watched = Watched::up();
    for node in ["node2", "node3"] {
        assert_passed(&mainstay(&[
            "lab",
            "kill",
            "--dir",
            watched.path(),
            node,
            "quptime",
        ]));
    }
    let found = || {
        let page = watched.page("qu-lost-quorum", &["--section", "Checks"]);
        Ok((page.status.code() == Some(1)).then_some(()))
    };
    lab::wait::until(std::time::Duration::from_mins(1), "the loss to be seen", found)
        .expect("two of three are gone");
    assert_passed(&watched.page("qu-lost-quorum", &["--section", "Fix"]));
    assert_passed(&watched.page("qu-lost-quorum", &["--section", "Proof"]));
    assert_passed(&watched.page("qu-lost-quorum", &[]));
}
