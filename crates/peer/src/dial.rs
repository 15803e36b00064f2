//! Connections that this end begins.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use consensus::NodeId;
use pki::Trouble;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::frame::{Kind, ReadError, Reader};
use crate::handshake::{Cause, FRAME_MAX, Greeting, MAGIC, Preamble, Purpose, Refusal};
use crate::link::{self, Link};
use crate::peers::Peer;
use crate::settings::{Address, By};
use crate::shared::{Shared, random};
use crate::stream::{self, BoxReader, BoxWriter, Proof};

/// Addresses of one name that are tried in one attempt.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Not even a TCP connection. The text has the words that operators search for.
    Connect(String),
    /// TLS did not like something.
    Tls(String),
    /// The peer does not want us.
    Refused(Refusal),
    /// We do not want the peer, which said this of itself.
    Unwanted(Preamble, Refusal),
    /// It broke half-way.
    Broken(String),
    /// There is another one.
    Taken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(reason) | Failure::Tls(reason) | Failure::Broken(reason) => f.write_str(reason),
            Failure::Refused(refusal) => write!(f, "refused by the peer: {}", refusal.text),
            Failure::Unwanted(_, refusal) => write!(f, "refused here: {}", refusal.text),
            Failure::Taken => f.write_str("there is another connection"),
        }
    }
}

/// A connection before or after its handshake.
pub(crate) struct Open {
    pub(crate) reader: Reader<BoxReader>,
    pub(crate) writer: BoxWriter,
    pub(crate) proof: Proof,
}

/// Keeps a connection to a peer up until the token says otherwise.
pub(crate) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>, until: CancellationToken) {
    tokio::select! {
        () = keep_on(&shared, &peer) => {}
        () = until.cancelled() => {}
        () = shared.stop.cancelled() => {}
    }
}

async fn keep_on(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let mut failures = 0;
    loop {
        peer.until_free().await;
        let Some(address) = peer.address() else {
            return;
        };
        match attempt(shared, peer, &address).await {
            Ok(()) => {
                peer.until_free().await;
                if peer.lived() > shared.limits.retry_max {
                    failures = 0;
                    continue;
                }
            }
            Err(failure) => tell(shared, peer, &failure, &address),
        }
        // A connection that was over at once counts as a failure.
        let pause = pause(shared, failures);
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = peer.until_taken() => {}
        }
    }
}

/// Doubles from failure to failure; between half of it and all of it, so that members do not keep step.
fn pause(shared: &Shared, failures: u32) -> Duration {
    let longest = shared.limits.retry_max;
    let full = shared
        .limits
        .retry_min
        .saturating_mul(1 << failures.min(16))
        .min(longest);
    let jitter = random() % 1024;
    full / 2 + full.mul_f64(0.5 * jitter as f64 / 1024.0)
}

async fn attempt(shared: &Arc<Shared>, peer: &Arc<Peer>, address: &Address) -> Result<(), Failure> {
    let (ticket, theirs, open) = within(shared, async {
        let socket = connect(shared, &address.address).await?;
        let ticket = peer
            .reserve_dialling(shared.number())
            .map_err(|_| Failure::Taken)?;
        let mut open = secure(shared, socket, address).await?;
        let theirs = greet(shared, &mut open, Purpose::Link, Some(peer.node)).await?;
        if let Err(refusal) = shared.admit(&theirs, &open.proof) {
            return Err(refuse(&mut open, &theirs, refusal).await);
        }
        let mut start = Vec::new();
        crate::frame::put(&mut start, Kind::Start, |_| {});
        send(&mut open, &start).await?;
        Ok((ticket, theirs, open))
    })
    .await?;
    let link = Link::new(shared.own.node, theirs.instance, open.proof.key);
    if !peer.register(ticket, &link) {
        return Err(Failure::Taken);
    }
    shared.tell.connected(peer.node, &address.address, theirs.version);
    let (shared, peer, address) = (shared.clone(), peer.clone(), address.address.clone());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move { use_link(&shared, &peer, &link, &theirs, open, &address).await });
    Ok(())
}

/// Works a registered connection until it ends.
pub(crate) async fn use_link(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    theirs: &Greeting,
    open: Open,
    address: &(dyn fmt::Display + Sync),
) {
    // Since the handshake others may have become known, or not known any more.
    if let Err(refusal) = shared.judge_key(&theirs.introduction(open.proof.key)) {
        link.end(&refusal.text);
    }
    peer.tell(&*shared.handler);
    let reason = link::run(shared, peer, link, open.reader, open.writer).await;
    if peer.ended(link, &reason) && !shared.stop.is_cancelled() {
        shared.tell.disconnected(peer.node, &reason, address);
    }
    peer.tell(&*shared.handler);
    shared.peers.sweep(peer);
}

fn tell(shared: &Shared, peer: &Peer, failure: &Failure, address: &Address) {
    let address = address.address.as_str();
    let refused = match failure {
        Failure::Refused(refusal) => Some(refusal.cause),
        _ => None,
    };
    match failure {
        Failure::Taken => return,
        Failure::Refused(refusal) if refusal.cause == Cause::Duplicate => return,
        Failure::Refused(refusal) => {
            let theirs = Preamble {
                version: refusal.version,
                cluster: refusal.cluster,
                node: refusal.node,
            };
            // Only what both ends know to be wrong has a line of its own.
            if matches!(refusal.cause, Cause::Cluster | Cause::Version) {
                shared
                    .tell
                    .refused(refusal.cause, theirs, &refusal.text, &address);
            }
        }
        Failure::Unwanted(theirs, refusal) => {
            shared
                .tell
                .refused(refusal.cause, *theirs, &refusal.text, &address);
        }
        Failure::Connect(_) | Failure::Tls(_) | Failure::Broken(_) => {}
    }
    let reason = failure.to_string();
    if let Some(held_back) = peer.failed(&reason, refused, shared.tell.now()) {
        shared
            .tell
            .not_connected(peer.node, &reason, refused, held_back, address);
    }
}

/// Bounds an attempt. Connecting has its own bound.
async fn within<T>(shared: &Shared, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let limit = shared.limits.connect_timeout + shared.limits.handshake_timeout;
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Connect(format!(
            "timeout: no handshake within {limit:?}"
        ))),
    }
}

/// Dials, shakes hands for `purpose`, and asks the user about the peer if there is more to come.
pub(crate) async fn reach(
    shared: &Shared,
    address: &Address,
    purpose: Purpose,
    expected: Option<NodeId>,
) -> Result<(Greeting, Open), Failure> {
    within(shared, async {
        let socket = connect(shared, &address.address).await?;
        let mut open = secure(shared, socket, address).await?;
        let theirs = greet(shared, &mut open, purpose, expected).await?;
        // Of the others the caller decides.
        if purpose == Purpose::Bulk
            && let Err(refusal) = shared.admit(&theirs, &open.proof)
        {
            return Err(refuse(&mut open, &theirs, refusal).await);
        }
        Ok((theirs, open))
    })
    .await
}

async fn connect(shared: &Shared, address: &str) -> Result<TcpStream, Failure> {
    let limit = shared.limits.connect_timeout;
    let looked_up = tokio::time::timeout(limit, tokio::net::lookup_host(address)).await;
    let found = match looked_up {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            return Err(Failure::Connect(format!(
                "unreachable: cannot look up the name: {error}"
            )));
        }
        Err(_) => {
            return Err(Failure::Connect(format!(
                "timeout: the name was not looked up within {limit:?}"
            )));
        }
    };
    let mut failure = "unreachable: the name has no address".to_owned();
    for address in found.take(ADDRESSES_MAX) {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                stream::tune(&socket);
                return Ok(socket);
            }
            Ok(Err(error)) => failure = connect_text(&error),
            Err(_) => failure = format!("timeout: no connection within {limit:?}"),
        }
    }
    Err(Failure::Connect(failure))
}

fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::TimedOut => "timeout".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => format!("unreachable: {error}"),
    }
}

async fn secure(shared: &Shared, socket: TcpStream, address: &Address) -> Result<Open, Failure> {
    let silence_max = shared.limits.handshake_timeout;
    let mut proof = Proof::default();
    let (reader, writer) = match &shared.tls {
        None => stream::plain_halves(socket),
        Some(tls) => {
            let config = tls
                .client(address.pin)
                .ok_or_else(|| Failure::Tls("tls: no authorities to verify the peer by".to_owned()))?;
            let host = match &tls.by {
                By::Authority(_) => host(&address.address),
                // A key has no name, and this one is told to nobody.
                By::Pinned { .. } => "peer",
            };
            let name = ServerName::try_from(host.to_owned())
                .map_err(|_| Failure::Tls(format!("tls: {host} is no name that a certificate can have")))?;
            let connected = TlsConnector::from(config).connect(name, socket).await;
            let session = connected.map_err(|error| tls_failure(&error))?;
            if shared.is_pinned() {
                proof = Proof::of(session.get_ref().1).map_err(Failure::Broken)?;
            }
            stream::halves(session)
        }
    };
    Ok(Open {
        reader: Reader::new(reader, FRAME_MAX, silence_max),
        writer,
        proof,
    })
}

/// `node1` of `node1:2380`, `::1` of `[::1]:2380`.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn tls_failure(error: &io::Error) -> Failure {
    match Trouble::of(error) {
        Some(trouble) => Failure::Tls(trouble.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::Tls("tls: the peer closed the connection in the handshake".to_owned())
        }
        None => Failure::Broken(error.to_string()),
    }
}

/// Introduces this end, and gets to know the other.
async fn greet(
    shared: &Shared,
    open: &mut Open,
    purpose: Purpose,
    expected: Option<NodeId>,
) -> Result<Greeting, Failure> {
    let mut hello = MAGIC.to_vec();
    shared
        .greeting(purpose, expected.unwrap_or_default())
        .put(Kind::Hello, &mut hello);
    // If that fails, the peer may have said why: a refused certificate is told after the client believes itself connected.
    let written = send(open, &hello).await;
    let magic = match open.reader.exactly::<8>().await {
        Ok(magic) => magic,
        Err(error) => {
            return Err(written
                .err()
                .unwrap_or_else(|| read_failure(&error))
                .or_tls(&error));
        }
    };
    if magic != MAGIC {
        return Err(Failure::Broken("the peer speaks another protocol".to_owned()));
    }
    let frame = open.reader.next().await.map_err(|error| read_failure(&error))?;
    let bad = |_| Failure::Broken("the peer sent a bad handshake".to_owned());
    let mut payload = frame.payload;
    match frame.kind {
        Kind::Refused => return Err(Failure::Refused(Refusal::decode(payload).map_err(bad)?)),
        Kind::Welcome => {}
        _ => return Err(Failure::Broken("the peer sent a bad handshake".to_owned())),
    }
    let preamble = Preamble::decode(&mut payload).map_err(bad)?;
    match Greeting::judge(&shared.own, preamble, payload, expected) {
        Ok(theirs) => theirs.map_err(bad),
        Err(refusal) => Err(refuse_unknown(open, preamble, refusal).await),
    }
}

async fn refuse(open: &mut Open, theirs: &Greeting, refusal: Refusal) -> Failure {
    let preamble = Preamble {
        version: theirs.version,
        cluster: theirs.cluster,
        node: theirs.node,
    };
    refuse_unknown(open, preamble, refusal).await
}

async fn refuse_unknown(open: &mut Open, theirs: Preamble, refusal: Refusal) -> Failure {
    let mut out = Vec::new();
    refusal.put(&mut out);
    // The other end may have gone already; that changes nothing here.
    if send(open, &out).await.is_ok() {
        let _ = open.writer.shutdown().await;
    }
    Failure::Unwanted(theirs, refusal)
}

async fn send(open: &mut Open, bytes: &[u8]) -> Result<(), Failure> {
    let written = match open.writer.write_all(bytes).await {
        Ok(()) => open.writer.flush().await,
        Err(error) => Err(error),
    };
    written.map_err(|error| tls_failure(&error))
}

fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::Io(error) => tls_failure(error),
        ReadError::Closed => Failure::Broken("the peer closed the connection in the handshake".to_owned()),
        other => Failure::Broken(other.to_string()),
    }
}

impl Failure {
    /// What TLS says is the reason, if it says anything.
    fn or_tls(self, error: &ReadError) -> Failure {
        match error {
            ReadError::Io(error) if Trouble::of(error).is_some() => tls_failure(error),
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address_is_what_a_certificate_must_carry() {
        let hosts = ["node1:2380", "127.0.0.1:2380", "[::1]:2380"].map(host);
        assert_eq!(hosts, ["node1", "127.0.0.1", "::1"]);
    }

    #[test]
    fn failures_have_the_words_that_operators_search_for() {
        let texts = [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::AddrNotAvailable,
        ]
        .map(|kind| connect_text(&kind.into()));
        let words = ["connection refused", "timeout", "unreachable", "unreachable"];
        for (text, word) in texts.iter().zip(words) {
            assert!(text.contains(word), "{text}");
        }
    }
}
