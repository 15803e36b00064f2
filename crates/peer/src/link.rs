//! A connection at work: one task reads, one writes.
//!
//! The writer drains what waits into one write of about [`BATCH`] bytes: first pings and pongs, then urgent messages, then requests with
//! their answers and messages with entries in turns. So whatever is urgent waits for one batch at most, in this process and (by a small
//! bound on unsent bytes) in the kernel.
//!
//! Requests belong to the connection: when it ends, those that the writer has not taken were not sent, and of all others nobody knows.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use consensus::{Message, NodeId, wire};
use futures::FutureExt as _;
use parking_lot::Mutex;
use pki::pinned::Fingerprint;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frame::{self, Frame, Kind, OVERHEAD, ReadError, Reader};
use crate::peers::Peer;
use crate::settings::Limits;
use crate::shared::Shared;
use crate::stream::{BoxReader, BoxWriter};

/// Bytes of one write, about.
const BATCH: usize = 1 << 20;

/// What is urgent may take this much of it, at least: nothing may starve.
const URGENT: usize = BATCH / 2;

/// A buffer that one large frame has blown up is not kept.
const BUFFER_KEPT: usize = 4 * BATCH;

/// How soon something must be heard of a connection whose other end seems to have given it up.
const DOUBT: Duration = Duration::from_secs(1);

/// Number, kind.
const REQUEST_HEADER: usize = 8 + 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose attempt it was.
    pub(crate) dialled_by: NodeId,
    /// Which run of the peer's transport is at the other end.
    pub(crate) instance: u64,
    /// The key that the peer has proven to have, if keys are pinned.
    key: Option<Fingerprint>,
    since: Instant,
    wake: Notify,
    doubted: Notify,
    over: CancellationToken,
    /// Nanoseconds of the last ping, 0 before the first.
    round_trip: AtomicU64,
    /// Answers to pings so far.
    pongs: AtomicU64,
    /// Somebody wants a ping now.
    measure: AtomicBool,
    serving: AtomicU64,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    pending: HashMap<u64, Pending>,
    next: u64,
    pong: Option<u64>,
    /// Set by whoever ends it first.
    reason: Option<String>,
    is_closed: bool,
}

#[derive(Debug)]
enum Waiting {
    Request {
        number: u64,
        kind: u8,
        body: Bytes,
    },
    Answer {
        number: u64,
        result: Result<Bytes, String>,
    },
}

impl Waiting {
    fn size(&self) -> usize {
        let body = match self {
            Waiting::Request { body, .. } | Waiting::Answer { result: Ok(body), .. } => body.len(),
            Waiting::Answer {
                result: Err(text), ..
            } => text.len(),
        };
        OVERHEAD + REQUEST_HEADER + body
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Waiting::Request { number, kind, body } => frame::put(out, Kind::Request, |out| {
                out.put_u64(*number);
                out.put_u8(*kind);
                out.put_slice(body);
            }),
            Waiting::Answer { number, result } => frame::put(out, Kind::Answer, |out| {
                out.put_u64(*number);
                out.put_u8(u8::from(result.is_ok()));
                match result {
                    Ok(body) => out.put_slice(body),
                    Err(text) => out.put_slice(text.as_bytes()),
                }
            }),
        }
    }
}

#[derive(Debug)]
struct Pending {
    answer: oneshot::Sender<Outcome>,
    is_sent: bool,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered(Bytes),
    Refused(String),
    NotSent(String),
    Unknown(String),
}

/// A request under way; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct Asked {
    link: Arc<Link>,
    number: u64,
    answer: oneshot::Receiver<Outcome>,
}

impl Link {
    pub(crate) fn new(dialled_by: NodeId, instance: u64, key: Option<Fingerprint>) -> Arc<Link> {
        Arc::new(Link {
            dialled_by,
            instance,
            key,
            since: Instant::now(),
            wake: Notify::new(),
            doubted: Notify::new(),
            over: CancellationToken::new(),
            round_trip: AtomicU64::new(0),
            pongs: AtomicU64::new(0),
            measure: AtomicBool::new(false),
            serving: AtomicU64::new(0),
            work: Mutex::default(),
        })
    }

    /// Whether the peer is the one with this key. Without pinned keys there is nothing to compare.
    pub(crate) fn fits(&self, pin: Fingerprint) -> bool {
        self.key.is_none_or(|key| key.is(&pin))
    }

    /// There is something to send.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The other end seems to have given it up: unless something is heard soon, it is over.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Ends it.
    pub(crate) fn end(&self, reason: &str) {
        self.work.lock().reason.get_or_insert_with(|| reason.to_owned());
        self.over.cancel();
    }

    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Has a ping sent at once.
    pub(crate) fn measure(&self) {
        self.measure.store(true, Ordering::Release);
        self.wake();
    }

    /// A ping was answered after so long a time.
    pub(crate) fn answered(&self, round_trip: Duration) {
        let nanos = u64::try_from(round_trip.as_nanos()).unwrap_or(u64::MAX);
        self.round_trip.store(nanos.max(1), Ordering::Relaxed);
        self.pongs.fetch_add(1, Ordering::Release);
    }

    /// Answers to pings so far; with each, [`Link::round_trip`] is new.
    pub(crate) fn pongs(&self) -> u64 {
        self.pongs.load(Ordering::Acquire)
    }

    /// Queues a request.
    pub(crate) fn ask(self: &Arc<Link>, kind: u8, body: Bytes, limits: &Limits) -> Result<Asked, String> {
        if body.len() + REQUEST_HEADER > limits.frame_bytes {
            return Err(format!(
                "a request of {} bytes is too large, at most {} are carried",
                body.len(),
                limits.frame_bytes - REQUEST_HEADER
            ));
        }
        let mut work = self.work.lock();
        if work.is_closed {
            return Err("the connection is gone".to_owned());
        }
        let number = work.next;
        let request = Waiting::Request { number, kind, body };
        if work.bytes > 0 && work.bytes + request.size() > limits.requests_bytes {
            return Err("too many requests wait for the connection".to_owned());
        }
        work.next += 1;
        work.bytes += request.size();
        work.waiting.push_back(request);
        let (sender, answer) = oneshot::channel();
        let pending = Pending {
            answer: sender,
            is_sent: false,
        };
        work.pending.insert(number, pending);
        drop(work);
        self.wake();
        Ok(Asked {
            link: self.clone(),
            number,
            answer,
        })
    }

    fn answer(&self, number: u64, result: Result<Bytes, String>, limits: &Limits) {
        let longest = limits.frame_bytes - REQUEST_HEADER;
        let result = match result {
            Ok(body) if body.len() > longest => Err(format!(
                "the answer of {} bytes is too large, at most {longest} are carried",
                body.len()
            )),
            Err(text) if text.len() > longest => Err("refused".to_owned()),
            other => other,
        };
        let answer = Waiting::Answer { number, result };
        let mut work = self.work.lock();
        if work.is_closed {
            return;
        }
        // Bounded by the number of requests that are served at once.
        work.bytes += answer.size();
        work.waiting.push_back(answer);
        drop(work);
        self.wake();
    }

    /// Nothing comes or goes any more.
    fn close(&self, reason: &str) {
        let mut work = self.work.lock();
        work.is_closed = true;
        work.waiting.clear();
        work.bytes = 0;
        for (_, pending) in work.pending.drain() {
            let outcome = if pending.is_sent {
                Outcome::Unknown(reason.to_owned())
            } else {
                Outcome::NotSent(reason.to_owned())
            };
            // Whoever asked may have gone.
            let _ = pending.answer.send(outcome);
        }
    }

    /// Appends requests and answers to `out` until it has about `until` bytes, at least one if there is any.
    fn take_work(&self, out: &mut Vec<u8>, until: usize) {
        let mut work = self.work.lock();
        let mut is_first = true;
        while let Some(next) = work.waiting.front() {
            if !is_first && out.len() + next.size() > until {
                return;
            }
            is_first = false;
            let Some(next) = work.waiting.pop_front() else {
                return;
            };
            work.bytes -= next.size();
            if let Waiting::Request { number, .. } = &next {
                match work.pending.get_mut(number) {
                    Some(pending) => pending.is_sent = true,
                    // Given up before it was sent.
                    None => continue,
                }
            }
            next.put(out);
        }
    }
}

impl Asked {
    /// Waits for the answer, until `timeout` at most.
    pub(crate) async fn answer(mut self, timeout: Duration) -> Outcome {
        match tokio::time::timeout(timeout, &mut self.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Unknown("the connection is gone".to_owned()),
            Err(_) => {
                let pending = self.link.work.lock().pending.remove(&self.number);
                // The answer may have come in this very moment.
                if let Ok(outcome) = self.answer.try_recv() {
                    return outcome;
                }
                let reason = format!("timeout after {timeout:?}");
                match pending {
                    Some(pending) if !pending.is_sent => Outcome::NotSent(reason),
                    _ => Outcome::Unknown(reason),
                }
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.link.work.lock().pending.remove(&self.number);
    }
}

/// Works the connection until it ends; why it did.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    mut reader: Reader<BoxReader>,
    writer: BoxWriter,
) -> String {
    reader.set_max(shared.limits.frame_bytes);
    reader.set_silence_max(shared.limits.silence_max);
    reader.set_frame_timeout(shared.limits.frame_timeout);
    if peer.address().is_none() {
        reader.set_partial(shared.partial.clone());
    }
    let writing = tokio::spawn(write(shared.clone(), peer.clone(), link.clone(), writer));
    let reading = read(shared, peer, link, &mut reader);
    let reason = tokio::select! {
        error = reading => error,
        () = link.over.cancelled() => String::new(),
        () = shared.stop.cancelled() => "the transport stops".to_owned(),
    };
    if !reason.is_empty() {
        link.end(&reason);
    }
    link.over.cancel();
    // It ends by the same token. A panic in it has ended the connection as well.
    let _ = writing.await;
    peer.received.fetch_add(reader.take_received(), Ordering::Relaxed);
    let reason = link.work.lock().reason.clone().unwrap_or_default();
    link.close(&reason);
    reason
}

async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    link: &Arc<Link>,
    reader: &mut Reader<BoxReader>,
) -> String {
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            () = link.doubted.notified() => {
                // Any frame will do: the peer sends a ping each second if it still is there.
                match tokio::time::timeout(DOUBT + shared.limits.ping_every, reader.next()).await {
                    Ok(frame) => frame,
                    Err(_) => return "the peer has begun another connection".to_owned(),
                }
            }
        };
        peer.received.fetch_add(reader.take_received(), Ordering::Relaxed);
        let taken = match frame {
            Ok(frame) => take(shared, peer, link, frame),
            Err(ReadError::Frame(error)) => Err(error.to_string()),
            Err(error) => return error.to_string(),
        };
        if let Err(what) = taken {
            shared.tell.broken(peer.node, &what);
            return what;
        }
    }
}

/// Carries out what a frame says; an error is a peer that does not keep to the protocol.
fn take(shared: &Arc<Shared>, peer: &Arc<Peer>, link: &Arc<Link>, frame: Frame) -> Result<(), String> {
    let mut payload = frame.payload;
    match frame.kind {
        Kind::Messages => {
            let mut messages = Vec::new();
            while !payload.is_empty() {
                let message = wire::decode(&mut payload).map_err(|error| error.to_string())?;
                if message.from != peer.node || message.to != shared.own.node {
                    return Err(format!(
                        "a message from member {} to member {} does not belong here",
                        message.from, message.to
                    ));
                }
                messages.push(message);
            }
            shared.handler.messages(peer.node, messages);
        }
        Kind::Ping => {
            link.work.lock().pong = Some(number_of(&mut payload)?);
            link.wake();
        }
        Kind::Pong => {
            let sent = Duration::from_nanos(number_of(&mut payload)?);
            link.answered(link.since.elapsed().saturating_sub(sent));
        }
        Kind::Request => {
            let number = number_of(&mut payload)?;
            let kind = payload.try_get_u8().map_err(|_| "a request without kind")?;
            serve(shared, peer, link, number, kind, payload);
        }
        Kind::Answer => {
            let number = number_of(&mut payload)?;
            let is_good = payload.try_get_u8().map_err(|_| "an answer without result")?;
            // Unknown ones were given up here.
            if let Some(pending) = link.work.lock().pending.remove(&number) {
                let outcome = if is_good == 1 {
                    Outcome::Answered(payload)
                } else {
                    Outcome::Refused(String::from_utf8_lossy(&payload).into_owned())
                };
                let _ = pending.answer.send(outcome);
            }
        }
        Kind::Wait => {}
        other => return Err(format!("a frame of kind {other:?} has no place here")),
    }
    Ok(())
}

fn number_of(payload: &mut Bytes) -> Result<u64, String> {
    payload
        .try_get_u64()
        .map_err(|_| "a frame is cut short".to_owned())
}

/// Has the user answer a request.
fn serve(shared: &Arc<Shared>, peer: &Arc<Peer>, link: &Arc<Link>, number: u64, kind: u8, body: Bytes) {
    /// Counts down also when the user's code panics.
    struct Serving(Arc<Link>);
    impl Drop for Serving {
        fn drop(&mut self) {
            self.0.serving.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let under_way = link.serving.fetch_add(1, Ordering::Relaxed);
    let serving = Serving(link.clone());
    if under_way >= shared.limits.requests_served as u64 {
        link.answer(number, Err("too many requests".to_owned()), &shared.limits);
        return;
    }
    // Already on the way when the answer is asked for, so that requests are begun in the order in which they came.
    let answer = shared.handler.request(peer.node, kind, body);
    let (shared, link) = (shared.clone(), link.clone());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let result = tokio::select! {
            result = answer => result,
            () = shared.stop.cancelled() => return,
        };
        link.answer(number, result, &shared.limits);
        drop(serving);
    });
}

async fn write(shared: Arc<Shared>, peer: Arc<Peer>, link: Arc<Link>, mut writer: BoxWriter) {
    let writing = write_until_it_fails(&shared, &peer, &link, &mut writer);
    tokio::select! {
        error = writing => link.end(&error),
        () = link.over.cancelled() => {}
    }
    // Says goodbye where the kernel or TLS takes it at once; nobody waits for a peer that may be dead.
    let _ = writer.shutdown().now_or_never();
}

async fn write_until_it_fails(
    shared: &Shared,
    peer: &Peer,
    link: &Link,
    writer: &mut (impl AsyncWrite + Unpin),
) -> String {
    let mut out = Vec::new();
    let mut ping_at = Instant::now();
    let mut prefers_entries = false;
    loop {
        out.clear();
        if out.capacity() > BUFFER_KEPT {
            out = Vec::new();
        }
        let now = Instant::now();
        if link.measure.swap(false, Ordering::AcqRel) || now >= ping_at {
            ping_at = now + shared.limits.ping_every;
            let sent = u64::try_from(link.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            frame::put(&mut out, Kind::Ping, |out| out.put_u64(sent));
        }
        fill(peer, link, &mut out, &mut prefers_entries);
        if out.is_empty() {
            tokio::select! {
                () = link.wake.notified() => {}
                () = tokio::time::sleep_until(ping_at) => {}
            }
            continue;
        }
        let written = match writer.write_all(&out).await {
            Ok(()) => writer.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return error.to_string();
        }
        peer.sent.fetch_add(out.len() as u64, Ordering::Relaxed);
    }
}

/// Appends what goes next.
fn fill(peer: &Peer, link: &Link, out: &mut Vec<u8>, prefers_entries: &mut bool) {
    if let Some(number) = link.work.lock().pong.take() {
        frame::put(out, Kind::Pong, |out| out.put_u64(number));
    }
    put_messages(&peer.with_outbox(|outbox| outbox.take_urgent(URGENT)), out);
    *prefers_entries = !*prefers_entries;
    for is_second in [false, true] {
        if is_second && out.len() >= BATCH {
            return;
        }
        if *prefers_entries == is_second {
            link.take_work(out, BATCH);
        } else {
            let room = BATCH.saturating_sub(out.len());
            put_messages(&peer.with_outbox(|outbox| outbox.take_entries(room)), out);
        }
    }
}

fn put_messages(messages: &[Message], out: &mut Vec<u8>) {
    if !messages.is_empty() {
        frame::put(out, Kind::Messages, |out| {
            for message in messages {
                wire::encode(message, out);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn taken(link: &Link) -> Vec<Frame> {
        let mut out = Vec::new();
        link.take_work(&mut out, BATCH);
        let mut buffer = out[..].into();
        std::iter::from_fn(|| frame::take(&mut buffer, 1 << 20).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_a_caller_is_told_depends_on_whether_the_writer_has_taken_the_request() {
        let (link, limits) = (Link::new(NodeId(1), 1, None), Limits::default());
        let ask = || link.ask(7, Bytes::from_static(b"body"), &limits).unwrap();
        let waiting = ask();
        assert!(matches!(waiting.answer(SOON).await, Outcome::NotSent(_)));
        assert_eq!(taken(&link), [], "what was given up is not sent");
        let sent = ask();
        assert_eq!(taken(&link).len(), 1);
        assert!(matches!(sent.answer(SOON).await, Outcome::Unknown(_)));
        let (sent, waiting) = (ask(), ask());
        let mut out = Vec::new();
        link.take_work(&mut out, 1);
        link.close("cut");
        assert_eq!(sent.answer(SOON).await, Outcome::Unknown("cut".to_owned()));
        assert_eq!(waiting.answer(SOON).await, Outcome::NotSent("cut".to_owned()));
        assert!(link.ask(7, Bytes::new(), &limits).is_err());
        assert!(link.work.lock().pending.is_empty());
    }

    #[tokio::test]
    async fn requests_that_wait_are_bounded_and_one_passes_in_any_case() {
        let limits = Limits {
            requests_bytes: 100,
            ..Limits::default()
        };
        let link = Link::new(NodeId(1), 1, None);
        let ask = |bytes| link.ask(7, Bytes::from(vec![0; bytes]), &limits);
        let _large = ask(1000).unwrap();
        assert!(ask(1).unwrap_err().contains("too many"));
        assert_eq!(taken(&link).len(), 1);
        let _small = ask(1).unwrap();
    }
}
