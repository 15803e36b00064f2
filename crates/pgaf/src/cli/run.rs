//! `run` and `status`: the process of a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use service::clock::{BootClock, SystemClock};
use service::exit::with_code;
use service::logs::LogSettings;
use service::run::{Lifecycle, Runner};
use tokio::signal::unix::{SignalKind, signal};

use super::find::{Where, config_of, folders, open, read};
use super::{CONFIG, POSTGRES, STATE, of_trouble, wait_for};
use crate::config::{Config, Invalid};
use crate::database::{Options, Stop};
use crate::keeper::Keeper;
use crate::keeper::state::{StateFile, replace};
use crate::layout::GroupId;
use crate::monitor::Monitor;
use crate::postgres::{Login, Postgres, bindir};
use crate::settings::Settings;

/// How long a clean stop may take: a checkpoint of a busy server takes its time. Below systemd's 90 s before SIGKILL.
const GRACE: Duration = Duration::from_secs(80);
/// Lease lives after which a connection that is silent is given up.
const SILENCES: u32 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusOf {
    #[command(flatten)]
    place: Where,
}

impl Run {
    pub(super) fn run(&self) -> Result<()> {
        start_logs()?;
        directory(&self.place.directory()?)
    }
}

/// Log lines go to standard error.
pub(super) fn start_logs() -> Result<()> {
    let level = std::env::var("PG_AUTOCTL_LOG").unwrap_or_else(|_unset| "info".to_owned());
    let settings = LogSettings {
        level,
        ..LogSettings::default()
    };
    service::logs::init(&settings).map_err(|error| with_code(CONFIG, error))?;
    Ok(())
}

fn bad(invalid: Invalid) -> anyhow::Error {
    with_code(CONFIG, invalid)
}

/// Runs what is configured for a directory.
pub(super) fn directory(pgdata: &Path) -> Result<()> {
    let config = config_of(pgdata)?;
    let pid = folders().paths(pgdata).pid;
    if let Some(running) = running(&pid) {
        return Err(with_code(
            STATE,
            anyhow!("process {running} runs for {} already", pgdata.display()),
        ));
    }
    let own = format!("{}\n", std::process::id());
    replace(&pid, own.as_bytes()).with_context(|| format!("write {}", pid.display()))?;
    let done = match config.need("pg_autoctl.role").map_err(bad)? {
        "monitor" => Runner::new().start(|life| monitor(config, life)),
        "keeper" => {
            let state = folders().paths(pgdata).state;
            Runner::new()
                .grace(GRACE)
                .start(|life| keeper(config, state, life))
        }
        other => {
            let reason = format!("`{other}` is not monitor or keeper");
            Err(bad(config.wrong("pg_autoctl.role", reason)))
        }
    };
    // If it stays, nobody takes it for a running process.
    let _ = fs::remove_file(&pid);
    done
}

/// The process that a pid file names, if it runs and is ours.
fn running(pid: &Path) -> Option<u32> {
    let number: u32 = fs::read_to_string(pid).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let ours = String::from_utf8_lossy(&command).contains("pg_autoctl");
    (ours && number != std::process::id()).then_some(number)
}

async fn monitor(config: Config, life: Lifecycle) -> Result<()> {
    let store = open(config.need("pg_autoctl.monitor").map_err(bad)?)?;
    let host = nix::unistd::gethostname().context("this host's name")?;
    let name = format!("{} {}", host.to_string_lossy(), std::process::id());
    let monitor = Monitor::new(store, Arc::new(Login::default()), SystemClock::shared(), name);
    life.ready("watching");
    tokio::select! {
        () = monitor.run() => {}
        () = life.shutdown.wait() => {}
    }
    Ok(())
}

async fn keeper(config: Config, state: PathBuf, life: Lifecycle) -> Result<()> {
    let store = open(config.need("pg_autoctl.monitor").map_err(bad)?)?;
    let Some(remembered) = StateFile::open(&state).map_err(of_trouble)? else {
        bail!("the node is not registered: `create postgres` has not ended");
    };
    let settings = read(&store, &remembered.get().group).await?.settings;
    let options = directory_options(&config, &settings).await?;
    let postgres = Postgres::open(options)
        .await
        .map_err(|error| with_code(POSTGRES, error))?;
    let keeper = Keeper::new(store, postgres, Arc::new(BootClock), remembered)
        .await
        .map_err(of_trouble)?;
    let mut quit = signal(SignalKind::quit()).context("listen for SIGQUIT")?;
    life.ready("keeping");
    let shutdown = life.shutdown.clone();
    let stop = async move {
        tokio::select! {
            () = shutdown.wait() => Stop::Clean,
            _ = quit.recv() => Stop::Kill,
        }
    };
    keeper.run(stop).await.map_err(of_trouble)
}

/// What PostgreSQL is to be, from the configuration.
pub(super) async fn directory_options(config: &Config, settings: &Settings) -> Result<Options> {
    let need = |key| config.need(key).map_err(bad);
    let pgctl = config.get("postgresql.pg_ctl").map(Path::new);
    let port = need("postgresql.port")?;
    Ok(Options {
        pgdata: need("postgresql.pgdata")?.into(),
        bindir: bindir(pgctl).await.map_err(|error| with_code(POSTGRES, error))?,
        socket_dir: need("postgresql.host")?.into(),
        listen: need("postgresql.listen_addresses")?.to_owned(),
        port: port
            .parse()
            .map_err(|_| bad(config.wrong("postgresql.port", format!("`{port}` is not a port"))))?,
        hostname: need("pg_autoctl.hostname")?.to_owned(),
        auth: config.get("postgresql.auth_method").map(str::to_owned),
        sslmode: need("ssl.sslmode")?.to_owned(),
        username: config.get("postgresql.username").map(str::to_owned),
        dbname: config.get("postgresql.dbname").map(str::to_owned),
        maximum_backup_rate: config.get("replication.maximum_backup_rate").map(str::to_owned),
        wal_timeout: settings.primary_lease_ttl.duration() * SILENCES,
    })
}

impl StatusOf {
    pub(super) fn run(&self) -> Result<()> {
        let pgdata = self.place.directory()?;
        let config = config_of(&pgdata)?;
        let paths = folders().paths(&pgdata);
        let role = config.need("pg_autoctl.role").map_err(bad)?.to_owned();
        let process = running(&paths.pid);
        let mut lines = vec![
            format!("pgdata: {}", pgdata.display()),
            format!("role: {role}"),
            process.map_or("pid: not running".to_owned(), |pid| format!("pid: {pid}")),
        ];
        if let Some(file) = StateFile::open(&paths.state).map_err(of_trouble)? {
            let kept = file.get();
            lines.push(format!("node: {}", kept.node));
            lines.push(format!("state: {}", kept.reported));
            if let Ok(goal) = wait_for(goal(&config, &kept.group, kept.node)) {
                lines.push(format!("goal: {goal}"));
            }
        }
        terminal::out(&(lines.join("\n") + "\n"));
        if process.is_none() {
            return Err(with_code(STATE, anyhow!("{role} does not run")));
        }
        Ok(())
    }
}

async fn goal(config: &Config, group: &GroupId, node: crate::NodeId) -> Result<crate::state::NodeState> {
    let store = open(config.need("pg_autoctl.monitor").map_err(bad)?)?;
    let state = read(&store, group).await?;
    let entry = state
        .nodes
        .get(&node)
        .context("the node is not registered any more")?;
    Ok(entry.value.goal)
}
