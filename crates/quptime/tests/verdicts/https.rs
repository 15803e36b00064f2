//! https: every certificate with every version of TLS, and ports that do not speak it.

use std::path::Path;

use crate::certificates::{KINDS, NEW_ONLY};
use crate::http::{Wants, both, both_secure};
use crate::nginx::{CLOSED, MUTUAL, Nginx, PLAIN, VERSIONS, port};
use crate::row::Row;
use crate::sockets::Sockets;

/// Why qu refuses what the exporter takes.
pub(crate) const NO_P521: &str = "qu's TLS exchanges no keys over P-521, which a certificate with such a key needs in TLS 1.2; such \
    servers are rare, and no browser connects to them either";

pub(crate) fn rows(nginx: &Nginx, trusted: &Path, sockets: &Sockets) -> Vec<Row> {
    let address = nginx.address();
    let mut rows = Vec::new();
    let row = |about: String, url: &str, wants: Wants<'_>, up: bool| {
        let (check, question) = both_secure(url, wants, trusted);
        Row::same(about, check, question, up)
    };
    for (position, kind) in KINDS.iter().enumerate() {
        let well = kind.is_trusted() && kind.addressed;
        for (number, version) in VERSIONS.iter().enumerate() {
            let url = format!("https://{address}:{}", port(position, number));
            for (path, status, text, up) in [
                ("/", 0, "", true),
                ("/", 0, "welcome", true),
                ("/missing", 0, "", false),
                ("/missing", 404, "", true),
                ("/away", 302, "", true),
            ] {
                let about = format!("https {version} {} {path}, want {status} {text}", kind.name);
                let readable = kind.name != NEW_ONLY || number > 0;
                let wants = Wants {
                    status,
                    text,
                    follows: status != 302,
                };
                let (check, question) = both_secure(&format!("{url}{path}"), wants, trusted);
                let up = up && well;
                rows.push(Row::pinned(about, check, question, (up && readable, up), NO_P521));
            }
        }
    }
    let plain = |about: &str, status, up| {
        let wants = Wants {
            status,
            ..Wants::default()
        };
        let (check, question) = both(&format!("http://{address}:{}/", port(0, 0)), wants);
        Row::same(about, check, question, up)
    };
    rows.push(plain("http on a port that speaks TLS", 0, false));
    rows.push(plain("http on a port that speaks TLS, want 400", 400, true));
    for (about, at) in [
        ("https on a port that speaks plainly", PLAIN),
        ("https on a closed port", CLOSED),
        ("https where clients need a certificate", MUTUAL),
    ] {
        let url = format!("https://{address}:{at}/");
        rows.push(row(about.to_owned(), &url, Wants::default(), false));
    }
    for (name, address) in sockets.that_wait() {
        let url = format!("https://{address}/");
        rows.push(row(format!("https {name}"), &url, Wants::default(), false).impatient());
    }
    rows
}
