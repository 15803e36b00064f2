//! What a value looks like under a verb.

use super::{NIL, Printer};
use crate::exec::Slot;
use crate::limits::Fault;
use crate::value::{List, Map, Record, Text, Value};

impl Printer<'_, '_> {
    /// A whole argument.
    pub(super) fn value(&mut self, value: &Slot, verb: char) -> Result<(), Fault> {
        let value = match value {
            None | Some(Value::Null) => {
                return match verb {
                    'T' | 'v' => self.padded(NIL.as_bytes()),
                    _ => self.bad_verb(None, verb),
                };
            }
            Some(value) => value,
        };
        match verb {
            'T' => self.text(value.type_name().as_bytes()),
            // Addresses mean nothing in an alert, and differ from run to run.
            'p' => self.bad_verb(Some(value), verb),
            'w' if matches!(value, Value::List(_) | Value::Map(_) | Value::Record(_)) => {
                self.bad_verb(Some(value), verb)
            }
            _ => self.part(value, verb),
        }
    }

    /// `type=value`, for complaints.
    pub(super) fn typed(&mut self, value: &Slot) -> Result<(), Fault> {
        match value {
            None | Some(Value::Null) => self.push(NIL.as_bytes()),
            Some(value) => {
                self.push(value.type_name().as_bytes())?;
                self.push(b"=")?;
                self.part(value, 'v')
            }
        }
    }

    /// A value or a part of one.
    fn part(&mut self, value: &Value, verb: char) -> Result<(), Fault> {
        self.budget.step(1)?;
        let fits = match value {
            Value::Null => return self.nil_part(),
            Value::Bool(truth) => {
                let fits = matches!(verb, 't' | 'v');
                if fits {
                    self.padded(if *truth { b"true" } else { b"false" })?;
                }
                fits
            }
            Value::Int(number) => self.integer(*number, true, verb)?,
            Value::Byte(number) => self.integer(i64::from(*number), false, verb)?,
            Value::Float(number) => self.float(*number, verb)?,
            Value::Str(text) => self.string(text, verb)?,
            Value::List(list) => return self.nested(|printer| printer.list(list, verb)),
            Value::Map(map) => return self.nested(|printer| printer.map(value, map, verb)),
            Value::Record(record) => return self.nested(|printer| printer.record(record, verb)),
        };
        if fits {
            Ok(())
        } else {
            self.bad_verb(Some(value), verb)
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.budget.enter()?;
        inner(self)?;
        self.budget.leave();
        Ok(())
    }

    /// A nil inside of something, whatever the width.
    fn nil_part(&mut self) -> Result<(), Fault> {
        let text = if self.flags.sharp_v {
            "interface {}(nil)"
        } else {
            NIL
        };
        self.push(text.as_bytes())
    }

    /// Prints a string; `false` when the verb is not for strings.
    fn string(&mut self, text: &Text, verb: char) -> Result<bool, Fault> {
        let bytes = text.as_bytes();
        match verb {
            'v' if self.flags.sharp_v => self.quoted(bytes)?,
            'v' | 's' => self.text(bytes)?,
            'q' => self.quoted(bytes)?,
            'x' => self.hex_text(bytes, b"0123456789abcdef", b'x')?,
            'X' => self.hex_text(bytes, b"0123456789ABCDEF", b'X')?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn list(&mut self, list: &List, verb: char) -> Result<(), Fault> {
        let go_syntax = self.flags.sharp_v;
        self.push(if go_syntax { b"[]interface {}{" } else { b"[" })?;
        for (at, item) in list.items().iter().enumerate() {
            self.separator(at)?;
            self.part(item, verb)?;
        }
        self.push(if go_syntax { b"}" } else { b"]" })
    }

    fn map(&mut self, value: &Value, map: &Map, verb: char) -> Result<(), Fault> {
        let go_syntax = self.flags.sharp_v;
        if go_syntax {
            self.push(value.type_name().as_bytes())?;
            self.push(b"{")?;
        } else {
            self.push(b"map[")?;
        }
        for (at, (key, item)) in map.entries().iter().enumerate() {
            self.separator(at)?;
            self.part(&Value::Str(key.clone()), verb)?;
            self.push(b":")?;
            self.part(item, verb)?;
        }
        self.push(if go_syntax { b"}" } else { b"]" })
    }

    fn record(&mut self, record: &Record, verb: char) -> Result<(), Fault> {
        if self.flags.sharp_v {
            self.push(record.type_name().as_bytes())?;
        }
        self.push(b"{")?;
        for (at, (name, field)) in record.fields().iter().enumerate() {
            self.separator(at)?;
            if self.flags.plus_v || self.flags.sharp_v {
                self.push(name.as_bytes())?;
                self.push(b":")?;
            }
            self.part(field, verb)?;
        }
        self.push(b"}")
    }

    fn separator(&mut self, at: usize) -> Result<(), Fault> {
        match at {
            0 => Ok(()),
            _ if self.flags.sharp_v => self.push(b", "),
            _ => self.push(b" "),
        }
    }

    /// Says in the text that the verb does not fit the value.
    fn bad_verb(&mut self, value: Option<&Value>, verb: char) -> Result<(), Fault> {
        // A value under `v` is never wrong, so this does not come back here.
        self.push(format!("%!{verb}(").as_bytes())?;
        self.typed(&value.cloned())?;
        self.push(b")")
    }

    /// Text, cut at the precision, in the width.
    fn text(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let bytes = self.cut(bytes);
        self.padded(bytes)
    }

    /// What the precision leaves of a text; it counts characters.
    pub(super) fn cut<'t>(&self, bytes: &'t [u8]) -> &'t [u8] {
        let Some(precision) = self.flags.precision else {
            return bytes;
        };
        let mut rest = bytes;
        for _ in 0..precision {
            match super::next_char(rest) {
                Some((_, length)) => rest = &rest[length..],
                None => return bytes,
            }
        }
        &bytes[..bytes.len() - rest.len()]
    }

    /// Two digits per byte.
    fn hex_text(&mut self, bytes: &[u8], digits: &[u8; 16], x: u8) -> Result<(), Fault> {
        let length = self
            .flags
            .precision
            .map_or(bytes.len(), |precision| precision.min(bytes.len()));
        if length == 0 {
            return self.padding(self.flags.width.unwrap_or(0));
        }
        let mut out = Vec::with_capacity(length * 2);
        for (at, byte) in bytes[..length].iter().enumerate() {
            if self.flags.space && at > 0 {
                out.push(b' ');
            }
            if self.flags.sharp && (self.flags.space || at == 0) {
                out.extend_from_slice(&[b'0', x]);
            }
            out.push(digits[usize::from(byte >> 4)]);
            out.push(digits[usize::from(byte & 15)]);
        }
        self.padded(&out)
    }
}
