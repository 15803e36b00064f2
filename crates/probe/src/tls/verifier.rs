//! Verifying a server's certificate: as a browser does, with the reason of a refusal kept; or not at all.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::certificate::Leaf;
use crate::host::Host;
use crate::wording;

/// Why a certificate was refused, with what is known of it. It travels inside of the error of the handshake.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) leaf: Option<Leaf>,
    reason: CertificateError,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate refused: {}", self.reason)
    }
}

impl std::error::Error for Rejected {}

/// Names of a certificate that a detail line shows.
const NAMES_MAX: usize = 3;

impl Rejected {
    /// What is wrong, in the operator's words.
    pub(super) fn text(&self, host: &Host, now: i64, roots: usize) -> String {
        let leaf = self.leaf.as_ref();
        match &self.reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let end = match &self.reason {
                    CertificateError::ExpiredContext { not_after, .. } => Some(seconds(*not_after)),
                    _ => None,
                };
                match (end, leaf) {
                    (Some(end), Some(leaf)) if end == leaf.not_after => {
                        format!("certificate expired {} ago", wording::distance(now - end))
                    }
                    (Some(end), _) => format!(
                        "a certificate of the chain expired {} ago",
                        wording::distance(now - end)
                    ),
                    (None, _) => "certificate expired".to_owned(),
                }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!(
                    "certificate not valid before {}",
                    wording::day(seconds(*not_before))
                )
            }
            CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|name| bare(name)).collect();
                let more = if presented.len() > NAMES_MAX { ", ..." } else { "" };
                format!(
                    "certificate not valid for name {host} (it is for {}{more})",
                    names.join(", ")
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("certificate not valid for name {host}")
            }
            CertificateError::Revoked => "certificate revoked".to_owned(),
            _ if leaf.is_some_and(|leaf| leaf.self_issued) => "self-signed certificate".to_owned(),
            CertificateError::UnknownIssuer if roots == 0 => {
                "this host has no root certificates (install ca-certificates)".to_owned()
            }
            CertificateError::UnknownIssuer => match leaf.map(|leaf| leaf.issuer.as_str()) {
                Some(issuer) if !issuer.is_empty() => format!("certificate of unknown issuer {issuer}"),
                _ => "certificate of unknown issuer".to_owned(),
            },
            other => format!("bad certificate ({other})"),
        }
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The name inside of `DnsName("example.com")`, the form in which the verifier gives it.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// Chain, name and dates must be right.
#[derive(Debug)]
pub(super) struct Verified {
    /// None if there is nobody to trust.
    chains: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verified {
    /// Trusts `roots`; without any, it refuses every certificate.
    pub(super) fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let chains = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(
                builder
                    .build()
                    .map_err(|error| Error::General(error.to_string()))?,
            )
        };
        Ok(Self {
            chains,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = match &self.chains {
            Some(chains) => {
                chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        result.map_err(|error| match error {
            Error::InvalidCertificate(reason) => {
                let leaf = Leaf::read(end_entity);
                CertificateError::Other(OtherError(Arc::new(Rejected { leaf, reason }))).into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes any certificate with any key, also one too weak for a signature of it to be verified.
///
/// Only for reading the certificate: nothing is sent over such a connection.
#[derive(Debug)]
pub(super) struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
        ]
    }
}
