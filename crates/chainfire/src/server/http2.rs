//! HTTP/2 connections, driven without a task per request.
//!
//! One task owns a connection: it turns the protocol engine (the `h2` crate), and it carries the most frequent calls
//! ([`call`]) beside it. What waits for the pipeline is a small future of that task, so a batch of answers from the apply
//! thread wakes a connection once, and they leave with one write ([`wire`]). Streams and everything rare go to tasks of their
//! own ([`relay`]).
//!
//! A turn: take what has come in and start calls; poll the calls that were woken; repeat while calls have ended, because their
//! answers have to be turned into frames; flush.
//!
//! **Invariant:** what one connection may hold is bounded: unfinished requests by [`Unfinished`], replies that nobody reads by
//! [`Backlog`], streams by `STREAMS_MAX`, frames that ask for an answer (PING, SETTINGS) by the engine, which reads no further
//! before its answer is written, and headers, resets and continuations by the limits the engine is given.

mod call;
mod framing;
mod relay;
mod reply;
mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::Request;
use parking_lot::Mutex;
use service::Shutdown;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

use self::call::{Call, Hot};
use self::reply::{Backlog, Outgoing, Stall};
use self::wire::{Facade, Wire};

pub(super) use self::relay::STREAMS_MAX as RELAYED_MAX;
pub(super) use self::reply::Unread;
pub(super) use self::wire::Socket;

use super::authority::Lenient;
use super::dispatch::Services;
use super::tls::Peer;
use super::unfinished::Unfinished;

/// What an HTTP/2 client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes a stream, and a connection, may have on the way to us. Large enough that big puts never wait for the window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Open streams of a connection. Clients wait when they have as many, so it is no less than what real ones keep open (ten
/// thousand watch streams have been seen), and no more than what a hostile one may make us hold.
const STREAMS_MAX: u32 = 16 << 10;

/// Streams that the client reset before we had looked at them, beyond which the connection is ended.
const RESETS_MAX: usize = 100;

/// Calls begun before those begun earlier are looked at.
const BEGIN_MAX: usize = 256;

/// Bytes of all headers of a request.
const HEADERS_BYTES: u32 = 16 << 10;

/// How long a client may take to let us send our settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which nothing comes in is asked for a sign of life after this time, and closed if none comes within the
/// second one.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Deadlines are looked at no more often.
const DEADLINE_GRAIN: Duration = Duration::from_millis(10);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The client did not read.
    #[error("the client did not take the settings in time")]
    Handshake,
    /// A ping was not answered.
    #[error("the client gave no sign of life")]
    Silent,
    /// Replies were not taken.
    #[error("the client takes none of its replies")]
    Stalled,
    /// The socket failed.
    #[error(transparent)]
    Socket(std::io::Error),
    /// The protocol was broken, or the socket failed.
    #[error(transparent)]
    Protocol(#[from] h2::Error),
}

impl Error {
    /// True if the client did not speak HTTP/2 properly, rather than having gone away.
    pub(super) fn is_misuse(&self) -> bool {
        matches!(self, Error::Protocol(error) if error.is_library() && !error.is_io())
    }
}

/// Serves a connection until it ends. `seen` has been read from it. On `shutdown`, calls under way are finished first.
pub(super) async fn serve(
    socket: Socket,
    seen: Bytes,
    peer: Peer,
    services: Arc<Services>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let wire = Arc::new(Mutex::new(Wire::new(socket, seen)));
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_header_list_size(HEADERS_BYTES)
        .handshake(Lenient::new(Facade(wire.clone())));
    let mut handshake = Box::pin(handshake);
    let handshake = std::future::poll_fn(|cx| {
        wire.lock().begin_turn();
        let shaken = handshake.as_mut().poll(cx);
        match wire.lock().poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(Error::Socket(error))),
            _ => shaken.map_err(Error::from),
        }
    });
    let mut connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| Error::Handshake)??;
    let liveness = Liveness::new(connection.ping_pong());
    let unfinished = Unfinished::of_connection(&services.unfinished);
    let mut driver = Driver {
        connection,
        wire,
        peer,
        calls: FuturesUnordered::new(),
        backlog: Backlog::new(services.unread.clone()),
        services,
        stall: Stall::default(),
        unfinished,
        deadlines: Deadlines::default(),
        liveness,
        draining: false,
    };
    let mut stop = std::pin::pin!(shutdown.wait());
    std::future::poll_fn(move |cx| {
        if !driver.draining && stop.as_mut().poll(cx).is_ready() {
            driver.draining = true;
            driver.connection.graceful_shutdown();
        }
        driver.poll(cx)
    })
    .await
}

struct Driver {
    connection: Connection<Lenient<Facade>, Outgoing>,
    wire: Arc<Mutex<Wire>>,
    peer: Peer,
    calls: FuturesUnordered<Call>,
    services: Arc<Services>,
    backlog: Arc<Backlog>,
    stall: Stall,
    unfinished: Arc<Unfinished>,
    deadlines: Deadlines,
    liveness: Liveness,
    draining: bool,
}

impl Driver {
    /// One turn.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.wire.lock().begin_turn();
        self.expire(cx);
        loop {
            let engine = self.poll_engine(cx);
            if let Poll::Ready(Some(ended)) = engine {
                return Poll::Ready(ended.map_err(Error::from));
            }
            if !self.poll_calls(cx) && engine.is_pending() {
                break;
            }
        }
        let mut wire = self.wire.lock();
        if let Poll::Ready(Err(error)) = wire.poll_flush(cx) {
            return Poll::Ready(Err(Error::Socket(error)));
        }
        if self.liveness.poll(cx, &mut wire).is_ready() {
            return Poll::Ready(Err(Error::Silent));
        }
        if self.liveness.has_looked() && self.stall.look(&self.backlog, Instant::now()) {
            return Poll::Ready(Err(Error::Stalled));
        }
        Poll::Pending
    }

    /// Takes frames in, turns answers into frames, and starts calls. Ready with how the connection has ended, or with nothing
    /// if there may be more to take.
    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), h2::Error>>> {
        for _ in 0..BEGIN_MAX {
            if self.backlog.is_full() {
                // Turned without looking at new requests, so that what waits can leave.
                let ended = self.connection.poll_closed(cx);
                if ended.is_ready() || self.backlog.is_full() {
                    return ended.map(Some);
                }
            }
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond, cx),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(Some(Ok(()))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    fn begin(
        &mut self,
        mut request: Request<RecvStream>,
        respond: SendResponse<Outgoing>,
        cx: &mut Context<'_>,
    ) {
        self.peer.mark(request.headers_mut());
        let services = self.services.clone();
        let Some(hot) = Hot::of(&request) else {
            tokio::spawn(relay::relay(services, request, respond, self.unfinished.clone()));
            return;
        };
        let backlog = self.backlog.clone();
        let call = Call::new(hot, services, request, respond, backlog, self.unfinished.clone());
        if let Some(deadline) = call.deadline() {
            self.deadlines.add(deadline, cx);
        }
        self.calls.push(call);
    }

    /// Polls the calls that were woken; true if one has ended.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ended = false;
        // The scheduler's budget is spent by reading the socket; answers that are there are never put off.
        let calls = &mut self.calls;
        let mut all = unconstrained(std::future::poll_fn(|cx| {
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(cx) {
                ended = true;
            }
            Poll::Ready(())
        }));
        let _always_ready = Pin::new(&mut all).poll(cx);
        ended
    }

    /// Ends the calls whose time is up.
    fn expire(&mut self, cx: &mut Context<'_>) {
        if !self.deadlines.is_due(cx) {
            return;
        }
        let now = Instant::now();
        let is_late = |call: &Call| call.deadline().is_some_and(|deadline| deadline <= now);
        if self.calls.iter().any(is_late) {
            let (late, rest): (Vec<Call>, Vec<Call>) =
                std::mem::take(&mut self.calls).into_iter().partition(is_late);
            self.calls.extend(rest);
            late.into_iter().for_each(Call::expire);
        }
        let next = self.calls.iter().filter_map(Call::deadline).min();
        if let Some(next) = next {
            self.deadlines.add(next.max(now + DEADLINE_GRAIN), cx);
        }
    }
}

/// One timer for the deadlines of all calls: it stands at the earliest, and is not put back when that call ends, so a busy
/// connection moves it once per deadline's length rather than twice per call.
#[derive(Default)]
struct Deadlines {
    timer: Option<Pin<Box<Sleep>>>,
    next: Option<Instant>,
}

impl Deadlines {
    fn add(&mut self, deadline: Instant, cx: &mut Context<'_>) {
        if self.next.is_some_and(|next| next <= deadline) {
            return;
        }
        self.next = Some(deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        timer.as_mut().reset(deadline);
        if timer.as_mut().poll(cx).is_ready() {
            // Already over: looked at in the next turn.
            cx.waker().wake_by_ref();
        }
    }

    /// True once when the earliest deadline has passed.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(timer), Some(_)) = (&mut self.timer, self.next) else {
            return false;
        };
        let due = timer.as_mut().poll(cx).is_ready();
        if due {
            self.next = None;
        }
        due
    }
}

/// Finds out when the peer is gone without having said so.
struct Liveness {
    ping: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    asked: bool,
    /// The timer has run out since the last question.
    looked: bool,
}

impl Liveness {
    fn new(ping: Option<PingPong>) -> Liveness {
        Liveness {
            ping,
            timer: Box::pin(tokio::time::sleep(PING_EVERY)),
            asked: false,
            looked: false,
        }
    }

    /// True once after each time that the peer was looked at, which is every so often however busy the connection is.
    fn has_looked(&mut self) -> bool {
        std::mem::take(&mut self.looked)
    }

    /// Ready when the peer must be taken for gone.
    fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<()> {
        let Some(ping) = &mut self.ping else {
            return Poll::Pending;
        };
        if self.asked && ping.poll_pong(cx).is_ready() {
            self.asked = false;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.looked = true;
            let silence = wire.silence();
            if silence < PING_EVERY {
                self.timer
                    .as_mut()
                    .reset(Instant::now() + PING_EVERY.saturating_sub(silence));
                continue;
            }
            if self.asked {
                return Poll::Ready(());
            }
            wire.rest();
            // Fails only when the connection is ending, or while an earlier ping is under way.
            self.asked = ping.send_ping(Ping::opaque()).is_ok();
            self.timer.as_mut().reset(Instant::now() + PING_TIMEOUT);
        }
        Poll::Pending
    }
}
