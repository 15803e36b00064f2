//! TLS on the port of clients: handshakes, their failures, and certificates that change while the server runs.
//!
//! A handshake has [`HANDSHAKE_TIMEOUT`]. No more than [`HANDSHAKES_MAX`] are under way; one more ends the oldest, which is
//! nearly always one that its client has abandoned: an honest one takes a few round trips. So a client that opens connections and
//! says nothing cannot keep others out.
//!
//! Connections keep what they were begun with; a new certificate is for new connections.

mod handshakes;
mod misdirected;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use pki::{Certificate, ClientAuth, Look, Paths, Reloadable, Trouble, Unverified, Warning, time_text};
use service::Shutdown;
use service::clock::{Moment, SharedClock};
use service::logs::Throttle;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::handshakes::Handshakes;
use super::transport::Transport;
use crate::config;
use crate::metrics::{FileLabel, Metrics, ReasonLabel};

pub(super) use self::misdirected::{is_tls, tell_tls_to_plain_port};

/// What is offered: etcd's clients want `h2`; curl and browsers take either.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// From the accepted connection to the first byte under TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes under way; each holds some ten kilobytes.
const HANDSHAKES_MAX: usize = 1024;

/// How often the files are looked at. What has changed is taken at the second look that sees the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often an expiry that is near is told.
const EXPIRY_TOLD_EVERY: Duration = Duration::from_hours(12);

/// From when an expiry is told, in seconds before it.
const EXPIRY_SOON_S: i64 = 30 * 86_400;

/// Carries the common name of the client's certificate from the connection to the services. What clients send under this name is
/// removed where certificates are wanted, and has no meaning where they are not.
pub(super) const USER: HeaderName = HeaderName::from_static("chainfire-certificate-user");

/// See the module.
#[derive(Debug)]
pub struct Tls {
    files: Reloadable,
    wants_certificates: bool,
    clock: SharedClock,
    handshakes: Arc<Handshakes>,
    troubles: Troubles,
    expiry_told: Mutex<Option<Moment>>,
}

/// Log lines of failed handshakes, one per second of each kind: anybody can cause them.
#[derive(Debug)]
struct Troubles {
    refused: Throttle,
    unverified: Throttle,
    plain: Throttle,
    other: Throttle,
}

/// Who is at the other end of a connection, as far as certificates tell.
#[derive(Debug, Clone, Default)]
pub(super) enum Peer {
    /// No certificate was wanted.
    #[default]
    Unasked,
    /// The certificate has no common name that could be a user's.
    Nameless,
    /// Its common name.
    Named(HeaderValue),
}

impl Peer {
    /// Writes the name into the headers of a request.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        match self {
            Peer::Unasked => {}
            Peer::Nameless => drop(headers.remove(USER)),
            // Takes the place of whatever the client may have sent, once or many times.
            Peer::Named(name) => drop(headers.insert(USER, name.clone())),
        }
    }
}

impl Tls {
    /// Reads the files of the settings, and tells what is worth a warning.
    pub fn load(settings: &config::Tls, clock: SharedClock) -> Result<Tls, pki::Error> {
        let paths = Paths {
            certificate: settings.cert_file.clone(),
            key: settings.key_file.clone(),
            authorities: Some(settings.ca_file.clone()).filter(|path| !path.as_os_str().is_empty()),
        };
        let clients = if settings.require_client_cert {
            ClientAuth::Required
        } else {
            ClientAuth::None
        };
        let files = Reloadable::load(paths, clients, ALPN, clock.unix_ms() / 1000)?;
        let each_second = || Throttle::new(Duration::from_secs(1));
        Ok(Tls {
            files,
            wants_certificates: settings.require_client_cert,
            clock,
            handshakes: Handshakes::new(HANDSHAKES_MAX),
            troubles: Troubles {
                refused: each_second(),
                unverified: each_second(),
                plain: each_second(),
                other: each_second(),
            },
            expiry_told: Mutex::new(None),
        })
    }

    /// Shakes hands. Nothing if that failed, which has been told then.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
        from: SocketAddr,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Option<(Transport, Peer)> {
        let turn = self.handshakes.begin();
        let session = tokio::select! {
            session = self.shake(socket, from, metrics) => session?,
            () = tokio::time::sleep(HANDSHAKE_TIMEOUT) => {
                count(metrics, "timeout");
                if self.troubles.other.permit(self.clock.now()) {
                    let held_back = self.troubles.other.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, held_back, error = "timeout", "TLS handshake failed");
                }
                return None;
            }
            () = turn.is_over() => {
                count(metrics, "crowded out");
                return None;
            }
            () = shutdown.wait() => return None,
        };
        drop(turn);
        let peer = if self.wants_certificates {
            user(&session).map_or(Peer::Nameless, Peer::Named)
        } else {
            Peer::Unasked
        };
        Some((Transport::Tls(Box::new(session)), peer))
    }

    async fn shake(
        &self,
        mut socket: TcpStream,
        from: SocketAddr,
        metrics: &Metrics,
    ) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        match socket.peek(&mut first).await {
            // Came and went, as probes do.
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        if !is_tls(&first) {
            count(metrics, "plain text");
            metrics.bad_connections.inc();
            if self.troubles.plain.permit(self.clock.now()) {
                let held_back = self.troubles.plain.held_back_field();
                tracing::warn!(target: "chainfire_network", peer = %from, held_back, "Plain text sent to the TLS port, want https");
            }
            misdirected::answer_plain_text(&mut socket).await;
            return None;
        }
        match TlsAcceptor::from(self.files.server()).accept(socket).await {
            Ok(session) => Some(session),
            Err(error) => {
                self.failed(&error, from, metrics);
                None
            }
        }
    }

    fn failed(&self, error: &io::Error, from: SocketAddr, metrics: &Metrics) {
        let now = self.clock.now();
        match Trouble::of(error) {
            Some(Trouble::Refused(reason)) => {
                count(metrics, "refused");
                if self.troubles.refused.permit(now) {
                    let held_back = self.troubles.refused.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason, held_back, "tls: bad certificate");
                }
            }
            Some(Trouble::Unverified(reason)) => {
                count(
                    metrics,
                    if reason == Unverified::Missing {
                        "no certificate"
                    } else {
                        "unverified"
                    },
                );
                if self.troubles.unverified.permit(now) {
                    let held_back = self.troubles.unverified.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason = %reason, held_back, "certificate verify failed");
                }
            }
            Some(trouble) => {
                count(metrics, "protocol");
                metrics.bad_connections.inc();
                if self.troubles.other.permit(now) {
                    let held_back = self.troubles.other.held_back_field();
                    tracing::warn!(target: "chainfire_network", peer = %from, reason = %trouble, held_back, "TLS handshake failed");
                }
            }
            None => {
                count(metrics, "broken off");
                tracing::debug!(target: "chainfire_network", peer = %from, error = %error, "TLS handshake broken off");
            }
        }
    }

    /// Takes new files as they come, until the shutdown.
    pub async fn keep_current(self: Arc<Self>, metrics: Arc<Metrics>, shutdown: Shutdown) {
        self.note(&metrics);
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.wait() => return,
            }
            let (own, gauges) = (self.clone(), metrics.clone());
            let looked = tokio::task::spawn_blocking(move || own.look(&gauges)).await;
            if let Err(error) = looked {
                tracing::error!(target: "chainfire_network", error = %error, "Looking at certificates failed");
            }
        }
    }

    fn look(&self, metrics: &Metrics) {
        match self.files.look(self.clock.unix_ms() / 1000) {
            Look::Quiet => {}
            Look::Reloaded => self.tell_reloaded(),
            Look::Refused(error) => {
                tracing::warn!(target: "chainfire_network", error = %error, "New certificate refused, the old one stays in use");
            }
        }
        self.tell_expiry();
        self.note(metrics);
    }

    /// Takes the files now. What is wrong with them is the error, and the old ones stay in use.
    pub fn reload(&self) -> Result<(), pki::Error> {
        self.files.reload(self.clock.unix_ms() / 1000)?;
        self.tell_reloaded();
        Ok(())
    }

    fn tell_reloaded(&self) {
        let leaf = self.files.leaf();
        tracing::info!(
            target: "chainfire_network",
            subject = %leaf.subject,
            not_after = %time_text(leaf.not_after),
            "Certificate reloaded"
        );
        self.tell_warnings();
        *self.expiry_told.lock() = None;
    }

    /// What is worth a warning about the files in use, beside their age.
    pub fn tell_warnings(&self) {
        let paths = self.files.paths();
        for warning in self.files.warnings() {
            match warning {
                Warning::ExpiresSoon { .. } => {}
                Warning::KeyReadableByOthers => tracing::warn!(
                    target: "chainfire_network",
                    file = %paths.key.display(),
                    "Key can be read by other users, want mode 600"
                ),
                Warning::ForeignAuthority { issuer } => tracing::warn!(
                    target: "chainfire_network",
                    file = %paths.certificate.display(),
                    issuer,
                    "Certificate is not signed by the CA in ca_file"
                ),
            }
        }
    }

    fn tell_expiry(&self) {
        let leaf = self.files.leaf();
        let now_s = i64::try_from(self.clock.unix_ms() / 1000).unwrap_or(i64::MAX);
        let left_s = leaf.not_after - now_s;
        if left_s >= EXPIRY_SOON_S {
            return;
        }
        let now = self.clock.now();
        let mut told = self.expiry_told.lock();
        if told.is_some_and(|told| now.since(told) < EXPIRY_TOLD_EVERY) {
            return;
        }
        *told = Some(now);
        let file = self.files.paths().certificate.display();
        let not_after = time_text(leaf.not_after);
        if left_s < 0 {
            tracing::error!(target: "chainfire_network", file = %file, not_after, "Certificate has expired");
        } else {
            let days = left_s / 86_400;
            tracing::warn!(target: "chainfire_network", file = %file, not_after, days, "Certificate expires soon");
        }
    }

    fn note(&self, metrics: &Metrics) {
        let file = self.files.paths().certificate.display().to_string();
        metrics
            .certificate_not_after
            .get_or_create(&FileLabel { file })
            .set(self.files.leaf().not_after);
    }
}

fn count(metrics: &Metrics, reason: &'static str) {
    metrics.tls_failures.get_or_create(&ReasonLabel { reason }).inc();
}

/// The common name of the client's certificate.
fn user(session: &TlsStream<TcpStream>) -> Option<HeaderValue> {
    let (_, connection) = session.get_ref();
    let leaf = Certificate::parse(connection.peer_certificates()?.first()?).ok()?;
    if leaf.subject.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(leaf.subject.as_bytes()).ok()
}
