//! [`Host`]: a name or an address, checked once.

use std::fmt;
use std::net::IpAddr;

/// A host as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name in ASCII (international names in their `xn--` form), lower case.
    Name(String),
    /// An address; it is never looked up.
    Ip(IpAddr),
}

/// Longest name in text form that DNS can carry (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;

/// Longest label (the same section).
const LABEL_MAX: usize = 63;

impl Host {
    /// Reads a name, an IPv4 address, or an IPv6 address with or without brackets; nothing if it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .filter(|inner| inner.contains(':'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Some(Self::Ip(address));
        }
        // The URL rules would decode percent signs, which have no business in a host name.
        if text.contains('%') {
            return None;
        }
        Self::from_url(&url::Host::parse(text).ok()?)
    }

    /// The host of a URL; nothing if its name cannot exist in DNS.
    pub(crate) fn from_url<S: AsRef<str>>(host: &url::Host<S>) -> Option<Self> {
        match host {
            url::Host::Domain(name) => {
                let name = name.as_ref();
                let labels = name.strip_suffix('.').unwrap_or(name);
                let fits = labels.len() <= NAME_MAX
                    && labels
                        .split('.')
                        .all(|label| !label.is_empty() && label.len() <= LABEL_MAX);
                fits.then(|| Self::Name(name.to_ascii_lowercase()))
            }
            url::Host::Ipv4(address) => Some(Self::Ip((*address).into())),
            url::Host::Ipv6(address) => Some(Self::Ip((*address).into())),
        }
    }
}

impl fmt::Display for Host {
    /// IPv6 addresses stand in brackets, so that a port can follow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Splits `host:port`, `[v6]:port`, `host`, `[v6]` or a bare IPv6 address; nothing if it is none of these.
pub(crate) fn split_port(text: &str) -> Option<(Host, Option<u16>)> {
    // Several colons without brackets are an IPv6 address and no port.
    let has_port = match text.rfind(':') {
        Some(colon) if text.starts_with('[') => text[..colon].ends_with(']'),
        Some(colon) => !text[..colon].contains(':'),
        None => false,
    };
    if !has_port {
        return Some((Host::parse(text)?, None));
    }
    let (host, port) = text.rsplit_once(':')?;
    // A number and nothing else: `parse` would also take a plus sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((Host::parse(host)?, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (text, shown) in [
            ("example.com", "example.com"),
            ("Example.COM", "example.com"),
            ("example.com.", "example.com."),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("192.0.2.7", "192.0.2.7"),
            ("::1", "[::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), shown, "{text}");
        }
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = "a.".repeat(127) + "com";
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a%41",
            "[::1",
            "::1]",
            "[x]",
            "a:1",
            &long_label,
            &long_name,
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ports_are_told_from_addresses() {
        let split = |text| split_port(text).map(|(host, port)| (host.to_string(), port));
        for (text, host, port) in [
            ("a", "a", None),
            ("a:1", "a", Some(1)),
            ("::1", "[::1]", None),
            ("[::1]", "[::1]", None),
            ("[::1]:65535", "[::1]", Some(65535)),
            ("192.0.2.7:53", "192.0.2.7", Some(53)),
        ] {
            assert_eq!(split(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in [
            "a:", "a:0", "a:65536", "a:+1", "a:b", ":1", "[::1]1", "[::1]:", "::1:x",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
