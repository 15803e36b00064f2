//! Debian's nginx: statuses, redirects, bodies and passwords on one port, and one port for each certificate and version of TLS.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use lab::Readiness;
use testkit::Server;

use crate::certificates::{Authorities, KINDS};

/// Where it talks plainly.
pub(crate) const PLAIN: u16 = 8080;
/// The first of its TLS ports.
const SECURE: u16 = 20_000;
/// The versions of TLS that a port may speak; nothing else.
pub(crate) const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
/// Wants a certificate of its clients.
pub(crate) const MUTUAL: u16 = 19_999;

/// Statuses that it answers with at `/status/NUMBER`.
pub(crate) const STATUSES: [u16; 25] = [
    200, 201, 202, 203, 204, 206, 299, 300, 304, 400, 401, 403, 404, 405, 409, 410, 418, 422, 429, 451, 500,
    501, 502, 503, 504,
];
/// Redirects that are followed.
pub(crate) const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// `/chain/NUMBER` leads on so many times.
pub(crate) const CHAIN_MAX: u16 = 12;
/// Text at `/body/hello`.
pub(crate) const HELLO: &str = "Hello (wörld) [a.b] needle";
/// Bytes before the needle in `/big-NUMBER.txt`.
pub(crate) const BIG: [usize; 3] = [1_000, 300_000, 2_000_000];

/// It runs as long as this lives.
pub(crate) struct Nginx {
    server: Server,
}

impl Nginx {
    pub(crate) fn start(authorities: &Authorities) -> Self {
        let program = testkit::require("nginx").unwrap();
        let mut server = Server::new("nginx", program, Readiness::Tcp { port: PLAIN }).unwrap();
        let dir = server.dir().to_path_buf();
        let address = server.address();
        for kind in &KINDS {
            authorities.issue(kind, address, &dir);
        }
        for size in BIG {
            std::fs::write(dir.join(format!("big-{size}.txt")), "x".repeat(size) + "needle").unwrap();
        }
        std::fs::write(dir.join("private.txt"), "you may").unwrap();
        std::fs::write(dir.join("users"), "user:{PLAIN}secret\n").unwrap();
        let dir = dir.display().to_string();
        let secure = secure(address, &dir);
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log stderr; events {{ worker_connections 2000; }}
             http {{
               access_log off; default_type text/plain;
               client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
               uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
               server {{
                 listen {address}:{PLAIN};
                 root {dir};
                 {}
               }}
               {secure}
             }}\n",
            locations(address)
        );
        std::fs::write(server.dir().join("nginx.conf"), config).unwrap();
        server.set_args(["-p", &dir, "-e", "stderr", "-c", &format!("{dir}/nginx.conf")]);
        server.start().unwrap();
        Self { server }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.server.address()
    }

    /// A path of the plain port.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}:{PLAIN}{path}", self.address())
    }
}

/// The port of a certificate and a version, by their positions.
pub(crate) fn port(kind: usize, version: usize) -> u16 {
    SECURE + u16::try_from(kind * VERSIONS.len() + version).unwrap()
}

/// Some of its TLS ports.
pub(crate) const KINDS_PORTS: std::ops::Range<u16> = SECURE..SECURE + 12;

/// A port on which nobody listens.
pub(crate) const CLOSED: u16 = 7;

fn locations(address: Ipv4Addr) -> String {
    let mut text = String::new();
    let mut add = |path: &str, what: &str| writeln!(text, "location = {path} {{ {what} }}").unwrap();
    for status in STATUSES {
        let body = if matches!(status, 204 | 304) {
            ""
        } else {
            " 'this is the body'"
        };
        add(&format!("/status/{status}"), &format!("return {status}{body};"));
    }
    for code in REDIRECTS {
        for (name, to) in [
            ("ok", "/status/200".to_owned()),
            ("loop", format!("/to/{code}/loop")),
            ("missing", "/status/404".to_owned()),
            ("failing", "/status/500".to_owned()),
            ("closed", format!("http://{address}:{CLOSED}/")),
            ("other", format!("http://{address}:{PLAIN}/body/hello")),
            ("ftp", format!("ftp://{address}/")),
        ] {
            add(&format!("/to/{code}/{name}"), &format!("return {code} {to};"));
        }
        for second in REDIRECTS.iter().filter(|second| **second != code) {
            add(
                &format!("/twice/{code}/{second}"),
                &format!("return {code} /to/{second}/ok;"),
            );
        }
        add(
            &format!("/relative/{code}"),
            &format!("absolute_redirect off; return {code} /status/200;"),
        );
    }
    add("/chain/0", "return 200 'the end';");
    for hop in 1..=CHAIN_MAX {
        add(
            &format!("/chain/{hop}"),
            &format!("return 302 /chain/{};", hop - 1),
        );
    }
    add("/ping", "return 302 /pong;");
    add("/pong", "return 302 /ping;");
    add("/body/hello", &format!("return 200 '{HELLO}';"));
    add("/body/empty", "return 200 '';");
    add("/body/error", &format!("return 503 '{HELLO}';"));
    add("/gone", "return 444;");
    add("/private.txt", "auth_basic here; auth_basic_user_file users;");
    text
}

fn secure(address: Ipv4Addr, dir: &str) -> String {
    let mut text = String::new();
    let mut add = |port: u16, name: &str, version: &str, more: &str| {
        writeln!(
            text,
            "server {{ listen {address}:{port} ssl; ssl_certificate {dir}/{name}.pem;
               ssl_certificate_key {dir}/{name}.key; ssl_protocols {version}; {more}
               location = /missing {{ return 404 'no such page'; }}
               location = /away {{ return 302 /; }}
               location / {{ return 200 'welcome'; }} }}"
        )
        .unwrap();
    };
    for (position, kind) in KINDS.iter().enumerate() {
        for (number, version) in VERSIONS.iter().enumerate() {
            add(port(position, number), kind.name, version, "");
        }
    }
    let wants = format!("ssl_verify_client on; ssl_client_certificate {dir}/good.pem;");
    add(MUTUAL, "good", "TLSv1.3", &wants);
    text
}
