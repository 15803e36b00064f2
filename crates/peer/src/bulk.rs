//! Directories: the plain files of one directory, sent over a connection of its own.
//!
//! The sender offers names and sizes, the receiver says how much of each file it has from earlier attempts, the rest follows in pieces
//! (each a frame with its CRC-32C), and after each file comes its SHA-256, which the receiver compares with what it has *now*, old part
//! and new. A file that does not fit is removed, so the next attempt sends it anew. When all is on disk the receiver's user takes it,
//! and its answer goes back.
//!
//! It is sent as fast as goes without messages to the same member having to wait for it: see `courtesy`.
//!
//! Both ends say [`Kind::Wait`] while they are busy, so silence means that the other end is gone.
//!
//! **Invariant:** a file is written only below the directory that the user named, whatever the sender calls it.

mod courtesy;
mod offer;
mod places;
mod source;
mod staging;
mod talk;

pub use offer::{Offer, Offered};
pub(crate) use places::Places;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use consensus::NodeId;
use tokio::time::Instant;

use self::courtesy::Measured;
use self::source::{Reading, Source};
use self::staging::Staging;
use self::talk::{Lost, Talk};
use crate::dial::{self, Failure, Open};
use crate::error::BulkError;
use crate::frame::{self, Kind};
use crate::handshake::Purpose;
use crate::link::Link;
use crate::shared::Shared;

/// Bytes of a piece, at most.
const PIECE: usize = 1 << 20;

/// Bytes of a piece, at least: smaller ones cost more than they smooth.
const PIECE_MIN: usize = 16 << 10;

/// Index, offset.
const PIECE_HEADER: usize = 4 + 8;

/// What becomes of a transfer, as its receiver tells.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused(String),
    /// Something was damaged on the way; trying again helps.
    Again(String),
}

impl Verdict {
    fn put(&self, out: &mut Vec<u8>) {
        let (code, text) = match self {
            Verdict::Taken => (0, ""),
            Verdict::Refused(text) => (1, text.as_str()),
            Verdict::Again(text) => (2, text.as_str()),
        };
        let text = &text[..text.floor_char_boundary(PIECE_MIN)];
        frame::put(out, Kind::Result, |out| {
            out.put_u8(code);
            out.put_slice(text.as_bytes());
        });
    }

    fn decode(mut payload: Bytes) -> Verdict {
        let code = payload.try_get_u8();
        let text = String::from_utf8_lossy(&payload).into_owned();
        match code {
            Ok(0) => Verdict::Taken,
            Ok(1) => Verdict::Refused(text),
            Ok(_) => Verdict::Again(text),
            Err(_) => Verdict::Again("the peer sent a bad result".to_owned()),
        }
    }
}

/// How an attempt to receive ends early.
enum End {
    /// The sender is told.
    Told(Verdict),
    /// It is gone.
    Lost,
}

fn refused(text: impl Into<String>) -> End {
    End::Told(Verdict::Refused(text.into()))
}

/// Receives one directory.
pub(crate) async fn receive(shared: &Arc<Shared>, from: NodeId, open: Open) {
    let mut talk = Talk::new(open, &shared.limits);
    let verdict = match take_in(shared, from, &mut talk).await {
        Ok(()) => Verdict::Taken,
        Err(End::Told(verdict)) => verdict,
        Err(End::Lost) => return,
    };
    let mut out = Vec::new();
    verdict.put(&mut out);
    talk.finish(&out).await;
}

async fn take_in(shared: &Arc<Shared>, from: NodeId, talk: &mut Talk) -> Result<(), End> {
    let lost = |lost: Lost| match lost {
        Lost::Bad(what) => {
            shared.tell.broken(from, &what);
            End::Told(Verdict::Again(what))
        }
        Lost::Gone(_) => End::Lost,
    };
    let bad = |what: &str| {
        shared.tell.broken(from, what);
        refused(what)
    };
    let frame = talk.next().await.map_err(lost)?;
    if frame.kind != Kind::Offer {
        return Err(bad("a transfer begins with an offer"));
    }
    let offer = Offer::decode(frame.payload, shared.limits.files).map_err(|what| bad(&what))?;
    let dir = shared.handler.receive(from, &offer.header).map_err(refused)?;
    let place = talk
        .during(shared.places.take(dir.clone(), from))
        .await
        .map_err(lost)?
        .map_err(refused)?;
    let (path, files) = (dir.clone(), offer.files);
    let mut staging = blocking(talk, move || Staging::open(path, files))
        .await
        .map_err(lost)??;
    let mut have = Vec::new();
    frame::put(&mut have, Kind::Have, |out| {
        staging.have().iter().for_each(|bytes| out.put_u64(*bytes));
    });
    talk.send(&have).await.map_err(lost)?;
    loop {
        let frame = tokio::select! {
            frame = talk.next() => frame.map_err(lost)?,
            () = place.over() => return Err(refused("a newer transfer took the place of this one")),
        };
        let mut payload = frame.payload;
        staging = match frame.kind {
            Kind::Piece => {
                let (index, offset) = piece_of(&mut payload).ok_or_else(|| bad("a piece is cut short"))?;
                blocking(talk, move || staging.piece(index, offset, &payload)).await
            }
            Kind::End => {
                let index = payload.try_get_u32().map_err(|_| bad("an end is cut short"))?;
                blocking(talk, move || staging.end(index as usize, &payload)).await
            }
            Kind::Done => break,
            _ => return Err(bad("a frame has no place in a transfer")),
        }
        .map_err(lost)??;
    }
    blocking(talk, move || staging.finish()).await.map_err(lost)??;
    // What has arrived is the user's from here on, so a newer transfer cannot end it.
    place.seal();
    let taken = shared.handler.received(from, offer.header, dir);
    talk.during(taken).await.map_err(lost)?.map_err(refused)
}

fn piece_of(payload: &mut Bytes) -> Option<(usize, u64)> {
    Some((payload.try_get_u32().ok()? as usize, payload.try_get_u64().ok()?))
}

/// Does something with files while the other end is told to wait. It runs to its end even if the connection is lost meanwhile.
async fn blocking<T: Send + 'static>(
    talk: &mut Talk,
    work: impl FnOnce() -> Result<T, staging::Problem> + Send + 'static,
) -> Result<Result<T, End>, Lost> {
    let done = talk.during(tokio::task::spawn_blocking(work)).await?;
    Ok(match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(staging::Problem::Damaged(text))) => Err(End::Told(Verdict::Again(text))),
        Ok(Err(staging::Problem::Failed(text))) => Err(refused(text)),
        Err(_) => Err(refused("the receiver failed")),
    })
}

/// Sends one directory.
pub(crate) async fn send(
    shared: &Arc<Shared>,
    to: NodeId,
    header: Bytes,
    dir: &Path,
    bytes_per_second: Option<u64>,
) -> Result<(), BulkError> {
    let address = shared.peers.get(to).and_then(|peer| peer.address());
    let address = address.ok_or_else(|| BulkError::Unreachable {
        to: to.0,
        reason: "no address of it is known".to_owned(),
    })?;
    let (path, most) = (dir.to_owned(), shared.limits.files);
    let source = tokio::task::spawn_blocking(move || Source::scan(&path, most));
    let source = source
        .await
        .map_err(|error| BulkError::Source(error.to_string()))?
        .map_err(BulkError::Source)?;
    let reached = dial::reach(shared, &address, Purpose::Bulk, Some(to)).await;
    let (_, open) = reached.map_err(|failure| match failure {
        Failure::Refused(refusal) | Failure::Unwanted(_, refusal) => BulkError::Refused {
            to: to.0,
            reason: refusal.text,
        },
        other => BulkError::Unreachable {
            to: to.0,
            reason: other.to_string(),
        },
    })?;
    let mut sending = Sending {
        to,
        shared,
        talk: Talk::new(open, &shared.limits),
        pace: Pace::new(bytes_per_second, shared.limits.frame_bytes),
    };
    sending.run(header, source, shared.limits.frame_bytes).await
}

struct Sending<'a> {
    to: NodeId,
    shared: &'a Shared,
    talk: Talk,
    pace: Pace,
}

impl Sending<'_> {
    async fn run(&mut self, header: Bytes, source: Source, longest: usize) -> Result<(), BulkError> {
        let offer = Offer {
            header,
            files: source.files.clone(),
        };
        let mut out = Vec::new();
        offer.put(&mut out);
        if out.len() > longest {
            return Err(BulkError::Source(format!(
                "{} files with a header of {} bytes are too much for one transfer",
                offer.files.len(),
                offer.header.len()
            )));
        }
        self.tell(&out).await?;
        let frame = self.talk.next().await.map_err(|lost| self.lost(lost))?;
        let mut payload = match frame.kind {
            Kind::Have => frame.payload,
            Kind::Result => return self.judged(Verdict::decode(frame.payload)),
            _ => return Err(self.cut("the peer sent something that has no place in a transfer")),
        };
        for (index, file) in offer.files.iter().enumerate() {
            let have = payload.try_get_u64().unwrap_or(u64::MAX);
            if have > file.size {
                return Err(self.cut("the peer has more of a file than there is"));
            }
            self.file(index, source.open(file), have).await?;
        }
        let mut out = Vec::new();
        frame::put(&mut out, Kind::Done, |_| {});
        self.tell(&out).await?;
        let frame = self.talk.next().await.map_err(|lost| self.lost(lost))?;
        match frame.kind {
            Kind::Result => self.judged(Verdict::decode(frame.payload)),
            _ => Err(self.cut("the peer sent something that has no place in a transfer")),
        }
    }

    /// Sends what is missing of a file, and its checksum.
    async fn file(
        &mut self,
        index: usize,
        reading: impl FnOnce(u64) -> Result<Reading, String> + Send + 'static,
        have: u64,
    ) -> Result<(), BulkError> {
        let index = u32::try_from(index).map_err(|_| self.cut("too many files"))?;
        let mut reading = self.blocking(move || reading(have)).await?;
        while !reading.is_at_end() {
            let (offset, most) = (reading.offset(), self.pace.piece());
            let (next, piece) = self.blocking(move || reading.piece(most)).await?;
            reading = next;
            let mut out = Vec::with_capacity(piece.len() + PIECE_HEADER + frame::OVERHEAD);
            frame::put(&mut out, Kind::Piece, |out| {
                out.put_u32(index);
                out.put_u64(offset);
                out.put_slice(&piece);
            });
            let link = self.shared.peers.get(self.to).and_then(|peer| peer.link());
            self.pace.look(link.as_deref());
            let pause = self.pace.take(piece.len());
            self.tell(&out).await?;
            if let Some(until) = pause {
                let sleep = tokio::time::sleep_until(until);
                self.talk.during(sleep).await.map_err(|lost| self.lost(lost))?;
            }
        }
        let mut out = Vec::new();
        frame::put(&mut out, Kind::End, |out| {
            out.put_u32(index);
            out.put_slice(&reading.checksum());
        });
        self.tell(&out).await
    }

    /// Sends, unless the receiver has already made up its mind.
    async fn tell(&mut self, out: &[u8]) -> Result<(), BulkError> {
        match self.talk.send_and_listen(out).await {
            Ok(None) => Ok(()),
            Ok(Some(frame)) if frame.kind == Kind::Result => {
                self.judged(Verdict::decode(frame.payload))?;
                Err(self.cut("the peer was content before everything was sent"))
            }
            Ok(Some(_)) => Err(self.cut("the peer sent something that has no place in a transfer")),
            Err(lost) => Err(self.lost(lost)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, BulkError> {
        let done = self.talk.during(tokio::task::spawn_blocking(work)).await;
        match done.map_err(|lost| self.lost(lost))? {
            Ok(result) => result.map_err(BulkError::Source),
            Err(error) => Err(BulkError::Source(error.to_string())),
        }
    }

    fn judged(&self, verdict: Verdict) -> Result<(), BulkError> {
        match verdict {
            Verdict::Taken => Ok(()),
            Verdict::Refused(reason) => Err(BulkError::Refused {
                to: self.to.0,
                reason,
            }),
            Verdict::Again(reason) => Err(self.cut(&reason)),
        }
    }

    fn lost(&self, lost: Lost) -> BulkError {
        let (Lost::Bad(reason) | Lost::Gone(reason)) = lost;
        self.cut(&reason)
    }

    fn cut(&self, reason: &str) -> BulkError {
        BulkError::Cut {
            to: self.to.0,
            reason: reason.to_owned(),
        }
    }
}

/// Keeps the rate that was asked for, and the one that leaves messages their way.
struct Pace {
    bytes_per_second: Option<u64>,
    longest: usize,
    started: Instant,
    sent: u64,
    measured: Measured,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>, longest: usize) -> Pace {
        let now = Instant::now();
        Pace {
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
            longest: PIECE.min(longest.saturating_sub(PIECE_HEADER)).max(1),
            started: now,
            sent: 0,
            measured: Measured::new(now),
        }
    }

    /// Looks how messages fare on the connection that carries them, if there is one.
    fn look(&mut self, link: Option<&Link>) {
        match link {
            Some(link) => self.measured.look(link, Instant::now()),
            None => self.measured.forget(),
        }
    }

    /// Bytes of the next piece.
    fn piece(&self) -> usize {
        let asked = self.bytes_per_second.map_or(f64::INFINITY, |rate| rate as f64);
        let rate = self.measured.rate().map_or(asked, |rate| rate.min(asked));
        // Four times a second at least something goes, so a low rate is no row of bursts.
        let smooth = if rate < (4 * PIECE) as f64 {
            (rate / 4.0) as usize
        } else {
            PIECE
        };
        self.longest.min(smooth.max(PIECE_MIN))
    }

    /// Notes what goes now; when the next piece may go, if there is a rate.
    fn take(&mut self, bytes: usize) -> Option<Instant> {
        self.sent += bytes as u64;
        let courteous = self.measured.take(bytes, Instant::now());
        let asked = self
            .bytes_per_second
            .map(|rate| self.started + Duration::from_secs_f64(self.sent as f64 / rate as f64));
        courteous.max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_is_kept_and_pieces_are_fit_for_it() {
        let mut slow = Pace::new(Some(400 << 10), 32 << 20);
        assert_eq!(slow.piece(), 100 << 10);
        let started = slow.started;
        let due: Vec<Duration> = (0..3)
            .filter_map(|_| slow.take(100 << 10))
            .map(|until| until - started)
            .collect();
        assert_eq!(due, [250, 500, 750].map(Duration::from_millis));
        let mut free = Pace::new(None, 32 << 20);
        assert_eq!((free.piece(), free.take(5)), (PIECE, None));
        assert_eq!(Pace::new(Some(1), 32 << 20).piece(), PIECE_MIN);
        assert_eq!(Pace::new(None, 4096).piece(), 4096 - PIECE_HEADER);
    }

    #[test]
    fn verdicts_are_read_as_written() {
        for verdict in [
            Verdict::Taken,
            Verdict::Refused("no".to_owned()),
            Verdict::Again("once more".to_owned()),
        ] {
            let mut out = Vec::new();
            verdict.put(&mut out);
            let frame = frame::take(&mut out[..].into(), 1024).unwrap().unwrap();
            assert_eq!(Verdict::decode(frame.payload), verdict);
        }
    }
}
