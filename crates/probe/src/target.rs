//! [`Target`]: the text after `qu check add TYPE NAME`, checked.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::host::{self, Host};

/// The port of HTTPS, where a certificate is most often looked for.
const HTTPS_PORT: u16 = 443;
/// Letters that are shown of a target that was refused.
const TEXT_MAX: usize = 80;

/// A kind of check, as in the `type` field of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// `http`
    Http,
    /// `tcp`
    Tcp,
    /// `icmp`
    Icmp,
    /// `tls`
    Tls,
    /// `dns`
    Dns,
}

impl TargetKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Http, Self::Tcp, Self::Icmp, Self::Tls, Self::Dns];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
            Self::Tls => "tls",
            Self::Dns => "dns",
        }
    }

    const fn wanted(self) -> &'static str {
        match self {
            Self::Http => "want an http:// or https:// URL, such as https://example.com/health",
            Self::Tcp => "want HOST:PORT, such as db.example.com:5432 or [2001:db8::1]:5432",
            Self::Icmp => {
                "want a host name or an address without a port, such as router.example.com or 192.0.2.1"
            }
            Self::Tls => "want HOST, HOST:PORT or a URL with a port or https, such as example.com:443",
            Self::Dns => "want a host name, such as www.example.com",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TargetKind {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| BadTarget::Kind(brief(text)))
    }
}

/// Why a target is refused; the text fits on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// No such kind of check.
    #[error("bad type {0:?}: want http, tcp, icmp, tls or dns")]
    Kind(String),
    /// Not a target of that kind.
    #[error("bad {kind} target {text:?}: {}", kind.wanted())]
    Text {
        /// The kind it should be a target of.
        kind: TargetKind,
        /// What was given, [`masked`]; the beginning of it, if it is long.
        text: String,
    },
}

/// A target that can be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A URL.
    Http(Url),
    /// A host and port.
    Tcp(Host, u16),
    /// A host.
    Icmp(Host),
    /// A host and port.
    Tls(Host, u16),
    /// A DNS name, in ASCII and lower case.
    Dns(String),
}

impl Target {
    /// Reads the target of a check.
    ///
    /// # Errors
    /// One line: `bad tcp target "db": want HOST:PORT, such as db.example.com:5432 or [2001:db8::1]:5432`.
    pub fn parse(kind: TargetKind, text: &str) -> Result<Self, BadTarget> {
        let text = text.trim();
        let target = match kind {
            TargetKind::Http => http_url(text).map(Self::Http),
            TargetKind::Tcp => match host::split_port(text) {
                Some((host, Some(port))) => Some(Self::Tcp(host, port)),
                _ => None,
            },
            TargetKind::Icmp => Host::parse(text).map(Self::Icmp),
            TargetKind::Tls => tls_end(text).map(|(host, port)| Self::Tls(host, port)),
            TargetKind::Dns => match Host::parse(text) {
                Some(Host::Name(name)) => Some(Self::Dns(name)),
                _ => None,
            },
        };
        target.ok_or_else(|| BadTarget::Text {
            kind,
            text: brief(&masked(text)),
        })
    }
}

/// A URL that can be requested.
fn http_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    is_requestable(&url).then_some(url)
}

/// Whether a URL names a host and speaks HTTP.
pub(crate) fn is_requestable(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.port() != Some(0)
        && url.host().is_some_and(|host| Host::from_url(&host).is_some())
}

/// `host`, `host:port`, `https://host/...`, or another URL with a port.
fn tls_end(text: &str) -> Option<(Host, u16)> {
    if text.contains("://") {
        let url = Url::parse(text).ok()?;
        let port = match url.scheme() {
            "http" => url.port(),
            _ => url.port_or_known_default(),
        };
        // Hosts of schemes that the URL rules do not know come as they are written.
        let host = Host::parse(url.host_str()?)?;
        return Some((host, port.filter(|port| *port != 0)?));
    }
    let (host, port) = host::split_port(text)?;
    Some((host, port.unwrap_or(HTTPS_PORT)))
}

/// The text of a target as it may be shown: whatever may be a password in a URL is `***`. A user without password is one as well, since tokens
/// stand there.
pub fn masked(text: &str) -> Cow<'_, str> {
    let Some(start) = authority_of(text) else {
        return Cow::Borrowed(text);
    };
    let rest = &text[start..];
    // Backslashes count as slashes to whoever reads a URL of http.
    let authority = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else {
        return Cow::Borrowed(text);
    };
    let user = match rest[..at].split_once(':') {
        Some((user, _)) => format!("{user}:"),
        None => String::new(),
    };
    Cow::Owned(format!("{}{user}***{}", &text[..start], &rest[at..]))
}

/// Where user and host begin in a URL. URLs of http are read although slashes are missing, or too many.
fn authority_of(text: &str) -> Option<usize> {
    let (scheme, rest) = text.split_once(':')?;
    let is_http = ["http", "https"]
        .iter()
        .any(|known| scheme.trim().eq_ignore_ascii_case(known));
    let end = text.len() - rest.len();
    if is_http {
        return Some(end + rest.len() - rest.trim_start_matches(['/', '\\']).len());
    }
    rest.starts_with("//").then_some(end + 2)
}

/// The beginning of what was given.
fn brief(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, text: &str) -> Result<Target, String> {
        Target::parse(kind.parse().unwrap(), text).map_err(|error| error.to_string())
    }

    fn name(text: &str) -> Host {
        Host::Name(text.to_owned())
    }

    #[test]
    fn targets_of_all_kinds() {
        for text in [
            "http://example.com",
            "https://example.com:8443/health?a=b",
            "http://[::1]:8080/",
            "https://user:pw@example.com/",
        ] {
            let Ok(Target::Http(url)) = parse("http", text) else {
                panic!("{text}")
            };
            assert_eq!(url, Url::parse(text).unwrap());
        }
        assert_eq!(parse("tcp", "db:5432"), Ok(Target::Tcp(name("db"), 5432)));
        assert_eq!(
            parse("tcp", "[::1]:22"),
            Ok(Target::Tcp(Host::Ip("::1".parse().unwrap()), 22))
        );
        assert_eq!(
            parse("icmp", "192.0.2.1"),
            Ok(Target::Icmp(Host::Ip("192.0.2.1".parse().unwrap())))
        );
        assert_eq!(parse("icmp", "a.example"), Ok(Target::Icmp(name("a.example"))));
        assert_eq!(
            parse("dns", "WWW.example"),
            Ok(Target::Dns("www.example".to_owned()))
        );
    }

    #[test]
    fn passwords_of_targets_are_masked() {
        for (text, shown) in [
            ("http://user:pass@host/", "http://user:***@host/"),
            (
                "https://user:p:a@ss@host:8443/a?b=c@d#e",
                "https://user:***@host:8443/a?b=c@d#e",
            ),
            ("https://token@host", "https://***@host"),
            ("https://:pass@host", "https://:***@host"),
            ("http://user:p@ss\\@host/", "http://user:***@ss\\@host/"),
            ("HTTP:user:pass@host/", "HTTP:user:***@host/"),
            ("https:///user:pass@host/", "https:///user:***@host/"),
            ("ldaps://u:p@[::1]:636", "ldaps://u:***@[::1]:636"),
            ("https://host/?user=a:b@c", "https://host/?user=a:b@c"),
            ("host:22", "host:22"),
            ("mail@host", "mail@host"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn long_targets_are_cut_in_errors() {
        let told = parse("tcp", &"ä".repeat(70_000)).unwrap_err();
        assert!(
            told.starts_with("bad tcp target \"ää") && told.contains("ä…\": want HOST:PORT"),
            "{told}"
        );
        assert!(told.len() < 300, "{told}");
    }

    #[test]
    fn forms_of_a_tls_target() {
        let v6 = Host::Ip("2001:db8::1".parse().unwrap());
        for (text, host, port) in [
            ("example.com", name("example.com"), 443),
            ("example.com:8443", name("example.com"), 8443),
            ("https://example.com/path?x", name("example.com"), 443),
            ("https://example.com:8443", name("example.com"), 8443),
            ("ldaps://example.com:636/", name("example.com"), 636),
            ("2001:db8::1", v6.clone(), 443),
            ("[2001:db8::1]", v6.clone(), 443),
            ("[2001:db8::1]:636", v6, 636),
        ] {
            assert_eq!(parse("tls", text), Ok(Target::Tls(host, port)), "{text}");
        }
    }

    #[test]
    fn bad_targets_are_named_with_what_is_wanted() {
        for (kind, text, message) in [
            (
                "http",
                "example.com",
                "bad http target \"example.com\": want an http:// or https:// URL, such as \
                 https://example.com/health",
            ),
            (
                "tcp",
                "db",
                "bad tcp target \"db\": want HOST:PORT, such as db.example.com:5432 or [2001:db8::1]:5432",
            ),
            (
                "icmp",
                "host:80",
                "bad icmp target \"host:80\": want a host name or an address without a port, such as \
                 router.example.com or 192.0.2.1",
            ),
            (
                "dns",
                "192.0.2.1",
                "bad dns target \"192.0.2.1\": want a host name, such as www.example.com",
            ),
            (
                "tls",
                "ldap://u:secret@a b/",
                "bad tls target \"ldap://u:***@a b/\": want HOST, HOST:PORT or a URL with a port or https, such as \
                 example.com:443",
            ),
        ] {
            assert_eq!(parse(kind, text), Err(message.to_owned()));
        }
        for (kind, text) in [
            ("http", "ftp://example.com/"),
            ("http", "http://"),
            ("http", "https://a..b/"),
            ("http", "http://example.com:0/"),
            ("tcp", "db:0"),
            ("tcp", "::1:22"),
            ("tcp", ""),
            ("icmp", ""),
            ("tls", "http://example.com/"),
            ("tls", "ldaps://example.com/"),
            ("dns", "a..b"),
        ] {
            assert!(parse(kind, text).is_err(), "{kind} {text}");
        }
        assert_eq!(
            "ping".parse::<TargetKind>().unwrap_err().to_string(),
            "bad type \"ping\": want http, tcp, icmp, tls or dns"
        );
    }
}
