//! A TCP connection to any of a host's addresses (RFC 8305, "happy eyeballs").
//!
//! Families are interleaved, IPv6 first. Each address gets 250 ms before the next one is tried beside it, or less if
//! it fails earlier; the first connection wins and the others are dropped.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::host::Host;
use crate::journal::{Failure, Journal, Phase};
use crate::nameserver::Nameserver;
use crate::resolve::Resolver;
use crate::{shortage, wording};

/// Time until the next address is tried beside the ones before it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Addresses of one host that are tried. With the stagger, more would not get their turn in a usual timeout.
const ADDRESSES_MAX: usize = 16;

/// The order in which to try addresses: families in turn, IPv6 first, each in the order given.
fn in_turn(addresses: &[IpAddr]) -> VecDeque<IpAddr> {
    let mut v6 = addresses.iter().filter(|address| address.is_ipv6());
    let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
    let mut order = VecDeque::new();
    while order.len() < ADDRESSES_MAX {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            break;
        }
        order.extend(pair.into_iter().flatten());
    }
    order.truncate(ADDRESSES_MAX);
    order
}

/// Looks a host up and connects to it, as the first two phases of a probe.
pub(crate) async fn to(
    host: &Host,
    port: u16,
    resolvers: &[Nameserver],
    resolver: &Resolver,
    journal: &Journal,
    deadline: Instant,
) -> Result<TcpStream, Failure> {
    let looked_up;
    let addresses: &[IpAddr] = match host {
        Host::Ip(address) => std::slice::from_ref(address),
        Host::Name(_) => {
            journal.enter(Phase::Resolve);
            looked_up = resolver
                .addresses(host, resolvers, deadline)
                .await
                .map_err(|error| Failure::from(&error))?;
            &looked_up
        }
    };
    journal.enter(Phase::Connect);
    let stream = connect(addresses, port).await?;
    journal.leave();
    Ok(stream)
}

/// Connects to any of the addresses.
///
/// # Errors
/// What went wrong with the first of them that failed: `connection refused (192.0.2.1 and 2 more)`.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Failure> {
    // The usual case needs neither a queue nor a timer.
    if let [address] = addresses {
        let end = SocketAddr::new(*address, port);
        let stream = TcpStream::connect(end).await;
        return stream.map_err(|error| Failure::of_system(Phase::Connect, &error));
    }
    let mut waiting = in_turn(addresses);
    let total = waiting.len();
    let mut running = FuturesUnordered::new();
    let mut failures: Vec<(IpAddr, io::Error)> = Vec::new();
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(async move { (address, TcpStream::connect(SocketAddr::new(address, port)).await) });
        }
        tokio::select! {
            biased;
            Some((address, result)) = running.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failures.push((address, error));
                    if running.is_empty() && waiting.is_empty() {
                        break;
                    }
                }
            },
            () = tokio::time::sleep(STAGGER), if !waiting.is_empty() => {}
            else => break,
        }
    }
    let ours = shortage::decides(failures.iter().map(|(_, error)| Some(error)));
    // What the other side did tells more than what was missing here, unless that is what decides.
    let telling = failures
        .iter()
        .find(|(_, error)| shortage::is_ours(error) == ours)
        .or(failures.first());
    let text = match telling {
        Some((address, error)) => format!("{} ({address} and {} more)", wording::io(error), total - 1),
        None => "no address".to_owned(),
    };
    Err(Failure::in_phase(Phase::Connect, text).unless(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|a| a.parse().unwrap()).collect() };
        assert_eq!(
            in_turn(&addresses(&[
                "192.0.2.1",
                "192.0.2.2",
                "2001:db8::1",
                "192.0.2.3"
            ])),
            addresses(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"])
        );
        let many: Vec<IpAddr> = (0..40).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        assert_eq!(in_turn(&many).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn a_failed_address_makes_way_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let stream = connect(&both, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(
            connect(&both, port).await.unwrap_err(),
            Failure::down("connect: connection refused (::1 and 1 more)")
        );
        assert_eq!(
            connect(&[], port).await.unwrap_err(),
            Failure::down("connect: no address")
        );
    }
}
