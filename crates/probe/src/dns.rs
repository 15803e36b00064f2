//! The dns check: does a name have the records it should have?

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{self, Name, RData};
use tokio::time::Instant;

use crate::journal::{Failure, Journal, Phase};
use crate::nameserver::Nameserver;
use crate::probe::Dns;
use crate::resolve::{LookupError, Resolver};

/// Records that a detail line shows.
const SHOWN_MAX: usize = 4;

/// The types of record that can be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordType {
    /// IPv4 addresses.
    #[default]
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name that this one is an alias of.
    Cname,
    /// Mail exchanges.
    Mx,
    /// Texts.
    Txt,
    /// Name servers.
    Ns,
}

impl RecordType {
    /// All types.
    pub const ALL: [Self; 6] = [Self::A, Self::Aaaa, Self::Cname, Self::Mx, Self::Txt, Self::Ns];

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Cname => "cname",
            Self::Mx => "mx",
            Self::Txt => "txt",
            Self::Ns => "ns",
        }
    }

    const fn on_the_wire(self) -> rr::RecordType {
        match self {
            Self::A => rr::RecordType::A,
            Self::Aaaa => rr::RecordType::AAAA,
            Self::Cname => rr::RecordType::CNAME,
            Self::Mx => rr::RecordType::MX,
            Self::Txt => rr::RecordType::TXT,
            Self::Ns => rr::RecordType::NS,
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RecordType {
    type Err = String;

    /// In lower or upper case; the error is `bad record type "x": want a, aaaa, cname, mx, txt or ns`.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|record| text.eq_ignore_ascii_case(record.as_str()))
            .ok_or_else(|| format!("bad record type {text:?}: want a, aaaa, cname, mx, txt or ns"))
    }
}

/// Asks and compares.
pub(crate) async fn look(
    dns: &Dns,
    resolvers: &[Nameserver],
    resolver: &Resolver,
    journal: &Journal,
    deadline: Instant,
) -> Result<String, Failure> {
    let mut list = resolvers.to_vec();
    list.extend(
        dns.resolver
            .iter()
            .filter(|own| !resolvers.contains(own))
            .cloned(),
    );
    journal.enter(Phase::Resolve);
    let answer = resolver
        .records(&dns.hostname, dns.record.on_the_wire(), &list, deadline)
        .await
        .map_err(|error| match error {
            LookupError::BadName => Failure::down(format!("{:?} is not a DNS name", dns.hostname)),
            error => Failure::down(error.to_string()).unless(error.is_ours()),
        })?;
    journal.leave();
    if answer.code == ResponseCode::NXDomain {
        return Err(Failure::down(format!("NXDOMAIN from {}", answer.server)));
    }
    let values: Vec<Value> = answer
        .records
        .iter()
        .filter(|record| record.record_type() == dns.record.on_the_wire())
        .filter_map(|record| Value::of(&record.data))
        .collect();
    if values.is_empty() {
        return Err(Failure::down(format!(
            "no {} record (empty answer from {})",
            dns.record, answer.server
        )));
    }
    let shown = shown(&values);
    if dns.expect.is_empty() || values.iter().any(|value| value.is(&dns.expect)) {
        Ok(format!("{} {shown}", dns.record))
    } else {
        Err(Failure::down(format!(
            "no match: want {} {}, got {shown} from {}",
            dns.record, dns.expect, answer.server
        )))
    }
}

/// What a record says.
#[derive(Debug)]
enum Value {
    Address(IpAddr),
    Name(String),
    Exchange(u16, String),
    Text(String),
}

impl Value {
    fn of(data: &RData) -> Option<Self> {
        Some(match data {
            RData::A(address) => Self::Address(address.0.into()),
            RData::AAAA(address) => Self::Address(address.0.into()),
            RData::CNAME(name) => Self::Name(plain(&name.0)),
            RData::NS(name) => Self::Name(plain(&name.0)),
            RData::MX(exchange) => Self::Exchange(exchange.preference, plain(&exchange.exchange)),
            RData::TXT(text) => Self::Text(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => return None,
        })
    }

    fn is(&self, expected: &str) -> bool {
        let same_name =
            |name: &str, expected: &str| name.eq_ignore_ascii_case(expected.trim_end_matches('.'));
        match self {
            Self::Address(address) => expected.parse() == Ok(*address),
            Self::Name(name) => same_name(name, expected),
            Self::Exchange(preference, name) => match expected.split_once(' ') {
                Some((number, rest)) => number.parse() == Ok(*preference) && same_name(name, rest.trim()),
                None => same_name(name, expected),
            },
            Self::Text(text) => text.contains(expected),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Exchange(preference, name) => write!(f, "{preference} {name}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// A name without the dot of the root.
fn plain(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.')
        .filter(|text| !text.is_empty())
        .unwrap_or(&text)
        .to_owned()
}

fn shown(values: &[Value]) -> String {
    let mut texts: Vec<String> = values.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if values.len() > SHOWN_MAX {
        texts.push(format!("and {} more", values.len() - SHOWN_MAX));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_fits_the_type() {
        let address = Value::Address("192.0.2.1".parse().unwrap());
        assert!(address.is("192.0.2.1") && !address.is("192.0.2.11") && !address.is("2.0.2.1"));
        let address = Value::Address("2001:db8::1".parse().unwrap());
        assert!(address.is("2001:DB8:0::1"));
        let name = Value::Name("ns.example".to_owned());
        assert!(name.is("NS.example.") && !name.is("s.example"));
        let exchange = Value::Exchange(10, "mx.example".to_owned());
        assert!(exchange.is("mx.example") && exchange.is("10 mx.example.") && !exchange.is("20 mx.example"));
        let text = Value::Text("v=spf1 -all".to_owned());
        assert!(text.is("v=spf1") && !text.is("v=spf2"));
    }

    #[test]
    fn record_types_have_names() {
        for record in RecordType::ALL {
            assert_eq!(record.to_string().parse(), Ok(record));
        }
        assert_eq!("AAAA".parse(), Ok(RecordType::Aaaa));
        assert_eq!(
            "srv".parse::<RecordType>(),
            Err("bad record type \"srv\": want a, aaaa, cname, mx, txt or ns".to_owned())
        );
    }
}
