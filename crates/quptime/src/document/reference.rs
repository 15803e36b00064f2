//! `docs/reference/qu-files.md` against the program: every key is there, none is invented, and the examples are good.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::schema::{
    self, Alert, AlertKind, Check, CheckKind, Document, Enrollment, OnUncertain, Peer, Settings, Window,
};
use super::{parse, review};
use crate::home::{FallbackAlert, FallbackKind, NodeFile, Trust, TrustEntry};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/qu-files.md");
    std::fs::read_to_string(path).unwrap()
}

/// What a type asks a deserializer for: the keys of a struct, or the variants of an enum.
struct Asked(Option<&'static [&'static str]>);

#[derive(Debug)]
struct Enough;

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seen enough")
    }
}

impl std::error::Error for Enough {}

impl de::Error for Enough {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Enough
    }
}

impl<'de> Deserializer<'de> for &mut Asked {
    type Error = Enough;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Enough> {
        Err(Enough)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Enough> {
        self.0 = Some(fields);
        Err(Enough)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Enough> {
        self.0 = Some(variants);
        Err(Enough)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

fn names_of<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let mut asked = Asked(None);
    drop(T::deserialize(&mut asked));
    asked.0.unwrap().iter().map(ToString::to_string).collect()
}

/// The rows of all tables below a heading and before the next one: cells without blanks around them.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let mut fenced = false;
    page.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| {
            fenced ^= line.starts_with("```");
            fenced || !line.starts_with('#')
        })
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let inner = line.trim().trim_matches('|');
            inner.split(" | ").map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// First cells, without the quotes around them.
fn first(rows: &[Vec<String>]) -> Vec<String> {
    rows.iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect()
}

/// The example below a heading.
fn example<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, rest) = rest.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn every_key_is_explained_and_none_is_invented() {
    let page = page();
    for (heading, keys) in [
        ("## `node.yaml`", names_of::<NodeFile>()),
        ("### `fallback_alert`", names_of::<FallbackAlert>()),
        ("## `cluster.yaml`", names_of::<Document>()),
        ("### `peers`", names_of::<Peer>()),
        ("### `checks`", names_of::<Check>()),
        ("### `pending_enrollments`", names_of::<Enrollment>()),
        ("### `maintenance`", names_of::<Window>()),
        ("### `settings`", names_of::<Settings>()),
        ("## `trust.yaml`", names_of::<Trust>()),
        ("### `entries`", names_of::<TrustEntry>()),
    ] {
        let told = first(&rows(&page, heading));
        assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), keys, "{heading}");
        assert_eq!(told.len(), keys.len(), "{heading}: a key is told twice");
    }
    // This section has a second table: what each type tells.
    let told = first(&rows(&page, "### `alerts`"));
    let expected: BTreeSet<String> = names_of::<Alert>()
        .union(&names_of::<AlertKind>())
        .cloned()
        .collect();
    assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(told.len(), expected.len());
}

#[test]
fn every_choice_is_named() {
    let page = page();
    let cell = |heading: &str, key: &str, column: usize| {
        let rows = rows(&page, heading);
        let row = rows.iter().find(|row| row[0] == format!("`{key}`")).unwrap();
        row[column].clone()
    };
    for (text, choices) in [
        (cell("### `alerts`", "type", 3), names_of::<AlertKind>()),
        (cell("### `checks`", "type", 3), names_of::<CheckKind>()),
        (
            cell("### `fallback_alert`", "type", 1),
            names_of::<FallbackKind>(),
        ),
        (cell("### `alerts`", "on_uncertain", 1), names_of::<OnUncertain>()),
        (
            cell("## `node.yaml`", "log_format", 1),
            names_of::<service::logs::Format>(),
        ),
    ] {
        let named: BTreeSet<String> = text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(named, choices, "{text}");
    }
}

#[test]
fn defaults_are_those_of_the_program() {
    let page = page();
    let settings = Settings::default();
    let node: NodeFile = super::parse::parse_strictly(
        "node_id: 1c20aa41-7b6d-4d0e-9b1e-0f6a2f7c9d11\nadvertise: alpha.example.com:9901\n",
    )
    .unwrap();
    for (heading, key, value) in [
        ("### `checks`", "interval", schema::INTERVAL.to_string()),
        ("### `checks`", "timeout", schema::TIMEOUT.to_string()),
        ("### `checks`", "confirm", schema::CONFIRM.to_string()),
        ("### `checks`", "recover", schema::CONFIRM.to_string()),
        ("### `checks`", "icmp_max_loss", schema::ICMP_MAX_LOSS.to_string()),
        (
            "### `settings`",
            "master_cooldown",
            settings.cooldown().to_string(),
        ),
        ("### `settings`", "heartbeat", settings.beat().to_string()),
        ("### `settings`", "dead_after", settings.silence().to_string()),
        ("## `node.yaml`", "bind_addr", node.bind_addr.clone()),
        ("## `node.yaml`", "bind_port", node.bind_port.to_string()),
        (
            "## `node.yaml`",
            "fallback_after",
            node.fallback_after().to_string(),
        ),
        (
            "## `node.yaml`",
            "watchdog_every",
            node.watchdog_every().to_string(),
        ),
    ] {
        let rows = rows(&page, heading);
        let row = rows.iter().find(|row| row[0] == format!("`{key}`")).unwrap();
        assert_eq!(row[2], format!("`{value}`"), "{heading} {key}");
    }
    for (what, most) in [
        ("peers", review::PEERS_MAX),
        ("checks", review::CHECKS_MAX),
        ("alerts", review::ALERTS_MAX),
        ("maintenance", review::WINDOWS_MAX),
    ] {
        let rows = rows(&page, "## `cluster.yaml`");
        let row = rows.iter().find(|row| row[0] == format!("`{what}`")).unwrap();
        assert!(row[3].contains(&format!("at most {most}")), "{row:?}");
    }
}

#[test]
fn keys_of_the_second_level_are_marked() {
    let page = page();
    let marked = |heading: &str, key: &str| {
        let rows = rows(&page, heading);
        let row = rows.iter().find(|row| row[0] == format!("`{key}`")).unwrap();
        row[3].contains("*Level 2.*")
    };
    // Each key once in a document of its own: the level it needs is what the page says.
    let check = "version: 1\npeers:\n  - node_id: 1c20aa41-7b6d-4d0e-9b1e-0f6a2f7c9d11\n    advertise: a:1\nchecks:\n  - name: x\n    \
                 type: tcp\n    target: h:1\n  - name: y\n    type: tcp\n    target: h:1\n";
    for (key, value) in [
        ("tls_verify", "true"),
        ("icmp_count", "3"),
        ("icmp_max_loss", "50"),
        ("confirm", "3"),
        ("recover", "3"),
        ("min_reports", "1"),
        ("depends_on", "[x]"),
        ("group", "g"),
        ("second_opinion", "false"),
        ("remind_every", "1h"),
        ("expect_status", "200"),
        ("body_match", "x"),
        ("tls_warn_days", "3"),
        ("dns_expect", "x"),
        ("resolvers", "[1.1.1.1]"),
        ("disabled", "true"),
    ] {
        let document = parse(&format!("{check}    {key}: {value}\n")).unwrap();
        assert_eq!(document.needed_level() == 2, marked("### `checks`", key), "{key}");
    }
    let alert = "version: 1\nalerts:\n  - name: x\n    type: smtp\n";
    for (key, value) in [
        ("smtp_tls", "true"),
        ("smtp_password_file", "/x"),
        ("after", "1m"),
        ("on_uncertain", "drop"),
        ("smtp_port", "25"),
        ("default", "true"),
    ] {
        let document = parse(&format!("{alert}    {key}: {value}\n")).unwrap();
        assert_eq!(document.needed_level() == 2, marked("### `alerts`", key), "{key}");
    }
}

#[test]
fn examples_are_good() {
    let page = page();
    let document = parse(example(&page, "## `cluster.yaml`")).unwrap();
    assert_eq!(review::review(&document), Ok(Vec::new()));
    assert_eq!(document.schema_level(), document.needed_level());
    let node: NodeFile = super::parse::parse_strictly(example(&page, "## `node.yaml`")).unwrap();
    assert_eq!(node.review(), Ok(()));
    let trust: Trust = super::parse::parse_strictly(example(&page, "## `trust.yaml`")).unwrap();
    assert_eq!(trust.entries.len(), 1);
}

#[test]
fn templates_see_what_is_listed_and_nothing_else() {
    let told = first(&rows(&page(), "## Templates"));
    for field in &told {
        let alert = Alert {
            body_template: format!("{{{{{field}}}}}"),
            ..Alert::new("x", AlertKind::Discord)
        };
        assert_eq!(crate::message::check_templates(&alert), Ok(()), "{field}");
    }
    let known = crate::message::fields();
    assert_eq!(told.iter().cloned().collect::<BTreeSet<_>>(), known);
    assert_eq!(told.len(), known.len());
}

/// What the receiver on the page, given to Python, says of a request.
fn judged_by_the_page(header: &str, body: &[u8], secret: &str) -> String {
    use std::io::Write as _;
    let page = page();
    let (_, rest) = page.split_once("#### Signature of webhooks").unwrap();
    let (_, rest) = rest.split_once("```python\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let program = format!(
        "{program}\nimport sys\nprint(is_genuine(sys.argv[1], sys.stdin.buffer.read(), sys.argv[2].encode()))\n"
    );
    let mut python = std::process::Command::new("python3")
        .args(["-c", &program, header, secret])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(body).unwrap();
    let output = python.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_receiver_written_from_the_page_knows_what_is_signed() {
    assert!(page().contains("`Mainstay-Signature: t=SECONDS,v1=DIGITS`"));
    assert_eq!(notify::SIGNATURE_HEADER, "mainstay-signature");
    let now = service::SystemClock::shared().unix_ms() / 1000;
    let body = "{\"verb\":\"DOWN\", \"name\":\"k\u{f6}ln\"}\n".as_bytes();
    let header = notify::sign("s3cret", now, body);
    assert_eq!(judged_by_the_page(&header, body, "s3cret"), "True\n");
    assert_eq!(judged_by_the_page(&header, body, "another"), "False\n");
    assert_eq!(judged_by_the_page(&header, &body[1..], "s3cret"), "False\n");
    let late = notify::sign("s3cret", now - 3600, body);
    assert_eq!(judged_by_the_page(&late, body, "s3cret"), "False\n");
}
