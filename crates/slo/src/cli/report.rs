//! `slo report`: what budgets were spent on, with the course of each.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde::Serialize;
use terminal::Table;

use super::Files;
use super::eval::{Endpoint, block_on, of_endpoint};
use crate::budget::{Budget, Spent, day, escape, minute, plot, svg};
use crate::decimal::short;
use crate::live::history;
use crate::objective::Objective;
use crate::span::{Span, spoken};

/// Columns of the plot in a terminal; with its labels it fits into eighty.
const COLUMNS: usize = 64;

/// The most expensive pieces that are named.
const WORST: usize = 5;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables and a plot for a terminal
    Table,
    /// Markdown
    Md,
    /// JSON
    Json,
    /// A page with charts
    Html,
    /// The charts alone
    Svg,
}

/// Arguments of `slo report`.
#[derive(Debug, clap::Args)]
pub(super) struct Report {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    endpoint: Endpoint,

    /// Over how long [default: the period of each objective]
    #[arg(long, value_name = "TIME")]
    window: Option<String>,

    /// How it is written
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    slo: &'a str,
    objective: f64,
    window: String,
    history: Option<String>,
    events: f64,
    bad_events: f64,
    sli: Option<f64>,
    budget_left: Option<f64>,
    budget_left_seconds: Option<f64>,
    days: Vec<Piece>,
    worst: Vec<Piece>,
}

#[derive(Debug, Serialize)]
struct Piece {
    from: String,
    events: f64,
    bad_events: f64,
    budget_spent: f64,
}

type Report1<'a> = (&'a Objective, Budget);

impl Report {
    pub(super) fn run(self) -> Result<()> {
        let objectives = self.files.read()?.objectives;
        let window = match &self.window {
            Some(text) => match Span::parse(text) {
                Some(parsed) if parsed.span >= Span::hours(1) => Some(parsed.span),
                _ => bail!("--window {text:?} is no length of at least 1h; write 7d or 30d"),
            },
            None => None,
        };
        let (prometheus, at_ms) = self.endpoint.open()?;
        let budgets: Vec<Report1<'_>> = block_on(async {
            let mut budgets = Vec::new();
            for objective in &objectives {
                let window = window.unwrap_or(objective.window);
                let budget = history::budget(&prometheus, objective, window, at_ms)
                    .await
                    .map_err(|trouble| of_endpoint(objective, &trouble))?;
                budgets.push((objective, budget));
            }
            Ok::<_, anyhow::Error>(budgets)
        })??;
        match self.format {
            Format::Table => terminal::out(&tables(&budgets)),
            Format::Md => terminal::out(&markdown(&budgets)),
            Format::Json => {
                let answers: Vec<Answer<'_>> = budgets.iter().map(answer).collect();
                terminal::print_json(&answers)?;
            }
            Format::Svg => terminal::out(&svg(&titled(&budgets))),
            Format::Html => terminal::out(&html(&budgets)),
        }
        Ok(())
    }
}

fn answer<'a>((objective, budget): &'a Report1<'a>) -> Answer<'a> {
    let pieces = |spent: Vec<Spent>, written: fn(u64) -> String| {
        let pieces = spent.into_iter().map(|spent| Piece {
            from: written(spent.from),
            events: spent.total,
            bad_events: spent.bad,
            budget_spent: spent.share,
        });
        pieces.collect()
    };
    Answer {
        slo: &objective.title,
        objective: objective.target.value(),
        window: budget.window.to_string(),
        history: budget.partly(),
        events: budget.total(),
        bad_events: budget.bad(),
        sli: budget.sli(),
        budget_left: budget.left(),
        budget_left_seconds: budget.left_seconds(),
        days: pieces(budget.days(), day),
        worst: pieces(budget.worst(WORST), minute),
    }
}

fn titled(budgets: &[Report1<'_>]) -> Vec<(String, Budget)> {
    budgets
        .iter()
        .map(|(objective, budget)| (objective.title.clone(), budget.clone()))
        .collect()
}

fn percent(share: f64, digits: usize) -> String {
    format!("{} %", short(share * 100.0, digits))
}

/// The line that says everything in short.
fn sentence((objective, budget): &Report1<'_>) -> String {
    let (Some(sli), Some(left), Some(seconds)) = (budget.sli(), budget.left(), budget.left_seconds()) else {
        return format!("{}: no events within {}", objective.title, budget.window);
    };
    let over = budget.partly().unwrap_or_else(|| budget.window.to_string());
    let rest = if left > 0.0 {
        format!(
            "{} of the budget is left: {} of total outage",
            percent(left, 3),
            spoken(seconds)
        )
    } else {
        format!("the budget is spent {} times", short(1.0 - left, 3))
    };
    format!(
        "{}: {} over {over}, objective {}; {rest}",
        objective.title,
        percent(sli, 6),
        percent(objective.target.value(), 6),
    )
}

fn tables(budgets: &[Report1<'_>]) -> String {
    let mut text = String::new();
    for (number, report) in budgets.iter().enumerate() {
        let budget = &report.1;
        if number > 0 {
            text.push('\n');
        }
        writeln!(text, "{}\n", sentence(report)).expect("a String takes everything");
        if budget.slices.is_empty() {
            continue;
        }
        text.push_str(&plot(budget, COLUMNS));
        text.push('\n');
        text.push_str(&spending("DAY", &costly(budget.days()), day).render(None));
        let worst = budget.worst(WORST);
        if !worst.is_empty() {
            let title = format!("WORST {}", budget.step);
            text.push('\n');
            text.push_str(&spending(&title, &worst, minute).render(None));
        }
    }
    text
}

/// Days that cost something; a month of zeros says nothing.
fn costly(days: Vec<Spent>) -> Vec<Spent> {
    let costly: Vec<Spent> = days.iter().copied().filter(|day| day.bad > 0.0).collect();
    if costly.is_empty() {
        days.into_iter().rev().take(1).collect()
    } else {
        costly
    }
}

fn spending(title: &str, pieces: &[Spent], written: fn(u64) -> String) -> Table {
    let mut table = Table::new([title, "EVENTS", "FAILED", "OF THE BUDGET"]);
    for piece in pieces {
        table.row([
            written(piece.from),
            short(piece.total.round(), 12),
            short(piece.bad.round(), 12),
            percent(piece.share, 3),
        ]);
    }
    table
}

fn markdown(budgets: &[Report1<'_>]) -> String {
    let mut text = "# Error budgets\n".to_owned();
    for report in budgets {
        let (objective, budget) = report;
        let mut write = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        write(&format!("\n## {}\n", objective.title));
        write(&format!("{}.\n", sentence(report)));
        if budget.slices.is_empty() {
            continue;
        }
        write(&format!("```text\n{}```\n", plot(budget, COLUMNS)));
        for (title, pieces, written) in [
            ("day", costly(budget.days()), day as fn(u64) -> String),
            ("worst", budget.worst(WORST), minute),
        ] {
            if pieces.is_empty() {
                continue;
            }
            write(&format!(
                "| {title} | events | failed | of the budget |\n|---|---|---|---|"
            ));
            for piece in pieces {
                write(&format!(
                    "| {} | {} | {} | {} |",
                    written(piece.from),
                    short(piece.total.round(), 12),
                    short(piece.bad.round(), 12),
                    percent(piece.share, 3)
                ));
            }
            write("");
        }
    }
    text
}

fn html(budgets: &[Report1<'_>]) -> String {
    let mut text = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Error budgets</title></head>\n\
         <body style=\"font-family: sans-serif; max-width: 60em; margin: auto\">\n<h1>Error budgets</h1>\n"
        .to_owned();
    for (report, titled) in budgets.iter().zip(titled(budgets)) {
        let (objective, budget) = report;
        write!(
            text,
            "<h2>{}</h2>\n<p>{}.</p>\n{}<table>\n<tr><th>day<th>events<th>failed<th>of the budget</tr>\n",
            escape(&objective.title),
            escape(&sentence(report)),
            svg(&[titled]),
        )
        .expect("a String takes everything");
        for piece in costly(budget.days()) {
            writeln!(
                text,
                "<tr><td>{}<td>{}<td>{}<td>{}</tr>",
                day(piece.from),
                short(piece.total.round(), 12),
                short(piece.bad.round(), 12),
                percent(piece.share, 3)
            )
            .expect("a String takes everything");
        }
        text.push_str("</table>\n");
    }
    text.push_str("</body></html>\n");
    text
}
