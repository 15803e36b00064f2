//! [`Prober`]: what all probes of a process share.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use service::SharedClock;
use service::clock::Stopwatch;
use tokio::time::{Instant, timeout_at};

use crate::icmp::{IcmpMode, Pinger};
use crate::journal::{Failure, Journal};
use crate::outcome::{Finding, Outcome};
use crate::probe::{Kind, Probe};
use crate::resolve::Resolver;
use crate::{connect, dns, http1, tls, wording};

/// Longest timeout of a probe; what asks for more gets this. No check waits that long, and far more has no deadline
/// that a clock can show.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// Whose certificates to trust where a probe does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    #[default]
    Platform,
    /// A PEM file.
    File(PathBuf),
}

/// What a [`Prober`] is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Follows `quptime/` in the `User-Agent` of requests.
    pub version: String,
    /// Whom to trust.
    pub roots: Roots,
    /// The system's list of name servers.
    pub resolv_conf: PathBuf,
    /// The system's list of names.
    pub hosts: PathBuf,
}

impl Settings {
    /// The system's own files.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            roots: Roots::Platform,
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
        }
    }
}

/// Why a [`Prober`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The named file with root certificates is of no use.
    #[error("root certificates: {0}")]
    Roots(String),
    /// The TLS library refuses its own defaults.
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    /// The version cannot stand in a header.
    #[error("bad version {0:?}: want printable ASCII, such as 0.3.1")]
    Version(String),
}

/// Looks at targets. Made once per process; any number of probes may run at once.
pub struct Prober {
    resolver: Resolver,
    tls: tls::Client,
    pinger: Pinger,
    http: http1::Requester,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober")
            .field("icmp", self.pinger.mode())
            .field("roots", &self.tls.roots)
            .finish_non_exhaustive()
    }
}

impl Prober {
    /// Loads root certificates and finds out what ICMP sockets this process may open.
    ///
    /// # Errors
    /// For a bad version or a bad file of roots. Missing system roots, resolver files or ICMP rights are none: they
    /// show in the outcomes of the probes that need them.
    pub fn new(settings: Settings, clock: SharedClock) -> Result<Self, Error> {
        let roots = tls::load(&settings.roots).map_err(Error::Roots)?;
        Ok(Self {
            resolver: Resolver::new(settings.resolv_conf, settings.hosts),
            tls: tls::Client::new(roots, clock)?,
            pinger: Pinger::new(),
            http: http1::Requester::new(&settings.version).ok_or(Error::Version(settings.version))?,
        })
    }

    /// How echo requests are sent, for `qu doctor` and metrics.
    pub fn icmp_mode(&self) -> &IcmpMode {
        self.pinger.mode()
    }

    /// How many root certificates are trusted; with none, every https target is down.
    pub fn root_certificates(&self) -> usize {
        self.tls.roots
    }

    /// One look. It must run in a tokio runtime with timers and IO, always the same one. Dropping the future ends it.
    pub async fn probe(&self, probe: &Probe) -> Outcome {
        let watch = Stopwatch::start();
        let journal = Journal::default();
        let deadline = Instant::now() + probe.timeout.min(TIMEOUT_MAX);
        // Boxed, because the states of all kinds together are larger than most callers' tasks.
        let look = Box::pin(self.look(probe, &journal, deadline));
        let result = match timeout_at(deadline, look).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(probe, &journal)),
        };
        let (result, detail) = match result {
            Ok(text) => (Finding::Up, text),
            Err(Failure::Down(text)) => (Finding::Down, text),
            Err(Failure::NoReport(text)) => (Finding::NoReport, text),
        };
        let (phases, certificate_expiry) = journal.close();
        Outcome {
            result,
            detail: wording::line(&detail),
            phases,
            latency: watch.elapsed(),
            certificate_expiry,
        }
    }

    async fn look(&self, probe: &Probe, journal: &Journal, deadline: Instant) -> Result<String, Failure> {
        let (resolver, list) = (&self.resolver, probe.resolvers.as_slice());
        match &probe.kind {
            Kind::Http(http) => {
                self.http
                    .look(http, list, resolver, &self.tls, journal, deadline)
                    .await
            }
            Kind::Tcp(tcp) => {
                let stream = connect::to(&tcp.host, tcp.port, list, resolver, journal, deadline).await?;
                Ok(match stream.peer_addr() {
                    Ok(end) => format!("connected to {end}"),
                    // It was connected, and the other side may already have gone.
                    Err(_) => "connected".to_owned(),
                })
            }
            Kind::Icmp(icmp) => self.pinger.look(icmp, list, resolver, journal, deadline).await,
            Kind::Tls(tls) => self.tls.look(tls, list, resolver, journal, deadline).await,
            Kind::Dns(dns) => dns::look(dns, list, resolver, journal, deadline).await,
        }
    }
}

fn timed_out(probe: &Probe, journal: &Journal) -> Failure {
    let after = wording::duration(probe.timeout);
    Failure::Down(match journal.current() {
        Some(phase) => format!("timeout after {after} in {phase}"),
        None => format!("timeout after {after}"),
    })
}
