//! What is watched: targets that come and go by the seed, and the truth about when they did.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use quptime::document::{Check, CheckKind};
use quptime::duration::Span;
use sim::Rng;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::http;
use super::ledger::{Ledger, Outage, now};

/// Where all pages are.
const PAGES_PORT: u16 = 8000;
/// From here on each target that is a port has one.
const FIRST_PORT: u16 = 9000;
/// Every so many targets one is a port, the others are pages.
const PORT_EVERY: usize = 4;
/// From one look at a target to the next.
const INTERVAL_MS: u64 = 2000;
/// How long a look may take. Targets answer at once, so only a busy machine needs it.
const TIMEOUT_MS: u64 = 4000;
/// How long a target stays as it is, in milliseconds: from the first number to one of the others.
const PHASE_MS: (u64, &[u64]) = (8_000, &[15_000, 25_000, 45_000]);

/// How a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// A page says 503.
    Failing,
    /// A page hangs up. A port that is not well is closed.
    Mute,
}

/// All targets of a run.
#[derive(Debug)]
pub(crate) struct Targets {
    address: Ipv4Addr,
    moods: Vec<watch::Sender<Mood>>,
    ledger: Arc<Ledger>,
    /// Ends all outages, for good.
    well: watch::Sender<bool>,
}

/// The id of a target's check.
fn check_id(number: usize) -> String {
    format!("t{number:03}")
}

impl Targets {
    /// So many targets at an address of this machine, all well.
    pub(crate) async fn start(address: Ipv4Addr, count: usize, ledger: &Arc<Ledger>) -> Result<Self> {
        let moods: Vec<_> = (0..count).map(|_| watch::Sender::new(Mood::Well)).collect();
        let pages = TcpListener::bind((address, PAGES_PORT))
            .await
            .context("listen for the pages that are watched")?;
        let of_pages: Arc<[watch::Receiver<Mood>]> = moods.iter().map(watch::Sender::subscribe).collect();
        tokio::spawn(async move {
            while let Ok((stream, _)) = pages.accept().await {
                tokio::spawn(page(stream, Arc::clone(&of_pages)));
            }
        });
        for (number, mood) in moods.iter().enumerate().filter(|(number, _)| is_port(*number)) {
            tokio::spawn(port(address, FIRST_PORT + number as u16, mood.subscribe()));
        }
        Ok(Self {
            address,
            moods,
            ledger: Arc::clone(ledger),
            well: watch::Sender::new(false),
        })
    }

    /// The checks that watch them.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let check = |number| {
            let id = check_id(number);
            let (kind, target) = if is_port(number) {
                let port = FIRST_PORT + number as u16;
                (CheckKind::Tcp, format!("{}:{port}", self.address))
            } else {
                let target = format!("http://{}:{PAGES_PORT}/{number}", self.address);
                (CheckKind::Http, target)
            };
            Check {
                id: id.clone(),
                interval: Span::from_millis(INTERVAL_MS),
                timeout: Span::from_millis(TIMEOUT_MS),
                ..Check::new(id, kind, target)
            }
        };
        (0..self.moods.len()).map(check).collect()
    }

    /// From now on they come and go, until [`Targets::calm_down`].
    pub(crate) fn let_loose(&self, seed: u64) {
        for (number, mood) in self.moods.iter().enumerate() {
            let rng = Rng::new(seed ^ ((number as u64 + 1) << 32));
            let calm = self.well.subscribe();
            tokio::spawn(live(number, mood.clone(), rng, calm, Arc::clone(&self.ledger)));
        }
    }

    /// From now on all are well.
    pub(crate) async fn calm_down(&self) {
        self.well.send_replace(true);
        for mood in &self.moods {
            // The sender lives in `self`.
            let _ = mood.subscribe().wait_for(|mood| *mood == Mood::Well).await;
        }
    }
}

fn is_port(number: usize) -> bool {
    number % PORT_EVERY == PORT_EVERY - 1
}

/// One target's life.
async fn live(
    number: usize,
    mood: watch::Sender<Mood>,
    mut rng: Rng,
    mut calm: watch::Receiver<bool>,
    ledger: Arc<Ledger>,
) {
    loop {
        if phase(&mut rng, &mut calm).await {
            return;
        }
        let broken = if rng.chance(500) {
            Mood::Failing
        } else {
            Mood::Mute
        };
        let from = now();
        mood.send_replace(broken);
        let ends = phase(&mut rng, &mut calm).await;
        mood.send_replace(Mood::Well);
        ledger.broken(Outage {
            check: check_id(number),
            from,
            until: now(),
        });
        if ends {
            return;
        }
    }
}

/// Waits for a phase; true if all shall be well now.
async fn phase(rng: &mut Rng, calm: &mut watch::Receiver<bool>) -> bool {
    let (from, to) = PHASE_MS;
    let to = *rng.pick(to);
    let wait = Duration::from_millis(rng.between(from, to));
    tokio::time::timeout(wait, calm.wait_for(|calm| *calm))
        .await
        .is_ok()
}

async fn page(mut stream: TcpStream, moods: Arc<[watch::Receiver<Mood>]>) {
    let Some(request) = http::read(&mut stream).await else {
        return;
    };
    let number = request.path.trim_start_matches('/').parse::<usize>();
    let mood = number
        .ok()
        .and_then(|number| moods.get(number))
        .map(|mood| *mood.borrow());
    match mood {
        Some(Mood::Well) => http::answer(&mut stream, "200 OK", "").await,
        Some(Mood::Failing) => http::answer(&mut stream, "503 Service Unavailable", "").await,
        Some(Mood::Mute) => {}
        None => http::answer(&mut stream, "404 Not Found", "").await,
    }
}

/// A port that is open while its target is well.
async fn port(address: Ipv4Addr, port: u16, mut mood: watch::Receiver<Mood>) {
    while mood.wait_for(|mood| *mood == Mood::Well).await.is_ok() {
        let Ok(listener) = TcpListener::bind((address, port)).await else {
            // Told by the check that stays down, which is a finding.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let open = async {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        };
        tokio::select! {
            () = open => {}
            _ = mood.wait_for(|mood| *mood != Mood::Well) => {}
        }
    }
}
