//! Frames, of which everything between members consists: `length of the payload, kind, payload, CRC-32C over all before it`.
//!
//! TCP's own checksum misses one damaged packet in some ten thousands, and a damaged vote is not a vote.
//!
//! **Invariant:** memory for a frame grows with the bytes that have arrived, not with the length that it announces.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

/// Length and kind before the payload.
const HEADER: usize = 4 + 1;

/// The checksum behind it.
const TRAILER: usize = 4;

/// What a frame takes beside its payload.
pub const OVERHEAD: usize = HEADER + TRAILER;

/// Read at once, at least.
const READ_MIN: usize = 16 << 10;

/// Whoever does not look for one part in so many of a frame's time was busy. Those who wait look again and again in far less.
const AWAY: u32 = 4;

/// Room made ahead of a long frame, at most.
const READ_MAX: usize = 1 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The dialling end introduces itself.
    Hello = 1,
    /// The accepting end does.
    Welcome = 2,
    /// Either end does not want the other.
    Refused = 3,
    /// The dialling end takes the connection into use.
    Start = 4,
    /// A number to be sent back.
    Ping = 5,
    /// The number.
    Pong = 6,
    /// Raft messages, one after the other.
    Messages = 7,
    /// A number, a kind, a body.
    Request = 8,
    /// The number, whether it went well, a body or a text.
    Answer = 9,
    /// A directory: its header and its files.
    Offer = 10,
    /// How much of each file is there.
    Have = 11,
    /// A part of a file.
    Piece = 12,
    /// The checksum of a whole file.
    End = 13,
    /// All files are told.
    Done = 14,
    /// What became of the directory.
    Result = 15,
    /// Somebody is still at work.
    Wait = 16,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        const ALL: [Kind; 16] = [
            Kind::Hello,
            Kind::Welcome,
            Kind::Refused,
            Kind::Start,
            Kind::Ping,
            Kind::Pong,
            Kind::Messages,
            Kind::Request,
            Kind::Answer,
            Kind::Offer,
            Kind::Have,
            Kind::Piece,
            Kind::End,
            Kind::Done,
            Kind::Result,
            Kind::Wait,
        ];
        ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// What it carries.
    pub payload: Bytes,
}

/// Why bytes are not frames. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than is wanted at this point.
    #[error("a frame of {length} bytes, at most {max} are taken")]
    TooLong {
        /// Announced.
        length: usize,
        /// Taken.
        max: usize,
    },
    /// Damaged on the way.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// Unknown.
    #[error("no kind of frame has the number {0}")]
    Kind(u8),
}

/// Appends a frame to `out` whose payload `write` appends.
pub fn put(out: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind as u8);
    write(out);
    let length = u32::try_from(out.len() - start - HEADER).expect("payloads are bounded by the limits");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&out[start..]);
    out.put_u32(checksum);
}

/// Takes a frame off the front of `buffer`; nothing if it is not whole yet.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < HEADER {
        return Ok(None);
    }
    let length = (&buffer[..4]).get_u32() as usize;
    if length > max {
        return Err(FrameError::TooLong { length, max });
    }
    // Told before the rest has come: an end that speaks something else gets its answer at once.
    let kind = Kind::of(buffer[4]).ok_or(FrameError::Kind(buffer[4]))?;
    let end = HEADER + length;
    if buffer.len() < end + TRAILER {
        return Ok(None);
    }
    if crc32c::crc32c(&buffer[..end]) != (&buffer[end..end + TRAILER]).get_u32() {
        return Err(FrameError::Checksum);
    }
    let mut frame = buffer.split_to(end + TRAILER).freeze();
    frame.truncate(end);
    frame.advance(HEADER);
    Ok(Some(Frame { kind, payload: frame }))
}

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What came is not ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection broke; also when TLS failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other end closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// Not a byte for too long.
    #[error("timeout: nothing heard for {0:?}")]
    Silence(Duration),
    /// Bytes come, and the frame does not.
    #[error("timeout: a frame was not whole after {0:?}")]
    Slow(Duration),
    /// Too many bytes of frames that are not whole are kept already.
    #[error("too many long frames are under way at once")]
    Crowded,
}

/// Bytes of unfinished frames that several connections may keep together.
#[derive(Debug)]
pub struct Partial {
    kept: AtomicUsize,
    most: usize,
}

impl Partial {
    /// At most `most` bytes.
    pub fn new(most: usize) -> Arc<Partial> {
        Arc::new(Partial {
            kept: AtomicUsize::new(0),
            most,
        })
    }

    /// Bytes kept now.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

/// The part of one connection.
#[derive(Debug)]
struct Share {
    of: Arc<Partial>,
    bytes: usize,
}

impl Share {
    /// False if that is too much for all together.
    fn set(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes <= before {
            self.of.kept.fetch_sub(before - bytes, Ordering::Relaxed);
            return true;
        }
        let more = bytes - before;
        self.of
            .kept
            .fetch_add(more, Ordering::Relaxed)
            .saturating_add(more)
            <= self.of.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Reads frames. [`Reader::next`] may be dropped half-way; nothing is lost.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    buffer: BytesMut,
    /// Payloads are at most this long.
    max: usize,
    silence_max: Duration,
    heard: Instant,
    frame_timeout: Option<Duration>,
    /// When the first bytes of the frame under way came.
    begun: Option<Instant>,
    /// When somebody last waited for bytes.
    looked: Instant,
    share: Option<Share>,
    received: u64,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `io`, which has nothing yet.
    pub fn new(io: R, max: usize, silence_max: Duration) -> Reader<R> {
        Reader {
            io,
            buffer: BytesMut::new(),
            max,
            silence_max,
            heard: Instant::now(),
            frame_timeout: None,
            begun: None,
            looked: Instant::now(),
            share: None,
            received: 0,
        }
    }

    /// From now on longer or shorter ones are taken.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Another bound for silence, which is the other end's business from now on.
    pub fn set_silence_max(&mut self, silence_max: Duration) {
        self.silence_max = silence_max;
        self.heard = Instant::now();
    }

    /// From now on a frame must be whole so soon after its first bytes.
    pub fn set_frame_timeout(&mut self, timeout: Duration) {
        self.frame_timeout = Some(timeout);
    }

    /// From now on what is kept of unfinished frames counts there.
    pub fn set_partial(&mut self, partial: Arc<Partial>) {
        self.share = Some(Share {
            of: partial,
            bytes: 0,
        });
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = take(&mut self.buffer, self.max)? {
                self.begun = None;
                return Ok(frame);
            }
            self.note_partial()?;
            self.fill().await?;
        }
    }

    /// What is in the buffer is the beginning of a frame.
    fn note_partial(&mut self) -> Result<(), ReadError> {
        if !self.buffer.is_empty() && self.begun.is_none() {
            self.begun = Some(Instant::now());
        }
        if let Some(share) = &mut self.share
            && !share.set(self.buffer.len())
        {
            return Err(ReadError::Crowded);
        }
        Ok(())
    }

    /// The next `N` bytes, which are no frame.
    pub async fn exactly<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        while self.buffer.len() < N {
            self.fill().await?;
        }
        let mut bytes = [0; N];
        self.buffer.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    /// The time in which nobody looked, because this end was busy, is not the other end's.
    fn forgive(&mut self) {
        let now = Instant::now();
        let away = now - self.looked;
        if let (Some(begun), Some(most)) = (&mut self.begun, self.frame_timeout)
            && away > most / AWAY
        {
            *begun += away;
        }
        self.looked = now;
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.forgive();
        self.buffer.reserve(self.wanted());
        // If bytes wait, they are read before the time is looked at: they may have come while nobody looked.
        let read = self.io.read_buf(&mut self.buffer);
        let silent = self.heard + self.silence_max;
        let slow = self
            .begun
            .zip(self.frame_timeout)
            .map(|(begun, most)| begun + most);
        match tokio::time::timeout_at(slow.map_or(silent, |slow| slow.min(silent)), read).await {
            Ok(Ok(0)) => Err(ReadError::Closed),
            Ok(Ok(bytes)) => {
                self.heard = Instant::now();
                self.looked = self.heard;
                self.received += bytes as u64;
                Ok(())
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(match self.frame_timeout {
                Some(most) if slow.is_some_and(|slow| slow < silent) => ReadError::Slow(most),
                _ => ReadError::Silence(self.silence_max),
            }),
        }
    }

    /// Room to make: what is missing of the frame under way, in steps.
    fn wanted(&self) -> usize {
        let missing = match self.buffer.get(..4) {
            Some(mut length) => (length.get_u32() as usize + OVERHEAD).saturating_sub(self.buffer.len()),
            None => 0,
        };
        // Whoever may only send short frames gets no more room than they take.
        let least = READ_MIN.min(self.max + OVERHEAD);
        missing.clamp(least, READ_MAX)
    }

    /// What it has read ahead, and what it reads from.
    pub fn into_parts(self) -> (Bytes, R) {
        (self.buffer.freeze(), self.io)
    }

    /// What it reads from, without what it has read ahead.
    pub fn into_inner(self) -> R {
        self.io
    }

    /// Bytes received since this was asked last.
    pub fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn ping() -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, Kind::Ping, |out| out.put_u64(7));
        out
    }

    #[test]
    fn frames_are_taken_one_by_one_as_they_arrive() {
        let mut bytes = ping();
        put(&mut bytes, Kind::Wait, |_| {});
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in bytes {
            buffer.put_u8(byte);
            frames.extend(take(&mut buffer, 8).unwrap());
        }
        let kinds: Vec<Kind> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Ping, Kind::Wait]);
        assert_eq!(&frames[0].payload[..], 7u64.to_be_bytes());
        assert!(buffer.is_empty());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for position in 0..ping().len() {
            for bit in 0..8 {
                let mut damaged = BytesMut::from(&ping()[..]);
                damaged[position] ^= 1 << bit;
                // A longer length makes it wait for more, which the silence ends.
                assert!(
                    !matches!(take(&mut damaged, 1 << 20), Ok(Some(_))),
                    "{position}.{bit}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_first_bytes() {
        let mut start = BytesMut::from(&[0, 0, 4, 1, Kind::Ping as u8][..]);
        assert_eq!(
            take(&mut start, 1024),
            Err(FrameError::TooLong {
                length: 1025,
                max: 1024
            })
        );
    }

    /// The beginning of a frame of 1000 bytes.
    fn beginning(bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, Kind::Messages, |out| out.extend_from_slice(&[7; 1000]));
        out.truncate(bytes);
        out
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_frame_that_does_not_become_whole_ends_although_its_bytes_trickle_in() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut reader = Reader::new(near, 1 << 20, LONG);
        reader.set_frame_timeout(Duration::from_millis(50));
        let trickle = async {
            for byte in beginning(1000) {
                far.write_u8(byte).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            read = reader.next() => assert!(matches!(read, Err(ReadError::Slow(_))), "{read:?}"),
            () = trickle => unreachable!("it never ends"),
        }
    }

    #[tokio::test]
    async fn the_time_of_a_frame_begins_with_its_first_byte() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut reader = Reader::new(near, 1 << 20, Duration::from_millis(50));
        reader.set_frame_timeout(Duration::from_millis(1));
        let read = reader.next().await;
        assert!(matches!(read, Err(ReadError::Silence(_))), "{read:?}");
        // Several at once are there when they are asked for.
        far.write_all(&[ping(), ping(), ping()].concat()).await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert_eq!(reader.next().await.unwrap().kind, Kind::Ping);
        }
    }

    #[tokio::test]
    async fn the_time_in_which_nobody_reads_is_not_held_against_the_peer() {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut reader = Reader::new(near, 1 << 20, LONG);
        reader.set_frame_timeout(Duration::from_millis(40));
        far.write_all(&beginning(500)).await.unwrap();
        {
            let mut next = std::pin::pin!(reader.next());
            assert!(futures::poll!(&mut next).is_pending());
        }
        tokio::time::sleep(Duration::from_millis(80)).await;
        {
            let mut next = std::pin::pin!(reader.next());
            assert!(futures::poll!(&mut next).is_pending());
        }
        far.write_all(&beginning(usize::MAX)[500..]).await.unwrap();
        assert_eq!(reader.next().await.unwrap().kind, Kind::Messages);
    }

    #[tokio::test]
    async fn connections_share_what_they_may_keep_of_unfinished_frames() {
        let partial = Partial::new(1000);
        let mut ends = Vec::new();
        for bytes in [600, 300, 200] {
            let (near, mut far) = tokio::io::duplex(4096);
            let mut reader = Reader::new(near, 1 << 20, LONG);
            reader.set_partial(partial.clone());
            far.write_all(&beginning(bytes)).await.unwrap();
            ends.push((reader, far));
        }
        for (reader, _) in &mut ends[..2] {
            let mut next = std::pin::pin!(reader.next());
            assert!(futures::poll!(&mut next).is_pending());
        }
        assert_eq!(partial.kept(), 900);
        let crowded = ends[2].0.next().await;
        assert!(matches!(crowded, Err(ReadError::Crowded)), "{crowded:?}");
        ends.pop();
        let whole = beginning(usize::MAX);
        let (reader, far) = &mut ends[0];
        far.write_all(&whole[600..]).await.unwrap();
        // It is 1009 bytes, but it is whole when it is looked at.
        assert_eq!(reader.next().await.unwrap().kind, Kind::Messages);
        {
            let mut next = std::pin::pin!(reader.next());
            assert!(futures::poll!(&mut next).is_pending());
        }
        assert_eq!(partial.kept(), 300);
        ends.clear();
        assert_eq!(partial.kept(), 0);
    }

    #[test]
    fn every_kind_has_its_number() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|byte| Kind::of(*byte).is_some()).collect();
        assert_eq!(known, (1..=16).collect::<Vec<u8>>());
        assert!(
            known
                .iter()
                .all(|byte| Kind::of(*byte).map(|kind| kind as u8) == Some(*byte))
        );
    }
}
