//! What must hold: of every message that a channel takes, of every command that is committed, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::NodeId;
use crate::machine::Millis;
use crate::machine::announce::window_of;
use crate::machine::command::{Command, Ending, Hold};
use crate::machine::state::{Delivery, ENDED_MAX, Ended, Phase, State, Status, Verb};

/// Two proposals that are under way at once may be decided on a state that the other one changes.
const RACE_MS: Millis = 6000;
/// Deliveries that may wait at once: far more than outages of this world can make, far less than for ever.
const QUEUE_MAX: usize = 400;

/// An outage as one alert sees it: check, alert, incident.
type Outage = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Copies without a mark that channels have taken, by delivery.
    unmarked: BTreeMap<String, u32>,
    /// Beginnings that were told, and those whose end may come alone: they were joined with it, or may have been told.
    begun: BTreeSet<Outage>,
    excused: BTreeSet<Outage>,
    /// Of those: the ones that may have been told.
    doubtful: BTreeSet<Outage>,
    /// The delivery that told the end.
    ended: BTreeMap<Outage, String>,
    open: BTreeSet<Outage>,
    /// When the last change of the configuration was committed, and the last transition of each check.
    edited: Millis,
    changed: BTreeMap<String, Millis>,
    /// When a target itself was last down, and when a node could last not see what others see.
    pub(super) faults: BTreeMap<String, Millis>,
    pub(super) blind: Option<Millis>,
    pub(super) taken: u64,
}

impl Ledger {
    /// A node sends.
    pub(super) fn sends(truth: &State, node: NodeId, term: u64, delivery: &Delivery) -> Result<(), String> {
        let claimed = truth.deliveries.get(&delivery.id).map(|known| known.phase);
        let own = matches!(claimed, Some(Phase::Claimed { term: claimed, node: by, .. }) if claimed == term && by == node);
        if own {
            return Ok(());
        }
        Err(format!(
            "{node} sends {} in term {term}, but it stands as {claimed:?}",
            delivery.id
        ))
    }

    /// A channel takes a message.
    pub(super) fn takes(&mut self, delivery: &Delivery) -> Result<(), String> {
        self.taken += 1;
        if !delivery.uncertain {
            let copies = self.unmarked.entry(delivery.id.clone()).or_default();
            *copies += 1;
            if *copies > 1 {
                return Err(format!("{} was told twice without a mark", delivery.id));
            }
        }
        let Some(incident) = delivery.incident.clone() else {
            return Ok(());
        };
        let outage = (delivery.check.clone(), delivery.alert.clone(), incident);
        match delivery.verb {
            Verb::Down | Verb::Reminder | Verb::Flapping | Verb::Stable => {
                if self.ended.contains_key(&outage) {
                    return Err(format!("{} is told after its end", delivery.id));
                }
                self.begun.insert(outage.clone());
                if delivery.verb == Verb::Stable && delivery.to == Status::Up {
                    self.open.remove(&outage);
                } else {
                    self.open.insert(outage);
                }
            }
            Verb::Recovered | Verb::Removed | Verb::Disabled => {
                // A beginning is told together with its end, but never with the word that nobody looks any more.
                let excused = if delivery.verb == Verb::Recovered {
                    &self.excused
                } else {
                    &self.doubtful
                };
                if !self.begun.contains(&outage) && !excused.contains(&outage) {
                    return Err(format!("{} tells the end of what was never told", delivery.id));
                }
                let told = self.ended.entry(outage.clone()).or_insert(delivery.id.clone());
                if *told != delivery.id {
                    return Err(format!("{} and {told} tell the same end", delivery.id));
                }
                self.open.remove(&outage);
            }
            Verb::Up => {}
        }
        Ok(())
    }

    /// A command is about to be carried out.
    pub(super) fn commits(&mut self, now: Millis, before: &State, command: &Command) -> Result<(), String> {
        if before.deliveries.len() > QUEUE_MAX {
            return Err(format!("{} deliveries wait", before.deliveries.len()));
        }
        match command {
            Command::Configure(configure) => {
                self.edited = now;
                // The ids of this world's checks are used again; those of real ones are drawn.
                for change in configure.changes.iter().filter(|change| change.base.is_none()) {
                    let again = format!("{}/", change.key.id);
                    self.unmarked.retain(|delivery, _| !delivery.starts_with(&again));
                }
            }
            Command::Transition(transition) => {
                if before
                    .checks
                    .get(&transition.check)
                    .map(|known| known.transitions)
                    != Some(transition.after)
                {
                    return Ok(());
                }
                let undamped = before.document.settings.flap_damping == Some(false)
                    && now.saturating_sub(self.edited) > RACE_MS;
                let flaps = before.checks[&transition.check].flapping.is_some();
                if undamped && !flaps && transition.held == Some(Hold::Flapping) {
                    return Err(format!(
                        "{} is held back although damping is off",
                        transition.check
                    ));
                }
                if transition.to == Status::Down && !transition.deliveries.is_empty() {
                    self.tells_outage(now, transition.at, before, &transition.check)?;
                }
                self.changed.insert(transition.check.clone(), now);
            }
            Command::Announce(announce) => {
                let known = before.checks.get(&announce.check);
                let current = known.is_some_and(|known| {
                    known.transitions == announce.after && known.notices == announce.notices
                });
                let tells = announce
                    .deliveries
                    .iter()
                    .any(|new| matches!(new.verb, Verb::Down | Verb::Stable));
                let is_down = known.is_some_and(|known| known.status == Status::Down);
                if current && tells && is_down {
                    self.tells_outage(now, announce.at, before, &announce.check)?;
                }
            }
            Command::Settle(settle) => {
                let delivery = before.deliveries.get(&settle.delivery);
                if let (Ending::Dropped { .. }, Some(delivery)) = (&settle.ending, delivery)
                    && let Some(incident) = delivery.incident.clone()
                {
                    let outage = (delivery.check.clone(), delivery.alert.clone(), incident);
                    let calms = delivery.verb == Verb::Stable && delivery.to == Status::Up;
                    if delivery.verb == Verb::Recovered || delivery.verb.closes_unseen() || calms {
                        self.open.remove(&outage);
                    } else {
                        if delivery.uncertain || matches!(delivery.phase, Phase::Claimed { .. }) {
                            self.doubtful.insert(outage.clone());
                        }
                        self.excused.insert(outage);
                    }
                }
            }
            Command::Claim(_) | Command::Acknowledge(_) | Command::Impair { .. } => {}
        }
        Ok(())
    }

    /// Outages under way, by check and id.
    pub(super) fn open_outages(state: &State) -> Vec<(String, String)> {
        let open = state.checks.iter().filter_map(|(check, known)| {
            let incident = known.incident.as_ref().filter(|incident| !incident.is_paused())?;
            Some((check.clone(), incident.id.clone()))
        });
        open.collect()
    }

    /// Of those that were under way before this command: each is, or it can be looked up.
    pub(super) fn remembers(
        open: &[(String, String)],
        after: &State,
        command: &Command,
    ) -> Result<(), String> {
        // What a time of flapping leaves open goes on under the name of that time.
        if matches!(command, Command::Announce(_)) {
            return Ok(());
        }
        let still = Self::open_outages(after);
        for outage in open.iter().filter(|outage| !still.contains(outage)) {
            let known = |ended: &&Ended| (&ended.check, &ended.id) == (&outage.0, &outage.1);
            if after.ended.iter().rfind(known).is_none() {
                return Err(format!(
                    "outage {} of {} ended and is forgotten",
                    outage.1, outage.0
                ));
            }
        }
        if after.ended.len() > ENDED_MAX {
            return Err(format!("{} outages are remembered", after.ended.len()));
        }
        Ok(())
    }

    /// An outage of this check is told now.
    fn tells_outage(&self, now: Millis, wall: Millis, state: &State, check: &str) -> Result<(), String> {
        let Some(check) = state.document.check(check) else {
            return Ok(());
        };
        let name = &check.name;
        let undisturbed = now.saturating_sub(self.edited) > RACE_MS;
        if undisturbed && window_of(state, check, wall).is_some() {
            return Err(format!("{name} is told during announced work"));
        }
        for parent in check
            .depends_on
            .iter()
            .filter_map(|text| state.document.check(text))
        {
            let is_down = state
                .checks
                .get(&parent.id)
                .is_some_and(|known| known.status == Status::Down);
            let for_long = self
                .changed
                .get(&parent.id)
                .is_none_or(|at| now.saturating_sub(*at) > RACE_MS);
            if undisturbed && !parent.disabled && is_down && for_long {
                return Err(format!("{name} is told although {} is down", parent.name));
            }
        }
        let lately = |at: Option<Millis>| at.is_some_and(|at| now.saturating_sub(at) < 90_000);
        let own = lately(self.faults.get(&check.id).copied());
        // A parent that goes down while its child is looked at for the last time is not known to be down yet: that race cannot be won.
        let just_now = |at: &Millis| now.saturating_sub(*at) < 10_000;
        let race = check
            .depends_on
            .iter()
            .any(|parent| self.faults.get(parent).is_some_and(just_now));
        if !check.depends_on.is_empty() && !own && !race && !lately(self.blind) {
            return Err(format!("{name} is told, but only what it depends on was down"));
        }
        Ok(())
    }

    /// Without damping nothing is held back because it comes and goes: neither what flapped when it was switched off, a fair minute later,
    /// nor what comes and goes since then.
    pub(super) fn none_is_damped(state: &State, wall: Millis) -> Result<(), String> {
        if state.document.settings.flap_damping != Some(false) {
            return Ok(());
        }
        for check in state.document.checks.iter().filter(|check| !check.disabled) {
            let known = &state.checks[&check.id];
            let is_held = known.incident.as_ref().is_some_and(|incident| {
                incident.held == Some(Hold::Flapping) && known.status == Status::Down
            });
            let parents = check.depends_on.iter().filter_map(|id| state.document.check(id));
            let excused = window_of(state, check, wall).is_some()
                || parents.into_iter().any(|parent| {
                    window_of(state, parent, wall).is_some() || state.checks[&parent.id].status != Status::Up
                });
            if (known.flapping.is_some() || is_held) && !excused {
                return Err(format!(
                    "{} is held back although damping is off: {known:?}",
                    check.name
                ));
            }
        }
        Ok(())
    }

    /// After a fair time: this check is down by itself, and everybody knows.
    pub(super) fn all_know(&self, state: &State, id: &str) -> Result<(), String> {
        let known = &state.checks[id];
        let check = state.document.check(id).expect("it is there");
        let Some(incident) = known.incident.as_ref().filter(|_| known.status == Status::Down) else {
            return Err(format!("{id} is down, and nobody found out: {known:?}"));
        };
        for (alert, _) in state.document.alerts_of(check) {
            let outage = (id.to_owned(), alert.id.clone(), incident.id.clone());
            let told = self.begun.contains(&outage) || self.excused.contains(&outage);
            if !told && incident.acknowledged.is_none() {
                return Err(format!("{id} is down, and {} was not told: {known:?}", alert.id));
            }
        }
        Ok(())
    }

    /// After a fair time with everything well: nothing is open.
    pub(super) fn all_closed(&self, state: &State) -> Result<(), String> {
        if let Some(delivery) = state.deliveries.values().next() {
            return Err(format!("a delivery is left: {delivery:?}"));
        }
        match self.open.first() {
            Some(outage) => Err(format!("nobody told the end of {outage:?}")),
            None => Ok(()),
        }
    }
}
