//! The format that RocksDB's write-ahead logs and manifests share, read more strictly than RocksDB reads it.
//!
//! RocksDB takes whatever looks like the beginning of a record for one that a crash cut short, and drops it with all that comes
//! after it without a word. One damaged bit in the length of a record, or in its type, is enough for that. So the files are
//! read here before RocksDB gets them, and a record counts as cut short only if the file ends where one that was being written
//! would end: a record that is whole when its length is left out of account was not cut short but damaged.
//!
//! The format is that of `db/log_format.h`: blocks of 32 KiB; in each, records of a checksum (4 bytes), a length (2 bytes, the
//! lower first), a type (1 byte) and the data. The checksum covers type and data. What fits into no block is cut into a first,
//! middle and last piece. The end of a block that has no room for a header is zeros.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Remarks of RocksDB about user timestamps and about the file before; they are whole and carry no data of ours.
const REMARKS: [u8; 2] = [10, 130];

/// A place that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Bytes from the beginning of the file.
    pub(crate) at: u64,
    /// What is wrong there.
    pub(crate) reason: &'static str,
}

/// What a file holds beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// In the order of the file.
    pub(crate) damage: Vec<Damage>,
    /// Bytes at the end that belong to a record that does not end.
    pub(crate) torn: u64,
}

/// Reads the file at `path` and gives `each` the data of every whole record, also of those behind damage.
pub(crate) fn read(path: &Path, each: &mut dyn FnMut(&[u8])) -> io::Result<Findings> {
    let mut file = File::open(path)?;
    let mut reader = Reader {
        each,
        findings: Findings::default(),
        pending: None,
        room: None,
    };
    let mut block = vec![0; BLOCK];
    let mut start = 0;
    loop {
        let length = fill(&mut file, &mut block)?;
        reader.block(start, &block[..length]);
        start += length as u64;
        if length < BLOCK {
            break;
        }
    }
    if let Some((at, _)) = reader.pending {
        reader.findings.torn = start - at;
    }
    Ok(reader.findings)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

struct Reader<'a> {
    each: &'a mut dyn FnMut(&[u8]),
    findings: Findings,
    /// Pieces of a record that has not ended yet, and where it began.
    pending: Option<(u64, Vec<u8>)>,
    /// Where zeros began. A file may end with them: room for records that were never written.
    room: Option<u64>,
}

impl Reader<'_> {
    fn damage(&mut self, at: u64, reason: &'static str) {
        self.findings.damage.push(Damage { at, reason });
    }

    /// Takes the block that begins at `start`. Only the last one of a file is shorter than [`BLOCK`].
    fn block(&mut self, start: u64, block: &[u8]) {
        let mut at = 0;
        while at < block.len() {
            let rest = &block[at..];
            let here = start + at as u64;
            if rest.len() < HEADER {
                // Nothing is ever in the rest of a whole block; RocksDB does not look at it either.
                if block.len() < BLOCK && !is_zero(rest) {
                    self.pending.get_or_insert((here, Vec::new()));
                }
                return;
            }
            let next = if is_zero(&rest[..HEADER]) {
                self.room.get_or_insert(here);
                self.behind_room(rest)
            } else {
                self.no_room();
                match whole(rest) {
                    Some(size) => {
                        self.record(here, rest[6], &rest[HEADER..size]);
                        Some(size)
                    }
                    None => self.not_whole(here, rest, block.len() < BLOCK),
                }
            };
            match next {
                Some(next) => at += next,
                None => return,
            }
        }
    }

    /// Where in `rest`, which begins with zeros, a record is after all.
    fn behind_room(&mut self, rest: &[u8]) -> Option<usize> {
        let more = rest.iter().position(|byte| *byte != 0)?;
        self.no_room();
        let begins = |skip: &usize| {
            let rest = &rest[*skip..];
            rest.len() >= HEADER && (FULL..=LAST).contains(&rest[6]) && whole(rest).is_some()
        };
        (more..rest.len()).find(begins)
    }

    /// Something follows the zeros, so that they were not room.
    fn no_room(&mut self) {
        if let Some(at) = self.room.take() {
            self.pending = None;
            self.damage(at, "zeros in place of records");
        }
    }

    /// Judges a place where no whole record is; where the next one begins, if that can be told.
    fn not_whole(&mut self, here: u64, rest: &[u8], last_block: bool) -> Option<usize> {
        // The checksum tells where a record ends whose length is damaged. That it fits by chance is as good as ruled out by
        // what must follow.
        let size = size_by_checksum(rest);
        if let Some(size) = size {
            self.damage(here, "length");
            self.record(here, rest[6], &rest[HEADER..size]);
            return Some(size);
        }
        let size = HEADER + length(rest);
        if size > rest.len() && last_block {
            self.pending.get_or_insert((here, Vec::new()));
            return None;
        }
        self.pending = None;
        if size > rest.len() {
            self.damage(here, "length");
            return None;
        }
        self.damage(here, "checksum");
        ends_well(&rest[size..]).then_some(size)
    }

    /// Takes a record, or piece of one, with the right checksum.
    fn record(&mut self, here: u64, kind: u8, data: &[u8]) {
        let open = self.pending.take();
        match (kind, open) {
            (FULL, None) => (self.each)(data),
            (FIRST, None) => self.pending = Some((here, data.to_vec())),
            (FULL | FIRST, Some((at, _))) => {
                self.damage(at, "no end of the record");
                self.record(here, kind, data);
            }
            (MIDDLE, Some((at, mut pieces))) => {
                pieces.extend_from_slice(data);
                self.pending = Some((at, pieces));
            }
            (LAST, Some((_, mut pieces))) => {
                pieces.extend_from_slice(data);
                (self.each)(&pieces);
            }
            (MIDDLE | LAST, None) => {
                // What lost its beginning to damage that was told already is not told again.
                if self.findings.damage.is_empty() {
                    self.damage(here, "no beginning of the record");
                }
            }
            (kind, open) if REMARKS.contains(&kind) => self.pending = open,
            _ => self.damage(here, "type"),
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn length(record: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([record[4], record[5]]))
}

/// Size of the record at the beginning of `rest`, header included, if it is whole and its checksum fits.
fn whole(rest: &[u8]) -> Option<usize> {
    if rest.len() < HEADER {
        return None;
    }
    let size = HEADER + length(rest);
    (size <= rest.len() && checksum(rest) == masked(crc32c::crc32c(&rest[6..size]))).then_some(size)
}

/// The same, whatever the length in the header says: if some other length makes the checksum fit and something sensible follows.
fn size_by_checksum(rest: &[u8]) -> Option<usize> {
    let wanted = checksum(rest);
    let mut sum = crc32c::crc32c(&rest[6..HEADER]);
    for size in HEADER..=rest.len() {
        if size > HEADER {
            sum = crc32c::crc32c_append(sum, &rest[size - 1..size]);
        }
        if masked(sum) == wanted && ends_well(&rest[size..]) {
            return Some(size);
        }
    }
    None
}

/// True if this can follow a record in a block: nothing, zeros, another record, or the beginning of one.
fn ends_well(rest: &[u8]) -> bool {
    let cut_short = |rest: &[u8]| HEADER + length(rest) > rest.len() && (FULL..=LAST).contains(&rest[6]);
    rest.len() < HEADER || is_zero(&rest[..HEADER]) || whole(rest).is_some() || cut_short(rest)
}

fn checksum(record: &[u8]) -> u32 {
    u32::from_le_bytes([record[0], record[1], record[2], record[3]])
}

/// As RocksDB writes a CRC-32C (`util/crc32c.h`): one that is part of the data would weaken the one over it.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Writes records in this format, each whole.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends one record.
    pub(crate) fn append(&mut self, mut data: &[u8]) {
        let mut first = true;
        loop {
            let mut room = BLOCK - self.bytes.len() % BLOCK;
            if room < HEADER {
                self.bytes.resize(self.bytes.len() + room, 0);
                room = BLOCK;
            }
            let (piece, rest) = data.split_at(data.len().min(room - HEADER));
            let kind = match (first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let sum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), piece);
            self.bytes.extend_from_slice(&masked(sum).to_le_bytes());
            self.bytes.extend_from_slice(&(piece.len() as u16).to_le_bytes());
            self.bytes.push(kind);
            self.bytes.extend_from_slice(piece);
            (first, data) = (false, rest);
            if data.is_empty() {
                return;
            }
        }
    }

    /// The content of the file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
