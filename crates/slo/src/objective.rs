//! What a set of documents says: objectives with everything that belongs to them, checked.
//!
//! References are followed here, queries are read, alerts get their names, factors and windows. What is returned can be generated from,
//! simulated and described without asking again whether it makes sense.

use std::collections::BTreeMap;

use crate::burn::{self, FAST, SLOW, Spend};
use crate::decimal::Decimal;
use crate::document::reader::{At, Findings, Located};
use crate::document::schema::{
    ALERT_NAME, Condition, DASHBOARD, Document, Either, Kind, MIN_EVENTS, Metadata, Metric, Named, Part,
    Policy, RUNBOOK, Sli, Slo,
};
use crate::query::Query;
use crate::span::Span;

/// An objective, ready for use.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Where it is written.
    pub at: At,
    /// `api-availability`.
    pub name: String,
    /// What people call it; the name if nothing else is given.
    pub title: String,
    /// For people.
    pub description: Option<String>,
    /// What it is about.
    pub service: String,
    /// The start of its alerts' names: `APIAvailability`.
    pub prefix: String,
    /// The page that its alerts name: a path or an address.
    pub runbook: Located<String>,
    /// The dashboard that they name.
    pub dashboard: Option<String>,
    /// Below so many events in the long window the alerts are silent.
    pub events_min: Option<u64>,
    /// The share of good events.
    pub target: Decimal,
    /// The period of the budget.
    pub window: Span,
    /// How bad is told from good.
    pub indicator: Indicator,
    /// In the order in which they are generated.
    pub alerts: Vec<Alert>,
}

/// Good and bad, as queries.
#[derive(Debug, Clone)]
pub enum Indicator {
    /// Events are counted.
    Events {
        /// What `part` counts.
        part_is: Part,
        /// Good or bad events.
        part: Query,
        /// All events.
        total: Query,
    },
    /// The ratio is there already.
    Raw {
        /// What it is the ratio of.
        ratio_of: Part,
        /// The ratio.
        query: Query,
    },
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// `APIAvailabilitySLOFastBurn`.
    pub name: String,
    /// When it fires.
    pub condition: burn::Condition,
    /// `critical`, `warning`, or what the policy says.
    pub severity: String,
    /// Whether it wakes somebody.
    pub page: bool,
    /// How long it has to last; the windows are enough if this is not given.
    pub after: Option<Span>,
    /// The share of the budget that it is about, for the standard ones.
    pub spend: Option<Spend>,
}

impl Objective {
    /// The share of events that may be bad.
    pub fn budget(&self) -> Decimal {
        self.target.complement()
    }

    /// As part of the names of series: `api_availability`.
    pub fn series(&self) -> String {
        self.name.replace('-', "_")
    }

    /// All windows over which the error ratio is wanted, the shortest first.
    pub fn windows(&self) -> Vec<Span> {
        let conditions = self.alerts.iter().map(|alert| &alert.condition);
        let mut windows: Vec<Span> = conditions
            .flat_map(|condition| [condition.short, condition.long])
            .collect();
        windows.sort();
        windows.dedup();
        windows
    }

    /// Sets a label or the name of a metric in all plain selectors. Whether there was one.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        let queries = match &mut self.indicator {
            Indicator::Events { part, total, .. } => vec![part, total],
            Indicator::Raw { query, .. } => vec![query],
        };
        let mut found = false;
        for query in queries {
            if let Query::Selector(selector) = query {
                found |= selector.set(name, value);
            }
        }
        found
    }
}

/// Follows all references and checks what holds between documents.
pub fn resolve(documents: &[Document], findings: &mut Findings) -> Vec<Objective> {
    let library = Library::new(documents, findings);
    let before = findings.mistakes.len();
    let mut objectives = Vec::new();
    for document in documents {
        match &document.kind {
            Kind::Slo(slo) => objectives.extend(library.objective(document, slo, findings)),
            Kind::AlertPolicy(policy) => {
                library.conditions(policy, findings);
            }
            Kind::Sli(sli) => {
                library.indicator(sli, findings);
            }
            Kind::Service | Kind::DataSource | Kind::AlertCondition(_) | Kind::AlertNotificationTarget => {}
        }
    }
    // A mistake in an indicator that several objectives use is said once.
    let mut rest = findings.mistakes.split_off(before);
    rest.sort();
    rest.dedup();
    findings.mistakes.append(&mut rest);
    unique_alerts(&objectives, findings);
    objectives
}

fn unique_alerts(objectives: &[Objective], findings: &mut Findings) {
    let mut seen: BTreeMap<&str, &Objective> = BTreeMap::new();
    for objective in objectives {
        for alert in &objective.alerts {
            if let Some(other) = seen.insert(&alert.name, objective) {
                findings.mistake(
                    objective.at.clone(),
                    format!(
                        "alert {} exists already, by {}; give this one another `{ALERT_NAME}`",
                        alert.name, other.name
                    ),
                );
            }
        }
    }
}

/// Documents by kind and name.
struct Library<'d> {
    by_name: BTreeMap<(&'static str, &'d str), &'d Document>,
}

impl<'d> Library<'d> {
    fn new(documents: &'d [Document], findings: &mut Findings) -> Library<'d> {
        let mut by_name: BTreeMap<(&'static str, &str), &Document> = BTreeMap::new();
        for document in documents {
            let (kind, name) = (document.kind.name(), &document.metadata.name);
            if let Some(first) = by_name.get(&(kind, name.value.as_str())) {
                let first = &first.metadata.name.at;
                let text = format!(
                    "{kind} {} exists already, at {}:{}",
                    name.value, first.file, first.line
                );
                findings.mistake(name.at.clone(), text);
            } else {
                by_name.insert((kind, &name.value), document);
            }
        }
        Library { by_name }
    }

    fn find(
        &self,
        kind: &'static str,
        reference: &Located<String>,
        findings: &mut Findings,
    ) -> Option<&'d Document> {
        let found = self.by_name.get(&(kind, reference.value.as_str())).copied();
        if found.is_none() {
            let names: Vec<&str> = self
                .by_name
                .keys()
                .filter(|(known, _)| *known == kind)
                .map(|(_, name)| *name)
                .collect();
            let known = if names.is_empty() {
                format!("no {kind} is given")
            } else {
                format!("there are {}", names.join(", "))
            };
            let wanted = &reference.value;
            findings.mistake(
                reference.at.clone(),
                format!("there is no {kind} {wanted:?}; {known}"),
            );
        }
        found
    }

    fn objective(&self, document: &'d Document, slo: &'d Slo, findings: &mut Findings) -> Option<Objective> {
        let metadata = &document.metadata;
        // Services may be described elsewhere; once some are given, the others are missing.
        if self.by_name.keys().any(|(kind, _)| *kind == "Service") {
            self.find("Service", &slo.service, findings);
        }
        let [target] = &slo.objectives[..] else {
            let text = format!(
                "has {} objectives; exactly one is possible, write an SLO for each",
                slo.objectives.len()
            );
            findings.mistake(
                slo.objectives
                    .get(1)
                    .map_or(&document.at, |second| &second.at)
                    .clone(),
                text,
            );
            return None;
        };
        let indicator = match (&target.indicator, &slo.indicator) {
            (Some(_), Some(_)) => {
                findings.mistake(
                    target.at.clone(),
                    "has an indicator, and so has the SLO; leave one out",
                );
                None
            }
            (Some(own), None) | (None, Some(own)) => self.either(own, findings),
            (None, None) => None,
        };
        let prefix = prefix(metadata, findings);
        let events_min = events_min(metadata, indicator.as_ref(), findings);
        let window = slo.window.length.value;
        let budget = target.target.value.complement();
        let alerts = if slo.policies.is_empty() {
            standard(&prefix, &slo.window.length, findings)
        } else {
            self.alerts_of(&prefix, slo, findings)
        };
        for alert in &alerts {
            let condition = &alert.condition;
            if !condition.can_fire(budget) {
                let text = format!(
                    "{} can never fire: its factor {} times the budget {budget} is {}, and no error ratio is above that (at most 1); \
                     the target must be above {}",
                    alert.name,
                    condition.factor,
                    condition.threshold(budget),
                    lowest_target(condition.factor),
                );
                findings.mistake(target.target.at.clone(), text);
            }
        }
        Some(Objective {
            at: document.at.clone(),
            name: metadata.name.value.clone(),
            title: metadata
                .display_name
                .clone()
                .unwrap_or_else(|| metadata.name.value.clone()),
            description: slo.description.clone(),
            service: slo.service.value.clone(),
            prefix,
            runbook: metadata
                .annotations
                .get(RUNBOOK)
                .cloned()
                .unwrap_or_else(|| Located {
                    value: format!("docs/runbooks/{}-slo-burn.md", metadata.name.value),
                    at: document.at.clone(),
                }),
            dashboard: metadata.annotations.get(DASHBOARD).map(|text| text.value.clone()),
            events_min,
            target: target.target.value,
            window,
            indicator: indicator?,
            alerts,
        })
    }

    fn either(&self, sli: &'d Either<Sli>, findings: &mut Findings) -> Option<Indicator> {
        match sli {
            Either::Inline(sli) => self.indicator(sli, findings),
            Either::Reference(reference) => match &self.find("SLI", reference, findings)?.kind {
                Kind::Sli(sli) => self.indicator(sli, findings),
                _ => None,
            },
        }
    }

    fn indicator(&self, sli: &Sli, findings: &mut Findings) -> Option<Indicator> {
        match sli {
            Sli::Events {
                part_is,
                part,
                total,
                counter,
            } => {
                let mut read = |metric: &Metric| {
                    let query = self.query(metric, findings)?;
                    if !counter && matches!(query, Query::Selector(_)) {
                        findings.mistake(
                            metric.query.at.clone(),
                            "of a metric with `counter: false` no rate can be taken; write an expression with $window in it",
                        );
                    }
                    Some(query)
                };
                let (part, total) = (read(part), read(total));
                Some(Indicator::Events {
                    part_is: *part_is,
                    part: part?,
                    total: total?,
                })
            }
            Sli::Raw { ratio_of, query } => Some(Indicator::Raw {
                ratio_of: *ratio_of,
                query: self.query(query, findings)?,
            }),
            Sli::Threshold(at) => {
                findings.mistake(
                    at.clone(),
                    "a `thresholdMetric` says nothing about how many events were good; write a `ratioMetric`",
                );
                None
            }
        }
    }

    fn query(&self, metric: &Metric, findings: &mut Findings) -> Option<Query> {
        if let Some(source) = &metric.source {
            self.find("DataSource", source, findings);
        }
        match Query::parse(&metric.query.value) {
            Ok(query) => Some(query),
            Err(text) => {
                findings.mistake(metric.query.at.clone(), text);
                None
            }
        }
    }

    /// The conditions of a policy, with their names.
    fn conditions(&self, policy: &'d Policy, findings: &mut Findings) -> Vec<(&'d str, &'d Condition)> {
        for target in &policy.targets {
            self.find("AlertNotificationTarget", target, findings);
        }
        let mut conditions = Vec::new();
        for condition in &policy.conditions {
            match condition {
                Either::Inline(Named { name, value }) => conditions.push((name.value.as_str(), value)),
                Either::Reference(reference) => {
                    if let Some(document) = self.find("AlertCondition", reference, findings)
                        && let Kind::AlertCondition(condition) = &document.kind
                    {
                        conditions.push((document.metadata.name.value.as_str(), condition));
                    }
                }
            }
        }
        conditions
    }

    fn alerts_of(&self, prefix: &str, slo: &'d Slo, findings: &mut Findings) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for policy in &slo.policies {
            let policy = match policy {
                Either::Inline(policy) => policy,
                Either::Reference(reference) => match self
                    .find("AlertPolicy", reference, findings)
                    .map(|found| &found.kind)
                {
                    Some(Kind::AlertPolicy(policy)) => policy,
                    _ => continue,
                },
            };
            for (name, condition) in self.conditions(policy, findings) {
                if condition.lookback > slo.window.length.value {
                    let text = format!(
                        "looks back {}, farther than the objective's window of {}",
                        condition.lookback, slo.window.length.value
                    );
                    findings.mistake(condition.at.clone(), text);
                }
                alerts.push(Alert {
                    name: format!("{prefix}SLO{}", capitals(name)),
                    condition: burn::Condition {
                        factor: condition.threshold,
                        long: condition.lookback,
                        short: burn::short_window(condition.lookback),
                    },
                    severity: match condition.severity.value.as_str() {
                        "page" => "critical".to_owned(),
                        other => other.to_owned(),
                    },
                    page: matches!(condition.severity.value.as_str(), "page" | "critical"),
                    after: condition.after,
                    spend: None,
                });
            }
        }
        alerts
    }
}

/// The standard pair: a page and a ticket.
fn standard(prefix: &str, window: &Located<Span>, findings: &mut Findings) -> Vec<Alert> {
    let slow = SLOW.factor(window.value);
    if slow <= Decimal::ONE {
        findings.mistake(
            window.at.clone(),
            format!(
                "{} is too short for the standard alerts: {} % of its budget within {} is burn rate {slow}, at which the budget lasts; \
                 write more than 5d, or an alert policy",
                window.value, SLOW.percent, SLOW.within
            ),
        );
    }
    let alert = |kind: &str, spend: Spend, severity: &str, page: bool| Alert {
        name: format!("{prefix}SLO{kind}"),
        condition: burn::Condition::of(spend, window.value),
        severity: severity.to_owned(),
        page,
        after: None,
        spend: Some(spend),
    };
    vec![
        alert("FastBurn", FAST, "critical", true),
        alert("SlowBurn", SLOW, "warning", false),
    ]
}

/// The target above which an alert with this factor can fire: `1 - 1/factor`, for people.
fn lowest_target(factor: Decimal) -> String {
    crate::decimal::short((1.0 - 1.0 / factor.value()).max(0.0), 3)
}

/// The start of alerts' names: what the annotation says, or the name with capitals.
fn prefix(metadata: &Metadata, findings: &mut Findings) -> String {
    let Some(given) = metadata.annotations.get(ALERT_NAME) else {
        return capitals(&metadata.name.value);
    };
    let is_good = given
        .value
        .starts_with(|letter: char| letter.is_ascii_alphabetic())
        && given
            .value
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_good {
        findings.mistake(
            given.at.clone(),
            "is no start of an alert's name; use letters, digits and `_`, such as APIAvailability",
        );
    }
    given.value.clone()
}

/// `api-availability` as `ApiAvailability`.
fn capitals(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

fn events_min(metadata: &Metadata, indicator: Option<&Indicator>, findings: &mut Findings) -> Option<u64> {
    let given = metadata.annotations.get(MIN_EVENTS)?;
    let count = given.value.parse().ok().filter(|count| *count > 0);
    if count.is_none() {
        findings.mistake(
            given.at.clone(),
            "a whole number above 0 is wanted here, in quotes",
        );
    }
    let countable = matches!(
        indicator,
        None | Some(Indicator::Events {
            total: Query::Selector(_),
            ..
        })
    );
    if !countable {
        findings.mistake(
            given.at.clone(),
            "needs a `total` that is a plain selector, whose events can be counted",
        );
    }
    count
}
