//! What a crash left half written at the end of a write-ahead log.
//!
//! RocksDB drops the beginning of a record that the file ends in the middle of, as nobody was told that it was written, and it says
//! nothing of it in the mode we open it in. An operator wants to know, so the ends of the files are looked at before the database
//! is opened. Nothing here decides: what is damaged in another way is RocksDB's to judge.
//!
//! The format is that of `db/log_format.h`: blocks of 32 KiB; in each, records of a checksum (4 bytes), a length (2 bytes, the
//! lower first), a type (1 byte) and the data. A record that fits into no block is cut into a first, middle and last piece. The
//! end of a block that has no room for a header is zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const BLOCK: u64 = 32 << 10;
const HEADER: usize = 7;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A write that the end of a file cuts short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornWrite {
    /// Name of the file in the database directory.
    pub file: String,
    /// How much of the write is there.
    pub bytes: u64,
}

/// The torn writes of a database directory that is about to be opened. What cannot be read is left out: opening will tell.
pub(crate) fn find(dir: &Path) -> Vec<TornWrite> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<TornWrite> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let number = file.strip_suffix(".log")?;
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let bytes = torn_bytes(&entry.path()).ok().filter(|bytes| *bytes > 0)?;
            Some(TornWrite { file, bytes })
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

/// How one block ends.
#[derive(Clone, Copy)]
enum End {
    /// With a whole record.
    Whole,
    /// Inside a record that begins at this place in the block.
    Inside(u64),
    /// Inside a record that begins in an earlier block.
    InsideEarlier,
}

/// How many bytes at the end of the file belong to a record that does not end.
fn torn_bytes(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let Some(last) = length.checked_sub(1) else {
        return Ok(0);
    };
    let mut start = last / BLOCK * BLOCK;
    // What is torn for certain, while it is not known whether it began earlier.
    let mut certain = 0;
    loop {
        let mut block = vec![0; (length - start).min(BLOCK) as usize];
        file.read_exact_at(&mut block, start)?;
        match end_of(&block) {
            // A piece without its beginning, that is damage.
            End::InsideEarlier if start == 0 => return Ok(0),
            End::InsideEarlier => start -= BLOCK,
            End::Inside(0) if start > 0 && block.len() < HEADER => {
                certain = block.len() as u64;
                start -= BLOCK;
            }
            End::Inside(at) => return Ok(length - start - at),
            End::Whole => return Ok(certain),
        }
    }
}

fn end_of(block: &[u8]) -> End {
    let mut end = End::Whole;
    let mut at = 0;
    while at < block.len() {
        let rest = &block[at..];
        let here = at as u64;
        if rest.iter().take(HEADER).all(|byte| *byte == 0) {
            // Room for records, or the rest of a block.
            return end;
        }
        let torn = match end {
            End::Whole => End::Inside(here),
            within => within,
        };
        if rest.len() < HEADER {
            return torn;
        }
        let size = HEADER + usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        if size > rest.len() {
            return if at == 0 && matches!(rest[6], MIDDLE | LAST) {
                End::InsideEarlier
            } else {
                torn
            };
        }
        end = match (rest[6], end) {
            (FIRST, _) => End::Inside(here),
            (MIDDLE, End::Inside(begun)) => End::Inside(begun),
            (MIDDLE, _) => End::InsideEarlier,
            _ => End::Whole,
        };
        at += size;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, Options, Store};

    /// The write-ahead log of a store with writes of these sizes, not flushed.
    fn log(sizes: &[usize]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default(), &[]).unwrap();
        for size in sizes {
            let mut batch = store.batch();
            batch.put("default", b"key", &vec![7; *size]);
            store.write(batch, Durability::Synced).unwrap();
        }
        let mut files: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        files.sort();
        std::fs::read(files.pop().unwrap()).unwrap()
    }

    fn torn(content: &[u8]) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("000007.log"), content).unwrap();
        std::fs::write(dir.path().join("LOG"), b"not ours").unwrap();
        match find(dir.path()).as_slice() {
            [] => 0,
            [one] => {
                assert_eq!(one.file, "000007.log");
                one.bytes
            }
            more => panic!("{more:?}"),
        }
    }

    #[test]
    fn every_cut_is_measured_to_the_end_of_the_last_whole_write() {
        let sizes = [10, 100, 40_000, 5, 100_000, 20];
        // Where each write ends, by making ever longer logs.
        let ends: Vec<usize> = (0..=sizes.len()).map(|n| log(&sizes[..n]).len()).collect();
        let whole = log(&sizes);
        assert_eq!(torn(&whole), 0);
        let blocks = (1..4).flat_map(|n| n * BLOCK as usize - 10..n * BLOCK as usize + 10);
        for cut in (0..whole.len())
            .step_by(61)
            .chain(ends.iter().copied())
            .chain(blocks)
        {
            let before = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
            let found = torn(&whole[..cut]) as usize;
            // Zeros at the end of a block belong to nothing.
            let left = &whole[before..cut];
            let padding = left.iter().take_while(|byte| **byte == 0).count().min(HEADER - 1);
            assert!(
                found == left.len() || found + padding == left.len(),
                "cut at {cut}: {found}, the last write ends at {before}"
            );
        }
    }

    #[test]
    fn room_for_records_is_no_write() {
        let mut content = log(&[10, 100]);
        content.extend_from_slice(&[0; 5000]);
        assert_eq!(torn(&content), 0);
        assert_eq!(torn(&[]), 0);
    }
}
