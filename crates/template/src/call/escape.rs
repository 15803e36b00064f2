//! `html`, `js` and `urlquery`.

use crate::format::{is_printable, next_char};
use crate::limits::{Budget, Fault};

/// Text for HTML, quoted attributes included.
pub(super) fn html(budget: &mut Budget<'_>, text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => out.push(*byte),
        }
    }
    finish(budget, out)
}

/// Text for a JavaScript string.
pub(super) fn js(budget: &mut Budget<'_>, text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((c, length)) = next_char(rest) {
        let (unit, tail) = rest.split_at(length);
        rest = tail;
        if !unit[0].is_ascii_graphic() {
            // Asking whether a character is printable is more work than its bytes say.
            budget.step(1)?;
        }
        match c {
            Some('\\' | '\'' | '"') => {
                out.push(b'\\');
                out.extend_from_slice(unit);
            }
            Some('<' | '>' | '&' | '=' | '\0'..='\x1f') => {
                out.extend_from_slice(format!("\\u{:04X}", unit[0]).as_bytes());
            }
            Some(c) if !c.is_ascii() && !is_printable(c) => {
                out.extend_from_slice(format!("\\u{:04X}", u32::from(c)).as_bytes());
            }
            _ => out.extend_from_slice(unit),
        }
    }
    finish(budget, out)
}

/// Text for the query of a URL.
pub(super) fn url_query(budget: &mut Budget<'_>, text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            b' ' => out.push(b'+'),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    finish(budget, out)
}

/// The input was within the limits, so the output is at most six times as long before it is looked at.
fn finish(budget: &mut Budget<'_>, out: Vec<u8>) -> Result<Vec<u8>, Fault> {
    budget.fits(out.len())?;
    budget.bytes(out.len())?;
    Ok(out)
}
