//! A disk that is full: nothing that was acknowledged is lost, the daemon stays and says what it cannot do, and goes on when there is room.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lab::pid::{Guard, ProcessRef};
use testkit::{QU_SECRET, Qu, QuCluster, wait_until};

use super::LIMIT;

/// Room on the small disk: for what a node writes at first, and little more.
const DISK_KIB: u64 = 640;

/// A node whose directory is a small file system in a mount namespace of its own.
struct SmallDisk {
    /// The directory as seen from outside of the namespace.
    outside: PathBuf,
    holder: Child,
    _guard: Guard,
}

impl SmallDisk {
    /// Puts a node there that has files and was not started. None, with the reason printed, where a test may not mount.
    fn under(node: &mut Qu) -> Option<SmallDisk> {
        let dir = node.config_dir().display().to_string();
        let script = format!(
            "cp -a {dir} {dir}.before && mount -t tmpfs -o size={DISK_KIB}k,mode=0700 none {dir} && cp -a {dir}.before/. {dir}/ && \
             touch {dir}.mounted && exec sleep infinity"
        );
        // Who is not root becomes it in a namespace of users.
        let is_root = nix::unistd::geteuid().is_root();
        let (unshared, entered): (&[&str], &[&str]) = if is_root {
            (&[], &[])
        } else {
            (
                &["--user", "--map-root-user"],
                &["--user", "--preserve-credentials"],
            )
        };
        let mut holder = Command::new("unshare")
            .args(unshared)
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = holder.id();
        let guard = Guard::new(ProcessRef::of(pid).unwrap()).unwrap();
        let mounted = node.config_dir().with_extension("mounted");
        let mut refused = false;
        wait_until(LIMIT, "the small file system", || {
            refused = holder.try_wait().unwrap().is_some();
            refused || mounted.exists()
        });
        if refused {
            println!("skipped: this machine does not let a test mount a file system");
            return None;
        }
        let program = testkit::mainstay_binary().unwrap().display().to_string();
        let pid_text = pid.to_string();
        let inside = ["--mount", "--target", &pid_text, "--", &program, "qu", "serve"];
        node.set_command("nsenter".into(), entered.iter().chain(&inside).copied());
        Some(SmallDisk {
            outside: PathBuf::from(format!("/proc/{pid}/root{dir}")),
            holder,
            _guard: guard,
        })
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.outside.join("filler")).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.outside.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// `qu check add` with the number; what it printed as an error, or nothing if it was made.
fn add(node: &Qu, number: usize) -> Option<String> {
    let (name, target) = (
        format!("c{number}"),
        format!("{}.example.com:1", "long-".repeat(12)),
    );
    let added = node
        .run(&["check", "add", "tcp", &name, &target, "--interval", "1h"])
        .unwrap();
    match added.code {
        0 => None,
        1 => Some(added.stderr),
        _ => panic!("{added:?}"),
    }
}

const UNKNOWN: &str = "it may have taken effect all the same, look at qu cluster log before you repeat it";

/// The disk is told of once, without saying anything twice.
#[track_caller]
fn is_told_once(log: &str) {
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("the disk is full: write "))
        .collect();
    let [line] = told[..] else {
        panic!("{} lines: {log}", told.len())
    };
    assert!(
        line.contains("/raft/log: No space left on device (os error 28); until there is room"),
        "{line}"
    );
    assert_eq!(line.matches("No space left").count(), 1, "{line}");
}

#[test]
fn a_node_alone_waits_for_room() {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    let Some(disk) = SmallDisk::under(&mut node) else {
        return;
    };
    node.start().unwrap();
    wait_until(LIMIT, "quorum", || node.has_quorum());
    disk.fill();
    // What is left of the last page of the log is still written.
    let mut acknowledged = 0;
    let refused = loop {
        match add(&node, acknowledged) {
            None => acknowledged += 1,
            Some(error) => break error,
        }
        assert!(acknowledged < 100, "the disk is full");
    };
    assert!(
        refused.contains("the disk of the master is full (write ") && refused.contains(UNKNOWN),
        "{refused}"
    );
    let refused = add(&node, acknowledged + 1).unwrap();
    assert!(
        refused.starts_with("error: the disk of this node is full (write ")
            && refused.ends_with("; nothing was changed, make room or ask another node\n"),
        "{refused}"
    );
    let status = node.run(&["status"]).unwrap();
    assert_eq!(status.code, 3, "{status:?}");
    for shown in ["master     (none — disk full)\n", "\ndisk: full: write "] {
        assert!(status.stdout.contains(shown), "{status:?}");
    }
    let doctor = node.run(&["doctor"]).unwrap();
    assert_eq!(doctor.code, 1);
    assert!(
        doctor
            .stdout
            .lines()
            .any(|line| line.starts_with("fail") && line.contains(": full: write ")),
        "{doctor:?}"
    );
    is_told_once(&node.log());

    // It starts on a disk that is full, and goes on when there is room.
    node.sigterm().unwrap();
    let before = node.log().len();
    node.start().unwrap();
    // An election may fit into what the last page has left; changes fill that.
    let mut more = 100;
    wait_until(LIMIT, "the node to say that the disk is full", || {
        let full = node.log()[before..].contains("the disk is full: write ");
        if !full {
            more += 1;
            drop(node.run(&["check", "add", "tcp", &format!("c{more}"), "long.example.com:1"]));
        }
        full
    });
    is_told_once(&node.log()[before..]);
    assert!(!node.has_quorum());
    disk.make_room();
    wait_until(LIMIT, "quorum", || node.has_quorum());
    for number in 0..acknowledged {
        assert!(node.check(&format!("c{number}")).is_some(), "{}", node.log());
    }
    assert_eq!(add(&node, acknowledged + 2), None);
    assert!(node.log().contains("there is room on the disk again"));
}

#[test]
fn a_master_without_room_leaves_the_role_and_comes_back() {
    let mut nodes: Vec<Qu> = (1..=3)
        .map(|number| Qu::init(number, QU_SECRET).unwrap())
        .collect();
    let Some(disk) = SmallDisk::under(&mut nodes[0]) else {
        return;
    };
    let cluster = QuCluster::of(nodes).unwrap();
    let [full, other, _] = &cluster.nodes[..] else {
        unreachable!()
    };
    wait_until(LIMIT, "the first node to be master", || {
        full.field("master") == Some(full.id())
    });
    disk.fill();
    let mut acknowledged = Vec::new();
    let is_full = || full.log().contains("the disk is full: write ");
    for number in 0.. {
        assert!(number < 100, "the disk is full");
        match add(other, number) {
            None => acknowledged.push(number),
            Some(error) => assert!(error.contains(UNKNOWN), "{error}"),
        }
        if is_full() {
            break;
        }
    }
    // The others go on, and the node without room knows.
    wait_until(LIMIT, "another master", || {
        let master = full.field("master");
        master.is_some() && master == other.field("master") && master != Some(full.id()) && other.has_quorum()
    });
    assert_eq!(add(other, 200), None);
    acknowledged.push(200);
    let status = full.run(&["status"]).unwrap();
    assert_eq!(status.code, 0, "{status:?}");
    assert!(status.stdout.contains("\ndisk: full: write "), "{status:?}");
    let refused = add(full, 201).unwrap();
    assert!(
        refused.ends_with("nothing was changed, make room or ask another node\n"),
        "{refused}"
    );
    is_told_once(&full.log());

    disk.make_room();
    cluster.settled().unwrap();
    for node in &cluster.nodes {
        for number in &acknowledged {
            assert!(
                node.check(&format!("c{number}")).is_some(),
                "c{number}: {}",
                node.log()
            );
        }
    }
    wait_until(LIMIT, "cluster.yaml of the node that had no room", || {
        std::fs::read_to_string(disk.outside.join("cluster.yaml")).unwrap() == other.cluster_text()
    });
}

#[test]
fn a_file_that_cannot_be_written_is_told_by_name_until_it_can() {
    let mut node = Qu::init(1, QU_SECRET).unwrap();
    node.start().unwrap();
    assert_eq!(add(&node, 0), None);
    // Where the new content of raft/written would be prepared.
    let obstacle = node.config_dir().join("raft/.written.new");
    std::fs::create_dir(&obstacle).unwrap();
    for number in 1..3 {
        assert_eq!(add(&node, number), None, "the log is written");
    }
    let told = format!(
        "a file is out of date here until this is possible again: write {}/raft/written: Is a directory (os error 21)",
        node.config_dir().display()
    );
    let doctor = node.run(&["doctor"]).unwrap();
    let disk = |text: &str| {
        text.lines()
            .find(|line| line.contains(" disk "))
            .unwrap()
            .to_owned()
    };
    let line = disk(&doctor.stdout);
    assert!(line.starts_with("fail") && line.ends_with(&told), "{doctor:?}");
    let status = node.run(&["status"]).unwrap();
    assert_eq!(status.code, 0);
    assert!(status.stdout.contains(&format!("\ndisk: {told}\n")), "{status:?}");
    assert_eq!(
        node.log().matches("a file cannot be written").count(),
        1,
        "{}",
        node.log()
    );
    std::fs::remove_dir(&obstacle).unwrap();
    wait_until(LIMIT, "cluster.yaml", || node.cluster_text().contains("name: c2"));
    let line = disk(&node.run(&["doctor"]).unwrap().stdout);
    assert!(!line.starts_with("fail") && line.ends_with(" free"), "{line}");
}
