//! Entries of the log and how they lie on disk: `index, term, kind, length, payload, CRC-32C`, big-endian, the checksum over all
//! before it.
//!
//! An entry is either wholly there or an error that says whether it was *torn* (the end of the data came before the end that the
//! header promises, as after a crash in the middle of the last write) or *corrupt*. Only the user of the log knows whether a torn
//! entry is the last one and was never acknowledged; nothing here drops anything.

use bytes::{Buf, BufMut, Bytes};

use crate::types::{Index, Position, Term};

/// What an entry carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of the user.
    Command = 1,
    /// Nothing: the first entry of a leader, which lets it commit what earlier ones left.
    Blank = 2,
    /// A [`crate::Configuration`], in force from this entry on.
    Configuration = 3,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Position, from 1.
    pub index: Index,
    /// Term of the leader that appended it.
    pub term: Term,
    /// What the payload is.
    pub kind: Kind,
    /// The content.
    pub payload: Bytes,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The data ends before the entry does.
    #[error("torn")]
    Torn,
    /// The checksum does not fit.
    #[error("checksum")]
    Checksum,
    /// The checksum fits, but no such kind of entry exists: it was written by something newer.
    #[error("kind")]
    Kind,
    /// It is an entry, but not the one that belongs here.
    #[error("index")]
    Index,
}

const HEADER: usize = 8 + 8 + 1 + 4;
const CHECKSUM: usize = 4;

impl Entry {
    /// Where it lies and from which term it is.
    pub fn position(&self) -> Position {
        Position {
            term: self.term,
            index: self.index,
        }
    }

    /// Bytes that it takes on disk, and nearly so on the wire.
    pub fn size(&self) -> usize {
        HEADER + self.payload.len() + CHECKSUM
    }

    /// Appends the encoded entry to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.size());
        out.put_u64(self.index);
        out.put_u64(self.term.0);
        out.put_u8(self.kind as u8);
        out.put_u32(u32::try_from(self.payload.len()).expect("a proposal is far below 4 GiB"));
        out.put_slice(&self.payload);
        let checksum = crc32c::crc32c(&out[start..]);
        out.put_u32(checksum);
    }

    /// Takes one entry off the front of `bytes`; it must be the one at `index`.
    pub fn decode(index: Index, bytes: &mut Bytes) -> Result<Entry, DecodeError> {
        if bytes.len() < HEADER + CHECKSUM {
            return Err(DecodeError::Torn);
        }
        let mut header = &bytes[..HEADER];
        let (found, term) = (header.get_u64(), Term(header.get_u64()));
        let (kind, length) = (header.get_u8(), header.get_u32() as usize);
        let end = HEADER + length;
        if bytes.len() < end + CHECKSUM {
            return Err(DecodeError::Torn);
        }
        if crc32c::crc32c(&bytes[..end]) != (&bytes[end..]).get_u32() {
            return Err(DecodeError::Checksum);
        }
        let kind = match kind {
            1 => Kind::Command,
            2 => Kind::Blank,
            3 => Kind::Configuration,
            _ => return Err(DecodeError::Kind),
        };
        if found != index {
            return Err(DecodeError::Index);
        }
        let payload = bytes.slice(HEADER..end);
        bytes.advance(end + CHECKSUM);
        Ok(Entry {
            index,
            term,
            kind,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: Index) -> Entry {
        Entry {
            index,
            term: Term(3),
            kind: Kind::Command,
            payload: Bytes::from(format!("command {index}")),
        }
    }

    #[test]
    fn entries_follow_each_other() {
        let mut out = Vec::new();
        (7..10).for_each(|index| entry(index).encode(&mut out));
        let mut bytes = Bytes::from(out);
        for index in 7..10 {
            assert_eq!(Entry::decode(index, &mut bytes), Ok(entry(index)));
        }
        assert_eq!(Entry::decode(10, &mut bytes), Err(DecodeError::Torn));
    }

    #[test]
    fn any_flipped_byte_and_any_missing_end_is_noticed() {
        let mut out = Vec::new();
        entry(7).encode(&mut out);
        for position in 0..out.len() {
            let mut damaged = out.clone();
            damaged[position] ^= 0x20;
            assert!(Entry::decode(7, &mut damaged.into()).is_err(), "byte {position}");
            let mut cut = Bytes::copy_from_slice(&out[..position]);
            assert_eq!(
                Entry::decode(7, &mut cut),
                Err(DecodeError::Torn),
                "cut at {position}"
            );
        }
        assert_eq!(Entry::decode(8, &mut out.into()), Err(DecodeError::Index));
    }

    /// The layout is an interface: logs written by an earlier release are read by a later one.
    #[test]
    fn the_layout_is_pinned() {
        let mut out = Vec::new();
        Entry {
            index: 1,
            term: Term(2),
            kind: Kind::Command,
            payload: Bytes::from_static(b"x"),
        }
        .encode(&mut out);
        let mut expected = vec![
            0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 1, b'x',
        ];
        expected.put_u32(crc32c::crc32c(&expected));
        assert_eq!(out, expected);
    }
}
