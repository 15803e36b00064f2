//! `qu init`: the identity of a node and its files.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use pki::pinned::{Identity, KeyKind};
use service::SystemClock;

use crate::document::{Document, Peer, render, review};
use crate::home::{Home, NodeFile, PORT, Trust};
use crate::identity::NodeId;
use crate::secret::Secret;

/// Kinds of keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Key {
    /// ECDSA on P-256.
    P256,
    /// Ed25519.
    Ed25519,
    /// RSA with 3072 bits.
    Rsa3072,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Where the other nodes reach this one.
    #[arg(long, value_name = "HOST:PORT", env = "QUPTIME_ADVERTISE")]
    advertise: Option<String>,
    /// The cluster's secret; a new one is made and printed if left out. Better: --secret-file.
    #[arg(
        long,
        value_name = "SECRET",
        env = "QUPTIME_CLUSTER_SECRET",
        hide_env_values = true
    )]
    secret: Option<String>,
    /// A file with the cluster's secret; - reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<String>,
    /// Address to listen on (0.0.0.0).
    #[arg(long, value_name = "ADDRESS", env = "QUPTIME_BIND_ADDR")]
    bind: Option<String>,
    /// Port to listen on (9901), also from QUPTIME_BIND_PORT.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Kind of the node's key.
    #[arg(long, value_enum, default_value_t = Key::P256)]
    key: Key,
}

/// A file's content, or that of standard input, without the line break at its end.
pub(super) fn read_secret(path: &str) -> anyhow::Result<Secret> {
    let text = if path == "-" {
        std::io::read_to_string(std::io::stdin()).context("read the secret from standard input")?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("read the secret from {path}"))?
    };
    let text = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty(), "the secret in {path} is empty");
    Ok(Secret::new(text))
}

fn set(name: &str) -> Option<String> {
    super::variable(name).filter(|value| !value.is_empty())
}

/// The port to listen on, if no flag says it.
///
/// # Errors
/// `QUPTIME_BIND_PORT` is none.
pub(super) fn port_of_environment() -> anyhow::Result<u16> {
    let Some(text) = set("QUPTIME_BIND_PORT") else {
        return Ok(PORT);
    };
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        anyhow::anyhow!(
            "QUPTIME_BIND_PORT: \"{}\" is no port; write 1 to 65535",
            terminal::brief(&text)
        )
    })
}

/// Where other nodes reach this one, if nobody says it.
///
/// # Errors
/// The host has no name.
pub(super) fn advertise_of_host(port: u16) -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("ask for the host name")?;
    Ok(format!("{}:{port}", name.to_string_lossy()))
}

/// The id of a new node: from the environment, or drawn.
///
/// # Errors
/// `QUPTIME_NODE_ID` is none.
pub(super) fn new_node_id() -> anyhow::Result<NodeId> {
    match set("QUPTIME_NODE_ID") {
        Some(id) => id
            .parse()
            .map_err(|error| anyhow::anyhow!("QUPTIME_NODE_ID: {error}")),
        None => Ok(NodeId::draw()),
    }
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let home = Home::of_environment(super::variable);
        let given = self.secret.filter(|secret| !secret.is_empty());
        let secret = match (&given, &self.secret_file) {
            (Some(secret), _) => Some(Secret::new(secret)),
            (None, Some(path)) => Some(read_secret(path)?),
            (None, None) => None,
        };
        let generated = secret.is_none();
        let secret = secret.unwrap_or_else(Secret::draw);
        let bind = self.bind.filter(|bind| !bind.is_empty());
        let bind = bind.unwrap_or_else(|| "0.0.0.0".to_owned());
        let port = match self.port {
            Some(port) => port,
            None => port_of_environment()?,
        };
        let advertise = if let Some(advertise) = self.advertise.filter(|advertise| !advertise.is_empty()) {
            advertise
        } else {
            advertise_of_host(port)?
        };
        let kind = match self.key {
            Key::P256 => KeyKind::P256,
            Key::Ed25519 => KeyKind::Ed25519,
            Key::Rsa3072 => KeyKind::Rsa3072,
        };
        home.refuse_running()?;
        refuse_existing(&home)?;
        review::advertise(&advertise).map_err(|error| anyhow::anyhow!("--advertise: {error}"))?;
        home.refuse_foreign_user("init")?;
        home.create()?;
        let _held = home.lock()?;
        let made = create(&home, &advertise, &bind, port, secret.clone(), kind)?;
        let mut text = format!(
            "node id      {}\ndata dir     {}\nadvertise    {}\nfingerprint  {}\n",
            made.node_id,
            home.dir().display(),
            made.advertise,
            made.fingerprint
        );
        if generated {
            text.extend(["secret       ", secret.reveal(), "\n"]);
        }
        terminal::out(&text);
        if generated {
            terminal::note(
                "the secret is shown this once; store it, every further node needs it for qu init --secret-file",
            );
        }
        Ok(())
    }
}

/// A node that is there, or about to be, is not made anew.
fn refuse_existing(home: &Home) -> anyhow::Result<()> {
    let file = home.node_file();
    if file.exists() {
        anyhow::bail!(
            "{} belongs to a node already ({} exists); start it with qu serve or its service, or remove {} for a complete reset",
            home.dir().display(),
            file.display(),
            home.dir().display()
        );
    }
    home.refuse_enrolling()?;
    Ok(())
}

/// Makes identity and files, in a directory that is locked.
///
/// # Errors
/// They are there already, or the system.
pub(super) fn create(
    home: &Home,
    advertise: &str,
    bind: &str,
    port: u16,
    secret: Secret,
    kind: KeyKind,
) -> anyhow::Result<Peer> {
    refuse_existing(home)?;
    review::advertise(advertise).map_err(|error| anyhow::anyhow!("--advertise: {error}"))?;
    home.refuse_foreign_user("init")?;
    let node_id = new_node_id()?;
    let clock = SystemClock::shared();
    // Keys that are there are kept: they may be what is left of a node that is restored.
    let identity = if home.keys().join("private.pem").exists() {
        Identity::load(&home.keys())?
    } else {
        let identity = Identity::generate(&node_id.to_string(), kind, clock.unix_ms() / 1000)?;
        identity.save(&home.keys())?;
        identity
    };
    let peer = Peer {
        node_id,
        advertise: advertise.to_owned(),
        fingerprint: identity.fingerprint().to_string(),
        cert_pem: identity.certificate_pem(),
        location: None,
    };
    let document = Document {
        version: 1,
        updated_by: Some(node_id),
        peers: vec![peer.clone()],
        ..Document::default()
    };
    home.write_cluster(&render(&document), || true)?;
    home.write_trust(&Trust::default())?;
    // Last: it decides whether the node is there.
    home.write_node(&NodeFile {
        node_id,
        bind_addr: bind.to_owned(),
        bind_port: port,
        advertise: advertise.to_owned(),
        cluster_secret: secret,
        web_listen: None,
        fallback_alert: None,
        fallback_after: None,
        watchdog_url: Secret::default(),
        watchdog_every: None,
        log_format: None,
    })?;
    Ok(peer)
}
