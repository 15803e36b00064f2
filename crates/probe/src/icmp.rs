//! The icmp check: echo requests over one socket per family for the whole process.
//!
//! One socket, because the kernel copies every ICMP message to every raw socket: ten thousand probes with one each
//! would each read the answers of all others. A task reads it and hands each answer to the probe that waits for it,
//! matched by identifier, sequence number and a random token in the payload. The token is new for each probe, so an
//! answer to an earlier one, to another program, or a made-up one does not count.

mod packet;
mod socket;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use caps::{CapSet, Capability};
use service::clock::Stopwatch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::journal::{Failure, Journal, Phase};
use crate::nameserver::Nameserver;
use crate::probe::Icmp;
use crate::resolve::Resolver;
use crate::{shortage, wording};
use packet::Family;
use socket::Channel;

/// Time between two echoes of one probe, unless its timeout asks for less; faster ones measure one burst of loss.
const SPACING: Duration = Duration::from_millis(200);

/// Once enough answers are there, missing ones are waited for this long and then lost.
const GRACE: Duration = Duration::from_secs(1);

/// Time kept back from the timeout, so that "no reply" is said by us and not by the clock.
const MARGIN: Duration = Duration::from_millis(10);

/// Echoes of one probe.
pub(crate) const COUNT_MAX: u16 = 100;

/// How this process may send echo requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IcmpMode {
    /// With a raw socket (`CAP_NET_RAW`).
    Raw,
    /// With the kernel's ping socket (`net.ipv4.ping_group_range`).
    Ping,
    /// Not at all; why, and what to do about it.
    None(String),
}

impl fmt::Display for IcmpMode {
    /// `raw`, `ping`, or `none: icmp not permitted: ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw => f.write_str("raw"),
            Self::Ping => f.write_str("ping"),
            Self::None(why) => write!(f, "none: {why}"),
        }
    }
}

/// Sends echo requests.
#[derive(Debug)]
pub(crate) struct Pinger {
    mode: IcmpMode,
    v4: Result<Channel, String>,
    v6: Result<Channel, String>,
}

impl Pinger {
    /// Finds out what this process may do.
    pub(crate) fn new() -> Self {
        // Without the capability the attempt would fail too, but with it a raw socket can still be refused (a sandbox).
        let may_raw = caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(false);
        let raw = if may_raw {
            Channel::open(Family::V4, true)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        };
        let (mode, v4) = match raw {
            Ok(channel) => (IcmpMode::Raw, Ok(channel)),
            Err(raw) => match Channel::open(Family::V4, false) {
                Ok(channel) => (IcmpMode::Ping, Ok(channel)),
                Err(ping) => {
                    let why = not_permitted(&raw, &ping);
                    (IcmpMode::None(why.clone()), Err(why))
                }
            },
        };
        let v6 = match &mode {
            IcmpMode::None(why) => Err(why.clone()),
            mode => Channel::open(Family::V6, *mode == IcmpMode::Raw)
                .map_err(|error| format!("IPv6 is not available on this host ({})", wording::io(&error))),
        };
        Self { mode, v4, v6 }
    }

    pub(crate) fn mode(&self) -> &IcmpMode {
        &self.mode
    }

    /// The icmp check.
    pub(crate) async fn look(
        &self,
        icmp: &Icmp,
        resolvers: &[Nameserver],
        resolver: &Resolver,
        journal: &Journal,
        deadline: Instant,
    ) -> Result<String, Failure> {
        if let IcmpMode::None(why) = &self.mode {
            return Err(Failure::NoReport(why.clone()));
        }
        journal.enter(Phase::Resolve);
        let addresses = resolver
            .addresses(&icmp.host, resolvers, deadline)
            .await
            .map_err(|error| Failure::from(&error))?;
        journal.leave();
        let first_of = |v4: bool| addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        let address = first_of(true)
            .or_else(|| first_of(false))
            .ok_or_else(|| Failure::in_phase(Phase::Resolve, "host has no address"))?;
        let channel = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let channel = channel
            .as_ref()
            .map_err(|why| Failure::down(format!("icmp: {why}")))?;
        let end = deadline - MARGIN.min(deadline.saturating_duration_since(Instant::now()) / 20);
        let round = ping(channel, address, icmp, end).await.map_err(|error| {
            Failure::down(format!("icmp: cannot send to {address}: {}", wording::io(&error)))
                .unless(shortage::is_ours(&error))
        })?;
        if let Some(mean) = round.mean() {
            journal.add(Phase::FirstByte, mean);
        }
        round.judge(icmp.max_loss, address)
    }
}

/// The reason for no report, with both ways out.
fn not_permitted(raw: &io::Error, ping: &io::Error) -> String {
    let binary = std::env::current_exe()
        .map_or_else(|_| "the qu binary".to_owned(), |path| path.display().to_string());
    format!(
        "icmp not permitted: raw socket: {}, ping socket: {}; either `setcap cap_net_raw+ep {binary}` or `sysctl \
         net.ipv4.ping_group_range='0 2147483647'`",
        wording::io(raw),
        wording::io(ping)
    )
}

/// What came of the echoes of one probe.
#[derive(Debug)]
struct Round {
    sent: u16,
    times: Vec<Duration>,
}

impl Round {
    fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.times.len()).ok().filter(|count| *count > 0)?;
        Some(self.times.iter().sum::<Duration>() / count)
    }

    /// Whether lost echoes stay within the limit.
    fn is_good(&self, max_loss: u8) -> bool {
        let lost = usize::from(self.sent).saturating_sub(self.times.len());
        !self.times.is_empty() && lost * 100 <= usize::from(self.sent) * usize::from(max_loss)
    }

    fn judge(&self, max_loss: u8, address: IpAddr) -> Result<String, Failure> {
        let (sent, got) = (self.sent, self.times.len());
        let text = match self.mean() {
            Some(mean) => format!("{got}/{sent} replies from {address}, {}", wording::millis(mean)),
            None => format!("no reply from {address} ({got}/{sent})"),
        };
        if self.is_good(max_loss) {
            return Ok(text);
        }
        Err(Failure::Down(if got == 0 {
            text
        } else {
            let loss = (usize::from(sent) - got) * 100 / usize::from(sent);
            format!("{loss}% loss, at most {max_loss}% wanted: {text}")
        }))
    }
}

/// Sends the echoes and collects the answers until all are there or the time is over.
async fn ping(channel: &Channel, address: IpAddr, icmp: &Icmp, end: Instant) -> io::Result<Round> {
    let count = icmp.count.clamp(1, COUNT_MAX);
    let begin = Instant::now();
    // Half of the time is for sending, so that the last echo has a chance too.
    let spacing = SPACING.min(end.saturating_duration_since(begin) / 2 / u32::from(count));
    let mut waiter = channel.register(count)?;
    let mut round = Round {
        sent: count,
        times: Vec::with_capacity(count.into()),
    };
    let mut sent_at: Vec<Stopwatch> = Vec::with_capacity(count.into());
    let mut until = end;
    while round.times.len() < usize::from(count) {
        let turn = begin + spacing * u32::try_from(sent_at.len()).unwrap_or(u32::MAX);
        if sent_at.len() < usize::from(count) && turn <= Instant::now() {
            let index = sent_at.len() as u16;
            sent_at.push(Stopwatch::start());
            channel.send(&waiter, index, address).await?;
            continue;
        }
        let sending = sent_at.len() < usize::from(count);
        tokio::select! {
            biased;
            reply = timeout_at(until, waiter.reply()) => match reply {
                Ok(Some(index)) => {
                    if let Some(watch) = sent_at.get(usize::from(index)) {
                        round.times.push(watch.elapsed());
                    }
                    // What is missing can no longer change the result.
                    if round.is_good(icmp.max_loss) {
                        until = until.min(Instant::now() + spacing * u32::from(count) + GRACE);
                    }
                }
                Ok(None) | Err(_) => break,
            },
            () = sleep_until(turn), if sending => {}
        }
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(sent: u16, got: usize) -> Round {
        Round {
            sent,
            times: vec![Duration::from_micros(500); got],
        }
    }

    #[test]
    fn loss_is_judged_in_percent() {
        let address = "192.0.2.1".parse().unwrap();
        for (sent, got, max_loss, good) in [
            (1, 1, 0, true),
            (1, 0, 99, false),
            (1, 0, 100, false),
            (3, 2, 50, true),
            (3, 2, 33, false),
            (3, 1, 67, true),
            (4, 2, 50, true),
            (4, 1, 50, false),
        ] {
            assert_eq!(
                round(sent, got).judge(max_loss, address).is_ok(),
                good,
                "{got} of {sent}, {max_loss}"
            );
        }
        assert_eq!(
            round(3, 3).judge(0, address).unwrap(),
            "3/3 replies from 192.0.2.1, 0.50 ms"
        );
        assert_eq!(
            round(1, 0).judge(50, address),
            Err(Failure::down("no reply from 192.0.2.1 (0/1)"))
        );
        assert_eq!(
            round(4, 1).judge(50, address),
            Err(Failure::down(
                "75% loss, at most 50% wanted: 1/4 replies from 192.0.2.1, 0.50 ms"
            ))
        );
    }

    #[test]
    fn both_ways_out_are_named() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let text = not_permitted(&denied(), &denied());
        assert!(text.starts_with("icmp not permitted: "));
        assert!(text.contains("setcap cap_net_raw+ep ") && text.contains("net.ipv4.ping_group_range"));
        assert!(
            IcmpMode::None(text)
                .to_string()
                .starts_with("none: icmp not permitted")
        );
    }
}
