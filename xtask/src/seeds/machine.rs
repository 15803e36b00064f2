//! The hosts on which command lines are tried: a lab in form `machine` of three real Debians with our package installed from this
//! build. They become a cluster of a seed's system when the first of its lines is tried.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::checks::{Check, FILLED_IN, prelude};
use crate::process;
use crate::workspace::Workspace;

/// What the seeds call apart from our own programs, and what our package stands on.
const PACKAGES: &[&str] = &[
    "adduser",
    "ca-certificates",
    "curl",
    "firewalld",
    "iptables",
    "iputils-ping",
    "jq",
    "libcap2-bin",
    "netcat-openbsd",
    "openssh-client",
    "openssh-server",
    "openssl",
    "python3",
    "sudo",
    "sysstat",
    "vim-tiny",
];

/// Names of the hosts; on every one of them is one member of the cluster.
const HOSTS: [&str; 3] = ["node1", "node2", "node3"];

/// A line that takes longer, with all that is done around it, has failed. The longest asks ten times per host, a second apart.
const LINE_SECONDS_MAX: u32 = 240;

/// How a tried line went.
pub(super) enum Tried {
    Passed,
    Failed(String),
}

/// Running hosts; the lab is taken down with the value.
pub(super) struct Machine {
    mainstay: PathBuf,
    dir: PathBuf,
    /// Seeds whose system runs on the hosts.
    founded: RefCell<BTreeSet<&'static str>>,
}

impl Machine {
    /// Starts the lab and installs `package`.
    pub(super) fn start(workspace: &Workspace, package: &Path) -> Result<Machine> {
        let folder = workspace.target_dir().join("seeds");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let topology = folder.join("topology.json");
        let hosts = HOSTS.map(|name| serde_json::json!({ "name": name, "packages": PACKAGES }));
        let description = serde_json::json!({ "name": "seeds", "hosts": hosts });
        fs::write(&topology, description.to_string())
            .with_context(|| format!("write {}", topology.display()))?;

        let machine = Machine {
            mainstay: workspace.target_dir().join("debug/mainstay"),
            dir: folder.join("lab"),
            founded: RefCell::default(),
        };
        let mut up = machine.lab("up");
        up.args(["--form", "machine", "--detach", "--fresh", "--yes", "--topology"])
            .arg(&topology);
        process::read(&mut up).context("start the lab")?;

        let install =
            "cat > /tmp/mainstay.deb && dpkg -i /tmp/mainstay.deb >/dev/null && rm /tmp/mainstay.deb";
        for host in HOSTS {
            let file = File::open(package).with_context(|| format!("read {}", package.display()))?;
            process::run(machine.shell(host, install).stdin(file))
                .with_context(|| format!("install the package on {host}"))?;
        }
        Ok(machine)
    }

    /// A new cluster on the three hosts, whatever a line has left of the old one.
    fn found(&self, seed: &str) -> Result<()> {
        let script = format!("{}\nset -e\nfound\n", prelude(seed));
        process::run(self.shell(HOSTS[0], &script).stdin(Stdio::null()))
            .context("form a cluster of the hosts")
    }

    /// Runs a line and judges it.
    pub(super) fn try_line(&self, line: &str, check: &Check) -> Result<Tried> {
        if !self.founded.borrow().contains(check.seed) {
            if let Err(error) = self.found(check.seed) {
                let why = format!("{error:#}");
                let end = why.rsplit('\n').next().unwrap_or_default();
                return Ok(Tried::Failed(format!("no cluster to try it on: {end}")));
            }
            self.founded.borrow_mut().insert(check.seed);
        }
        let script = script(line, check);
        let output = self
            .shell(check.host, &script)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run `{line}` in the lab"))?;
        if output.status.success() {
            return Ok(Tried::Passed);
        }
        // The next line of this seed begins with a new cluster.
        self.founded.borrow_mut().remove(check.seed);
        let said = [output.stdout, output.stderr].concat();
        Ok(Tried::Failed(String::from_utf8_lossy(&said).trim().to_owned()))
    }

    fn shell(&self, host: &str, script: &str) -> Command {
        let mut run = self.lab("run");
        run.args([
            host,
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
    let quoted = line.replace('\'', r"'\''");
    // The judging part is a plain command of its own: inside a condition the shell would ignore `set -e`. What a line sets is
    // carried out of its own shell, for the line that follows it in the seed.
    format!(
        "{}\nout=$(mktemp) set=$(mktemp) line='{quoted}'\nset -e\n{}\nset +e\n(\n{filled}\nstatus=$?\n\
         declare -p RUNNING_NODES LATEST_BACKUP >$set 2>/dev/null || true\nexit $status\n) >$out 2>&1 < <(printf %s \"${{typed-}}\")\nstatus=$?\n\
         . $set\n(set -e\n{}\n) >/dev/null\nverdict=$?\n\
         test $verdict = 0 || {{ echo \"exit status $status; output:\"; tail -n 5 $out; }}\nrm -f $out $set\nexit $verdict\n",
        prelude(check.seed),
        check.before,
        check.after
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
            number: None,
            line: "",
            host: "node1",
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
