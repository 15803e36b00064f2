//! Plain connections: sshd and other servers that answer, ports where nobody listens, and listeners that never get round to anybody.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use lab::Readiness;
use quptime::document::CheckKind;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use testkit::{AddressBlock, Output, Server};

use crate::nginx::{CLOSED, KINDS_PORTS, Nginx, PLAIN};
use crate::row::{Row, check, question};
use crate::unbound::{self, Unbound};

const SSH: u16 = 2222;

/// They listen as long as this lives.
pub(crate) struct Sockets {
    sshd: Server,
    full: Vec<Full>,
    silent: SocketAddr,
    rude: Vec<(String, SocketAddr)>,
    v6: Option<SocketAddr>,
    nobody: AddressBlock,
}

/// A listener whose queue is full: nobody else gets through.
struct Full {
    _listener: Socket,
    _queued: TcpStream,
    address: SocketAddr,
}

impl Full {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        listener.bind(&any.into()).unwrap();
        // With a backlog of zero Linux lets one connection wait.
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        Self {
            _queued: TcpStream::connect(address).unwrap(),
            _listener: listener,
            address,
        }
    }
}

impl Sockets {
    pub(crate) fn start() -> Self {
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        Self {
            sshd: sshd(),
            full: (0..2).map(|_| Full::new()).collect(),
            silent: listen(until_gone),
            rude: vec![
                (
                    "that greets in clear".to_owned(),
                    listen(|mut stream| {
                        drop(stream.write_all(b"220 mail.test ESMTP\r\n"));
                        until_gone(stream);
                    }),
                ),
                (
                    "that sends rubbish".to_owned(),
                    listen(|mut stream| {
                        drop(stream.write_all(&[0xa5; 4096]));
                        until_gone(stream);
                    }),
                ),
                ("that hangs up".to_owned(), listen(drop)),
            ],
            v6: v6.map(|listener| {
                let address = listener.local_addr().unwrap();
                accept(listener, until_gone);
                address
            }),
            nobody: AddressBlock::free().unwrap(),
        }
    }

    /// Those that never answer: connections wait for ever, or are taken and nothing is ever said.
    pub(crate) fn that_wait(&self) -> Vec<(String, SocketAddr)> {
        let full = self.full.iter().enumerate();
        full.map(|(number, full)| (format!("listener {number} whose queue is full"), full.address))
            .chain([("listener that says nothing".to_owned(), self.silent)])
            .collect()
    }

    /// Those that take connections and speak no protocol.
    pub(crate) fn that_are_rude(&self) -> Vec<(String, SocketAddr)> {
        let rude = self.rude.iter();
        rude.map(|(name, address)| (format!("listener {name}"), *address))
            .collect()
    }
}

/// A listener with a thread for each connection; they end with the test's process.
pub(crate) fn listen(serve: impl Fn(TcpStream) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    accept(listener, serve);
    address
}

pub(crate) fn accept(listener: TcpListener, serve: impl Fn(TcpStream) + Copy + Send + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
}

/// Says nothing until the other side has gone.
pub(crate) fn until_gone(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// Debian's sshd.
fn sshd() -> Server {
    let program = testkit::require("sshd").unwrap();
    let keygen = testkit::require("ssh-keygen").unwrap();
    let mut server = Server::new("sshd", program, Readiness::Tcp { port: SSH }).unwrap();
    let key = server.dir().join("host_key").display().to_string();
    let made =
        Output::of(std::process::Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
    made.unwrap().ok();
    // Debian's unit makes this empty directory, and started as root sshd insists on it.
    drop(std::fs::create_dir_all("/run/sshd"));
    let listen = format!("ListenAddress={}:{SSH}", server.address());
    server.set_args([
        "-D",
        "-e",
        "-f",
        "/dev/null",
        "-h",
        &key,
        "-o",
        &listen,
        "-o",
        "PidFile=none",
        "-o",
        "MaxStartups=1000",
        "-o",
        "UsePAM=no",
    ]);
    server.start().unwrap();
    server
}

pub(crate) fn rows(sockets: &Sockets, nginx: &Nginx, unbound: &Unbound) -> Vec<Row> {
    let row = |about: &str, target: String, up: bool| {
        let question = question("tcp", target.clone(), &json!({ "preferred_ip_protocol": "ip4" }));
        Row::same(
            format!("tcp {about} {target}"),
            check(CheckKind::Tcp, target),
            question,
            up,
        )
    };
    let mut rows = vec![
        row("sshd", format!("{}:{SSH}", sockets.sshd.address()), true),
        row("nginx", format!("{}:{PLAIN}", nginx.address()), true),
        row(
            "unbound",
            format!("{}:{}", unbound.address(), unbound::PORT),
            true,
        ),
        row("silent listener", sockets.silent.to_string(), true),
        row(
            "silent listener by name",
            format!("localhost:{}", sockets.silent.port()),
            true,
        ),
    ];
    for at in KINDS_PORTS {
        rows.push(row("TLS port", format!("{}:{at}", nginx.address()), true));
    }
    for (name, address) in sockets.that_are_rude() {
        rows.push(row(&name, address.to_string(), true));
    }
    for full in &sockets.full {
        rows.push(row("full queue", full.address.to_string(), false).impatient());
    }
    for port in [CLOSED, 1, 22, 80, 443, 65_535] {
        rows.push(row("closed", format!("{}:{port}", nginx.address()), false));
    }
    for host in 0..4 {
        let nobody = sockets.nobody.host(host).unwrap();
        rows.push(row("nobody", format!("{nobody}:{SSH}"), false));
    }
    if let Some(address) = sockets.v6 {
        rows.push(row("IPv6 listener", address.to_string(), true));
        rows.push(row("IPv6 closed", "[::1]:1".to_owned(), false));
    }
    rows
}
