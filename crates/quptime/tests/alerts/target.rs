//! What is watched: a page whose answer depends on which node asks.
//!
//! All nodes of a test have the same source address, so the asking process is looked up by the socket that it holds.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whom the page fails.
#[derive(Clone, Default)]
enum Fails {
    #[default]
    Nobody,
    Everybody,
    Processes(BTreeSet<u32>),
}

/// The page. Its thread ends with the test's process.
pub(crate) struct Target {
    address: SocketAddr,
    fails: Arc<Mutex<Fails>>,
    asked: Arc<AtomicU64>,
}

impl Target {
    /// A page that is well.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fails = Arc::new(Mutex::new(Fails::Nobody));
        let asked = Arc::new(AtomicU64::new(0));
        let (known, count) = (fails.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let fails = known.lock().unwrap().clone();
                // A client that has gone away has no use for an answer.
                drop(answer(stream, address, &fails));
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            address,
            fails,
            asked,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// How often it was looked at.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// It fails everybody.
    pub(crate) fn fail(&self) {
        *self.fails.lock().unwrap() = Fails::Everybody;
    }

    /// It fails only those who ask from these processes.
    pub(crate) fn fail_for(&self, processes: &[u32]) {
        *self.fails.lock().unwrap() = Fails::Processes(processes.iter().copied().collect());
    }

    /// It is well again.
    pub(crate) fn recover(&self) {
        *self.fails.lock().unwrap() = Fails::Nobody;
    }
}

fn answer(mut stream: TcpStream, own: SocketAddr, fails: &Fails) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = Vec::new();
    while !request.windows(4).any(|part| part == b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let failing = match fails {
        Fails::Nobody => false,
        Fails::Everybody => true,
        Fails::Processes(processes) => {
            let inode = inode_of(stream.peer_addr()?, own);
            let holder = inode.and_then(|inode| processes.iter().find(|process| holds(**process, inode)));
            holder.is_some()
        }
    };
    let status = if failing {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    stream
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
}

/// The inode of the socket at `local` that is connected to `remote`, from `/proc/net/tcp` (proc(5)).
fn inode_of(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let form = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => String::new(),
    };
    let (local, remote) = (form(local), form(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&local.as_str()) && words.get(2) == Some(&remote.as_str()))
            .then(|| words.get(9)?.parse().ok())
            .flatten()
    })
}

fn holds(process: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let links = &mut descriptors.flatten().map(|fd| std::fs::read_link(fd.path()));
    links.any(|link| link.is_ok_and(|link| link.as_os_str() == wanted.as_str()))
}
