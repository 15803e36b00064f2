//! `print`, `println` and `printf`, with the results of Go's package `fmt`.
//!
//! [`Printer`] collects the text and has the flags of the verb at work; [`verb`] chooses what a value looks like under a verb,
//! [`number`] and [`quote`] know the details. This file reads formats.

mod float;
mod number;
mod quote;
mod verb;

pub(crate) use quote::{is_printable, next_char};

use crate::exec::Slot;
use crate::limits::{Budget, Fault};
use crate::value::Value;

/// What a value prints that is not there.
pub(crate) const NO_VALUE: &[u8] = b"<no value>";

/// What a nil prints.
const NIL: &str = "<nil>";

/// The largest width and precision, from Go. (The output ends before.)
const WIDTH_MAX: usize = 1_000_000;

/// The values one after the other, with a space between two that are both no text.
pub(crate) fn print(budget: &mut Budget<'_>, values: &[Slot]) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer::new(budget);
    let mut after_text = true;
    for value in values {
        let is_text = matches!(value, Some(Value::Str(_)));
        if !is_text && !after_text {
            printer.push(b" ")?;
        }
        printer.value(value, 'v')?;
        after_text = is_text;
    }
    Ok(printer.out)
}

/// The values with spaces between and a line end behind.
pub(crate) fn println(budget: &mut Budget<'_>, values: &[Slot]) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer::new(budget);
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            printer.push(b" ")?;
        }
        printer.value(value, 'v')?;
    }
    printer.push(b"\n")?;
    Ok(printer.out)
}

/// The values as the format says. What is wrong in a format appears in the text, as in Go: `%!d(string=hi)`.
pub(crate) fn printf(budget: &mut Budget<'_>, format: &[u8], values: &[Slot]) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer::new(budget);
    let mut directives = Directives {
        format,
        at: 0,
        values,
        value: 0,
        reordered: false,
        good_index: true,
    };
    directives.run(&mut printer)?;
    Ok(printer.out)
}

/// The flags between `%` and the verb.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v`: field names.
    plus_v: bool,
    /// `%#v`: Go syntax.
    sharp_v: bool,
}

/// A text being made, within the limits.
struct Printer<'b, 'l> {
    out: Vec<u8>,
    budget: &'b mut Budget<'l>,
    flags: Flags,
}

impl<'b, 'l> Printer<'b, 'l> {
    fn new(budget: &'b mut Budget<'l>) -> Self {
        Self {
            out: Vec::new(),
            budget,
            flags: Flags::default(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.budget.fits(self.out.len() + bytes.len())?;
        self.budget.bytes(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// `count` spaces, or zeros under the flag.
    fn padding(&mut self, count: usize) -> Result<(), Fault> {
        self.budget.fits(self.out.len() + count)?;
        self.budget.bytes(count)?;
        let filler = if self.flags.zero { b'0' } else { b' ' };
        self.out.resize(self.out.len() + count, filler);
        Ok(())
    }

    /// `bytes` in the width of the flags.
    fn padded(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let missing = self
            .flags
            .width
            .map_or(0, |width| width.saturating_sub(quote::count_chars(bytes)));
        if self.flags.minus {
            self.push(bytes)?;
            self.padding(missing)
        } else {
            self.padding(missing)?;
            self.push(bytes)
        }
    }

    /// As [`Printer::padded`], with spaces whatever the flags say.
    fn padded_with_spaces(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let zero = std::mem::take(&mut self.flags.zero);
        self.padded(bytes)?;
        self.flags.zero = zero;
        Ok(())
    }
}

/// A format being read.
struct Directives<'f> {
    format: &'f [u8],
    at: usize,
    values: &'f [Slot],
    /// The next value.
    value: usize,
    /// An explicit index was used, so it is not known which values were not.
    reordered: bool,
    /// The explicit index of this directive was right.
    good_index: bool,
}

impl Directives<'_> {
    fn run(&mut self, printer: &mut Printer<'_, '_>) -> Result<(), Fault> {
        while self.at < self.format.len() {
            printer.budget.step(1)?;
            let rest = &self.format[self.at..];
            let text = rest.iter().position(|byte| *byte == b'%').unwrap_or(rest.len());
            printer.push(&rest[..text])?;
            self.at += text;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive(printer)?;
            }
        }
        if !self.reordered && self.value < self.values.len() {
            printer.flags = Flags::default();
            printer.push(b"%!(EXTRA ")?;
            for (at, value) in self.values[self.value..].iter().enumerate() {
                if at > 0 {
                    printer.push(b", ")?;
                }
                printer.typed(value)?;
            }
            printer.push(b")")?;
        }
        Ok(())
    }

    /// One directive whose `%` is past.
    fn directive(&mut self, printer: &mut Printer<'_, '_>) -> Result<(), Fault> {
        printer.flags = Flags::default();
        self.good_index = true;
        self.read_flags(&mut printer.flags);
        let mut after_index = self.read_index();
        if self.next_is(b'*') {
            match self.star() {
                Some(width) => {
                    printer.flags.width = Some(width.unsigned_abs());
                    if width < 0 {
                        printer.flags.minus = true;
                        printer.flags.zero = false;
                    }
                }
                None => printer.push(b"%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            printer.flags.width = self.read_number();
            if after_index && printer.flags.width.is_some() {
                self.good_index = false;
            }
        }
        // A point at the end of the format is the verb.
        if self.at + 1 < self.format.len() && self.next_is(b'.') {
            self.at += 1;
            if after_index {
                self.good_index = false;
            }
            after_index = self.read_index();
            if self.next_is(b'*') {
                printer.flags.precision = self.star().and_then(|precision| usize::try_from(precision).ok());
                if printer.flags.precision.is_none() {
                    printer.push(b"%!(BADPREC)")?;
                }
                after_index = false;
            } else {
                printer.flags.precision = Some(self.read_number().unwrap_or(0));
            }
        }
        if !after_index {
            self.read_index();
        }
        let Some((verb, length)) = next_char(&self.format[self.at..]) else {
            return printer.push(b"%!(NOVERB)");
        };
        self.at += length;
        let verb = verb.unwrap_or(char::REPLACEMENT_CHARACTER);
        if verb == '%' {
            return printer.push(b"%");
        }
        let complaint = match self.values.get(self.value) {
            _ if !self.good_index => "(BADINDEX)",
            None => "(MISSING)",
            Some(value) => {
                self.value += 1;
                let flags = &mut printer.flags;
                if verb == 'v' {
                    flags.sharp_v = std::mem::take(&mut flags.sharp);
                    flags.plus_v = std::mem::take(&mut flags.plus);
                }
                return printer.value(value, verb);
            }
        };
        printer.push(format!("%!{verb}{complaint}").as_bytes())
    }

    fn next_is(&self, byte: u8) -> bool {
        self.format.get(self.at) == Some(&byte)
    }

    fn read_flags(&mut self, flags: &mut Flags) {
        while let Some(byte) = self.format.get(self.at) {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = !flags.minus,
                b'+' => flags.plus = true,
                b'-' => {
                    flags.minus = true;
                    flags.zero = false;
                }
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
    }

    /// Digits as a number, if there are any. A number that is too large ends the format, as in Go.
    fn read_number(&mut self) -> Option<usize> {
        let (number, length) = number_at(&self.format[self.at..]);
        self.at += length;
        number
    }

    /// `[3]`: the next value is the third. Tells whether there was an index that could be read.
    fn read_index(&mut self) -> bool {
        if !self.next_is(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let Some(close) = rest.iter().position(|byte| *byte == b']') else {
            self.good_index = false;
            self.at += 1;
            return false;
        };
        self.at += close + 1;
        let inside = &rest[1..close];
        let number = match number_at(inside) {
            (Some(number), length) if length == inside.len() => Some(number),
            _ => None,
        };
        match number {
            Some(number) if (1..=self.values.len()).contains(&number) => self.value = number - 1,
            _ => self.good_index = false,
        }
        number.is_some()
    }

    /// The value for a `*`, if it is an integer of sensible size.
    fn star(&mut self) -> Option<isize> {
        self.at += 1;
        let value = self.values.get(self.value)?;
        self.value += 1;
        let number = match value {
            Some(Value::Int(number)) => isize::try_from(*number).ok()?,
            Some(Value::Byte(number)) => isize::from(*number),
            _ => return None,
        };
        (number.unsigned_abs() <= WIDTH_MAX).then_some(number)
    }
}

/// The number that `text` begins with, and how much of it to pass: all, when it is too large.
fn number_at(text: &[u8]) -> (Option<usize>, usize) {
    let mut number = None;
    for (at, byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return (number, at);
        }
        if number.unwrap_or(0) > WIDTH_MAX {
            return (None, text.len());
        }
        number = Some(number.unwrap_or(0) * 10 + usize::from(byte - b'0'));
    }
    (number, text.len())
}
