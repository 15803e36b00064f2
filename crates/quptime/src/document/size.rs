//! How large a document is when it is written, and how large it may become.
//!
//! A cluster must be able to read what it has written, and to carry it: `cluster.yaml` after the next start, changes and snapshots in frames
//! between nodes. So a change that would make the text larger than [`WRITTEN_MAX`] is refused, by the node that is asked and by every replica
//! again. What is read ([`super::parse::BYTES_MAX`]) is twice that: there is room for what people write around the entries, and for what
//! an older program has let in.
//!
//! Writing the text to see how long it is would cost more than all the rest of a change. It is enough to know a length that it never exceeds:
//! that of the same document as JSON, and for each place in which YAML may take more than JSON, what it takes there at most.
//!
//! **Invariant:** replicas compare this number, so it must be the same in every version of the program.

use std::cell::Cell;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use terminal::brief;

use super::change::{Change, Entry, entries};
use super::schema::Document;

/// Bytes that a document may take when it is written: twice of what ten thousand checks take.
pub const WRITTEN_MAX: usize = 8 << 20;

/// What may come in front of the entries with any change: the version, when and by whom it was made, the level, names of sections.
const HEAD: usize = 256;
/// Longest line of text after which the writer of YAML looks for a place to break it.
const FOLDED: usize = 80;
/// What stands around a text of several lines: the sign for it, and a line break.
const BLOCK: usize = 8;

/// A length that the text of this value never exceeds. Nor does its JSON.
///
/// # Panics
/// Only on values that are no data, such as maps without texts as keys.
pub fn upper_bound<T: Serialize + ?Sized>(value: &T) -> usize {
    let surplus = Cell::new(0);
    let mut json = Counted(0);
    let scale = Scale {
        surplus: &surplus,
        depth: 0,
        text: Text::default(),
    };
    let written = value.serialize(&mut Serializer::with_formatter(&mut json, scale));
    written.expect("documents consist of texts, numbers, lists and structs");
    json.0 + surplus.get()
}

/// Whether a document may take the place of another one. What is too large already may become smaller step by step.
///
/// # Errors
/// How large it would be, in one line, and what its largest entry is.
pub fn check(before: &Document, wanted: &Document, most: usize) -> Result<(), String> {
    let size = upper_bound(wanted);
    if size <= most || size <= upper_bound(before) {
        return Ok(());
    }
    let largest = entries(wanted)
        .into_values()
        .map(|entry| (upper_bound(&entry), entry))
        .max_by_key(|(size, _)| *size);
    let largest = largest.map_or_else(String::new, |(size, entry)| {
        format!("; the largest is {} with {size}", brief(&entry.title()))
    });
    Err(format!(
        "cluster.yaml would take {size} bytes; at most {most} are possible: shorten texts or remove entries{largest}"
    ))
}

/// Whether changes surely fit, without looking at what they lead to.
pub fn surely_fit(before: &Document, changes: &[Change], most: usize) -> bool {
    let added = changes.iter().filter_map(|change| change.wanted.as_ref());
    upper_bound(before) + HEAD + added.map(added_by).sum::<usize>() <= most
}

/// As part of a document an entry stands deeper than by itself.
fn added_by(entry: &Entry) -> usize {
    upper_bound(&[[[entry]]])
}

struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text that is being written.
#[derive(Default)]
struct Text {
    bytes: usize,
    breaks: usize,
}

/// Adds up what YAML may take more than JSON.
struct Scale<'a> {
    surplus: &'a Cell<usize>,
    depth: usize,
    text: Text,
}

impl Scale<'_> {
    fn add(&self, bytes: usize) {
        self.surplus.set(self.surplus.get() + bytes);
    }

    /// In front of a key or an element, and the line break behind it.
    fn line(&self) -> usize {
        2 * self.depth + 1
    }
}

impl Formatter for Scale<'_> {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.add(self.line());
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.add(self.line());
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.text = Text::default();
        writer.write_all(b"\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.text.bytes += fragment.len();
        // What is seen in JSON may be escaped in YAML: two letters become four, three become six.
        let acts = |letter: &char| {
            matches!(
                letter,
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
            )
        };
        if fragment.bytes().any(|byte| byte >= 0x7f) {
            self.add(3 * fragment.chars().filter(acts).count());
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.text.bytes += 1;
        if matches!(escape, CharEscape::LineFeed) {
            self.text.breaks += 1;
        }
        let short = !matches!(escape, CharEscape::AsciiControl(_));
        writer.write_all(if short { b"\\n" } else { b"\\u0000" })
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let Text { bytes, breaks } = self.text;
        if breaks > 0 || bytes > FOLDED {
            // Its own lines, and those it is broken into.
            let lines = 1 + breaks + bytes / FOLDED;
            self.add(BLOCK + lines * (2 * (self.depth + 1) + 1));
        }
        writer.write_all(b"\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::render;
    use super::super::schema::{Alert, AlertKind, Check, CheckKind, Enrollment, Peer, Settings, Window};
    use super::*;
    use crate::duration::Span;
    use crate::identity::NodeId;
    use crate::secret::Secret;

    /// Texts of every kind that is written in a way of its own.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9 .:/#'-]{0,30}",
            "(a{1,90} ){0,6}",
            "([a-z]{1,4} {1,3}){0,90}",
            "[ a\n]{0,60}",
            "\n{0,30}",
            "(x{0,3}\n){0,40}",
            "[\\x00-\\x7f]{0,60}",
            "[\u{7f}-\u{a5}\u{2027}-\u{202a}\u{fefe}\u{feff}\u{fffd}-\u{ffff}]{0,60}",
            "\\PC{0,60}",
            ".{0,60}",
            Just("true".to_owned()),
            Just("12".to_owned()),
            Just("~".to_owned()),
        ]
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(text(), 0..5)
    }

    fn peer() -> impl Strategy<Value = Peer> {
        let option = prop::option::of(text());
        (text(), text(), text(), option).prop_map(|(advertise, fingerprint, cert_pem, location)| Peer {
            node_id: NodeId::draw(),
            advertise,
            fingerprint,
            cert_pem,
            location,
        })
    }

    fn check() -> impl Strategy<Value = Check> {
        let names = (text(), text(), text(), text(), text());
        (names, texts(), texts(), any::<u32>(), any::<u64>()).prop_map(
            |((id, name, target, body_match, dns_expect), alert_ids, depends_on, number, millis)| Check {
                id,
                body_match,
                dns_expect: dns_expect.clone(),
                alert_ids,
                depends_on: depends_on.clone(),
                resolvers: depends_on,
                group: (number % 2 == 0).then_some(dns_expect),
                tls_verify: number % 3 == 0,
                disabled: number % 5 == 0,
                confirm: number,
                interval: Span::from_millis(millis),
                remind_every: Some(Span::from_millis(millis / 7)),
                second_opinion: Some(true),
                ..Check::new(name, CheckKind::Icmp, target)
            },
        )
    }

    fn alert() -> impl Strategy<Value = Alert> {
        let names = (text(), text(), text(), text());
        (names, texts(), any::<u16>()).prop_map(
            |((id, name, body_template, password), smtp_to, smtp_port)| Alert {
                id,
                body_template,
                smtp_password: Secret::new(password),
                smtp_to,
                smtp_port,
                smtp_starttls: Some(false),
                ..Alert::new(name, AlertKind::Alertmanager)
            },
        )
    }

    fn document() -> impl Strategy<Value = Document> {
        let entries = (
            prop::collection::vec(peer(), 0..3),
            prop::collection::vec(check(), 0..4),
            prop::collection::vec(alert(), 0..3),
        );
        (any::<u64>(), text(), texts(), entries).prop_map(
            |(version, text, resolvers, (peers, checks, alerts))| Document {
                version,
                updated_at: Some(text.clone()),
                updated_by: Some(NodeId::draw()),
                schema: Some(2),
                resolvers: resolvers.clone(),
                pending_enrollments: vec![Enrollment {
                    id: text.clone(),
                    name: text.clone(),
                    secret_hash: text.clone(),
                    expires_at: text.clone(),
                    auto_approve: true,
                    applicant: peers.first().cloned(),
                }],
                maintenance: vec![Window {
                    id: text.clone(),
                    name: text.clone(),
                    checks: resolvers,
                    group: Some(text.clone()),
                    start: text.clone(),
                    end: text,
                    pause: true,
                }],
                settings: Settings {
                    heartbeat: Some(Span::from_millis(version)),
                    flap_damping: Some(true),
                    ..Settings::default()
                },
                peers,
                checks,
                alerts,
            },
        )
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_its_bound(document in document()) {
            let (bound, text) = (upper_bound(&document), render(&document));
            prop_assert!(text.len() <= bound, "{} bytes, bound {bound}:\n{text}", text.len());
            prop_assert!(serde_json::to_vec(&document).unwrap().len() <= bound);
        }

        #[test]
        fn what_surely_fits_fits(before in document(), wanted in document()) {
            let changes = super::super::changes_between(&before, &wanted);
            let after = super::super::change::apply(&before, &changes).unwrap();
            let size = upper_bound(&after);
            prop_assert!(!surely_fit(&before, &changes, size.saturating_sub(1)), "{size}");
        }
    }

    fn of_checks(count: usize) -> Document {
        let check = |number: usize| Check {
            id: format!("{number:016x}"),
            expect_status: 200,
            alert_ids: vec!["oncall".to_owned()],
            ..Check::new(
                format!("service-{number}"),
                CheckKind::Http,
                format!("https://service-{number}.example.com:8443/health?full=yes"),
            )
        };
        Document {
            version: 3,
            checks: (0..count).map(check).collect(),
            ..Document::default()
        }
    }

    #[test]
    fn ten_thousand_checks_have_room() {
        let document = of_checks(10_000);
        let (bound, text) = (upper_bound(&document), render(&document));
        assert!(bound < text.len() * 4 / 3, "{bound} for {} bytes", text.len());
        assert!(2 * bound < WRITTEN_MAX, "{bound}");
    }

    #[test]
    fn what_is_too_large_may_only_become_smaller() {
        let (small, large) = (of_checks(3), of_checks(5));
        let most = upper_bound(&of_checks(4));
        assert_eq!(super::check(&small, &of_checks(4), most), Ok(()));
        let mut with_a_long_one = large.clone();
        with_a_long_one.checks[2].target = format!("https://{}/", "x".repeat(4000));
        let told = super::check(&small, &with_a_long_one, most).unwrap_err();
        assert!(
            told.starts_with("cluster.yaml would take 5")
                && told.contains(&format!(
                    "at most {most} are possible: shorten texts or remove entries"
                ))
                && told.contains("; the largest is check service-2 with 4"),
            "{told}"
        );
        assert!(told.len() < 250, "{told}");
        assert_eq!(super::check(&with_a_long_one, &large, most), Ok(()));
        assert_eq!(super::check(&large, &large, most), Ok(()));
        assert!(super::check(&large, &with_a_long_one, most).is_err());
    }
}
