//! This node among the others: what goes over port 2380.
//!
//! [`Peers`] is both ends of it. The group's messages pass through unread. Beside them members introduce themselves ([`introduction`]),
//! ask the leader to do what only it can ([`requests`]), hand the whole state to those that lag ([`snapshots`]), and form a new cluster
//! ([`forming`]).

mod forming;
mod introduction;
mod requests;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use consensus::{Configuration, Incarnation, Message, NodeId};
use parking_lot::Mutex;
use peer::{BoxFuture, Handler, Introduction, PeerStatus, Transport};
use prost::Message as _;
use service::Shutdown;
use store::Store;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::introduction::Extra;
use super::Node;
use super::founding::Group;
use crate::config::Config;
use crate::raft::{Network, Staged};
use crate::wire::logpb;

pub(super) use snapshots::remove_staged;

/// The other members, as far as this node knows them.
pub struct Peers {
    own: NodeId,
    /// Where the first members are, from the settings.
    initial: BTreeMap<NodeId, String>,
    store: Arc<Store>,
    group: Mutex<Option<Group>>,
    transport: OnceLock<Transport>,
    node: OnceLock<Weak<Node>>,
    /// Where tasks run that the group's own threads begin.
    runtime: OnceLock<Handle>,
    pub(super) staged: Arc<Staged>,
    /// Where members are, as told to the transport last.
    addresses: Mutex<BTreeMap<NodeId, String>>,
    /// Members that a snapshot is being sent to.
    sending: Mutex<BTreeSet<NodeId>>,
    /// Places for what the leader is asked again if need be: see [`requests`].
    asking: Semaphore,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Peers {
    pub(super) fn new(config: &Config, store: Arc<Store>, group: Option<Group>) -> Peers {
        let initial = config.cluster.initial_members.iter();
        Peers {
            own: NodeId(config.node.id),
            initial: initial
                .filter(|member| member.id != config.node.id)
                .map(|member| (NodeId(member.id), member.peer_url.clone()))
                .collect(),
            store,
            group: Mutex::new(group),
            transport: OnceLock::new(),
            node: OnceLock::new(),
            runtime: OnceLock::new(),
            staged: Arc::default(),
            addresses: Mutex::default(),
            sending: Mutex::default(),
            asking: Semaphore::new(requests::ASKED_AT_ONCE),
        }
    }

    /// The node that this belongs to, unless it is gone.
    fn node(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    /// How it stands with the connections to the others.
    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.transport.get().map(Transport::statuses).unwrap_or_default()
    }

    /// Life of the cluster; 0 before this node belongs to one.
    pub fn instance(&self) -> u64 {
        self.group.lock().as_ref().map_or(0, |group| group.instance)
    }

    fn own_life(&self) -> Incarnation {
        self.node().map_or(Incarnation::UNKNOWN, |node| node.raft.life())
    }

    fn set_addresses(&self, mut addresses: BTreeMap<NodeId, String>) {
        addresses.remove(&self.own);
        let mut known = self.addresses.lock();
        if *known == addresses {
            return;
        }
        if let Some(transport) = self.transport.get() {
            known.clone_from(&addresses);
            drop(known);
            // It starts tasks, and the group's own thread has no runtime.
            let _entered = self.runtime.get().map(Handle::enter);
            transport.set_addresses(addresses);
        }
    }

    /// Ends all connections.
    pub(super) async fn stop(&self) {
        if let Some(transport) = self.transport.get() {
            transport.stop().await;
        }
    }
}

impl Node {
    /// Ends the connections to the other members.
    pub async fn disconnect(&self) {
        self.peers.stop().await;
    }

    /// Begins to talk to the other members.
    pub fn connect(self: &Arc<Node>, listener: TcpListener, tls: Option<peer::Tls>, shutdown: &Shutdown) {
        let peers = self.peers.clone();
        peers
            .node
            .set(Arc::downgrade(self))
            .expect("a node is connected once");
        peers.runtime.get_or_init(Handle::current);
        let mut settings = peer::Settings::new(self.config.cluster.id, peers.own, listener);
        settings.tls = tls;
        settings.clock = self.clock.clone();
        let transport = Transport::start(settings, Arc::new(Door(peers.clone())));
        assert!(peers.transport.set(transport).is_ok(), "a node is connected once");
        peers.members(&self.raft.view().configuration);
        forming::start(self, shutdown);
        introduction::keep_published(self, shutdown);
    }
}

/// Where a member is reached, from what the configuration says about it.
fn address_of(context: &Bytes) -> Option<String> {
    let member = logpb::Member::decode(context.clone()).ok()?;
    (!member.peer_address.is_empty()).then_some(member.peer_address)
}

impl Network for Peers {
    fn send(&self, message: Message) {
        if let Some(transport) = self.transport.get() {
            transport.send(message);
        }
    }

    fn members(&self, configuration: &Configuration) {
        let mut addresses: BTreeMap<NodeId, String> = configuration
            .members()
            .filter_map(|(node, member)| Some((node, address_of(&member.context)?)))
            .collect();
        if configuration.members().next().is_none() {
            addresses.clone_from(&self.initial);
        }
        self.set_addresses(addresses);
    }

    fn snapshot_wanted(&self, to: NodeId) {
        snapshots::send(self, to);
    }
}

/// What the transport calls.
struct Door(Arc<Peers>);

impl Handler for Door {
    fn introduction(&self) -> Bytes {
        Extra::of(&self.0).encode_to_vec().into()
    }

    fn admit(&self, peer: &Introduction) -> Result<(), String> {
        let extra = Extra::decode(peer.extra.clone()).map_err(|_| "malformed introduction".to_owned())?;
        introduction::meet(&self.0, peer.node, &extra)
    }

    fn messages(&self, _: NodeId, messages: Vec<Message>) {
        if let Some(node) = self.0.node() {
            node.raft.deliver(messages);
        }
    }

    fn request(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<Result<Bytes, String>> {
        let node = self.0.node();
        Box::pin(async move {
            let node = node.ok_or("the server is stopping")?;
            requests::answer(&node, from, kind, body).await
        })
    }

    fn receive(&self, _: NodeId, header: &[u8]) -> Result<PathBuf, String> {
        snapshots::place(&self.0, header)
    }

    fn received(&self, from: NodeId, header: Bytes, dir: PathBuf) -> BoxFuture<Result<(), String>> {
        let peers = self.0.clone();
        Box::pin(async move { snapshots::arrived(&peers, from, &header, dir) })
    }
}
