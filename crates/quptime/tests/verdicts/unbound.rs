//! Debian's unbound with zones of its own, and name servers that answer badly.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use lab::Readiness;
use testkit::Server;

pub(crate) const PORT: u16 = 5353;

/// What there is: name, type, data.
pub(crate) const RECORDS: [(&str, &str, &str); 16] = [
    ("www.test", "A", "192.0.2.1"),
    ("many.test", "A", "192.0.2.11"),
    ("many.test", "A", "192.0.2.12"),
    ("many.test", "A", "192.0.2.13"),
    ("www.test", "AAAA", "2001:db8::1"),
    ("six.test", "AAAA", "2001:db8::66"),
    ("alias.test", "CNAME", "www.test"),
    ("mail.test", "MX", "10 mx1.test"),
    ("mail.test", "MX", "20 mx2.test"),
    ("www.test", "MX", "5 mx.test"),
    ("mail.test", "TXT", "v=spf1 mx -all"),
    ("mail.test", "TXT", "hello world"),
    ("www.test", "TXT", "one"),
    ("zone.test", "NS", "ns1.test"),
    ("zone.test", "NS", "ns2.test"),
    ("one.test", "NS", "ns1.test"),
];

/// A name with more text than a datagram holds.
pub(crate) const LONG: &str = "long.test";

/// It runs as long as this lives.
pub(crate) struct Unbound {
    server: Server,
}

impl Unbound {
    pub(crate) fn start() -> Self {
        let program = testkit::require("unbound").unwrap();
        let mut server = Server::new("unbound", program, Readiness::Tcp { port: PORT }).unwrap();
        let address = server.address();
        let dir = server.dir().display().to_string();
        let mut data = String::new();
        for (name, kind, value) in RECORDS {
            let value = match kind {
                "TXT" => format!("\"{value}\""),
                "CNAME" | "MX" | "NS" => format!("{value}."),
                _ => value.to_owned(),
            };
            writeln!(data, "local-data: '{name}. {kind} {value}'").unwrap();
        }
        for number in 0..12 {
            let text = format!("{number:02}{}", "y".repeat(240));
            writeln!(data, "local-data: '{LONG}. TXT \"{text}\"'").unwrap();
        }
        let config = format!(
            "server:
               interface: {address}
               port: {PORT}
               access-control: 127.0.0.0/8 allow
               do-daemonize: no
               use-syslog: no
               logfile: \"\"
               chroot: \"\"
               username: \"\"
               directory: \"{dir}\"
               pidfile: \"{dir}/pid\"
               module-config: iterator
               local-zone: test. static
               local-zone: refused. refuse
               {data}
             remote-control:
               control-enable: no\n"
        );
        std::fs::write(server.dir().join("unbound.conf"), config).unwrap();
        server.set_args(["-d", "-c", &format!("{dir}/unbound.conf")]);
        server.start().unwrap();
        Self { server }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.server.address()
    }
}

/// A name server that answers each query with what `answer` makes of it, or not at all; its thread ends with the test's process.
pub(crate) fn odd(answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(bytes) = answer(buffer[..length].to_vec()) {
                // Who asked may have gone.
                drop(socket.send_to(&bytes, from));
            }
        }
    });
    address
}
