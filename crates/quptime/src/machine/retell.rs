//! Channels that forget: Alertmanager takes an alert for over when it does not hear of it again. So what such a channel was told is told
//! again every minute for as long as it holds, with the same identity; the word that ends it is the delivery of RECOVERED.
//!
//! Nothing of this is in the log: to hear of an outage once more, or a little late after a change of the master, harms nobody. A new
//! master tells everything at once, since it does not know when that was done last.
//!
//! **Invariant:** of one check and one channel either a delivery is under way or a repetition, never both: a repetition that arrives after
//! RECOVERED would begin the outage anew.

use std::collections::{BTreeMap, BTreeSet};

use super::Millis;
use super::state::{CheckState, Delivery, Incident, Phase, State, Status, Verb};
use crate::document::{Alert, AlertKind, Check};

/// From one word to the next.
pub const EVERY_MS: Millis = 60_000;
/// From a word that was not taken to the next.
const AGAIN_MS: Millis = 15_000;
/// For so long a channel holds what it was told: a few words may be lost.
pub const HOLD_MS: Millis = 5 * EVERY_MS;

/// A check and an alert, by id.
type Pair = (String, String);

/// What a master tells again.
#[derive(Debug, Default)]
pub struct Retell {
    /// When each pair is due.
    due: BTreeMap<Pair, Millis>,
    /// What is being told, by the id of the message.
    under_way: BTreeMap<String, Pair>,
    /// Whether this master has looked before.
    begun: bool,
}

impl Retell {
    /// What is to be told again at this moment of people's clock. Each comes back by [`Retell::ended`].
    pub fn look(&mut self, state: &State, wall: Millis) -> Vec<Delivery> {
        let first = !std::mem::replace(&mut self.begun, true);
        let forgets = |alert: &Alert| alert.kind == AlertKind::Alertmanager;
        if !state.document.alerts.iter().any(forgets) {
            self.due.clear();
            return Vec::new();
        }
        let waiting: BTreeSet<(&str, &str)> = state
            .deliveries
            .values()
            .map(|delivery| (delivery.check.as_str(), delivery.alert.as_str()))
            .collect();
        let mut held: BTreeSet<Pair> = BTreeSet::new();
        let mut told = Vec::new();
        for check in state.document.checks.iter().filter(|check| !check.disabled) {
            let Some((known, incident)) = outage(state, check) else {
                continue;
            };
            for (alert, _) in state
                .document
                .alerts_of(check)
                .filter(|(alert, _)| forgets(alert))
            {
                if waiting.contains(&(check.id.as_str(), alert.id.as_str()))
                    || never_told(state, check, alert)
                {
                    continue;
                }
                let pair = (check.id.clone(), alert.id.clone());
                held.insert(pair.clone());
                let begin = if first {
                    wall
                } else {
                    incident.told.max(wall.saturating_sub(EVERY_MS)) + EVERY_MS
                };
                let due = self.due.entry(pair.clone()).or_insert(begin);
                if *due > wall || self.under_way.values().any(|other| *other == pair) {
                    continue;
                }
                let delivery = again(check, alert, known, incident, wall);
                self.under_way.insert(delivery.id.clone(), pair);
                told.push(delivery);
            }
        }
        self.due.retain(|pair, _| held.contains(pair));
        told
    }

    /// A word was taken or not; false if it is none of these.
    pub fn ended(&mut self, id: &str, wall: Millis, taken: bool) -> bool {
        let Some(pair) = self.under_way.remove(id) else {
            return false;
        };
        if let Some(due) = self.due.get_mut(&pair) {
            *due = wall + if taken { EVERY_MS } else { AGAIN_MS };
        }
        true
    }

    /// Whether a delivery of this check to this alert has to wait until a repetition has ended.
    pub fn holds_up(&self, check: &str, alert: &str) -> bool {
        let mut pairs = self.under_way.values();
        pairs.any(|(one, other)| one == check && other == alert)
    }

    /// Whether nothing is being told.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// The outage of a check that people were told of.
fn outage<'a>(state: &'a State, check: &Check) -> Option<(&'a CheckState, &'a Incident)> {
    let known = state.checks.get(&check.id)?;
    let incident = known.incident.as_ref()?;
    (known.status == Status::Down && incident.announced).then_some((known, incident))
}

/// Whether an alert that waits for outages to last was called off by an acknowledgement.
fn never_told(state: &State, check: &Check, alert: &Alert) -> bool {
    let known = state.checks.get(&check.id);
    let acknowledged = known
        .and_then(|known| known.incident.as_ref())
        .is_some_and(|incident| incident.acknowledged.is_some());
    if alert.after.is_none() || !acknowledged {
        return false;
    }
    let transitions = known.map_or(0, |known| known.transitions);
    let (begin, end) = (format!("{}/{transitions}", check.id), format!("/{}", alert.id));
    !state.finished.iter().any(|finished| {
        finished.dropped.is_none()
            && finished.verb == Verb::Down
            && finished.id.starts_with(&begin)
            && finished.id.ends_with(&end)
    })
}

fn again(check: &Check, alert: &Alert, known: &CheckState, incident: &Incident, wall: Millis) -> Delivery {
    Delivery {
        id: format!("{}/{}/{}", check.id, known.transitions, alert.id),
        sequence: 0,
        check: check.id.clone(),
        alert: alert.id.clone(),
        verb: Verb::Down,
        incident: Some(incident.id.clone()),
        from: Status::Up,
        to: Status::Down,
        at: incident.since,
        since: 0,
        snapshot: known.snapshot.clone(),
        phase: Phase::Queued { due: wall },
        waits_since: wall,
        attempts: 0,
        uncertain: false,
        error: None,
        permanent: false,
        gone: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::document::{CheckKind, Document};
    use crate::machine::state::{Acknowledged, Finished};

    const DOWN_AT: Millis = 1_000_000;

    fn state(kind: AlertKind) -> State {
        let check = Check {
            id: "c".to_owned(),
            ..Check::new("web", CheckKind::Tcp, "h:1")
        };
        let alert = Alert {
            id: "a".to_owned(),
            default: true,
            ..Alert::new("am", kind)
        };
        let incident = Incident {
            id: "i".to_owned(),
            since: DOWN_AT,
            announced: true,
            held: None,
            told: DOWN_AT,
            told_to: BTreeSet::new(),
            acknowledged: None,
        };
        let known = CheckState {
            status: Status::Down,
            since: DOWN_AT,
            transitions: 3,
            incident: Some(incident),
            ..CheckState::default()
        };
        State {
            document: Arc::new(Document {
                checks: vec![check],
                alerts: vec![alert],
                ..Document::default()
            }),
            checks: Arc::new([("c".to_owned(), Arc::new(known))].into()),
            ..State::default()
        }
    }

    fn known(state: &mut State) -> &mut CheckState {
        Arc::make_mut(Arc::make_mut(&mut state.checks).get_mut("c").unwrap())
    }

    fn queue(state: &mut State, verb: Verb) {
        let (check, alert) = (&state.document.checks[0], &state.document.alerts[0]);
        let known = &state.checks["c"];
        let mut delivery = again(check, alert, known, known.incident.as_ref().unwrap(), DOWN_AT);
        delivery.verb = verb;
        Arc::make_mut(&mut state.deliveries).insert(delivery.id.clone(), delivery);
    }

    /// A master that was there when the outage began.
    fn present() -> Retell {
        let mut retell = Retell::default();
        assert_eq!(retell.look(&State::default(), DOWN_AT), []);
        retell
    }

    #[test]
    fn an_outage_is_told_again_every_minute_until_it_is_over() {
        let (mut retell, mut state) = (present(), state(AlertKind::Alertmanager));
        assert_eq!(retell.look(&state, DOWN_AT + EVERY_MS - 1), []);
        let told = retell.look(&state, DOWN_AT + EVERY_MS);
        assert_eq!(told.len(), 1);
        let message = (told[0].id.as_str(), told[0].verb, told[0].at, told[0].to);
        assert_eq!(message, ("c/3/a", Verb::Down, DOWN_AT, Status::Down));
        // One at a time, and the next one a minute after it has ended.
        assert_eq!(retell.look(&state, DOWN_AT + 5 * EVERY_MS), []);
        assert!(retell.ended("c/3/a", DOWN_AT + 5 * EVERY_MS, true));
        assert_eq!(retell.look(&state, DOWN_AT + 6 * EVERY_MS - 1), []);
        assert_eq!(retell.look(&state, DOWN_AT + 6 * EVERY_MS).len(), 1);
        assert!(retell.ended("c/3/a", DOWN_AT + 6 * EVERY_MS, true));
        known(&mut state).status = Status::Up;
        known(&mut state).incident = None;
        assert_eq!(retell.look(&state, DOWN_AT + 9 * EVERY_MS), []);
    }

    #[test]
    fn what_was_not_taken_is_told_again_sooner() {
        let (mut retell, state) = (present(), state(AlertKind::Alertmanager));
        let at = DOWN_AT + EVERY_MS;
        assert_eq!(retell.look(&state, at).len(), 1);
        retell.ended("c/3/a", at, false);
        assert_eq!(retell.look(&state, at + AGAIN_MS - 1), []);
        assert_eq!(retell.look(&state, at + AGAIN_MS).len(), 1);
    }

    #[test]
    fn a_new_master_goes_on_at_once() {
        let mut retell = Retell::default();
        assert_eq!(retell.look(&state(AlertKind::Alertmanager), DOWN_AT + 1).len(), 1);
    }

    #[test]
    fn deliveries_and_repetitions_wait_for_each_other() {
        let (mut retell, mut state) = (present(), state(AlertKind::Alertmanager));
        let without = state.clone();
        // The first word has not been taken yet, or the last one waits.
        for verb in [Verb::Down, Verb::Recovered] {
            queue(&mut state, verb);
            assert_eq!(retell.look(&state, DOWN_AT + 9 * EVERY_MS), [], "{verb:?}");
        }
        assert!(!retell.holds_up("c", "a") && retell.is_idle());
        assert_eq!(retell.look(&without, DOWN_AT + 9 * EVERY_MS).len(), 1);
        assert!(retell.holds_up("c", "a") && !retell.holds_up("c", "b") && !retell.is_idle());
        assert!(retell.ended("c/3/a", DOWN_AT, true) && !retell.ended("c/3/a", DOWN_AT, true));
        assert!(!retell.holds_up("c", "a") && retell.is_idle());
    }

    #[test]
    fn only_channels_that_forget_and_only_what_was_told() {
        let late = DOWN_AT + 9 * EVERY_MS;
        assert_eq!(present().look(&state(AlertKind::Webhook), late), []);
        let mut held = state(AlertKind::Alertmanager);
        known(&mut held).incident.as_mut().unwrap().announced = false;
        assert_eq!(present().look(&held, late), []);
        for change in [
            |document: &mut Document| document.checks[0].disabled = true,
            |document: &mut Document| document.alerts[0].disabled = true,
            |document: &mut Document| document.checks[0].suppress_alert_ids = vec!["am".to_owned()],
        ] {
            let mut state = state(AlertKind::Alertmanager);
            change(Arc::make_mut(&mut state.document));
            assert_eq!(present().look(&state, late), []);
        }
    }

    #[test]
    fn who_was_never_told_because_of_an_acknowledgement_is_not_told_now() {
        let late = DOWN_AT + 9 * EVERY_MS;
        let mut state = state(AlertKind::Alertmanager);
        Arc::make_mut(&mut state.document).alerts[0].after = Some(crate::duration::Span::from_secs(900));
        known(&mut state).incident.as_mut().unwrap().acknowledged = Some(Acknowledged {
            at: DOWN_AT,
            note: String::new(),
            until: None,
            uid: None,
            by: None,
        });
        assert_eq!(present().look(&state, late), []);
        Arc::make_mut(&mut state.finished).push_back(Finished {
            id: "c/3/a".to_owned(),
            verb: Verb::Down,
            at: DOWN_AT,
            node: "00000001-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap(),
            attempts: 1,
            uncertain: false,
            dropped: None,
            check_name: String::new(),
            alert_name: String::new(),
        });
        assert_eq!(present().look(&state, late).len(), 1);
    }
}
