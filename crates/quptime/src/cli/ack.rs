//! Outages and messages: `qu ack`, `qu incidents`, `qu deliveries`.

use clap::Args;
use service::SystemClock;
use terminal::Table;

use super::client;
use crate::api::{Answer, Request};
use crate::duration::Span;
use crate::machine::state::Phase;

#[derive(Debug, Args)]
pub(super) struct Ack {
    /// The check, by id or name.
    check: String,
    /// What to tell the others.
    #[arg(long, default_value = "")]
    note: String,
    /// For how long; until recovery if left out.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<Span>,
}

#[derive(Debug, Args)]
pub(super) struct Incidents {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Deliveries {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn time(at: u64) -> String {
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
                terminal::out(&format!("check {} acknowledged\n", self.check));
                Ok(())
            }
            _ => anyhow::bail!("the daemon answers something else; is it another version?"),
        }
    }
}

impl Incidents {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let state = client::state()?;
        let open = state.checks.iter().filter_map(|(id, known)| {
            let check = state.document.checks.iter().find(|check| check.id == *id)?;
            Some((check, known.incident.as_ref()?))
        });
        let open: Vec<_> = open.collect();
        if self.json {
            let rows: Vec<_> = open
                .iter()
                .map(|(check, incident)| serde_json::json!({"check": check.name, "incident": incident}))
                .collect();
            super::json::print(&rows)?;
            return Ok(());
        }
        let mut table = Table::new(["INCIDENT", "CHECK", "SINCE", "TOLD", "ACKNOWLEDGED"]);
        for (check, incident) in open {
            let told = match (&incident.held, incident.announced) {
                (_, true) => "yes".to_owned(),
                (Some(hold), false) => format!("no: {}", why(hold)),
                (None, false) => "no: no alerts".to_owned(),
            };
            let acknowledged = incident.acknowledged.as_ref();
            table.row([
                incident.id.clone(),
                check.name.clone(),
                time(incident.since),
                told,
                acknowledged.map_or_else(
                    || "-".to_owned(),
                    |known| format!("{} {}", time(known.at), known.note),
                ),
            ]);
        }
        terminal::out(&table.render(None));
        Ok(())
    }
}

fn why(hold: &crate::machine::command::Hold) -> String {
    use crate::machine::command::Hold;
    match hold {
        Hold::Maintenance => "maintenance".to_owned(),
        Hold::Dependency(parent) => format!("depends on {parent}"),
        Hold::Flapping => "flapping".to_owned(),
    }
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
        let mut table = Table::new(["DELIVERY", "VERB", "TIME", "ATTEMPTS", "RESULT"]);
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
            table.row([
                &finished.id,
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
            table.row([
                &delivery.id,
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
