//! When a reminder is due, whatever the clock does.
//!
//! The replicated state says when an outage was last told, by the clock of the master of that time. A master turns that once, when it sees
//! it first, into a moment of its own monotonic clock: never later than one interval from then. So a clock that is set while a node is
//! master changes nothing, and clocks of two masters that differ cost at most one reminder early or one interval of silence.

use std::collections::BTreeMap;

use crate::machine::Millis;
use crate::machine::mutation::broken;
use crate::machine::state::{Incident, State};

/// What a master knows about reminders.
#[derive(Debug, Default)]
pub struct Reminders(BTreeMap<String, Seen>);

/// An outage as this master saw it first after it was last told.
#[derive(Debug)]
struct Seen {
    incident: String,
    told: Millis,
    now: Millis,
    wall: Millis,
}

impl Reminders {
    /// Takes note of what was told. `now` is of the monotonic clock, `wall` of the wall clock.
    pub fn look(&mut self, now: Millis, wall: Millis, state: &State) {
        let outage = |check: &String| state.checks.get(check)?.incident.as_ref();
        self.0
            .retain(|check, seen| outage(check).is_some_and(|incident| seen.is(incident)));
        for (check, known) in state.checks.iter() {
            let Some(incident) = known.incident.as_ref().filter(|incident| incident.announced) else {
                continue;
            };
            if !self.0.contains_key(check) {
                let seen = Seen {
                    incident: incident.id.clone(),
                    told: incident.told,
                    now,
                    wall,
                };
                self.0.insert(check.clone(), seen);
            }
        }
    }

    /// Whether an outage of this check was last told so long ago.
    pub(super) fn is_over(
        &self,
        check: &str,
        incident: &Incident,
        every: Millis,
        now: Millis,
        wall: Millis,
    ) -> bool {
        if broken!(RemindersFollowClock) {
            return wall.saturating_sub(incident.told) >= every;
        }
        let seen = self.0.get(check).filter(|seen| seen.is(incident));
        seen.is_some_and(|seen| {
            let rest = every.saturating_sub(seen.wall.saturating_sub(seen.told));
            now.saturating_sub(seen.now) >= rest
        })
    }
}

impl Seen {
    fn is(&self, incident: &Incident) -> bool {
        self.incident == incident.id && self.told == incident.told
    }
}
