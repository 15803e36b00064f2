//! [`Nameserver`]: one entry of a resolver list.

use std::fmt;
use std::str::FromStr;

use crate::host::{self, Host};

/// The port that name servers listen on (RFC 1035, 4.2).
pub(crate) const DNS_PORT: u16 = 53;

/// A server to ask: `1.1.1.1`, `1.1.1.1:5353`, `2606:4700::1111`, `[::1]:5353`, `dns.example.com:53`.
///
/// A server that is given by name is itself looked up with the system's resolver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nameserver {
    /// Where it is.
    pub host: Host,
    /// UDP and TCP port.
    pub port: u16,
}

/// `bad resolver "x:y": want an address or HOST:PORT, such as 1.1.1.1, [::1]:53 or dns.example.com:53`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "bad resolver {text:?}: want an address or HOST:PORT, such as 1.1.1.1, [::1]:53 or dns.example.com:53"
)]
pub struct BadNameserver {
    text: String,
}

impl FromStr for Nameserver {
    type Err = BadNameserver;

    fn from_str(text: &str) -> Result<Self, BadNameserver> {
        let (host, port) = host::split_port(text.trim()).ok_or_else(|| BadNameserver {
            text: text.to_owned(),
        })?;
        let port = port.unwrap_or(DNS_PORT);
        Ok(Self { host, port })
    }
}

impl fmt::Display for Nameserver {
    /// The usual port is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Ip(address), DNS_PORT) => address.fmt(f),
            (host, DNS_PORT) => host.fmt(f),
            (host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_lists() {
        for (text, shown) in [
            ("1.1.1.1", "1.1.1.1"),
            (" 1.1.1.1:53 ", "1.1.1.1"),
            ("::1", "::1"),
            ("[::1]:54", "[::1]:54"),
            ("dns.example.com", "dns.example.com"),
        ] {
            assert_eq!(text.parse::<Nameserver>().unwrap().to_string(), shown);
        }
        assert_eq!(
            "1.1.1.1:x".parse::<Nameserver>().unwrap_err().to_string(),
            "bad resolver \"1.1.1.1:x\": want an address or HOST:PORT, such as 1.1.1.1, [::1]:53 or \
             dns.example.com:53"
        );
    }
}
