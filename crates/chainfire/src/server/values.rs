//! Taking a stream of JSON objects apart as it arrives, looking at each byte once.
//!
//! Only the ends of objects are found here; whether what lies between is JSON, and the right one, is for the parser to say.
//! So an object that is broken is refused when it ends, or when the stream does.

use bytes::{Buf, Bytes, BytesMut};

/// What has arrived and is not taken yet.
#[derive(Debug, Default)]
pub(super) struct Values {
    pending: BytesMut,
    /// Bytes of `pending` that have been looked at.
    seen: usize,
    /// Open braces and brackets.
    depth: usize,
    in_string: bool,
    /// The last byte was a backslash within a string.
    escaped: bool,
}

impl Values {
    pub(super) fn add(&mut self, part: &[u8]) {
        self.pending.extend_from_slice(part);
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The next whole object. What is not an object is given as far as it has arrived, for the parser to refuse.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.seen == 0 {
            let blank = self.pending.iter().take_while(|byte| byte.is_ascii_whitespace());
            let blank = blank.count();
            self.pending.advance(blank);
        }
        while let Some(byte) = self.pending.get(self.seen).copied() {
            self.seen += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            let is_object = self.pending.first() == Some(&b'{');
            if !is_object {
                return Some(self.rest());
            }
            if self.depth == 0 {
                return Some(self.cut(self.seen));
            }
        }
        None
    }

    /// Everything that has arrived: at the end of the stream, what is left of an object that is not whole.
    pub(super) fn rest(&mut self) -> Bytes {
        self.cut(self.pending.len())
    }

    fn cut(&mut self, at: usize) -> Bytes {
        let pending = std::mem::take(&mut self.pending);
        *self = Values {
            pending,
            ..Values::default()
        };
        self.pending.split_to(at).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, piece: usize) -> (Vec<String>, String) {
        let mut values = Values::default();
        let mut all = Vec::new();
        for part in text.as_bytes().chunks(piece) {
            values.add(part);
            while let Some(value) = values.take() {
                all.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        let rest = String::from_utf8(values.rest().to_vec()).unwrap();
        (all, rest)
    }

    #[test]
    fn objects_are_found_however_they_are_cut() {
        let one = r#"{"a":"}\"]{\\","b":[{},[]]}"#;
        let text = format!(" {one}\n{{}}{one} \t{{\"cut\":[");
        for piece in 1..=text.len() {
            let (all, rest) = taken(&text, piece);
            assert_eq!(all, [one, "{}", one], "{piece}");
            assert_eq!(rest, "{\"cut\":[");
        }
    }

    #[test]
    fn what_is_no_object_is_given_away_at_once() {
        for text in ["7", "\"a\"", "[", "}", "null", "\u{e9}"] {
            let mut values = Values::default();
            values.add(b"{} ");
            assert!(values.take().is_some());
            values.add(text.as_bytes());
            assert_eq!(values.take().unwrap(), text);
            assert_eq!((values.take(), values.len()), (None, 0));
        }
    }

    #[test]
    fn each_byte_is_looked_at_once() {
        let mut values = Values::default();
        values.add(b"{\"k\":\"");
        for _ in 0..1_000_000 {
            values.add(b"}");
            assert_eq!(values.take(), None);
            assert_eq!(values.seen, values.len());
        }
    }
}
