//! Integers under `%d %b %o %O %x %X %c %q %U`.

use super::Printer;
use super::quote::is_printable;
use crate::limits::Fault;

/// Longest number without precision: sixty-four binary digits, a sign and a prefix.
const LONGEST: usize = 70;

impl Printer<'_, '_> {
    /// Prints an integer; `false` when the verb is not for integers.
    pub(super) fn integer(&mut self, number: i64, signed: bool, verb: char) -> Result<bool, Fault> {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                self.flags.sharp = true;
                self.in_base(number, 16, verb)?;
                self.flags.sharp = false;
            }
            'v' | 'd' => self.in_base(number, 10, verb)?,
            'b' => self.in_base(number, 2, verb)?,
            'o' | 'O' => self.in_base(number, 8, verb)?,
            'x' | 'X' => self.in_base(number, 16, verb)?,
            'c' => {
                let c = character(number);
                self.padded(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
            'q' => self.quoted_char(character(number))?,
            'U' => self.unicode(number)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn in_base(&mut self, number: i64, base: u32, verb: char) -> Result<(), Fault> {
        let negative = number < 0;
        let magnitude = number.unsigned_abs();
        let flags = self.flags;
        if flags.precision == Some(0) && magnitude == 0 {
            // No digits: nothing but the width.
            return self.padded_with_spaces(b"");
        }
        let least_digits = match (flags.precision, flags.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero => {
                width.saturating_sub(usize::from(negative || flags.plus || flags.space))
            }
            _ => 0,
        };
        self.budget.fits(least_digits)?;
        let digits = match (base, verb) {
            (2, _) => format!("{magnitude:b}"),
            (8, _) => format!("{magnitude:o}"),
            (16, 'X') => format!("{magnitude:X}"),
            (16, _) => format!("{magnitude:x}"),
            _ => magnitude.to_string(),
        };
        let mut out = String::with_capacity(LONGEST + least_digits);
        if negative {
            out.push('-');
        } else if flags.plus {
            out.push('+');
        } else if flags.space {
            out.push(' ');
        }
        let zeros = least_digits.saturating_sub(digits.len());
        if verb == 'O' {
            out.push_str("0o");
        }
        if flags.sharp {
            match base {
                2 => out.push_str("0b"),
                8 if zeros == 0 && !digits.starts_with('0') => out.push('0'),
                16 => out.push_str(if verb == 'X' { "0X" } else { "0x" }),
                _ => {}
            }
        }
        out.extend(std::iter::repeat_n('0', zeros));
        out.push_str(&digits);
        self.padded_with_spaces(out.as_bytes())
    }

    /// `U+0078`, under `#` with the character.
    fn unicode(&mut self, number: i64) -> Result<(), Fault> {
        let least_digits = self.flags.precision.unwrap_or(0).max(4);
        self.budget.fits(least_digits)?;
        let digits = format!("{:X}", number.cast_unsigned());
        let mut out = String::from("U+");
        out.extend(std::iter::repeat_n(
            '0',
            least_digits.saturating_sub(digits.len()),
        ));
        out.push_str(&digits);
        let c = u32::try_from(number).ok().and_then(char::from_u32);
        if let Some(c) = c.filter(|c| self.flags.sharp && is_printable(*c)) {
            out.push_str(" '");
            out.push(c);
            out.push('\'');
        }
        self.padded_with_spaces(out.as_bytes())
    }
}

/// The character with this number, or U+FFFD.
fn character(number: i64) -> char {
    u32::try_from(number)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}
