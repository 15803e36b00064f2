//! What the checks need to know of a server's certificate.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// The server's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// Whether subject and issuer are the same.
    pub(crate) self_issued: bool,
    /// Name of the issuer: its common name, or else its organisation.
    pub(crate) issuer: String,
}

impl Leaf {
    /// Nothing, if it is no certificate.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            issuer: name(certificate.issuer()),
        })
    }
}

fn name(name: &X509Name<'_>) -> String {
    name.iter_common_name()
        .chain(name.iter_organization())
        .find_map(|attribute| attribute.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}
