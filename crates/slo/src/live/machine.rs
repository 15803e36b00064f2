//! What is told, decided from what was seen and what is remembered. No clock, no IO: the moment is part of what was seen.
//!
//! An alert is inactive (not in memory), pending while its `for` runs, or firing. It ends when its condition is seen not to hold; when
//! nothing can be seen it stays what it is. What fires is told at once and again every hour (pages) or twelve (tickets); what was told is told
//! to have ended. While a page of an objective fires, its tickets are not told, as in the generated routes.
//!
//! **Invariant:** an end is told only after a beginning, each once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::objective::{Alert, Objective};
use crate::pace::Pace;
use crate::routes::{PAGE_REPEAT, TICKET_REPEAT};
use crate::span::Span;

/// How long data has to be missing before a ticket says so.
pub const DATA_AFTER: Span = Span::minutes(5);

/// The ticket about an endpoint that does not answer.
pub const ENDPOINT_DOWN: &str = "SLOEndpointDown";

/// What a query has said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A number.
    Number(f64),
    /// That there is nothing: no events, or no series.
    Nothing,
    /// Not even that: it could not be asked, or what came back is no number.
    Unknown,
}

/// What is the matter with the measurements of an objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Fresh,
    /// There are measurements, and they count no events.
    NoTraffic,
    /// There are no measurements.
    NoData,
    /// The newest measurement is so many seconds old.
    Stale(u64),
    /// What came back makes no sense.
    Invalid(String),
    /// Nothing came back.
    EndpointDown(String),
}

impl Data {
    /// As tables and metrics have it.
    pub fn name(&self) -> &'static str {
        match self {
            Data::Fresh => "ok",
            Data::NoTraffic => "no-traffic",
            Data::NoData => "no-data",
            Data::Stale(_) => "stale",
            Data::Invalid(_) => "invalid",
            Data::EndpointDown(_) => "endpoint-down",
        }
    }

    /// In a sentence, for people.
    pub fn told(&self) -> String {
        match self {
            Data::Fresh => "measurements are there".to_owned(),
            Data::NoTraffic => "no events are counted".to_owned(),
            Data::NoData => "there are no measurements: the series do not exist".to_owned(),
            Data::Stale(seconds) => format!("the newest measurement is {seconds}s old"),
            Data::Invalid(why) => format!("the answers make no sense: {why}"),
            Data::EndpointDown(why) => format!("the endpoint does not answer: {why}"),
        }
    }

    /// Whether that is a problem of this objective's measurements. `None` if nobody knows.
    fn is_problem(&self) -> Option<bool> {
        match self {
            Data::Fresh | Data::NoTraffic => Some(false),
            Data::NoData | Data::Stale(_) | Data::Invalid(_) => Some(true),
            Data::EndpointDown(_) => None,
        }
    }
}

/// What was seen of an objective at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The error ratio over each window.
    pub ratios: BTreeMap<Span, Reading>,
    /// Events in the long windows of alerts that want a number of them.
    pub events: BTreeMap<Span, Reading>,
    /// What is the matter with it.
    pub data: Data,
}

impl Look {
    /// A look that has seen nothing, because the endpoint did not answer.
    pub fn blind(at_ms: u64, why: &str) -> Look {
        Look {
            at_ms,
            ratios: BTreeMap::new(),
            events: BTreeMap::new(),
            data: Data::EndpointDown(why.to_owned()),
        }
    }

    /// Whether the condition of an alert holds. `None` if that cannot be told.
    pub fn holds(&self, objective: &Objective, alert: &Alert) -> Option<bool> {
        let threshold = threshold(objective, alert);
        let above = |window: Span| match self.ratios.get(&window) {
            Some(Reading::Number(ratio)) => Some(*ratio > threshold),
            Some(Reading::Nothing) => Some(false),
            Some(Reading::Unknown) | None => None,
        };
        let condition = &alert.condition;
        let enough = match objective.events_min {
            None => Some(true),
            Some(count) => match self.events.get(&condition.long) {
                Some(Reading::Number(events)) => Some(*events >= count as f64),
                Some(Reading::Nothing) => Some(false),
                // Expressions cannot be counted; the generated rules leave the clause out as well.
                None if !self.ratios.is_empty() => Some(true),
                Some(Reading::Unknown) | None => None,
            },
        };
        let parts = [above(condition.long), above(condition.short), enough];
        if parts.contains(&Some(false)) {
            return Some(false);
        }
        (!parts.contains(&None)).then_some(true)
    }
}

/// The error ratio that has to be exceeded, computed as Prometheus computes what `slo generate` writes.
pub fn threshold(objective: &Objective, alert: &Alert) -> f64 {
    let printed = |number: crate::decimal::Decimal| number.to_string().parse::<f64>();
    match (printed(alert.condition.factor), printed(objective.budget())) {
        (Ok(factor), Ok(budget)) => factor * budget,
        // A decimal prints as a number.
        _ => alert.condition.threshold(objective.budget()).value(),
    }
}

/// An alert that is not inactive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Active {
    /// The objective, as in labels; none if it is about all of them.
    pub slo: Option<String>,
    /// Whether it wakes somebody.
    pub page: bool,
    /// Since when its condition holds, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it holds for long enough.
    pub firing: bool,
    /// When it was told last.
    pub told_ms: Option<u64>,
    /// The newest error ratio over its long window.
    pub value: Option<f64>,
}

/// What is remembered: alerts by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory {
    /// Those that are pending or firing.
    pub alerts: BTreeMap<String, Active>,
}

/// What is to be told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It fires.
    Begins,
    /// It still fires.
    GoesOn,
    /// It has ended.
    Ends,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The alert.
    pub alert: String,
    /// What happened.
    pub what: What,
    /// How it stood; the moment of the beginning is in it.
    pub active: Active,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// An alert as far as its life goes.
struct Life<'a> {
    name: &'a str,
    slo: Option<&'a str>,
    page: bool,
    after: Option<Span>,
}

/// The name of the ticket about an objective's measurements.
pub fn data_alert(objective: &Objective) -> String {
    format!("{}SLONoData", objective.prefix)
}

/// Takes a look into memory; what is to be told of it.
pub fn decide(objective: &Objective, look: &Look, memory: &mut Memory, pace: Pace) -> Vec<Event> {
    let series = objective.series();
    let mut events = Vec::new();
    let lives = objective.alerts.iter().map(|alert| Life {
        name: &alert.name,
        slo: Some(&series),
        page: alert.page,
        after: alert.after,
    });
    let lives: Vec<Life<'_>> = lives.collect();
    for (life, alert) in lives.iter().zip(&objective.alerts) {
        events.extend(memory.turn(life, look.holds(objective, alert), look.at_ms, pace));
        if let (Some(active), Some(Reading::Number(ratio))) = (
            memory.alerts.get_mut(&alert.name),
            look.ratios.get(&alert.condition.long),
        ) {
            active.value = Some(*ratio);
        }
    }
    let is_paged = lives.iter().any(|life| life.page && memory.fires(life.name));
    for life in lives.iter().filter(|life| life.page || !is_paged) {
        events.extend(memory.tell(life, look.at_ms, pace));
    }
    let name = data_alert(objective);
    let life = Life {
        name: &name,
        slo: Some(&series),
        page: false,
        after: Some(DATA_AFTER),
    };
    events.extend(memory.turn(&life, look.data.is_problem(), look.at_ms, pace));
    events.extend(memory.tell(&life, look.at_ms, pace));
    events
}

/// Takes into memory whether the endpoint answers.
pub fn decide_endpoint(is_down: bool, at_ms: u64, memory: &mut Memory, pace: Pace) -> Vec<Event> {
    let life = Life {
        name: ENDPOINT_DOWN,
        slo: None,
        page: false,
        after: Some(DATA_AFTER),
    };
    let ended = memory.turn(&life, Some(is_down), at_ms, pace);
    ended.into_iter().chain(memory.tell(&life, at_ms, pace)).collect()
}

/// Drops what is remembered of alerts that do not exist any more; those that were told end.
pub fn forget(objectives: &[Objective], memory: &mut Memory, at_ms: u64) -> Vec<Event> {
    let known = |name: &str| {
        name == ENDPOINT_DOWN
            || objectives.iter().any(|objective| {
                objective.alerts.iter().any(|alert| alert.name == name) || data_alert(objective) == name
            })
    };
    let gone: Vec<String> = memory
        .alerts
        .keys()
        .filter(|name| !known(name))
        .cloned()
        .collect();
    let ends = gone.into_iter().filter_map(|name| {
        let active = memory.alerts.remove(&name)?;
        active.told_ms.is_some().then_some(Event {
            alert: name,
            what: What::Ends,
            active,
            at_ms,
        })
    });
    ends.collect()
}

impl Memory {
    /// Whether an alert fires.
    pub fn fires(&self, name: &str) -> bool {
        self.alerts.get(name).is_some_and(|active| active.firing)
    }

    /// What a condition makes of an alert.
    fn turn(&mut self, life: &Life<'_>, holds: Option<bool>, at_ms: u64, pace: Pace) -> Option<Event> {
        match holds {
            None => None,
            Some(false) => {
                let active = self.alerts.remove(life.name)?;
                active.told_ms.is_some().then(|| Event {
                    alert: life.name.to_owned(),
                    what: What::Ends,
                    active,
                    at_ms,
                })
            }
            Some(true) => {
                let active = self.alerts.entry(life.name.to_owned()).or_insert_with(|| Active {
                    slo: life.slo.map(str::to_owned),
                    page: life.page,
                    since_ms: at_ms,
                    firing: false,
                    told_ms: None,
                    value: None,
                });
                let after = life.after.map_or(0, |after| pace.ms(after));
                active.firing |= at_ms.saturating_sub(active.since_ms) >= after;
                None
            }
        }
    }

    /// Whether an alert that fires is to be told now.
    fn tell(&mut self, life: &Life<'_>, at_ms: u64, pace: Pace) -> Option<Event> {
        let active = self.alerts.get_mut(life.name).filter(|active| active.firing)?;
        let repeat = if life.page { PAGE_REPEAT } else { TICKET_REPEAT };
        let what = match active.told_ms {
            None => What::Begins,
            Some(told) if at_ms.saturating_sub(told) >= pace.ms(repeat) => What::GoesOn,
            Some(_) => return None,
        };
        active.told_ms = Some(at_ms);
        Some(Event {
            alert: life.name.to_owned(),
            what,
            active: active.clone(),
            at_ms,
        })
    }
}

#[cfg(test)]
mod tests;
