//! What dashboards want beside the alerts: the objective, the burn rate of the moment, the error ratio of the whole period and what is
//! left of the budget; and two more tickets.
//!
//! The ratio of the period is made of what was recorded every 30 seconds, weighed by traffic, not of a month of raw series.

use super::{Group, Rule, alert_rule, literal, percent, ratio_series};
use crate::burn::{self, CREEPING};
use crate::document::schema::Part;
use crate::objective::{Alert, Indicator, Objective};
use crate::pace::Pace;
use crate::span::Span;
use crate::yaml::scalar;

/// Over which the burn rate of the moment is taken, and the pieces of the period.
const PIECE: Span = Span::minutes(5);

/// How long nothing has to come before a ticket says so.
const NO_TRAFFIC_AFTER: Span = Span::minutes(10);

/// The groups of the second file.
pub fn extra(objectives: &[Objective]) -> Vec<Group> {
    objectives.iter().map(group).collect()
}

fn group(objective: &Objective) -> Group {
    let name = objective.series();
    let (budget, window) = (objective.budget(), objective.window);
    let mut rules = Vec::new();
    let mut record = |series: &str, expr: String| {
        rules.push(Rule {
            is_alert: false,
            name: format!("slo:{name}:{series}"),
            expr,
            after: None,
            labels: vec![("slo", scalar(&name))],
            annotations: Vec::new(),
        });
    };
    record("objective", format!("vector({})", objective.target));
    let period = match &objective.indicator {
        Indicator::Events { part_is, part, total } => {
            let (events, part) = (total.rate(&PIECE), part.rate(&PIECE));
            record("events_rate5m", events.clone());
            let bad = match part_is {
                Part::Bad => format!("{part} or vector(0)"),
                Part::Good => format!("{events} - ({part} or vector(0))"),
            };
            record("bad_events_rate5m", bad);
            format!(
                "sum_over_time(slo:{name}:bad_events_rate5m[{window}]) / (sum_over_time(slo:{name}:events_rate5m[{window}]) > 0)"
            )
        }
        Indicator::Raw { .. } => {
            record("error_ratio_piece", ratio(objective, PIECE));
            format!("avg_over_time(slo:{name}:error_ratio_piece[{window}])")
        }
    };
    record(
        "current_burn_rate",
        format!("{} / {budget}", parenthesised(&ratio(objective, PIECE))),
    );
    record("error_ratio_period", period);
    record(
        "error_budget_remaining_ratio",
        format!("1 - slo:{name}:error_ratio_period / {budget}"),
    );

    let condition = burn::Condition::of(CREEPING, window);
    for span in [condition.short, condition.long] {
        if !objective.windows().contains(&span) {
            let series = ratio_series(objective, span);
            let short = series.rsplit_once(':').map_or("", |(_, last)| last).to_owned();
            record(&short, ratio(objective, span));
        }
    }
    if let Indicator::Events { total, .. } = &objective.indicator {
        rules.push(no_traffic(objective, &total.rate(&PIECE)));
    }
    if condition.can_fire(budget) && window > condition.long {
        rules.push(super::burn_alert(
            objective,
            &Alert {
                name: format!("{}SLOCreepingBurn", objective.prefix),
                condition,
                severity: "warning".to_owned(),
                page: false,
                after: None,
                spend: Some(CREEPING),
            },
            Pace::REAL,
        ));
    }
    Group {
        name: format!("slo_{name}_extra"),
        rules,
    }
}

fn ratio(objective: &Objective, window: Span) -> String {
    super::error_ratio(&objective.indicator, window, Pace::REAL)
}

fn parenthesised(expr: &str) -> String {
    format!("({expr})")
}

fn no_traffic(objective: &Objective, events: &str) -> Rule {
    alert_rule(
        objective,
        format!("{}SLONoTraffic", objective.prefix),
        format!("({events} or vector(0)) == 0"),
        ("warning", false),
        Some(NO_TRAFFIC_AFTER.to_string()),
        [
            format!("{} counts no events", literal(&objective.title)),
            format!(
                "Nothing was counted for {NO_TRAFFIC_AFTER}, so its alerts ({} % may fail) cannot fire: no traffic, or no measurements.",
                percent(objective.budget().value())
            ),
        ],
    )
}
