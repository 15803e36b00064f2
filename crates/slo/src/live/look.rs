//! Looking at objectives: which queries are asked, and what their answers say together.
//!
//! Objectives are asked about side by side, a few at a time. After an endpoint has not answered some queries in a row the rest of the round
//! is left out: each would wait for as long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use service::clock::Stopwatch;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::machine::{Data, Look, Reading};
use super::prometheus::{Prometheus, Trouble};
use crate::objective::{Indicator, Objective};
use crate::pace::Pace;
use crate::query::Query;
use crate::rules::{self, INTERVAL};
use crate::span::Span;

/// Objectives that are asked about at the same time. Prometheus works on twenty queries at once by default.
const ASKED_AT_ONCE: usize = 12;

/// Failures in a row after which a round gives up.
const STRIKES: u32 = 3;

/// How it is looked.
#[derive(Debug, Clone)]
pub struct Eye {
    /// At what.
    pub prometheus: Prometheus,
    /// How fast time runs.
    pub pace: Pace,
    /// A measurement older than this is stale, in milliseconds.
    pub stale_ms: u64,
}

/// What a round has seen.
#[derive(Debug)]
pub struct Round {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// A look at each objective, in their order.
    pub looks: Vec<Look>,
    /// Error ratios over the whole periods, if they were asked for.
    pub periods: Vec<Reading>,
    /// Why the endpoint counts as down: no query was answered.
    pub down: Option<String>,
    /// Queries that were not answered.
    pub failures: u64,
    /// How long it took.
    pub seconds: f64,
}

/// The course of a round.
#[derive(Debug, Default)]
struct Course {
    answered: AtomicU64,
    failed: AtomicU64,
    strikes: AtomicU32,
}

impl Eye {
    /// An eye on an endpoint that is looked at every so many milliseconds.
    pub fn new(prometheus: Prometheus, pace: Pace, interval_ms: u64) -> Eye {
        // Two intervals, and never less than two of the interval that rules have.
        Eye {
            prometheus,
            pace,
            stale_ms: 2 * interval_ms.max(pace.ms(INTERVAL)),
        }
    }

    /// Looks at all objectives as of a moment.
    pub async fn round(&self, objectives: &Arc<Vec<Objective>>, at_ms: u64, with_periods: bool) -> Round {
        let watch = Stopwatch::start();
        let course = Arc::new(Course::default());
        let places = Arc::new(Semaphore::new(ASKED_AT_ONCE));
        let mut tasks = JoinSet::new();
        for number in 0..objectives.len() {
            let (eye, course, places) = (self.clone(), course.clone(), places.clone());
            let objectives = objectives.clone();
            tasks.spawn(async move {
                // It is never closed.
                let _place = places.acquire().await;
                let objective = &objectives[number];
                let look = eye.look(objective, at_ms, &course).await;
                let period = if with_periods {
                    eye.ratio(objective, objective.window, at_ms, &course)
                        .await
                        .unwrap_or(Reading::Unknown)
                } else {
                    Reading::Unknown
                };
                (number, look, period)
            });
        }
        let mut looks: Vec<Look> = vec![Look::blind(at_ms, "not asked"); objectives.len()];
        let mut periods = vec![Reading::Unknown; objectives.len()];
        while let Some(done) = tasks.join_next().await {
            // A task that panicked has said so; its objective stays unseen.
            if let Ok((number, look, period)) = done {
                looks[number] = look;
                periods[number] = period;
            }
        }
        let failures = course.failed.load(Ordering::Relaxed);
        let is_down = failures > 0 && course.answered.load(Ordering::Relaxed) == 0;
        let why = looks.iter().find_map(|look| match &look.data {
            Data::EndpointDown(why) if why != LEFT_OUT => Some(why.clone()),
            _ => None,
        });
        Round {
            at_ms,
            looks,
            periods,
            down: is_down.then(|| why.unwrap_or_else(|| LEFT_OUT.to_owned())),
            failures,
            seconds: watch.elapsed_seconds(),
        }
    }

    /// Looks at one objective.
    async fn look(&self, objective: &Objective, at_ms: u64, course: &Course) -> Look {
        let mut look = Look {
            at_ms,
            ratios: BTreeMap::new(),
            events: BTreeMap::new(),
            data: Data::Fresh,
        };
        let mut trouble = None;
        let mut note = |answer: Result<Reading, Trouble>| {
            answer.unwrap_or_else(|why| {
                trouble.get_or_insert(why);
                Reading::Unknown
            })
        };
        for window in objective.windows() {
            let answer = self.ratio(objective, window, at_ms, course).await;
            look.ratios.insert(window, note(answer));
        }
        for alert in &objective.alerts {
            let long = alert.condition.long;
            if let Some((_, query)) = rules::events_in(objective, long, self.pace) {
                let answer = self.ask(&query, at_ms, course).await;
                look.events.insert(long, note(answer));
            }
        }
        let mut newest_at = None;
        if let Some(query) = newest(objective) {
            newest_at = Some(note(self.ask(&query, at_ms, course).await));
        }
        look.data = match trouble {
            Some(Trouble::Refused(why)) => Data::Invalid(why),
            Some(Trouble::Down(why) | Trouble::Slow(why)) => Data::EndpointDown(why),
            None => self.state(&look, newest_at),
        };
        look
    }

    /// What the measurements are like, if every query was answered.
    fn state(&self, look: &Look, newest: Option<Reading>) -> Data {
        let is_counted = look
            .ratios
            .values()
            .any(|ratio| matches!(ratio, Reading::Number(_)));
        match newest {
            Some(Reading::Number(newest)) => {
                let age_ms = look.at_ms.saturating_sub((newest * 1000.0) as u64);
                if age_ms > self.stale_ms {
                    Data::Stale(age_ms / 1000)
                } else if is_counted {
                    Data::Fresh
                } else {
                    Data::NoTraffic
                }
            }
            Some(Reading::Unknown) | None if is_counted => Data::Fresh,
            // Windows may still hold what was measured before. An expression does not say which series it is made of.
            Some(_) | None => Data::NoData,
        }
    }

    /// The error ratio over a window, by the expression that the rules record.
    async fn ratio(
        &self,
        objective: &Objective,
        window: Span,
        at_ms: u64,
        course: &Course,
    ) -> Result<Reading, Trouble> {
        let query = rules::error_ratio(&objective.indicator, window, self.pace);
        self.ask(&query, at_ms, course).await
    }

    async fn ask(&self, query: &str, at_ms: u64, course: &Course) -> Result<Reading, Trouble> {
        if course.strikes.load(Ordering::Relaxed) >= STRIKES {
            return Err(Trouble::Down(LEFT_OUT.to_owned()));
        }
        match self.prometheus.instant(query, at_ms).await {
            Ok(value) => {
                course.answered.fetch_add(1, Ordering::Relaxed);
                course.strikes.store(0, Ordering::Relaxed);
                Ok(value.map_or(Reading::Nothing, Reading::Number))
            }
            Err(trouble) => {
                course.failed.fetch_add(1, Ordering::Relaxed);
                match trouble {
                    // It is there, and answers.
                    Trouble::Refused(_) => course.answered.fetch_add(1, Ordering::Relaxed),
                    Trouble::Down(_) | Trouble::Slow(_) => {
                        u64::from(course.strikes.fetch_add(1, Ordering::Relaxed))
                    }
                };
                Err(trouble)
            }
        }
    }
}

/// What is said of queries that were not made.
const LEFT_OUT: &str = "left out, since others were not answered";

/// The expression for the moment of the newest measurement, where the series are known.
fn newest(objective: &Objective) -> Option<String> {
    let query = match &objective.indicator {
        Indicator::Events { total, .. } => total,
        Indicator::Raw { query, .. } => query,
    };
    match query {
        Query::Selector(selector) => Some(format!("max(timestamp({}))", selector.text())),
        Query::Expression(_) => None,
    }
}
