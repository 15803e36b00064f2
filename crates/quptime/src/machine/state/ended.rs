//! Outages that are over, for people who look back: when each began and ended, what was seen, how it ended, and who worked on it.
//!
//! They are remembered where their end is carried out, so every node knows the same ones, whoever was master. Programs that did not remember
//! them take no part in it: nothing is decided by this list, and a node that got its state from such a program begins with what ends from
//! then on.
//!
//! A check that is disabled pauses its outage, which is listed as under way until the check is up again; for whoever was told it ended with
//! the word that nobody looks any more, and so it does here. What lasts after that and is told to nobody is not listed a second time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Acknowledged, CheckState, Incident, State, Verb};
use crate::document::{Check, Document};
use crate::machine::Millis;
use crate::machine::command::{Configure, Hold};
use crate::machine::mutation::broken;

/// Outages that are remembered. Each takes some hundred bytes of every snapshot and of every answer with the state.
pub const ENDED_MAX: usize = 200;

/// An outage that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// The check, by id.
    pub check: String,
    /// What the check was called then.
    pub name: String,
    /// When it began.
    pub since: Millis,
    /// When it ended.
    pub at: Millis,
    /// How: [`Verb::Recovered`], [`Verb::Removed`] or [`Verb::Disabled`].
    pub how: Verb,
    /// Who removed or disabled the check; nothing if the outage ended by itself.
    #[serde(default)]
    pub by: String,
    /// What was seen when it began.
    #[serde(default)]
    pub detail: String,
    /// Whether somebody was told.
    pub announced: bool,
    /// Who worked on it.
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
}

impl State {
    /// The outage of this check, whose state was that, is over.
    pub(super) fn remember_ended(
        &mut self,
        document: &Document,
        check: &str,
        known: &CheckState,
        (how, by, at): (Verb, String, Millis),
    ) {
        let Some(incident) = known.incident.as_ref().filter(|incident| !incident.is_paused()) else {
            return;
        };
        if broken!(EndsForgotten) {
            return;
        }
        let name = by_id(document, check).map_or(check, |check| &check.name);
        let ended = Arc::make_mut(&mut self.ended);
        // An outage that nobody was told of keeps its id while its check is disabled, and ends for good later.
        ended.retain(|other| other.id != incident.id || other.check != check);
        if ended.len() >= ENDED_MAX
            && let Some(oldest) = oldest_of_the_fullest(ended)
        {
            ended.remove(oldest);
        }
        ended.push_back(Ended {
            id: incident.id.clone(),
            check: check.to_owned(),
            name: name.to_owned(),
            since: incident.since,
            at: at.max(incident.since),
            how,
            by,
            detail: known.snapshot.detail.clone(),
            announced: incident.announced,
            acknowledged: incident.acknowledged.clone(),
        });
    }

    /// Remembers outages of checks that this change has removed or disabled. The document is the new one already, the states are not.
    pub(super) fn remember_unwatched(&mut self, before: &Document, configure: &Configure) {
        let moment = configure.closes.or_else(|| parsed(&configure.at));
        for (id, known) in self.open_ones() {
            let verb = match (by_id(&self.document, &id), by_id(before, &id)) {
                (None, _) => Verb::Removed,
                (Some(after), Some(before)) if after.disabled && !before.disabled => Verb::Disabled,
                (Some(_), _) => continue,
            };
            let at = moment.unwrap_or(known.since);
            let by = self.who(verb, configure);
            self.remember_ended(before, &id, &known, (verb, by, at));
        }
    }

    /// Remembers outages of checks that are not in the file that a group begins with. The document is the new one already.
    pub(super) fn remember_left_out(&mut self, before: &Document) {
        let moment = self.document.updated_at.as_deref().and_then(parsed);
        for (id, known) in self.open_ones() {
            if by_id(&self.document, &id).is_none() {
                let by = "not in the file that the group began with".to_owned();
                let at = moment.unwrap_or(known.since);
                self.remember_ended(before, &id, &known, (Verb::Removed, by, at));
            }
        }
    }

    /// Checks with an outage under way: few, also where there are many checks.
    fn open_ones(&self) -> Vec<(String, Arc<CheckState>)> {
        let open = self.checks.iter().filter(|(_, known)| known.incident.is_some());
        open.map(|(id, known)| (id.clone(), known.clone())).collect()
    }
}

impl Incident {
    /// Whether it is what is left of an outage after its check was disabled: its end was remembered then.
    pub(in crate::machine) fn is_paused(&self) -> bool {
        !self.announced && self.held == Some(Hold::Disabled)
    }
}

fn by_id<'a>(document: &'a Document, id: &str) -> Option<&'a Check> {
    document.checks.iter().find(|check| check.id == id)
}

/// A check that comes and goes does not push out what happened to others.
fn oldest_of_the_fullest(ended: &VecDeque<Ended>) -> Option<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for outage in ended {
        *counts.entry(&outage.check).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    ended
        .iter()
        .position(|outage| counts.get(outage.check.as_str()) == Some(&most))
}

/// UNIX milliseconds of an RFC 3339 time.
fn parsed(text: &str) -> Option<Millis> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests;
