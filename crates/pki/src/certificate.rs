//! What people want to know of a certificate.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use super::Error;
use super::files;

/// A certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of whom it is for; empty if it has none.
    pub subject: String,
    /// Common name of who issued it.
    pub issuer: String,
    /// Names and addresses of the machine.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Whether it may issue others.
    pub is_authority: bool,
    /// What it may be used for; empty means anything.
    pub usages: Vec<&'static str>,
}

impl Certificate {
    /// Reads one; the error says what is wrong with it.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Certificate, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there is something behind its end".to_owned());
        }
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| error.to_string())?
            .map(|extension| extension.value.general_names.iter().filter_map(name).collect())
            .unwrap_or_default();
        let usages = parsed
            .extended_key_usage()
            .map_err(|error| error.to_string())?
            .map(|extension| {
                [
                    (extension.value.server_auth, "server"),
                    (extension.value.client_auth, "client"),
                ]
                .into_iter()
                .filter_map(|(has, usage)| has.then_some(usage))
                .collect()
            })
            .unwrap_or_default();
        Ok(Certificate {
            subject: common_name(parsed.subject()),
            issuer: common_name(parsed.issuer()),
            names,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_authority: parsed.is_ca(),
            usages,
        })
    }

    /// Reads all certificates of a file, at least one.
    pub fn read_all(path: &Path) -> Result<Vec<Certificate>, Error> {
        read_der(path)?.iter().map(|der| read_one(path, der)).collect()
    }
}

/// The certificate in `der`, which came from `path`.
pub(crate) fn read_one(path: &Path, der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::parse(der).map_err(|reason| Error::BadCertificate {
        path: path.to_owned(),
        reason,
    })
}

/// All certificates of a file, at least one, as they go over the wire.
pub(crate) fn read_der(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = files::read(path)?;
    let all = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::BadCertificate {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    if all.is_empty() {
        return Err(Error::NoCertificate(path.to_owned()));
    }
    Ok(all)
}

fn common_name(name: &X509Name<'_>) -> String {
    let mut names = name.iter_common_name();
    names
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            Some(address.to_string())
        }
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| match items {
            [] => "none".to_owned(),
            items => items.join(", "),
        };
        let usages: Vec<String> = self.usages.iter().map(ToString::to_string).collect();
        writeln!(f, "subject: {}", self.subject)?;
        writeln!(f, "issuer: {}", self.issuer)?;
        writeln!(f, "names: {}", list(&self.names))?;
        writeln!(
            f,
            "usages: {}",
            if usages.is_empty() {
                "any".to_owned()
            } else {
                list(&usages)
            }
        )?;
        writeln!(f, "authority: {}", self.is_authority)?;
        writeln!(f, "not_before: {}", time_text(self.not_before))?;
        writeln!(f, "not_after: {}", time_text(self.not_after))
    }
}

/// Seconds since 1970 as people read time.
pub fn time_text(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
}
