//! A disk that keeps its promises and no others: what was synced is there after a crash; of what was not, a beginning may be there,
//! its last write cut anywhere.

use std::collections::{BTreeMap, VecDeque};

use crate::Rng;

/// No space is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Clone)]
enum Write {
    Append(&'static str, Vec<u8>),
    Replace(&'static str, Vec<u8>),
}

/// Files of one machine.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<&'static str, Vec<u8>>,
    unsynced: VecDeque<Write>,
    full: bool,
}

impl Disk {
    /// Adds `bytes` to the end of a file.
    pub fn append(&mut self, file: &'static str, bytes: Vec<u8>) -> Result<(), Full> {
        self.write(Write::Append(file, bytes))
    }

    /// Replaces a file in one step, as renaming over it does.
    pub fn replace(&mut self, file: &'static str, bytes: Vec<u8>) -> Result<(), Full> {
        self.write(Write::Replace(file, bytes))
    }

    /// Replaces a file, on disk when this returns. What was written before may still be lost.
    pub fn replace_synced(&mut self, file: &'static str, bytes: Vec<u8>) -> Result<(), Full> {
        if self.full {
            return Err(Full);
        }
        self.files.insert(file, bytes);
        Ok(())
    }

    fn write(&mut self, write: Write) -> Result<(), Full> {
        if self.full {
            return Err(Full);
        }
        self.unsynced.push_back(write);
        Ok(())
    }

    /// Writes not synced yet: what a sync begun now will cover.
    pub fn pending(&self) -> usize {
        self.unsynced.len()
    }

    /// A sync that covers the first `writes` of the pending writes is done.
    pub fn synced(&mut self, writes: usize) {
        for write in self.unsynced.drain(..writes) {
            carry_out(&mut self.files, write);
        }
    }

    /// The file as the running program sees it.
    pub fn read(&self, file: &'static str) -> Vec<u8> {
        let mut files = self.files.clone();
        self.unsynced
            .iter()
            .cloned()
            .for_each(|write| carry_out(&mut files, write));
        files.remove(file).unwrap_or_default()
    }

    /// Power is lost: of what was not synced, a random beginning survives, and an append at its end may be torn.
    pub fn crash(&mut self, rng: &mut Rng) {
        let survive = usize::try_from(rng.below(self.unsynced.len() as u64 + 1)).expect("a count");
        let lost = self.unsynced.split_off(survive);
        self.synced(survive);
        if let Some(Write::Append(file, mut bytes)) = lost.into_iter().next()
            && rng.chance(500)
        {
            bytes.truncate(usize::try_from(rng.below(bytes.len() as u64)).expect("a length"));
            carry_out(&mut self.files, Write::Append(file, bytes));
        }
    }

    /// Writes fail from now on, or work again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Everything is gone.
    pub fn wipe(&mut self) {
        *self = Disk::default();
    }
}

fn carry_out(files: &mut BTreeMap<&'static str, Vec<u8>>, write: Write) {
    match write {
        Write::Append(file, bytes) => files.entry(file).or_default().extend(bytes),
        Write::Replace(file, bytes) => {
            files.insert(file, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_beginning_of_the_rest() {
        for seed in 0..200 {
            let mut disk = Disk::default();
            disk.append("log", b"aaaa".to_vec()).unwrap();
            disk.synced(disk.pending());
            disk.append("log", b"bbbb".to_vec()).unwrap();
            disk.append("log", b"cccc".to_vec()).unwrap();
            assert_eq!(disk.read("log"), b"aaaabbbbcccc");
            disk.crash(&mut Rng::new(seed));
            let left = disk.read("log");
            assert!(
                left.starts_with(b"aaaa") && b"aaaabbbbcccc".starts_with(&left[..]),
                "{left:?}"
            );
        }
    }

    #[test]
    fn a_full_disk_refuses() {
        let mut disk = Disk::default();
        disk.set_full(true);
        assert_eq!(disk.append("log", vec![1]), Err(Full));
        disk.set_full(false);
        assert_eq!(disk.append("log", vec![1]), Ok(()));
    }
}
