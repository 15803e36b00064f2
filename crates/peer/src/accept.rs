//! Connections that the other end begins.
//!
//! Before the handshake is over nothing is known of a connection: no more than a number of them are under way, one more ends the oldest
//! (an honest one takes a few round trips, so the oldest is nearly always one that was abandoned), each has a deadline, and only a few
//! kibibytes are read of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consensus::NodeId;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::bulk;
use crate::dial::{self, Open};
use crate::frame::{Kind, ReadError, Reader};
use crate::handshake::{Cause, FRAME_MAX, Greeting, MAGIC, Preamble, Purpose, Refusal};
use crate::http::{self, Visit, WebStream};
use crate::link::Link;
use crate::peers::{Peer, Ticket};
use crate::shared::Shared;
use crate::stranger::{self, Seat};
use crate::stream::{self, Proof};

/// When the listener fails, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Of bytes that are no handshake.
const NOT_A_MEMBER: &str = "it does not begin as members do";

/// Handshakes under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// By number, so the first is the oldest.
    turns: BTreeMap<u64, CancellationToken>,
}

/// The place of one; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    over: CancellationToken,
    all: Arc<Handshakes>,
}

impl Handshakes {
    pub(crate) fn new(most: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            most,
            under_way: Mutex::default(),
        })
    }

    /// One more; the oldest makes room.
    fn begin(self: &Arc<Self>) -> Turn {
        let mut under_way = self.under_way.lock();
        if under_way.turns.len() >= self.most
            && let Some((_, oldest)) = under_way.turns.pop_first()
        {
            oldest.cancel();
        }
        let number = under_way.next;
        under_way.next += 1;
        let over = CancellationToken::new();
        under_way.turns.insert(number, over.clone());
        Turn {
            number,
            over,
            all: self.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.under_way.lock().turns.remove(&self.number);
    }
}

/// What a handshake led to.
enum Accepted {
    /// Nothing, or an answer that was given.
    Nothing,
    Link {
        peer: Arc<Peer>,
        ticket: Ticket,
        theirs: Greeting,
        open: Open,
    },
    Bulk {
        from: NodeId,
        open: Open,
    },
    Stranger {
        theirs: Greeting,
        open: Open,
        seat: Seat,
    },
    Web(Visit),
}

/// Takes connections until the transport stops.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, from)) => {
                let turn = shared.handshakes.begin();
                shared.tasks.spawn(serve(shared.clone(), socket, from, turn));
            }
            Err(error) => {
                shared.tell.not_accepting(&error);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = shared.stop.cancelled() => return,
                }
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, socket: TcpStream, from: SocketAddr, turn: Turn) {
    let accepted = tokio::select! {
        accepted = shake(&shared, socket, from) => accepted,
        () = tokio::time::sleep(shared.limits.handshake_timeout) => {
            shared.tell.abandoned(from, "timeout");
            return;
        }
        () = turn.over.cancelled() => {
            shared.tell.abandoned(from, "crowded out by newer ones");
            return;
        }
        () = shared.stop.cancelled() => return,
    };
    drop(turn);
    match accepted {
        Accepted::Nothing => {}
        Accepted::Link {
            peer,
            ticket,
            theirs,
            open,
        } => {
            let link = Link::new(peer.node, theirs.instance, open.proof.key);
            if peer.register(ticket, &link) {
                shared.tell.connected(peer.node, &from, theirs.version);
                dial::use_link(&shared, &peer, &link, &theirs, open, &from).await;
            }
            shared.peers.sweep(&peer);
        }
        Accepted::Bulk { from, open } => {
            tokio::select! {
                () = bulk::receive(&shared, from, open) => {}
                () = shared.stop.cancelled() => {}
            }
        }
        Accepted::Stranger { theirs, open, seat } => {
            stranger::serve(&shared, &theirs, open, from, seat).await;
        }
        Accepted::Web(visit) => http::serve(&shared, visit).await,
    }
}

async fn shake(shared: &Arc<Shared>, socket: TcpStream, from: SocketAddr) -> Accepted {
    stream::tune(&socket);
    let mut first = [0];
    match socket.peek(&mut first).await {
        // Came and went, as probes do.
        Ok(0) | Err(_) => return Accepted::Nothing,
        Ok(_) => {}
    }
    let Some((reader, writer, proof)) = secure(shared, socket, first[0], from).await else {
        return Accepted::Nothing;
    };
    let mut open = Open {
        // Of the two bounds the one around the whole handshake is to end it, for that is counted.
        reader: Reader::new(reader, FRAME_MAX, 2 * shared.limits.handshake_timeout),
        writer,
        proof,
    };
    let theirs = match hello(shared, &mut open).await {
        Ok(theirs) => theirs,
        Err(Bad::Refused(preamble, refusal)) => {
            shared.tell.refused(refusal.cause, preamble, &refusal.text, &from);
            refuse(&mut open, &refusal).await;
            return Accepted::Nothing;
        }
        Err(Bad::Garbage(what)) => {
            shared.tell.garbage(from, &what);
            return Accepted::Nothing;
        }
        Err(Bad::Web(first)) => return web(shared, first, open, from),
        Err(Bad::Gone) => return Accepted::Nothing,
    };
    welcome(shared, open, theirs, from).await
}

/// TLS, if it is wanted and there, or neither.
async fn secure(
    shared: &Shared,
    socket: TcpStream,
    first: u8,
    from: SocketAddr,
) -> Option<(stream::BoxReader, stream::BoxWriter, Proof)> {
    match (&shared.tls, stream::is_tls(first)) {
        (None, false) => {
            let (reader, writer) = stream::plain_halves(socket);
            Some((reader, writer, Proof::default()))
        }
        (None, true) => {
            shared.tell.tls_to_plain(from);
            // What tells the other end that this is no TLS.
            last_word(socket, &MAGIC).await;
            None
        }
        (Some(_), false) => {
            shared.tell.plain_to_tls(from);
            let mut answer = MAGIC.to_vec();
            shared
                .own
                .refusal(Cause::WantsTls, "this member wants TLS, and plain text came")
                .put(&mut answer);
            last_word(socket, &answer).await;
            None
        }
        (Some(tls), true) => {
            let accept = TlsAcceptor::from(tls.server()).accept(socket);
            match accept.into_fallible().await {
                Ok(session) => {
                    let proof = if shared.is_pinned() {
                        let proof = Proof::of(session.get_ref().1);
                        proof.map_err(|what| shared.tell.garbage(from, &what)).ok()?
                    } else {
                        Proof::default()
                    };
                    let (reader, writer) = stream::halves(session);
                    Some((reader, writer, proof))
                }
                Err((error, socket)) => {
                    shared.tell.tls_failed(from, &error);
                    // The alert that says why is on its way; a reset would overtake it.
                    let (reader, mut writer) = stream::plain_halves(socket);
                    stream::close(&mut writer, reader).await;
                    None
                }
            }
        }
    }
}

async fn last_word(socket: TcpStream, bytes: &[u8]) {
    let (reader, mut writer) = stream::plain_halves(socket);
    if writer.write_all(bytes).await.is_ok() {
        stream::close(&mut writer, reader).await;
    }
}

/// Why there is no use in going on.
enum Bad {
    Refused(Preamble, Refusal),
    Garbage(String),
    /// A request of HTTP, with its first bytes.
    Web([u8; 8]),
    Gone,
}

impl From<ReadError> for Bad {
    fn from(error: ReadError) -> Bad {
        match error {
            ReadError::Frame(error) => Bad::Garbage(error.to_string()),
            ReadError::Io(_)
            | ReadError::Closed
            | ReadError::Silence(_)
            | ReadError::Slow(_)
            | ReadError::Crowded => Bad::Gone,
        }
    }
}

async fn hello(shared: &Shared, open: &mut Open) -> Result<Greeting, Bad> {
    let first = open.reader.exactly::<8>().await?;
    if http::begins_request(&first) {
        return Err(Bad::Web(first));
    }
    if first != MAGIC {
        return Err(Bad::Garbage(NOT_A_MEMBER.to_owned()));
    }
    let frame = open.reader.next().await?;
    if frame.kind != Kind::Hello {
        return Err(Bad::Garbage(format!(
            "a frame of kind {:?} before hello",
            frame.kind
        )));
    }
    let mut payload = frame.payload;
    let bad = |error: crate::handshake::BadHandshake| Bad::Garbage(error.to_string());
    let preamble = Preamble::decode(&mut payload).map_err(bad)?;
    let refused = |refusal| Bad::Refused(preamble, refusal);
    let judged = Greeting::judge(&shared.own, preamble, payload, None);
    let theirs = judged.map_err(refused)?.map_err(bad)?;
    if theirs.purpose != Purpose::Stranger {
        shared.admit(&theirs, &open.proof).map_err(refused)?;
    }
    Ok(theirs)
}

/// A web client, if the user serves such.
fn web(shared: &Shared, first: [u8; 8], open: Open, from: SocketAddr) -> Accepted {
    let (rest, reader) = open.reader.into_parts();
    let head = [&first[..], &rest[..]].concat();
    let stream = WebStream::new(head.into(), reader, open.writer);
    if let Some(visit) = http::offer(shared, stream, from) {
        return Accepted::Web(visit);
    }
    shared.tell.garbage(from, &NOT_A_MEMBER);
    Accepted::Nothing
}

async fn welcome(shared: &Arc<Shared>, mut open: Open, theirs: Greeting, from: SocketAddr) -> Accepted {
    let preamble = Preamble {
        version: theirs.version,
        cluster: theirs.cluster,
        node: theirs.node,
    };
    let mut place = None;
    if theirs.purpose == Purpose::Link {
        let peer = shared.peers.get_or_add(theirs.node, &shared.limits);
        let reserved = match &peer {
            Some(peer) => peer
                .reserve_accepting(shared.number(), shared.own.node, theirs.instance)
                .map_err(|_| (Cause::Duplicate, "there is another connection")),
            None => Err((Cause::Busy, "too many members are known here")),
        };
        match (peer, reserved) {
            (Some(peer), Ok(ticket)) => place = Some((peer, ticket)),
            (_, Err((cause, text))) => {
                let refusal = shared.own.refusal(cause, text);
                shared.tell.refused(cause, preamble, text, &from);
                refuse(&mut open, &refusal).await;
                return Accepted::Nothing;
            }
            (None, Ok(_)) => return Accepted::Nothing,
        }
    }
    let mut seat = None;
    if theirs.purpose == Purpose::Stranger {
        match stranger::receive(shared, &open.proof, from) {
            Ok(taken) => seat = Some(taken),
            Err(refusal) => {
                shared.tell.refused(refusal.cause, preamble, &refusal.text, &from);
                refuse(&mut open, &refusal).await;
                return Accepted::Nothing;
            }
        }
    }
    let mut answer = MAGIC.to_vec();
    shared
        .greeting(theirs.purpose, theirs.node)
        .put(Kind::Welcome, &mut answer);
    if open.writer.write_all(&answer).await.is_err() || open.writer.flush().await.is_err() {
        return Accepted::Nothing;
    }
    if let Some(seat) = seat {
        return Accepted::Stranger { theirs, open, seat };
    }
    match (theirs.purpose, place) {
        (Purpose::Bulk, _) => Accepted::Bulk {
            from: theirs.node,
            open,
        },
        (Purpose::Link, Some((peer, ticket))) => {
            if started(shared, &mut open, preamble, from).await {
                Accepted::Link {
                    peer,
                    ticket,
                    theirs,
                    open,
                }
            } else {
                drop(ticket);
                shared.peers.sweep(&peer);
                Accepted::Nothing
            }
        }
        _ => {
            shared.handler.asked(&theirs.introduction(open.proof.key));
            // It closes first, having heard what it wanted.
            let _ = open.reader.next().await;
            Accepted::Nothing
        }
    }
}

/// Whether the dialling end takes the connection into use.
async fn started(shared: &Shared, open: &mut Open, theirs: Preamble, from: SocketAddr) -> bool {
    match open.reader.next().await {
        Ok(frame) if frame.kind == Kind::Start => true,
        Ok(frame) if frame.kind == Kind::Refused => {
            if let Ok(refusal) = Refusal::decode(frame.payload) {
                let text = format!("it refused: {}", refusal.text);
                shared.tell.turned_down(refusal.cause, theirs, &text, &from);
            }
            false
        }
        Ok(frame) => {
            let what = format!("a frame of kind {:?} before start", frame.kind);
            shared.tell.garbage(from, &what);
            false
        }
        Err(ReadError::Frame(error)) => {
            shared.tell.garbage(from, &error);
            false
        }
        // The dialling end has found another connection.
        Err(_) => false,
    }
}

async fn refuse(open: &mut Open, refusal: &Refusal) {
    let mut out = MAGIC.to_vec();
    refusal.put(&mut out);
    if open.writer.write_all(&out).await.is_ok() && open.writer.flush().await.is_ok() {
        let _ = open.writer.shutdown().await;
        // Until the other end has read it and goes.
        let _ = open.reader.next().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_makes_room() {
        let all = Handshakes::new(2);
        let (first, second) = (all.begin(), all.begin());
        assert!(!first.over.is_cancelled());
        let third = all.begin();
        assert!(first.over.is_cancelled() && !second.over.is_cancelled() && !third.over.is_cancelled());
        drop((first, second, third));
        assert!(all.under_way.lock().turns.is_empty());
    }
}
