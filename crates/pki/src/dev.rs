//! A set of certificates for trying things out: one authority, and a certificate for each node of each system.
//!
//! The authority's key is thrown away, so nothing that could issue more is left lying about; the set is distributed as a whole.

use std::path::Path;

use super::files::{PRIVATE, PUBLIC};
use super::{Authority, Error, Name, Profile, Usage, files, time_text};

/// The systems whose nodes get certificates.
const SYSTEMS: [&str; 2] = ["chainfire", "flaredb"];

const ORGANISATION: &str = "Mainstay development";
const AUTHORITY_DAYS: u32 = 3650;
/// What clients of several vendors accept at most.
const NODE_DAYS: u32 = 825;

/// Writes `ca.crt`, and `SYSTEM-node-N.crt` and `.key` for each node, numbered from 1, into `dir`.
pub fn write(dir: &Path, nodes: u32, more_names: &[Name], now_unix_s: u64) -> Result<(), Error> {
    // Two authorities of one name cannot be told apart by it, and a mix of two sets is the usual mistake.
    let born = time_text(i64::try_from(now_unix_s).unwrap_or(i64::MAX));
    let authority_name = format!("Mainstay development CA {born}");
    let authority = Authority::create(&authority_name, ORGANISATION, AUTHORITY_DAYS, now_unix_s)?;
    let mut set = vec![("ca.crt".to_owned(), authority.certificate().to_owned(), PUBLIC)];
    for system in SYSTEMS {
        for node in 1..=nodes {
            let name = format!("{system}-node-{node}");
            let mut names = vec![
                Name::Dns(name.clone()),
                Name::Dns(format!("node{node}")),
                Name::Dns("localhost".to_owned()),
                Name::Ip(std::net::Ipv4Addr::LOCALHOST.into()),
            ];
            names.extend_from_slice(more_names);
            let profile = Profile {
                common_name: name.clone(),
                organisation: ORGANISATION.to_owned(),
                names,
                usage: Usage::Peer,
                days: NODE_DAYS,
            };
            let issued = authority.issue(&profile, now_unix_s)?;
            set.push((format!("{name}.crt"), issued.certificate, PUBLIC));
            set.push((format!("{name}.key"), issued.key, PRIVATE));
        }
    }
    files::write_all(dir, &set)
}
