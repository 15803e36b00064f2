//! What is printed: each reply as text for people and `grep`, as JSON, or as a table.
//!
//! The text of keys and values is what `etcdctl` prints, byte for byte. In a table they are escaped and, where they are long, cut,
//! so that it stays one; text and JSON have them whole. Printing a reply flushes it, so that a reader of a
//! stream sees each event as it comes.

use std::fmt::{self, Write as _};
use std::io::Write;

use serde_json::{Map, Value};
use terminal::{OutputFormat, Table};

use super::failure::{Failure, Result};
use super::json::{self, Named};
use crate::wire::mvccpb::KeyValue;

/// Characters of a key or a value that a table shows; longer ones are cut. Two such columns fit on a wide screen.
const CELL_CHARS_MAX: usize = 64;

/// Prints replies in the chosen format.
pub(super) struct Printer {
    format: OutputFormat,
    hex: bool,
    output: Box<dyn Write + Send>,
}

impl Printer {
    pub(super) fn new(format: OutputFormat, hex: bool, output: Box<dyn Write + Send>) -> Self {
        Self { format, hex, output }
    }

    /// Whether the text format is on, so that lines beside the replies may be printed.
    pub(super) fn is_text(&self) -> bool {
        self.format == OutputFormat::Text
    }

    pub(super) fn is_json(&self) -> bool {
        self.format.is_json()
    }

    /// Prints a reply that has no table: `table` shows its text.
    pub(super) fn reply<M: Named>(&mut self, reply: &M, text: impl FnOnce(&mut Text)) -> Result<()> {
        if self.format.is_json() {
            self.json(reply)
        } else {
            self.text(text)
        }
    }

    /// Prints a reply that has all three forms.
    pub(super) fn listing<M: Named>(
        &mut self,
        reply: &M,
        text: impl FnOnce(&mut Text),
        table: impl FnOnce(&Shown) -> Table,
    ) -> Result<()> {
        match self.format {
            OutputFormat::Text => self.text(text),
            OutputFormat::Json => self.json(reply),
            OutputFormat::Table => self.table(&table(&Shown { hex: self.hex })),
        }
    }

    /// Prints text whatever the format.
    pub(super) fn text(&mut self, write: impl FnOnce(&mut Text)) -> Result<()> {
        let mut text = Text {
            hex: self.hex,
            buffer: Vec::new(),
        };
        write(&mut text);
        self.write(&text.buffer)
    }

    /// Prints a table whatever the format.
    pub(super) fn table(&mut self, table: &Table) -> Result<()> {
        self.write(table.render(None).as_bytes())
    }

    /// Prints facts that are not a reply: `name: value` lines, an object, or a table of one row.
    pub(super) fn facts(&mut self, facts: &[(&str, Value)]) -> Result<()> {
        let plain = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned)
        };
        match self.format {
            OutputFormat::Text => self.text(|text| {
                for (name, value) in facts {
                    text.line(format_args!("{name}: {}", plain(value)));
                }
            }),
            OutputFormat::Json => {
                let object: Map<_, _> = facts
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                self.text(|text| text.line(Value::Object(object)))
            }
            OutputFormat::Table => {
                let mut table = Table::new(facts.iter().map(|(name, _)| name.to_uppercase()));
                table.row(facts.iter().map(|(_, value)| plain(value)));
                self.table(&table)
            }
        }
    }

    fn json<M: Named>(&mut self, reply: &M) -> Result<()> {
        let mut line = json::text(reply);
        line.push('\n');
        self.write(line.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output
            .write_all(bytes)
            .and_then(|()| self.output.flush())
            .map_err(|error| Failure::output(&error))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.output.flush().map_err(|error| Failure::output(&error))
    }
}

/// Text being written. Keys and values are bytes and stay so.
pub(super) struct Text {
    hex: bool,
    buffer: Vec<u8>,
}

impl Text {
    /// One line; the newline is added.
    pub(super) fn line(&mut self, line: impl fmt::Display) {
        // Writing to a `Vec` does not fail.
        let _ = writeln!(self.buffer, "{line}");
    }

    /// A key or a value on a line of its own.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            self.buffer.extend_from_slice(hex(bytes).as_bytes());
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.buffer.push(b'\n');
    }

    /// Key and value on alternate lines.
    pub(super) fn pair(&mut self, pair: &KeyValue, value_only: bool) {
        if !value_only {
            self.bytes(&pair.key);
        }
        self.bytes(&pair.value);
    }
}

/// How keys and values look in a table.
pub(super) struct Shown {
    hex: bool,
}

impl Shown {
    pub(super) fn bytes(&self, bytes: &[u8]) -> String {
        // Nothing behind what can be shown is looked at: a value may have megabytes.
        let start = &bytes[..bytes.len().min(CELL_CHARS_MAX * LETTER_BYTES_MAX)];
        let shown = if self.hex { hex(start) } else { escaped(start) };
        if start.len() == bytes.len() && shown.chars().count() <= CELL_CHARS_MAX {
            return shown;
        }
        let cut: String = shown.chars().take(CELL_CHARS_MAX).collect();
        format!("{cut}... ({} bytes)", bytes.len())
    }

    /// Keys with their values and revisions.
    pub(super) fn pairs<'a>(&self, pairs: impl IntoIterator<Item = &'a KeyValue>) -> Table {
        let titles = [
            "KEY",
            "VALUE",
            "CREATE_REVISION",
            "MOD_REVISION",
            "VERSION",
            "LEASE",
        ];
        let mut table = Table::new(titles).numeric(&titles[2..5]);
        for pair in pairs {
            table.row([
                self.bytes(&pair.key),
                self.bytes(&pair.value),
                pair.create_revision.to_string(),
                pair.mod_revision.to_string(),
                pair.version.to_string(),
                if pair.lease == 0 {
                    String::new()
                } else {
                    lease(pair.lease)
                },
            ]);
        }
        table
    }
}

/// Bytes of the longest letter in UTF-8.
const LETTER_BYTES_MAX: usize = 4;

/// Text as it is, and everything that is none, or that a terminal would obey, as an escape.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        text.push_str(&hex(chunk.invalid()));
    }
    text
}

/// Bytes as `etcdctl --hex` shows them: `\x66\x6f`.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 4), |mut text, byte| {
            // Writing to a `String` does not fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
}

/// A lease id as it is printed everywhere.
pub(super) fn lease(id: i64) -> String {
    format!("{id:016x}")
}

/// A table with one column.
pub(super) fn column(title: &str, cells: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new([title]);
    for cell in cells {
        table.row([cell]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::wire::etcdserverpb::RangeResponse;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(format: OutputFormat, hex: bool) -> Vec<u8> {
        let pair = KeyValue {
            key: Bytes::from_static(b"k\xff"),
            value: Bytes::from_static(b"v"),
            mod_revision: 3,
            ..Default::default()
        };
        let seen = Shared::default();
        let mut printer = Printer::new(format, hex, Box::new(seen.clone()));
        let reply = RangeResponse {
            kvs: vec![pair],
            ..Default::default()
        };
        printer
            .listing(
                &reply,
                |text| text.pair(&reply.kvs[0], false),
                |shown| shown.pairs(&reply.kvs),
            )
            .unwrap();
        seen.0.lock().unwrap().clone()
    }

    #[test]
    fn text_passes_bytes_through() {
        assert_eq!(shown(OutputFormat::Text, false), b"k\xff\nv\n");
        assert_eq!(
            shown(OutputFormat::Text, true),
            br"\x6b\xff
\x76
"
        );
    }

    #[test]
    fn a_table_stays_one_whatever_the_values_are() {
        let shown = |bytes: &[u8]| Shown { hex: false }.bytes(bytes);
        assert_eq!(shown("grüße\u{1f600}".as_bytes()), "grüße\u{1f600}");
        assert_eq!(shown(b"a\n\x1b[31m\0"), "a\\n\\u{1b}[31m\\u{0}");
        assert_eq!(shown(b"\xff\xfeok"), r"\xff\xfeok");
        assert_eq!(shown(&[b'x'; 64]), "x".repeat(64));
        assert_eq!(shown(&[b'x'; 65]), format!("{}... (65 bytes)", "x".repeat(64)));
        let long = "ü".repeat(1_000_000);
        assert_eq!(
            shown(long.as_bytes()),
            format!("{}... (2000000 bytes)", "ü".repeat(64))
        );
        let hex = Shown { hex: true }.bytes(&[0; 100]);
        assert_eq!(hex, format!("{}... (100 bytes)", r"\x00".repeat(16)));
    }

    #[test]
    fn other_formats_are_text_safe() {
        assert_eq!(
            shown(OutputFormat::Json, false),
            b"{\"kvs\":[{\"key\":\"a/8=\",\"mod_revision\":\"3\",\"value\":\"dg==\"}]}\n"
        );
        let table = String::from_utf8(shown(OutputFormat::Table, true)).unwrap();
        assert_eq!(
            table
                .lines()
                .nth(1)
                .unwrap()
                .split_whitespace()
                .collect::<Vec<_>>(),
            [r"\x6b\xff", r"\x76", "0", "3", "0"]
        );
    }
}
