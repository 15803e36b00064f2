//! When alerts fire and are quiet, by Prometheus' own rules test. The moments come from the arithmetic, not from a table; Prometheus sees
//! each up to one evaluation later.

use std::fmt::Write as _;

use slo::burn::{Condition, FAST, SLOW, Spend};
use slo::decimal::Decimal;
use slo::span::Span;

use super::{dir, judge, root};

/// Seconds between evaluations.
const STEP: u64 = 30;

/// Seconds of traffic without errors before the outage: the longest window.
const BEFORE: u64 = 6 * 3600;

/// A series by its selector, and its value at each sample; `None` before it exists.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<Option<f64>>,
}

/// What shall hold at a moment.
pub(super) struct Claim {
    pub(super) seconds: u64,
    pub(super) expr: String,
    /// The labels and the value that come out; nothing at all without.
    pub(super) result: Option<(String, f64)>,
}

/// A world: samples of some series, and claims about what the rules make of them.
pub(super) struct World {
    pub(super) interval: u64,
    pub(super) series: Vec<Series>,
    pub(super) claims: Vec<Claim>,
}

/// The file for `promtool test rules`.
pub(super) fn test_file(rules: &str, worlds: &[World]) -> String {
    let mut text = format!("rule_files: [{rules}]\nevaluation_interval: {STEP}s\ntests:\n");
    for world in worlds {
        writeln!(text, "  - interval: {}s\n    input_series:", world.interval).unwrap();
        for series in &world.series {
            let values: Vec<String> = series
                .values
                .iter()
                .map(|value| value.map_or("_".to_owned(), |value| value.to_string()))
                .collect();
            writeln!(
                text,
                "      - series: '{}'\n        values: '{}'",
                series.name,
                values.join(" ")
            )
            .unwrap();
        }
        if world.series.is_empty() {
            text.truncate(text.len() - 1);
            text.push_str(" []\n");
        }
        text.push_str("    promql_expr_test:\n");
        for claim in &world.claims {
            writeln!(
                text,
                "      - expr: '{}'\n        eval_time: {}s",
                claim.expr, claim.seconds
            )
            .unwrap();
            match &claim.result {
                Some((labels, value)) => {
                    writeln!(
                        text,
                        "        exp_samples: [{{labels: '{labels}', value: {value}}}]"
                    )
                    .unwrap();
                }
                None => text.push_str("        exp_samples: []\n"),
            }
        }
    }
    text
}

/// Whether an alert fires at a moment.
pub(super) fn claim(alert: &str, seconds: u64, fires: bool) -> Claim {
    Claim {
        seconds,
        expr: format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})"),
        result: fires.then(|| ("{}".to_owned(), 1.0)),
    }
}

/// Runs the rules test and asserts that it passes.
#[track_caller]
pub(super) fn assert_holds(rules: &std::path::Path, worlds: &[World]) {
    let dir = dir();
    std::fs::copy(rules, dir.join("rules.yml")).unwrap();
    std::fs::write(dir.join("test.yml"), test_file("rules.yml", worlds)).unwrap();
    let told = judge("promtool", dir.path(), &["test", "rules", "test.yml"]);
    let shown: String = told.stderr.chars().take(4000).collect();
    assert_eq!(told.code, 0, "{shown}");
}

/// The samples of a counter: events in a second in `[from, to)`, none elsewhere, every 15 seconds.
fn counter(name: &str, end: u64, rate: impl Fn(u64) -> f64) -> Series {
    let mut sum = 0.0;
    let values = (0..=end).filter_map(|second| {
        let now = sum;
        sum += rate(second);
        second.is_multiple_of(15).then_some(Some(now))
    });
    Series {
        name: name.to_owned(),
        values: values.collect(),
    }
}

const GOOD: &str = r#"http_requests_total{job="veza-backend",method="GET",status="200"}"#;
const BAD: &str = r#"http_requests_total{job="veza-backend",method="GET",status="503"}"#;

/// Reads at 50 a second, of which all fail for a while.
fn availability(outage: u64, after: u64) -> Vec<Series> {
    let end = BEFORE + outage + after;
    let fails = move |second: u64| (BEFORE..BEFORE + outage).contains(&second);
    vec![
        counter(GOOD, end, move |second| if fails(second) { 0.0 } else { 50.0 }),
        counter(BAD, end, move |second| if fails(second) { 50.0 } else { 0.0 }),
    ]
}

/// The last evaluation that is not later than the formula's moment, and the first one after it.
fn around(seconds: f64) -> [u64; 2] {
    let before = seconds as u64 / STEP * STEP;
    [before, before + STEP]
}

/// Claims about an outage that begins at `BEFORE` and lasts `outage`: silent until the moment that the formula gives, then firing, until
/// the other moment that the formula gives.
fn claims(alert: &str, spend: Spend, target: &str, outage: u64) -> Vec<Claim> {
    let budget = Decimal::parse(target).unwrap().complement();
    let condition = Condition::of(spend, Span::days(30));
    let [silent, found] = around(condition.detect_seconds(budget, 1.0).unwrap());
    let [firing, quiet] = around(condition.clear_seconds(budget, 1.0).unwrap());
    let end = BEFORE + outage;
    vec![
        claim(alert, BEFORE, false),
        claim(alert, BEFORE + silent, false),
        claim(alert, BEFORE + found, true),
        claim(alert, end, true),
        claim(alert, end + firing, true),
        claim(alert, end + quiet, false),
    ]
}

fn shipped() -> std::path::PathBuf {
    root("config/prometheus/slo.yml")
}

#[test]
fn a_total_outage_is_found_and_left_when_the_formula_says() {
    let outage = 15 * 60;
    let mut world = World {
        interval: 15,
        series: availability(outage, 3600),
        claims: claims("APIAvailabilitySLOFastBurn", FAST, "0.995", outage),
    };
    world
        .claims
        .extend(claims("APIAvailabilitySLOSlowBurn", SLOW, "0.995", outage));
    for (alert, minutes, fires) in [
        ("APIAvailabilitySLOFastBurn", 4, false),
        ("APIAvailabilitySLOFastBurn", 5, true),
        ("APIAvailabilitySLOSlowBurn", 5, false),
        ("APIAvailabilitySLOSlowBurn", 12, true),
    ] {
        world.claims.push(claim(alert, BEFORE + minutes * 60, fires));
    }
    assert_holds(&shipped(), &[world]);
}

#[test]
fn slow_writes_are_found_and_left_when_the_formula_says() {
    // Fast requests are in the bucket, all are in the count. The outage is long enough for the slow alert to be found.
    let outage = 30 * 60;
    let end = BEFORE + outage + 3600;
    let slow = move |second: u64| (BEFORE..BEFORE + outage).contains(&second);
    let labels = r#"job="veza-backend",method="POST""#;
    let series = vec![
        counter(
            &format!("http_request_duration_seconds_bucket{{{labels},le=\"0.5\"}}"),
            end,
            move |second| {
                if slow(second) { 0.0 } else { 20.0 }
            },
        ),
        counter(
            &format!("http_request_duration_seconds_count{{{labels}}}"),
            end,
            |_| 20.0,
        ),
    ];
    let mut claims_of_both = claims("APILatencySLOFastBurn", FAST, "0.99", outage);
    claims_of_both.extend(claims("APILatencySLOSlowBurn", SLOW, "0.99", outage));
    let world = World {
        interval: 15,
        series,
        claims: claims_of_both,
    };
    assert_holds(&shipped(), &[world]);
}

/// No alert at any moment of the last hours.
fn silence(end: u64) -> Claim {
    Claim {
        seconds: end,
        expr: "sum(count_over_time(ALERTS[12h]))".to_owned(),
        result: None,
    }
}

#[test]
fn nothing_fires_for_a_minute_without_traffic_or_without_errors() {
    let end = BEFORE + 3600;
    let short = 2 * 3600;
    let minute = World {
        interval: 15,
        series: availability(60, 3600),
        claims: vec![silence(end)],
    };
    let no_traffic = World {
        interval: 15,
        series: vec![
            counter(GOOD, short, |second| if second < 1800 { 50.0 } else { 0.0 }),
            counter(BAD, short, |_| 0.0),
        ],
        claims: vec![silence(short)],
    };
    let nothing_at_all = World {
        interval: 15,
        series: Vec::new(),
        claims: vec![silence(short)],
    };
    // The series of errors does not exist: the ratio is 0, and not missing.
    let no_error_yet = World {
        interval: 15,
        series: vec![counter(GOOD, short, |_| 50.0)],
        claims: vec![
            silence(short),
            Claim {
                seconds: short,
                expr: "slo:api_availability:error_ratio_rate1h".to_owned(),
                result: Some((
                    r#"slo:api_availability:error_ratio_rate1h{slo="api_availability"}"#.to_owned(),
                    0.0,
                )),
            },
        ],
    };
    assert_holds(&shipped(), &[minute, no_traffic, nothing_at_all, no_error_yet]);
}
