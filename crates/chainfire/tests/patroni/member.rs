//! A Patroni with its PostgreSQL.
//!
//! Both live in a process-id namespace of their own. Its first process is Patroni's, so killing that takes PostgreSQL along, which
//! Patroni starts in a session of its own: nothing stays behind, however the test ends. PostgreSQL refuses to run as root, so a
//! test of root runs both as the user `postgres` that comes with Debian's package.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lab::Readiness;
use serde_json::{Value, json};
use testkit::{Output, Server, require, wait_until};

/// Patroni's own settings, as short as a store of three that elects within two seconds allows: `LOOP_WAIT + 2 * RETRY <= TTL`.
pub(crate) const TTL_SECONDS: u64 = 10;
pub(crate) const LOOP_WAIT_SECONDS: u64 = 1;
const RETRY_TIMEOUT_SECONDS: u64 = 4;

const REST_PORT: u16 = 8008;
const SQL_PORT: u16 = 5432;

/// The user that root gives both programs.
const USER: &str = "postgres";

pub(crate) struct Member {
    server: Server,
    config: PathBuf,
}

impl Deref for Member {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What `unshare` is told. A namespace takes the rights of root, at least in a namespace of users.
fn isolation() -> Vec<String> {
    let users: &[&str] = if is_root() {
        &[]
    } else {
        &["--user", "--map-current-user"]
    };
    let namespaces = ["--pid", "--ipc", "--mount-proc", "--fork", "--kill-child"];
    users.iter().chain(&namespaces).map(ToString::to_string).collect()
}

/// Why this machine cannot run the test, if so.
pub(crate) fn cannot_run() -> Option<String> {
    let mut command = Command::new(require("unshare").unwrap());
    let tried = Output::of(command.args(isolation()).arg("true")).unwrap();
    (tried.code != 0).then(|| format!("no namespace of processes: {}", tried.stderr.trim_end()))
}

/// The folder of PostgreSQL's programs, which Debian keeps off the path.
fn programs() -> PathBuf {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.map(|entry| entry.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    folders.retain(|folder| folder.join("postgres").exists());
    folders.sort();
    folders
        .pop()
        .expect("PostgreSQL is not installed: apt-get install postgresql-15")
}

impl Member {
    /// Writes its configuration. `etcd3` is what it says of its store.
    pub(crate) fn new(name: &str, etcd3: &Value) -> Member {
        let patroni = require("patroni").unwrap();
        let ready = Readiness::Http {
            port: REST_PORT,
            path: "/health".into(),
        };
        let unshare = require("unshare").unwrap();
        let mut server = Server::new("patroni", unshare, ready).unwrap();
        let (address, dir) = (server.address(), server.dir().to_owned());
        let config = dir.join("patroni.yml");
        let trust = [
            "host all all 127.0.0.0/8 trust",
            "host replication all 127.0.0.0/8 trust",
        ];
        // JSON is YAML.
        let settings = json!({
            "scope": "show",
            "name": name,
            "restapi": {
                "listen": format!("{address}:{REST_PORT}"),
                "connect_address": format!("{address}:{REST_PORT}"),
            },
            "etcd3": etcd3,
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": LOOP_WAIT_SECONDS,
                    "retry_timeout": RETRY_TIMEOUT_SECONDS,
                    // What was acknowledged is on both.
                    "synchronous_mode": true,
                    "postgresql": { "use_pg_rewind": true, "use_slots": true },
                },
                "initdb": ["data-checksums", "no-sync", { "encoding": "UTF8" }, { "locale": "C" }],
                "pg_hba": trust,
            },
            "postgresql": {
                "listen": format!("{address}:{SQL_PORT}"),
                "connect_address": format!("{address}:{SQL_PORT}"),
                "data_dir": dir.join("data"),
                "bin_dir": programs(),
                "pgpass": dir.join("pgpass"),
                "authentication": {
                    "superuser": { "username": "postgres", "password": "super" },
                    "replication": { "username": "replicator", "password": "replica" },
                },
                "parameters": {
                    "unix_socket_directories": dir,
                    "shared_buffers": "16MB",
                    // Its files go with its directory, also when it is killed.
                    "dynamic_shared_memory_type": "mmap",
                    // Programs die here, the machine does not.
                    "fsync": false,
                },
            },
        });
        fs::write(&config, settings.to_string()).unwrap();
        let mut args = isolation();
        if is_root() {
            let owner = Command::new("chown")
                .args(["-R", &format!("{USER}:")])
                .arg(&dir)
                .status();
            assert!(owner.unwrap().success(), "chown {}", dir.display());
            let change = ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups"];
            args.extend(change.map(str::to_owned));
            // That of the namespace does not outlive the change of user.
            args.extend(["--pdeathsig", "KILL"].map(str::to_owned));
        }
        args.extend([patroni.display().to_string(), config.display().to_string()]);
        server.set_args(args);
        server.set_env("HOME", &dir.display().to_string());
        Member { server, config }
    }

    /// Starts it and waits until its PostgreSQL serves.
    pub(crate) fn start(&mut self) {
        self.server.start().unwrap();
    }

    /// Kills it and its PostgreSQL at once.
    pub(crate) fn kill9(&mut self) {
        self.server.kill9().unwrap();
        let address = self.sql();
        wait_until(Duration::from_secs(20), "PostgreSQL to be gone", || {
            std::net::TcpStream::connect(address).is_err()
        });
    }

    /// Where its PostgreSQL serves.
    pub(crate) fn sql(&self) -> SocketAddr {
        (self.server.address(), SQL_PORT).into()
    }

    /// Whether it says that its PostgreSQL takes writes.
    pub(crate) fn is_primary(&self) -> bool {
        self.server
            .get("/primary")
            .is_ok_and(|answer| answer.status == 200)
    }

    /// How often its log says this.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.server.log().matches(text).count()
    }

    /// `patronictl` with its configuration.
    pub(crate) fn patronictl(&self, args: &[&str]) -> Output {
        let mut command = Command::new(require("patronictl").unwrap());
        command.arg("-c").arg(&self.config).args(args);
        // It keeps its own settings there.
        command.env("HOME", self.server.dir());
        Output::of(&mut command).unwrap()
    }
}
