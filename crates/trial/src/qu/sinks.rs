//! Who is told by HTTP: one receiver that takes everything, and one with moods. Both write down what came from where.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quptime::document::{Alert, AlertKind};
use quptime::secret::Secret;
use serde_json::Value;
use sim::Rng;
use tokio::net::{TcpListener, TcpStream};

use super::http::{self, Request};
use super::ledger::{Answer, Arrival, Ledger, Millis, now};

/// The alert whose sink takes everything.
pub(crate) const OPEN: &str = "open";
/// The alert whose sink has moods.
pub(crate) const MOODY: &str = "moody";
/// Where both are.
const PORT: u16 = 8080;
/// The header by which a receiver tells a second copy.
const KEY: &str = "idempotency-key";
/// A sender gives up after ten seconds.
const TOO_LATE: Duration = Duration::from_secs(12);
/// What the moody sink asks to be left alone, in seconds.
const RETRY_AFTER: u64 = 2;
/// A message that was not taken so often is taken: each failure makes the next wait three times as long.
const FAILURES_MAX: u32 = 2;
/// How long an answer is kept back for who laid an ambush.
const AMBUSH_MAX: Duration = Duration::from_secs(5);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Taken after so many milliseconds.
    Slow(u64),
    /// Taken, and nobody says so in time.
    TooLate,
    /// Taken, and the connection is reset.
    Reset,
    /// The connection is reset before anything was read.
    Closed,
    /// 503.
    Busy,
    /// 429 with `Retry-After`.
    TooMany,
}

/// The sinks of a run.
#[derive(Debug)]
pub(crate) struct Sinks {
    address: Ipv4Addr,
    ledger: Arc<Ledger>,
    rng: Mutex<Rng>,
    fair: AtomicBool,
    /// How often a delivery was read and not taken, by id.
    failed: Mutex<BTreeMap<String, u32>>,
}

impl Sinks {
    /// Listens at an address of this machine.
    pub(crate) async fn start(
        address: Ipv4Addr,
        seed: u64,
        fair: bool,
        ledger: &Arc<Ledger>,
    ) -> Result<Arc<Self>> {
        let listener = TcpListener::bind((address, PORT))
            .await
            .context("listen for messages")?;
        let sinks = Arc::new(Self {
            address,
            ledger: Arc::clone(ledger),
            rng: Mutex::new(Rng::new(seed)),
            fair: AtomicBool::new(fair),
            failed: Mutex::default(),
        });
        let taking = Arc::clone(&sinks);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let opened = now();
                tokio::spawn(Arc::clone(&taking).take(stream, peer, opened));
            }
        });
        Ok(sinks)
    }

    /// The alerts that tell them.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let alert = |id: &str| Alert {
            id: id.to_owned(),
            default: true,
            webhook_url: Secret::new(format!("http://{}:{PORT}/{id}", self.address)),
            ..Alert::new(id, AlertKind::Webhook)
        };
        [OPEN, MOODY].map(alert).to_vec()
    }

    /// From now on every message is taken at once.
    pub(crate) fn be_fair(&self) {
        self.fair.store(true, Ordering::Relaxed);
    }

    fn mood(&self, alert: &str) -> Mood {
        if alert == OPEN || self.fair.load(Ordering::Relaxed) {
            return Mood::Well;
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        match rng.below(100) {
            0..=5 => Mood::Busy,
            6..=10 => Mood::TooMany,
            11..=15 => Mood::Reset,
            16..=18 => Mood::Closed,
            19..=26 => Mood::Slow(rng.between(200, 4000)),
            27 => Mood::TooLate,
            _ => Mood::Well,
        }
    }

    /// Whether a message may be treated like this; counts failures.
    fn may_fail(&self, mood: Mood, id: &str) -> bool {
        if matches!(mood, Mood::Well | Mood::Slow(_)) {
            return true;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = failed.entry(id.to_owned()).or_default();
        *times += 1;
        *times <= FAILURES_MAX
    }

    async fn take(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, opened: Millis) {
        let Some(sender) = node_at(peer.ip()) else { return };
        // Which sink it is for stands in the request; a moody one may not even read it.
        let mut first = [0; 64];
        let Ok(length) = stream.peek(&mut first).await else {
            return;
        };
        let beginning = String::from_utf8_lossy(&first[..length]).into_owned();
        let alert = if beginning.starts_with(&format!("POST /{MOODY} ")) {
            MOODY
        } else {
            OPEN
        };
        let mood = self.mood(alert);
        if mood == Mood::Closed {
            // Closed with unread bytes, a connection is reset.
            return;
        }
        let Some(request) = http::read(&mut stream).await else {
            return;
        };
        let mood = if self.may_fail(mood, request.header(KEY).unwrap_or_default()) {
            mood
        } else {
            Mood::Well
        };
        let answer = match mood {
            Mood::Well | Mood::Slow(_) => Answer::Taken,
            Mood::TooLate | Mood::Reset | Mood::Closed => Answer::Unknown,
            Mood::Busy | Mood::TooMany => Answer::Refused,
        };
        self.ledger.came(arrival(alert, &request, sender, opened, answer));
        if answer == Answer::Taken
            && let Some(go_on) = self.ledger.spring(sender)
        {
            let _ = tokio::time::timeout(AMBUSH_MAX, go_on).await;
        }
        match mood {
            Mood::Well => {}
            Mood::Slow(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Mood::TooLate => tokio::time::sleep(TOO_LATE).await,
            Mood::Reset | Mood::Closed => {
                // If it cannot be reset it is closed, which the sender does not understand better.
                let _ = stream.set_zero_linger();
                return;
            }
            Mood::Busy => return http::answer(&mut stream, "503 Service Unavailable", "").await,
            Mood::TooMany => {
                let header = format!("Retry-After: {RETRY_AFTER}\r\n");
                return http::answer(&mut stream, "429 Too Many Requests", &header).await;
            }
        }
        http::answer(&mut stream, "200 OK", "").await;
    }
}

/// The node with this address; none has another.
pub(crate) fn node_at(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(v4) => usize::from(v4.octets()[3]).checked_sub(1),
        IpAddr::V6(_) => None,
    }
}

fn arrival(alert: &'static str, request: &Request, sender: usize, opened: Millis, answer: Answer) -> Arrival {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let when = text(&body["when"]).parse::<jiff::Timestamp>().ok();
    Arrival {
        alert,
        id: text(&body["delivery_id"]),
        key: request.header(KEY).unwrap_or_default().to_owned(),
        verb: text(&body["verb"]).to_uppercase(),
        when: when.and_then(|when| Millis::try_from(when.as_millisecond()).ok()),
        marked: body["repeat"].as_bool(),
        sender,
        master: body["details"]["master"].as_str().map(str::to_owned),
        opened,
        at: now(),
        answer,
    }
}
