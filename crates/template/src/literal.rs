//! What literals are worth, by the rules of Go.

use crate::tree::OperandKind;

/// The bytes of a quoted string; `token` is with its quotes.
pub(crate) fn unquote(token: &str) -> Result<Vec<u8>, String> {
    if let Some(raw) = token.strip_prefix('`') {
        let raw = raw.strip_suffix('`').unwrap_or(raw);
        // A raw string may go over lines, and means the same however the file ends its lines.
        return Ok(raw.bytes().filter(|byte| *byte != b'\r').collect());
    }
    let mut rest = token
        .strip_prefix('"')
        .and_then(|token| token.strip_suffix('"'))
        .unwrap_or(token);
    let mut out = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let (unit, tail) = unquote_char(rest, '"').ok_or_else(|| bad_escape(rest))?;
        match unit {
            Unit::Byte(byte) => out.push(byte),
            Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = tail;
    }
    Ok(out)
}

fn bad_escape(at: &str) -> String {
    let escape = crate::error::excerpt(at, 6);
    format!(
        "invalid escape {escape}: there are \\n \\t \\r \\a \\b \\f \\v \\\\ \\\" \\xHH \\OOO \\uHHHH \\UHHHHHHHH"
    )
}

/// The number that a character constant stands for; `token` is with its quotes.
pub(crate) fn char_constant(token: &str) -> Result<OperandKind, String> {
    let malformed = || {
        format!(
            "malformed character constant: {}",
            crate::error::excerpt(token, 12)
        )
    };
    match unquote_char(&token[1..], '\'').ok_or_else(malformed)? {
        (Unit::Byte(byte), "'") => Ok(OperandKind::Int(byte.into())),
        (Unit::Char(c), "'") => Ok(OperandKind::Int(u32::from(c).into())),
        _ => Err(malformed()),
    }
}

enum Unit {
    /// From `\xHH` and `\OOO`.
    Byte(u8),
    Char(char),
}

/// The first character of `text`, which is not empty, and what follows.
fn unquote_char(text: &str, quote: char) -> Option<(Unit, &str)> {
    let mut chars = text.chars();
    let first = chars.next()?;
    if first == quote {
        return None;
    }
    if first != '\\' {
        return Some((Unit::Char(first), chars.as_str()));
    }
    let escape = chars.next()?;
    let rest = chars.as_str();
    let hex = |digits: usize| -> Option<(u32, &str)> {
        let (number, tail) = (rest.get(..digits)?, rest.get(digits..)?);
        number
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then_some(())?;
        Some((u32::from_str_radix(number, 16).ok()?, tail))
    };
    let c = match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        '\'' | '"' if escape == quote => escape,
        'x' => {
            let (number, tail) = hex(2)?;
            return Some((Unit::Byte(u8::try_from(number).ok()?), tail));
        }
        'u' | 'U' => {
            let (number, tail) = hex(if escape == 'u' { 4 } else { 8 })?;
            return Some((Unit::Char(char::from_u32(number)?), tail));
        }
        '0'..='7' => {
            let number = text.get(1..4)?;
            number
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'7'))
                .then_some(())?;
            return Some((Unit::Byte(u8::from_str_radix(number, 8).ok()?), &text[4..]));
        }
        _ => return None,
    };
    Some((Unit::Char(c), rest))
}

/// What a number is: an integer if it looks like one, otherwise a float.
pub(crate) fn number(token: &str) -> Result<OperandKind, String> {
    let shown = || crate::error::quoted(token, 40);
    if token.ends_with('i') {
        return Err(format!(
            "{} is a complex number, which templates here do not have",
            shown()
        ));
    }
    let integer = integer(token);
    // Go looks for these in the text, so a signed hexadecimal integer with an "e" in it is a float.
    let hex_integer = token.len() > 2
        && (token.starts_with("0x") || token.starts_with("0X"))
        && !token.contains(['p', 'P']);
    let looks_like_float = !hex_integer && token.contains(['.', 'e', 'E', 'p', 'P']);
    match integer {
        Some(Integer::Signed(value)) if looks_like_float => Ok(OperandKind::Float(value as f64)),
        Some(Integer::Signed(value)) => Ok(OperandKind::Int(value)),
        Some(Integer::Unsigned(value)) if looks_like_float => Ok(OperandKind::Float(value as f64)),
        Some(Integer::Unsigned(_)) => Ok(OperandKind::TooLarge),
        None => match float(token) {
            Some(_) if !token.contains(['.', 'e', 'E', 'p', 'P']) => {
                Err(format!("integer overflow: {}", shown()))
            }
            Some(value) => Ok(OperandKind::Float(value)),
            None => Err(format!("illegal number syntax: {}", shown())),
        },
    }
}

enum Integer {
    Signed(i64),
    /// Too large for the signed type.
    Unsigned(u64),
}

fn integer(token: &str) -> Option<Integer> {
    let (sign, digits) = split_sign(token);
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !underscores_fit(token) {
        return None;
    }
    let digits: String = digits.chars().filter(|digit| *digit != '_').collect();
    // The conversion would take a second sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(&digits, radix).ok()?;
    match (sign, i64::try_from(value)) {
        (Some('-'), Ok(value)) => Some(Integer::Signed(-value)),
        (Some('-'), Err(_)) => (value == i64::MIN.unsigned_abs()).then_some(Integer::Signed(i64::MIN)),
        (_, Ok(value)) => Some(Integer::Signed(value)),
        (None, Err(_)) => Some(Integer::Unsigned(value)),
        (Some(_), Err(_)) => None,
    }
}

fn float(token: &str) -> Option<f64> {
    if !underscores_fit(token) {
        return None;
    }
    let (sign, digits) = split_sign(token);
    let value = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => hex_float(&digits[2..])?,
        // The scanner lets through only what decimal floats have.
        [b'0', b'o' | b'O' | b'b' | b'B', ..] => return None,
        _ => digits.replace('_', "").parse().ok()?,
    };
    let value = if sign == Some('-') { -value } else { value };
    value.is_finite().then_some(value)
}

/// `H.HpN`, without its `0x`.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let exponent: String = exponent.chars().filter(|c| *c != '_').collect();
    let mut exponent: i64 = exponent.parse::<i64>().ok()?.clamp(-100_000, 100_000);
    let (mut value, mut inexact, mut any, mut fraction) = (0_u64, false, false, false);
    for c in mantissa.chars().filter(|c| *c != '_') {
        if c == '.' {
            fraction = true;
            continue;
        }
        let digit = u64::from(c.to_digit(16)?);
        any = true;
        if value >> 58 == 0 {
            value = value << 4 | digit;
            exponent -= if fraction { 4 } else { 0 };
        } else {
            inexact |= digit != 0;
            exponent += if fraction { 0 } else { 4 };
        }
    }
    any.then_some(())?;
    // A lost digit matters only when the rest is exactly half way, which the lowest bit then is not.
    value |= u64::from(inexact);
    Some(scale(value, exponent))
}

/// `value * 2^exponent`, rounded once.
fn scale(value: u64, exponent: i64) -> f64 {
    if value == 0 {
        return 0.0;
    }
    let bits = i64::from(64 - value.leading_zeros());
    // The exponent of the lowest bit that a float of this size has.
    let lowest = (exponent + bits - 53).max(-1074);
    let shift = lowest - exponent;
    let mantissa = if shift <= 0 {
        // Exact: the value has at most 53 bits from here on.
        (value as f64) * 2_f64.powi(-shift as i32)
    } else if shift > 64 {
        0.0
    } else {
        let wide = u128::from(value);
        let (kept, lost) = (wide >> shift, wide & ((1 << shift) - 1));
        let half = 1_u128 << (shift - 1);
        let up = lost > half || (lost == half && kept & 1 == 1);
        (kept + u128::from(up)) as f64
    };
    if lowest > 1023 {
        return f64::INFINITY;
    }
    // Two steps, since the power alone may be below the smallest float.
    let half = (lowest / 2) as i32;
    mantissa * 2_f64.powi(half) * 2_f64.powi(lowest as i32 - half)
}

fn split_sign(token: &str) -> (Option<char>, &str) {
    match token.chars().next() {
        Some(sign @ ('+' | '-')) => (Some(sign), &token[1..]),
        _ => (None, token),
    }
}

/// Whether each underscore stands between digits, a base prefix counting as one.
fn underscores_fit(token: &str) -> bool {
    let (_, digits) = split_sign(token);
    let bytes = digits.as_bytes();
    let prefixed = matches!(bytes, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    let hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let is_digit = |byte: u8| byte.is_ascii_digit() || hex && byte.is_ascii_hexdigit();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'_')
        .all(|(at, _)| {
            let before = at
                .checked_sub(1)
                .is_some_and(|at| is_digit(bytes[at]) || prefixed && at == 1);
            before && bytes.get(at + 1).is_some_and(|byte| is_digit(*byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: &str) -> String {
        match number(token) {
            Ok(OperandKind::Int(value)) => format!("int {value}"),
            Ok(OperandKind::Float(value)) => format!("float {value:?}"),
            Ok(OperandKind::TooLarge) => "too large".to_owned(),
            other => format!("{:?}", other.is_err()),
        }
    }

    #[test]
    fn hexadecimal_floats_are_rounded_once() {
        assert_eq!(shown("0x1p4"), "float 16.0");
        assert_eq!(shown("0x1.8p1"), "float 3.0");
        assert_eq!(shown("0x1p-1074"), "float 5e-324");
        assert_eq!(shown("0x1p-1075"), "float 0.0");
        assert_eq!(shown("0x1.8p-1075"), "float 5e-324");
        assert_eq!(shown("0x1.fffffffffffffp1023"), "float 1.7976931348623157e308");
        assert_eq!(shown("0x1p1024"), "true");
        assert_eq!(shown("0x1.00000000000008p0"), "float 1.0");
        assert_eq!(
            shown("0x1.000000000000080000000000001p0"),
            "float 1.0000000000000002"
        );
    }

    #[test]
    fn integers_keep_the_edges_of_their_type() {
        assert_eq!(shown("9223372036854775807"), "int 9223372036854775807");
        assert_eq!(shown("-9223372036854775808"), "int -9223372036854775808");
        assert_eq!(shown("9223372036854775808"), "too large");
        assert_eq!(shown("18446744073709551616"), "true");
        assert_eq!(shown("0b1_01"), "int 5");
        assert_eq!(shown("1__0"), "true");
        assert_eq!(shown("017"), "int 15");
        assert_eq!(shown("-0x1e"), "float -30.0");
        assert_eq!(shown("0x1e"), "int 30");
    }
}
