//! tls: how long certificates last, with and without a look at chain and name.

use std::path::Path;

use quptime::document::{Check, CheckKind};
use serde_json::json;

use crate::certificates::{KINDS, Kind, NEW_ONLY, kind};
use crate::https::NO_P521;
use crate::nginx::{CLOSED, MUTUAL, Nginx, PLAIN, VERSIONS, port};
use crate::row::{Question, Row, check, question};
use crate::sockets::Sockets;

/// Days before the end from which the check fails.
const WARN: [u32; 4] = [0, 14, 100, 365];

const WHY: &str = "qu's tls check is about the end of the certificate; the exporter shows it as a metric that rules compare";

fn both(target: &str, name: &str, verify: bool, warn: u32, trusted: &Path) -> (Check, Question) {
    let check = Check {
        tls_server_name: name.to_owned(),
        tls_verify: verify,
        tls_warn_days: warn,
        ..check(CheckKind::Tls, target)
    };
    let mut settings = json!({ "insecure_skip_verify": !verify, "ca_file": trusted.display().to_string() });
    if !name.is_empty() {
        settings["server_name"] = json!(name);
    }
    let tcp = json!({ "preferred_ip_protocol": "ip4", "tls": true, "tls_config": settings });
    (check, question("tcp", target, &tcp))
}

pub(crate) fn rows(nginx: &Nginx, trusted: &Path, sockets: &Sockets) -> Vec<Row> {
    let address = nginx.address();
    let mut rows = Vec::new();
    for (position, kind) in KINDS.iter().enumerate() {
        for (number, version) in VERSIONS.iter().enumerate() {
            let target = format!("{address}:{}", port(position, number));
            let readable = kind.name != NEW_ONLY || number > 0;
            for verify in [false, true] {
                let handshake = !verify || (kind.is_trusted() && kind.addressed);
                for warn in WARN {
                    let (check, question) = both(&target, "", verify, warn, trusted);
                    rows.push(Row::pinned(
                        format!("tls {version} {}, verify {verify}, warn {warn}", kind.name),
                        check,
                        question,
                        (handshake && readable && lasts(kind, warn), handshake),
                        if readable { WHY } else { NO_P521 },
                    ));
                }
            }
        }
    }
    for name in [
        "good.test",
        "other.test",
        "a.wild.test",
        "wild.test",
        "a.b.wild.test",
    ] {
        for of in ["good", "other-name", "no-name", "expired-1", "stranger"] {
            let kind = kind(of);
            let position = KINDS.iter().position(|one| one.name == of).unwrap_or_default();
            let (check, question) = both(
                &format!("{address}:{}", port(position, 1)),
                name,
                true,
                0,
                trusted,
            );
            let up = kind.is_trusted() && kind.is_for(name);
            rows.push(Row::same(
                format!("tls {of} asked for {name}"),
                check,
                question,
                up,
            ));
        }
    }
    for verify in [false, true] {
        for (about, at, up) in [
            ("closed port", CLOSED, false),
            ("port that speaks plainly", PLAIN, false),
            // The server says so only after the handshake.
            ("port where clients need a certificate", MUTUAL, true),
        ] {
            let (check, question) = both(&format!("{address}:{at}"), "", verify, 0, trusted);
            rows.push(Row::same(
                format!("tls {about}, verify {verify}"),
                check,
                question,
                up,
            ));
        }
        for (name, address) in sockets.that_wait().into_iter().chain(sockets.that_are_rude()) {
            let (check, question) = both(&address.to_string(), "", verify, 0, trusted);
            rows.push(Row::same(format!("tls {name}, verify {verify}"), check, question, false).impatient());
        }
    }
    rows
}

/// Whether a certificate ends later than so many days from now.
fn lasts(kind: &Kind, warn: u32) -> bool {
    !kind.is_over() && kind.days.1 >= i64::from(warn)
}
