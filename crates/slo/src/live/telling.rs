//! What messages say.

use notify::{Link, Message, Pairs, Severity, Verb};

use super::machine::{ENDPOINT_DOWN, Event, Look, What, data_alert};
use crate::objective::Objective;
use crate::pace::Pace;
use crate::rules::{burns, means, percent};
use crate::span::spoken;

/// How messages name us.
const SOURCE: &str = "slo";

/// What is known when something is told.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The objective; none if it does not exist any more, or if it is about the endpoint.
    pub objective: Option<&'a Objective>,
    /// What was seen of it.
    pub look: Option<&'a Look>,
    /// What is the matter with the endpoint.
    pub endpoint: &'a str,
    /// In front of runbooks that are paths, so that they can be opened.
    pub runbook_base: &'a str,
    /// How fast time runs.
    pub pace: Pace,
}

/// The message of an event.
pub fn message(event: &Event, about: About<'_>) -> Message {
    let verb = match event.what {
        What::Begins => Verb::Firing,
        What::GoesOn => Verb::Reminder,
        What::Ends => Verb::Resolved,
    };
    let (subject, mut body) = texts(event, about);
    let lasted = about
        .pace
        .meant_seconds(event.at_ms.saturating_sub(event.active.since_ms));
    match event.what {
        What::Begins => {}
        What::GoesOn => body.push(format!("It has fired for {}.", spoken(lasted))),
        What::Ends => body.push(format!("It fired for {}.", spoken(lasted))),
    }
    let runbook = about
        .objective
        .map(|objective| address(&objective.runbook.value, about.runbook_base));
    body.extend(runbook.iter().map(|runbook| format!("Runbook: {runbook}")));
    let mut message = Message::new(
        SOURCE,
        verb,
        format!("[{SOURCE}] {verb}: {}: {subject}", event.alert),
        body.join("\n"),
    );
    message.severity = match (event.what, event.active.page) {
        (What::Ends, _) => Severity::Info,
        (_, true) => Severity::Critical,
        (_, false) => Severity::Warning,
    };
    let slo = event.active.slo.clone().unwrap_or_default();
    message.dedup_key = format!("{slo}/{}/{}", event.alert, event.active.since_ms);
    message.delivery_id = format!("{}/{verb}/{}", message.dedup_key, event.at_ms);
    message.labels = Pairs::from_iter([
        ("alertname", event.alert.clone()),
        (
            "severity",
            if event.active.page { "critical" } else { "warning" }.to_owned(),
        ),
        ("page", event.active.page.to_string()),
        ("slo", slo),
    ]);
    if let Some(runbook) = runbook {
        message.details.set("runbook", runbook.clone());
        // Only what can be opened is a link.
        if runbook.contains("://") {
            message.links.push(Link {
                title: "Runbook".to_owned(),
                url: runbook,
            });
        }
    }
    if let Some(dashboard) = about.objective.and_then(|objective| objective.dashboard.clone()) {
        message.details.set("dashboard", dashboard.clone());
        if dashboard.contains("://") {
            message.links.push(Link {
                title: "Dashboard".to_owned(),
                url: dashboard,
            });
        }
    }
    message.when_unix_ms = event.at_ms;
    message.since_unix_ms = Some(event.active.since_ms);
    message
}

/// One line, and what else there is to say.
fn texts(event: &Event, about: About<'_>) -> (String, Vec<String>) {
    let Some(objective) = about.objective else {
        return if event.alert == ENDPOINT_DOWN {
            match event.what {
                What::Ends => ("the endpoint answers again".to_owned(), Vec::new()),
                What::Begins | What::GoesOn => (
                    "nothing is evaluated: the endpoint does not answer".to_owned(),
                    vec![
                        format!("{}.", about.endpoint),
                        "No alert of any objective can begin or end.".to_owned(),
                    ],
                ),
            }
        } else {
            (
                "is not evaluated any more".to_owned(),
                vec!["Its objective is gone, or has changed its name.".to_owned()],
            )
        };
    };
    let title = &objective.title;
    if event.alert == data_alert(objective) {
        return match (event.what, about.look) {
            (What::Ends, _) => (format!("{title} is measured again"), Vec::new()),
            (_, look) => (
                format!("{title} is not measured"),
                vec![
                    look.map_or_else(String::new, |look| {
                        format!("For its alerts {}.", look.data.told())
                    }),
                    "They cannot be relied on until this has ended.".to_owned(),
                ],
            ),
        };
    }
    let Some(alert) = objective.alerts.iter().find(|alert| alert.name == event.alert) else {
        return (title.clone(), Vec::new());
    };
    let subject = format!("{title} {}", burns(objective, alert));
    let ratio = |value: f64| {
        format!(
            "{} % of events failed over {}",
            percent(value),
            alert.condition.long
        )
    };
    let body = match (event.what, about.look) {
        (What::Ends, Some(look)) => {
            let long = look.ratios.get(&alert.condition.long);
            match long {
                Some(super::machine::Reading::Number(value)) => vec![format!(
                    "{}; that is few enough, there or over {}.",
                    ratio(*value),
                    alert.condition.short
                )],
                _ => vec![
                    "It has ended because no events are counted any more: make sure that this is right."
                        .to_owned(),
                ],
            }
        }
        (What::Ends, None) => Vec::new(),
        (What::Begins | What::GoesOn, _) => event
            .active
            .value
            .map(|value| format!("{}; {}", ratio(value), means(objective, alert)))
            .into_iter()
            .collect(),
    };
    (subject, body)
}

/// Where a runbook is.
fn address(runbook: &str, base: &str) -> String {
    if base.is_empty() || runbook.contains("://") {
        return runbook.to_owned();
    }
    format!(
        "{}/{}",
        base.trim_end_matches('/'),
        runbook.trim_start_matches('/')
    )
}
