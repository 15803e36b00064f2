//! Web servers that speak the protocol badly, oddly or slowly.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::{Wants, both};
use crate::row::Row;
use crate::sockets::{listen, until_gone};

/// What comes after the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The connection is closed.
    Close,
    /// Nothing, for ever.
    Hang,
    /// The rest of the bytes, this much later.
    Later(Duration, &'static str),
    /// A byte now and then, for ever.
    Drip,
}

/// One kind of server.
struct Speaker {
    name: &'static str,
    says: String,
    then: Then,
    wants: Wants<'static>,
    qu: bool,
    blackbox: bool,
    why: &'static str,
}

impl Speaker {
    fn same(name: &'static str, says: impl Into<String>, up: bool) -> Self {
        Self {
            name,
            says: says.into(),
            then: Then::Close,
            wants: Wants::default(),
            qu: up,
            blackbox: up,
            why: "",
        }
    }

    fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    fn wants(self, status: u16, text: &'static str, follows: bool) -> Self {
        let wants = Wants {
            status,
            text,
            follows,
        };
        Self { wants, ..self }
    }

    /// The exporter says the contrary, for this reason.
    fn but(self, why: &'static str) -> Self {
        Self {
            blackbox: !self.qu,
            why,
            ..self
        }
    }

    fn start(&self) -> SocketAddr {
        let (says, then): (&'static str, Then) = (self.says.clone().leak(), self.then);
        listen(move |stream| serve(stream, says, then))
    }
}

fn serve(mut stream: TcpStream, says: &str, then: Then) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    // Whoever has heard enough hangs up.
    let mut say = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    if !say(says) {
        return;
    }
    match then {
        Then::Close => {}
        Then::Hang => until_gone(stream),
        Then::Later(pause, rest) => {
            pause_for(pause);
            say(rest);
        }
        Then::Drip => {
            while say("x") {
                pause_for(Duration::from_millis(100));
            }
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "to be slow is what these servers are for"
)]
fn pause_for(time: Duration) {
    std::thread::sleep(time);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const MOMENT: Duration = Duration::from_millis(300);

fn with_head(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 5\r\n\r\nhello")
}

fn same(name: &'static str, says: impl Into<String>, up: bool) -> Speaker {
    Speaker::same(name, says, up)
}

fn speakers() -> Vec<Speaker> {
    let mut all = vec![
        same("plain answer", OK, true),
        same("plain answer that stays open", OK, true).then(Then::Hang),
        same("nothing", "", false),
        same("rubbish", "hello world\r\n\r\n", false),
        same("rubbish without an end", "hello world", false),
        same("binary rubbish", "\u{1}\u{2}\u{3}\u{fffd}\u{0}\r\n\r\n", false),
        same("mail server", "220 mail.test ESMTP\r\n", false),
        same("ssh server", "SSH-2.0-OpenSSH_9.2\r\n", false),
        same("half a status line", "HTTP/1.1 20", false),
        same("half a head", "HTTP/1.1 200 OK\r\nServer: x\r\n", false),
        same("half a head for ever", "HTTP/1.1 200 OK\r\nServer: x\r\n", false).then(Then::Hang),
        same("silence", "", false).then(Then::Hang),
        same("dripping head", "HTTP/1.1 200 OK\r\nX: ", false).then(Then::Drip),
        same(
            "dripping body",
            "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
            false,
        )
        .then(Then::Drip),
        same("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", true),
        same("body until the end", "HTTP/1.1 200 OK\r\n\r\nhello", true),
        same("no reason", "HTTP/1.1 200\r\n\r\nhello", true),
        same("empty reason", "HTTP/1.1 200 \r\n\r\nhello", true),
        same("two digits", "HTTP/1.1 20 OK\r\n\r\nhello", false),
        same("four digits", "HTTP/1.1 2000 OK\r\n\r\nhello", false),
        same("letters for a status", "HTTP/1.1 OK 200\r\n\r\nhello", false),
        same("another protocol", "ICY 200 OK\r\n\r\nhello", false),
        same("no such version", "HTTP/9 200 OK\r\n\r\nhello", false),
        same("a field without a colon", with_head("rubbish\r\n"), false),
        same("a blank before the colon", with_head("Server : x\r\n"), false).but(
            "such a field means different things to different readers; the exporter's library passes over it",
        ),
        same("an empty field", with_head("Server:\r\n"), true),
        same(
            "short body",
            "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
            false,
        ),
        same("two lengths", with_head("Content-Length: 7\r\n"), false),
        same(
            "a length that is none",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
            false,
        ),
        same(
            "negative length",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
            false,
        ),
        same("more than promised", format!("{OK} and more"), true),
        same("chunks", chunked("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), true).wants(0, "hello", true),
        same("chunks without an end", chunked("3\r\nhel\r\n2\r\nlo\r\n"), false),
        same("a chunk that is none", chunked("hello\r\n"), false),
        same("a chunk cut short", chunked("ff\r\nhello"), false),
        same(
            "continue first",
            format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"),
            true,
        ),
        same(
            "hints first",
            format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"),
            true,
        ),
        same("a moment before the head", "", true).then(Then::Later(MOMENT, OK)),
        same("a moment in the head", "HTTP/1.1 200 OK\r\n", true)
            .then(Then::Later(MOMENT, "Content-Length: 5\r\n\r\nhello")),
        same(
            "a moment in the body",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            true,
        )
        .then(Then::Later(MOMENT, "lo"))
        .wants(200, "hello", true),
        same("head of 20 KiB", with_head(&long(20)), true),
        same("head of 64 KiB", with_head(&long(64)), false)
            .but("qu reads 32 KiB of a head, more than servers send; the exporter reads 10 MiB"),
        same(
            "a redirect to nowhere",
            "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        same(
            "a redirect to nowhere, wanted",
            "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
            true,
        )
        .wants(301, "", false),
        same(
            "a redirect to an empty host",
            "HTTP/1.1 302 Found\r\nLocation: http://\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
        same(
            "a redirect to rubbish",
            "HTTP/1.1 302 Found\r\nLocation: http://[x/\r\nContent-Length: 0\r\n\r\n",
            false,
        ),
    ];
    for status in [200, 201, 250, 299, 300, 404, 500, 599, 600, 999] {
        for want in [0, 200, status] {
            let up = if want == 0 {
                (200..300).contains(&status)
            } else {
                want == status
            };
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\nhello");
            let name = format!("odd status {status}, want {want}").leak();
            all.push(same(name, answer, up).wants(want, "", true));
        }
    }
    all
}

fn chunked(chunks: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
}

/// Fields of so many KiB in all.
fn long(kib: usize) -> String {
    let field = "y".repeat(1016);
    let mut fields = String::new();
    for number in 0..kib {
        fields.push_str("X-");
        fields.push_str(&number.to_string());
        fields.push_str(": ");
        fields.push_str(&field);
        fields.push_str("\r\n");
    }
    fields
}

pub(crate) fn rows() -> Vec<Row> {
    let mut seen = std::collections::BTreeSet::new();
    speakers()
        .iter()
        .filter(|speaker| seen.insert(speaker.name))
        .map(|speaker| {
            let (check, question) = both(&format!("http://{}/", speaker.start()), speaker.wants);
            let about = format!("http speaker: {}", speaker.name);
            let row = Row::pinned(
                about,
                check,
                question,
                (speaker.qu, speaker.blackbox),
                speaker.why,
            );
            if matches!(speaker.then, Then::Hang | Then::Drip) && !speaker.qu {
                row.impatient()
            } else {
                row
            }
        })
        .collect()
}
