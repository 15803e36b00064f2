//! `slo eval`: what the alerts say at a moment, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use service::SystemClock;
use service::exit::with_code;
use terminal::Table;

use super::Files;
use crate::live::look::{Eye, Round};
use crate::live::machine::{Look, Reading};
use crate::live::prometheus::{Prometheus, Trouble};
use crate::objective::Objective;
use crate::pace::Pace;
use crate::rules::{INTERVAL, percent};

/// The endpoint did not answer.
const ENDPOINT: u8 = 2;

/// What was asked for with `--check` is so: an alert fires, a budget is gone.
pub(super) const CHECKED: u8 = 3;

/// Time for a query that somebody waits for.
const LIMIT: Duration = Duration::from_secs(30);

/// Where and when is looked.
#[derive(Debug, clap::Args)]
pub(super) struct Endpoint {
    /// The address of Prometheus, or of whatever speaks its API
    #[arg(
        long = "endpoint",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090"
    )]
    address: String,

    /// A file with a token for it
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,

    /// The moment: 2026-01-31T12:00:00Z, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

impl Endpoint {
    /// A client, and the moment in milliseconds since 1970.
    pub(super) fn open(&self) -> Result<(Prometheus, u64)> {
        let prometheus = Prometheus::new(&self.address, self.token_file.clone(), LIMIT)?;
        let at_ms = match &self.at {
            Some(text) => moment(text)?,
            None => SystemClock::shared().unix_ms(),
        };
        Ok((prometheus, at_ms))
    }
}

/// Runs something that waits.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    Ok(runtime.block_on(work))
}

fn moment(text: &str) -> Result<u64> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| *seconds >= 0.0 && *seconds < 1e12);
    let ms = seconds.map(|seconds| (seconds * 1000.0) as u64).or_else(|| {
        let time = text.parse::<jiff::Timestamp>().ok()?;
        u64::try_from(time.as_millisecond()).ok()
    });
    ms.with_context(|| {
        format!("--at {text:?} is no moment; write 2026-01-31T12:00:00Z or seconds since 1970")
    })
}

/// Arguments of `slo eval`.
#[derive(Debug, clap::Args)]
pub(super) struct Eval {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    endpoint: Endpoint,

    /// For drills: time runs so many times as fast
    #[arg(long, value_name = "N", value_parser = Pace::parse, default_value = "1", hide_default_value = true)]
    time_scale: Pace,

    /// Exit with 3 if the condition of an alert holds
    #[arg(long)]
    check: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Answer {
    slo: String,
    data: &'static str,
    why: String,
    /// Error ratios by window; null where there are no events.
    error_ratios: BTreeMap<String, Option<f64>>,
    alerts: BTreeMap<String, Option<bool>>,
}

impl Eval {
    pub(super) fn run(self) -> Result<()> {
        let objectives = Arc::new(self.files.read()?.objectives);
        let (prometheus, at_ms) = self.endpoint.open()?;
        let pace = self.time_scale;
        let eye = Eye::new(prometheus, pace, pace.ms(INTERVAL));
        let round = block_on(eye.round(&objectives, at_ms, false))?;
        refuse_silence(&round, eye.prometheus.address())?;
        let answers: Vec<Answer> = objectives
            .iter()
            .zip(&round.looks)
            .map(|(objective, look)| answer(objective, look))
            .collect();
        if self.json {
            terminal::print_json(&answers)?;
        } else {
            print(&answers);
        }
        let holding: Vec<&str> = answers
            .iter()
            .flat_map(|answer| &answer.alerts)
            .filter(|(_, holds)| **holds == Some(true))
            .map(|(name, _)| name.as_str())
            .collect();
        if self.check && !holding.is_empty() {
            return Err(with_code(CHECKED, anyhow!("{} would fire", holding.join(", "))));
        }
        if let Some((answer, why)) = answers
            .iter()
            .find_map(|answer| Some((answer, answer.invalid()?)))
        {
            return Err(with_code(ENDPOINT, anyhow!("{}: {why}", answer.slo)));
        }
        Ok(())
    }
}

/// An endpoint that has not answered is a failure of its own.
pub(super) fn refuse_silence(round: &Round, address: &str) -> Result<()> {
    match &round.down {
        Some(why) => Err(with_code(ENDPOINT, anyhow!("{address}: {why}"))),
        None => Ok(()),
    }
}

/// What a query about an objective has met.
pub(super) fn of_endpoint(objective: &Objective, trouble: &Trouble) -> anyhow::Error {
    with_code(ENDPOINT, anyhow!("{}: {trouble}", objective.name))
}

impl Answer {
    /// Why nothing can be said of an alert.
    fn invalid(&self) -> Option<&str> {
        matches!(self.data, "invalid" | "endpoint-down").then_some(&self.why)
    }
}

fn answer(objective: &Objective, look: &Look) -> Answer {
    let ratios = look.ratios.iter().map(|(window, ratio)| {
        let ratio = match ratio {
            Reading::Number(ratio) => Some(*ratio),
            Reading::Nothing | Reading::Unknown => None,
        };
        (window.to_string(), ratio)
    });
    let alerts = objective
        .alerts
        .iter()
        .map(|alert| (alert.name.clone(), look.holds(objective, alert)));
    Answer {
        slo: objective.name.clone(),
        data: look.data.name(),
        why: look.data.told(),
        error_ratios: ratios.collect(),
        alerts: alerts.collect(),
    }
}

fn print(answers: &[Answer]) {
    let mut table = Table::new(["ALERT", "HOLDS", "ERROR RATIOS", "DATA"]);
    for answer in answers {
        // Windows as the shortest first, which their texts do not sort as.
        let mut windows: Vec<(&String, &Option<f64>)> = answer.error_ratios.iter().collect();
        windows.sort_by_key(|(window, _)| crate::span::Span::parse(window).map(|parsed| parsed.span));
        let ratios: Vec<String> = windows
            .into_iter()
            .map(|(window, ratio)| match ratio {
                Some(ratio) => format!("{window} {} %", percent(*ratio)),
                None => format!("{window} -"),
            })
            .collect();
        for (alert, holds) in &answer.alerts {
            let holds = match holds {
                Some(true) => "yes",
                Some(false) => "no",
                None => "unknown",
            };
            table.row([alert.as_str(), holds, &ratios.join(", "), answer.data]);
        }
    }
    table.print();
    for answer in answers.iter().filter(|answer| answer.data != "ok") {
        terminal::note(&format!("{}: {}", answer.slo, answer.why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_two_forms() {
        assert_eq!(moment("2026-01-31T12:00:00Z").unwrap(), 1_769_860_800_000);
        assert_eq!(moment("1769860800.5").unwrap(), 1_769_860_800_500);
        for text in ["", "yesterday", "-5", "NaN"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
