//! The loop over runs: a run begins with what is on disk, and ends when the daemon stops or when what is on disk decides anew.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::{Mutex, RwLock};
use peer::Transport;
use pki::pinned::Identity;
use service::clock::{Moment, SharedClock};
use service::{Lifecycle, SystemClock};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::file::FileReport;
use super::network::{CLUSTER, Ear, Mouth};
use super::promised::Promised;
use super::shared::{Ending, Leave, Shared};
use super::standstill::{self, Standstill};
use super::tested::Tests;
use super::trouble::Troubles;
use super::web_listen::{self, WebListen};
use super::wire::FRAME_MAX;
use super::{beats, control, enroll, enter, fallback, file, master, schedule};
use crate::document::Document;
use crate::home::{Home, NodeFile};
use crate::identity::NodeId;
use crate::machine::entrance::{Entrance, Group};
use crate::machine::twins::Process;
use crate::raft::core::{Core, Start};
use crate::secret::random;

/// Batches of reports that may wait for the master.
const REPORTS_MAX: usize = 1024;
/// Connections that have not finished their handshake.
const HANDSHAKES_MAX: usize = 64;
/// How long a node that is alone may take to begin its group before it answers all the same. Disks can be slow.
const ALONE_WAIT: Duration = Duration::from_secs(20);
/// How long the parts of a run may take to end. A disk that is busy with other things can hold a sync up for seconds.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A node as its directory has it.
#[derive(Debug)]
pub struct Node {
    /// Its directory.
    pub home: Home,
    /// Its settings, with the environment laid over them.
    pub settings: NodeFile,
    /// Its key.
    pub identity: Identity,
    /// What went wrong in this process lately.
    pub troubles: Arc<Troubles>,
    /// Which alerts took a test.
    pub tests: Arc<Tests>,
    /// This process, at its start.
    pub process: Process,
}

impl Node {
    /// Reads what does not change while the daemon runs.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub fn load(home: Home, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Node> {
        let mut settings = home
            .read_node()?
            .with_context(|| format!("{} is missing; run qu init", home.node_file().display()))?;
        settings.overlay(variable).map_err(anyhow::Error::msg)?;
        let identity = Identity::load(&home.keys())?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        Ok(Node {
            tests: Arc::new(Tests::load(&home)),
            process: Process {
                id: u64::from_be_bytes(random::<8>()),
                up: 0,
                host: host.to_string_lossy().into_owned(),
                pid: std::process::id(),
                address: settings.advertise.clone(),
                last: (0, 0),
            },
            home,
            settings,
            identity,
            troubles: Arc::new(Troubles::new(SystemClock::shared())),
        })
    }
}

/// Runs until the lifecycle ends.
///
/// # Errors
/// The daemon could not begin or go on.
pub async fn serve(node: Node, lifecycle: Lifecycle, sockets: Sockets) -> anyhow::Result<()> {
    let clock = SystemClock::shared();
    let prober = probe::Prober::new(probe::Settings::new(env!("CARGO_PKG_VERSION")), clock.clone())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let prober = Arc::new(prober);
    let counts = Arc::new(Counts::default());
    let mut known = None;
    let process_begun = clock.now();
    let file = Arc::new(Mutex::new(FileReport::default()));
    loop {
        let promise = enter::keep_promise(&node.home, clock.unix_ms()).context("give up the own group")?;
        let (placeholder, refused) =
            promise.map_or((None, None), |kept| (Some(kept.placeholder), kept.refused));
        file.lock().begin_run(refused);
        let run = Run {
            node: &node,
            clock: &clock,
            process_begun,
            prober: &prober,
            counts: &counts,
            sockets: &sockets,
            lifecycle: &lifecycle,
            known: known.take(),
            placeholder,
            file: &file,
        };
        let (ending, document) = Box::pin(run.go()).await?;
        known = Some(document);
        match ending {
            Ending::Stop => return Ok(()),
            Ending::Failed(text) => anyhow::bail!(text),
            Ending::Again => {}
        }
    }
}

/// All that the daemon listens on, opened before anything else happens.
#[derive(Debug)]
pub struct Sockets {
    /// For nodes.
    pub nodes: std::net::TcpListener,
    /// For commands.
    pub commands: std::os::unix::net::UnixListener,
    /// For pages, if they are wanted. Whether the address could be taken stands in it.
    pub web: Option<Arc<WebListen>>,
}

impl Sockets {
    /// Opens all of them.
    ///
    /// # Errors
    /// One of them is taken or makes no sense.
    pub fn open(settings: &NodeFile, places: &[std::path::PathBuf]) -> anyhow::Result<Sockets> {
        let address = listen_address(&settings.bind_addr, settings.bind_port);
        let nodes = service::net::bind("bind_addr and bind_port in node.yaml", &address)?;
        let (commands, _) = control::bind(places)?;
        let web = WebListen::open(settings.web_listen.as_deref())?.map(Arc::new);
        Ok(Sockets { nodes, commands, web })
    }
}

/// Address and port to listen on as one text; version 6 of addresses with or without brackets.
pub fn listen_address(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{}]:{port}", address.trim_matches(['[', ']']))
    } else {
        format!("{address}:{port}")
    }
}

struct Run<'a> {
    node: &'a Node,
    clock: &'a SharedClock,
    process_begun: Moment,
    prober: &'a Arc<probe::Prober>,
    counts: &'a Arc<Counts>,
    sockets: &'a Sockets,
    lifecycle: &'a Lifecycle,
    /// What counted at the end of the run before; nothing in the first.
    known: Option<Arc<Document>>,
    /// What the file said when this node gave its own group up just now; who saved it since meant the group that is gone.
    placeholder: Option<Document>,
    /// How it stands with hand edits, over all runs.
    file: &'a Arc<Mutex<FileReport>>,
}

struct Inboxes {
    reports: mpsc::Receiver<(NodeId, Vec<super::wire::Report>)>,
    look_again: mpsc::Receiver<Vec<String>>,
    tables: mpsc::Receiver<super::status::TableCall>,
    ending: watch::Receiver<Option<Ending>>,
}

impl Run<'_> {
    /// Yields how it ended, and the configuration that counted.
    async fn go(self) -> anyhow::Result<(Ending, Arc<Document>)> {
        let read = match &self.placeholder {
            Some(placeholder) => Ok(Some(placeholder.clone())),
            None => self.node.home.read_cluster(),
        };
        let mut known = self.known.clone();
        let document = match (read, &self.known) {
            (Ok(document), _) => Arc::new(document.unwrap_or_default()),
            (Err(error), before) => match (enter::too_large_to_read(&self.node.home)?, before) {
                (Some(own), _) => known.insert(Arc::new(own)).clone(),
                (None, None) => return Err(error.into()),
                (None, Some(before)) => {
                    tracing::error!(target: "quptime", "manual-edit: not applied: {error}");
                    before.clone()
                }
            },
        };
        let mut boot = enter::boot(&self.node.home, self.node.settings.node_id, known.as_deref())?;
        if let Some(placeholder) = &self.placeholder {
            boot.file = Ok(enter::placeholder_facts(placeholder));
        }
        let (entrance, actions) = Entrance::new(boot);
        let (shared, mut inboxes) = self.share(document, entrance);
        let shared = Arc::new(shared);
        // This run only begins a group and ends with that: whoever comes is served by the next one, and waits in the sockets' queues.
        let only_founds = shared.is_alone() && !self.node.home.raft().exists();
        let transport = self.start_transport(&shared, !only_founds)?;
        shared
            .transport
            .set(transport.clone())
            .expect("set once in a run");
        shared.trust(&shared.document_at_start, &[]);
        let commands = tokio::net::UnixListener::from_std(self.sockets.commands.try_clone()?)?;
        tokio::spawn(serve_settled(shared.clone(), commands, only_founds));
        tokio::spawn(web_listen::run(shared.clone()));
        tokio::spawn(beats::run(shared.clone()));
        tokio::spawn(standstill::run(shared.clone()));
        tokio::spawn(fallback::run(shared.clone(), self.prober.clone()));
        if self.known.is_none() {
            self.lifecycle.ready("serving");
            tracing::info!(
                target: "quptime",
                address = self.node.settings.advertise, node_id = %shared.me, version = env!("CARGO_PKG_VERSION"),
                "started"
            );
        }
        let starter = Starter {
            prober: self.prober.clone(),
            reports: inboxes.reports,
            look_again: inboxes.look_again,
            tables: inboxes.tables,
        };
        tokio::spawn(enter::run(shared.clone(), starter, actions));
        let ending = tokio::select! {
            ending = inboxes.ending.wait_for(Option::is_some) => {
                ending.ok().and_then(|ending| ending.clone()).unwrap_or(Ending::Stop)
            }
            () = self.lifecycle.shutdown.wait() => {
                master::hand_over_before_stopping(&shared).await;
                Ending::Stop
            }
        };
        shared.stop.cancel();
        if let Some(core) = shared.core.get() {
            core.stop();
        }
        let thread = shared.thread.lock().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            // A core that does not end holds nothing that another run needs but its files; the process will end.
            if tokio::time::timeout(END_TIMEOUT, joined).await.is_err() {
                anyhow::bail!("the group's thread does not end");
            }
        }
        transport.stop().await;
        Ok((ending, shared.document()))
    }

    fn share(&self, document: Arc<Document>, entrance: Entrance) -> (Shared, Inboxes) {
        let (reports, reports_in) = mpsc::channel(REPORTS_MAX);
        let (look_again, look_again_in) = mpsc::channel(REPORTS_MAX);
        let (tables, tables_in) = mpsc::channel(REPORTS_MAX);
        let (ending, ending_in) = watch::channel(None);
        let (handing_over, _) = watch::channel(false);
        let (leave, _) = watch::channel(Leave::No);
        let sender = notify::Sender::new(&notify::Options::default(), self.clock.clone());
        let shared = Shared {
            me: self.node.settings.node_id,
            home: self.node.home.clone(),
            settings: self.node.settings.clone(),
            identity: self.node.identity.clone(),
            clock: self.clock.clone(),
            process: self.node.process.clone(),
            process_begun: self.process_begun,
            begun: self.clock.now(),
            promised: Promised::default(),
            standstill: Standstill::new(0, self.clock.unix_ms()),
            core: OnceLock::new(),
            thread: Mutex::new(None),
            group: OnceLock::new(),
            group_facts: OnceLock::new(),
            founded_at: OnceLock::new(),
            entrance: Mutex::new(entrance),
            digest: Mutex::new(None),
            transport: OnceLock::new(),
            ears: Mutex::default(),
            known: RwLock::default(),
            introduced: Mutex::new(None),
            document_at_start: document,
            file: self.file.clone(),
            unwritable: Mutex::default(),
            followed: watch::channel(0).0,
            follow_now: tokio::sync::Notify::new(),
            waiting: Mutex::default(),
            reports,
            look_again,
            found: Mutex::new(BTreeMap::new()),
            counts: self.counts.clone(),
            tables,
            troubles: self.node.troubles.clone(),
            tests: self.node.tests.clone(),
            web: self.sockets.web.clone(),
            icmp: self.prober.icmp_mode().to_string(),
            sender: sender.map_err(|error| error.to_string()),
            ending,
            stop: CancellationToken::new(),
            handing_over,
            leave,
        };
        let inboxes = Inboxes {
            reports: reports_in,
            look_again: look_again_in,
            tables: tables_in,
            ending: ending_in,
        };
        (shared, inboxes)
    }

    fn start_transport(&self, shared: &Arc<Shared>, listens: bool) -> anyhow::Result<Transport> {
        let listener = tokio::net::TcpListener::from_std(self.sockets.nodes.try_clone()?)?;
        let mut settings = peer::Settings::new(CLUSTER, shared.me.number(), listener);
        if !listens {
            settings.listener = None;
        }
        settings.tls = Some(peer::Tls::pinned(self.node.identity.clone()));
        settings.limits.frame_bytes = FRAME_MAX;
        settings.limits.entries_bytes = 4 * FRAME_MAX;
        settings.limits.handshakes = HANDSHAKES_MAX;
        settings.clock = self.clock.clone();
        settings.sink = peer::log_lines!("quptime");
        Ok(Transport::start(settings, Arc::new(Ear::new(shared))))
    }
}

/// Serves commands once they can be carried out. A run that only founds ends as soon as its group has begun, and takes none with it.
async fn serve_settled(shared: Arc<Shared>, commands: tokio::net::UnixListener, only_founds: bool) {
    let settled = async {
        if only_founds {
            tokio::time::sleep(ALONE_WAIT).await;
        } else {
            shared.settled(ALONE_WAIT).await;
        }
    };
    tokio::select! {
        () = settled => control::serve(shared, commands).await,
        () = shared.stop.cancelled() => {}
    }
}

/// What is started together with the replica.
#[derive(Debug)]
pub struct Starter {
    prober: Arc<probe::Prober>,
    reports: mpsc::Receiver<(NodeId, Vec<super::wire::Report>)>,
    look_again: mpsc::Receiver<Vec<String>>,
    tables: mpsc::Receiver<super::status::TableCall>,
}

impl Starter {
    /// Starts the replica and, unless its group has yet to begin, all that works with it.
    ///
    /// # Errors
    /// What is on disk cannot be.
    pub fn start(self, shared: &Arc<Shared>, replica: enter::Replica) -> anyhow::Result<()> {
        let enter::Replica {
            mut loaded,
            founds,
            founded,
            on_trial,
        } = replica;
        shared.group.set(loaded.meta.group).expect("set once in a run");
        let group = Group {
            generation: loaded.meta.generation,
            id: loaded.meta.group,
        };
        shared.group_facts.set(group).expect("set once in a run");
        if founds.is_some() {
            let base = loaded.disk.base().position.index;
            shared.founded_at.set(base).expect("set once in a run");
        }
        // Mostly the file and the group say the same, and one copy is enough.
        if loaded.state.document == shared.document_at_start {
            loaded.state.document = shared.document_at_start.clone();
        }
        let document = if loaded.state.document.version > 0 {
            loaded.state.document.clone()
        } else {
            shared.document_at_start.clone()
        };
        let rank = document
            .peers
            .iter()
            .filter(|peer| peer.node_id < shared.me)
            .count();
        let failed = shared.clone();
        let (core, thread) = Core::start(Start {
            loaded,
            node: shared.me.number(),
            rank: rank as u32,
            seed: u64::from_be_bytes(random::<8>()),
            clock: shared.clock.clone(),
            network: Arc::new(Mouth::new(shared)),
            failed: Box::new(move |error| failed.end(Ending::Failed(error.to_string()))),
        })?;
        if let Some(first) = founds {
            core.found(first);
        }
        if let Some(first) = founded {
            core.founded(first);
        }
        *shared.thread.lock() = Some(thread);
        shared.core.set(core).expect("set once in a run");
        if !on_trial {
            tokio::spawn(master::run(shared.clone(), self.reports, self.tables));
            tokio::spawn(schedule::run(shared.clone(), self.prober, self.look_again));
            tokio::spawn(file::run(shared.clone()));
            tokio::spawn(enroll::run(shared.clone()));
        }
        Ok(())
    }
}
