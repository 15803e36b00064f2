//! Outages and messages: `qu ack`, `qu deliveries`. Outages under way are in [`super::incidents`].

use clap::Args;
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::api::{Answer, Request};
use crate::document::Document;
use crate::duration::Span;
use crate::machine::state::Phase;

#[derive(Debug, Args)]
pub(super) struct Ack {
    /// The check, by id or name.
    check: String,
    /// What to tell the others.
    #[arg(long, default_value = "")]
    note: String,
    /// For how long; until recovery if left out. 0s ends an acknowledgement.
    #[arg(long = "for", value_name = "DURATION")]
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

/// The check and the alert in the id of a delivery by their names; by their ids if they are not there any more.
fn names<'a>(document: &'a Document, delivery: &'a str) -> (&'a str, &'a str) {
    let check = delivery.split('/').next().unwrap_or_default();
    let alert = delivery.rsplit('/').next().unwrap_or_default();
    (
        document.check(check).map_or(check, |check| &check.name),
        document.alert(alert).map_or(alert, |alert| &alert.name),
    )
}

impl Deliveries {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let state = client::state()?;
        if self.json {
            let all = serde_json::json!({
                "waiting": state.deliveries.values().collect::<Vec<_>>(),
                "finished": &*state.finished,
            });
            super::json::print(&all)?;
            return Ok(());
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
            let (check, alert) = names(&state.document, &finished.id);
            table.row([
                &finished.id,
                check,
                alert,
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
            let (check, alert) = names(&state.document, &delivery.id);
            table.row([
                &delivery.id,
                check,
                alert,
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
