//! How far the log was synced, told by a file beside the database.
//!
//! A log whose end is gone, cut off cleanly between two records, looks like one that ended there: a crash leaves just that of writes that
//! nobody was told of. So every synced write of the log carries a number, one higher each time, and when it is on disk the number goes to
//! a file of its own, which is *not* synced: that would cost as much again. It is written a few times a second and not with each number,
//! because the next sync would have to write down that it was changed. The file therefore never says more than what the disk had,
//! whatever happens. It says all of it but the last tick when the process was killed, and after the power has failed all but the last
//! seconds. A start that finds less in the database than in the file knows that something is gone that clients were told is there.
//!
//! A repaired or restored directory begins anew, and so does one whose file is missing or cannot be read: it proves nothing then.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::{Buf, BufMut};
use store::{Batch, Store};

use super::Error;
use crate::mvcc::family;
use crate::node::restore;

/// Its name in the data directory.
const FILE: &str = "SYNCED";

/// The number of the last synced write, in [`family::HARD`].
const KEY: &[u8] = b"synced";

/// Number, CRC-32C.
const BYTES: usize = 8 + 4;

/// Counts synced writes.
#[derive(Debug)]
pub(super) struct Synced {
    number: u64,
    /// What the file says.
    told: Option<u64>,
    /// None if it cannot be written: then nothing is proved.
    file: Option<File>,
}

impl Synced {
    /// Goes on counting where the database ends, and tells nobody yet.
    pub(super) fn at_the_end_of(store: &Store) -> Result<Synced, Error> {
        Ok(Synced {
            number: in_database(store)?,
            told: None,
            file: None,
        })
    }

    /// The log is whole: from now on its file says how far it is.
    pub(super) fn begin(&mut self, store: &Store) {
        let path = store.path().join(FILE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        match options.open(&path) {
            Ok(file) => self.file = Some(file),
            Err(error) => tracing::warn!(
                target: "chainfire_storage",
                path = %path.display(),
                error = %error,
                "How far the log is synced cannot be noted"
            ),
        }
        self.tell();
    }

    /// Adds the next number to a batch.
    pub(super) fn count(&self, batch: &mut Batch<'_>) {
        batch.put(family::HARD, KEY, &(self.number + 1).to_be_bytes());
    }

    /// That batch is on disk.
    pub(super) fn done(&mut self) {
        self.number += 1;
    }

    /// Writes the number down, if it is another than last time.
    pub(super) fn tell(&mut self) {
        if self.told == Some(self.number) {
            return;
        }
        self.told = Some(self.number);
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.put_u64(self.number);
        let checksum = crc32c::crc32c(&bytes);
        bytes.put_u32(checksum);
        if let Some(file) = &self.file {
            // A number that is too low proves less, and nothing that is wrong.
            let _ = file.write_all_at(&bytes, 0);
        }
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        self.tell();
    }
}

/// True if synced writes of the log are missing from the database.
pub(crate) fn is_cut(store: &Store) -> Result<bool, Error> {
    let dir = store.path();
    if dir.join(restore::MARK).exists() {
        return Ok(false);
    }
    Ok(in_file(&dir.join(FILE)) > Some(in_database(store)?))
}

fn in_database(store: &Store) -> Result<u64, Error> {
    let Some(bytes) = store.get(family::HARD, KEY)? else {
        return Ok(0);
    };
    let number = bytes.as_ref().try_into().map(u64::from_be_bytes);
    number.map_err(|_| Error::Corrupt {
        index: 0,
        reason: "number of synced writes",
    })
}

fn in_file(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() == BYTES)?;
    let (mut number, mut checksum) = bytes.split_at(8);
    (crc32c::crc32c(number) == checksum.get_u32()).then(|| number.get_u64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::Durability;

    use super::*;

    fn open(path: &Path) -> Arc<Store> {
        Arc::new(Store::open(path, &store::Options::default(), family::ALL).unwrap())
    }

    fn write(store: &Store, synced: &mut Synced) {
        let mut batch = store.batch();
        synced.count(&mut batch);
        store.write(batch, Durability::Synced).unwrap();
        synced.done();
    }

    #[test]
    fn a_database_that_has_less_than_was_synced_is_cut_and_no_other_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut synced = Synced::at_the_end_of(&store).unwrap();
        synced.begin(&store);
        assert!(!is_cut(&store).unwrap());
        for _ in 0..3 {
            write(&store, &mut synced);
            assert!(!is_cut(&store).unwrap());
        }
        synced.tell();
        let told = std::fs::read(dir.path().join(FILE)).unwrap();
        // The process ends between the sync and the note of it.
        let mut batch = store.batch();
        synced.count(&mut batch);
        store.write(batch, Durability::Synced).unwrap();
        drop((synced, store));
        let store = open(dir.path());
        assert!(!is_cut(&store).unwrap());
        // As if the last two writes were gone.
        let mut batch = store.batch();
        batch.put(family::HARD, KEY, &2u64.to_be_bytes());
        store.write(batch, Durability::Synced).unwrap();
        assert!(is_cut(&store).unwrap());

        for damaged in [&told[..11], b"", &[&told[..4], &[1], &told[5..]].concat()] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert!(!is_cut(&store).unwrap(), "it proves nothing");
        }
        std::fs::write(dir.path().join(FILE), &told).unwrap();
        assert!(is_cut(&store).unwrap());
        std::fs::write(dir.path().join(restore::MARK), "").unwrap();
        assert!(!is_cut(&store).unwrap());
        Synced::at_the_end_of(&store).unwrap().begin(&store);
        std::fs::remove_file(dir.path().join(restore::MARK)).unwrap();
        assert!(!is_cut(&store).unwrap(), "it counts from there on");
    }
}
