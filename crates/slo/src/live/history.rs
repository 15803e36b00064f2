//! What became of a budget over its period, asked from an endpoint.
//!
//! Events are counted slice by slice with the queries of the objective, so that nothing else has to be recorded.

use std::time::Duration;

use super::prometheus::{Prometheus, Sample, Trouble};
use crate::budget::{Budget, Slice};
use crate::document::schema::Part;
use crate::objective::{Indicator, Objective};
use crate::span::Span;

/// Less of a slice than this has too few samples for a rate.
const REST_MIN: u64 = 120;

/// The budget of an objective over a period that ends at a moment (milliseconds since 1970).
///
/// # Errors
/// The endpoint does not answer, or not with one series.
pub async fn budget(
    prometheus: &Prometheus,
    objective: &Objective,
    window: Span,
    at_ms: u64,
) -> Result<Budget, Trouble> {
    let step = Budget::step(window);
    let seconds = step.as_seconds();
    // Whole slices, so that days are days; what has passed of the next one is asked for by itself.
    let at = at_ms / 1000;
    let whole = at / seconds * seconds;
    let rest = (at - whole >= REST_MIN).then(|| Span::seconds(at - whole));
    let ask = async |query: &dyn Fn(Span) -> String| {
        let from = whole.saturating_sub(window.as_seconds()) + seconds;
        let mut samples = prometheus
            .range(
                &query(step),
                from * 1000,
                whole * 1000,
                Duration::from_secs(seconds),
            )
            .await?;
        if let Some(rest) = rest {
            let value = prometheus.instant(&query(rest), at * 1000).await?;
            samples.extend(value.map(|value| (at as f64, value)));
        }
        Ok::<_, Trouble>(samples)
    };
    let length = |until: u64| if until == at { rest.unwrap_or(step) } else { step }.as_seconds();
    let slices = match &objective.indicator {
        Indicator::Events { part_is, part, total } => {
            let total = ask(&|span| total.rate(&span)).await?;
            let part = ask(&|span| part.rate(&span)).await?;
            join(&total, &part, *part_is, length)
        }
        Indicator::Raw { ratio_of, query } => {
            let ratios = ask(&|span| query.mean(&span)).await?;
            // Every second weighs the same: how many events there were nobody says.
            let all: Vec<Sample> = ratios.iter().map(|(at, _)| (*at, 1.0)).collect();
            join(&all, &ratios, *ratio_of, length)
        }
    };
    Ok(Budget {
        budget: objective.budget(),
        window,
        step,
        slices,
        at,
    })
}

/// Slices of rates. Where the part is missing there were none of it.
fn join(total: &[Sample], part: &[Sample], part_is: Part, length: impl Fn(u64) -> u64) -> Vec<Slice> {
    let second = |at: f64| at.round() as u64;
    let parts: std::collections::BTreeMap<u64, f64> =
        part.iter().map(|(at, rate)| (second(*at), *rate)).collect();
    let slices = total.iter().filter(|(_, rate)| *rate > 0.0).map(|(at, rate)| {
        let part = parts.get(&second(*at)).copied().unwrap_or(0.0).clamp(0.0, *rate);
        let bad = match part_is {
            Part::Bad => part,
            Part::Good => rate - part,
        };
        let until = second(*at);
        let seconds = length(until);
        Slice {
            from: until - seconds,
            until,
            total: rate * seconds as f64,
            bad: bad * seconds as f64,
        }
    });
    slices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_nothing() {
        let total = [(60.0, 2.0), (120.0, 2.0), (180.0, 0.0)];
        let bads = |part_is| {
            let slices = join(&total, &[(120.0, 0.5)], part_is, |_| 10);
            slices
                .iter()
                .map(|slice| (slice.until, slice.total, slice.bad))
                .collect::<Vec<_>>()
        };
        assert_eq!(bads(Part::Bad), [(60, 20.0, 0.0), (120, 20.0, 5.0)]);
        assert_eq!(bads(Part::Good), [(60, 20.0, 20.0), (120, 20.0, 15.0)]);
    }
}
