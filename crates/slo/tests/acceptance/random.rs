//! `slo simulate` against `promtool test rules`, and what `slo run` decides against both: the same moments for patterns that chance has chosen.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use slo::burn::{Condition, FAST, SLOW};
use slo::decimal::Decimal;
use slo::document::{Findings, parse};
use slo::live::machine::{Data, Look, Memory, Reading, decide};
use slo::objective::{Alert, Objective, resolve};
use slo::pace::Pace;
use slo::simulate::{Samples, Setting, Stretch, firings};
use slo::span::Span;

use super::firing::{Claim, Series, World, assert_holds, claim};
use super::{dir, slo, text};

/// Objectives with different budgets and periods: name, target, period.
const OBJECTIVES: [(&str, &str, u64); 4] = [
    ("a", "0.995", 30),
    ("b", "0.99", 28),
    ("c", "0.999", 30),
    ("d", "0.9", 7),
];

/// Worlds that are compared in a run.
const WORLDS: usize = 20;

fn document((name, target, days): (&str, &str, u64)) -> String {
    format!(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{ name: {name} }}\nspec:\n  service: x\n  budgetingMethod: Occurrences\n  \
         timeWindow: [{{ duration: {days}d }}]\n  indicator:\n    spec:\n      ratioMetric:\n        \
         bad: {{ metricSource: {{ spec: {{ query: {name}_bad }} }} }}\n        \
         total: {{ metricSource: {{ spec: {{ query: {name}_total }} }} }}\n  objectives: [{{ target: {target} }}]\n---\n"
    )
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let tens = prop_oneof![1..40_u64, 40..300_u64];
    (tens, prop_oneof![Just(0.0), Just(1.0), 0.001..1.0]).prop_map(|(tens, error_ratio)| Stretch {
        seconds: tens * 10,
        error_ratio,
    })
}

/// Services that have just begun, that are younger than their windows, and older ones.
fn setting() -> impl Strategy<Value = Setting> {
    let scrape = prop_oneof![Just(10), Just(15), Just(20), Just(30), Just(60)];
    let before = prop_oneof![3 => 0..20_u64, 3 => 20..120_u64, 2 => Just(720_u64)];
    (scrape, 1..500_u64, before).prop_map(|(scrape, rate, before)| Setting {
        events_per_second: rate as f64 / 10.0,
        scrape,
        evaluate: 30,
        before: before * 30,
    })
}

/// The world of a pattern, with what we say of it.
fn world((name, target, days): (&str, &str, u64), setting: Setting, stretches: &[Stretch]) -> World {
    let budget = Decimal::parse(target).unwrap().complement();
    let outage: u64 = stretches.iter().map(|stretch| stretch.seconds).sum();
    // The last claim is made when the fast alert is quiet and the slow one usually is.
    let after = 2400;
    let samples = Samples::of(setting, stretches, after);
    let series = [("total", &samples.total), ("bad", &samples.bad)].map(|(kind, values)| Series {
        name: format!("{name}_{kind}"),
        values: values.iter().copied().map(Some).collect(),
    });
    let end = (setting.before + outage + after) / 30 * 30;
    let mut claims = Vec::new();
    for (kind, spend) in [("FastBurn", FAST), ("SlowBurn", SLOW)] {
        let alert = format!("{}SLO{kind}", name.to_uppercase());
        let condition = Condition::of(spend, Span::days(days));
        let mut count = 0;
        for firing in firings(setting, stretches, &condition, budget) {
            let moment = |since: i64| u64::try_from(since + setting.before as i64).unwrap();
            let from = moment(firing.from);
            let until = firing.until.map_or(end + 30, moment).min(end + 30);
            if from > end {
                continue;
            }
            count += (until - from) / 30;
            claims.push(claim(&alert, from, true));
            claims.extend(from.checked_sub(30).map(|before| claim(&alert, before, false)));
            claims.push(claim(&alert, until - 30, true));
            if until <= end {
                claims.push(claim(&alert, until, false));
            }
        }
        // And at no other moment.
        claims.push(Claim {
            seconds: end,
            expr: format!("sum(count_over_time(ALERTS{{alertname=\"{alert}\"}}[1d]))"),
            result: (count > 0).then(|| ("{}".to_owned(), count as f64)),
        });
    }
    World {
        interval: setting.scrape,
        series: series.into(),
        claims,
    }
}

#[test]
fn simulation_and_prometheus_agree() {
    let seed = std::env::var("SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    });
    let pattern = (
        0..OBJECTIVES.len(),
        setting(),
        prop::collection::vec(stretch(), 1..4),
    );
    let worlds: Vec<World> = (0..WORLDS)
        .map(|_| {
            let (objective, setting, stretches) = pattern.new_tree(&mut runner).unwrap().current();
            world(OBJECTIVES[objective], setting, &stretches)
        })
        .collect();
    let firing = worlds
        .iter()
        .flat_map(|world| &world.claims)
        .filter(|claim| claim.result.is_some())
        .count();
    assert!(firing > WORLDS, "chance has chosen patterns that say something");

    let dir = dir();
    let documents: String = OBJECTIVES.iter().map(|objective| document(*objective)).collect();
    std::fs::write(dir.join("all.yaml"), documents).unwrap();
    slo(&["generate", text(&dir.join("all.yaml")), "--out", text(dir.path())]).ok();
    assert_holds(&dir.join("slo.yml"), &worlds);
}

/// What the live evaluator makes of a pattern: when an alert fires, in seconds since the first stretch.
fn evaluated(
    objective: &Objective,
    setting: Setting,
    stretches: &[Stretch],
    alert: &Alert,
) -> Vec<(i64, Option<i64>)> {
    // As long as the simulation plays.
    let samples = Samples::of(
        setting,
        stretches,
        alert.condition.long.as_seconds() + 2 * setting.evaluate,
    );
    let end = samples.total.len() as u64 * setting.scrape;
    let mut memory = Memory::default();
    let mut found: Vec<(i64, Option<i64>)> = Vec::new();
    let mut was_firing = false;
    for now in (0..end).step_by(usize::try_from(setting.evaluate).unwrap()) {
        let since = now as i64 - setting.before as i64;
        let ratios = objective.windows().into_iter().map(|window| {
            let ratio = samples.error_ratio(now, window);
            (window, ratio.map_or(Reading::Nothing, Reading::Number))
        });
        let look = Look {
            at_ms: now * 1000,
            ratios: ratios.collect(),
            events: BTreeMap::new(),
            data: Data::Fresh,
        };
        decide(objective, &look, &mut memory, Pace::REAL);
        let fires = memory.fires(&alert.name);
        if fires && !was_firing {
            found.push((since, None));
        } else if was_firing
            && !fires
            && let Some(last) = found.last_mut()
        {
            last.1 = Some(since);
        }
        was_firing = fires;
    }
    found
}

/// The other test holds the simulation and Prometheus together.
#[test]
fn the_live_evaluator_and_the_simulation_agree() {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(2),
        ..Config::default()
    });
    let pattern = (
        0..OBJECTIVES.len(),
        setting(),
        prop::collection::vec(stretch(), 1..4),
    );
    let mut fired = 0;
    for _ in 0..200 {
        let (number, setting, stretches) = pattern.new_tree(&mut runner).unwrap().current();
        let mut findings = Findings::default();
        let documents = parse(
            "a.yaml",
            document(OBJECTIVES[number]).trim_end_matches("---\n"),
            false,
            &mut findings,
        );
        let objective = resolve(&documents, &mut findings).remove(0);
        for alert in &objective.alerts {
            let expected = firings(setting, &stretches, &alert.condition, objective.budget());
            let expected: Vec<(i64, Option<i64>)> = expected
                .iter()
                .map(|firing| (firing.from, firing.until))
                .collect();
            let found = evaluated(&objective, setting, &stretches, alert);
            assert_eq!(found, expected, "{}: {setting:?} {stretches:?}", alert.name);
            fired += found.len();
        }
    }
    assert!(
        fired > 100,
        "chance has chosen patterns that say something: {fired}"
    );
}
