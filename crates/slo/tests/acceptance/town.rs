//! What lies around an evaluator: a service whose requests are counted, and people who are told. One HTTP server that a test steers.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service::clock::{Moment, SharedClock, SystemClock};

/// Requests that the service serves in a second.
const TRAFFIC: f64 = 200.0;

/// Longest wait for the bytes of a request.
const LIMIT: Duration = Duration::from_secs(20);

/// Something that was told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// To whom: the path.
    pub(super) path: String,
    /// What.
    pub(super) body: serde_json::Value,
}

/// How `/api/v1/query` answers.
#[derive(Debug, Clone)]
pub(super) enum Oracle {
    /// With this status, content type and body.
    Says(&'static str, &'static str, String),
    /// Not at all.
    Silence,
}

struct Counters {
    seen: Moment,
    good: f64,
    bad: f64,
}

pub(super) struct Town {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    clock: SharedClock,
    is_failing: AtomicBool,
    is_over: AtomicBool,
    counters: Mutex<Counters>,
    told: Mutex<Vec<Told>>,
    oracle: Mutex<Oracle>,
}

impl Town {
    pub(super) fn new() -> Town {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let clock = SystemClock::shared();
        let counters = Counters {
            seen: clock.now(),
            good: 0.0,
            bad: 0.0,
        };
        let state = Arc::new(State {
            clock,
            is_failing: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            counters: Mutex::new(counters),
            told: Mutex::new(Vec::new()),
            oracle: Mutex::new(Oracle::Silence),
        });
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        Town { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Whether all requests fail from now on.
    pub(super) fn fail(&self, is_failing: bool) {
        self.state.count();
        self.state.is_failing.store(is_failing, Ordering::SeqCst);
    }

    pub(super) fn set_oracle(&self, oracle: Oracle) {
        *self.state.oracle.lock().unwrap() = oracle;
    }

    /// What was told to a path, in order.
    pub(super) fn told(&self, path: &str) -> Vec<serde_json::Value> {
        let told = self.state.told.lock().unwrap();
        told.iter()
            .filter(|told| told.path == path)
            .map(|told| told.body.clone())
            .collect()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection; it is fine if that is gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Counts what was served since the last time.
    fn count(&self) -> (u64, u64) {
        let mut counters = self.counters.lock().unwrap();
        let now = self.clock.now();
        let served = now.since(counters.seen).as_secs_f64() * TRAFFIC;
        counters.seen = now;
        if self.is_failing.load(Ordering::SeqCst) {
            counters.bad += served;
        } else {
            counters.good += served;
        }
        (counters.good as u64, counters.bad as u64)
    }

    fn serve(&self, mut stream: TcpStream) {
        // A client that goes away needs no answer.
        let _ = stream.set_read_timeout(Some(LIMIT));
        while let Some((line, body)) = read(&mut stream) {
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, kind, text) = match path.as_str() {
                "/metrics" => {
                    let (good, bad) = self.count();
                    let text = format!(
                        "# TYPE http_requests_total counter\nhttp_requests_total{{method=\"GET\",status=\"200\"}} {good}\n\
                         http_requests_total{{method=\"GET\",status=\"503\"}} {bad}\n"
                    );
                    ("200 OK", "text/plain; version=0.0.4", text)
                }
                path if path.starts_with("/api/v1/query") => {
                    let oracle = self.oracle.lock().unwrap().clone();
                    match oracle {
                        Oracle::Says(status, kind, text) => (status, kind, text),
                        Oracle::Silence => {
                            // Until the client goes away.
                            while stream.read_exact(&mut [0]).is_ok() {}
                            return;
                        }
                    }
                }
                _ => {
                    let body = serde_json::from_slice(&body).unwrap_or_default();
                    self.told.lock().unwrap().push(Told { path, body });
                    (
                        "202 Accepted",
                        "application/json",
                        "{\"status\":\"success\"}".to_owned(),
                    )
                }
            };
            let length = text.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The request line and the body.
fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap_or(0));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head.lines().next()?.to_owned(), body))
}
