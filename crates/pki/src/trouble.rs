//! Why a connection failed, in terms of who refused what.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::certificate::time_text;

/// See the variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The peer refused our certificate, or our lack of one.
    Refused(String),
    /// We refused the peer's certificate, or its lack of one.
    Unverified(Unverified),
    /// What came is no TLS.
    NotTls,
    /// Versions, algorithms, protocols.
    Incompatible(String),
}

/// What is wrong with the peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unverified {
    /// It shows none.
    Missing,
    /// Nobody we trust has issued it.
    UnknownAuthority,
    /// It was good until then, if known; seconds since 1970.
    Expired(Option<i64>),
    /// It will be good.
    NotYetValid,
    /// It is another machine's: the name that was wanted, and those it has.
    OtherName {
        /// Wanted.
        wanted: String,
        /// Had.
        names: Vec<String>,
    },
    /// It is not for this use.
    Purpose,
    /// Anything else.
    Other(String),
}

impl Trouble {
    /// What TLS had to do with this error, if it is one of TLS.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Trouble> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<Error>() {
                return Some(of_tls(error));
            }
            // An `io::Error` does not count what it carries among its sources.
            if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
                && let Some(trouble) = Trouble::of(inner)
            {
                return Some(trouble);
            }
            next = error.source();
        }
        None
    }
}

fn of_tls(error: &Error) -> Trouble {
    match error {
        Error::NoCertificatesPresented => Trouble::Unverified(Unverified::Missing),
        Error::InvalidCertificate(reason) => Trouble::Unverified(unverified(reason)),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => Trouble::NotTls,
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // The greeting of TLS 1.1 and older has none.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => Trouble::Incompatible("TLS 1.2 or newer is wanted".to_owned()),
        other => Trouble::Incompatible(other.to_string()),
    }
}

fn of_alert(alert: AlertDescription) -> Trouble {
    let reason = match alert {
        AlertDescription::CertificateExpired => "expired",
        AlertDescription::UnknownCA => "unknown CA",
        AlertDescription::CertificateRequired => "none shown",
        // Its issuer has the right name and another key.
        AlertDescription::DecryptError => "bad signature",
        AlertDescription::BadCertificate => "rejected",
        AlertDescription::CertificateRevoked => "revoked",
        AlertDescription::CertificateUnknown => "not acceptable",
        AlertDescription::UnsupportedCertificate => "not for this use",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::ProtocolVersion => {
            return Trouble::Incompatible("the peer wants another version of TLS".to_owned());
        }
        other => return Trouble::Incompatible(format!("the peer says {other:?}")),
    };
    Trouble::Refused(reason.to_owned())
}

fn unverified(reason: &CertificateError) -> Unverified {
    let seconds = |time: &rustls::pki_types::UnixTime| i64::try_from(time.as_secs()).ok();
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Unverified::UnknownAuthority,
        CertificateError::Expired => Unverified::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => Unverified::Expired(seconds(not_after)),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Unverified::NotYetValid
        }
        CertificateError::NotValidForName => Unverified::OtherName {
            wanted: "this name".to_owned(),
            names: Vec::new(),
        },
        CertificateError::NotValidForNameContext { expected, presented } => Unverified::OtherName {
            wanted: expected.to_str().into_owned(),
            names: presented.iter().map(|name| bare(name)).collect(),
        },
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Unverified::Purpose
        }
        // Verifiers of our own say it in words; the wrapping is only for programmers.
        CertificateError::Other(reason) => Unverified::Other(reason.0.to_string()),
        other => Unverified::Other(other.to_string()),
    }
}

/// `DnsName("node1")` without its wrapping.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest);
    inner.trim_end_matches(')').trim_matches('"').to_owned()
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unverified::Missing => f.write_str("no client certificate"),
            Unverified::UnknownAuthority => f.write_str("unknown CA"),
            Unverified::Expired(None) => f.write_str("expired"),
            Unverified::Expired(Some(when)) => write!(f, "expired {}", time_text(*when)),
            Unverified::NotYetValid => f.write_str("not yet valid"),
            Unverified::OtherName { wanted, names } => {
                write!(f, "name mismatch: {wanted} is not among {}", names.join(" "))
            }
            Unverified::Purpose => f.write_str("not for this use"),
            Unverified::Other(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for Trouble {
    /// As log lines and people get it: what operators search for, then the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(reason) => write!(f, "tls: bad certificate: {reason}"),
            Trouble::Unverified(reason) => write!(f, "certificate verify failed: {reason}"),
            Trouble::NotTls => f.write_str("the peer does not speak TLS"),
            Trouble::Incompatible(reason) => write!(f, "tls: {reason}"),
        }
    }
}
