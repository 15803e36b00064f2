//! Outages that are not told at once: when they are.
//!
//! What matters here is whether a round began after something changed. That is asked of [`Rounds`], whose times are of one clock, and never
//! of the times in the replicated state, which are of the clocks of several masters. So a new master holds an outage for one more round.

use std::collections::BTreeSet;

use super::window_of;
use crate::document::Check;
use crate::machine::Millis;
use crate::machine::command::Hold;
use crate::machine::mutation::broken;
use crate::machine::rounds::Rounds;
use crate::machine::state::{State, Status};

/// What a check depends on, directly or not, without disabled checks. Checks that depend on each other do not count: one of them would wait
/// for the other for ever.
pub(super) fn parents<'a>(state: &'a State, check: &'a Check) -> Vec<&'a Check> {
    if broken!(ParentsIgnored) {
        return Vec::new();
    }
    let all = ancestors(state, check);
    let depends_on_us = |parent: &&&Check| ancestors(state, parent).iter().any(|other| other.id == check.id);
    let parents = all.iter().filter(|parent| !parent.disabled);
    parents.filter(|parent| !depends_on_us(parent)).copied().collect()
}

fn ancestors<'a>(state: &'a State, check: &'a Check) -> Vec<&'a Check> {
    let mut found: Vec<&Check> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut next = vec![check];
    while let Some(check) = next.pop() {
        for parent in check
            .depends_on
            .iter()
            .filter_map(|text| state.check_called(text))
        {
            if seen.insert(&parent.id) {
                found.push(parent);
                next.push(parent);
            }
        }
    }
    found
}

/// What keeps an outage of this check back at this moment. The replicated reason is that of its beginning: work may have ended since, and
/// what the check depends on may have gone down. Nothing if only a look at the check itself is missing.
pub fn held_by(state: &State, check: &Check, wall: Millis) -> Option<Hold> {
    let known = state.checks.get(&check.id)?;
    let held = known.incident.as_ref()?.held.as_ref()?;
    if check.disabled {
        return Some(Hold::Disabled);
    }
    if window_of(state, check, wall).is_some() {
        return Some(Hold::Maintenance);
    }
    if super::damps(state) && (known.flapping.is_some() || *held == Hold::Flapping) {
        return Some(Hold::Flapping);
    }
    let parents = parents(state, check);
    let is_down = |parent: &&&Check| status(state, parent) == Status::Down;
    let in_work = |parent: &&&Check| window_of(state, parent, wall).is_some();
    let excuse = parents
        .iter()
        .find(is_down)
        .or_else(|| parents.iter().find(in_work));
    let excuse = excuse.or_else(|| parents.first());
    excuse.map(|parent| Hold::Dependency(parent.id.clone()))
}

/// Whether a held outage is to be told now: nothing that excuses it is left, and a round since then shows that it is still there.
pub(super) fn is_over(state: &State, rounds: &Rounds, check: &Check, wall: Millis) -> bool {
    let Some(since) = excused_until(state, rounds, check) else {
        return false;
    };
    let parents = parents(state, check);
    if parents
        .iter()
        .any(|parent| window_of(state, parent, wall).is_some())
    {
        return false;
    }
    let own = rounds.last(&check.id);
    broken!(NoOwnRound) || own.is_some_and(|own| own.verdict == Some(Status::Down) && own.began > since)
}

/// The moment from which on nothing excused this outage any more; nothing while something may.
///
/// An outage of a parent can be long enough for a verdict about the child and too short for one about the parent. So it is not enough that
/// a parent is well: it must have been found well when it was asked for the child's sake, and what the child shows counts from then on.
fn excused_until(state: &State, rounds: &Rounds, check: &Check) -> Option<Millis> {
    let began = rounds.changed(&check.id)?;
    let mut until = began;
    for parent in parents(state, check) {
        let last = rounds.last(&parent.id)?;
        // A parent of which nothing is heard excuses nobody for ever.
        if !last.is_stale() {
            let well = status(state, parent) == Status::Up && last.verdict == Some(Status::Up);
            let found_well = rounds.answered(&parent.id, began).filter(|_| well)?;
            until = until.max(found_well);
        } else if status(state, parent) == Status::Down {
            return None;
        }
        until = until.max(rounds.changed(&parent.id).unwrap_or(until));
        until = until.max(rounds.found_down(&parent.id).unwrap_or(until));
    }
    Some(until)
}

/// Checks that all nodes should look at again at once, because a held outage waits for them: first what it depends on, then itself.
pub fn to_ask(state: &State, rounds: &Rounds) -> Vec<String> {
    let mut ask = BTreeSet::new();
    for check in state.document.checks.iter().filter(|check| !check.disabled) {
        let incident = state
            .checks
            .get(&check.id)
            .and_then(|known| known.incident.as_ref());
        let is_held = incident.is_some_and(|incident| incident.held.is_some());
        let (true, Some(began)) = (is_held, rounds.changed(&check.id)) else {
            continue;
        };
        let parents = parents(state, check);
        if parents.is_empty() {
            continue;
        }
        for parent in parents {
            if status(state, parent) == Status::Up && !rounds.was_asked(&parent.id, began) {
                ask.insert(parent.id.clone());
            }
        }
        if let Some(until) = excused_until(state, rounds, check)
            && !rounds.was_asked(&check.id, until)
        {
            ask.insert(check.id.clone());
        }
    }
    ask.into_iter().collect()
}

fn status(state: &State, check: &Check) -> Status {
    let known = state.checks.get(&check.id);
    known.map_or(Status::Unknown, |known| known.status)
}
