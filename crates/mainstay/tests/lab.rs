//! `mainstay up` and its relatives with a real Chainfire: what a person reads, and that what is printed can be typed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lab::AddressBlock;
use lab::pid::ProcessRef;
use lab::state::LabState;

/// Longest wait for a line or a condition.
const LIMIT: Duration = Duration::from_mins(1);

/// A folder for labs and their state, seen by nobody else. What was started in it is stopped with it.
struct Place {
    folder: tempfile::TempDir,
    block: AddressBlock,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().expect("a folder"),
            block: AddressBlock::free().expect("a free block of addresses"),
        }
    }

    fn lab(&self) -> PathBuf {
        self.folder.path().join("my lab")
    }

    fn block(&self) -> String {
        self.block.host(0).expect("a block has hosts").octets()[2].to_string()
    }

    /// The program with a state folder of its own, in a working directory that has nothing of ours.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir("/")
            .env("XDG_STATE_HOME", self.folder.path())
            .env("MAINSTAY_RUNBOOKS", pages())
            .env_remove("MAINSTAY_LAB");
        command
    }

    fn mainstay(&self, args: &[&str]) -> Said {
        let output = self.command(env!("CARGO_BIN_EXE_mainstay"), args).output();
        Said::of(output.expect("the program starts"))
    }

    /// The same with the lab named.
    fn at_lab(&self, args: &[&str]) -> Said {
        let mut command = self.command(env!("CARGO_BIN_EXE_mainstay"), args);
        Said::of(
            command
                .env("MAINSTAY_LAB", self.lab())
                .output()
                .expect("the program starts"),
        )
    }

    fn up_detached(&self) -> Said {
        self.up_detached_with(&[])
    }

    fn up_detached_with(&self, more: &[&str]) -> Said {
        let up = self.at_lab(&[&["up", "--detach", "--block", &self.block()], more].concat());
        assert_eq!(up.code, 0, "{up:?}");
        up
    }

    /// `mainstay up` in the foreground once it is up, and its further lines on standard error.
    fn up(&self) -> (Child, Receiver<String>) {
        let block = self.block();
        let mut command = self.command(env!("CARGO_BIN_EXE_mainstay"), &["up", "--block", &block]);
        command
            .env("MAINSTAY_LAB", self.lab())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let told = lines(child.stderr.take().expect("stderr is a pipe"));
        let banner = lines(child.stdout.take().expect("stdout is a pipe"));
        wait_for(&banner, "Ctrl-C stops it");
        (child, told)
    }

    fn process(&self) -> ProcessRef {
        let state = LabState::read(&self.lab()).unwrap().expect("the lab is up");
        state.hosts[0].services[0].process().expect("the service runs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lab().join("lab.json").exists() {
            self.at_lab(&["down"]);
        }
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Said {
            code: output.status.code().expect("the command ends by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/runbooks")
        .canonicalize()
        .expect("there are pages")
}

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next line that holds the text.
fn wait_for(lines: &Receiver<String>, text: &str) -> String {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(LIMIT) {
            Ok(line) if line.contains(text) => return line,
            Ok(line) => seen.push(line),
            Err(error) => panic!("no line with {text:?} ({error}) after {seen:#?}"),
        }
    }
}

#[test]
fn every_line_of_the_banner_can_be_typed_from_any_folder() {
    let place = Place::new();
    type_banner(
        &place,
        &place.up_detached(),
        &["chainfire-client", "runbook run", "status", "down"],
    );
}

#[test]
fn banner_of_three_nodes_kills_one_and_the_cluster_goes_on() {
    let place = Place::new();
    let up = place.up_detached_with(&["--nodes", "3"]);
    for node in ["node1", "node2", "node3"] {
        assert!(
            up.stdout.contains(&format!("chainfire    on {node}")),
            "{}",
            up.stdout
        );
    }
    let words = [
        "status --all",
        "runbook run",
        "status",
        "lab kill",
        "member-list",
        "put still writable",
        "lab start",
        "-- qu status",
        "lab stop",
        "lab start",
        "down",
    ];
    type_banner(&place, &up, &words);
}

#[test]
fn stopping_a_watched_service_is_told_once_and_so_is_its_return() {
    let place = Place::new();
    let up = place.up_detached_with(&["--nodes", "3"]);
    let file = place.lab().join("node1/data/sink/alerts.jsonl");
    assert!(
        up.stdout.contains("/node1/data/sink/alerts.jsonl"),
        "{}",
        up.stdout
    );
    let arrived = || {
        let text = std::fs::read_to_string(&file).expect("the sink has a file");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (verb, count) in [("stop", 1), ("start", 2)] {
        let watched = || {
            let said = place
                .at_lab(&["lab", "run", "node1", "--", "qu", "status"])
                .stdout;
            let checks = said.lines().filter(|line| line.contains(" chainfire-node"));
            Ok((checks.filter(|line| line.contains(" up ")).count() == 4 - count).then_some(()))
        };
        // Nothing is told of a check that was never up.
        lab::wait::until(LIMIT, "qu to see what runs", watched).expect("qu watches three Chainfires");
        assert_eq!(place.at_lab(&["lab", verb, "node3", "chainfire"]).code, 0);
        let told = || Ok((arrived().len() >= count).then_some(()));
        lab::wait::until(LIMIT, "the alert", told).expect("the alert arrives");
        let lines = arrived();
        assert_eq!(lines.len(), count, "{lines:?}");
        for (line, verb) in lines.iter().zip(["DOWN", "RECOVERED"]) {
            assert!(
                line.contains(&format!("\"verb\":\"{verb}\"")) && line.contains("chainfire-node3"),
                "{line}"
            );
        }
    }
    assert_eq!(place.at_lab(&["down"]).code, 0);
}

#[test]
fn data_of_another_cluster_are_refused() {
    let place = Place::new();
    place.up_detached_with(&["--nodes", "3"]);
    assert_eq!(place.at_lab(&["down"]).code, 0);
    let one = place.at_lab(&["up", "--detach", "--block", &place.block()]);
    assert_eq!(one.code, 1, "{one:?}");
    assert!(
        one.stderr
            .contains("are of a cluster with other members (3 of them"),
        "{one:?}"
    );
    let again = place.up_detached_with(&["--nodes", "3"]);
    assert_eq!(again.code, 0);
    let none = place.at_lab(&["up", "--nodes", "0"]);
    assert_eq!(none.code, 64, "{none:?}");
}

/// Every line of the banner holds its word, and can be typed.
fn type_banner(place: &Place, up: &Said, words: &[&str]) {
    let typed: Vec<&str> = up
        .stdout
        .lines()
        .filter_map(|line| {
            let line = line
                .strip_prefix("It runs in the background; stop it with: ")
                .unwrap_or(line)
                .trim();
            line.contains("bin/mainstay").then_some(line)
        })
        .collect();
    assert_eq!(typed.len(), words.len(), "{}", up.stdout);
    for (line, word) in typed.iter().zip(words) {
        assert!(line.contains(word), "{word} in {line}");
        // Shown only: a page is carried out below.
        let line = line.replace("runbook run", "runbook run --dry-run");
        let said = Said::of(
            place
                .command("sh", &["-c", &line])
                .env_remove("MAINSTAY_RUNBOOKS")
                .output()
                .expect("sh starts"),
        );
        assert_eq!(said.code, 0, "{line}: {said:?}");
    }
    assert!(
        !place.lab().join("lab.json").exists(),
        "the last line stops the lab"
    );
}

#[test]
fn foreground_lab_says_which_service_died_how_and_where_its_log_is() {
    let place = Place::new();
    let (mut up, told) = place.up();

    let process = place.process();
    let said = place.at_lab(&["lab", "kill", "node1", "chainfire"]);
    assert_eq!(
        said.stderr,
        format!("chainfire on node1 was killed (process {})\n", process.pid)
    );
    wait_for(&told, "chainfire on node1 was stopped by another command");
    let again = place.at_lab(&["lab", "start", "node1", "chainfire"]);
    let process = place.process();
    assert_eq!(
        again.stderr,
        format!("chainfire on node1 is ready (process {})\n", process.pid)
    );
    wait_for(
        &told,
        &format!("chainfire on node1 runs again as process {}", process.pid),
    );
    let whole = place.at_lab(&["lab", "logs", "node1", "chainfire"]).stdout;
    let last = place
        .at_lab(&["lab", "logs", "node1", "chainfire", "-n", "1"])
        .stdout;
    assert!(whole.lines().count() > 1 && last.lines().count() == 1, "{last}");
    let said = place.at_lab(&["lab", "stop", "node1", "chainfire"]);
    assert_eq!(
        said.stderr,
        format!("chainfire on node1 is stopped (process {})\n", process.pid)
    );
    place.at_lab(&["down"]);
    assert!(up.wait().unwrap().success());

    let (mut up, told) = place.up();
    let process = place.process();
    process.kill().unwrap();
    let line = wait_for(&told, "chainfire on node1 has ended");
    let log = place.lab().join("node1/logs/chainfire.log");
    assert_eq!(
        line,
        format!(
            "chainfire on node1 has ended: signal 9 (process {}); its log is {}",
            process.pid,
            log.display()
        )
    );
    assert_eq!(up.wait().unwrap().code(), Some(1));

    let first = std::fs::read_to_string(log).unwrap();
    let first = first.lines().next().expect("the log has lines");
    assert!(
        first.starts_with("20") && first.as_bytes()[10] == b'T',
        "a line says when: {first}"
    );
}

#[test]
fn status_tells_a_hung_server_and_a_killed_holder() {
    let place = Place::new();
    let (mut up, _told) = place.up();
    let process = place.process();
    let stop = Command::new("kill")
        .args(["-STOP", &process.pid.to_string()])
        .status();
    assert!(stop.unwrap().success());
    let hung = place.at_lab(&["status"]);
    assert_eq!(hung.code, 1);
    assert!(hung.stdout.contains("  not-ready  "), "{hung:?}");
    assert!(
        hung.stderr.contains("it is starting, or it hangs; its log is "),
        "{hung:?}"
    );
    let resume = Command::new("kill")
        .args(["-CONT", &process.pid.to_string()])
        .status();
    assert!(resume.unwrap().success());

    let holder = up.id();
    up.kill().unwrap();
    up.wait().unwrap();
    let left = place.at_lab(&["status"]);
    let words = format!("left over: process {holder}, which held it, was killed");
    assert!(left.stdout.contains(&words), "{left:?}");
    assert!(left.stderr.contains("or by `mainstay down`"), "{left:?}");
    assert_eq!(place.at_lab(&["down"]).code, 0);
    assert!(!process.is_alive());
}

#[test]
fn down_says_what_it_did_also_when_that_is_nothing() {
    let place = Place::new();
    let nothing = place.at_lab(&["down"]);
    assert_eq!(nothing.code, 1);
    assert!(
        nothing
            .stderr
            .starts_with("Error: nothing to stop: no lab is up in "),
        "{nothing:?}"
    );
    assert_eq!(nothing.stderr.lines().count(), 1);

    place.up_detached();
    let all = place.mainstay(&["down", "--all"]);
    assert_eq!(all.code, 0);
    assert!(
        all.stderr
            .starts_with("lab mainstay is down; its data and logs are in "),
        "{all:?}"
    );
    let again = place.mainstay(&["down", "--all"]);
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (0, "nothing to stop: no lab of this user is up\n")
    );
}

#[test]
fn commands_run_on_a_host_with_and_without_dashes_before_them() {
    let place = Place::new();
    place.up_detached();
    for args in [
        &["lab", "run", "node1", "printf", "%s-%s", "-a", "--", "b"][..],
        &["lab", "run", "node1", "--", "printf", "%s-%s", "-a", "--", "b"],
    ] {
        let said = place.at_lab(args);
        assert_eq!(
            (said.code, said.stdout.as_str()),
            (0, "-a---b-"),
            "{args:?}: {said:?}"
        );
    }
}

#[test]
fn variable_without_a_value_means_the_default_lab() {
    let place = Place::new();
    let mut command = place.command(env!("CARGO_BIN_EXE_mainstay"), &["status"]);
    let said = Said::of(command.env("MAINSTAY_LAB", "").output().unwrap());
    assert_eq!(said.code, 1);
    let default = place.folder.path().join("mainstay/lab");
    assert!(
        said.stderr
            .contains(&format!("no lab is up in {}", default.display())),
        "{said:?}"
    );
}

#[test]
fn health_page_goes_on_past_a_dead_node_and_says_what_to_do() {
    let place = Place::new();
    place.up_detached();
    place.at_lab(&["lab", "kill", "node1", "chainfire"]);
    let run = place.at_lab(&["runbook", "run", "ChainfireNodeDown", "--section", "Checks"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(!run.stdout.contains("= not run"), "{}", run.stdout);
    let failed = run
        .stdout
        .lines()
        .find(|line| line.starts_with("FAILED: "))
        .expect("a summary");
    assert!(
        failed.contains("status (line ") && failed.contains("ready (line "),
        "{failed}"
    );
    assert!(!failed.contains("log (line "), "the log can be read: {failed}");
    let hint = run.stdout.lines().last().unwrap();
    let command = hint.strip_prefix("what to do about it: mainstay ").expect(hint);
    let fix = place.mainstay(&command.split(' ').collect::<Vec<_>>());
    assert!(
        fix.stdout.contains("mainstay lab start node1 chainfire"),
        "{fix:?}"
    );
    place.at_lab(&["lab", "start", "node1", "chainfire"]);
    let run = place.at_lab(&["runbook", "run", "chainfire-health"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.stdout.contains(&format!(
            "lab mainstay in {}, form process",
            place.lab().display()
        )),
        "{}",
        run.stdout
    );
}
