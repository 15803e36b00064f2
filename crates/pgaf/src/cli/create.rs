//! `create monitor|postgres|formation`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Subcommand;
use service::exit::with_code;
use tracing::info;

use super::find::{Where, absolute, config_of, folders, open, read};
use super::run::{directory_options, start_logs};
use super::{CONFIG, POSTGRES, STATE, of_store, of_trouble, run, wait_for};
use crate::config::Config;
use crate::database::Database as _;
use crate::keeper::state::{StateFile, replace};
use crate::keeper::{Registration, register};
use crate::layout::{self, Formation, GroupId, Stored as _, check_name};
use crate::postgres::Postgres;
use crate::settings::Profile;
use crate::store::{Change, Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum Create {
    /// Make a monitor. Any number may run on one store; one is elected.
    Monitor(CreateMonitor),
    /// Make a node of a formation: the first one of a group, or a standby.
    Postgres(CreatePostgres),
    /// Make a formation.
    Formation(CreateFormation),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Patience {
    Default,
    Fast,
    SeedLiteral,
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateMonitor {
    /// Directory that names this monitor; it holds nothing
    #[arg(long, env = "PGDATA", value_name = "DIR")]
    pgdata: PathBuf,

    /// Where the state lies: chainfire://HOST[:PORT][,...]; any etcd v3 store will do
    #[arg(long, value_name = "URI")]
    store: String,

    /// How patient the monitors of a new store are; later `set monitor` changes it
    #[arg(long, value_enum)]
    profile: Option<Patience>,

    /// Run it
    #[arg(long)]
    run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateFormation {
    #[command(flatten)]
    place: Where,

    /// Its name
    #[arg(long, value_name = "NAME")]
    formation: String,

    /// The application's database
    #[arg(long, default_value = "postgres", value_name = "NAME")]
    dbname: String,

    /// Confirmations that a commit waits for at least
    #[arg(long, default_value_t = 0, value_name = "N")]
    number_sync_standbys: u32,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("access").required(true).args(["auth", "skip_pg_hba"])))]
pub(super) struct CreatePostgres {
    /// Data directory: empty, or of a cluster to adopt
    #[arg(long, env = "PGDATA", value_name = "DIR")]
    pgdata: PathBuf,

    /// Store of the monitors: chainfire://HOST[:PORT][,...]
    #[arg(long, env = "PG_AUTOCTL_MONITOR", value_name = "URI")]
    monitor: String,

    /// pg_ctl of the PostgreSQL to use; default is the one that is found
    #[arg(long, value_name = "FILE")]
    pgctl: Option<PathBuf>,

    /// Folder of the Unix socket
    #[arg(long, default_value = "/tmp", value_name = "DIR")]
    pghost: PathBuf,

    /// Port
    #[arg(long, default_value_t = 5432)]
    pgport: u16,

    /// listen_addresses
    #[arg(long, default_value = "*", value_name = "ADDRESSES")]
    listen: String,

    /// Under which other nodes reach this one; default is this host's name
    #[arg(long, value_name = "HOST")]
    hostname: Option<String>,

    /// The node's name; default is node and its number
    #[arg(long)]
    name: Option<String>,

    /// Formation
    #[arg(long, default_value = "default", value_name = "NAME")]
    formation: String,

    /// Group; there is only 0
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=0))]
    group: u32,

    /// The application's role, made with the first node
    #[arg(long, value_name = "USER")]
    username: Option<String>,

    /// The application's database, made with the first node
    #[arg(long)]
    dbname: Option<String>,

    /// What pg_hba.conf demands of other nodes; only trust as yet
    #[arg(long, value_name = "METHOD", value_parser = ["trust"])]
    auth: Option<String>,

    /// Leave pg_hba.conf alone
    #[arg(long)]
    skip_pg_hba: bool,

    /// Nodes talk without TLS; the only choice as yet
    #[arg(long, required = true)]
    no_ssl: bool,

    /// Whom to promote first, 0 to 100; 0 is never promoted
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    candidate_priority: u8,

    /// Whether commits may wait for this node
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    replication_quorum: bool,

    /// pg_basebackup --max-rate
    #[arg(long, default_value = "100M", value_name = "RATE")]
    maximum_backup_rate: String,

    /// Run it
    #[arg(long)]
    run: bool,
}

impl Create {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Create::Monitor(command) => command.run(),
            Create::Postgres(command) => command.run(),
            Create::Formation(command) => command.run(),
        }
    }
}

impl CreateMonitor {
    fn run(&self) -> Result<()> {
        start_logs()?;
        let pgdata = absolute(&self.pgdata)?;
        let config = Config::new(&folders().paths(&pgdata).config)
            .with("pg_autoctl.role", "monitor")
            .with("pg_autoctl.monitor", &self.store)
            .with("postgresql.pgdata", pgdata.display().to_string());
        wait_for(self.prepare())?;
        config.write().map_err(|invalid| with_code(CONFIG, invalid))?;
        info!(store = self.store, "the monitor is configured");
        if self.run {
            return run::directory(&pgdata);
        }
        Ok(())
    }

    /// Settings and the formation `default`, unless they are there.
    async fn prepare(&self) -> Result<()> {
        let store = open(&self.store)?;
        let id = GroupId::of("default")?;
        let profile = match self.profile {
            None | Some(Patience::Default) => Profile::Default,
            Some(Patience::Fast) => Profile::Fast,
            Some(Patience::SeedLiteral) => Profile::SeedLiteral,
        };
        let settings = profile.settings();
        let new = Change::default()
            .if_at(layout::SETTINGS, 0)
            .put(layout::SETTINGS, settings.encode());
        if store.commit(new).await.map_err(of_store)? == Outcome::Conflict && self.profile.is_some() {
            let there = read(&store, &id).await?;
            if there.settings != settings {
                return Err(with_code(
                    STATE,
                    anyhow!(
                        "the store has settings already, which --profile does not change: use `set monitor`"
                    ),
                ));
            }
        }
        let new = Change::default()
            .if_at(id.formation_key(), 0)
            .put(id.formation_key(), Formation::default().encode());
        store.commit(new).await.map_err(of_store)?;
        Ok(())
    }
}

impl CreateFormation {
    fn run(&self) -> Result<()> {
        let id = GroupId::of(&self.formation)?;
        let formation = Formation {
            dbname: self.dbname.clone(),
            number_sync_standbys: self.number_sync_standbys,
            ..Formation::default()
        };
        wait_for(async {
            let new = Change::default()
                .if_at(id.formation_key(), 0)
                .put(id.formation_key(), formation.encode());
            match self.place.store()?.commit(new).await.map_err(of_store)? {
                Outcome::Done(_) => Ok(()),
                Outcome::Conflict => Err(with_code(
                    STATE,
                    anyhow!("there is a formation `{}` already", self.formation),
                )),
            }
        })
    }
}

impl CreatePostgres {
    fn run(&self) -> Result<()> {
        start_logs()?;
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        let made = fs::create_dir_all(&self.pgdata);
        made.with_context(|| format!("make {}", self.pgdata.display()))?;
        let pgdata = absolute(&self.pgdata)?;
        let paths = folders().paths(&pgdata);
        let config = self.config(&paths.config, &pgdata)?;
        if paths.config.exists() && paths.state.exists() {
            let before = config_of(&pgdata)?;
            if before.get("pg_autoctl.role") != Some("keeper") {
                bail!("{} is configured as a monitor", pgdata.display());
            }
            let node = StateFile::open(&paths.state).map_err(of_trouble)?;
            let node = node.map_or(0, |file| file.get().node);
            info!(node, "is registered already; goes on");
        } else {
            // Marks that what follows has begun: it is taken up from the beginning if it does not end.
            let begun = replace(&paths.init, b"{\"version\":1}\n");
            begun.with_context(|| format!("write {}", paths.init.display()))?;
            config.write().map_err(|invalid| with_code(CONFIG, invalid))?;
            wait_for(self.register(&config, &paths.state))?;
            let ended = fs::remove_file(&paths.init);
            ended.with_context(|| format!("remove {}", paths.init.display()))?;
        }
        if self.run {
            return run::directory(&pgdata);
        }
        Ok(())
    }

    fn config(&self, path: &Path, pgdata: &Path) -> Result<Config> {
        let hostname = match &self.hostname {
            Some(given) => given.clone(),
            None => nix::unistd::gethostname()
                .context("this host's name")?
                .to_string_lossy()
                .into_owned(),
        };
        Ok(Config::new(path)
            .with("pg_autoctl.role", "keeper")
            .with("pg_autoctl.monitor", &self.monitor)
            .with("pg_autoctl.formation", &self.formation)
            .with("pg_autoctl.group", self.group.to_string())
            .with_some("pg_autoctl.name", self.name.as_ref())
            .with("pg_autoctl.hostname", hostname)
            .with("postgresql.pgdata", pgdata.display().to_string())
            .with_some(
                "postgresql.pg_ctl",
                self.pgctl.as_ref().map(|path| path.display().to_string()),
            )
            .with_some("postgresql.username", self.username.as_ref())
            .with_some("postgresql.dbname", self.dbname.as_ref())
            .with("postgresql.host", self.pghost.display().to_string())
            .with("postgresql.port", self.pgport.to_string())
            .with("postgresql.listen_addresses", &self.listen)
            .with_some("postgresql.auth_method", self.auth.as_ref())
            .with("ssl.sslmode", "disable")
            .with("replication.maximum_backup_rate", &self.maximum_backup_rate))
    }

    async fn register(&self, config: &Config, state: &Path) -> Result<()> {
        let store = open(&self.monitor)?;
        let id = GroupId::of(&self.formation)?;
        let settings = read(&store, &id).await?.settings;
        let options = directory_options(config, &settings).await?;
        let host = options.hostname.clone();
        let postgres = Postgres::open(options)
            .await
            .map_err(|error| with_code(POSTGRES, error))?;
        let status = postgres
            .status()
            .await
            .map_err(|error| with_code(POSTGRES, error))?;
        let who = Registration {
            name: self.name.clone(),
            host,
            port: self.pgport,
            candidate_priority: self.candidate_priority,
            replication_quorum: self.replication_quorum,
            system_identifier: status.system_identifier,
            dbname: self.dbname.clone(),
        };
        let node = register(&store, &id, &who).await.map_err(of_trouble)?;
        StateFile::create(state, id, node).map_err(of_trouble)?;
        info!(node, formation = self.formation, "registered");
        Ok(())
    }
}
