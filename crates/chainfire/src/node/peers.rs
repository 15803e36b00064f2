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
use super::together::Together;
use crate::config::Config;
use crate::raft::{Network, Staged};
use crate::wire::logpb;

pub(super) use snapshots::remove_staged;

/// Nodes of which it is remembered where they gossip.
const GOSSIP_MAX: usize = 256;

/// The other members, as far as this node knows them.
pub struct Peers {
    own: NodeId,
    /// Where this node is reached by gossip.
    own_gossip: String,
    /// Where the other first members are, from the settings or from what this node was restored with.
    initial: BTreeMap<NodeId, String>,
    /// This node was restored together with others.
    together: Option<Together>,
    store: Arc<Store>,
    group: Mutex<Option<Group>>,
    transport: OnceLock<Transport>,
    node: OnceLock<Weak<Node>>,
    /// Where tasks run that the group's own threads begin.
    runtime: OnceLock<Handle>,
    pub(super) staged: Arc<Staged>,
    addresses: Mutex<Addresses>,
    /// Where those who introduced themselves are reached by gossip.
    gossip: Mutex<BTreeMap<NodeId, String>>,
    /// What keeps a cluster from being formed, if this node is about to form one.
    forming: Mutex<Option<String>>,
    /// Members that a snapshot is being sent to.
    sending: Mutex<BTreeSet<NodeId>>,
    /// Places for what the leader is asked again if need be: see [`requests`].
    asking: Semaphore,
    /// Places at the leader for writes.
    passing: Semaphore,
}

/// Where nodes are reached.
#[derive(Debug, Default)]
struct Addresses {
    members: BTreeMap<NodeId, String>,
    /// Nodes that are no members but may know more than they.
    bystanders: BTreeMap<NodeId, String>,
    /// Both together, as told to the transport last.
    told: BTreeMap<NodeId, String>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Peers {
    pub(super) fn new(
        config: &Config,
        store: Arc<Store>,
        group: Option<Group>,
        together: Option<Together>,
    ) -> Peers {
        let own = NodeId(config.node.id);
        let mut initial: BTreeMap<NodeId, String> = if let Some(together) = &together {
            together.members.clone()
        } else {
            let members = config.cluster.initial_members.iter();
            members
                .map(|member| (NodeId(member.id), member.peer_url.clone()))
                .collect()
        };
        initial.remove(&own);
        Peers {
            own,
            own_gossip: super::gossip::own_address(config),
            initial,
            together,
            store,
            group: Mutex::new(group),
            transport: OnceLock::new(),
            node: OnceLock::new(),
            runtime: OnceLock::new(),
            staged: Arc::default(),
            addresses: Mutex::default(),
            gossip: Mutex::default(),
            forming: Mutex::default(),
            sending: Mutex::default(),
            asking: Semaphore::new(requests::ASKED_AT_ONCE),
            passing: Semaphore::new(requests::PASSED_ON_AT_ONCE),
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

    /// What keeps a cluster from being formed, if this node is about to form one.
    pub(super) fn forming(&self) -> Option<String> {
        self.forming.lock().clone()
    }

    /// Where the first members are, from the settings, but for this node.
    pub(super) fn first_members(&self) -> &BTreeMap<NodeId, String> {
        &self.initial
    }

    /// Where others are reached by gossip.
    pub(super) fn gossip_addresses(&self) -> Vec<String> {
        self.gossip.lock().values().cloned().collect()
    }

    /// True if this node was restored together with others, and whoever speaks so belongs to another cluster than they have founded.
    fn is_stranger(&self, extra: &Extra, first: &Configuration) -> bool {
        self.together.as_ref().is_some_and(|together| {
            extra.token != together.token[..] && !first.counts(self.own, self.own_life())
        })
    }

    fn note_gossip(&self, node: NodeId, address: String) {
        let mut known = self.gossip.lock();
        // Without certificates anybody may introduce himself, as anybody.
        if !address.is_empty() && (known.len() < GOSSIP_MAX || known.contains_key(&node)) {
            known.insert(node, address);
        }
    }

    /// Connects to nodes that are no members; tells who they are if they are others than before.
    pub(super) fn set_bystanders(&self, bystanders: BTreeMap<NodeId, String>) -> Option<BTreeSet<NodeId>> {
        let mut addresses = self.addresses.lock();
        if addresses.bystanders == bystanders {
            return None;
        }
        let nodes = bystanders.keys().copied().collect();
        addresses.bystanders = bystanders;
        self.tell(&mut addresses);
        Some(nodes)
    }

    fn set_addresses(&self, members: BTreeMap<NodeId, String>) {
        let mut addresses = self.addresses.lock();
        addresses.members = members;
        self.tell(&mut addresses);
    }

    /// Tells the transport where everybody is, if that is news.
    fn tell(&self, addresses: &mut Addresses) {
        let mut all = addresses.bystanders.clone();
        all.extend(addresses.members.clone());
        all.remove(&self.own);
        if addresses.told == all {
            return;
        }
        if let Some(transport) = self.transport.get() {
            addresses.told.clone_from(&all);
            // It starts tasks, and the group's own thread has no runtime.
            let _entered = self.runtime.get().map(Handle::enter);
            transport.set_addresses(all);
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
    /// Says goodbye to the other nodes and ends the connections to them.
    pub async fn disconnect(&self) {
        self.end_gossip().await;
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
        settings.sink = peer::log_lines!("chainfire_network");
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
        introduction::meet(&self.0, peer.node, &extra)?;
        self.0.note_gossip(peer.node, extra.gossip);
        Ok(())
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
        Box::pin(async move { snapshots::arrived(&peers, from, &header, dir).await })
    }
}
