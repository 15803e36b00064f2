//! Keys and values of the load, and the generator of chance behind them.
//!
//! Making them must cost next to nothing, because the generator runs on the server's cores: values are slices of one block of noise
//! (no copying), keys follow from their number by arithmetic, so nothing has to be remembered.

use std::sync::LazyLock;

use bytes::Bytes;

/// Bytes in a value.
pub(crate) const VALUE_BYTES: usize = 256;

/// The noise values are cut from; larger than a value so that neighbours differ, small enough to stay in the cache.
const NOISE_BYTES: usize = 64 * 1024;

static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut chance = Chance::new(0);
    let words = std::iter::repeat_with(|| chance.next().to_le_bytes()).take(NOISE_BYTES / 8);
    words.flatten().collect::<Vec<u8>>().into()
});

/// SplitMix64 (Steele, Lea, Flood 2014): a few instructions per number, good enough to choose keys.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scramble(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number below `bound`, by multiplication instead of division.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A value of [`VALUE_BYTES`] incompressible bytes.
    pub(crate) fn value(&mut self) -> Bytes {
        let at = self.below((NOISE_BYTES - VALUE_BYTES) as u64) as usize;
        NOISE.slice(at..at + VALUE_BYTES)
    }
}

/// The finishing step of SplitMix64: one to one, so different numbers stay different.
fn scramble(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How keys follow from their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// In no order, 16 to 32 bytes long: sixteen hexadecimal digits and a filling.
    Scattered,
    /// In the order of the numbers, 16 bytes.
    Ordered,
}

impl Keys {
    /// The key with this number.
    pub(crate) fn key(self, number: u64) -> Bytes {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        match self {
            Self::Scattered => {
                let mixed = scramble(number);
                let mut key = [b'.'; 32];
                for (at, digit) in key.iter_mut().take(16).enumerate() {
                    *digit = DIGITS[((mixed >> (60 - 4 * at)) & 15) as usize];
                }
                Bytes::copy_from_slice(&key[..16 + (mixed % 17) as usize])
            }
            Self::Ordered => {
                let mut key = *b"key-000000000000";
                let mut rest = number;
                for digit in key[4..].iter_mut().rev() {
                    *digit = DIGITS[(rest % 10) as usize];
                    rest /= 10;
                }
                Bytes::copy_from_slice(&key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scattered_keys_differ_and_have_all_lengths() {
        let keys: BTreeSet<Bytes> = (0..10_000).map(|number| Keys::Scattered.key(number)).collect();
        let lengths: BTreeSet<usize> = keys.iter().map(Bytes::len).collect();
        assert_eq!(keys.len(), 10_000);
        assert_eq!(lengths, (16..=32).collect());
    }

    #[test]
    fn ordered_keys_keep_the_order_of_their_numbers() {
        assert_eq!(Keys::Ordered.key(1_234), "key-000000001234");
        assert!((0..2_000).all(|number| Keys::Ordered.key(number) < Keys::Ordered.key(number + 1)));
    }

    #[test]
    fn chance_stays_below_its_bound_and_reaches_every_number() {
        let mut chance = Chance::new(7);
        let seen: BTreeSet<u64> = (0..1_000).map(|_| chance.below(10)).collect();
        assert_eq!(seen, (0..10).collect());
    }
}
