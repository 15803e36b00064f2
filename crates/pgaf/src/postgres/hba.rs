//! Our part of `pg_hba.conf`: who may log in, so that nodes can follow each other and monitors can look.
//!
//! The first line that fits decides, so ours stand before all others, between two comments. The rest is the operator's and stays as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use crate::database::{Error, Peer};

use super::conf::REPLICATOR;
use super::directory::{read, write};

const BEGIN: &str = "# pg_autoctl: begin; it replaces what is between this line and its end\n";
const END: &str = "# pg_autoctl: end\n";

/// The role of monitors.
pub(super) const MONITOR: &str = "pgautofailover_monitor";

/// Puts the lines in, if they are not there yet; whether anything has changed.
pub(super) fn install(pgdata: &Path, superuser: &str, auth: &str, others: &[Peer]) -> Result<bool, Error> {
    let path = pgdata.join("pg_hba.conf");
    let text = read(&path)?;
    let new = with_block(&text, &block(superuser, auth, others));
    if new == text {
        return Ok(false);
    }
    write(&path, &new)?;
    Ok(true)
}

fn with_block(text: &str, block: &str) -> String {
    let rest = match (text.split_once(BEGIN), text.split_once(END)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
        _ => text.to_owned(),
    };
    format!("{BEGIN}{block}{END}{rest}")
}

/// The monitor's role may do nothing but log in, from wherever the elected monitor is.
fn block(superuser: &str, auth: &str, others: &[Peer]) -> String {
    let mut text = format!(
        "local all \"{superuser}\" peer\nlocal replication \"{superuser}\" peer\nhost postgres {MONITOR} all trust\n"
    );
    let hosts: BTreeSet<String> = others.iter().map(|peer| address(&peer.host)).collect();
    for host in hosts {
        let _ = writeln!(text, "host replication {REPLICATOR} {host} {auth}");
        let _ = writeln!(text, "host postgres {REPLICATOR} {host} {auth}");
    }
    text
}

/// A host as it stands there: an address as a network of one.
fn address(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(address)) => format!("{address}/32"),
        Ok(IpAddr::V6(address)) => format!("{address}/128"),
        Err(_) => format!("\"{host}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: &str) -> Peer {
        Peer {
            node: 2,
            host: host.to_owned(),
            port: 5432,
        }
    }

    #[test]
    fn the_block_is_replaced_and_the_rest_stays() {
        let rest = "# mine\nhost all all 10.0.0.0/8 scram-sha-256\n";
        let one = with_block(rest, &block("postgres", "trust", &[peer("192.0.2.2")]));
        assert!(one.contains("host replication pgautofailover_replicator 192.0.2.2/32 trust\n"));
        assert!(one.ends_with(rest));
        let others = [peer("db.example"), peer("2001:db8::1")];
        let two = with_block(&one, &block("postgres", "trust", &others));
        assert!(!two.contains("192.0.2.2"), "{two}");
        assert!(two.contains(" \"db.example\" trust\n") && two.contains(" 2001:db8::1/128 trust\n"));
        assert!(two.ends_with(rest));
        assert_eq!(with_block(&two, &block("postgres", "trust", &others)), two);
    }
}
