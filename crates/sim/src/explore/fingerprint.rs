//! 128 bits that stand for a state. Two different states share them with a chance that is far below that of a broken machine, as long
//! as nobody constructs them on purpose: a billion states meet with one in 10^20.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The fingerprint of whatever `Hash` sees of `state`.
pub(super) fn fingerprint(state: &impl Hash) -> u128 {
    let mut lanes = Lanes {
        one: 0x243f_6a88_85a3_08d3,
        other: 0x1319_8a2e_0370_7344,
    };
    state.hash(&mut lanes);
    // Once more, so that the last word has met all bits.
    lanes.write_u64(0xa409_3822_299f_31d0);
    (u128::from(lanes.one) << 64) | u128::from(lanes.other)
}

/// Two multiplicative hashes with different constants.
struct Lanes {
    one: u64,
    other: u64,
}

fn folded(value: u64, by: u64) -> u64 {
    let product = u128::from(value) * u128::from(by);
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.one = folded(self.one ^ word, 0x9e37_79b9_7f4a_7c15).wrapping_add(0x4528_21e6_38d0_1377);
        self.other = folded(self.other.rotate_left(23) ^ word, 0xd6e8_feb8_6659_fd93).wrapping_sub(word);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.one ^ self.other
    }
}

/// For a set of fingerprints, which need no more hashing.
#[derive(Debug, Default)]
pub(super) struct Half(u64);

pub(super) type Ready = BuildHasherDefault<Half>;

impl Hasher for Half {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are looked up");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        // Half of it is enough to find a place.
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::fingerprint;

    #[test]
    fn neighbours_differ_in_about_half_of_all_bits() {
        let mut seen = HashSet::new();
        for at in 0..10_000u64 {
            assert!(seen.insert(fingerprint(&at)));
            let apart = (fingerprint(&at) ^ fingerprint(&(at + 1))).count_ones();
            assert!((30..=98).contains(&apart), "{at}: {apart}");
        }
    }

    #[test]
    fn lengths_count() {
        assert_ne!(
            fingerprint(&(vec![1u8], vec![2u8, 3])),
            fingerprint(&(vec![1u8, 2], vec![3u8]))
        );
        assert_ne!(fingerprint(&"ab"), fingerprint(&"ab\0"));
    }
}
