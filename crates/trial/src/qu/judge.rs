//! What came, against what had to come. Pure: from a ledger to findings.
//!
//! What had to come follows from the replicated counters of transitions alone. A check is created `unknown`, its first transition is to
//! `up` and silent, and since nothing is damped, held back or removed in a trial, every transition after that is told on every channel:
//! the even ones are DOWN, the odd ones RECOVERED. So the delivery `CHECK/N/ALERT` must have come for each `N` from 2 to the counter. Its
//! id goes on with the time of the transition, which no ledger of counters tells: all copies must have the same one.
//!
//! - *Lost*: no sink ever took it.
//! - *Repeated*: it came again after a sink took it and said so, while nothing was done to the cluster, or only what must cost nothing.
//! - *Unmarked*: it came again where it may have been taken before, and does not say so. Of copies the one whose connection was opened
//!   first is the original: what is on its way cannot be called back when its sender is stopped.
//! - *Out of order*: it was sent (its connection opened) after a later message of the same check on the same channel had come.
//! - *Sent alone*: it was sent by a node that had been cut off from the majority for longer than a claim counts.
//! - *Two masters*: nodes logged different masters of one term.
//! - *Wrong verdict*: a check changed to what its target was not, or was not what its target had been throughout a calm time.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Answer, Arrival, Fault, Millis, Outage};
use crate::findings::Kind;

/// How long a node may send what it had claimed before it was cut off. A claim counts for a second; a busy machine adds some.
const ALONE_MS: Millis = 2_500;
/// Before a repeat is explained by a fault: clocks of sinks and of the nemesis are read one after the other.
const SLACK_MS: Millis = 1_000;
/// Calm after which a verdict must be what the target is: two rounds, a second opinion, and a busy machine.
const DETECTION_MS: Millis = 15_000;
/// How old what a verdict rests on may be: reports wait for the end of their round, and rounds for stopped nodes.
const VERDICT_AGE_MS: Millis = 20_000;

/// Everything that is known at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// Ids of the nodes, by number.
    pub(crate) nodes: Vec<String>,
    /// Ids of the alerts that are told of everything.
    pub(crate) alerts: Vec<&'static str>,
    /// The counter of transitions of each check, by id.
    pub(crate) checks: BTreeMap<String, u64>,
    /// What came to sinks.
    pub(crate) arrivals: Vec<Arrival>,
    /// What was done.
    pub(crate) faults: Vec<Fault>,
    /// What was broken.
    pub(crate) outages: Vec<Outage>,
    /// When nothing was in the way.
    pub(crate) calm: Vec<(Millis, Millis)>,
    /// Term, master, and the node that logged it.
    pub(crate) masters: Vec<(u64, String, usize)>,
    /// When targets began to come and go; all were well before.
    pub(crate) begun: Millis,
    /// When everything was looked at.
    pub(crate) ended: Millis,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// What is wrong.
    pub(crate) found: Vec<(Kind, String)>,
    /// Changes of checks that were told.
    pub(crate) transitions: u64,
    /// Deliveries that had to come.
    pub(crate) deliveries: usize,
    /// Messages that sinks took.
    pub(crate) messages: usize,
    /// Of those: copies, and how many of these a fault explains; the others follow an answer that nobody got.
    pub(crate) repeats: usize,
    pub(crate) after_faults: usize,
    /// Outages that were long and calm enough to be looked for.
    pub(crate) truths: usize,
    /// Terms with a master.
    pub(crate) terms: usize,
    /// From the death of a master to the next message: the median and the longest, in milliseconds.
    pub(crate) silence: Option<(Millis, Millis)>,
}

/// Judges.
pub(crate) fn judge(evidence: &Evidence) -> Judgement {
    let mut result = Judgement::default();
    let mut by_id: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
    for arrival in &evidence.arrivals {
        by_id.entry(delivery(&arrival.id)).or_default().push(arrival);
    }
    for copies in by_id.values_mut() {
        copies.sort_by_key(|arrival| (arrival.opened, arrival.at));
    }
    expected(evidence, &mut by_id.clone(), &mut result);
    for (id, copies) in &by_id {
        repeats(evidence, id, copies, &mut result);
    }
    order(evidence, &by_id, &mut result);
    senders(evidence, &mut result);
    masters(evidence, &mut result);
    verdicts(evidence, &mut result);
    result.silence = silence(evidence);
    result
}

/// `CHECK/N/ALERT` of an id that goes on with the time of the transition.
fn delivery(id: &str) -> &str {
    match id.rsplit_once('/') {
        Some((delivery, at)) if !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit()) => delivery,
        _ => id,
    }
}

/// Everything that had to come was taken, and nothing else came.
fn expected(evidence: &Evidence, by_id: &mut BTreeMap<&str, Vec<&Arrival>>, result: &mut Judgement) {
    for (check, count) in &evidence.checks {
        for number in 2..=*count {
            result.transitions += 1;
            let verb = if number % 2 == 0 { "DOWN" } else { "RECOVERED" };
            for alert in &evidence.alerts {
                result.deliveries += 1;
                let id = format!("{check}/{number}/{alert}");
                let copies = by_id.remove(id.as_str()).unwrap_or_default();
                if !copies.iter().any(|arrival| arrival.answer == Answer::Taken) {
                    let text = format!("{id} ({verb}) was never taken; it came {} times", copies.len());
                    result.found.push((Kind::MessageLost, text));
                }
                let full = copies.first().map(|arrival| arrival.id.clone());
                for arrival in copies {
                    // An id without its time is used again by a cluster that begins again; another one for a copy hides the copy.
                    let is_same = Some(&arrival.id) == full.as_ref() && arrival.id != id;
                    if arrival.verb != verb
                        || arrival.alert != *alert
                        || arrival.key != arrival.id
                        || !is_same
                    {
                        let text = format!("{id} should be {verb}: {arrival:?}");
                        result.found.push((Kind::MessageWrong, text));
                    }
                }
            }
        }
    }
    for (id, copies) in by_id {
        let text = format!("{id} came {} times; no transition asks for it", copies.len());
        result.found.push((Kind::MessageWrong, text));
    }
}

/// Copies have a reason and, where the key does not say it all, a mark.
fn repeats(evidence: &Evidence, id: &str, copies: &[&Arrival], result: &mut Judgement) {
    let mut before: Vec<&Arrival> = Vec::new();
    for copy in copies {
        if copy.answer == Answer::Refused {
            continue;
        }
        result.messages += 1;
        let Some(first) = before.first() else {
            before.push(copy);
            continue;
        };
        result.repeats += 1;
        let told = |copy: &Arrival| {
            let (node, at) = (copy.sender + 1, copy.at);
            format!("node {node} at {at} ({:?})", copy.answer)
        };
        let all = || {
            before
                .iter()
                .map(|copy| told(copy))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if copy.marked == Some(false) {
            let text = format!("{id} from {} came before from {}", told(copy), all());
            result.found.push((Kind::Unmarked, text));
        }
        let in_doubt = before.iter().any(|copy| copy.answer == Answer::Unknown);
        let fault = evidence
            .faults
            .iter()
            .find(|fault| !fault.clean && fault.from <= copy.opened && fault.over + SLACK_MS >= first.opened);
        if fault.is_some() {
            result.after_faults += 1;
        } else if !in_doubt {
            let text = format!("{id} from {} came before from {}", told(copy), all());
            result.found.push((Kind::Repeated, text));
        }
        before.push(copy);
    }
}

/// Of one check on one channel nothing is sent after something later.
fn order(evidence: &Evidence, by_id: &BTreeMap<&str, Vec<&Arrival>>, result: &mut Judgement) {
    for (check, count) in &evidence.checks {
        for alert in &evidence.alerts {
            // When the first message after this one came.
            let mut later: Option<(Millis, String)> = None;
            for number in (2..=*count).rev() {
                let id = format!("{check}/{number}/{alert}");
                let Some(copies) = by_id.get(id.as_str()) else {
                    continue;
                };
                if let Some((at, after)) = &later
                    && let Some(late) = copies.iter().find(|copy| copy.opened > *at)
                {
                    let text = format!("{id} was sent at {}; {after} had come at {at}", late.opened);
                    result.found.push((Kind::OutOfOrder, text));
                }
                let first = copies.iter().map(|copy| copy.at).min();
                let first = first.map(|at| (at, id));
                later = match (later, first) {
                    (Some(known), Some(this)) => Some(known.min(this)),
                    (known, this) => known.or(this),
                };
            }
        }
    }
}

/// Who sends is who it says, and had a majority.
fn senders(evidence: &Evidence, result: &mut Judgement) {
    for arrival in &evidence.arrivals {
        let own = evidence.nodes.get(arrival.sender);
        if own.is_none() || arrival.master.as_ref().is_some_and(|master| Some(master) != own) {
            let text = format!(
                "{} comes from node {}: {arrival:?}",
                arrival.id,
                arrival.sender + 1
            );
            result.found.push((Kind::MessageWrong, text));
        }
        let alone = evidence.faults.iter().find_map(|fault| {
            let (_, since) = fault.alone.iter().find(|(node, _)| *node == arrival.sender)?;
            (since + ALONE_MS..fault.healed)
                .contains(&arrival.opened)
                .then_some((fault, since))
        });
        if let Some((fault, since)) = alone {
            let text = format!(
                "{} was sent by node {} {} ms after it was cut off ({})",
                arrival.id,
                arrival.sender + 1,
                arrival.opened - since,
                fault.text
            );
            result.found.push((Kind::SentAlone, text));
        }
    }
}

fn masters(evidence: &Evidence, result: &mut Judgement) {
    let mut by_term: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (term, master, _) in &evidence.masters {
        by_term.entry(*term).or_default().insert(master);
    }
    result.terms = by_term.len();
    for (term, masters) in by_term.into_iter().filter(|(_, masters)| masters.len() > 1) {
        let tellers: Vec<String> = evidence
            .masters
            .iter()
            .filter(|(known, ..)| *known == term)
            .map(|(_, master, teller)| format!("node {} says {master}", teller + 1))
            .collect();
        let text = format!("term {term}: {} masters; {}", masters.len(), tellers.join(", "));
        result.found.push((Kind::TwoMasters, text));
    }
}

/// A time in which a target was one thing.
#[derive(Debug, Clone, Copy)]
struct Phase {
    up: bool,
    from: Millis,
    until: Millis,
}

fn phases(evidence: &Evidence, check: &str) -> Vec<Phase> {
    let mut outages: Vec<&Outage> = evidence
        .outages
        .iter()
        .filter(|outage| outage.check == check)
        .collect();
    outages.sort_by_key(|outage| outage.from);
    let mut phases = Vec::new();
    let mut since = evidence.begun;
    for outage in outages {
        phases.extend([
            Phase {
                up: true,
                from: since,
                until: outage.from,
            },
            Phase {
                up: false,
                from: outage.from,
                until: outage.until,
            },
        ]);
        since = outage.until;
    }
    phases.push(Phase {
        up: true,
        from: since,
        until: evidence.ended,
    });
    phases
}

/// Checks are what their targets are.
fn verdicts(evidence: &Evidence, result: &mut Judgement) {
    for (check, count) in &evidence.checks {
        // Which transition was when, as the messages tell it.
        let mut when: BTreeMap<u64, Millis> = BTreeMap::new();
        for arrival in &evidence.arrivals {
            let mut parts = arrival.id.split('/');
            let is_own = parts.next() == Some(check.as_str());
            let number = parts.next().and_then(|number| number.parse().ok());
            if let (true, Some(number), Some(at)) = (is_own, number, arrival.when) {
                when.insert(number, at);
            }
        }
        let phases = phases(evidence, check);
        for (number, at) in &when {
            let up = number % 2 == 1;
            let fits = |phase: &Phase| {
                phase.up == up && phase.from <= at + SLACK_MS && phase.until + VERDICT_AGE_MS >= *at
            };
            if !phases.iter().any(fits) {
                let name = if up { "up" } else { "down" };
                let text = format!("{check} became {name} at {at} ({number}), when its target was not");
                result.found.push((Kind::WrongVerdict, text));
            }
        }
        if (2..=*count).any(|number| !when.contains_key(&number)) {
            // Told as lost already.
            continue;
        }
        for (calm_from, calm_until) in &evidence.calm {
            for phase in &phases {
                let (from, until) = ((*calm_from).max(phase.from), (*calm_until).min(phase.until));
                if until < from + DETECTION_MS {
                    continue;
                }
                result.truths += 1;
                let last = when
                    .iter()
                    .filter(|(_, at)| **at <= until + SLACK_MS)
                    .map(|(number, _)| *number)
                    .max();
                let up = last.unwrap_or(1) % 2 == 1;
                if up != phase.up {
                    let name = if phase.up { "up" } else { "down" };
                    let text = format!(
                        "{check} was not {name} at {until}, after its target had been so and all was calm for {} ms",
                        until - from
                    );
                    result.found.push((Kind::WrongVerdict, text));
                }
            }
        }
    }
}

/// From the death of each master to the next message, whoever sends it.
fn silence(evidence: &Evidence) -> Option<(Millis, Millis)> {
    let mut each: Vec<Millis> = evidence
        .faults
        .iter()
        .filter_map(|fault| {
            let killed = fault.master_killed?;
            let next = evidence.arrivals.iter().filter(|arrival| arrival.opened > killed);
            Some(next.map(|arrival| arrival.opened).min()? - killed)
        })
        .collect();
    each.sort_unstable();
    Some((*each.get(each.len() / 2)?, *each.last()?))
}

#[cfg(test)]
mod tests;
