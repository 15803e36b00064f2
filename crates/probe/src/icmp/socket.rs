//! The socket of one family, shared by all probes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::packet::{self, Family, TOKEN, Token};

/// Kernel buffer for answers: a thousand of them, should they all come at once.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Largest message that is read; answers to our requests are much smaller.
const MESSAGE_MAX: usize = 2048;

/// Pause after a failed read, so that a socket that only fails costs nothing.
const READ_RETRY: Duration = Duration::from_millis(100);

/// Where the answers of a probe go: which of its echoes was answered.
type Waiting = Mutex<HashMap<Token, Entry>>;

#[derive(Debug)]
struct Entry {
    /// Sequence number of the probe's first echo; the others follow.
    first: u16,
    /// Which echoes have been answered: a reply counts once.
    answered: Vec<bool>,
    replies: mpsc::Sender<u16>,
}

/// One open socket.
#[derive(Debug)]
pub(super) struct Channel {
    family: Family,
    raw: bool,
    socket: std::net::UdpSocket,
    identifier: u16,
    next_sequence: AtomicU16,
    waiting: Arc<Waiting>,
    /// Needs a runtime, so it begins with the first probe.
    reading: OnceLock<Reading>,
}

/// The socket inside of the runtime, and the task that reads it.
///
/// The runtime knows it as a UDP socket, whose calls (`sendto`, `recv`) are the same.
#[derive(Debug)]
struct Reading {
    socket: Arc<UdpSocket>,
    task: AbortHandle,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Channel {
    /// Opens a raw socket or a ping socket.
    pub(super) fn open(family: Family, raw: bool) -> io::Result<Self> {
        let (domain, protocol, any): (_, _, IpAddr) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4, Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = Socket::new(domain, if raw { Type::RAW } else { Type::DGRAM }, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let identifier = if raw {
            let mut bytes = [0; 2];
            fill_random(&mut bytes)?;
            u16::from_be_bytes(bytes)
        } else {
            // The kernel chooses an identifier that no other ping socket has, and calls it a port.
            socket.bind(&SocketAddr::new(any, 0).into())?;
            let own = socket.local_addr()?.as_socket();
            own.map(|own| own.port()).ok_or(io::ErrorKind::AddrNotAvailable)?
        };
        Ok(Self {
            family,
            raw,
            socket: socket.into(),
            identifier,
            next_sequence: AtomicU16::new(0),
            waiting: Arc::default(),
            reading: OnceLock::new(),
        })
    }

    /// Begins to listen for the answers to `count` echoes.
    pub(super) fn register(&self, count: u16) -> io::Result<Waiter> {
        self.reading()?;
        let mut token: Token = [0; TOKEN];
        fill_random(&mut token)?;
        // Room for every answer, so the reading task never waits for a probe.
        let (replies, receiver) = mpsc::channel(usize::from(count));
        let first = self.next_sequence.fetch_add(count, Ordering::Relaxed);
        let entry = Entry {
            first,
            answered: vec![false; usize::from(count)],
            replies,
        };
        lock(&self.waiting).insert(token, entry);
        Ok(Waiter {
            token,
            first,
            receiver,
            waiting: Arc::clone(&self.waiting),
        })
    }

    /// Sends one echo of a probe.
    pub(super) async fn send(&self, waiter: &Waiter, index: u16, to: IpAddr) -> io::Result<()> {
        let sequence = waiter.first.wrapping_add(index);
        let packet = packet::request(self.family, self.identifier, sequence, &waiter.token);
        let to = SocketAddr::new(to, 0);
        self.reading()?.socket.send_to(&packet, to).await?;
        Ok(())
    }

    fn reading(&self) -> io::Result<&Reading> {
        if let Some(reading) = self.reading.get() {
            return Ok(reading);
        }
        // Two first probes at once would register the socket twice; the lock lets one of them do it.
        let _one = lock(&self.waiting);
        if let Some(reading) = self.reading.get() {
            return Ok(reading);
        }
        let socket = Arc::new(UdpSocket::from_std(self.socket.try_clone()?)?);
        let task = tokio::spawn(read(
            Arc::clone(&socket),
            Arc::clone(&self.waiting),
            (self.family, self.raw && self.family == Family::V4),
            self.identifier,
        ));
        let task = task.abort_handle();
        Ok(self.reading.get_or_init(|| Reading { socket, task }))
    }
}

/// Reads answers until the channel is dropped.
async fn read(
    socket: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    (family, with_ip_header): (Family, bool),
    identifier: u16,
) {
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%error, "icmp socket");
                tokio::time::sleep(READ_RETRY).await;
                continue;
            }
        };
        let reply = buffer
            .get(..length)
            .and_then(|bytes| packet::reply(family, with_ip_header, bytes))
            .filter(|reply| reply.identifier == identifier);
        if let Some(reply) = reply {
            deliver(&waiting, &reply);
        }
    }
}

fn deliver(waiting: &Waiting, reply: &packet::Reply) {
    let mut waiting = lock(waiting);
    let Some(entry) = waiting.get_mut(&reply.token) else {
        return;
    };
    let index = reply.sequence.wrapping_sub(entry.first);
    if let Some(answered @ false) = entry.answered.get_mut(usize::from(index)) {
        *answered = true;
        // There is room for every index once; a probe that has just ended needs no answer.
        let _ = entry.replies.try_send(index);
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<Token, Entry>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("no random numbers"))
}

/// A probe that waits for answers.
#[derive(Debug)]
pub(super) struct Waiter {
    token: Token,
    first: u16,
    receiver: mpsc::Receiver<u16>,
    waiting: Arc<Waiting>,
}

impl Waiter {
    /// The next echo that is answered.
    pub(super) async fn reply(&mut self) -> Option<u16> {
        self.receiver.recv().await
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.token);
    }
}
