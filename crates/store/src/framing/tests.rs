//! Records of write-ahead logs and manifests: whole, torn and damaged.

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

fn findings(content: &[u8]) -> (Findings, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("000007.log");
    std::fs::write(&path, content).unwrap();
    let mut records = Vec::new();
    let findings = read(&path, &mut |record| records.push(record.to_vec())).unwrap();
    (findings, records)
}

#[track_caller]
fn torn(content: &[u8]) -> u64 {
    let (findings, _) = findings(content);
    assert_eq!(findings.damage, []);
    findings.torn
}

/// Sizes that make records of one piece, of several, and pieces that end where a block does.
const SIZES: [usize; 6] = [10, 100, 40_000, 5, 100_000, 20];

#[test]
fn every_cut_is_measured_to_the_end_of_the_last_whole_write() {
    // Where each write ends, by making ever longer logs.
    let ends: Vec<usize> = (0..=SIZES.len()).map(|n| log(&SIZES[..n]).len()).collect();
    let whole = log(&SIZES);
    assert_eq!(torn(&whole), 0);
    let blocks = (1..4).flat_map(|n| n * BLOCK - 10..n * BLOCK + 10);
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
    content.resize(content.len() + 50_000, 0);
    assert_eq!(torn(&content), 0);
    assert_eq!(torn(&[]), 0);
}

/// Whether or not something that was being written follows.
#[test]
fn every_flipped_bit_is_damage_and_never_a_torn_write() {
    let whole = log(&[10, 100, 300, 1]);
    let followed = [whole.as_slice(), &whole[..20]].concat();
    for content in [&whole, &followed] {
        for position in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = content.clone();
                damaged[position] ^= 1 << bit;
                let (findings, _) = findings(&damaged);
                assert_eq!(
                    findings.damage.len(),
                    1,
                    "byte {position}, bit {bit}: {findings:?}"
                );
            }
        }
    }
}

#[test]
fn damage_at_the_ends_of_blocks_is_found() {
    let whole = log(&SIZES);
    let places = (0..5).flat_map(|n| (n * BLOCK).saturating_sub(20)..n * BLOCK + 20);
    for position in places.filter(|position| *position < whole.len()) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x11;
        let (findings, _) = findings(&damaged);
        let padding = whole[position] == 0 && findings == Findings::default();
        assert!(
            padding || !findings.damage.is_empty(),
            "byte {position}: {findings:?}"
        );
    }
}

#[test]
fn a_page_of_zeros_is_damage_unless_nothing_follows() {
    let whole = log(&[1000; 40]);
    for start in (0..whole.len() - 4096).step_by(997) {
        let mut damaged = whole.clone();
        damaged[start..start + 4096].fill(0);
        let (findings, _) = findings(&damaged);
        assert!(!findings.damage.is_empty(), "zeros at {start}: {findings:?}");
    }
}

#[test]
fn whole_records_behind_damage_are_still_given() {
    let content = log(&[10, 100, 300, 1]);
    let (_, all) = findings(&content);
    assert_eq!(all.len(), 4);
    // In the data of the second record, then in the length of the third, which its checksum makes up for.
    let second = HEADER + all[0].len() + HEADER + 5;
    let third = 2 * HEADER + all[0].len() + all[1].len();
    for (position, kept) in [
        (second, vec![0, 2, 3]),
        (third + 4, vec![0, 1, 2, 3]),
        (third + 5, vec![0, 1, 2, 3]),
    ] {
        let mut damaged = content.clone();
        damaged[position] ^= 0x04;
        let (found, records) = findings(&damaged);
        assert_eq!(found.damage.len(), 1);
        let wanted: Vec<Vec<u8>> = kept.iter().map(|index: &usize| all[*index].clone()).collect();
        assert_eq!(records, wanted);
    }
}

proptest::proptest! {
    #[test]
    fn whatever_a_file_holds_is_read_to_the_end(
        noise: Vec<u8>, at in 0..2000usize, zeros in 0..3000usize, cut in 0..3000usize,
    ) {
        let mut content = Writer::default();
        (0..30).for_each(|n| content.append(&[n; 90]));
        let mut content = content.into_bytes();
        content.truncate(cut);
        let at = at.min(content.len());
        content.splice(at..(at + noise.len()).min(content.len()), noise);
        content.extend(std::iter::repeat_n(0, zeros));
        let (found, records) = findings(&content);
        proptest::prop_assert!(found.torn <= content.len() as u64);
        proptest::prop_assert!(records.iter().all(|record| record.len() == 90 && record.iter().all(|byte| *byte == record[0])));
    }
}

#[test]
fn records_written_are_what_rocksdb_writes() {
    for sizes in [&SIZES[..], &[BLOCK - 60, BLOCK, 3], &[0]] {
        let content = log(sizes);
        let (_, records) = findings(&content);
        let mut writer = Writer::default();
        for record in &records {
            writer.append(record);
        }
        assert!(writer.into_bytes() == content, "{sizes:?}");
    }
}
