//! Finding a text in a body that comes in pieces, with memory for one text's length only.

/// A search for one text.
#[derive(Debug)]
pub(super) struct Search<'a> {
    text: &'a [u8],
    /// The end of what has passed, shorter than the text: a match may begin in it.
    tail: Vec<u8>,
    found: bool,
}

impl<'a> Search<'a> {
    /// An empty text is found in any body.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            tail: Vec::new(),
            found: text.is_empty(),
        }
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        let keep = self.text.len() - 1;
        // First across the seam: what is left of the pieces before, and as much of this one as a match could need.
        let seam = self.tail.len();
        self.tail.extend_from_slice(piece.get(..keep).unwrap_or(piece));
        if (seam > 0 && contains(&self.tail, self.text)) || contains(piece, self.text) {
            self.found = true;
            self.tail = Vec::new();
            return;
        }
        if piece.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - keep..]);
        } else {
            let surplus = self.tail.len().saturating_sub(keep);
            self.tail.drain(..surplus);
        }
    }

    /// Whether the text has come.
    pub(super) fn found(&self) -> bool {
        self.found
    }
}

/// Whether `text`, which is not empty, is in `bytes`.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else {
        return true;
    };
    let mut left = bytes;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_the_pieces_are_cut() {
        let body = b"xx aab aabaaab yy";
        for text in ["aabaaab", "x", "xx aab aabaaab yy", " y", "yy", "b a"] {
            for size in 1..=body.len() {
                let mut search = Search::new(text.as_bytes());
                body.chunks(size).for_each(|piece| search.feed(piece));
                assert!(search.found(), "{text} in pieces of {size}");
            }
        }
        for text in ["aabaaabb", "yx", "xx aab aabaaab yyy"] {
            for size in 1..=body.len() {
                let mut search = Search::new(text.as_bytes());
                body.chunks(size).for_each(|piece| search.feed(piece));
                assert!(!search.found(), "{text} in pieces of {size}");
                assert!(search.tail.len() < text.len());
            }
        }
        assert!(Search::new(b"").found());
    }
}
