//! The records of a log: how they are written, and what of a file is whole.

use std::collections::VecDeque;

use bytes::{Buf as _, BufMut as _, Bytes};
use consensus::{Configuration, Entry, HardState, Index, Position, Snapshot, Term};

/// What a log begins with.
pub(super) const MAGIC: &[u8; 8] = b"QULOG\x00\x01\n";
/// A record that is longer is damage: commands are bounded by the frame they come in.
const RECORD_MAX: usize = 64 << 20;
const HEADER: usize = 8;

/// What the log begins after; the first record.
pub(super) const KIND_BASE: u8 = 1;
/// An entry.
pub(super) const KIND_ENTRY: u8 = 2;
/// Vote, term and life.
pub(super) const KIND_HARD_STATE: u8 = 3;

/// Appends one.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let mut content = vec![kind];
    body(&mut content);
    out.put_u32(u32::try_from(content.len()).expect("entries are bounded by the frame they come in"));
    out.put_u32(crc32c::crc32c(&content));
    out.extend(content);
}

/// Removes whatever lies at or above an index.
pub(super) fn cut(entries: &mut VecDeque<Entry>, from: Index) {
    while entries.back().is_some_and(|entry| entry.index >= from) {
        entries.pop_back();
    }
}

/// What a log begins after.
pub(super) fn encode_snapshot(out: &mut Vec<u8>, snapshot: &Snapshot) {
    out.put_u64(snapshot.position.index);
    out.put_u64(snapshot.position.term.0);
    let configuration = snapshot.configuration.encode();
    out.put_u32(configuration.len() as u32);
    out.extend(configuration);
}

fn decode_snapshot(bytes: &mut Bytes) -> Result<Snapshot, String> {
    let short = |_| "cut off".to_owned();
    let index = bytes.try_get_u64().map_err(short)?;
    let term = Term(bytes.try_get_u64().map_err(short)?);
    let length = bytes.try_get_u32().map_err(short)? as usize;
    if bytes.len() < length {
        return Err("cut off".to_owned());
    }
    let configuration = Configuration::decode(bytes.split_to(length)).map_err(|error| error.to_string())?;
    Ok(Snapshot {
        position: Position { term, index },
        configuration,
    })
}

/// What a log holds.
pub(super) struct ReadLog {
    pub(super) base: Snapshot,
    pub(super) entries: VecDeque<Entry>,
    pub(super) hard_state: HardState,
    /// Bytes of whole records; what follows is the beginning of an append that was cut off.
    pub(super) length: u64,
}

/// What cannot be, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) at: u64,
    pub(super) what: String,
}

/// Reads all that is whole.
pub(super) fn read_log(content: &[u8]) -> Result<ReadLog, Wrong> {
    let wrong = |at: usize, what: String| Wrong { at: at as u64, what };
    let Some(mut rest) = content.strip_prefix(MAGIC) else {
        return Err(wrong(0, "it does not begin like a log".to_owned()));
    };
    let (mut base, mut hard_state): (Option<Snapshot>, _) = (None, None);
    let mut entries: VecDeque<Entry> = VecDeque::new();
    while !rest.is_empty() {
        let at = content.len() - rest.len();
        let Some((kind, body, after)) = next_record(rest) else {
            // Whole records behind it would mean that it was not the last append that was cut off.
            if followed_by_record(rest) {
                let what = "a record is wrong, and whole ones follow".to_owned();
                return Err(wrong(at, what));
            }
            break;
        };
        let mut body = Bytes::copy_from_slice(body);
        match (kind, &base) {
            (KIND_BASE, None) => base = Some(decode_snapshot(&mut body).map_err(|what| wrong(at, what))?),
            (KIND_ENTRY, Some(base)) => {
                let read = body.try_get_u64().map_err(|error| error.to_string());
                let read =
                    read.and_then(|index| Entry::decode(index, &mut body).map_err(|error| error.to_string()));
                let entry = read.map_err(|error| wrong(at, format!("an entry: {error}")))?;
                cut(&mut entries, entry.index);
                let before = entries.back().map_or(base.position.index, |entry| entry.index);
                if before + 1 != entry.index {
                    let what = format!("entry {} comes after entry {before}", entry.index);
                    return Err(wrong(at, what));
                }
                entries.push_back(entry);
            }
            (KIND_HARD_STATE, _) => {
                let read = HardState::decode(&body);
                hard_state = Some(read.ok_or_else(|| wrong(at, "the hard state is wrong".to_owned()))?);
            }
            (kind, _) => return Err(wrong(at, format!("a record of kind {kind} is not expected"))),
        }
        rest = after;
    }
    let length = content.len() - rest.len();
    Ok(ReadLog {
        base: base.ok_or_else(|| wrong(length, "it does not say where it begins".to_owned()))?,
        entries,
        hard_state: hard_state.ok_or_else(|| wrong(length, "it holds no hard state".to_owned()))?,
        length: length as u64,
    })
}

fn next_record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (mut length, mut checksum) = header.split_at(4);
    let (length, checksum) = (length.get_u32() as usize, checksum.get_u32());
    if length == 0 || length > RECORD_MAX {
        return None;
    }
    let (content, after) = rest.split_at_checked(length)?;
    if crc32c::crc32c(content) != checksum {
        return None;
    }
    Some((content[0], &content[1..], after))
}

/// Whether a right record begins anywhere behind the first byte of a wrong one.
fn followed_by_record(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|offset| next_record(&bytes[offset..]).is_some())
}
