//! How much of a message has come in, seen from outside: gRPC puts a flag and a length before each.

use super::reply::FRAME_HEADER;

/// Follows the messages of a request without keeping them.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; FRAME_HEADER],
    /// Bytes of the present message, its header included, that are there.
    there: usize,
}

impl Framing {
    /// More has come in.
    pub(super) fn add(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            if let Some(missing) = self.header.get_mut(self.there..).filter(|rest| !rest.is_empty()) {
                let count = missing.len().min(part.len());
                missing[..count].copy_from_slice(&part[..count]);
                self.there += count;
                part = &part[count..];
            } else {
                let count = (self.whole() - self.there).min(part.len());
                self.there += count;
                part = &part[count..];
            }
            if self.there >= FRAME_HEADER && self.there == self.whole() {
                self.there = 0;
            }
        }
    }

    /// Bytes there of a message whose end is not.
    pub(super) fn unfinished(&self) -> usize {
        self.there
    }

    fn whole(&self) -> usize {
        let [_, length @ ..] = self.header;
        FRAME_HEADER + u32::from_be_bytes(length) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_does_not_depend_on_how_it_is_cut() {
        // Messages of 3, 0 and 300 bytes, and the beginning of a fourth.
        let mut bytes = Vec::new();
        for size in [3_u32, 0, 300, 9] {
            bytes.push(0);
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend(std::iter::repeat_n(7, size as usize));
        }
        bytes.truncate(bytes.len() - 2);
        for piece in [1, 2, 5, 7, 1000] {
            let mut framing = Framing::default();
            for part in bytes.chunks(piece) {
                framing.add(part);
            }
            assert_eq!(framing.unfinished(), 5 + 7, "{piece}");
            framing.add(&[7]);
            assert_eq!(framing.unfinished(), 5 + 8);
            framing.add(&[7, 0]);
            assert_eq!(framing.unfinished(), 1);
        }
    }
}
