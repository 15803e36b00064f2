//! A certificate, its key and the authorities to trust, read from files and checked against each other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

use super::certificate::{self, Certificate};
use super::{Error, files};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Seconds before its end from which a certificate is worth a warning.
const SOON_S: i64 = 30 * 86_400;

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// PEM certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// PEM key of it.
    pub key: PathBuf,
    /// PEM certificates of the authorities to trust.
    pub authorities: Option<PathBuf>,
}

/// Something to tell that is no reason to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The certificate ends within 30 days.
    ExpiresSoon {
        /// Seconds since 1970.
        not_after: i64,
    },
    /// Others than the owner can read the key.
    KeyReadableByOthers,
    /// The certificate is not issued by an authority that is trusted here, so machines set up like this one refuse it.
    ForeignAuthority {
        /// Who issued it.
        issuer: String,
    },
}

/// See the module.
pub struct Material {
    /// The certificate itself.
    pub leaf: Certificate,
    /// What to tell.
    pub warnings: Vec<Warning>,
    certified: Arc<CertifiedKey>,
    roots: Option<Arc<RootCertStore>>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// Reads and checks.
    pub fn load(paths: &Paths, now_unix_s: u64) -> Result<Material, Error> {
        let chain = certificate::read_der(&paths.certificate)?;
        let leaf = certificate::read_one(&paths.certificate, &chain[0])?;
        let key = read_key(&paths.key)?;
        let certified = pair(&paths.certificate, chain, &paths.key, key)?;
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        if now > leaf.not_after {
            return Err(Error::Expired {
                path: paths.certificate.clone(),
                not_after: leaf.not_after,
            });
        }
        if now < leaf.not_before {
            return Err(Error::NotYetValid {
                path: paths.certificate.clone(),
                not_before: leaf.not_before,
            });
        }
        let roots = paths.authorities.as_deref().map(read_authorities).transpose()?;
        let mut warnings = Vec::new();
        if leaf.not_after - now < SOON_S {
            warnings.push(Warning::ExpiresSoon {
                not_after: leaf.not_after,
            });
        }
        if files::is_readable_by_others(&paths.key) {
            warnings.push(Warning::KeyReadableByOthers);
        }
        if let Some(roots) = &roots
            && is_foreign(roots, &certified, now_unix_s)
        {
            warnings.push(Warning::ForeignAuthority {
                issuer: leaf.issuer.clone(),
            });
        }
        Ok(Material {
            leaf,
            warnings,
            certified: Arc::new(certified),
            roots,
        })
    }
}

impl Material {
    /// The authorities to trust, if there are any.
    pub fn authorities(&self) -> Option<Arc<RootCertStore>> {
        self.roots.clone()
    }
}

/// Whether whoever connects has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked for.
    None,
    /// Without one that an authority trusted here has issued there is no connection.
    Required,
    /// The same, and it must be a machine's: one that names a machine and may serve. Authorities issue to users as well.
    Machines,
}

/// What a server is configured with.
pub fn server_config(
    material: &Material,
    clients: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let unusable = |error: &dyn fmt::Display| Error::Unusable(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(|error| unusable(&error))?;
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required | ClientAuth::Machines => {
            let roots = material.roots.clone().ok_or_else(|| {
                Error::Unusable("clients have to show certificates, and no authority is trusted".to_owned())
            })?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| unusable(&error))?;
            builder.with_client_cert_verifier(match clients {
                ClientAuth::Machines => Arc::new(MachinesOnly(verifier)),
                _ => verifier,
            })
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Always(material.certified.clone())));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    if clients != ClientAuth::None {
        // A resumed session is not verified again: the client's certificate may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// What a client is configured with: it verifies servers by these authorities, and shows its own certificate if it has one and is
/// asked.
pub fn client_config(
    authorities: Arc<RootCertStore>,
    own: Option<&Material>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let unusable = |error: &dyn fmt::Display| Error::Unusable(error.to_string());
    let verifier = WebPkiServerVerifier::builder_with_provider(authorities, provider())
        .build()
        .map_err(|error| unusable(&error))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(|error| unusable(&error))?
        .with_webpki_verifier(verifier);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(Always(own.certified.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Verifies as usual, and refuses certificates that are not for a machine that serves.
#[derive(Debug)]
struct MachinesOnly(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for MachinesOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = Certificate::parse(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let serves = leaf.usages.is_empty() || leaf.usages.contains(&"server");
        if leaf.names.is_empty() || !serves {
            return Err(rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose,
            ));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// One certificate, whatever is asked for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Always {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = files::read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        if text.windows(9).any(|bytes| bytes == b"ENCRYPTED") {
            Error::EncryptedKey(path.to_owned())
        } else {
            Error::NoKey(path.to_owned())
        }
    })
}

/// The authorities to trust that a file holds.
pub fn read_authorities(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for der in certificate::read_der(path)? {
        certificate::read_one(path, &der)?;
        roots.add(der).map_err(|error| Error::BadCertificate {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(Arc::new(roots))
}

fn pair(
    certificate: &Path,
    chain: Vec<CertificateDer<'static>>,
    key_path: &Path,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Error> {
    let bad = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => Error::NotAPair {
            certificate: certificate.to_owned(),
            key: key_path.to_owned(),
        },
        rustls::Error::InvalidCertificate(reason) => Error::BadCertificate {
            path: certificate.to_owned(),
            reason: reason.to_string(),
        },
        other => Error::BadKey {
            path: key_path.to_owned(),
            reason: other.to_string(),
        },
    };
    let key = provider().key_provider.load_private_key(key).map_err(bad)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(bad)?;
    Ok(certified)
}

/// Whether the key (PKCS #8) is that of the certificate.
pub(crate) fn check_pair(
    certificate: &Path,
    der: &CertificateDer<'static>,
    key: &Path,
    pkcs8: &[u8],
) -> Result<(), Error> {
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
    pair(certificate, vec![der.clone()], key, pkcs8.into()).map(drop)
}

/// Whether none of the authorities has issued it. What it may be used for is another question.
fn is_foreign(roots: &Arc<RootCertStore>, own: &CertifiedKey, now_unix_s: u64) -> bool {
    let Ok(verifier) = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build() else {
        return true;
    };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix_s));
    let (leaf, between) = (&own.cert[0], &own.cert[1..]);
    matches!(
        verifier.verify_client_cert(leaf, between, now),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    )
}
