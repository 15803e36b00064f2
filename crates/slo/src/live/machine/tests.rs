//! Alerts over time, step by step.

use super::*;
use crate::document::{Findings, parse};
use crate::objective::resolve;

const SLO: &str = "
apiVersion: openslo/v1
kind: SLO
metadata: { name: api, annotations: { mainstay/alert-name: API } }
spec:
  service: backend
  budgetingMethod: Occurrences
  timeWindow: [{ duration: 30d }]
  indicator:
    spec:
      ratioMetric:
        bad: { metricSource: { spec: { query: bad } } }
        total: { metricSource: { spec: { query: total } } }
  objectives: [{ target: 0.995 }]
";

const MINUTE: u64 = 60_000;

fn objective(text: &str) -> Objective {
    let mut findings = Findings::default();
    let documents = parse("f.yaml", text, false, &mut findings);
    let mut objectives = resolve(&documents, &mut findings);
    assert!(findings.mistakes.is_empty(), "{findings:?}");
    objectives.remove(0)
}

/// Ratios over 5m, 30m, 1h and 6h.
fn look(at_ms: u64, ratios: [Reading; 4]) -> Look {
    let windows = [5, 30, 60, 360].map(Span::minutes);
    Look {
        at_ms,
        ratios: windows.into_iter().zip(ratios).collect(),
        events: BTreeMap::new(),
        data: Data::Fresh,
    }
}

fn all(at_ms: u64, ratio: f64) -> Look {
    look(at_ms, [Reading::Number(ratio); 4])
}

/// Plays looks; alert and what is told of it, with the minute.
struct Play {
    objective: Objective,
    memory: Memory,
}

impl Play {
    fn new() -> Play {
        Play {
            objective: objective(SLO),
            memory: Memory::default(),
        }
    }

    fn see(&mut self, look: &Look) -> Vec<String> {
        decide(&self.objective, look, &mut self.memory, Pace::REAL)
            .into_iter()
            .map(|event| format!("{} {:?}", event.alert, event.what))
            .collect()
    }
}

const NONE: [String; 0] = [];

#[test]
fn the_page_is_told_once_an_hour_and_the_ticket_when_the_page_has_ended() {
    let mut play = Play::new();
    assert_eq!(play.see(&all(0, 0.07)), ["APISLOSlowBurn Begins"]);
    assert_eq!(play.see(&all(MINUTE, 0.072)), NONE, "not above the threshold");
    assert_eq!(play.see(&all(2 * MINUTE, 0.08)), ["APISLOFastBurn Begins"]);
    assert_eq!(play.see(&all(61 * MINUTE, 0.08)), NONE);
    assert_eq!(play.see(&all(62 * MINUTE, 0.08)), ["APISLOFastBurn GoesOn"]);
    assert_eq!(play.see(&all(63 * MINUTE, 0.08)), NONE);
    assert_eq!(play.see(&all(64 * MINUTE, 0.05)), ["APISLOFastBurn Ends"]);
    assert_eq!(play.see(&all(65 * MINUTE, 0.0)), ["APISLOSlowBurn Ends"]);
    assert!(play.memory.alerts.is_empty());
}

#[test]
fn a_ticket_is_not_told_while_a_page_fires_and_then_it_is() {
    let mut play = Play::new();
    assert_eq!(play.see(&all(0, 1.0)), ["APISLOFastBurn Begins"]);
    assert!(play.memory.fires("APISLOSlowBurn"));
    let short_over = [
        Reading::Number(0.0),
        Reading::Number(0.5),
        Reading::Number(0.5),
        Reading::Number(0.5),
    ];
    assert_eq!(
        play.see(&look(MINUTE, short_over)),
        ["APISLOFastBurn Ends", "APISLOSlowBurn Begins"]
    );
    // One that was never told ends without a word.
    let mut play = Play::new();
    play.see(&all(0, 1.0));
    assert_eq!(play.see(&all(MINUTE, 0.0)), ["APISLOFastBurn Ends"]);
}

#[test]
fn what_cannot_be_seen_changes_nothing_and_no_events_end_an_alert() {
    let mut play = Play::new();
    play.see(&all(0, 1.0));
    let before = play.memory.clone();
    assert_eq!(play.see(&Look::blind(MINUTE, "connection refused")), NONE);
    assert_eq!(play.see(&look(2 * MINUTE, [Reading::Unknown; 4])), NONE);
    assert_eq!(play.memory, before);
    // One window that is seen to be low is enough to know.
    let partly = [
        Reading::Number(0.0),
        Reading::Unknown,
        Reading::Unknown,
        Reading::Unknown,
    ];
    assert_eq!(
        play.see(&look(3 * MINUTE, partly)),
        ["APISLOFastBurn Ends", "APISLOSlowBurn Begins"]
    );
    assert_eq!(
        play.see(&look(4 * MINUTE, [Reading::Nothing; 4])),
        ["APISLOSlowBurn Ends"]
    );
}

#[test]
fn missing_data_is_a_ticket_after_five_minutes() {
    let mut play = Play::new();
    let missing = |minute: u64, data: Data| Look {
        data,
        ..look(minute * MINUTE, [Reading::Nothing; 4])
    };
    assert_eq!(play.see(&missing(0, Data::NoData)), NONE);
    assert_eq!(play.see(&missing(4, Data::Stale(100))), NONE);
    assert_eq!(play.see(&missing(5, Data::NoData)), ["APISLONoData Begins"]);
    assert_eq!(play.see(&Look::blind(6 * MINUTE, "x")), NONE);
    assert_eq!(play.see(&missing(7, Data::NoTraffic)), ["APISLONoData Ends"]);
    // A gap that is shorter is told to nobody.
    assert_eq!(play.see(&missing(8, Data::NoData)), NONE);
    assert_eq!(play.see(&missing(12, Data::Fresh)), NONE);
    assert_eq!(play.see(&missing(13, Data::NoData)), NONE);
}

#[test]
fn an_endpoint_that_is_away_is_one_ticket() {
    let mut memory = Memory::default();
    let mut down = |minute: u64, is_down: bool| {
        let events = decide_endpoint(is_down, minute * MINUTE, &mut memory, Pace::REAL);
        events.iter().map(|event| event.what).collect::<Vec<_>>()
    };
    assert_eq!(down(0, true), []);
    assert_eq!(down(5, true), [What::Begins]);
    assert_eq!(down(6, true), []);
    assert_eq!(down(7, false), [What::Ends]);
}

#[test]
fn time_may_run_faster() {
    let objective = objective(SLO);
    let mut memory = Memory::default();
    let pace = Pace::of(60).unwrap();
    let mut see = |at_ms: u64, ratio: f64| decide(&objective, &all(at_ms, ratio), &mut memory, pace).len();
    assert_eq!(see(0, 1.0), 1);
    assert_eq!(see(59_999, 1.0), 0);
    assert_eq!(see(60_000, 1.0), 1, "told again after an hour of a minute");
}

#[test]
fn few_events_say_nothing() {
    let text = SLO.replace(
        "mainstay/alert-name: API",
        "mainstay/alert-name: API, mainstay/min-events: '10'",
    );
    let objective = objective(&text);
    let mut memory = Memory::default();
    let mut see = |events: Reading| {
        let mut look = all(0, 1.0);
        look.events = [60, 360].map(|minutes| (Span::minutes(minutes), events)).into();
        decide(&objective, &look, &mut memory, Pace::REAL).len()
    };
    assert_eq!(see(Reading::Number(9.0)), 0);
    assert_eq!(see(Reading::Nothing), 0);
    assert_eq!(see(Reading::Unknown), 0);
    assert_eq!(see(Reading::Number(10.0)), 1);
}

#[test]
fn alerts_that_do_not_exist_any_more_end() {
    let mut play = Play::new();
    play.see(&all(0, 1.0));
    let events = forget(&[], &mut play.memory, MINUTE);
    let told: Vec<&str> = events.iter().map(|event| event.alert.as_str()).collect();
    assert_eq!(told, ["APISLOFastBurn"], "the ticket was never told");
    assert!(play.memory.alerts.is_empty());
}

#[test]
fn memory_survives_being_stored() {
    let mut play = Play::new();
    play.see(&all(0, 1.0));
    let stored = serde_json::to_string(&play.memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&stored).unwrap(), play.memory);
}
