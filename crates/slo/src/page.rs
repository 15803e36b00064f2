//! The runbook of an objective's alerts: a frame in which every number is computed, with places for what people know.
//!
//! Text between `<!-- keep -->` and `<!-- /keep -->` belongs to people: it is taken over from the page as it is, by the section it stands
//! in. A page that would lose something is not written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::burn;
use crate::decimal::short;
use crate::document::schema::Part;
use crate::objective::{Alert, Indicator, Objective};
use crate::query::Query;
use crate::rules::{percent, ratio_series};
use crate::span::{Span, spoken};

const NOTICE: &str = "<!-- Made by `slo runbooks`: edit between the keep marks only, the rest is made again from the objective. -->";
const KEEP: &str = "<!-- keep -->";
const END: &str = "<!-- /keep -->";

/// Whether the head of a page, which ends at its first section, names an alert.
pub fn names(text: &str, alert: &str) -> bool {
    let head = text.lines().take_while(|line| !line.starts_with("## "));
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    head.flat_map(|line| line.split(|letter| !is_part(letter)))
        .any(|word| word == alert)
}

/// The page. What people wrote into `existing` is kept.
///
/// # Errors
/// If `existing` was not made here, or has something to keep for which there is no place.
pub fn write(objective: &Objective, existing: Option<&str>) -> Result<String, String> {
    let mut kept = match existing {
        Some(text) if !text.contains(NOTICE) => {
            return Err("was not made by `slo runbooks`; move it away, and put what is in it between the keep marks of the new one".to_owned());
        }
        Some(text) => read_kept(text)?,
        None => BTreeMap::new(),
    };
    let mut page = Page {
        text: String::new(),
        kept: &mut kept,
    };
    frame(&mut page, objective);
    let text = page.text;
    match kept.first_key_value() {
        Some((section, _)) => Err(format!(
            "has text to keep in section {section:?}, which does not exist any more; move it to another section"
        )),
        None => Ok(text),
    }
}

/// What stands between marks, by the heading above.
fn read_kept(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut kept = BTreeMap::new();
    let mut section = String::new();
    let mut open: Option<String> = None;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        match (line.trim_end(), &mut open) {
            (KEEP, None) => open = Some(String::new()),
            (KEEP, Some(_)) => {
                return Err(format!(
                    "line {number}: {KEEP} inside of another; the one before is not closed by {END}"
                ));
            }
            (END, None) => return Err(format!("line {number}: {END} without {KEEP} before it")),
            (END, Some(_)) => {
                let body = open.take().unwrap_or_default();
                if kept.insert(section.clone(), body).is_some() {
                    return Err(format!(
                        "line {number}: section {section:?} has two texts to keep; make one of them"
                    ));
                }
            }
            (_, Some(body)) => body.push_str(line),
            (line, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut section);
                }
            }
        }
    }
    match open {
        Some(_) => Err(format!("{KEEP} in section {section:?} is not closed by {END}")),
        None => Ok(kept),
    }
}

struct Page<'k> {
    text: String,
    kept: &'k mut BTreeMap<String, String>,
}

impl Page<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line(format!("\n## {title}\n"));
    }

    /// The place of a section for people's text.
    fn keep(&mut self, section: &str, default: &str) {
        let body = self
            .kept
            .remove(section)
            .unwrap_or_else(|| format!("\n{default}\n\n"));
        self.line(format!("\n{KEEP}"));
        self.text.push_str(&body);
        self.line(END);
    }

    fn step(&mut self, attributes: &str, command: &str, output: &str) {
        self.line(format!(
            "```sh {attributes}\n{command}\n```\n\n```output\n{output}\n```"
        ));
    }
}

fn frame(page: &mut Page<'_>, objective: &Objective) {
    let series = objective.series();
    let (budget, window) = (objective.budget(), objective.window);
    page.line(format!("# {}: the error budget burns", objective.title));
    page.line(format!("\n{NOTICE}\n"));
    let alerts: Vec<&str> = objective.alerts.iter().map(|alert| alert.name.as_str()).collect();
    page.line(format!("alert: {}\n", alerts.join(", ")));
    if let Some(description) = &objective.description {
        page.line(description);
    }
    page.line(format!(
        "{} % over {window} leave a budget of {} of total outage. Owner: on-call of {}.",
        percent(objective.target.value()),
        spoken(burn::budget_seconds(budget, window)),
        objective.service,
    ));

    page.section("Symptom");
    symptom(page, objective);

    page.section("Parameters");
    page.line("| param | default | meaning |\n|---|---|---|");
    page.line("| PROMETHEUS | http://127.0.0.1:9090 | where the rules are evaluated |");

    page.section("Checks");
    page.line("First moves, in less than five minutes.\n\n### 1. Is it still going on?\n");
    let windows: Vec<String> = objective.windows().iter().map(Span::to_string).collect();
    let width = windows.iter().map(String::len).max().unwrap_or(0);
    page.step(
        "step=ratios",
        &format!(
            "for window in {}; do\n  printf '%-{width}s  ' $window\n  curl -fsS \"$PROMETHEUS/api/v1/query\" --data-urlencode \"query=slo:{series}:error_ratio_rate$window\" |\n    \
             sed 's/.*\"value\":\\[[0-9.]*,\"\\([^\"]*\\)\"\\].*/\\1/; t; s/.*/no traffic/'\n  echo\ndone",
            windows.join(" ")
        ),
        &windows.iter().map(|window| format!("{window:width$}  [..]\n...")).collect::<Vec<_>>().join("\n"),
    );
    let shortest = objective
        .windows()
        .first()
        .copied()
        .unwrap_or(crate::rules::INTERVAL);
    page.line(format!(
        "\nThe first is `{}`: below the thresholds above it is over, and the alert ends by itself. `no traffic` is an outage of its own.",
        ratio_series(objective, shortest)
    ));
    page.line("\n### 2. Which alerts fire?\n");
    page.step(
        "step=alerts",
        &format!(
            "curl -fsS \"$PROMETHEUS/api/v1/query\" --data-urlencode 'query=ALERTS{{slo=\"{series}\"}}'; echo"
        ),
        "{\"status\":\"success\",[..]",
    );
    if let Some(query) = what_fails(objective) {
        page.line(format!("\n### 3. What fails?\n\nIn Prometheus, split by whatever labels there are:\n\n```promql\n{query}\n```"));
    }
    page.line("\n### Common causes");
    page.keep("Checks", CAUSES);

    page.section("Fix");
    page.line("End the errors first, find the reason afterwards.");
    page.keep("Fix", FIX);

    page.section("Proof");
    page.line("What to wait for after all errors have ended:\n");
    for alert in &objective.alerts {
        let clear = alert
            .condition
            .clear_seconds(budget, 1.0)
            .map_or("-".to_owned(), spoken);
        page.line(format!(
            "- `{}` ends at the latest {clear} later, when its window of {} holds few enough errors.",
            alert.name, alert.condition.short
        ));
    }
    page.line("");
    page.step(
        "step=quiet retry=30m",
        &format!(
            "curl -fsS \"$PROMETHEUS/api/v1/query\" --data-urlencode 'query=ALERTS{{slo=\"{series}\",alertstate=\"firing\"}}' |\n  grep '\"result\":\\[\\]'"
        ),
        "[..]\"result\":[][..]",
    );
    page.keep("Proof", "What else shows that users are served again:");

    page.section("Prevention");
    page.line("A postmortem is due when somebody was paged, or when one incident has spent a quarter of the budget:");
    page.line(format!(
        "{} of total outage within {window}.",
        spoken(burn::budget_seconds(budget, window) / 4.0)
    ));
    page.keep("Prevention", "What was learned:");
}

fn symptom(page: &mut Page<'_>, objective: &Objective) {
    let (budget, window) = (objective.budget(), objective.window);
    page.line("| alert | fires while more than | over | which spends | and goes to |\n|---|---|---|---|---|");
    for alert in &objective.alerts {
        let condition = &alert.condition;
        let spent = match alert.spend {
            Some(spend) => format!("{} % of the budget within {}", spend.percent, spend.within),
            None => format!("the budget in {}", spoken(condition.exhausted_seconds(window))),
        };
        let whom = if alert.page { "the pager" } else { "tickets" };
        page.line(format!(
            "| `{}` | {} % fail | {} and {} | {spent} | {whom} |",
            alert.name,
            percent(condition.threshold(budget).value()),
            condition.long,
            condition.short,
        ));
    }
    page.line("\nWhat that means in time:\n");
    page.line("| alert | burn rate | at that rate the budget is gone in | found, if all fails, after | if half fails |\n|---|---|---|---|---|");
    for alert in &objective.alerts {
        let condition = &alert.condition;
        let detect = |ratio: f64| {
            condition
                .detect_seconds(budget, ratio)
                .map_or("never".to_owned(), spoken)
        };
        page.line(format!(
            "| `{}` | {} | {} | {} | {} |",
            alert.name,
            condition.factor,
            spoken(condition.exhausted_seconds(window)),
            detect(1.0),
            detect(0.5)
        ));
    }
    page.line(format!(
        "\nA total outage of 60s spends {} % of the budget{}.",
        short(burn::spent(budget, window, 1.0, 60.0) * 100.0, 2),
        minute(&objective.alerts, objective)
    ));
}

/// What a minute of outage makes fire.
fn minute(alerts: &[Alert], objective: &Objective) -> String {
    let fire: Vec<&str> = alerts
        .iter()
        .filter(|alert| alert.condition.fires_on(objective.budget(), 1.0, 60.0))
        .map(|alert| alert.name.as_str())
        .collect();
    match &fire[..] {
        [] => " and fires nothing; it is over before anybody could do something".to_owned(),
        some => format!(" and fires {}", some.join(", ")),
    }
}

/// A query that shows which events are the bad ones.
fn what_fails(objective: &Objective) -> Option<String> {
    let mut query = String::new();
    match &objective.indicator {
        Indicator::Events {
            part_is: Part::Bad,
            part: Query::Selector(bad),
            ..
        } => write!(query, "topk(10, rate({}[5m]) > 0)", bad.text()),
        Indicator::Events {
            part_is: Part::Good,
            part: Query::Selector(good),
            total: Query::Selector(total),
        } => write!(
            query,
            "topk(10, rate({}[5m]) - ignoring(le) rate({}[5m]) > 0)",
            total.text(),
            good.text()
        ),
        _ => return None,
    }
    .expect("a String takes everything");
    Some(query)
}

const CAUSES: &str = "\
| seen | likely cause | look at |
|---|---|---|
| it began with a deployment | the new version | roll it back, then read its errors |
| all of it fails at once | something it stands on is gone | the database, the network, certificates |
| one instance fails | that machine | take it out of the load balancer |";

const FIX: &str = "\
- Roll back what was deployed last, if the errors began with it.
- Take an instance out of traffic that fails alone.
- Switch off the feature that fails, if there is a switch.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_page_names_alerts() {
        let page = "# T\n\nalert: AFastBurn, ASlowBurn\n\n## Symptom\n\nBFastBurn\n";
        assert!(names(page, "AFastBurn") && names(page, "ASlowBurn"));
        assert!(!names(page, "BFastBurn") && !names(page, "AFast"));
        assert!(names("> **Alerts** : `AFastBurn`\n", "AFastBurn"));
    }

    #[test]
    fn marks_are_read_strictly() {
        let kept =
            read_kept("## A\n<!-- keep -->\none\n<!-- /keep -->\n## B\n<!-- keep -->\n<!-- /keep -->\n")
                .unwrap();
        assert_eq!(kept["A"], "one\n");
        assert_eq!(kept["B"], "");
        for (text, expected) in [
            ("<!-- keep -->\n<!-- keep -->\n", "line 2"),
            ("<!-- /keep -->\n", "line 1"),
            ("## A\n<!-- keep -->\n", "\"A\" is not closed"),
            (
                "<!-- keep -->\n<!-- /keep -->\n<!-- keep -->\n<!-- /keep -->\n",
                "two texts",
            ),
        ] {
            let told = read_kept(text).unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
