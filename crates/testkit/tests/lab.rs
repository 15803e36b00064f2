//! `mainstay up` and its relatives, typed at the real binary, with Debian's etcd as the service.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::pid::ProcessRef;
use lab::state::LabState;
use nix::sys::signal::Signal;
use testkit::{AddressBlock, Output, TestDir, mainstay_binary, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// A lab directory. `mainstay up` uses 127.0.0.11, where the developer's own lab may be running on the default ports, so
/// these labs use a drawn port there and an address of their own for etcd's peers.
struct Place {
    dir: TestDir,
    _block: AddressBlock,
}

impl Place {
    fn new() -> Self {
        let block = AddressBlock::free().unwrap();
        let (dir, listen) = (TestDir::new("lab").unwrap(), block.host(0).unwrap().to_string());
        let topology = format!(
            r#"
name = "etcds"
[[hosts]]
name = "node1"
[[hosts.services]]
name = "etcd"
program = {{ path = "etcd" }}
args = ["--data-dir={{data_dir}}", "--listen-client-urls=http://{{address}}:{port}",
        "--advertise-client-urls=http://{{address}}:{port}", "--listen-peer-urls=http://{listen}:2380",
        "--initial-advertise-peer-urls=http://{listen}:2380", "--initial-cluster=default=http://{listen}:2380"]
ready = {{ http = {{ port = {port}, path = "/health" }} }}
host_env = {{ ETCDCTL_API = "3", ETCDCTL_ENDPOINTS = "http://{{address}}:{port}" }}
"#,
            port = testkit::free_port().unwrap(),
        );
        std::fs::write(dir.join("topology.toml"), topology).unwrap();
        Self { dir, _block: block }
    }

    fn lab(&self) -> std::path::PathBuf {
        self.dir.join("lab")
    }

    /// `mainstay WORDS --dir DIR`, with a state folder of its own.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(mainstay_binary().unwrap());
        command
            .env("XDG_STATE_HOME", self.dir.join("state"))
            .env("MAINSTAY_LAB", self.lab())
            .args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        Output::of(&mut self.command(words)).unwrap()
    }

    /// The same without naming a lab.
    fn run_anywhere(&self, words: &[&str]) -> Output {
        Output::of(self.command(words).env_remove("MAINSTAY_LAB")).unwrap()
    }

    fn topology(&self) -> String {
        self.dir.join("topology.toml").display().to_string()
    }

    /// `mainstay up` in the foreground, once it has printed that it is up.
    fn up(&self) -> Child {
        self.up_with(&[])
    }

    fn up_with(&self, words: &[&str]) -> Child {
        let log = std::fs::File::create(self.dir.join("up.log")).unwrap();
        let mut command = self.command(&[&["up", "--topology", &self.topology()], words].concat());
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let mut child = command.spawn().unwrap();
        wait_until(LIMIT, "mainstay up to be up", || {
            assert_eq!(child.try_wait().unwrap(), None, "{}", self.up_log());
            self.up_log().contains("Ctrl-C stops it")
        });
        child
    }

    fn up_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("up.log")).unwrap()
    }

    fn service(&self) -> ProcessRef {
        let state = LabState::read(&self.lab()).unwrap().unwrap();
        state.hosts[0].services[0].process().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // After a failed assertion something may still run.
        if std::thread::panicking() && LabState::read(&self.lab()).is_ok_and(|state| state.is_some()) {
            let _ = self.command(&["down"]).status();
        }
    }
}

#[test]
fn foreground_lab_is_used_from_beside_and_stopped_by_ctrl_c() {
    let place = Place::new();
    let mut up = place.up();
    let process = place.service();

    assert!(
        place
            .run(&["status"])
            .ok()
            .contains("node1  127.0.0.11  etcd     ready")
    );
    assert!(
        place
            .run(&["lab", "list", "--format", "json"])
            .ok()
            .contains("\"state\":\"up\"")
    );
    assert_eq!(
        place
            .run(&["lab", "run", "node1", "--", "etcdctl put hello world"])
            .ok(),
        "OK\n"
    );
    assert_eq!(
        place
            .run(&["lab", "run", "node1", "--", "etcdctl", "get", "hello"])
            .ok(),
        "hello\nworld\n"
    );
    assert_eq!(
        place.run(&["lab", "run", "node1", "--", "exit 7"]).code,
        7,
        "the command's own code"
    );
    assert!(
        place
            .run(&["lab", "logs", "node1", "etcd"])
            .ok()
            .contains("ready to serve client requests")
    );

    let second = place.run(&["up", "--topology", &place.topology()]);
    assert_eq!(second.code, 1);
    assert!(
        second
            .stderr
            .starts_with("Error: lab etcds is already running in "),
        "{}",
        second.stderr
    );
    assert!(
        second.stderr.contains(&format!("held by process {}", up.id())),
        "{}",
        second.stderr
    );

    place.run(&["lab", "stop", "node1", "etcd"]).ok();
    assert!(place.run(&["status"]).stdout.contains("stopped"));
    assert_eq!(
        up.try_wait().unwrap(),
        None,
        "a service stopped on purpose does not end the lab"
    );
    place.run(&["lab", "start", "node1", "etcd"]).ok();
    let process_again = place.service();
    assert_ne!(process, process_again);

    ProcessRef::of(up.id()).unwrap().signal(Signal::SIGINT).unwrap();
    assert!(up.wait().unwrap().success(), "{}", place.up_log());
    assert!(!process_again.is_alive());
    assert!(
        place.up_log().ends_with("stopping\nstopped\n"),
        "{}",
        place.up_log()
    );
    assert_eq!(place.run(&["down"]).code, 1);
    assert!(
        Path::new(&place.lab()).join("node1/data/etcd").is_dir(),
        "data is kept"
    );
}

#[test]
fn crash_of_the_lab_is_cleaned_up_and_down_stops_the_owner() {
    let place = Place::new();
    let mut up = place.up();
    let orphan = place.service();
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(orphan.is_alive());
    assert!(place.run(&["lab", "list"]).ok().contains("crashed"));

    let mut up = place.up();
    assert!(!orphan.is_alive());
    let message = format!(
        "stopping process {}, left over from a lab that was killed\n",
        orphan.pid
    );
    assert!(place.up_log().starts_with(&message), "{}", place.up_log());

    let down = place.run(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    assert!(up.wait().unwrap().success());
}

#[test]
fn death_of_every_service_ends_the_lab_with_their_logs() {
    let place = Place::new();
    let mut up = place.up();
    place.service().kill().unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(1));
    let log = place.up_log();
    assert!(
        log.contains("etcd on node1 has ended: signal 9 (process "),
        "{log}"
    );
    assert!(
        log.ends_with("Error: every service of the lab has ended\n"),
        "{log}"
    );
}

#[test]
fn fresh_wants_a_word() {
    let place = Place::new();
    let start = ["up", "--detach", "--topology", &place.topology()];
    place.run(&start).ok();
    assert!(
        place
            .run(&[&start[..], &["--fresh", "--yes"]].concat())
            .stderr
            .contains("it runs; stop it with")
    );
    place
        .run(&["lab", "run", "node1", "--", "etcdctl put hello world"])
        .ok();
    place.run(&["down"]).ok();
    let refused = place.run(&[&start[..], &["--fresh"]].concat());
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("confirm with --yes"),
        "{}",
        refused.stderr
    );
    place.run(&[&start[..], &["--fresh", "--yes"]].concat()).ok();
    assert_eq!(
        place
            .run(&["lab", "run", "node1", "--", "etcdctl get hello"])
            .ok(),
        ""
    );
    place.run(&["down"]).ok();
}

/// A service of a bare Debian machine.
const SLEEPER: &str = r#"
name = "sleepers"
[[hosts]]
name = "node1"
[[hosts.services]]
name = "sleeper"
program = { path = "systemd-socket-activate" }
args = ["-l", "{address}:7000", "--inetd", "-a", "cat"]
ready = { tcp = { port = 7000 } }
"#;

#[test]
fn machines_of_a_killed_lab_are_removed() {
    if let Some(reason) = lab::machines_missing() {
        println!("skipped: {reason}");
        return;
    }
    let place = Place::new();
    std::fs::write(place.dir.join("topology.toml"), SLEEPER).unwrap();
    let crash = || {
        let mut up = place.up_with(&["--form", "machine"]);
        let state = LabState::read(&place.lab()).unwrap().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
        let network = Path::new("/run/netns").join(state.network.unwrap());
        assert!(network.exists());
        let supervisor = state.hosts[0].machine.unwrap();
        // The words to enter the machine name its first process.
        let leader = state.hosts[0]
            .enter
            .iter()
            .find_map(|word| ProcessRef::of(word.parse().ok()?))
            .unwrap();
        // The machine may go on without its supervisor.
        supervisor.kill().unwrap();
        (leader, network)
    };
    let gone = |(leader, network): (ProcessRef, std::path::PathBuf)| {
        // The source of each mount is the name of the lab.
        let source = format!("{} ", network.file_name().unwrap().display());
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        !leader.is_alive() && !network.exists() && !mounts.lines().any(|line| line.starts_with(&source))
    };
    // By the next start in the same place,
    let first = crash();
    let second = crash();
    assert!(gone(first));
    // and by name, even when the lab's own files are lost.
    std::fs::remove_file(place.lab().join("lab.json")).unwrap();
    let all = place.run_anywhere(&["down", "--all"]);
    assert!(
        all.stderr
            .contains("removed machines left over from lab mainstay-"),
        "{}",
        all.stderr
    );
    assert!(gone(second));
}

#[test]
fn wrong_usage_is_64_and_names_what_would_be_right() {
    let place = Place::new();
    let nodes = place.run(&["up", "--nodes", "9"]);
    assert_eq!(nodes.code, 64);
    assert!(nodes.stderr.contains("9 is not in 1..=7"), "{}", nodes.stderr);
    assert_eq!(place.run(&["lab", "cut", "one"]).code, 64);
    std::fs::write(
        place.dir.join("topology.toml"),
        "name = \"x\"\nhosts = []\nhsots = []\n",
    )
    .unwrap();
    let topology = place.run(&["up", "--topology", &place.topology()]);
    assert_eq!(topology.code, 1);
    assert!(topology.stderr.contains("hsots"), "{}", topology.stderr);
}
