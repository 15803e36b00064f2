//! One machine: its overlay file system, its container and its control group.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{create, image::Layers, network, process_of, tool};
use crate::pid::ProcessRef;
use crate::state::HostState;
use crate::{process, wait};

/// Longest boot. Usually 5 to 10 s; a busy machine with two processors takes several times that.
const BOOT: Duration = Duration::from_mins(3);

/// Mounts `HOST/root` from the image's layers and an empty `HOST/upper`.
///
/// The source of the mount is the lab's name: see [`super::leftovers`].
pub(super) fn mount(lab: &str, dir: &Path, layers: &Layers) -> Result<()> {
    let [upper, work, root, logs] = ["upper", "work", "root", "logs"].map(|name| dir.join(name));
    super::remove_tree(&upper)?;
    super::remove_tree(&work)?;
    for folder in [&upper, &work, &root, &logs] {
        create(folder)?;
        let text = folder.display().to_string();
        ensure!(
            !text.contains([',', ':']),
            "cannot mount in {text}: overlay options allow no comma and no colon"
        );
    }
    let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    tool(
        "mount",
        &["-t", "overlay", lab, "-o", &options, &root.display().to_string()],
    )
    .context("cannot mount the machine's file system (an overlay cannot lie on another overlay)")
    .map(drop)
}

/// Unmounts `HOST/root` if it is mounted.
pub(super) fn unmount(dir: &Path) -> Result<()> {
    unmount_path(&dir.join("root"))
}

pub(super) fn unmount_path(root: &Path) -> Result<()> {
    if !is_mounted(root)? {
        return Ok(());
    }
    // A machine that has just died may hold its files for a moment longer.
    let unmounted = wait::happens(Duration::from_secs(10), || {
        tool("umount", &[&root.display().to_string()]).is_ok()
    });
    ensure!(
        unmounted,
        "cannot unmount {}: something in it is still in use",
        root.display()
    );
    Ok(())
}

fn is_mounted(root: &Path) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let wanted = root.display().to_string();
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .any(|place| place == wanted))
}

/// Starts the container. Its console goes to `HOST/logs/console.log`.
///
/// nspawn must see this machine's own /sys, so the namespace is entered with nsenter and not with `ip netns exec`,
/// which mounts another one. Each container gets a control group of its own: `--keep-unit` makes nspawn build on the
/// group it finds itself in, and two containers in one group would fight over their units.
pub(super) fn start(network: &str, host: &HostState, binary: Option<&Path>) -> Result<ProcessRef> {
    let console = host.dir.join("logs/console.log");
    let console = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&console)
        .with_context(|| format!("cannot open {}", console.display()))?;
    let groups = control_groups(network, &host.name);
    groups.iter().try_for_each(|group| create(group))?;
    network::unplug(network, &machine_name(network, &host.name));
    let mut command = Command::new("sh");
    let script =
        r#"while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@""#;
    command.args(["-c", script, "sh"]).args(&groups).arg("--");
    command
        .arg("nsenter")
        .arg(format!("--net={}", network::file(network).display()));
    command.args([
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
    ]);
    command.args([
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
    ]);
    command.arg(format!("--machine={}", machine_name(network, &host.name)));
    command.arg(format!("--hostname={}", host.name));
    command.arg(format!("--network-bridge={}", network::BRIDGE_NAME));
    command.arg("-D").arg(host.dir.join("root"));
    if let Some(binary) = binary {
        command.arg(format!(
            "--bind-ro={}:{}/mainstay",
            binary.display(),
            super::PROGRAMS
        ));
    }
    command
        .stdin(Stdio::null())
        .stderr(console.try_clone().context("cannot share the console log")?)
        .stdout(console);
    command.process_group(0);
    let mut child = command.spawn().context("cannot start systemd-nspawn")?;
    let process = ProcessRef::of(child.id()).context("systemd-nspawn has vanished")?;
    // Collected by a thread, so that it does not stay behind as a zombie.
    std::thread::spawn(move || child.wait());
    Ok(process)
}

/// Machine names have at most 64 characters; host names may be longer than what is left.
fn machine_name(network: &str, host: &str) -> String {
    let mut name = format!("{network}-{host}");
    name.truncate(64);
    name.trim_end_matches('-').to_owned()
}

/// Waits until systemd says that booting is over, and returns the machine's first process.
pub(super) fn wait_booted(
    host: &HostState,
    supervisor: ProcessRef,
    interrupted: &dyn Fn() -> bool,
) -> Result<ProcessRef> {
    let what = format!("{} to boot", host.name);
    let console = host.dir.join("logs/console.log").display().to_string();
    let mut addressed = None;
    wait::until_every(Duration::from_millis(200), BOOT, &what, || {
        ensure!(!interrupted(), "interrupted while waiting for {what}");
        ensure!(supervisor.is_alive(), "{} stopped while booting", host.name);
        let Some(leader) = leader(supervisor) else {
            return Ok(None);
        };
        if addressed != Some(leader) {
            // host0 is moved into the machine just before its systemd starts.
            network::set_address(leader.pid, host.address)?;
            addressed = Some(leader);
        }
        let state = system_state(leader);
        Ok(matches!(state.as_str(), "running" | "degraded").then_some(leader))
    })
    .map_err(|error| anyhow::anyhow!("{error:#}; the end of {console}:\n{}", process::tail(&console)))
}

/// What `systemctl is-system-running` prints: it exits with 1 for anything but `running`.
fn system_state(leader: ProcessRef) -> String {
    let leader = leader.pid.to_string();
    let output = Command::new("nsenter")
        .args(["-t", &leader, "-a", "--", "systemctl", "is-system-running"])
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// The machine's first process: the child of nspawn that has become systemd.
fn leader(supervisor: ProcessRef) -> Option<ProcessRef> {
    let pid = supervisor.pid;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().find_map(|child| {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "systemd").then(|| process_of(child)).flatten()
    })
}

/// Asks the machine's systemd to power off (SIGRTMIN+4, systemd(1)); kills it after `grace`.
pub(super) fn shut_down(supervisor: ProcessRef, grace: Duration) -> Result<()> {
    if let Some(leader) = leader(supervisor) {
        // Through kill(1): the signal type of the nix crate has no real-time signals.
        tool("kill", &["-s", "RTMIN+4", &leader.pid.to_string()])?;
        if supervisor.ends_within(grace) {
            return Ok(());
        }
    }
    kill(supervisor)
}

/// SIGKILL to the supervisor and to the machine's first process, with which the kernel ends all others. The supervisor
/// goes first, so that it does not notice and tidy up.
pub(super) fn kill(supervisor: ProcessRef) -> Result<()> {
    let leader = leader(supervisor);
    supervisor.signal(Signal::SIGKILL)?;
    leader.map_or(Ok(()), ProcessRef::kill)?;
    supervisor.kill()
}

/// Words to put before a command so that it runs in the machine, among the processes that its systemd knows of:
/// systemd refuses to list a control group whose caller comes from outside.
///
/// The control group is entered inside, after nsenter has forked: nsenter itself belongs to no process namespace of
/// the machine, and would spoil the group. Where that is not allowed the command runs all the same.
pub(super) fn enter(leader: ProcessRef) -> Vec<String> {
    const SCRIPT: &str = r#"for group in /sys/fs/cgroup/init.scope /sys/fs/cgroup/systemd/init.scope /sys/fs/cgroup/unified/init.scope
do [ ! -d "$group" ] || echo $$ > "$group/cgroup.procs"; done 2>/dev/null
exec "$@""#;
    [
        "nsenter",
        "-t",
        &leader.pid.to_string(),
        "-a",
        "--",
        "sh",
        "-c",
        SCRIPT,
        "sh",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Folders under which control groups of systemd are made: the unified hierarchy, or in older set-ups systemd's named
/// one and the unified one beside it. nspawn uses all that are there.
pub(super) fn control_group_roots() -> Vec<PathBuf> {
    let unified = Path::new("/sys/fs/cgroup");
    let roots = if unified.join("cgroup.controllers").exists() {
        vec![unified.to_owned()]
    } else {
        vec![unified.join("unified"), unified.join("systemd")]
    };
    roots
        .into_iter()
        .filter(|root| root.join("cgroup.procs").exists())
        .collect()
}

/// Where a container's control groups are made.
fn control_groups(network: &str, host: &str) -> Vec<PathBuf> {
    let name = machine_name(network, host);
    control_group_roots()
        .into_iter()
        .map(|root| root.join(&name))
        .collect()
}

/// Removes the control groups of a machine that is to be gone, with all that is in them.
pub(super) fn remove_control_groups(network: &str, host: &str) -> Result<()> {
    control_groups(network, host)
        .iter()
        .try_for_each(|group| remove_groups(group))
}

/// Removes a tree of control groups, killing what is still in it: a machine outlives a supervisor that was killed.
pub(super) fn remove_groups(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    if !wait::happens(Duration::from_secs(20), || remove_group(group).is_ok()) {
        bail!(
            "cannot remove control group {}: it still holds {}",
            group.display(),
            held(group)
        );
    }
    Ok(())
}

/// The processes below a control group, with the state that the kernel shows of each, for whoever wonders why they do not end.
fn held(group: &Path) -> String {
    let mut shown = vec![];
    let mut folders = vec![group.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
        let pids = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let stat: Vec<&str> = stat.splitn(4, ' ').take(3).collect();
            shown.push(format!("{} {}", pid, stat.get(1..).unwrap_or_default().join(" ")));
        }
    }
    if shown.is_empty() {
        return "no process any more, but the kernel refuses".to_owned();
    }
    format!("processes: {}", shown.join(", "))
}

/// One try. The files of a control group cannot be deleted, only the folders, innermost first.
fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    for pid in std::fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        if let Some(process) = process_of(pid) {
            process.signal(Signal::SIGKILL).map_err(std::io::Error::other)?;
        }
    }
    std::fs::remove_dir(group)
}
