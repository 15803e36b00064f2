//! Form `machine`: a host is a systemd-nspawn container that boots a real Debian.
//!
//! ```text
//! image layers (cache)          lab directory                    kernel
//! base/  packages-HASH/   ──►   HOST/upper, HOST/root (overlay)  netns LAB ── bridge br0 198.18.0.1/24
//!                               HOST/logs/console.log              └─ HOST: host0 198.18.0.11, .12, ...
//! ```
//!
//! Everything a lab puts into the kernel carries the lab's name, `mainstay-PID-N`: the network namespace, the source
//! of the overlay mounts, the control groups and the machine names. So what a killed lab has left can be found and
//! removed without any file of its own ([`leftovers`]).
//!
//! The machine's file system is thrown away when the lab goes down. A power cut is SIGKILL to the container's
//! supervisor: the machine's processes are gone at once. The page cache is not: what a program wrote without a sync survives here, as it
//! would not on hardware.

mod container;
mod files;
mod image;
mod leftovers;
mod network;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use leftovers::clear as clear_abandoned;

use crate::applets;
use crate::pid::{Guard, ProcessRef};
use crate::ready;
use crate::state::{HostState, LabState, ServiceState};
use crate::topology::{HostSpec, Places, Program, Readiness, ServiceSpec, Topology};

/// Programs the form needs, and the Debian package of each.
const NEEDS: [(&str, &str); 7] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// Where the lab's programs are in a machine that runs any of them.
const PROGRAMS: &str = "/usr/local/bin";

/// `PATH` of commands run in a machine: Debian's for root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Width told to programs whose output no terminal shows: `top` would cut `chainfire` to eight letters at 80. It is the widest
/// that `top` takes.
const UNCUT_COLUMNS: u32 = 512;

/// Boots and stops the machines of one lab.
#[derive(Debug, Default)]
pub(crate) struct MachineForm {
    guarded: bool,
    guards: Mutex<BTreeMap<String, Vec<Guard>>>,
}

/// Why machines cannot be started here; none if they can, as far as can be seen without starting one.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("form machine needs root".into());
    }
    let absent = NEEDS
        .iter()
        .filter(|(program, _)| applets::find_program(program).is_none());
    let absent: Vec<&str> = absent.map(|(_, package)| *package).collect();
    if !absent.is_empty() {
        return Some(format!(
            "form machine needs the Debian packages {}",
            absent.join(" ")
        ));
    }
    // Root in a container often may not do what nspawn does first.
    let probe = "mount -t tmpfs tmpfs /mnt && mount -t proc proc /proc";
    let may = tool(
        "unshare",
        &[
            "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "sh", "-c", probe,
        ],
    );
    may.err()
        .map(|error| format!("form machine needs namespaces of its own: {error:#}").replace('\n', " "))
}

impl MachineForm {
    pub(crate) fn new(guarded: bool) -> Self {
        Self {
            guarded,
            guards: Mutex::default(),
        }
    }

    /// Builds what is missing of the images, makes the network and the file system of every host. Boots nothing.
    pub(crate) fn prepare(
        dir: &Path,
        topology: &Topology,
        progress: &dyn Fn(&str),
    ) -> Result<(String, Vec<HostState>)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if let Some(reason) = missing() {
            bail!("cannot start machines: {reason}");
        }
        for line in leftovers::clear()? {
            progress(&line);
        }
        let name = format!(
            "mainstay-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut hosts = vec![];
        for (index, spec) in topology.hosts.iter().enumerate() {
            let layers = image::ensure(&spec.packages, progress)?;
            hosts.push((spec, host_state(dir, index, spec)?, layers));
        }
        let made = network::create(&name).and_then(|()| {
            let names = files::names(hosts.iter().map(|(_, host, _)| host));
            hosts.iter().try_for_each(|(spec, host, layers)| {
                container::mount(&name, &host.dir, layers)?;
                files::write_all(dir, host, spec, &names)
            })
        });
        if let Err(error) = made {
            // The first error is the one to tell.
            let _ = leftovers::remove(&name);
            return Err(error);
        }
        Ok((name, hosts.into_iter().map(|(_, host, _)| host).collect()))
    }

    /// Starts the machine and waits until systemd has finished booting.
    pub(crate) fn boot(
        &self,
        network: &str,
        host: &mut HostState,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<()> {
        let binary = if host.path.is_empty() {
            None
        } else {
            Some(applets::mainstay_binary()?)
        };
        let supervisor = container::start(network, host, binary.as_deref())?;
        host.machine = Some(supervisor);
        self.guard(&host.name, supervisor)?;
        let leader = container::wait_booted(host, supervisor, interrupted)?;
        // A machine outlives a supervisor that was killed.
        self.guard(&host.name, leader)?;
        host.enter = container::enter(leader);
        Ok(())
    }

    /// Clean stop as by the power button, SIGKILL after `grace`.
    pub(crate) fn shut_down(&self, network: &str, host: &mut HostState, grace: Duration) -> Result<()> {
        if let Some(machine) = host.machine.take() {
            container::shut_down(machine, grace)?;
        }
        self.forget(network, host)
    }

    /// SIGKILL to the supervisor.
    pub(crate) fn kill_power(&self, network: &str, host: &mut HostState) -> Result<()> {
        if let Some(machine) = host.machine.take() {
            container::kill(machine)?;
        }
        self.forget(network, host)
    }

    fn forget(&self, network: &str, host: &mut HostState) -> Result<()> {
        host.enter.clear();
        self.lock_guards().remove(&host.name);
        container::remove_control_groups(network, &host.name)
    }

    /// Kills the process when this program dies, if that is wanted.
    fn guard(&self, host: &str, process: ProcessRef) -> Result<()> {
        if self.guarded {
            let guard = Guard::new(process)?;
            self.lock_guards().entry(host.to_owned()).or_default().push(guard);
        }
        Ok(())
    }

    fn lock_guards(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Guard>>> {
        self.guards
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Unmounts, deletes the network, and deletes the machines' file systems unless they are to be looked at.
    pub(crate) fn remove(state: &LabState, keep_files: bool) -> Result<()> {
        for host in &state.hosts {
            container::unmount(&host.dir)?;
            if !keep_files {
                for folder in ["upper", "work"] {
                    remove_tree(&host.dir.join(folder))?;
                }
            }
        }
        match &state.network {
            Some(network) => network::delete(network),
            None => Ok(()),
        }
    }

    /// A command that runs in the machine.
    pub(crate) fn command(host: &HostState, program: &str, args: &[String]) -> Result<Command> {
        let (first, rest) = host
            .enter
            .split_first()
            .with_context(|| format!("{} is switched off", host.name))?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .args(["/usr/bin/env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8"]);
        command.arg(format!("PATH={PATH}"));
        command.arg(format!(
            "TERM={}",
            std::env::var("TERM").unwrap_or_else(|_| "dumb".into())
        ));
        if !std::io::stdout().is_terminal() {
            command.arg(format!("COLUMNS={UNCUT_COLUMNS}"));
        }
        command.args(host.env.iter().map(|(name, value)| format!("{name}={value}")));
        command.args([
            format!("HOST_NAME={}", host.name),
            format!("HOST_ADDR={}", host.address),
        ]);
        command.arg(program).args(args).current_dir("/");
        Ok(command)
    }

    /// Starts a service through systemd, with a unit of our own where no package brought one.
    pub(crate) fn start_service(host: &HostState, name: &str, spec: Option<&ServiceSpec>) -> Result<()> {
        if let Some(spec) = spec
            && !systemctl(host, &["cat", name])?.status.success()
        {
            files::write_unit(host, spec)?;
            expect(
                &systemctl(host, &["daemon-reload"])?,
                "systemctl daemon-reload",
                host,
            )?;
        }
        expect(
            &systemctl(host, &["start", name])?,
            &format!("systemctl start {name}"),
            host,
        )
    }

    /// Whether a started service serves; an end before that is an error.
    pub(crate) fn started_is_ready(network: &str, host: &HostState, spec: &ServiceSpec) -> Result<bool> {
        ensure!(
            is_active(host, &spec.name)?,
            "{} on {} ended early",
            spec.name,
            host.name
        );
        is_ready(network, host, spec)
    }

    /// Why a service did not start, and the end of its journal.
    pub(crate) fn explain(host: &HostState, name: &str, error: &anyhow::Error) -> anyhow::Error {
        let log = logs(host, name).unwrap_or_else(|error| format!("({error:#})"));
        anyhow::anyhow!("{error:#}; its journal:\n{}", crate::process::last_lines(&log))
    }

    /// `systemctl stop`.
    pub(crate) fn stop_service(host: &HostState, name: &str) -> Result<()> {
        expect(
            &systemctl(host, &["stop", name])?,
            &format!("systemctl stop {name}"),
            host,
        )
    }

    /// SIGKILL to the main process of the unit; systemd restarts it if the unit says so.
    pub(crate) fn kill_service(host: &HostState, name: &str) -> Result<()> {
        let args = ["kill", "--signal=SIGKILL", "--kill-whom=main", name];
        expect(&systemctl(host, &args)?, &format!("systemctl kill {name}"), host)
    }

    /// Copies a package into the machine and installs it without a network.
    pub(crate) fn install_deb(host: &HostState, package: &Path) -> Result<()> {
        let name = package
            .file_name()
            .with_context(|| format!("{} is no file", package.display()))?;
        let inside = Path::new("/var/tmp").join(name);
        let outside = host.dir.join("root/var/tmp").join(name);
        std::fs::copy(package, &outside)
            .with_context(|| format!("cannot copy {} into {}", package.display(), host.name))?;
        let args = [
            "DEBIAN_FRONTEND=noninteractive".into(),
            "dpkg".into(),
            "-i".into(),
            inside.display().to_string(),
        ];
        let output = Self::command(host, "env", &args)?
            .output()
            .context("cannot run dpkg")?;
        expect(&output, &format!("dpkg -i {}", inside.display()), host)?;
        std::fs::remove_file(&outside).with_context(|| format!("cannot remove {}", outside.display()))
    }
}

pub(crate) use network::{cut, heal, host_address};

/// Whether systemd calls the unit active.
pub(crate) fn is_active(host: &HostState, service: &str) -> Result<bool> {
    Ok(systemctl(host, &["is-active", "--quiet", service])?
        .status
        .success())
}

/// Whether the service answers, asked from the lab's own network.
pub(crate) fn is_ready(network: &str, host: &HostState, spec: &ServiceSpec) -> Result<bool> {
    network::inside(network, || ready::is_ready(host.address.into(), &spec.ready))
}

/// The journal of a unit.
pub(crate) fn logs(host: &HostState, service: &str) -> Result<String> {
    let output = logs_command(host, service, None, false)?
        .output()
        .context("cannot run journalctl")?;
    expect(&output, "journalctl", host)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command that prints the journal of a unit.
pub(crate) fn logs_command(
    host: &HostState,
    service: &str,
    lines: Option<u32>,
    follow: bool,
) -> Result<Command> {
    let mut args: Vec<String> = ["-u", service, "--no-pager", "-o", "short-iso"]
        .map(str::to_owned)
        .to_vec();
    // Following alone would leave out what was logged before the last ten lines.
    let lines = lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    args.push(format!("--lines={lines}"));
    args.extend(follow.then(|| "--follow".to_owned()));
    MachineForm::command(host, "journalctl", &args)
}

fn systemctl(host: &HostState, args: &[&str]) -> Result<Output> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    MachineForm::command(host, "systemctl", &args)?
        .output()
        .context("cannot run nsenter")
}

/// Fails with what the command printed unless it succeeded.
fn expect(output: &Output, what: &str, host: &HostState) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let text = [&output.stderr[..], &output.stdout[..]]
        .map(String::from_utf8_lossy)
        .concat();
    bail!(
        "{what} failed on {} ({}): {}",
        host.name,
        output.status,
        text.trim()
    )
}

/// Runs a tool of this machine and fails with what it printed unless it succeeded.
fn tool(program: &str, args: &[&str]) -> Result<String> {
    let path = applets::find_program(program).with_context(|| format!("cannot find program {program}"))?;
    let output = Command::new(path)
        .args(args)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let text = [&output.stderr[..], &output.stdout[..]]
            .map(String::from_utf8_lossy)
            .concat();
        bail!(
            "{program} {} failed ({}): {}",
            args.join(" "),
            output.status,
            text.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn host_state(dir: &Path, index: usize, spec: &HostSpec) -> Result<HostState> {
    let address = network::host_address(index)?;
    let mut host = HostState {
        name: spec.name.clone(),
        address,
        dir: dir.join(&spec.name),
        path: vec![],
        env: BTreeMap::new(),
        config_dir: spec.services.first().map_or("/etc".into(), |service| {
            PathBuf::from(&service.machine_config_dir)
        }),
        enter: vec![],
        machine: None,
        services: vec![],
    };
    if spec
        .services
        .iter()
        .any(|service| matches!(service.program, Program::Applet(_)))
    {
        host.path.push(PROGRAMS.into());
    }
    for service in &spec.services {
        let places = places(&host, service);
        for (name, value) in &service.host_env {
            host.env.insert(name.clone(), places.fill(value));
        }
        host.services.push(ServiceState {
            name: service.name.clone(),
            pid: None,
            start_time: None,
            log: format!("journalctl -u {}", service.name),
            ready: ready_url(address, &service.ready),
        });
    }
    Ok(host)
}

fn ready_url(address: Ipv4Addr, ready: &Readiness) -> String {
    match ready {
        Readiness::Http { port, path } => format!("http://{address}:{port}{path}"),
        Readiness::Tcp { port } => format!("tcp://{address}:{port}"),
    }
}

fn places(host: &HostState, service: &ServiceSpec) -> Places {
    Places {
        host: host.name.clone(),
        address: host.address.to_string(),
        config_dir: service.machine_config_dir.clone(),
        data_dir: service.machine_data_dir.clone(),
    }
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A process of the machine's supervisor, for those that only know its number.
pub(crate) fn process_of(pid: &str) -> Option<ProcessRef> {
    ProcessRef::of(pid.parse().ok()?)
}
