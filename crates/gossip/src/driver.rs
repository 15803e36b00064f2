//! What users call, and the one task that has the machine: it carries messages between it and the sockets, and wakes it in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{self, Arrived, Intake};
use crate::envelope::{ENVELOPE_MAX, Envelope};
use crate::machine::Machine;
use crate::node::{BadNode, Node, Seen};
use crate::settings::{Settings, Tls};
use crate::streams::Streams;
use crate::tell::{self, Tell};
use crate::ways::{Carrier, Ways};

/// Envelopes that wait for the machine.
const ARRIVED_MAX: usize = 1024;

/// Orders of the user that wait.
const ORDERS_MAX: usize = 64;

/// How often the files of TLS are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Sleeps are cut to this, so that no time is too far away for a timer.
const SLEEP_MAX: Duration = Duration::from_hours(1);

/// What happened on the wire. Only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages taken.
    pub received: u64,
    /// What was no message, or one that makes no sense.
    pub garbage: u64,
    /// Messages of other clusters, and of versions that are not understood.
    pub foreign: u64,
    /// Handshakes in which TLS failed.
    pub tls_failures: u64,
}

/// See the crate. Runs until [`Gossip::stop`].
#[derive(Debug)]
pub struct Gossip {
    orders: mpsc::Sender<Order>,
    nodes: Arc<Mutex<Vec<Seen>>>,
    tell: Arc<Tell>,
    goodbye: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    outgoing: TaskTracker,
    driving: TaskTracker,
}

#[derive(Debug)]
enum Order {
    Seeds(Vec<String>),
    Update(Box<Node>),
}

impl Gossip {
    /// Starts on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(settings: Settings, me: Node) -> Result<Gossip, BadNode> {
        me.check()?;
        let tell = Arc::new(Tell::new(settings.clock.clone(), settings.cluster));
        let (goodbye, stop) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, outgoing, driving) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let (order, orders) = mpsc::channel(ORDERS_MAX);
        let (arrive, arrived) = mpsc::channel(ARRIVED_MAX);
        let nodes = Arc::new(Mutex::new(Vec::new()));
        let intake = Intake {
            cluster: settings.cluster,
            tls: settings.tls.clone(),
            tell: tell.clone(),
            stop: stop.clone(),
            tasks: tasks.clone(),
            arrived: arrive,
        };
        tasks.spawn(accept::run(intake, settings.listener));
        if let Some(tls) = settings.tls.clone() {
            tasks.spawn(keep_current(tls, tell.clone(), stop.clone()));
        }
        let streams = Streams::new(settings.tls.clone(), tell.clone(), stop.clone(), outgoing.clone());
        let mut machine = Machine::new(
            me.clone(),
            settings.timing,
            settings.nodes_max,
            random(),
            tell.now(),
            tell.unix_ms(),
        );
        machine.set_seeds(settings.seeds.clone(), tell.now());
        let mut driver = Driver {
            cluster: settings.cluster,
            me: me.id,
            // Datagrams would not be authenticated.
            udp: settings.udp.filter(|_| settings.tls.is_none()),
            machine,
            streams,
            ways: Ways::default(),
            seeds: settings.seeds,
            nodes: nodes.clone(),
            tell: tell.clone(),
        };
        driver.publish();
        driving.spawn(driver.run(orders, arrived, goodbye.clone(), stop.clone()));
        Ok(Gossip {
            orders: order,
            nodes,
            tell,
            goodbye,
            stop,
            tasks,
            outgoing,
            driving,
        })
    }

    /// All nodes that are known, this one too, by id.
    pub fn nodes(&self) -> Vec<Seen> {
        self.nodes.lock().clone()
    }

    /// Addresses to greet, now and from time to time: members, and those in the settings.
    pub fn set_seeds(&self, seeds: Vec<String>) {
        self.order(Order::Seeds(seeds));
    }

    /// Publishes another description of this node. The id stays.
    pub fn update(&self, me: Node) -> Result<(), BadNode> {
        me.check()?;
        self.order(Order::Update(Box::new(me)));
        Ok(())
    }

    fn order(&self, order: Order) {
        let orders = self.orders.clone();
        // In order, unless more wait than anybody has reason to give.
        if let Err(mpsc::error::TrySendError::Full(order)) = self.orders.try_send(order) {
            self.tasks.spawn(async move { orders.send(order).await });
        }
    }

    /// What happened on the wire.
    pub fn counts(&self) -> Counts {
        self.tell.counts()
    }

    /// Says goodbye, so that the others know at once, and ends everything.
    pub async fn stop(&self) {
        self.goodbye.cancel();
        self.driving.close();
        self.driving.wait().await;
        // Connections end when what waits is sent, or never.
        self.outgoing.close();
        let _ = tokio::time::timeout(GOODBYE, self.outgoing.wait()).await;
        self.stop.cancel();
        self.outgoing.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        // Nothing is said: whoever drops it without stopping it goes as if killed.
        self.stop.cancel();
    }
}

struct Driver {
    cluster: u64,
    me: u64,
    udp: Option<UdpSocket>,
    machine: Machine,
    streams: Streams,
    ways: Ways,
    seeds: Vec<String>,
    nodes: Arc<Mutex<Vec<Seen>>>,
    tell: Arc<Tell>,
}

/// What the task woke up for.
enum Wake {
    Datagram(SocketAddr),
    Stream(Arrived),
    Order(Order),
    Time,
    Goodbye,
    Stop,
}

impl Driver {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut arrived: mpsc::Receiver<Arrived>,
        goodbye: CancellationToken,
        stop: CancellationToken,
    ) {
        let mut buffer = BytesMut::new();
        loop {
            let sleep = self.machine.next_tick().since(self.tell.now()).min(SLEEP_MAX);
            buffer.clear();
            // One byte more than can be, so that what is too long is seen to be.
            buffer.reserve(ENVELOPE_MAX + 1);
            let wake = tokio::select! {
                from = receive(self.udp.as_ref(), &mut buffer) => Wake::Datagram(from),
                Some(arrived) = arrived.recv() => Wake::Stream(arrived),
                Some(order) = orders.recv() => Wake::Order(order),
                () = tokio::time::sleep(sleep) => Wake::Time,
                () = goodbye.cancelled() => Wake::Goodbye,
                () = stop.cancelled() => Wake::Stop,
            };
            let (now, unix_ms) = (self.tell.now(), self.tell.unix_ms());
            let is_over = matches!(wake, Wake::Goodbye);
            match wake {
                Wake::Datagram(from) => match Envelope::open(buffer.split().freeze(), self.cluster) {
                    Ok(envelope) => self.receive(&envelope, true, &from),
                    Err(unfit) => self.tell.unfit(&from, unfit),
                },
                Wake::Stream(Arrived { from, envelope }) => self.receive(&envelope, false, &from),
                Wake::Stop => return,
                Wake::Order(Order::Seeds(seeds)) => {
                    self.seeds.clone_from(&seeds);
                    self.machine.set_seeds(seeds, now);
                }
                Wake::Order(Order::Update(me)) => self.machine.update(*me, now, unix_ms),
                Wake::Time => {}
                Wake::Goodbye => self.machine.leave(now, unix_ms),
            }
            self.machine.tick(now, unix_ms);
            self.send();
            for seen in self.machine.take_changes() {
                self.tell.changed(&seen);
            }
            self.publish();
            if is_over {
                self.streams.close();
                return;
            }
        }
    }

    fn receive(&mut self, envelope: &Envelope, by_datagram: bool, from: &SocketAddr) {
        // Seeds may name this node too.
        if envelope.from == self.me {
            return;
        }
        let (now, unix_ms) = (self.tell.now(), self.tell.unix_ms());
        if self.machine.receive(&envelope.payload, now, unix_ms) {
            self.tell.received();
            self.ways
                .received(envelope.from, by_datagram, envelope.hears_datagrams, now);
        } else {
            self.tell.garbage(from);
        }
    }

    fn send(&mut self) {
        let now = self.tell.now();
        for outgoing in self.machine.take_outgoing() {
            let envelope = Envelope {
                cluster: self.cluster,
                from: self.me,
                hears_datagrams: self.ways.hears(outgoing.to, now),
                payload: outgoing.payload,
            }
            .seal();
            let carrier = self.ways.carrier(outgoing.to, self.udp.is_some(), now);
            let target = self.streams.socket_address(&outgoing.address);
            let by_datagram = match (&self.udp, target, carrier) {
                // A socket that does not take it now loses it; so do networks.
                (Some(udp), Some(target), Carrier::Datagram | Carrier::Both) => {
                    udp.try_send_to(&envelope, target).is_ok()
                }
                _ => false,
            };
            if carrier != Carrier::Datagram || !by_datagram {
                self.streams.send(&outgoing.address, envelope);
            }
        }
    }

    /// Shows what is known, and forgets whoever is not.
    fn publish(&mut self) {
        if !self.machine.take_has_changed() {
            return;
        }
        let nodes = self.machine.nodes();
        self.ways.keep(|id| nodes.iter().any(|seen| seen.node.id == id));
        let seeds = &self.seeds;
        self.streams.keep(|address| {
            let is_node = nodes.iter().any(|seen| seen.node.gossip_address == address);
            is_node || seeds.iter().any(|seed| seed == address)
        });
        *self.nodes.lock() = nodes;
    }
}

/// Waits for ever without a socket, and longer than a moment after an error of it.
async fn receive(udp: Option<&UdpSocket>, buffer: &mut BytesMut) -> SocketAddr {
    let Some(udp) = udp else {
        return std::future::pending().await;
    };
    loop {
        match udp.recv_buf_from(buffer).await {
            Ok((_, from)) => return from,
            // Of an earlier datagram that was refused, mostly.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Takes new certificates as they come.
async fn keep_current(tls: Tls, tell: Arc<Tell>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let (tls, unix_s) = (tls.clone(), tell.unix_ms() / 1000);
        let looked = tokio::task::spawn_blocking(move || tell::look(&tls, unix_s)).await;
        if let Err(error) = looked {
            tracing::error!(target: "chainfire_gossip", error = %error, "Looking at certificates failed");
        }
    }
}

/// Not for secrets: which node is probed next.
fn random() -> u64 {
    SysRng
        .try_next_u64()
        .expect("the operating system gives random numbers")
}
