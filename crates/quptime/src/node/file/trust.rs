//! `trust.yaml`: whose keys this node knows, for people to read.

use crate::document::Document;
use crate::home::{HomeError, Trust, TrustEntry};
use crate::node::shared::{Shared, known_of};

/// Writes `trust.yaml` if it says something else.
///
/// # Errors
/// The system.
pub(super) fn write_trust(shared: &Shared, document: &Document) -> Result<(), HomeError> {
    let before = shared.home.read_trust().unwrap_or_default();
    let now = jiff::Timestamp::from_millisecond(shared.wall() as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let now = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
    let entries = document.peers.iter().filter_map(|peer| {
        let known = known_of(peer)?;
        let since = before
            .entries
            .iter()
            .find(|entry| entry.node_id == peer.node_id && entry.fingerprint == known.pin.to_string());
        Some(TrustEntry {
            node_id: peer.node_id,
            address: peer.advertise.clone(),
            fingerprint: known.pin.to_string(),
            cert_pem: peer.cert_pem.clone(),
            added_at: since.map_or_else(|| now.clone(), |entry| entry.added_at.clone()),
        })
    });
    let trust = Trust {
        entries: entries.collect(),
    };
    if trust == before {
        return Ok(());
    }
    shared.home.write_trust(&trust)
}
