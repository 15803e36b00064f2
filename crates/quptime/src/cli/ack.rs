//! Outages and messages: `qu ack`, `qu deliveries`. Outages under way are in [`super::incidents`].

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::api::{Answer, Request};
use crate::document::Document;
use crate::duration::Span;
use crate::machine::state::{Delivery, Finished, Phase, State};

#[derive(Debug, Args)]
pub(super) struct Ack {
    /// The check, by id or name.
    check: String,
    /// What to tell the others.
    #[arg(long, default_value = "")]
    note: String,
    /// For how long; until recovery if left out. 0s ends an acknowledgement.
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    lasts: Option<Span>,
}

#[derive(Debug, Args)]
pub(super) struct Deliveries {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A moment as people read it.
pub(super) fn time(at: u64) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    stamp.round(jiff::Unit::Second).unwrap_or(stamp).to_string()
}

impl Ack {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let now = SystemClock::shared().unix_ms();
        let answer = client::ask(&Request::Acknowledge {
            check: self.check.clone(),
            note: self.note,
            until: self.lasts.map(|lasts| now + lasts.millis()),
        })?;
        match answer {
            Answer::Changed { .. } => {
                let ends = self.lasts.as_ref().is_some_and(Span::is_zero);
                let done = if ends {
                    "is not acknowledged any more"
                } else {
                    "acknowledged"
                };
                terminal::out(&format!("check {} {done}\n", self.check));
                Ok(())
            }
            _ => anyhow::bail!("the daemon answers something else; is it another version?"),
        }
    }
}

/// What a delivery is about, and to whom it goes.
struct Names<'a> {
    check_id: &'a str,
    check: &'a str,
    alert_id: &'a str,
    alert: &'a str,
}

impl<'a> Names<'a> {
    /// As they are called now; what is there no more, as it was last called; if nobody knows that, the ids.
    fn new(
        document: &'a Document,
        delivery: &'a str,
        check: Option<&'a str>,
        alert: Option<&'a str>,
    ) -> Self {
        let check_id = delivery.split('/').next().unwrap_or_default();
        let alert_id = delivery.rsplit('/').next().unwrap_or_default();
        let known_check = document.checks.iter().find(|check| check.id == check_id);
        let known_alert = document.alerts.iter().find(|alert| alert.id == alert_id);
        let last = |name: Option<&'a str>, id| name.filter(|name| !name.is_empty()).unwrap_or(id);
        Self {
            check_id,
            check: known_check.map_or_else(|| last(check, check_id), |check| &check.name),
            alert_id,
            alert: known_alert.map_or_else(|| last(alert, alert_id), |alert| &alert.name),
        }
    }

    fn of_waiting(document: &'a Document, delivery: &'a Delivery) -> Self {
        let gone = delivery.gone.as_ref();
        Self::new(
            document,
            &delivery.id,
            gone.map(|check| check.name.as_str()),
            None,
        )
    }

    fn of_finished(document: &'a Document, finished: &'a Finished) -> Self {
        let (check, alert) = (&finished.check_name, &finished.alert_name);
        Self::new(document, &finished.id, Some(check), Some(alert))
    }

    /// A row as JSON, with names and ids.
    fn json(&self, row: &impl Serialize) -> anyhow::Result<Value> {
        let mut row = serde_json::to_value(row)?;
        if let Value::Object(fields) = &mut row {
            fields.remove("check_name");
            fields.remove("alert_name");
            let named = [
                ("check", self.check),
                ("check_id", self.check_id),
                ("alert", self.alert),
                ("alert_id", self.alert_id),
            ];
            fields.extend(named.map(|(key, value)| (key.to_owned(), Value::from(value))));
        }
        Ok(row)
    }
}

/// Everything that waits and what has finished, as JSON.
fn json(state: &State) -> anyhow::Result<Value> {
    let document = &state.document;
    let waiting = state.deliveries.values();
    let waiting = waiting.map(|delivery| Names::of_waiting(document, delivery).json(delivery));
    let finished = state.finished.iter();
    let finished = finished.map(|finished| Names::of_finished(document, finished).json(finished));
    Ok(serde_json::json!({
        "waiting": waiting.collect::<Result<Vec<_>, _>>()?,
        "finished": finished.collect::<Result<Vec<_>, _>>()?,
    }))
}

impl Deliveries {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let state = client::state()?;
        if self.json {
            return super::json::print(&json(&state)?);
        }
        let mut table = Table::new(["DELIVERY", "CHECK", "ALERT", "VERB", "TIME", "ATTEMPTS", "RESULT"]);
        for finished in state.finished.iter() {
            let repeated = if finished.uncertain {
                ", perhaps more than once"
            } else {
                ""
            };
            let result = match &finished.dropped {
                None => format!("sent{repeated}"),
                Some(reason) => format!("given up: {reason}"),
            };
            let attempts = finished.attempts.to_string();
            let names = Names::of_finished(&state.document, finished);
            table.row([
                &finished.id,
                names.check,
                names.alert,
                finished.verb.name(),
                &time(finished.at),
                &attempts,
                &result,
            ]);
        }
        for delivery in state.deliveries.values() {
            let result = match (&delivery.error, delivery.phase) {
                (_, Phase::Claimed { .. }) => "under way".to_owned(),
                (None, Phase::Queued { due }) => format!("waits until {}", time(due)),
                (Some(error), Phase::Queued { due }) => format!("again at {}: {error}", time(due)),
            };
            let attempts = delivery.attempts.to_string();
            let names = Names::of_waiting(&state.document, delivery);
            table.row([
                &delivery.id,
                names.check,
                names.alert,
                delivery.verb.name(),
                &time(delivery.at),
                &attempts,
                &result,
            ]);
        }
        terminal::out(&table.render(None));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Alert, AlertKind, Check, CheckKind};
    use crate::machine::state::Verb;

    #[test]
    fn names_are_kept_for_what_is_removed_and_current_for_what_is_renamed() {
        let finished = Finished {
            id: "c/1/a".to_owned(),
            verb: Verb::Down,
            at: 1_778_853_600_000,
            node: "1c20aa41-0c1d-4e2f-8a3b-4c5d6e7f8091".parse().unwrap(),
            attempts: 1,
            uncertain: false,
            dropped: None,
            check_name: "web".to_owned(),
            alert_name: "oncall".to_owned(),
        };
        let row = |document: &Document, finished: &Finished| {
            let row = Names::of_finished(document, finished).json(finished).unwrap();
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            ["check", "check_id", "alert", "alert_id", "check_name"].map(text)
        };
        let removed = Document::default();
        assert_eq!(row(&removed, &finished), ["web", "c", "oncall", "a", "-"]);
        let renamed = Document {
            checks: vec![Check {
                id: "c".to_owned(),
                ..Check::new("shop", CheckKind::Tcp, "h:1")
            }],
            alerts: vec![Alert {
                id: "a".to_owned(),
                ..Alert::new("pager", AlertKind::Webhook)
            }],
            ..Document::default()
        };
        assert_eq!(row(&renamed, &finished), ["shop", "c", "pager", "a", "-"]);
        let of_older_program = Finished {
            check_name: String::new(),
            alert_name: String::new(),
            ..finished
        };
        assert_eq!(row(&removed, &of_older_program), ["c", "c", "a", "a", "-"]);
    }
}
