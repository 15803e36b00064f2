//! `rate()` of Prometheus over a counter that never falls.

use crate::span::Span;

/// Samples farther from the edge of the window than this many intervals are taken to begin or end there.
const NEAR: f64 = 1.1;

/// Events in a second over a window that ends at `now`; both of its ends belong to it, as in Prometheus 2. The samples are `scrape`
/// seconds apart and the first is at 0. `None` with fewer than two samples in the window.
///
/// What the samples say is extended to the edges of the window, but not farther than half an interval where samples are missing, nor
/// before the moment at which the counter would have been 0.
pub fn rate(samples: &[f64], scrape: u64, now: u64, window: Span) -> Option<f64> {
    let start = now as i64 - window.as_seconds() as i64;
    let first = u64::try_from(start.max(0)).expect("not below 0").div_ceil(scrape);
    let last = (now / scrape).min((samples.len() as u64).checked_sub(1)?);
    if last <= first {
        return None;
    }
    let sample = |number: u64| samples[usize::try_from(number).expect("an index of a list in memory")];
    let growth = sample(last) - sample(first);
    let sampled = ((last - first) * scrape) as f64;
    let interval = sampled / (last - first) as f64;
    let mut to_start = ((first * scrape) as i64 - start) as f64;
    let to_end = (now - last * scrape) as f64;
    if growth > 0.0 {
        to_start = to_start.min(sampled * (sample(first) / growth));
    }
    let extend = |distance: f64| {
        if distance < interval * NEAR {
            distance
        } else {
            interval / 2.0
        }
    };
    let extended = sampled + extend(to_start) + extend(to_end);
    Some(growth * (extended / sampled / window.as_seconds() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_has_its_rate() {
        let samples: Vec<f64> = (0..100).map(|number| f64::from(number) * 30.0).collect();
        for now in [900, 907] {
            let found = rate(&samples, 15, now, Span::minutes(5)).unwrap();
            assert!((found - 2.0).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn a_young_counter_is_not_extended_before_its_zero() {
        let samples: Vec<f64> = (0..5).map(|number| f64::from(number) * 30.0).collect();
        // A minute of two events a second, in a window of five.
        assert_eq!(rate(&samples, 15, 60, Span::minutes(5)), Some(0.4));
        assert_eq!(rate(&samples, 15, 0, Span::minutes(5)), None);
        assert_eq!(rate(&[], 15, 60, Span::minutes(5)), None);
    }
}
