//! Form `process`: a host is a loopback address and a directory, a service is a process of this machine.
//!
//! ```text
//! DIR/bin/                  links to the mainstay binary
//! DIR/HOST/etc/             configuration files
//! DIR/HOST/data/SERVICE/    data, kept between runs
//! DIR/HOST/logs/SERVICE.log log of this run; SERVICE.log.1 is the run before
//! ```
//!
//! Services run in process groups of their own, so a Ctrl-C at the terminal reaches the lab alone, which then stops
//! them in order. Their environment is clean apart from what programs need (`PATH`, `HOME`, language, Rust's
//! debugging variables), as it would be under systemd.
//!
//! This form cannot cut the network between hosts: all of them are one loopback device.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::address::{self, AddressBlock};
use crate::applets;
use crate::pid::{Guard, ProcessRef};
use crate::state::{HostState, ServiceState};
use crate::topology::{HostSpec, Places, Program, Readiness, ServiceSpec};
use crate::{ready, wait};

/// Lines of a log shown when a service ends early.
const TAIL_LINES: usize = 20;

/// Variables of the caller's environment that services get to see.
const ENVIRONMENT: [&str; 7] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "USER",
    "RUST_BACKTRACE",
    "RUST_LOG",
];

/// How a process that this program started has ended; empty while it runs.
type Ending = Arc<OnceLock<ExitStatus>>;

/// Starts and stops processes for the hosts of one lab.
#[derive(Debug, Default)]
pub(crate) struct ProcessForm {
    /// Kill everything when this program dies.
    guarded: bool,
    running: Mutex<HashMap<ProcessRef, (Ending, Option<Guard>)>>,
}

impl ProcessForm {
    pub(crate) fn new(guarded: bool) -> Self {
        Self {
            guarded,
            running: Mutex::default(),
        }
    }

    /// Makes the directories of a host and writes its configuration files. Nothing is started.
    pub(crate) fn prepare(
        lab: &Path,
        block: &AddressBlock,
        index: usize,
        spec: &HostSpec,
    ) -> Result<HostState> {
        let address = block.host(index)?;
        let dir = lab.join(&spec.name);
        let config_dir = dir.join("etc");
        create(&config_dir)?;
        create(&dir.join("logs"))?;
        let mut host = HostState {
            name: spec.name.clone(),
            address,
            dir,
            path: vec![lab.join("bin")],
            env: std::collections::BTreeMap::new(),
            config_dir,
            enter: vec![],
            machine: None,
            services: vec![],
        };
        for service in &spec.services {
            address::ensure_port_free(address, service.ready.port())
                .with_context(|| format!("cannot start {} on {}", service.name, host.name))?;
            let places = places(&host, service);
            create(Path::new(&places.data_dir))?;
            if let Some(file) = &service.config {
                let path = host.config_dir.join(&file.name);
                std::fs::write(&path, places.fill(&file.contents))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            for (name, value) in &service.host_env {
                host.env.insert(name.clone(), places.fill(value));
            }
            let log = log_path(&host, &service.name);
            if log.exists() {
                std::fs::rename(&log, log.with_extension("log.1"))
                    .with_context(|| format!("cannot set {} aside", log.display()))?;
            }
            host.services.push(ServiceState {
                name: service.name.clone(),
                pid: None,
                start_time: None,
                log: log.display().to_string(),
                ready: match &service.ready {
                    Readiness::Http { port, path } => format!("http://{address}:{port}{path}"),
                    Readiness::Tcp { port } => format!("tcp://{address}:{port}"),
                },
            });
        }
        Ok(host)
    }

    /// Starts the program of a service and returns its process at once.
    pub(crate) fn spawn(&self, host: &HostState, spec: &ServiceSpec) -> Result<ProcessRef> {
        let state = host.service(&spec.name)?;
        if let Some(process) = state.process().filter(|process| process.is_alive()) {
            bail!(
                "{} already runs on {} as process {}",
                spec.name,
                host.name,
                process.pid
            );
        }
        let port = spec.ready.port();
        address::ensure_port_free(host.address, port)
            .with_context(|| format!("cannot start {} on {}", spec.name, host.name))?;
        let program = program_path(host, &spec.program)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&state.log)
            .with_context(|| format!("cannot open log {}", state.log))?;
        let places = places(host, spec);
        let mut command = Command::new(&program);
        command
            .args(spec.args.iter().map(|arg| places.fill(arg)))
            .current_dir(&host.dir);
        command.env_clear().env("PATH", search_path(host)?);
        command.envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        );
        command.envs(spec.env.iter().map(|(name, value)| (name, places.fill(value))));
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("cannot share a log file")?)
            .stdout(log);
        command.process_group(0);
        let child = command.spawn().with_context(|| {
            format!(
                "cannot start {} on {}: {}",
                spec.name,
                host.name,
                program.display()
            )
        })?;
        self.watch(child)
    }

    /// Notes the process and collects it when it ends, so that it does not stay behind as a zombie.
    fn watch(&self, mut child: Child) -> Result<ProcessRef> {
        // A child that has not been waited for keeps its entry in /proc, even when it has ended already.
        let process = ProcessRef::of(child.id()).context("a started process has vanished")?;
        let guard = self.guarded.then(|| Guard::new(process)).transpose()?;
        let ending = Ending::default();
        let noted = Arc::clone(&ending);
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(process, (ending, guard));
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                // Set once, here only.
                let _ = noted.set(status);
            }
        });
        Ok(process)
    }

    /// Whether a started service serves; an end before that is an error.
    pub(crate) fn started_is_ready(
        &self,
        host: &HostState,
        spec: &ServiceSpec,
        process: ProcessRef,
    ) -> Result<bool> {
        // Looked at before asking: a port that answers after our process has died is somebody else's.
        ensure!(
            process.is_alive(),
            "{} on {} ended early{}",
            spec.name,
            host.name,
            self.ending(process)
                .map(|ending| format!(" ({ending})"))
                .unwrap_or_default()
        );
        Ok(ready::is_ready(host.address.into(), &spec.ready))
    }

    /// Why a service did not start, and the end of its log; one text instead of a chain, so that the log comes last.
    pub(crate) fn explain(host: &HostState, name: &str, error: &anyhow::Error) -> anyhow::Error {
        match host.service(name) {
            Ok(ServiceState { log, .. }) => {
                anyhow!("cannot start {name}: {error:#}; the end of {log}:\n{}", tail(log))
            }
            Err(_) => anyhow!("cannot start {name}: {error:#}"),
        }
    }

    /// How a dead process has ended: `exit status: 1`, or `signal 9`; none if another program has started it.
    pub(crate) fn ending(&self, process: ProcessRef) -> Option<String> {
        let ending = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(&process).map(|(ending, _)| Arc::clone(ending))
        }?;
        // It is dead already; only the thread that collects it may be a moment late.
        wait::happens(Duration::from_secs(1), || ending.get().is_some());
        let status = ending.get()?;
        Some(match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        })
    }

    /// SIGTERM, then SIGKILL after `grace`. Does nothing when it is not running.
    pub(crate) fn stop(&self, process: ProcessRef, grace: Duration) -> Result<()> {
        process.stop(grace)?;
        self.forget(process);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&self, process: ProcessRef) -> Result<()> {
        process.kill()?;
        self.forget(process);
        Ok(())
    }

    fn forget(&self, process: ProcessRef) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&process);
    }

    /// A command that runs on the host: its directory, its `PATH`, its environment, `HOST_NAME` and `HOST_ADDR`.
    pub(crate) fn command(host: &HostState, program: &str, args: &[String]) -> Result<Command> {
        let path = search_path(host)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&host.dir)
            .env("PATH", path)
            .envs(&host.env);
        command
            .env("HOST_NAME", &host.name)
            .env("HOST_ADDR", host.address.to_string());
        Ok(command)
    }
}

/// The lab's programs first, then the caller's `PATH`.
fn search_path(host: &HostState) -> Result<std::ffi::OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::join_paths(host.path.iter().cloned().chain(std::env::split_paths(&inherited)))
        .context("cannot put the lab's programs on PATH: a directory name holds a colon")
}

fn program_path(host: &HostState, program: &Program) -> Result<PathBuf> {
    match program {
        Program::Applet(name) => host
            .path
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("the mainstay binary has no program {name}: see `mainstay --list`")),
        Program::Path(name) => applets::find_program(name)
            .with_context(|| format!("cannot find program {name}: install the package that holds it")),
    }
}

fn places(host: &HostState, service: &ServiceSpec) -> Places {
    Places {
        host: host.name.clone(),
        address: host.address.to_string(),
        config_dir: host.config_dir.display().to_string(),
        data_dir: host.dir.join("data").join(&service.name).display().to_string(),
    }
}

fn log_path(host: &HostState, service: &str) -> PathBuf {
    host.dir.join("logs").join(format!("{service}.log"))
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// The last lines of a log, read from its last 64 KiB.
pub fn tail(log: &str) -> String {
    const END: u64 = 64 << 10;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut bytes = Vec::new();
        file.take(END).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => last_lines(&text),
        Err(error) => format!("(cannot read it: {error})"),
    }
}

/// The last lines of a text, or a remark that there is none.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if shown.is_empty() {
        "(the log is empty)".into()
    } else {
        shown.join("\n")
    }
}
