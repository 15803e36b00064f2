//! Files that the lab writes into a machine: before the first boot, and units for services that no package brings.

use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{MachineForm, PROGRAMS, create, places, tool, write};
use crate::applets;
use crate::state::HostState;
use crate::topology::{HostSpec, Program, ServiceSpec};

/// `/etc/hosts` of every machine.
pub(super) fn names<'a>(hosts: impl Iterator<Item = &'a HostState>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for host in hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", host.address, host.name);
    }
    text
}

/// Writes what has to be there before the first boot.
pub(super) fn write_all(lab: &Path, host: &HostState, spec: &HostSpec, names: &str) -> Result<()> {
    let root = host.dir.join("root");
    write(&root.join("etc/hostname"), &format!("{}\n", host.name))?;
    write(&root.join("etc/hosts"), names)?;
    // The image has one, which would be the same for all machines.
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("cannot draw a machine id")?;
    write(&root.join("etc/machine-id"), &id.replace('-', ""))?;
    // A journal that survives reboots, and power cuts, as on a server.
    create(&root.join("var/log/journal"))?;
    for service in &spec.services {
        let places = places(host, service);
        create(&below(&root, &service.machine_data_dir))?;
        if let Some(file) = &service.config {
            let folder = below(&root, &service.machine_config_dir);
            create(&folder)?;
            write(&folder.join(&file.name), &places.fill(&file.contents))?;
        }
    }
    if !host.path.is_empty() {
        applets::link_to(
            &applets::mainstay_binary()?,
            Path::new("mainstay"),
            &below(&root, PROGRAMS),
        )?;
        // The binary itself is bound here when the machine boots; a bind needs a file to lie on.
        let target = below(&root, PROGRAMS).join("mainstay");
        std::fs::remove_file(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        write(&target, "")?;
    }
    if spec.packages.iter().any(|package| package == "openssh-server") {
        write_ssh(lab, &root)?;
    }
    Ok(())
}

/// One key pair for the lab: root of every machine may log in to every other, without questions.
fn write_ssh(lab: &Path, root: &Path) -> Result<()> {
    let key = lab.join("ssh/id_ed25519");
    if !key.exists() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(lab.join("ssh"))
            .context("cannot create the folder of the lab's ssh key")?;
        tool(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "lab",
                "-f",
                &key.display().to_string(),
            ],
        )?;
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let home = root.join("root/.ssh");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)
        .context("cannot create /root/.ssh")?;
    let public = read(&key.with_extension("pub"))?;
    write(&home.join("authorized_keys"), &public)?;
    write_private(&home.join("id_ed25519"), &read(&key)?)?;
    write(
        &home.join("config"),
        "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
    )
}

/// A unit for a service that no package of the machine brings.
pub(super) fn write_unit(host: &HostState, spec: &ServiceSpec) -> Result<()> {
    let places = places(host, spec);
    let program = match &spec.program {
        Program::Applet(name) => format!("{PROGRAMS}/{name}"),
        Program::Path(name) => {
            let args = ["-c".to_owned(), "command -v \"$0\"".to_owned(), name.clone()];
            let output = MachineForm::command(host, "sh", &args)?
                .output()
                .context("cannot run nsenter")?;
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            ensure!(
                !path.is_empty(),
                "no program {name} on {}: add its package to the host",
                host.name
            );
            path
        }
    };
    let mut text = format!(
        "[Unit]\nDescription={} of the lab\n\n[Service]\nExecStart={program}",
        spec.name
    );
    for arg in &spec.args {
        let _ = write!(text, " {}", quote(&places.fill(arg)));
    }
    text.push('\n');
    for (name, value) in &spec.env {
        let _ = writeln!(
            text,
            "Environment={}",
            quote(&format!("{name}={}", places.fill(value)))
        );
    }
    write(
        &host
            .dir
            .join(format!("root/etc/systemd/system/{}.service", spec.name)),
        &text,
    )
}

/// A word of a unit file, see systemd.syntax(7): quotes and escapes, no specifiers, no variables.
fn quote(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    format!("\"{escaped}\"")
}

/// The place of an absolute path of the machine below its root.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_mean_themselves() {
        assert_eq!(quote(r#"100% of "$HOME" \ x"#), r#""100%% of \"$$HOME\" \\ x""#);
    }
}
