//! What must hold between the entries of a document. Replicas apply this rule to committed changes, so it must come to the same result
//! in every version of the program: whatever may become stricter or milder belongs into [`super::review`].

use std::collections::BTreeSet;
use std::fmt;

use terminal::brief;

use super::schema::Document;

/// Which entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// None in particular.
    Whole,
    /// By position, from 0.
    Peer(usize),
    /// By position, from 0.
    Check(usize),
    /// By position, from 0.
    Alert(usize),
    /// By position, from 0.
    Window(usize),
}

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// Looks at all entries.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(document: &Document) -> Result<(), Fault> {
    peers(document)?;
    let checks = document.checks.iter().map(|check| (&check.id, &check.name));
    names("checks", checks, Place::Check)?;
    let alerts = document.alerts.iter().map(|alert| (&alert.id, &alert.name));
    names("alerts", alerts, Place::Alert)?;
    let windows = document
        .maintenance
        .iter()
        .map(|window| (&window.id, &window.name));
    names("maintenance", windows, Place::Window)?;
    references(document)
}

fn peers(document: &Document) -> Result<(), Fault> {
    let (mut ids, mut numbers, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (position, peer) in document.peers.iter().enumerate() {
        let fault = |text: String| Fault {
            place: Place::Peer(position),
            text,
        };
        if !ids.insert(peer.node_id) {
            return Err(fault(format!(
                "peers: the node id {} is used twice",
                peer.node_id
            )));
        }
        if !numbers.insert(peer.node_id.number()) {
            return Err(fault(format!(
                "peers: the node id {} begins like another one; create that node again",
                peer.node_id
            )));
        }
        if !addresses.insert(&peer.advertise) {
            return Err(fault(format!(
                "peers: the address {} is used twice",
                brief(&peer.advertise)
            )));
        }
    }
    Ok(())
}

/// Ids and names are one space each: a reference may use either.
fn names<'a>(
    section: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
    place: fn(usize) -> Place,
) -> Result<(), Fault> {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (position, (id, name)) in entries.enumerate() {
        let fault = |text: String| Fault {
            place: place(position),
            text,
        };
        if name.is_empty() {
            return Err(fault(format!("{section}: an entry has no name")));
        }
        if !id.is_empty() && !ids.insert(id) {
            return Err(fault(format!(
                "{section}: the id \"{}\" is used twice",
                brief(id)
            )));
        }
        if !names.insert(name) {
            return Err(fault(format!(
                "{section}: the name \"{}\" is used twice",
                brief(name)
            )));
        }
    }
    Ok(())
}

fn references(document: &Document) -> Result<(), Fault> {
    let alerts: BTreeSet<&str> = document
        .alerts
        .iter()
        .flat_map(|alert| [alert.id.as_str(), alert.name.as_str()])
        .collect();
    let checks: BTreeSet<&str> = document
        .checks
        .iter()
        .flat_map(|check| [check.id.as_str(), check.name.as_str()])
        .collect();
    for (position, check) in document.checks.iter().enumerate() {
        let fault = |text: String| Fault {
            place: Place::Check(position),
            text,
        };
        let named = check.alert_ids.iter().chain(&check.suppress_alert_ids);
        if let Some(missing) = named.into_iter().find(|text| !alerts.contains(text.as_str())) {
            return Err(fault(format!(
                "check {}: there is no alert \"{}\"",
                brief(&check.name),
                brief(missing)
            )));
        }
        if let Some(missing) = check
            .depends_on
            .iter()
            .find(|text| !checks.contains(text.as_str()))
        {
            return Err(fault(format!(
                "check {}: there is no check \"{}\" to depend on",
                brief(&check.name),
                brief(missing)
            )));
        }
    }
    for (position, window) in document.maintenance.iter().enumerate() {
        if let Some(missing) = window.checks.iter().find(|text| !checks.contains(text.as_str())) {
            return Err(Fault {
                place: Place::Window(position),
                text: format!(
                    "maintenance {}: there is no check \"{}\"",
                    brief(&window.name),
                    brief(missing)
                ),
            });
        }
    }
    Ok(())
}
