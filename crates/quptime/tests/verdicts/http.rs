//! http over nginx: statuses, redirects, bodies, passwords, and ports where nobody answers.

use quptime::document::{Check, CheckKind};
use serde_json::{Value, json};

use crate::nginx::{BIG, CHAIN_MAX, CLOSED, HELLO, Nginx, REDIRECTS, STATUSES};
use crate::row::{Question, Row, check, question, quoted};
use crate::sockets::Sockets;

/// What a row wants of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants<'a> {
    /// 0 for any 2xx.
    pub(crate) status: u16,
    /// Empty for any.
    pub(crate) text: &'a str,
    /// Whether the exporter follows redirects. qu does until one has the wanted status.
    pub(crate) follows: bool,
}

impl Default for Wants<'_> {
    fn default() -> Self {
        Self {
            status: 0,
            text: "",
            follows: true,
        }
    }
}

/// The same for both sides.
pub(crate) fn both(url: &str, wants: Wants<'_>) -> (Check, Question) {
    let check = Check {
        expect_status: wants.status,
        body_match: wants.text.to_owned(),
        ..check(CheckKind::Http, url)
    };
    let mut settings = json!({ "preferred_ip_protocol": "ip4", "follow_redirects": wants.follows });
    if wants.status != 0 {
        settings["valid_status_codes"] = json!([wants.status]);
    }
    if !wants.text.is_empty() {
        settings["fail_if_body_not_matches_regexp"] = json!([quoted(wants.text)]);
    }
    (check, question("http", url, &settings))
}

/// The same with certificates verified by this authority.
pub(crate) fn both_secure(url: &str, wants: Wants<'_>, trusted: &std::path::Path) -> (Check, Question) {
    let (check, mut question) = both(url, wants);
    question.module["http"]["tls_config"] = json!({ "ca_file": Value::from(trusted.display().to_string()) });
    (check, question)
}

fn row(about: String, url: &str, wants: Wants<'_>, up: bool) -> Row {
    let (check, question) = both(url, wants);
    Row::same(about, check, question, up)
}

pub(crate) fn rows(nginx: &Nginx, sockets: &Sockets) -> Vec<Row> {
    let mut rows = statuses(nginx);
    rows.extend(redirects(nginx));
    rows.extend(chains(nginx));
    rows.extend(bodies(nginx));
    rows.extend(passwords(nginx));
    for port in [CLOSED, 9, 11, 13] {
        let url = format!("http://{}:{port}/", nginx.address());
        rows.push(row(
            format!("http closed port {port}"),
            &url,
            Wants::default(),
            false,
        ));
    }
    for (name, address) in sockets.that_wait() {
        let url = format!("http://{address}/");
        rows.push(row(format!("http {name}"), &url, Wants::default(), false).impatient());
    }
    rows
}

fn statuses(nginx: &Nginx) -> Vec<Row> {
    let mut rows = Vec::new();
    for status in STATUSES {
        let mut wanted = vec![0, 200, 204, 304, 404, 418, 503, status];
        wanted.sort_unstable();
        wanted.dedup();
        for want in wanted {
            let up = match want {
                0 => (200..300).contains(&status),
                want => want == status,
            };
            let wants = Wants {
                status: want,
                ..Wants::default()
            };
            let about = format!("http status {status}, want {want}");
            rows.push(row(about, &nginx.url(&format!("/status/{status}")), wants, up));
        }
    }
    rows
}

fn redirects(nginx: &Nginx) -> Vec<Row> {
    let mut rows = Vec::new();
    for code in REDIRECTS {
        for (to, end) in [
            ("ok", Some(200)),
            ("other", Some(200)),
            ("missing", Some(404)),
            ("failing", Some(500)),
            ("loop", None),
            ("closed", None),
            ("ftp", None),
        ] {
            let mut wanted = vec![0, 200, 404, code];
            wanted.extend(end.filter(|end| !wanted.contains(end)));
            for want in wanted {
                // Who wants a redirect itself looks no further.
                let stays = want == code;
                let up = stays || end.is_some_and(|end| if want == 0 { end == 200 } else { want == end });
                let wants = Wants {
                    status: want,
                    follows: !stays,
                    ..Wants::default()
                };
                let about = format!("http redirect {code} to {to}, want {want}");
                rows.push(row(about, &nginx.url(&format!("/to/{code}/{to}")), wants, up));
            }
        }
        let about = format!("http relative redirect {code}");
        let url = nginx.url(&format!("/relative/{code}"));
        rows.push(row(about, &url, Wants::default(), true));
        for second in REDIRECTS.iter().filter(|second| **second != code) {
            let wants = Wants {
                status: *second,
                ..Wants::default()
            };
            let (check, question) = both(&nginx.url(&format!("/twice/{code}/{second}")), wants);
            rows.push(Row::different(
                format!("http redirect {code} to {second}, want {second}"),
                check,
                question,
                true,
                "qu stops at the first answer that has the wanted status; the exporter follows all redirects or none",
            ));
        }
    }
    rows
}

fn chains(nginx: &Nginx) -> Vec<Row> {
    let mut rows: Vec<Row> = (1..=CHAIN_MAX)
        .map(|hops| {
            let url = nginx.url(&format!("/chain/{hops}"));
            row(
                format!("http {hops} redirects"),
                &url,
                Wants::default(),
                hops <= 10,
            )
        })
        .collect();
    rows.push(row(
        "http redirects in a circle".to_owned(),
        &nginx.url("/ping"),
        Wants::default(),
        false,
    ));
    rows
}

fn bodies(nginx: &Nginx) -> Vec<Row> {
    let mut rows = Vec::new();
    for (path, status, body) in [
        ("/body/hello", 200, HELLO),
        ("/body/error", 503, HELLO),
        ("/body/empty", 200, ""),
        ("/to/301/other", 200, HELLO),
        ("/status/204", 204, ""),
        ("/status/200", 200, "this is the body"),
        ("/status/404", 404, "this is the body"),
    ] {
        for text in [
            "needle", "wörld", "Needle", "(wörld)", "a.b", "aXb", "the body", "body$", "Hello.*",
        ] {
            for want in [0, status] {
                let as_wanted = if want == 0 {
                    (200..300).contains(&status)
                } else {
                    want == status
                };
                let wants = Wants {
                    status: want,
                    text,
                    ..Wants::default()
                };
                let about = format!("http body of {path}, want {want} with {text}");
                rows.push(row(
                    about,
                    &nginx.url(path),
                    wants,
                    as_wanted && body.contains(text),
                ));
            }
        }
    }
    rows.retain({
        // A status of 200 that is wanted is asked for once more by name; both are rows of their own.
        let mut seen = std::collections::BTreeSet::new();
        move |row| seen.insert(row.about.clone())
    });
    for size in BIG {
        let wants = Wants {
            text: "xneedle",
            ..Wants::default()
        };
        let (check, question) = both(&nginx.url(&format!("/big-{size}.txt")), wants);
        let within = size < (1 << 20);
        rows.push(Row::pinned(
            format!("http needle after {size} bytes"),
            check,
            question,
            (within, true),
            "qu reads the first MiB of a body, so that no page can fill its memory or its network",
        ));
    }
    rows.push(row(
        "http closed without an answer".to_owned(),
        &nginx.url("/gone"),
        Wants::default(),
        false,
    ));
    rows
}

fn passwords(nginx: &Nginx) -> Vec<Row> {
    let mut rows = Vec::new();
    for (who, accepted) in [
        ("", false),
        ("user:secret@", true),
        ("user:wrong@", false),
        ("other:secret@", false),
    ] {
        for want in [0, 200, 401] {
            let url = nginx
                .url("/private.txt")
                .replace("http://", &format!("http://{who}"));
            let up = if want == 401 { !accepted } else { accepted };
            let wants = Wants {
                status: want,
                ..Wants::default()
            };
            rows.push(row(format!("http as {who}, want {want}"), &url, wants, up));
        }
    }
    rows
}
