//! Characters and quotes. Text is bytes here, and what is not UTF-8 is taken byte by byte.

use super::Printer;
use crate::limits::Fault;

/// The character that `bytes` begins with (`None`: the first byte begins none) and its length.
pub(crate) fn next_char(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((Some(char::from(first)), 1));
    }
    for length in 2..=bytes.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&bytes[..length]) {
            return Some((text.chars().next(), length));
        }
    }
    Some((None, 1))
}

/// How many characters there are, bytes that are none counted each.
pub(super) fn count_chars(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while let Some((_, length)) = next_char(rest) {
        rest = &rest[length..];
        count += 1;
    }
    count
}

/// Whether a character is shown as it is: a letter, mark, number, sign, or the ASCII space.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The standard library knows, but says so only for a character that has something before it to combine with.
    let mut buffer = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let Ok(text) = std::str::from_utf8(&buffer[..length]) else {
        return false;
    };
    text.escape_debug().nth(1) == Some(c)
}

impl Printer<'_, '_> {
    /// A string in double quotes, or under `#`, where possible, in back quotes.
    pub(super) fn quoted(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let bytes = self.cut(bytes);
        self.budget.fits(bytes.len())?;
        let mut out = Vec::with_capacity(bytes.len() + 2);
        if self.flags.sharp && fits_back_quotes(bytes) {
            out.push(b'`');
            out.extend_from_slice(bytes);
            out.push(b'`');
            return self.padded(&out);
        }
        out.push(b'"');
        let mut rest = bytes;
        while let Some((c, length)) = next_char(rest) {
            match c {
                Some(c @ (' ' | '!' | '#'..='[' | ']'..='~')) => out.push(c as u8),
                Some(c) => push_escaped(&mut out, c, '"', self.flags.plus),
                None => out.extend_from_slice(format!("\\x{:02x}", rest[0]).as_bytes()),
            }
            if !rest[0].is_ascii_graphic() {
                // Escapes, and asking whether one is needed, are more work than the bytes say.
                self.budget.step(1)?;
            }
            rest = &rest[length..];
        }
        out.push(b'"');
        self.padded(&out)
    }

    /// A character in single quotes.
    pub(super) fn quoted_char(&mut self, c: char) -> Result<(), Fault> {
        let mut out = vec![b'\''];
        push_escaped(&mut out, c, '\'', self.flags.plus);
        out.push(b'\'');
        self.padded(&out)
    }
}

fn push_escaped(out: &mut Vec<u8>, c: char, quote: char, ascii_only: bool) {
    let escape = match c {
        _ if c == quote || c == '\\' => format!("\\{c}"),
        _ if is_printable(c) && (c.is_ascii() || !ascii_only) => c.to_string(),
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\x0b' => "\\v".to_owned(),
        '\0'..=' ' | '\x7f' => format!("\\x{:02x}", u32::from(c)),
        '\0'..='\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    out.extend_from_slice(escape.as_bytes());
}

/// Whether text in back quotes would read back the same.
fn fits_back_quotes(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        text.chars()
            .all(|c| c != '`' && c != '\u{feff}' && c != '\x7f' && (c >= ' ' || c == '\t'))
    })
}
