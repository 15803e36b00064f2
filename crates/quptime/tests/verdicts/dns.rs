//! dns: records that are there or not, expectations that match or not, and servers that fail.

use std::net::SocketAddr;

use quptime::document::{Check, CheckKind};
use serde_json::json;

use crate::row::{Question, Row, check, question, quoted};
use crate::unbound::{LONG, PORT, RECORDS, Unbound, odd};

const TYPES: [&str; 6] = ["A", "AAAA", "CNAME", "MX", "TXT", "NS"];

/// The same for both sides. `expect` empty means any record of the type.
fn both(server: SocketAddr, name: &str, kind: &str, expect: &str) -> (Check, Question) {
    let check = Check {
        dns_record: kind.to_lowercase(),
        dns_resolver: server.to_string(),
        dns_expect: expect.to_owned(),
        ..check(CheckKind::Dns, name)
    };
    // A record as a line: name, seconds, class, type and data between tabs.
    let data = match (kind, expect) {
        (_, "") => String::new(),
        ("A" | "AAAA", expect) => format!("{}$", quoted(&expect.to_lowercase())),
        ("TXT", expect) => format!(".*{}", quoted(expect)),
        ("MX", expect) if !expect.contains(' ') => {
            format!("(?i:[0-9]+ {}\\.$)", quoted(expect.trim_end_matches('.')))
        }
        (_, expect) => format!("(?i:{}\\.$)", quoted(expect.trim_end_matches('.'))),
    };
    let settings = json!({
        "preferred_ip_protocol": "ip4",
        "query_name": name,
        "query_type": kind,
        "validate_answer_rrs": { "fail_if_none_matches_regexp": [format!("\tIN\t{kind}\t{data}")] },
    });
    (check, question("dns", server.to_string(), &settings))
}

pub(crate) fn rows(unbound: &Unbound) -> Vec<Row> {
    let server = SocketAddr::from((unbound.address(), PORT));
    let mut rows = expectations(server);
    rows.extend(absent(server));
    rows.extend(failures());
    let (check, question) = both(server, LONG, "TXT", "11yy");
    rows.push(Row::different(
        "dns answer that does not fit, over UDP",
        check.clone(),
        question.clone(),
        true,
        "qu asks again over TCP when an answer was cut, as resolvers do; the exporter asks as it is told",
    ));
    let mut over_tcp = question;
    over_tcp.module["dns"]["transport_protocol"] = json!("tcp");
    rows.push(Row::same(
        "dns answer that does not fit, over TCP",
        check,
        over_tcp,
        true,
    ));
    let nobody = SocketAddr::from((unbound.address(), 5354));
    let (check, question) = both(nobody, "www.test", "A", "");
    rows.push(Row::same("dns server that is not there", check, question, false));
    rows
}

/// Every name with every type, wanting anything, what there is, parts of it, and something else.
fn expectations(server: SocketAddr) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut names: Vec<&str> = RECORDS.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    names.sort_unstable();
    names.dedup();
    for name in names {
        for kind in TYPES {
            let values: Vec<&str> = (RECORDS.iter())
                .filter(|record| record.0 == name && record.1 == kind)
                .map(|record| record.2)
                .collect();
            let mut wanted = vec![(String::new(), !values.is_empty())];
            wanted.push((other(kind).to_owned(), false));
            for value in &values {
                wanted.push(((*value).to_owned(), true));
            }
            if let Some(value) = values.first() {
                wanted.extend(variants(kind, value));
            }
            for (expect, up) in wanted {
                let (check, question) = both(server, name, kind, &expect);
                rows.push(Row::same(
                    format!("dns {kind} of {name}, want [{expect}]"),
                    check,
                    question,
                    up,
                ));
            }
        }
    }
    rows
}

/// Something else of this type.
fn other(kind: &str) -> &'static str {
    match kind {
        "A" => "192.0.2.99",
        "AAAA" => "2001:db8::99",
        "MX" => "99 elsewhere.test",
        _ => "elsewhere.test",
    }
}

/// Other ways to write a value, parts of it, and whether they count.
fn variants(kind: &str, value: &str) -> Vec<(String, bool)> {
    let shorter = value[..value.len() - 1].to_owned();
    match kind {
        "A" | "AAAA" => vec![(format!("{value}9"), false), (shorter, false)],
        "TXT" => vec![
            (shorter, true),
            (value.to_uppercase(), false),
            (format!("{value}x"), false),
        ],
        "MX" => {
            let host = value.split_once(' ').map_or(value, |(_, host)| host);
            vec![
                (host.to_owned(), true),
                (host.to_uppercase(), true),
                (format!("{value}."), true),
                (format!("7 {host}"), false),
                (host[1..].to_owned(), false),
            ]
        }
        _ => vec![
            (value.to_uppercase(), true),
            (format!("{value}."), true),
            (value[1..].to_owned(), false),
            (shorter, false),
        ],
    }
}

/// Names that do not exist, and zones that are refused.
fn absent(server: SocketAddr) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["none.test", "deep.none.test", "www.refused"] {
        for kind in TYPES {
            let (check, question) = both(server, name, kind, "");
            rows.push(Row::same(format!("dns {kind} of {name}"), check, question, false));
        }
    }
    rows
}

/// Servers that fail in ways of their own.
fn failures() -> Vec<Row> {
    let code = |number: u8| {
        odd(move |mut bytes| {
            // The flags: an answer, with this code (RFC 1035, 4.1.1).
            *bytes.get_mut(2)? |= 0x80;
            *bytes.get_mut(3)? = number;
            Some(bytes)
        })
    };
    let servers = [
        ("FORMERR", code(1), false),
        ("SERVFAIL", code(2), false),
        ("NXDOMAIN", code(3), false),
        ("NOTIMP", code(4), false),
        ("REFUSED", code(5), false),
        ("an empty answer", code(0), false),
        (
            "rubbish",
            odd(|_| Some(b"this is no message at all".to_vec())),
            true,
        ),
        ("its own question", odd(Some), true),
        ("nothing", odd(|_| None), true),
    ];
    let mut rows = Vec::new();
    for (name, server, waits) in servers {
        for kind in ["A", "TXT", "NS"] {
            let (check, question) = both(server, "www.test", kind, "");
            let row = Row::same(
                format!("dns server that says {name}, {kind}"),
                check,
                question,
                false,
            );
            rows.push(if waits { row.impatient() } else { row });
        }
    }
    rows
}
