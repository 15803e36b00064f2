//! The host on which command lines are tried: a lab in form `machine` with a real Debian and our package installed from this build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::checks::{Check, FILLED_IN};
use crate::process;
use crate::workspace::Workspace;

/// What the seeds call apart from our own programs, and what our package stands on.
const PACKAGES: &[&str] = &[
    "adduser",
    "ca-certificates",
    "curl",
    "iptables",
    "iputils-ping",
    "jq",
    "netcat-openbsd",
    "openssh-client",
    "openssh-server",
    "openssl",
    "sudo",
    "sysstat",
];

/// A line that takes longer has failed. The longest of them measures for ten seconds.
const LINE_SECONDS_MAX: u32 = 90;

/// How a tried line went.
pub(super) enum Tried {
    Passed,
    Failed(String),
}

/// A running host; the lab is taken down with the value.
pub(super) struct Machine {
    mainstay: PathBuf,
    dir: PathBuf,
}

impl Machine {
    /// Starts the lab and installs `package`.
    pub(super) fn start(workspace: &Workspace, package: &Path) -> Result<Machine> {
        let folder = workspace.target_dir().join("seeds");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let topology = folder.join("topology.json");
        let description =
            serde_json::json!({ "name": "seeds", "hosts": [{ "name": "node1", "packages": PACKAGES }] });
        fs::write(&topology, description.to_string())
            .with_context(|| format!("write {}", topology.display()))?;

        let machine = Machine {
            mainstay: workspace.target_dir().join("debug/mainstay"),
            dir: folder.join("lab"),
        };
        let mut up = machine.lab("up");
        up.args(["--form", "machine", "--detach", "--fresh", "--yes", "--topology"])
            .arg(&topology);
        process::read(&mut up).context("start the lab")?;

        let file = File::open(package).with_context(|| format!("read {}", package.display()))?;
        let install =
            "cat > /tmp/mainstay.deb && dpkg -i /tmp/mainstay.deb >/dev/null && rm /tmp/mainstay.deb";
        process::run(machine.shell(install).stdin(file)).context("install the package")?;
        // The seeds reach the node by its name; nothing outside the lab's own network can.
        process::run(&mut machine.shell("sed -i 's/\"127.0.0.1:/\"0.0.0.0:/' /etc/centra-cloud/chainfire.toml && systemctl start chainfire"))
            .context("start the service")?;
        Ok(machine)
    }

    /// Runs a line and judges it.
    pub(super) fn try_line(&self, line: &str, check: &Check) -> Result<Tried> {
        let script = script(line, check);
        let output = self
            .shell(&script)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run `{line}` in the lab"))?;
        if output.status.success() {
            return Ok(Tried::Passed);
        }
        let said = [output.stdout, output.stderr].concat();
        Ok(Tried::Failed(String::from_utf8_lossy(&said).trim().to_owned()))
    }

    fn shell(&self, script: &str) -> Command {
        let mut run = self.lab("run");
        run.args([
            "node1",
            "--",
            "timeout",
            &LINE_SECONDS_MAX.to_string(),
            "bash",
            "-c",
            script,
        ]);
        run
    }

    fn lab(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.mainstay);
        command.args(["lab", verb, "--dir"]).arg(&self.dir);
        command
    }
}

/// The shell text that runs a line between its `before` and `after`. It exits 0 only if every command of both succeeded.
fn script(line: &str, check: &Check) -> String {
    let filled = FILLED_IN
        .iter()
        .fold(line.to_owned(), |text, (word, value)| text.replace(word, value));
    // The judging part is a plain command of its own: inside a condition the shell would ignore `set -e`.
    format!(
        "out=$(mktemp)\nset -e\n{}\nset +e\n({filled}\n) >$out 2>&1 </dev/null\nstatus=$?\n(set -e\n{}\n) >/dev/null\nverdict=$?\n\
         test $verdict = 0 || {{ echo \"exit status $status; output:\"; tail -n 5 $out; }}\nrm -f $out\nexit $verdict\n",
        check.before, check.after
    )
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = process::read(&mut self.lab("down")) {
            eprintln!("stop the lab: {error:#}");
        }
    }
}

/// Whether this machine can run such a lab at all; the reason if not.
pub(super) fn usable() -> Result<()> {
    if process::read(Command::new("id").arg("-u"))? != "0" {
        bail!("containers need root");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, before: &'static str, after: &'static str, passes: bool) {
        let check = Check {
            seed: "004",
            line: "",
            before,
            after,
        };
        let output = Command::new("bash")
            .args(["-c", &script(line, &check)])
            .output()
            .unwrap();
        assert_eq!(
            output.status.success(),
            passes,
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    fn a_line_passes_only_if_every_command_around_it_succeeds() {
        check(
            "echo NODE_IP # why",
            "",
            "test $status = 0; grep -qx node1 $out",
            true,
        );
        check("echo a; exit 3", "", "test $status = 3; grep -qx a $out", true);
        check("echo a", "", "grep -q b $out\ntrue", false);
        check("echo a", "false; true", "true", false);
        check("true", "", "test 1 = 2; true", false);
    }
}
