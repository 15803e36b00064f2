//! What uptime checks look at and whom they tell: pages and ports that can be made to fail, and a sink for webhooks, all served by one
//! thread of this program on 127.0.0.1.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Ports that accept connections and say nothing; checks are dealt to them.
const PORTS: usize = 16;
/// Largest request that is read; a webhook is about one kilobyte.
const REQUEST_MAX: usize = 64 << 10;
/// How long a client may take with its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at what was told.
const POLL: Duration = Duration::from_millis(5);

/// A message that came.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// When it was here.
    pub(crate) at: Instant,
    /// From what it tells of to its arrival; the clock is the same, and what it tells of is noted in milliseconds.
    pub(crate) after: Duration,
    /// `DOWN`, `RECOVERED`.
    pub(crate) verb: String,
    /// The check's name.
    pub(crate) check: String,
}

/// As the webhook has it.
#[derive(Deserialize)]
struct Event {
    verb: String,
    when: jiff::Timestamp,
    labels: Labels,
}

#[derive(Deserialize)]
struct Labels {
    check: String,
}

#[derive(Debug, Default)]
struct Shared {
    probes: AtomicU64,
    failing: Mutex<BTreeSet<usize>>,
    told: Mutex<Vec<Told>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Sets and lists are never half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pages, ports and the sink. They end with this value.
#[derive(Debug)]
pub(crate) struct Uptime {
    pages: SocketAddr,
    ports: Vec<SocketAddr>,
    shared: Arc<Shared>,
    /// Its end is the end of the thread.
    _runs: tokio::sync::oneshot::Sender<()>,
}

impl Uptime {
    /// Begins to serve.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime of the targets")?;
        let bind = || async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            std::io::Result::Ok((listener, address))
        };
        let shared = Arc::new(Shared::default());
        let (listener, pages) = runtime.block_on(bind()).context("listen for the pages")?;
        let mut ports = Vec::new();
        for _ in 0..PORTS {
            let (listener, address) = runtime.block_on(bind()).context("listen for the ports")?;
            ports.push(address);
            runtime.spawn(accept_and_count(listener, shared.clone()));
        }
        runtime.spawn(serve(listener, shared.clone()));
        let (runs, ends) = tokio::sync::oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("targets".to_owned())
            .spawn(move || {
                // It says nothing; that it is gone is the sign.
                let _ = runtime.block_on(ends);
            })
            .context("start the thread of the targets")?;
        Ok(Self {
            pages,
            ports,
            shared,
            _runs: runs,
        })
    }

    /// The address of a page, of which there are as many as one likes.
    pub(crate) fn page(&self, number: usize) -> String {
        format!("http://{}/page/{number}", self.pages)
    }

    /// `host:port` of a port; there are a few, which repeat.
    pub(crate) fn port(&self, number: usize) -> String {
        self.ports[number % self.ports.len()].to_string()
    }

    /// Where webhooks go.
    pub(crate) fn sink(&self) -> String {
        format!("http://{}/sink", self.pages)
    }

    /// From now on connections for this page end without an answer.
    pub(crate) fn fail(&self, page: usize) {
        lock(&self.shared.failing).insert(page);
    }

    /// It answers again.
    pub(crate) fn heal(&self, page: usize) {
        lock(&self.shared.failing).remove(&page);
    }

    /// How often pages and ports were looked at.
    pub(crate) fn probes(&self) -> u64 {
        self.shared.probes.load(Ordering::Relaxed)
    }

    /// Waits until it was told so about a check since a moment.
    pub(crate) fn told(&self, verb: &str, check: &str, since: Instant, at_most: Duration) -> Result<Told> {
        let started = Instant::now();
        loop {
            let fits = |told: &&Told| told.verb == verb && told.check == check && told.at >= since;
            if let Some(told) = lock(&self.shared.told).iter().find(fits) {
                return Ok(told.clone());
            }
            if started.elapsed() > at_most {
                bail!("nobody was told {verb} {check} within {} s", at_most.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }
}

async fn accept_and_count(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.probes.fetch_add(1, Ordering::Relaxed);
        drop(stream);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A client that goes away has no use for an answer.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, answer(stream, &shared)).await;
        });
    }
}

/// One request for each connection.
async fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head_ends = loop {
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if request.len() > REQUEST_MAX || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&request[..head_ends]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if let Some(page) = path.strip_prefix("/page/") {
        shared.probes.fetch_add(1, Ordering::Relaxed);
        let page = page.parse().unwrap_or_default();
        if lock(&shared.failing).contains(&page) {
            return Ok(());
        }
        let said = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwell\n";
        return stream.write_all(said).await;
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or_default().min(REQUEST_MAX);
    while request.len() < head_ends + length {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (at, wall) = (Instant::now(), SystemTime::now());
    if let Ok(event) = serde_json::from_slice::<Event>(&request[head_ends..]) {
        let when = UNIX_EPOCH + Duration::from_millis(event.when.as_millisecond().max(0) as u64);
        lock(&shared.told).push(Told {
            at,
            after: wall.duration_since(when).unwrap_or_default(),
            verb: event.verb,
            check: event.labels.check,
        });
    }
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        .await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn pages_fail_when_told_to_and_messages_are_kept() {
        let uptime = Uptime::start().unwrap();
        let page = || ask(uptime.pages, "GET /page/7 HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(page().starts_with("HTTP/1.1 200 "));
        uptime.fail(7);
        assert_eq!(page(), "");
        uptime.heal(7);
        assert!(page().starts_with("HTTP/1.1 200 "));
        assert_eq!(uptime.probes(), 3);

        let began = Instant::now();
        let body = r#"{"verb":"DOWN","when":"2026-05-12T15:01:32Z","labels":{"check":"web"}}"#;
        let request = format!(
            "POST /sink HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(ask(uptime.pages, &request).starts_with("HTTP/1.1 204 "));
        uptime
            .told("DOWN", "web", began, Duration::from_secs(10))
            .unwrap();
        let later = Instant::now();
        assert!(uptime.told("DOWN", "web", later, Duration::ZERO).is_err());
    }
}
