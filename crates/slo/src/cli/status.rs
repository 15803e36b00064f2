//! `slo status`: how budgets stand, and which alerts' conditions hold.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::Serialize;
use service::clock::{SharedClock, SystemClock};
use service::exit::with_code;
use terminal::Table;

use super::Files;
use super::eval::{CHECKED, Endpoint, block_on, of_endpoint, refuse_silence};
use crate::budget::Budget;
use crate::decimal::short;
use crate::live::history;
use crate::live::look::Eye;
use crate::live::prometheus::Prometheus;
use crate::objective::Objective;
use crate::pace::Pace;
use crate::rules::{self, INTERVAL};
use crate::span::{Span, spoken};

/// How often `--watch` looks again. The whole period is asked for each time.
const WATCH: Duration = Duration::from_secs(10);

/// Arguments of `slo status`.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    endpoint: Endpoint,

    /// Look again every ten seconds, until it is interrupted
    #[arg(long, conflicts_with_all = ["json", "check", "at"])]
    watch: bool,

    /// Exit with 3 if a budget is exhausted
    #[arg(long)]
    check: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How an objective stands. Shares are from 0 to 1; null is unknown.
#[derive(Debug, Serialize)]
struct Standing {
    slo: String,
    objective: f64,
    window: String,
    /// Less history than the window: how much there is.
    history: Option<String>,
    sli: Option<f64>,
    budget_left: Option<f64>,
    budget_left_seconds: Option<f64>,
    burn_1h: Option<f64>,
    burn_6h: Option<f64>,
    /// At the burn rate of the last hour.
    exhausted_in_seconds: Option<f64>,
    alerts: Vec<String>,
    data: &'static str,
}

impl Status {
    pub(super) fn run(self) -> Result<()> {
        let objectives = Arc::new(self.files.read()?.objectives);
        let (prometheus, at_ms) = self.endpoint.open()?;
        let eye = Eye::new(prometheus, Pace::REAL, Pace::REAL.ms(INTERVAL));
        if self.watch {
            return block_on(watch(&eye, &objectives, &SystemClock::shared()))?;
        }
        let standings = block_on(look(&eye, &objectives, at_ms))??;
        if self.json {
            terminal::print_json(&standings)?;
        } else {
            terminal::out(&table(&standings));
        }
        let gone: Vec<&str> = standings
            .iter()
            .filter(|standing| standing.budget_left.is_some_and(|left| left <= 0.0))
            .map(|standing| standing.slo.as_str())
            .collect();
        if self.check && !gone.is_empty() {
            return Err(with_code(
                CHECKED,
                anyhow!("no budget is left for {}", gone.join(", ")),
            ));
        }
        Ok(())
    }
}

/// Looks until the process is ended.
async fn watch(eye: &Eye, objectives: &Arc<Vec<Objective>>, clock: &SharedClock) -> Result<()> {
    loop {
        let text = match look(eye, objectives, clock.unix_ms()).await {
            Ok(standings) => table(&standings),
            // It may come back; whoever watches wants to see that.
            Err(error) => format!("error: {}\n", terminal::chain(&error)),
        };
        terminal::out(&format!("\x1b[H\x1b[2J{text}"));
        tokio::time::sleep(WATCH).await;
    }
}

async fn look(eye: &Eye, objectives: &Arc<Vec<Objective>>, at_ms: u64) -> Result<Vec<Standing>> {
    let round = eye.round(objectives, at_ms, false).await;
    refuse_silence(&round, eye.prometheus.address())?;
    let mut standings = Vec::new();
    for (objective, look) in objectives.iter().zip(&round.looks) {
        let budget = history::budget(&eye.prometheus, objective, objective.window, at_ms)
            .await
            .map_err(|trouble| of_endpoint(objective, &trouble))?;
        let burn_1h = burn(&eye.prometheus, objective, Span::hours(1), at_ms).await?;
        let burn_6h = burn(&eye.prometheus, objective, Span::hours(6), at_ms).await?;
        let alerts = objective
            .alerts
            .iter()
            .filter(|alert| look.holds(objective, alert) == Some(true));
        standings.push(Standing {
            slo: objective.title.clone(),
            objective: objective.target.value(),
            window: objective.window.to_string(),
            history: budget.partly(),
            sli: budget.sli(),
            budget_left: budget.left(),
            budget_left_seconds: budget.left_seconds(),
            burn_1h,
            burn_6h,
            exhausted_in_seconds: exhausted_in(&budget, burn_1h),
            alerts: alerts.map(|alert| alert.name.clone()).collect(),
            data: look.data.name(),
        });
    }
    Ok(standings)
}

async fn burn(
    prometheus: &Prometheus,
    objective: &Objective,
    window: Span,
    at_ms: u64,
) -> Result<Option<f64>> {
    let query = rules::error_ratio(&objective.indicator, window, Pace::REAL);
    let ratio = prometheus
        .instant(&query, at_ms)
        .await
        .map_err(|trouble| of_endpoint(objective, &trouble))?;
    Ok(ratio.map(|ratio| ratio / objective.budget().value()))
}

/// Seconds until nothing is left if it burns on like this; `None` if it never is.
fn exhausted_in(budget: &Budget, burn: Option<f64>) -> Option<f64> {
    let (left, burn) = (budget.left()?, burn?);
    if left <= 0.0 {
        return Some(0.0);
    }
    (burn > 0.0).then(|| left * budget.window.as_seconds() as f64 / burn)
}

fn table(standings: &[Standing]) -> String {
    let percent = |share: f64, digits: usize| format!("{} %", short(share * 100.0, digits));
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut table = Table::new([
        "SLO",
        "OBJECTIVE",
        "SLI",
        "OVER",
        "LEFT",
        "LEFT (TIME)",
        "BURN 1H",
        "BURN 6H",
        "EXHAUSTED IN",
        "ALERTS",
    ]);
    for standing in standings {
        let window = &standing.window;
        let exhausted = match standing.exhausted_in_seconds {
            Some(0.0) => "now".to_owned(),
            Some(seconds) => spoken(seconds),
            None => "-".to_owned(),
        };
        let mut notes = standing.alerts.clone();
        if standing.data != "ok" {
            notes.push(standing.data.to_owned());
        }
        table.row([
            standing.slo.clone(),
            percent(standing.objective, 6),
            or_dash(standing.sli.map(|sli| percent(sli, 6))),
            standing.history.clone().unwrap_or_else(|| window.clone()),
            or_dash(standing.budget_left.map(|left| percent(left, 3))),
            or_dash(standing.budget_left_seconds.map(|left| {
                if left < 0.0 {
                    format!("-{}", spoken(-left))
                } else {
                    spoken(left)
                }
            })),
            or_dash(standing.burn_1h.map(|burn| short(burn, 3))),
            or_dash(standing.burn_6h.map(|burn| short(burn, 3))),
            exhausted,
            if notes.is_empty() {
                "-".to_owned()
            } else {
                notes.join(", ")
            },
        ]);
    }
    table.render(None)
}
