//! TLS to a target, and what is wrong with its certificate.
//!
//! Two ways to look: *verified* as a browser would (chain to a root of this system, name, dates), and *unverified*,
//! which talks to whatever is there in order to read the certificate's end. Settings are built once and shared by all
//! connections. Sessions are never resumed: a resumed one shows no certificate, so an expired or exchanged one would
//! go unseen, and a full handshake is what a new user gets.

mod certificate;
mod roots;
mod verifier;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use service::SharedClock;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect;
use crate::host::Host;
use crate::journal::{Failure, Journal, Phase};
use crate::nameserver::Nameserver;
use crate::probe;
use crate::resolve::Resolver;
use crate::shortage;
use crate::wording::{self, DAY_S};

pub(crate) use certificate::Leaf;
pub(crate) use roots::{load, pem_roots};
use verifier::{Anything, Rejected, Verified};

/// Authority files whose settings are kept; beyond that the oldest is dropped. Each costs some kilobytes.
const CA_FILES_MAX: usize = 64;

/// Settings of one authority file, and which state of the file they are of.
#[derive(Debug)]
struct OwnAuthority {
    path: PathBuf,
    mark: (SystemTime, u64),
    config: Arc<ClientConfig>,
}

/// TLS settings for all connections.
#[derive(Debug)]
pub(crate) struct Client {
    provider: Arc<CryptoProvider>,
    clock: SharedClock,
    /// How many roots are trusted.
    pub(crate) roots: usize,
    http: Arc<ClientConfig>,
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    own_authorities: Mutex<Vec<OwnAuthority>>,
}

/// Shows our clock to rustls.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(
            self.0.unix_ms(),
        )))
    }
}

impl Client {
    /// Settings that trust `roots`.
    pub(crate) fn new(roots: RootCertStore, clock: SharedClock) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let count = roots.len();
        let verified = verified(&provider, &clock, roots)?;
        let unverified = builder(&provider, &clock)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        Ok(Self {
            http: Arc::new(speaking_http(verified.clone())),
            verified: Arc::new(verified),
            unverified: Arc::new(full_handshakes(unverified)),
            roots: count,
            provider,
            clock,
            own_authorities: Mutex::new(Vec::new()),
        })
    }

    /// The wall clock in seconds since 1970.
    fn now(&self) -> i64 {
        i64::try_from(self.clock.unix_ms() / 1000).unwrap_or(i64::MAX)
    }

    /// Settings for HTTPS, trusting the system's roots or those of a file.
    pub(crate) fn for_http(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
        let Some(path) = ca_file else {
            return Ok(Arc::clone(&self.http));
        };
        let bad = |text: String| Failure::in_phase(Phase::Tls, format!("ca_file {}: {text}", path.display()));
        let mark = std::fs::metadata(path)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .map_err(|error| bad(wording::io(&error)))?;
        let mut known = self
            .own_authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = known
            .iter()
            .find(|known| known.path == path && known.mark == mark)
        {
            return Ok(Arc::clone(&authority.config));
        }
        let roots = pem_roots(path).map_err(bad)?;
        let config = verified(&self.provider, &self.clock, roots).map_err(|error| bad(error.to_string()))?;
        let config = Arc::new(speaking_http(config));
        known.retain(|known| known.path != path);
        if known.len() >= CA_FILES_MAX {
            known.remove(0);
        }
        known.push(OwnAuthority {
            path: path.to_owned(),
            mark,
            config: Arc::clone(&config),
        });
        Ok(config)
    }

    /// A handshake; the certificate's end goes to the journal also when it is refused.
    pub(crate) async fn handshake(
        &self,
        config: Arc<ClientConfig>,
        host: &Host,
        stream: TcpStream,
        journal: &Journal,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        journal.enter(Phase::Tls);
        let name = server_name(host)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        match stream {
            Ok(stream) => {
                if let Some(leaf) = leaf(&stream) {
                    journal.saw_certificate(leaf.not_after);
                }
                journal.leave();
                Ok(stream)
            }
            Err(error) => {
                let rejected = rejection(&error);
                if let Some(leaf) = rejected.and_then(|rejected| rejected.leaf.as_ref()) {
                    journal.saw_certificate(leaf.not_after);
                }
                let text = match rejected {
                    Some(rejected) => rejected.text(host, self.now(), self.roots),
                    None => failure_text(&error),
                };
                Err(Failure::in_phase(Phase::Tls, text).unless(shortage::is_ours(&error)))
            }
        }
    }

    /// The tls check.
    pub(crate) async fn look(
        &self,
        tls: &probe::Tls,
        resolvers: &[Nameserver],
        resolver: &Resolver,
        journal: &Journal,
        deadline: Instant,
    ) -> Result<String, Failure> {
        let stream = connect::to(&tls.host, tls.port, resolvers, resolver, journal, deadline).await?;
        let config = if tls.verify {
            &self.verified
        } else {
            &self.unverified
        };
        let name = tls.server_name.as_ref().unwrap_or(&tls.host);
        let stream = self.handshake(Arc::clone(config), name, stream, journal).await?;
        let leaf =
            leaf(&stream).ok_or_else(|| Failure::in_phase(Phase::Tls, "certificate cannot be read"))?;
        let (now, day) = (self.now(), wording::day(leaf.not_after));
        let left = leaf.not_after - now;
        if left < 0 {
            return Err(Failure::down(format!(
                "certificate expired {} ago ({day})",
                wording::distance(-left)
            )));
        }
        let text = format!("certificate expires in {} ({day})", wording::distance(left));
        if left <= i64::from(tls.warn_days) * DAY_S {
            return Err(Failure::down(text));
        }
        Ok(if leaf.not_before > now {
            format!("{text}, not valid before {}", wording::day(leaf.not_before))
        } else {
            text
        })
    }
}

/// What can be read of the certificate that the server showed.
fn leaf(stream: &TlsStream<TcpStream>) -> Option<Leaf> {
    let (_, connection) = stream.get_ref();
    Leaf::read(connection.peer_certificates()?.first()?)
}

/// The name to ask for. The dot of the root is not part of names in certificates (RFC 6066, section 3).
fn server_name(host: &Host) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| Failure::in_phase(Phase::Tls, format!("{name} cannot be a name in a certificate"))),
    }
}

fn builder(
    provider: &Arc<CryptoProvider>,
    clock: &SharedClock,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    // The default versions are 1.2 and 1.3; older ones do not exist in rustls.
    ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(Time(Arc::clone(clock))))
        .with_safe_default_protocol_versions()
}

fn verified(
    provider: &Arc<CryptoProvider>,
    clock: &SharedClock,
    roots: RootCertStore,
) -> Result<ClientConfig, rustls::Error> {
    let config = builder(provider, clock)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verified::new(roots, provider)?))
        .with_no_client_auth();
    Ok(full_handshakes(config))
}

/// Without resumption; see the header of this file.
fn full_handshakes(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

fn speaking_http(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Our own verdict inside the error of a handshake, if that is what ended it.
fn rejection(error: &io::Error) -> Option<&Rejected> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// What ended a handshake, in the operator's words.
fn failure_text(error: &io::Error) -> String {
    use rustls::Error;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(alert)) => format!("server refused the handshake ({alert:?})"),
        Some(Error::PeerIncompatible(reason)) => format!("nothing in common with the server ({reason:?})"),
        Some(Error::InvalidMessage(_)) => "not a TLS server".to_owned(),
        Some(Error::NoCertificatesPresented) => "server showed no certificate".to_owned(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "connection closed in the handshake".to_owned()
        }
        None => wording::io(error),
    }
}

/// Trusted certificates, those that can be used.
fn store(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}
