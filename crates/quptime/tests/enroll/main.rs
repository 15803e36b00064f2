//! Hosts that come with a token: let in, kept waiting, turned away, and killed on the way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says with a panic what failed"
)]

mod interrupted;
mod joining;
mod refused;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use quptime::token::Token;
use testkit::{Output, QU_SECRET, Qu, wait_until};

/// Longest wait for something that has to happen.
const LIMIT: Duration = Duration::from_mins(1);

/// A node that leads itself.
fn alone(number: u64) -> Qu {
    let mut node = Qu::init(number, QU_SECRET).unwrap();
    node.start().unwrap();
    node
}

/// Makes a token; `flags` are those of `qu enroll create`.
fn create(node: &Qu, flags: &[&str]) -> Token {
    let said = node
        .run(&[&["enroll", "create", "--json"], flags].concat())
        .unwrap()
        .ok();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    Token::parse(said["token"].as_str().unwrap()).unwrap()
}

/// What `qu enroll list` says.
fn list(node: &Qu) -> Vec<serde_json::Value> {
    let said = node.run(&["enroll", "list", "--json"]).unwrap().ok();
    serde_json::from_str(&said).unwrap()
}

/// A host without files, whose node will have an id that begins with `number`.
struct Host {
    qu: Qu,
    id: String,
}

impl Host {
    fn new(number: u64) -> Host {
        Host {
            qu: Qu::bare().unwrap(),
            id: format!("{number:08x}-0000-4000-8000-000000000000"),
        }
    }

    /// `qu enroll join` with this token on standard input, and its own address unless `flags` say another one.
    fn command(&self, token: &Token, flags: &[&str]) -> std::process::Command {
        let path = self.qu.dir().join("token");
        std::fs::write(&path, token.reveal()).unwrap();
        let mut command = self.qu.command(&["enroll", "join", "--yes", "-"]);
        for (flag, value) in [
            ("--bind", self.qu.address().to_string()),
            ("--advertise", self.qu.peer_address()),
        ] {
            if !flags.contains(&flag) {
                command.args([flag, &value]);
            }
        }
        command
            .args(flags)
            .stdin(File::open(path).unwrap())
            .env("QUPTIME_NODE_ID", &self.id);
        command
    }

    /// Runs it to its end.
    fn join(&self, token: &Token) -> Output {
        self.join_with(token, &[])
    }

    /// Runs it with more flags to its end.
    fn join_with(&self, token: &Token, flags: &[&str]) -> Output {
        let output = self.command(token, flags).output().unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Lets it run.
    fn begin(&self, token: &Token) -> Joining {
        let said = self.qu.dir().join("join.stderr");
        let child = self
            .command(token, &[])
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Joining { child, said }
    }

    /// Starts the daemon and waits until it is a member under this master.
    fn serve_under(&mut self, master: &str) {
        self.qu.listen_for_pages().unwrap();
        self.qu.start().unwrap();
        wait_until(LIMIT, "the host to be a member", || {
            self.qu.field("master").as_deref() == Some(master) && self.qu.has_quorum()
        });
    }

    fn file(&self, name: &str) -> PathBuf {
        self.qu.config_dir().join(name)
    }
}

/// A `qu enroll join` that runs.
struct Joining {
    child: Child,
    said: PathBuf,
}

impl Joining {
    /// Waits until it has said this.
    #[track_caller]
    fn wait_said(&self, text: &str) {
        wait_until(LIMIT, &format!("the host to say {text:?}"), || {
            self.said().contains(text)
        });
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Waits for its end, which is good.
    #[track_caller]
    fn end(mut self) {
        let mut code = None;
        wait_until(LIMIT, "the command to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        assert!(code.unwrap().success(), "{}", self.said());
    }

    fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        // After its end there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
