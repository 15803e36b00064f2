//! The program `chainfire`.

use std::ffi::OsString;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::{CommandFactory, Parser};
use parking_lot::Mutex;
use service::settings::{Error, Loaded};
use service::{Runner, SystemClock, exit, logs};

use crate::auth::{self, TokenProvider};
use crate::config::{Config, reference};
use crate::node::{GossipPort, Node, StartError};
use crate::raft::Fatal;
use crate::recover::{self, Recover};
use crate::server::{Calls, Server, Tls, serve};

/// Replicated, ordered, multi-version key-value store that etcd v3 clients use unchanged.
///
/// Serves gRPC, JSON and metrics on one port (2379). Settings come from the file, then the environment
/// (CHAINFIRE__SECTION__KEY) below it.
///
/// Exit codes: 0 stopped as asked, 1 failed, 2 refused settings or directory, 3 corrupted data, 4 failing disk, 64 wrong usage.
#[derive(Debug, Parser)]
#[command(
    name = "chainfire",
    version,
    after_help = "Example: chainfire --config /etc/centra-cloud/chainfire.toml"
)]
struct Arguments {
    /// Settings, TOML.
    #[arg(long, value_name = "FILE", default_value = "/etc/centra-cloud/chainfire.toml")]
    config: PathBuf,
    /// Read and check the settings, say what is wrong, and exit.
    #[arg(long)]
    check_config: bool,
    /// Print the page of all settings and their defaults, and exit.
    #[arg(long, conflicts_with = "check_config")]
    config_reference: bool,
    #[command(subcommand)]
    command: Option<Rare>,
}

/// What is not serving.
#[derive(Debug, clap::Subcommand)]
enum Rare {
    Recover(Recover),
}

/// The argument tree, for help, completions and man pages.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the server; `args` includes the program's name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            terminal::error(&error);
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// Tells everything that is wrong with the settings, the last of it as the error that ends the program.
fn refused(error: Error) -> anyhow::Error {
    let error = match error {
        Error::Several(mut errors) => {
            let last = errors.pop().expect("several errors are more than none");
            for error in errors {
                terminal::error(&error);
            }
            anyhow::Error::new(last)
        }
        Error::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => anyhow!(
            "read settings from {}: there is no such file; name another with --config FILE",
            path.display()
        ),
        single => single.into(),
    };
    exit::with_code(exit::CONFIG, error)
}

/// The keys with the places where they were written, for the end of an error.
fn places(settings: &Loaded<Config>, keys: &[&str]) -> String {
    let each: Vec<String> = keys
        .iter()
        .map(|key| format!("{key} {}", settings.origin(key)))
        .collect();
    each.join(", ")
}

fn start_error(error: StartError, settings: &Loaded<Config>) -> anyhow::Error {
    let (code, keys) = (error.exit_code(), error.keys());
    let error = match keys.as_slice() {
        [] => error.into(),
        keys => anyhow!("{error} ({})", places(settings, keys)),
    };
    exit::with_code(code, error)
}

/// Reads certificates and keys, if the settings name any.
fn load_tls(settings: &Loaded<Config>) -> anyhow::Result<Option<Arc<Tls>>> {
    let Some(tls) = &settings.value.network.tls else {
        return Ok(None);
    };
    match Tls::load(tls, SystemClock::shared()) {
        Ok(tls) => Ok(Some(Arc::new(tls))),
        Err(error) => {
            let place = places(settings, &["network.tls"]);
            Err(exit::with_code(exit::CONFIG, anyhow!("{error} ({place})")))
        }
    }
}

/// Certificates for the connections between members and for gossip, which are always mutual.
fn member_tls(config: &Config) -> anyhow::Result<Option<(peer::Tls, gossip::Tls)>> {
    let Some(tls) = config
        .network
        .tls
        .as_ref()
        .filter(|tls| !tls.ca_file.as_os_str().is_empty())
    else {
        return Ok(None);
    };
    let now = SystemClock::shared().unix_ms() / 1000;
    let load = || {
        let peer = peer::Tls::load(&tls.cert_file, &tls.key_file, &tls.ca_file, now)?;
        let gossip = gossip::Tls::load(&tls.cert_file, &tls.key_file, &tls.ca_file, now)?;
        Ok((peer, gossip))
    };
    load()
        .map(Some)
        .map_err(|error: pki::Error| exit::with_code(exit::CONFIG, anyhow!("{error} (network.tls)")))
}

/// The sockets of gossip, before there is a runtime.
struct GossipSockets {
    listener: TcpListener,
    udp: Option<UdpSocket>,
}

/// Opens the port of gossip for both protocols, or for TCP alone.
fn bind_gossip(settings: &Loaded<Config>) -> anyhow::Result<GossipSockets> {
    let config = &settings.value;
    let address = &config.network.gossip_addr;
    let place = places(settings, &["network.gossip_addr"]);
    let listener =
        service::net::bind(&place, address).map_err(|error| exit::with_code(exit::CONFIG, error))?;
    // Datagrams would not be authenticated.
    if config.gossip.tcp_only || config.network.tls.is_some() {
        return Ok(GossipSockets { listener, udp: None });
    }
    let udp = listener.local_addr().and_then(|local| {
        let udp = UdpSocket::bind(local)?;
        udp.set_nonblocking(true)?;
        Ok(udp)
    });
    let udp = match udp {
        Ok(udp) => Some(udp),
        Err(error) => {
            tracing::warn!(target: "chainfire_gossip", addr = %address, error = %error, "No UDP for gossip, which goes over TCP alone");
            None
        }
    };
    Ok(GossipSockets { listener, udp })
}

impl GossipSockets {
    fn open(self, tls: Option<gossip::Tls>) -> std::io::Result<GossipPort> {
        Ok(GossipPort {
            listener: tokio::net::TcpListener::from_std(self.listener)?,
            udp: self.udp.map(tokio::net::UdpSocket::from_std).transpose()?,
            tls,
        })
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Rare::Recover(arguments)) = &arguments.command {
        return recover::run(arguments);
    }
    if arguments.config_reference {
        terminal::out(&reference::page());
        return Ok(());
    }
    let settings = Config::read(&arguments.config).map_err(refused)?;
    let config = settings.value.clone();
    if arguments.check_config {
        // Reads the files of keys, if there are any.
        TokenProvider::new(&config.auth, auth::system_entropy())
            .map_err(|error| start_error(error.into(), &settings))?;
        load_tls(&settings)?;
        terminal::out(&format!("{}: ok\n", arguments.config.display()));
        return Ok(());
    }
    let log = logs::init(&config.log).map_err(|error| exit::with_code(exit::CONFIG, error))?;
    logs::install_panic_hook(true);
    let tls = load_tls(&settings)?;
    if let Some(tls) = &tls {
        tls.tell_warnings();
    }
    let place = places(&settings, &["network.api_addr"]);
    let listener = service::net::bind(&place, &config.network.api_addr)
        .map_err(|error| exit::with_code(exit::CONFIG, error))?;

    let place = places(&settings, &["network.raft_addr"]);
    let peers = service::net::bind(&place, &config.network.raft_addr)
        .map_err(|error| exit::with_code(exit::CONFIG, error))?;

    let gossip = bind_gossip(&settings)?;

    let path = arguments.config.clone();
    let (running, reloaded) = (config.network.tls.clone(), tls.clone());
    let reload = move || {
        let config = Config::load(&path).context("reload")?;
        log.set_level(&config.log.level)?;
        if config.network.tls != running {
            tracing::warn!(target: "chainfire_api", "Other settings in [network.tls] take effect at the next start");
        }
        if let Some(tls) = &reloaded {
            tls.reload()
                .context("reload certificates, the old ones stay in use")?;
        }
        tracing::info!(target: "chainfire_api", level = %config.log.level, "Settings reloaded");
        Ok(())
    };
    Runner::new().on_reload(reload).start(|life| async move {
        let failed: Arc<Mutex<Option<Fatal>>> = Arc::default();
        let fail = {
            let (failed, shutdown) = (failed.clone(), life.shutdown.clone());
            Arc::new(move |fatal: Fatal| {
                // What comes after the first failure is mostly its consequence.
                failed.lock().get_or_insert(fatal);
                shutdown.trigger();
            })
        };
        let address = config.network.api_addr.clone();
        let member_tls = member_tls(&config)?;
        let node = tokio::task::spawn_blocking(move || Node::start(config, SystemClock::shared(), fail))
            .await
            .context("start")?
            .map_err(|error| start_error(error, &settings))?;
        // The database is never closed, only flushed: connections that outlive the drain would close it while the process
        // ends and RocksDB's own globals are being destroyed, which aborts.
        std::mem::forget(node.clone());
        let peers = tokio::net::TcpListener::from_std(peers).context("listen for members")?;
        let (peer_tls, gossip_tls) = member_tls.unzip();
        if node.config.network.tls.is_some() && peer_tls.is_none() {
            tracing::warn!(target: "chainfire_network", "No network.tls.ca_file, so no other member can connect");
        } else {
            node.connect(peers, peer_tls, &life.shutdown);
            let port = gossip.open(gossip_tls).context("listen for gossip")?;
            node.begin_gossip(port, &life.shutdown);
        }
        node.start_chores(&life.shutdown);
        if let Some(tls) = &tls {
            tokio::spawn(
                tls.clone()
                    .keep_current(node.metrics.clone(), life.shutdown.clone()),
            );
        }
        let calls = Arc::new(Calls::new(node.metrics.clone(), node.clock.clone()));
        let server = Server {
            node: node.clone(),
            calls,
            shutdown: life.shutdown.clone(),
        };
        tracing::info!(
            target: "chainfire_api",
            node_id = node.id(),
            revision = node.machine.mvcc.revision(),
            addr = %address,
            "Ready to serve client requests"
        );
        life.ready(&format!("serving on {address}"));
        // While clients are served to the end, another member takes over.
        let handing_over = {
            let (node, shutdown) = (node.clone(), life.shutdown.clone());
            tokio::spawn(async move {
                shutdown.wait().await;
                node.hand_over().await;
            })
        };
        serve(server, listener, tls).await.context("serve clients")?;
        handing_over.await.context("hand leadership over")?;
        let fatal = failed.lock().take();
        if let Some(fatal) = fatal.filter(|fatal| fatal.exit_code != exit::OK) {
            return Err(exit::with_code(fatal.exit_code, fatal));
        }
        node.disconnect().await;
        tokio::task::spawn_blocking(move || node.stop())
            .await
            .context("stop")?
            .context("flush")?;
        Ok(())
    })
}
