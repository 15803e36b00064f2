//! `slo simulate`.

use anyhow::{Result, anyhow, bail};
use serde::Serialize;

use super::Files;
use crate::burn;
use crate::decimal::{Decimal, short};
use crate::objective::Objective;
use crate::rules::{INTERVAL, percent};
use crate::simulate::{Firing, SECONDS_MAX, Setting, Stretch, firings};
use crate::span::{Span, spoken};

/// Seconds between samples, unless told otherwise: Prometheus' own default is a minute, most people use this.
const SCRAPE: &str = "15s";

/// Arguments of `slo simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    files: Files,

    /// How long and how much fails, such as 60s@100%; several follow one another, and 10m@0% is a pause
    #[arg(long, required = true, value_name = "TIME@SHARE")]
    outage: Vec<String>,

    /// Events in a second
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    rps: String,

    /// Time between two samples of a counter
    #[arg(long, value_name = "TIME", default_value = SCRAPE)]
    scrape: String,

    /// How long the service has been watched, without an error, before the first outage [default: the longest window]
    #[arg(long, value_name = "TIME")]
    history: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Most times that an alert is told to fire: errors just at its threshold make it come and go.
const ROWS_MAX: usize = 5;

/// What is said about an objective.
#[derive(Debug, Serialize)]
struct Answer {
    slo: String,
    target: f64,
    outage_seconds: u64,
    events: f64,
    bad_events: f64,
    budget_spent_ratio: f64,
    alerts: Vec<AlertAnswer>,
}

#[derive(Debug, Serialize)]
struct AlertAnswer {
    alert: String,
    severity: String,
    page: bool,
    /// Each in seconds since the beginning of the first outage.
    firings: Vec<FiringAnswer>,
}

#[derive(Debug, Serialize)]
struct FiringAnswer {
    from_seconds: i64,
    until_seconds: Option<i64>,
}

impl Simulate {
    pub(super) fn run(self) -> Result<()> {
        let stretches = self
            .outage
            .iter()
            .map(|text| Stretch::parse(text).map_err(|wrong| anyhow!("--outage {wrong}")))
            .collect::<Result<Vec<_>>>()?;
        let total: u64 = stretches.iter().map(|stretch| stretch.seconds).sum();
        if total > SECONDS_MAX {
            bail!(
                "the outages last longer than {} together",
                Span::seconds(SECONDS_MAX)
            );
        }
        let traffic = Decimal::parse(&self.rps).filter(|traffic| !traffic.is_zero());
        let Some(traffic) = traffic else {
            bail!("--rps {:?} is no number above 0", self.rps);
        };
        let scrape = time("--scrape", &self.scrape)?;
        if scrape > Span::minutes(2) {
            bail!(
                "--scrape {scrape} is too long: the short window of 5m needs two samples, and one may be late; at most 2m"
            );
        }
        let history = self
            .history
            .as_deref()
            .map(|text| time("--history", text))
            .transpose()?;
        let read = self.files.read()?;
        let mut answers = Vec::new();
        for objective in &read.objectives {
            let longest = objective.windows().into_iter().max().unwrap_or(INTERVAL);
            let before = history.unwrap_or(longest).as_seconds();
            let setting = Setting {
                events_per_second: traffic.value(),
                scrape: scrape.as_seconds(),
                evaluate: INTERVAL.as_seconds(),
                // Outages begin when rules are evaluated, so that the answer does not depend on chance.
                before: before.next_multiple_of(INTERVAL.as_seconds()),
            };
            answers.push(answer(objective, setting, &stretches));
        }
        if self.json {
            return terminal::print_json(&answers);
        }
        for (number, (objective, answer)) in read.objectives.iter().zip(&answers).enumerate() {
            if number > 0 {
                terminal::out("\n");
            }
            print(objective, answer);
        }
        Ok(())
    }
}

fn time(option: &str, text: &str) -> Result<Span> {
    let parsed = Span::parse(text).filter(|parsed| !parsed.is_calendar);
    let parsed = parsed.ok_or_else(|| anyhow!("{option} {text:?} is no length of time; write 15s or 6h"))?;
    if parsed.span.as_seconds() > SECONDS_MAX {
        bail!(
            "{option} {text} is too long; at most {}",
            Span::seconds(SECONDS_MAX)
        );
    }
    Ok(parsed.span)
}

fn answer(objective: &Objective, setting: Setting, stretches: &[Stretch]) -> Answer {
    let budget = objective.budget();
    let seconds: u64 = stretches.iter().map(|stretch| stretch.seconds).sum();
    let bad: f64 = stretches
        .iter()
        .map(|stretch| stretch.seconds as f64 * stretch.error_ratio)
        .sum();
    let alerts = objective.alerts.iter().map(|alert| AlertAnswer {
        alert: alert.name.clone(),
        severity: alert.severity.clone(),
        page: alert.page,
        firings: firings(setting, stretches, &alert.condition, budget)
            .into_iter()
            .map(|Firing { from, until }| FiringAnswer {
                from_seconds: from,
                until_seconds: until,
            })
            .collect(),
    });
    Answer {
        slo: objective.title.clone(),
        target: objective.target.value(),
        outage_seconds: seconds,
        events: seconds as f64 * setting.events_per_second,
        bad_events: bad * setting.events_per_second,
        budget_spent_ratio: burn::spent(budget, objective.window, 1.0, bad),
        alerts: alerts.collect(),
    }
}

fn print(objective: &Objective, answer: &Answer) {
    let allowed = burn::budget_seconds(objective.budget(), objective.window);
    terminal::out(&format!(
        "{}: {} % over {}, a budget of {} of total outage\n{} of {} events fail in {}: {} % of the budget\n\n",
        answer.slo,
        percent(answer.target),
        objective.window,
        spoken(allowed),
        short(answer.bad_events, 6),
        short(answer.events, 6),
        spoken(answer.outage_seconds as f64),
        short(answer.budget_spent_ratio * 100.0, 3),
    ));
    let mut table = terminal::Table::new(["ALERT", "SEVERITY", "PAGES", "FIRES AFTER", "QUIET AGAIN"]);
    for alert in &answer.alerts {
        let pages = if alert.page { "yes" } else { "no" };
        let start = [alert.alert.as_str(), alert.severity.as_str(), pages];
        if alert.firings.is_empty() {
            table.row(start.into_iter().chain(["never", "-"]));
        }
        for firing in alert.firings.iter().take(ROWS_MAX) {
            let from = signed(firing.from_seconds);
            let until = firing
                .until_seconds
                .map_or("not in the time that was played".to_owned(), |until| {
                    after_end(until - answer.outage_seconds as i64)
                });
            table.row(start.into_iter().chain([from.as_str(), until.as_str()]));
        }
        if let Some(more) = alert.firings.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
            table.row(
                start
                    .into_iter()
                    .chain([format!("and {more} times more").as_str(), ""]),
            );
        }
    }
    table.print();
    let pages = answer.alerts.iter().filter(|alert| alert.page);
    let first = pages
        .flat_map(|alert| &alert.firings)
        .map(|firing| firing.from_seconds)
        .min();
    terminal::out(&match first {
        Some(seconds) => format!("\nSomebody is paged after {}.\n", signed(seconds)),
        None => "\nNobody is paged.\n".to_owned(),
    });
}

fn signed(seconds: i64) -> String {
    let text = spoken(seconds.unsigned_abs() as f64);
    if seconds < 0 { format!("-{text}") } else { text }
}

fn after_end(seconds: i64) -> String {
    if seconds < 0 {
        format!("{} before the end", spoken(seconds.unsigned_abs() as f64))
    } else {
        format!("{} after the end", spoken(seconds as f64))
    }
}
