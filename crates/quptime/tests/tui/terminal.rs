//! A terminal that a test types into and reads: a tmux server of its own, with a shell in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use testkit::{Qu, wait_until};

use super::LIMIT;

/// Columns and lines of a terminal.
const SIZE: (&str, &str) = ("100", "30");
/// The shell ends after so many seconds, whatever becomes of the test, and the server with it.
const LIFETIME: &str = "290";

/// Ends with the test.
pub(crate) struct Terminal {
    tmux: PathBuf,
    socket: PathBuf,
}

impl Terminal {
    /// A shell in the environment of a node.
    pub(crate) fn open(node: &Qu) -> Self {
        let tmux = testkit::require("tmux").unwrap();
        let socket = node.dir().join("tmux");
        let terminal = Self { tmux, socket };
        // The server passes on to the shell what it is started with.
        let like = node.command(&[]);
        let mut command = terminal.command();
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env("PROGRAM", like.get_program())
            .env("PS1", "$ ")
            .env_remove("ENV");
        command.args(["new-session", "-d", "-x", SIZE.0, "-y", SIZE.1]);
        command.args(["timeout", "--foreground", LIFETIME, "sh", ";"]);
        command.args(["set-option", "status", "off"]);
        run(command);
        terminal
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.tmux);
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket);
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env_remove("TERM")
            .stdin(Stdio::null());
        command
    }

    /// Types a text.
    pub(crate) fn write(&self, text: &str) {
        let mut command = self.command();
        command.args(["send-keys", "-l", "--", text]);
        run(command);
    }

    /// Presses keys by the names that tmux has for them: `Enter`, `Tab`, `C-u`.
    pub(crate) fn press(&self, keys: &[&str]) {
        let mut command = self.command();
        command.arg("send-keys").args(keys);
        run(command);
    }

    #[allow(
        clippy::print_stderr,
        reason = "tells whoever reads a failed test what was on the screen"
    )]
    fn tell(&self) {
        let mut command = self.command();
        let shown = command.args(["capture-pane", "-p"]).output();
        let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        eprintln!("the screen at the end:\n{}", shown.unwrap_or_default());
    }

    /// What is on it.
    pub(crate) fn picture(&self) -> String {
        let mut command = self.command();
        command.args(["capture-pane", "-p"]);
        run(command)
    }

    /// As [`Terminal::picture`], with the colours.
    pub(crate) fn painted(&self) -> String {
        let mut command = self.command();
        command.args(["capture-pane", "-p", "-e"]);
        run(command)
    }

    /// Waits until a text is on it, wherever its lines are broken.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        wait_until(LIMIT, &format!("{text:?} on the screen"), || {
            words(&self.picture()).contains(text)
        });
    }

    /// Waits until a text is not on it any more.
    #[track_caller]
    pub(crate) fn lacks(&self, text: &str) {
        wait_until(LIMIT, &format!("{text:?} to leave the screen"), || {
            !words(&self.picture()).contains(text)
        });
    }

    /// Starts `qu tui`, with the shell's settings before it. The shell says `over-42` when it has ended: what is typed while it ends may
    /// still be read by it.
    pub(crate) fn start(&self, before: &str) {
        self.write(&format!("{before}\"$PROGRAM\" qu tui; echo over-$((6*7))"));
        self.press(&["Enter"]);
    }
}

#[track_caller]
fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Without frames and line ends, with single blanks.
pub(crate) fn words(picture: &str) -> String {
    let text = picture.replace(['│', '┌', '┐', '└', '┘', '─'], " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let mut command = self.command();
        // It may have ended with its shell.
        drop(command.arg("kill-server").output());
    }
}
