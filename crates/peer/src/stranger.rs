//! Strangers: those who call before their key is known, to join or to enroll.
//!
//! With pinned keys a connection of an unknown key may carry calls to [`Handler::stranger`](crate::Handler::stranger) and nothing else.
//! Either end learns of the other its introduction, the key that it has proven to have, its certificate, and the [`Exporter`] of the
//! connection, over which a proof of a common secret can be made that is worth nothing on any other connection, such as one through
//! somebody in the middle.
//!
//! On the wire it is a handshake like any other, then requests and answers one after the other, each a frame of at most [`FRAME_BYTES`].
//!
//! What strangers can cost is bounded: a number of connections at once (web clients counted in), each with an end to its time; failed calls
//! per source address ([`Failures`]).

mod failures;
mod seats;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use parking_lot::Mutex;
use pki::pinned::Fingerprint;
use tokio::io::AsyncWriteExt as _;

pub use self::failures::{Attempt, FAILURES_MAX, Failures, WINDOW};
pub use self::seats::{Seat, Seats};
use crate::dial::Open;
use crate::error::RequestError;
use crate::frame::{self, Frame, Kind, ReadError};
use crate::handler::Introduction;
use crate::handshake::{Cause, Greeting, Refusal};
use crate::shared::Shared;
pub use crate::stream::Exporter;
use crate::stream::Proof;

/// Payload of a frame to or from a stranger, at most.
pub const FRAME_BYTES: usize = 64 << 10;

/// How the text of a refusal begins that is about the caller's address and not about the call: it may be repeated later.
pub const TOO_MANY: &str = "too many failed calls";

/// Number, kind or result.
const HEADER: usize = 8 + 1;

/// Body of a call or an answer, at most.
pub const BODY_BYTES: usize = FRAME_BYTES - HEADER;

/// Who calls.
#[derive(Clone)]
pub struct StrangerInfo {
    /// What it says of itself. Nothing of it is verified but the key.
    pub introduction: Introduction,
    /// The key that it has.
    pub key: Fingerprint,
    /// Its certificate, DER.
    pub certificate: Bytes,
    /// The same as at its end, if nobody is in between.
    pub exporter: Exporter,
    /// Where it comes from.
    pub address: SocketAddr,
}

impl fmt::Debug for StrangerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrangerInfo")
            .field("introduction", &self.introduction)
            .field("key", &self.key)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A call as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Goes back with the answer.
    pub number: u64,
    /// Of the user's.
    pub kind: u8,
    /// Of the user's.
    pub body: Bytes,
}

impl Call {
    /// As a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        frame::put(out, Kind::Request, |out| {
            out.put_u64(self.number);
            out.put_u8(self.kind);
            out.put_slice(&self.body);
        });
    }

    /// Reads one. The error says what is wrong.
    pub fn decode(frame: Frame) -> Result<Call, String> {
        let mut payload = frame.payload;
        if frame.kind != Kind::Request {
            return Err(format!("a frame of kind {:?} from a stranger", frame.kind));
        }
        match (payload.try_get_u64(), payload.try_get_u8()) {
            (Ok(number), Ok(kind)) => Ok(Call {
                number,
                kind,
                body: payload,
            }),
            _ => Err("a call without number or kind".to_owned()),
        }
    }
}

/// An answer as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of the call.
    pub number: u64,
    /// What the handler said.
    pub result: Result<Bytes, String>,
}

impl Answer {
    /// As a frame. What is too long becomes a refusal.
    pub fn put(&self, out: &mut Vec<u8>) {
        frame::put(out, Kind::Answer, |out| {
            out.put_u64(self.number);
            match &self.result {
                Ok(body) if body.len() <= BODY_BYTES => {
                    out.put_u8(1);
                    out.put_slice(body);
                }
                Ok(_) => {
                    out.put_u8(0);
                    out.put_slice(b"the answer is too large for a stranger");
                }
                Err(text) => {
                    out.put_u8(0);
                    out.put_slice(&text.as_bytes()[..text.floor_char_boundary(BODY_BYTES)]);
                }
            }
        });
    }

    /// Reads one. The error says what is wrong.
    pub fn decode(frame: Frame) -> Result<Answer, String> {
        let mut payload = frame.payload;
        if frame.kind != Kind::Answer {
            return Err(format!("a frame of kind {:?} instead of an answer", frame.kind));
        }
        match (payload.try_get_u64(), payload.try_get_u8()) {
            (Ok(number), Ok(result)) => Ok(Answer {
                number,
                result: match result {
                    1 => Ok(payload),
                    _ => Err(String::from_utf8_lossy(&payload).into_owned()),
                },
            }),
            _ => Err("an answer without number or result".to_owned()),
        }
    }
}

/// What the serving end keeps of all strangers.
#[derive(Debug)]
pub(crate) struct Strangers {
    pub(crate) seats: Arc<Seats>,
    failures: Mutex<Failures>,
}

impl Strangers {
    pub(crate) fn new(most: usize) -> Strangers {
        Strangers {
            seats: Seats::new(most),
            failures: Mutex::default(),
        }
    }
}

/// Somebody wants to call: whether he may.
pub(crate) fn receive(shared: &Shared, proof: &Proof, from: SocketAddr) -> Result<Seat, Refusal> {
    if !shared.is_pinned() {
        let text = "no calls of strangers are taken here";
        return Err(shared.own.refusal(Cause::Other, text));
    }
    if proof.key.is_none() {
        let text = "strangers show a certificate as well";
        return Err(shared.own.refusal(Cause::UnknownKey, text));
    }
    let wait = shared
        .strangers
        .failures
        .lock()
        .wait(shared.tell.now(), from.ip());
    if let Some(wait) = wait {
        return Err(shared.own.refusal(Cause::Busy, too_many(from, wait)));
    }
    Ok(shared.strangers.seats.take(from.ip()))
}

fn too_many(from: SocketAddr, wait: Duration) -> String {
    let seconds = wait.as_secs() + 1;
    format!("{TOO_MANY} from {}, try again in {seconds} s", from.ip())
}

/// Serves a stranger until one of both has enough.
pub(crate) async fn serve(shared: &Arc<Shared>, theirs: &Greeting, open: Open, from: SocketAddr, seat: Seat) {
    tokio::select! {
        () = answer_calls(shared, theirs, open, from) => {}
        () = tokio::time::sleep(shared.limits.stranger_lifetime) => {}
        () = seat.over() => {}
        () = shared.stop.cancelled() => {}
    }
}

async fn answer_calls(shared: &Arc<Shared>, theirs: &Greeting, mut open: Open, from: SocketAddr) {
    let Some(key) = open.proof.key else {
        return;
    };
    let info = StrangerInfo {
        introduction: theirs.introduction(Some(key)),
        key,
        certificate: open.proof.certificate.clone(),
        exporter: open.proof.exporter,
        address: from,
    };
    open.reader.set_max(FRAME_BYTES);
    open.reader.set_silence_max(shared.limits.stranger_lifetime);
    loop {
        let call = match open.reader.next().await {
            Ok(frame) => Call::decode(frame),
            Err(ReadError::Frame(error)) => Err(error.to_string()),
            Err(_) => return,
        };
        let call = match call {
            Ok(call) => call,
            Err(what) => {
                shared.tell.garbage(from, &what);
                return;
            }
        };
        let number = call.number;
        let (result, is_over) = answer(shared, &info, call).await;
        if let Err(reason) = &result {
            shared.tell.stranger_failed(from, reason);
        }
        let mut out = Vec::new();
        Answer { number, result }.put(&mut out);
        if open.writer.write_all(&out).await.is_err() || open.writer.flush().await.is_err() {
            return;
        }
        if is_over {
            // Until it has been read.
            let _ = open.writer.shutdown().await;
            let _ = open.reader.next().await;
            return;
        }
    }
}

/// What to say, and whether that was the last word.
async fn answer(shared: &Shared, info: &StrangerInfo, call: Call) -> (Result<Bytes, String>, bool) {
    let failures = &shared.strangers.failures;
    let begun = failures.lock().begin(shared.tell.now(), info.address.ip());
    let attempt = match begun {
        Ok(attempt) => attempt,
        Err(wait) => return (Err(too_many(info.address, wait)), true),
    };
    let result = shared.handler.stranger(info.clone(), call.kind, call.body).await;
    if result.is_ok() {
        failures.lock().succeeded(attempt);
    }
    (result, false)
}

/// The calling end: a connection to somebody who need not know this member.
pub struct Stranger {
    introduction: Introduction,
    key: Fingerprint,
    open: Open,
    next: u64,
    shared: Arc<Shared>,
    /// Why nothing can be asked any more.
    broken: Option<String>,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger")
            .field("introduction", &self.introduction)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Stranger {
    pub(crate) fn new(shared: Arc<Shared>, theirs: &Greeting, mut open: Open) -> Result<Stranger, String> {
        let key = open.proof.key.ok_or("keys are not pinned here")?;
        open.reader.set_max(FRAME_BYTES);
        open.reader.set_silence_max(shared.limits.stranger_lifetime);
        Ok(Stranger {
            introduction: theirs.introduction(Some(key)),
            key,
            open,
            next: 0,
            shared,
            broken: None,
        })
    }

    /// What the other end says of itself.
    pub fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// The key that it has.
    pub fn key(&self) -> Fingerprint {
        self.key
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &Bytes {
        &self.open.proof.certificate
    }

    /// The same as at the other end, if nobody is in between.
    pub fn exporter(&self) -> &Exporter {
        &self.open.proof.exporter
    }

    /// Calls and waits for the answer. After anything but an answer or a refusal the connection is of no use any more.
    pub async fn request(&mut self, kind: u8, body: Bytes, timeout: Duration) -> Result<Bytes, RequestError> {
        let to = self.introduction.node.0;
        let not_sent = |reason: String| RequestError::NotSent { to, reason };
        if let Some(reason) = &self.broken {
            return Err(not_sent(reason.clone()));
        }
        if body.len() > BODY_BYTES {
            let length = body.len();
            return Err(not_sent(format!(
                "a call of {length} bytes is too large, at most {BODY_BYTES} are carried"
            )));
        }
        // Until the answer is there: this may be dropped half-way.
        self.broken = Some("an earlier call on this connection has no answer".to_owned());
        let stop = self.shared.stop.clone();
        let called = tokio::select! {
            called = tokio::time::timeout(timeout, self.call(kind, body)) => {
                called.unwrap_or_else(|_| Err(format!("timeout after {timeout:?}")))
            }
            () = stop.cancelled() => Err("the transport stops".to_owned()),
        };
        let result = called.map_err(|reason| RequestError::Unknown { to, reason })?;
        self.broken = None;
        result.map_err(RequestError::Refused)
    }

    async fn call(&mut self, kind: u8, body: Bytes) -> Result<Result<Bytes, String>, String> {
        let number = self.next;
        self.next += 1;
        let mut out = Vec::new();
        Call { number, kind, body }.put(&mut out);
        let writer = &mut self.open.writer;
        writer.write_all(&out).await.map_err(|error| error.to_string())?;
        writer.flush().await.map_err(|error| error.to_string())?;
        let frame = self.open.reader.next().await.map_err(|error| error.to_string())?;
        let answer = Answer::decode(frame)?;
        if answer.number == number {
            Ok(answer.result)
        } else {
            Err(format!("an answer to call {} instead of {number}", answer.number))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let mut out = Vec::new();
        write(&mut out);
        frame::take(&mut BytesMut::from(&out[..]), FRAME_BYTES)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn calls_and_answers_are_read_as_written_and_never_cut_short() {
        let call = Call {
            number: 7,
            kind: 3,
            body: Bytes::from_static(b"let me in"),
        };
        assert_eq!(Call::decode(frame(|out| call.put(out))), Ok(call));
        for result in [Ok(Bytes::from_static(b"welcome")), Err("no".to_owned())] {
            let answer = Answer { number: 7, result };
            assert_eq!(Answer::decode(frame(|out| answer.put(out))), Ok(answer));
        }
        for length in 0..HEADER {
            let short = |kind| Frame {
                kind,
                payload: Bytes::from(vec![0; length]),
            };
            assert!(Call::decode(short(Kind::Request)).is_err());
            assert!(Answer::decode(short(Kind::Answer)).is_err());
        }
        assert!(Call::decode(frame(|out| frame::put(out, Kind::Messages, |_| {}))).is_err());
    }

    #[test]
    fn what_is_too_long_for_a_frame_is_cut_or_refused() {
        let read = |result| Answer::decode(frame(|out| Answer { number: 1, result }.put(out))).unwrap();
        let text = "é".repeat(FRAME_BYTES);
        let cut = read(Err(text)).result.unwrap_err();
        assert!(cut.len() >= BODY_BYTES - 1 && cut.chars().all(|c| c == 'é'));
        let refused = read(Ok(Bytes::from(vec![0; BODY_BYTES + 1]))).result;
        assert!(refused.unwrap_err().contains("too large"));
        assert!(read(Ok(Bytes::from(vec![0; BODY_BYTES]))).result.is_ok());
    }
}
