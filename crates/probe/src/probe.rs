//! What to look at: plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Method};
use url::Url;

use crate::dns::RecordType;
use crate::host::Host;
use crate::nameserver::Nameserver;

/// One look at one target.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What kind of look.
    pub kind: Kind,
    /// It ends after this time, whatever happens.
    pub timeout: Duration,
    /// Servers to ask for names, in this order (the check's list, then the cluster's). If empty, and no other server
    /// is named, the system's resolver is asked. An address as target needs none.
    pub resolvers: Vec<Nameserver>,
}

/// A kind of look and its options.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A request over HTTP or HTTPS.
    Http(Http),
    /// A TCP connect.
    Tcp(Tcp),
    /// Echo requests.
    Icmp(Icmp),
    /// The end of a server's certificate.
    Tls(Tls),
    /// A DNS query.
    Dns(Dns),
}

/// A request over HTTP/1.1, with redirects followed.
#[derive(Clone)]
pub struct Http {
    /// `http` or `https`. A user and password in it become basic authentication.
    pub url: Url,
    /// The wanted status; 0 is any 2xx. A redirect that is the wanted status is not followed.
    pub expect_status: u16,
    /// Text that must be in the first MiB of the body; empty wants nothing.
    pub body_match: String,
    /// The request's method.
    pub method: Method,
    /// Headers besides (or instead of) our own. They are not sent to another host that a redirect leads to.
    pub headers: HeaderMap,
    /// PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Http {
    /// A plain `GET` that wants any 2xx.
    pub fn get(url: Url) -> Self {
        Self {
            url,
            expect_status: 0,
            body_match: String::new(),
            method: Method::GET,
            headers: HeaderMap::new(),
            ca_file: None,
        }
    }
}

impl fmt::Debug for Http {
    /// Without passwords: those of the URL, and all values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("url", &shown(&self.url))
            .field("expect_status", &self.expect_status)
            .field("body_match", &self.body_match)
            .field("method", &self.method)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// A URL as it may be shown: without user and password.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These refuse only URLs without a host, which have no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// A TCP connect, to any address of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Whom.
    pub host: Host,
    /// Where.
    pub port: u16,
}

/// Echo requests. The host's first IPv4 address is asked, or its first IPv6 address if it has no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Whom.
    pub host: Host,
    /// Echoes to send, 1 to 100.
    pub count: u16,
    /// Up with at most this share of them lost, in percent. When all are lost the target is down with any value.
    pub max_loss: u8,
}

/// The end of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whom to connect to.
    pub host: Host,
    /// Where.
    pub port: u16,
    /// The name to ask for (SNI), and with `verify` the one to expect; the host itself if none.
    pub server_name: Option<Host>,
    /// Down when the certificate ends within this many days.
    pub warn_days: u32,
    /// Whether chain and name must be right too. If not, any certificate will do, and any key.
    pub verify: bool,
}

/// A DNS query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The name to ask for.
    pub hostname: String,
    /// The type of record to ask for.
    pub record: RecordType,
    /// A server to ask after those of [`Probe::resolvers`].
    pub resolver: Option<Nameserver>,
    /// What one of the records must be; empty takes any. For `txt` a part of the text, for `mx` the exchange with or
    /// without its preference, for the others the whole address or name.
    pub expect: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let mut http = Http::get("https://user:secret@example.com/a?b".parse().unwrap());
        http.headers
            .insert("authorization", "Bearer secret".parse().unwrap());
        let text = format!("{http:?}");
        assert!(!text.contains("secret") && !text.contains("user:"), "{text}");
        assert!(text.contains("https://example.com/a?b") && text.contains("authorization"));
    }
}
