//! From a host name to addresses.
//!
//! A list of servers is asked in its order: one that cannot be reached, does not answer, or answers that it failed
//! (SERVFAIL, REFUSED and the like) is passed over. Each gets a share of the time that is left, and one share stays
//! for what comes after the lookup. "There is no such name" is an answer; it is not asked for again elsewhere.
//!
//! Without a list the system's `resolv.conf` and `hosts` count, read anew whenever they change. The C library's
//! resolver is not used: it occupies a thread per lookup and cannot be cancelled.

mod exchange;
mod system;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

pub(crate) use exchange::Trouble;
use system::{System, SystemFiles};

use crate::host::Host;
use crate::journal::{Failure, Phase};
use crate::nameserver::Nameserver;
use crate::shortage;

/// How long the answer for the second family is waited for once the first one is there (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Servers of one list that are asked; more would leave none of them a useful share of the time.
const SERVERS_MAX: usize = 8;

/// Why a name has no addresses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// The text is no DNS name.
    BadName,
    /// The name does not exist.
    NoSuchName,
    /// The name exists, but not with what was asked for.
    NoRecords,
    /// No server gave an answer; what was wrong with each.
    NoAnswer(Vec<(String, Trouble)>),
    /// This machine cannot read how it looks names up.
    Unread(String),
}

impl LookupError {
    /// Whether nobody was asked, because this machine lacked something.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::Unread(_) => true,
            Self::NoAnswer(troubles) => {
                let unasked = |(_, trouble): &(String, Trouble)| matches!(trouble, Trouble::Unasked(_));
                let of_system = troubles.iter().map(|(_, trouble)| match trouble {
                    Trouble::Io(error) => Some(error),
                    _ => None,
                });
                troubles.iter().any(unasked) || shortage::decides(of_system)
            }
            Self::BadName | Self::NoSuchName | Self::NoRecords => false,
        }
    }
}

impl From<&LookupError> for Failure {
    fn from(error: &LookupError) -> Self {
        Self::in_phase(Phase::Resolve, error).unless(error.is_ours())
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str("not a host name"),
            Self::NoSuchName => f.write_str("no such host"),
            Self::NoRecords => f.write_str("host has no address"),
            Self::NoAnswer(troubles) => {
                for (index, (server, trouble)) in troubles.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{trouble} from {server}")?;
                }
                Ok(())
            }
            Self::Unread(text) => f.write_str(text),
        }
    }
}

/// A server's answer, and which server it was.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) code: ResponseCode,
    pub(crate) records: Vec<Record>,
}

/// Looks names up.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: SystemFiles,
}

impl Resolver {
    /// A resolver whose system part is described by these two files.
    pub(crate) fn new(resolv_conf: std::path::PathBuf, hosts: std::path::PathBuf) -> Self {
        Self {
            files: SystemFiles::new(resolv_conf, hosts),
        }
    }

    /// All addresses of a host, at least one.
    pub(crate) async fn addresses(
        &self,
        host: &Host,
        list: &[Nameserver],
        deadline: Instant,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let name = match host {
            Host::Ip(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        if list.is_empty() || is_this_machine(name) {
            return self.system_addresses(name, deadline).await;
        }
        let name = absolute(name)?;
        let name = &name;
        self.over(list, deadline, |server| both_families(server, name))
            .await?
    }

    /// Asks for one type of record of exactly this name.
    pub(crate) async fn records(
        &self,
        name: &str,
        record_type: RecordType,
        list: &[Nameserver],
        deadline: Instant,
    ) -> Result<Answer, LookupError> {
        let name = absolute(name)?;
        let name = &name;
        if list.is_empty() {
            let system = self.files.load().map_err(LookupError::Unread)?;
            return failover(&system.servers, deadline, |server| {
                all_records(*server, name, record_type)
            })
            .await;
        }
        self.over(list, deadline, |server| all_records(server, name, record_type))
            .await
    }

    async fn system_addresses(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, LookupError> {
        if is_this_machine(name) {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let system = self.files.load().map_err(LookupError::Unread)?;
        if let Some(addresses) = system.hosts.get(name.trim_end_matches('.')) {
            return Ok(addresses.clone());
        }
        system_search(&system, name, deadline).await
    }

    /// Asks the servers of a list one after the other until one answers.
    async fn over<'a, T, F: Future<Output = Result<T, Trouble>>>(
        &'a self,
        list: &'a [Nameserver],
        deadline: Instant,
        ask: impl Fn(SocketAddr) -> F,
    ) -> Result<T, LookupError> {
        let ask = &ask;
        failover(list, deadline, |server: &'a Nameserver| async move {
            let address = match &server.host {
                Host::Ip(address) => *address,
                Host::Name(name) => {
                    let addresses = match self.system_addresses(name, deadline).await {
                        Err(error) if error.is_ours() => return Err(Trouble::Unasked(error.to_string())),
                        found => found.unwrap_or_default(),
                    };
                    let v4 = addresses.iter().find(|address| address.is_ipv4());
                    *v4.or(addresses.first()).ok_or(Trouble::Unknown)?
                }
            };
            ask(SocketAddr::new(address, server.port)).await
        })
        .await
    }
}

/// Tries a name with and without the domains of the search list, in the order of resolv.conf(5).
async fn system_search(
    system: &Arc<System>,
    name: &str,
    deadline: Instant,
) -> Result<Vec<IpAddr>, LookupError> {
    let mut result = Err(LookupError::BadName);
    for candidate in system.candidates(name) {
        let Ok(candidate) = absolute(&candidate) else {
            continue;
        };
        let candidate = &candidate;
        let found = failover(&system.servers, deadline, |server| {
            both_families(*server, candidate)
        });
        result = found.await.and_then(|found| found);
        if !matches!(result, Err(LookupError::NoSuchName | LookupError::NoRecords)) {
            break;
        }
    }
    result
}

/// Asks the servers of a list, each for its share of the time, until one answers.
async fn failover<'a, S: fmt::Display, T, F: Future<Output = Result<T, Trouble>>>(
    list: &'a [S],
    deadline: Instant,
    ask: impl Fn(&'a S) -> F,
) -> Result<T, LookupError> {
    let mut troubles = Vec::new();
    let list = &list[..list.len().min(SERVERS_MAX)];
    for (index, server) in list.iter().enumerate() {
        let trouble = match tokio::time::timeout(share(deadline, list.len() - index), ask(server)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Silent,
        };
        troubles.push((server.to_string(), trouble));
    }
    Err(LookupError::NoAnswer(troubles))
}

/// Whether a name means this machine, whatever a server says (RFC 6761, 6.3).
fn is_this_machine(name: &str) -> bool {
    name.trim_end_matches('.') == "localhost"
}

/// An equal part of the time that is left, for each server that is left and for what comes after them.
fn share(deadline: Instant, servers_left: usize) -> Duration {
    deadline.saturating_duration_since(Instant::now()) / u32::try_from(servers_left + 1).unwrap_or(u32::MAX)
}

/// Asks one server for one type of record.
async fn all_records(server: SocketAddr, name: &Name, record_type: RecordType) -> Result<Answer, Trouble> {
    let message = exchange::ask(server, name, record_type).await?;
    let code = message.metadata.response_code;
    answered(message).map(|records| Answer {
        server: server_text(server),
        code,
        records: records.unwrap_or_default(),
    })
}

/// Asks one server for IPv6 and IPv4 addresses at once.
async fn both_families(server: SocketAddr, name: &Name) -> Result<Result<Vec<IpAddr>, LookupError>, Trouble> {
    let mut v6 = pin!(one_family(server, name, RecordType::AAAA));
    let mut v4 = pin!(one_family(server, name, RecordType::A));
    let (first, second) = tokio::select! {
        first = &mut v6 => {
            let second = after(&first, v4).await;
            (first, second)
        }
        second = &mut v4 => {
            let first = after(&second, v6).await;
            (first, second)
        }
    };
    combined([first, second])
}

type Family = Result<Result<Vec<IpAddr>, LookupError>, Trouble>;

/// The other family's answer: waited for in full if the one that is there has no addresses, else for a moment.
async fn after(there: &Family, other: impl Future<Output = Family>) -> Family {
    if matches!(there, Ok(Ok(_))) {
        tokio::time::timeout(RESOLUTION_DELAY, other)
            .await
            .unwrap_or(Err(Trouble::Silent))
    } else {
        other.await
    }
}

/// Two answers about one name as one: addresses win, then a server's trouble, then what the name lacks.
fn combined(families: [Family; 2]) -> Family {
    let mut addresses = Vec::new();
    let mut lacks = LookupError::NoRecords;
    let mut trouble = None;
    for family in families {
        match family {
            Ok(Ok(found)) => addresses.extend(found),
            Ok(Err(LookupError::NoSuchName)) => lacks = LookupError::NoSuchName,
            Ok(Err(_)) => {}
            Err(error) => trouble = Some(error),
        }
    }
    match trouble {
        _ if !addresses.is_empty() => Ok(Ok(addresses)),
        Some(trouble) if lacks == LookupError::NoRecords => Err(trouble),
        _ => Ok(Err(lacks)),
    }
}

async fn one_family(server: SocketAddr, name: &Name, record_type: RecordType) -> Family {
    let message = exchange::ask(server, name, record_type).await?;
    let Some(records) = answered(message)? else {
        return Ok(Err(LookupError::NoSuchName));
    };
    let addresses: Vec<IpAddr> = records
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    Ok(if addresses.is_empty() {
        Err(LookupError::NoRecords)
    } else {
        Ok(addresses)
    })
}

/// The records of an answer, none if the name does not exist; any other code is the server's trouble.
fn answered(message: Message) -> Result<Option<Vec<Record>>, Trouble> {
    match message.metadata.response_code {
        ResponseCode::NoError => Ok(Some(message.answers)),
        ResponseCode::NXDomain => Ok(None),
        code => Err(Trouble::Code(code)),
    }
}

fn absolute(name: &str) -> Result<Name, LookupError> {
    let mut name = Name::from_ascii(name).map_err(|_| LookupError::BadName)?;
    name.set_fqdn(true);
    Ok(name)
}

fn server_text(server: SocketAddr) -> String {
    Nameserver {
        host: Host::Ip(server.ip()),
        port: server.port(),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_is_enough() {
        let found = |text: &str| -> Result<Vec<IpAddr>, LookupError> { Ok(vec![text.parse().unwrap()]) };
        let v4 = || Ok(found("192.0.2.1"));
        let both = combined([Ok(found("2001:db8::1")), v4()]).unwrap().unwrap();
        assert_eq!(both.len(), 2);
        for other in [
            Err(Trouble::Silent),
            Err(Trouble::Code(ResponseCode::ServFail)),
            Ok(Err(LookupError::NoRecords)),
            Ok(Err(LookupError::NoSuchName)),
        ] {
            assert_eq!(combined([other, v4()]), v4());
        }
    }

    #[test]
    fn a_failed_server_is_told_from_a_missing_name() {
        for (families, expected) in [
            (
                [Err(Trouble::Silent), Ok(Err(LookupError::NoRecords))],
                Err(Trouble::Silent),
            ),
            (
                [Err(Trouble::Silent), Ok(Err(LookupError::NoSuchName))],
                Ok(Err(LookupError::NoSuchName)),
            ),
            (
                [Ok(Err(LookupError::NoRecords)), Ok(Err(LookupError::NoRecords))],
                Ok(Err(LookupError::NoRecords)),
            ),
        ] {
            assert_eq!(combined(families), expected);
        }
    }
}
