//! Whether what comes of an edit makes sense, told in terms of the edited text.

use crate::document::change::{self, Change, Section};
use crate::document::integrity::{self, Place};
use crate::document::size::{self, WRITTEN_MAX};
use crate::document::{Digest, Document, changes_between, entries, review};

/// Gives an id to entries that have none: that of the entry of the same name, in what the author saw or in what there is now. A new one follows
/// from the name and from what the author saw, so that an edit that is tried again is the same edit.
pub(super) fn complete(edited: &mut Document, base: &Document, committed: &Document) {
    change::complete(edited, base, |section, name| {
        let known = match section {
            Section::Checks => {
                let known = committed.checks.iter().find(|check| check.name == name);
                known.map(|check| check.id.clone())
            }
            Section::Alerts => {
                let known = committed.alerts.iter().find(|alert| alert.name == name);
                known.map(|alert| alert.id.clone())
            }
            _ => {
                let known = committed.maintenance.iter().find(|window| window.name == name);
                known.map(|window| window.id.clone())
            }
        };
        known.unwrap_or_else(|| {
            let mut id = Digest::of_text(&format!("{section:?}\n{}\n{name}", base.version)).to_string();
            id.truncate(16);
            id
        })
    });
}

/// Whether a placeholder has something in it that somebody typed and nobody else knows. Peers and invitations are for the cluster to say.
pub(super) fn says_more(placeholder: &Document, committed: &Document) -> bool {
    let defaults = entries(&Document::default());
    let is_typed = |change: &Change| {
        let is_own = !matches!(change.key.section, Section::Peers | Section::Enrollments);
        is_own && change.wanted.is_some() && change.wanted.as_ref() != defaults.get(&change.key)
    };
    changes_between(committed, placeholder).iter().any(is_typed)
}

/// Whether what comes of an edit makes sense; if not, where in the edited text and what.
pub(super) fn makes_sense(
    committed: &Document,
    merged: &Document,
    edited: &Document,
    changes: &[Change],
) -> Result<(), (Place, String)> {
    integrity::check(merged)
        .map_err(|fault| (in_the_edit(merged, edited, fault.place), fault.to_string()))?;
    size::check(committed, merged, WRITTEN_MAX).map_err(|told| (Place::Whole, told))?;
    match review::review_changes(merged, changes) {
        Ok(_) => Ok(()),
        Err(objection) => Err((place_of(edited, &objection), objection.to_string())),
    }
}

/// The place of an entry of the result in the edited text.
fn in_the_edit(merged: &Document, edited: &Document, place: Place) -> Place {
    let found = match place {
        Place::Whole => None,
        Place::Peer(at) => {
            let wanted = merged.peers[at].node_id;
            edited
                .peers
                .iter()
                .position(|peer| peer.node_id == wanted)
                .map(Place::Peer)
        }
        Place::Check(at) => {
            let wanted = &merged.checks[at].id;
            edited
                .checks
                .iter()
                .position(|check| check.id == *wanted)
                .map(Place::Check)
        }
        Place::Alert(at) => {
            let wanted = &merged.alerts[at].id;
            edited
                .alerts
                .iter()
                .position(|alert| alert.id == *wanted)
                .map(Place::Alert)
        }
        Place::Window(at) => {
            let wanted = &merged.maintenance[at].id;
            let found = edited.maintenance.iter().position(|window| window.id == *wanted);
            found.map(Place::Window)
        }
    };
    found.unwrap_or(Place::Whole)
}

/// An objection to a part of the document, in the whole one.
fn place_of(edited: &Document, objection: &review::Objection) -> Place {
    let text = objection.to_string();
    let named = |kind: &str, name: &str| text.starts_with(&format!("{kind} {name}:"));
    let check = edited
        .checks
        .iter()
        .position(|check| named("check", &check.name))
        .map(Place::Check);
    let alert = || {
        edited
            .alerts
            .iter()
            .position(|alert| named("alert", &alert.name))
            .map(Place::Alert)
    };
    let peer = || {
        let peers = &mut edited.peers.iter();
        peers
            .position(|peer| named("peer", &peer.node_id.to_string()))
            .map(Place::Peer)
    };
    let window = || {
        let windows = &mut edited.maintenance.iter();
        windows
            .position(|window| named("maintenance", &window.name))
            .map(Place::Window)
    };
    check
        .or_else(alert)
        .or_else(peer)
        .or_else(window)
        .unwrap_or(Place::Whole)
}
