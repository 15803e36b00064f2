//! `qu enroll join`: a new host becomes a node of the cluster that its token is of.
//!
//! What is on disk decides how far it has come, so it can be killed anywhere and repeated:
//!
//! 1. `enrolling.yaml` says under which id this host enrolls, and `keys/` which key it has. Both are written before anybody is called.
//! 2. The cluster is asked until this host is a peer. A host that is one already is told so again.
//! 3. `joining.yaml` is the promise to wait for the cluster's group, and `node.yaml`, the last, makes the directory that of a node.
//!
//! A host whose token is void is told so, and what was written for it is removed. When the daemon starts it keeps the promise and removes both files, so the node begins like one that was invited.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use consensus::Message;
use peer::handler::{BoxFuture, Handler, Introduction};
use peer::{RequestError, Stranger, Transport};
use pki::pinned::{CERTIFICATE_FILE, Fingerprint, Identity, KeyKind, PRIVATE_FILE, PUBLIC_FILE};
use service::SystemClock;

use crate::document::{Peer, review};
use crate::duration::Span;
use crate::home::{Enrolling, Home, NodeFile, Trust};
use crate::identity::NodeId;
use crate::machine::enroll::is_void;
use crate::node::apply;
use crate::node::network::CLUSTER;
use crate::node::run::listen_address;
use crate::node::wire::{EnrollAnswer, EnrollCall, decode, encode, kind};
use crate::secret::Secret;
use crate::token::{Endpoint, Token};

/// How often a node is asked whether this host is a peer now.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to be reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to answer: it may wait for an election and for a commit, several times.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Where the token may stand, for scripts that have neither a file nor a pipe.
const TOKEN_VARIABLE: &str = "QUPTIME_ENROLL_TOKEN";

#[derive(Debug, Args)]
pub(in crate::cli) struct Join {
    /// Say "-" to read the token from standard input; left out, it is taken from $QUPTIME_ENROLL_TOKEN. The token itself is taken here too,
    /// but others on this host may see it then.
    #[arg(value_name = "-")]
    token: Option<String>,
    /// A file with the token, or with all that qu enroll create printed.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<String>,
    /// Where the other nodes reach this one.
    #[arg(long, value_name = "HOST:PORT", env = "QUPTIME_ADVERTISE")]
    advertise: Option<String>,
    /// Address to listen on (0.0.0.0).
    #[arg(long, value_name = "ADDRESS", env = "QUPTIME_BIND_ADDR")]
    bind: Option<String>,
    /// Port to listen on (9901), also from QUPTIME_BIND_PORT.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How long to wait to be let in. Whoever gives up can repeat the command.
    #[arg(
        long,
        default_value = "15m",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    wait: Span,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl Join {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let token = Token::parse(&self.read()?)?;
        let home = Home::of_environment(crate::cli::variable);
        let begun = home.read_enrolling()?;
        home.refuse_running()?;
        if let Some(node) = home.read_node()? {
            return already(
                &home,
                &node,
                begun.is_some_and(|begun| begun.enrollment == token.id),
            );
        }
        refuse_leftovers(&home, begun.is_some())?;
        let enrolling = self.enrolling(&token, begun.as_ref())?;
        could_serve(&home, &enrolling)?;
        if !self.yes {
            let places: Vec<&str> = token.endpoints.iter().map(|at| at.address.as_str()).collect();
            let question = format!(
                "Join the cluster at {} as {}? [y/N] ",
                places.join(", "),
                enrolling.advertise
            );
            crate::cli::node::confirm(&question, "not joined")?;
        }
        let found = home.dir().exists();
        home.create()?;
        let _held = home.lock()?;
        home.write_enrolling(&enrolling)?;
        let identity = identity(&home, &enrolling, begun.is_some())?;
        let me = Peer {
            node_id: enrolling.node_id,
            advertise: enrolling.advertise.clone(),
            fingerprint: identity.fingerprint().to_string(),
            cert_pem: identity.certificate_pem(),
            location: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start")?;
        match runtime.block_on(Box::pin(enroll(&token, &identity, &me, self.wait))) {
            Ok(peers) => finish(&home, &enrolling, me, peers),
            Err(error) => {
                if error.is::<Void>() {
                    forget(&home, &enrolling, found);
                }
                Err(error)
            }
        }
    }

    fn read(&self) -> anyhow::Result<String> {
        // What qu enroll create printed has the token in its last line.
        let last = |text: String| {
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            last.unwrap_or_default().to_owned()
        };
        match (&self.token, &self.token_file) {
            (Some(token), _) if token != "-" => Ok(token.clone()),
            (Some(_), _) => std::io::read_to_string(std::io::stdin())
                .context("read the token from standard input")
                .map(last),
            (None, Some(path)) => std::fs::read_to_string(path)
                .with_context(|| format!("read the token from {path}"))
                .map(last),
            (None, None) => crate::cli::variable(TOKEN_VARIABLE)
                .filter(|token| !token.is_empty())
                .ok_or_else(|| {
                    let text = format!(
                        "there is no token; write - and give it on standard input, or --token-file FILE, or set {TOKEN_VARIABLE}"
                    );
                    service::exit::with_code(crate::cli::USAGE, anyhow::anyhow!(text))
                }),
        }
    }

    /// What flags say, then what was said when this began, then the defaults.
    fn enrolling(&self, token: &Token, begun: Option<&Enrolling>) -> anyhow::Result<Enrolling> {
        let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
        let bind_port = match (self.port, begun) {
            (Some(port), _) => port,
            (None, Some(begun)) => begun.bind_port,
            (None, None) => crate::cli::init::port_of_environment()?,
        };
        let advertise = match given(&self.advertise).or_else(|| begun.map(|begun| begun.advertise.clone())) {
            Some(advertise) => advertise,
            None => crate::cli::init::advertise_of_host(bind_port)?,
        };
        review::advertise(&advertise).map_err(|error| anyhow::anyhow!("--advertise: {error}"))?;
        let node_id = match begun {
            Some(begun) => begun.node_id,
            None => crate::cli::init::new_node_id()?,
        };
        let bind_addr = given(&self.bind).or_else(|| begun.map(|begun| begun.bind_addr.clone()));
        Ok(Enrolling {
            enrollment: token.id.clone(),
            node_id,
            advertise,
            bind_addr: bind_addr.unwrap_or_else(|| "0.0.0.0".to_owned()),
            bind_port,
        })
    }
}

/// The token is good for nothing; the cluster has said so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Void(String);

/// What was written for a token that is void goes, so that the host can be made a node in another way. The cluster has not taken this host.
fn forget(home: &Home, enrolling: &Enrolling, found: bool) {
    let keys = home.keys();
    let certificate = pki::Certificate::read_all(&keys.join(CERTIFICATE_FILE)).unwrap_or_default();
    // A key that was there before has another name, and is somebody's.
    let own = certificate
        .first()
        .is_some_and(|known| known.subject == enrolling.node_id.to_string());
    let files = own.then(|| [PRIVATE_FILE, PUBLIC_FILE, CERTIFICATE_FILE].map(|file| keys.join(file)));
    let files = files.into_iter().flatten();
    for file in files.chain([home.joining(), home.enrolling()]) {
        // What cannot be removed is in the way of nothing but another try, which says so.
        let _ = std::fs::remove_file(file);
    }
    // Directories with something else in them stay.
    let _ = std::fs::remove_dir(keys);
    if !found {
        let _ = std::fs::remove_dir(home.dir());
    }
}

/// A node is here. If it is the one that this token has made, all is done.
fn already(home: &Home, node: &NodeFile, by_this_token: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        by_this_token,
        "{} exists: this host is a node already, {}; start it with qu serve or its service and invite it with qu node add, or remove {} for a complete reset",
        home.node_file().display(),
        node.node_id,
        home.dir().display()
    );
    terminal::out(&format!("node {} is enrolled already; start it\n", node.node_id));
    Ok(())
}

/// What somebody else has left here is not thrown away.
fn refuse_leftovers(home: &Home, begun: bool) -> anyhow::Result<()> {
    for path in [home.cluster_file(), home.raft()] {
        anyhow::ensure!(
            begun || !path.exists(),
            "{} exists, but no node.yaml: this is what is left of another node; remove {} to begin anew",
            path.display(),
            home.dir().display()
        );
    }
    Ok(())
}

/// Whether the daemon could start here. A host that becomes a peer and does not come is one more that quorum waits for.
fn could_serve(home: &Home, enrolling: &Enrolling) -> anyhow::Result<()> {
    home.refuse_foreign_user("enroll join")?;
    let address = listen_address(&enrolling.bind_addr, enrolling.bind_port);
    service::net::bind("--bind and --port", &address)?;
    Ok(())
}

/// The key of this host. One that is there is kept, unless making it was cut short.
fn identity(home: &Home, enrolling: &Enrolling, begun: bool) -> anyhow::Result<Identity> {
    let is_there = |file: &str| home.keys().join(file).exists();
    // Nobody has seen a key without certificate.
    let cut_short = begun && !is_there(CERTIFICATE_FILE);
    if is_there(PRIVATE_FILE) && !cut_short {
        return Ok(Identity::load(&home.keys())?);
    }
    let now = SystemClock::shared().unix_ms() / 1000;
    let identity = Identity::generate(&enrolling.node_id.to_string(), KeyKind::P256, now)?;
    identity.save(&home.keys())?;
    Ok(identity)
}

/// The directory becomes that of a node that has promised to join.
fn finish(home: &Home, enrolling: &Enrolling, me: Peer, peers: Vec<Peer>) -> anyhow::Result<()> {
    // What the cluster has taken counts, should it be another address than what was said last.
    let known = peers.iter().find(|peer| peer.node_id == me.node_id);
    let me = known.cloned().unwrap_or(me);
    let text = format!(
        "node id      {}\ndata dir     {}\nadvertise    {}\nfingerprint  {}\n",
        me.node_id,
        home.dir().display(),
        me.advertise,
        me.fingerprint
    );
    let node = NodeFile {
        node_id: me.node_id,
        bind_addr: enrolling.bind_addr.clone(),
        bind_port: enrolling.bind_port,
        advertise: me.advertise.clone(),
        // Tokens do not carry it: a node that enrolled cannot invite with it, nor be asked for it.
        cluster_secret: Secret::default(),
        web_listen: None,
        log_format: None,
        fallback_alert: None,
        fallback_after: None,
        watchdog_url: Secret::default(),
        watchdog_every: None,
    };
    apply::promise(home, me, peers).map_err(anyhow::Error::msg)?;
    home.write_trust(&Trust::default())?;
    // Last: it decides whether the node is there.
    home.write_node(&node)?;
    terminal::out(&text);
    terminal::out(&format!("node {} is enrolled; start it\n", node.node_id));
    Ok(())
}

/// Answers nobody: this host only calls.
#[derive(Debug)]
struct Caller {
    node: NodeId,
}

impl Handler for Caller {
    fn introduction(&self) -> Bytes {
        Bytes::from(self.node.to_string())
    }

    fn admit(&self, _: &Introduction) -> Result<(), String> {
        Err("this host is no node yet".to_owned())
    }

    fn messages(&self, _: consensus::NodeId, _: Vec<Message>) {}

    fn request(&self, _: consensus::NodeId, _: u8, _: Bytes) -> BoxFuture<Result<Bytes, String>> {
        Box::pin(std::future::ready(Err("this host is no node yet".to_owned())))
    }
}

/// How a call of one node ended.
enum Called {
    /// This host is a peer of these.
    Peer(Vec<Peer>),
    /// Another node may do better, or this one later.
    Later(String),
    /// It has answered, and ends connections of hosts that wait after a while: nothing to speak of.
    HungUp,
    /// It is not the node that the token means, and is not called again.
    Stranger(String),
}

/// What is told while this host waits: each thing once.
struct Told<'a> {
    call: &'a EnrollCall,
    wait: Span,
    /// Whether a node has said that somebody has to let this host in.
    waits: bool,
    said: BTreeSet<String>,
    /// Why the node that was asked last did not help.
    last: String,
}

impl Told<'_> {
    fn say(&mut self, text: &str) {
        if self.said.insert(text.to_owned()) {
            terminal::note(text);
        }
    }

    fn waiting(&mut self) {
        self.waits = true;
        let (wait, me) = (self.wait, &self.call.peer);
        self.say(&format!(
            "waiting until somebody lets this host in, for {wait} (--wait); after a look at qu enroll list, on any node of the cluster:"
        ));
        self.say(&format!("qu enroll approve {}", self.call.id));
        self.say(&format!("node id {}, key {}", me.node_id, me.fingerprint));
    }

    fn later(&mut self, address: &str, reason: String) {
        // The seconds that are left are others every time.
        let known = if reason.starts_with(peer::stranger::TOO_MANY) {
            reason.split(", ").next().unwrap_or_default()
        } else {
            &reason
        };
        self.say(&format!("{address}: {known}; trying on"));
        self.last = format!("{address}: {reason}");
    }

    /// The time is over.
    fn given_up(&self) -> anyhow::Error {
        let (wait, id) = (self.wait, &self.call.id);
        if self.waits {
            anyhow::anyhow!(
                "nobody has let this host in within {wait}; have it approved on a node of the cluster (qu enroll approve {id}), then \
                 repeat this command, which goes on where it was"
            )
        } else {
            anyhow::anyhow!(
                "no node of the cluster took the call within {wait} (last {}); repeat this command when they can be reached, or with a \
                 longer --wait",
                self.last
            )
        }
    }
}

/// Asks until this host is a peer, at most for as long as `wait`. Yields all peers.
async fn enroll(token: &Token, identity: &Identity, me: &Peer, wait: Span) -> anyhow::Result<Vec<Peer>> {
    let mut settings = peer::Settings::new(CLUSTER, me.node_id.number(), None);
    settings.tls = Some(peer::Tls::pinned(identity.clone()));
    let transport = Transport::start(settings, Arc::new(Caller { node: me.node_id }));
    let call = EnrollCall {
        id: token.id.clone(),
        secret: token.secret.clone(),
        peer: me.clone(),
    };
    let end: jiff::Timestamp = token.expires_at.parse()?;
    let mut strangers = BTreeSet::new();
    let mut told = Told {
        call: &call,
        wait,
        waits: false,
        said: BTreeSet::new(),
        last: String::new(),
    };
    let until = tokio::time::Instant::now() + Duration::from(wait);
    loop {
        for (position, endpoint) in token.endpoints.iter().enumerate() {
            if strangers.contains(&position) {
                continue;
            }
            match call_one(&transport, endpoint, &call, &mut told, until).await? {
                Called::Peer(peers) => return Ok(peers),
                Called::Later(reason) => told.later(&endpoint.address, reason),
                Called::HungUp => {}
                Called::Stranger(text) => {
                    strangers.insert(position);
                    told.say(&text);
                }
            }
        }
        anyhow::ensure!(
            strangers.len() < token.endpoints.len(),
            "no node of the token's cluster is where the token says; nothing was told to those who are there"
        );
        let now = SystemClock::shared().unix_ms();
        anyhow::ensure!(
            i64::try_from(now)? < end.as_millisecond(),
            "the token has expired at {}, and no node could be asked about it; make a new one with qu enroll create",
            token.expires_at
        );
        if tokio::time::Instant::now() >= until {
            return Err(told.given_up());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Asks one node until there is a reason to ask another.
///
/// # Errors
/// The cluster does not take this host.
async fn call_one(
    transport: &Transport,
    endpoint: &Endpoint,
    call: &EnrollCall,
    told: &mut Told<'_>,
    until: tokio::time::Instant,
) -> anyhow::Result<Called> {
    let pin: Fingerprint = endpoint.fingerprint.parse()?;
    let address = &endpoint.address;
    let reached = tokio::time::timeout(REACH_TIMEOUT, transport.call_stranger(address, None)).await;
    let mut node = match reached {
        Ok(Ok(node)) => node,
        Ok(Err(peer::AskError::Unreachable { reason, .. } | peer::AskError::Refused { reason, .. })) => {
            return Ok(Called::Later(reason));
        }
        Err(_) => return Ok(Called::Later("it does not answer".to_owned())),
    };
    // It has proven to have its key. Without the right one it is told nothing.
    if !node.key().is(&pin) {
        return Ok(Called::Stranger(format!(
            "{address}: it has the key {} instead of {pin}, which the token says; it is told nothing",
            node.key()
        )));
    }
    let mut has_answered = false;
    loop {
        match ask(&mut node, call).await {
            Ok(EnrollAnswer::Peer { peers }) => return Ok(Called::Peer(peers)),
            Ok(EnrollAnswer::NotNow(reason)) => return Ok(Called::Later(reason)),
            Ok(EnrollAnswer::Waiting) => {
                told.waiting();
                if tokio::time::Instant::now() >= until {
                    return Err(told.given_up());
                }
            }
            // Others on this network address have failed too often, and that ends soon.
            Err(RequestError::Refused(text)) if text.starts_with(peer::stranger::TOO_MANY) => {
                return Ok(Called::Later(text));
            }
            Err(RequestError::Refused(text)) if is_void(&text) => {
                return Err(Void(format!("{address}: {text}")).into());
            }
            Err(RequestError::Refused(text)) => anyhow::bail!("{address}: {text}"),
            Err(RequestError::NotSent { .. } | RequestError::Unknown { .. }) if has_answered => {
                return Ok(Called::HungUp);
            }
            Err(RequestError::NotSent { reason, .. } | RequestError::Unknown { reason, .. }) => {
                return Ok(Called::Later(reason));
            }
        }
        has_answered = true;
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn ask(node: &mut Stranger, call: &EnrollCall) -> Result<EnrollAnswer, RequestError> {
    let answer = node.request(kind::SUBMIT, encode(call), ANSWER_TIMEOUT).await?;
    decode(&answer).map_err(RequestError::Refused)
}
