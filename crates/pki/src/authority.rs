//! A small certificate authority: a key, a certificate of its own, and what it issues.
//!
//! Keys are ECDSA P-256, which every client knows. Time comes from the caller.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::Error;
use super::certificate;
use super::files;

/// Before the moment of issue, for machines whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

const DAY_S: u64 = 86_400;

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Usage {
    /// To be connected to.
    Server,
    /// To connect.
    Client,
    /// Both, as members of a cluster do.
    Peer,
}

/// A name of a machine: a DNS name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// `node1.example.org`, `*.example.org`
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for Name {
    type Err = String;

    /// `node1`, `192.0.2.7`, `DNS:node1`, `IP:192.0.2.7`
    fn from_str(text: &str) -> Result<Name, String> {
        let text = text.trim();
        let wanted = || {
            format!(
                "bad name {text:?}: want a host name or an address, such as node1, DNS:node1 or IP:192.0.2.7"
            )
        };
        if let Some(address) = text.strip_prefix("IP:") {
            return address.parse().map(Name::Ip).map_err(|_| wanted());
        }
        let dns = text.strip_prefix("DNS:");
        if dns.is_none()
            && let Ok(address) = text.parse()
        {
            return Ok(Name::Ip(address));
        }
        let name = dns.unwrap_or(text);
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        let labels = name.strip_prefix("*.").unwrap_or(name);
        if name.len() <= 253 && labels.split('.').all(is_label) {
            Ok(Name::Dns(name.to_owned()))
        } else {
            Err(wanted())
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Common name. Chainfire takes it for the user when a client shows the certificate.
    pub common_name: String,
    /// Organisation, told beside the name; may be empty.
    pub organisation: String,
    /// Names and addresses of the machine.
    pub names: Vec<Name>,
    /// What for.
    pub usage: Usage,
    /// How long.
    pub days: u32,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// For everybody.
    pub certificate: String,
    /// For its owner alone.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// Issues certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub fn create(
        common_name: &str,
        organisation: &str,
        days: u32,
        now_unix_s: u64,
    ) -> Result<Authority, Error> {
        let failed = |error: rcgen::Error| issue_error(common_name, &error);
        let mut params = params(common_name, organisation, days, now_unix_s);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Authority {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// One that was made earlier, from its files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Authority, Error> {
        let own = &certificate::read_der(certificate)?[0];
        if !certificate::read_one(certificate, own)?.is_authority {
            return Err(Error::BadCertificate {
                path: certificate.to_owned(),
                reason: "it is no authority, so nothing can be issued with it".to_owned(),
            });
        }
        let text = String::from_utf8(files::read(key)?).map_err(|_| Error::NoKey(key.to_owned()))?;
        let pair = KeyPair::from_pem(&text).map_err(|error| Error::BadKey {
            path: key.to_owned(),
            reason: error.to_string(),
        })?;
        // What it issued would be refused, and hard to understand.
        super::material::check_pair(certificate, own, key, pair.serialized_der())?;
        let issuer = Issuer::from_ca_cert_der(own, pair).map_err(|error| Error::BadCertificate {
            path: certificate.to_owned(),
            reason: error.to_string(),
        })?;
        let certificate = String::from_utf8_lossy(&files::read(certificate)?).into_owned();
        Ok(Authority { certificate, issuer })
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM: whoever has it is the authority.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, profile: &Profile, now_unix_s: u64) -> Result<Issued, Error> {
        let failed = |error: rcgen::Error| issue_error(&profile.common_name, &error);
        let mut params = params(
            &profile.common_name,
            &profile.organisation,
            profile.days,
            now_unix_s,
        );
        for name in &profile.names {
            params.subject_alt_names.push(match name {
                Name::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
                Name::Ip(address) => SanType::IpAddress(*address),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match profile.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Peer => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(common_name: &str, organisation: &str, days: u32, now_unix_s: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !organisation.is_empty() {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organisation);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now_unix_s);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::from_secs(u64::from(days) * DAY_S);
    params
}

fn issue_error(name: &str, error: &rcgen::Error) -> Error {
    Error::Issue {
        name: name.to_owned(),
        reason: error.to_string(),
    }
}
