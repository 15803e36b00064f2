//! A host on another machine, reached by the system's `ssh`: the operator's keys, configuration and known hosts apply.
//!
//! It never asks for a password (`BatchMode`). The far side runs the step under `timeout`, because ending our `ssh` does
//! not end what it started there. Parameters travel quoted as arguments of `env`, never as text of the command.

use std::collections::BTreeMap;
use std::io;

use tokio::process::Command;

use crate::host::{BoxFuture, Host, Output, Stop, Task, UNCUT_COLUMNS, supervise};

/// A machine behind ssh.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// `address` or `user@address`, checked by [`Ssh::new`].
    target: String,
    /// Variables on top of the far side's own.
    env: BTreeMap<String, String>,
}

impl Ssh {
    /// A host reached as `target`; refuses what ssh would take for an option.
    pub fn new(target: &str, env: BTreeMap<String, String>) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:@%".contains(c);
        if target.is_empty() || target.starts_with('-') || !target.chars().all(plain) {
            return Err(format!(
                "bad host address `{}`; write ADDRESS or USER@ADDRESS",
                crate::problem::excerpt(target)
            ));
        }
        Ok(Self {
            target: target.to_owned(),
            env,
        })
    }

    /// The one line that the far side's login shell reads.
    fn remote_line(&self, task: &Task<'_>) -> String {
        let mut words = vec![
            "env".to_owned(),
            "LC_ALL=C.UTF-8".to_owned(),
            format!("COLUMNS={UNCUT_COLUMNS}"),
        ];
        words.extend(
            self.env
                .iter()
                .chain(task.env)
                .map(|(name, value)| format!("{name}={value}")),
        );
        words.extend(["timeout".to_owned(), format!("{}s", task.timeout.as_secs_f64())]);
        words.extend(["bash", "-euo", "pipefail", "-c", task.command].map(str::to_owned));
        words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }
}

impl Host for Ssh {
    fn address(&self) -> &str {
        self.target.rsplit('@').next().unwrap_or(&self.target)
    }

    fn run<'a>(&'a self, task: &'a Task<'a>, stop: &'a Stop) -> BoxFuture<'a, io::Result<Output>> {
        let mut command = Command::new("ssh");
        command.args([
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=10",
            "--",
            &self.target,
        ]);
        command.arg(self.remote_line(task));
        Box::pin(supervise(command, task.timeout, stop))
    }
}

/// A word as every POSIX shell reads it back.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn far_side_reads_back_exactly_what_was_meant() {
        let host = Ssh::new("ops@127.0.0.1", BTreeMap::new()).unwrap();
        let env = BTreeMap::from([("KEY".to_owned(), "it's $HOME `id` \"x\"\nnext".to_owned())]);
        let command = "printf '%s|' \"$KEY\" 'a b'";
        let line = host.remote_line(&Task {
            command,
            env: &env,
            timeout: Duration::from_secs(5),
        });
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "it's $HOME `id` \"x\"\nnext|a b|"
        );
        assert_eq!(host.address(), "127.0.0.1");
    }

    #[test]
    fn options_and_shell_text_are_no_addresses() {
        for bad in ["", "-oProxyCommand=id", "a b", "a;b", "$(id)"] {
            assert!(Ssh::new(bad, BTreeMap::new()).is_err(), "{bad}");
        }
    }
}
