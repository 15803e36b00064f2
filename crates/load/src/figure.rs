//! Figures: named numbers with a unit, their medians over rounds, their ratios between systems, and the goals they are held against.

use serde::Serialize;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    PerSecond,
    Microseconds,
    Milliseconds,
    Seconds,
    Mebibytes,
    Percent,
    Count,
}

impl Unit {
    /// The short form in column heads.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
            Self::Count => "",
        }
    }
}

/// One number of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: Unit, value: f64) -> Self {
        Self { name, unit, value }
    }

    /// The same name and unit with the median of the values that `runs` have for it. Empty without runs.
    pub(crate) fn medians(runs: &[Vec<Self>]) -> Vec<Self> {
        let Some(first) = runs.first() else {
            return Vec::new();
        };
        first
            .iter()
            .map(|figure| {
                let mut values: Vec<f64> = runs.iter().filter_map(|run| find(run, figure.name)).collect();
                Self::new(figure.name, figure.unit, median(&mut values))
            })
            .collect()
    }
}

/// The value of the figure with this name.
pub(crate) fn find(figures: &[Figure], name: &str) -> Option<f64> {
    figures
        .iter()
        .find(|figure| figure.name == name)
        .map(|figure| figure.value)
}

/// The middle value; the mean of the two in the middle if their number is even. NaN without values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// What a scenario is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) figure: &'static str,
    pub(crate) bound: Bound,
}

/// How a figure of ours is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// Ours divided by the rival's is at least this.
    RatioAtLeast(f64),
    /// Ours divided by the rival's is at most this.
    RatioAtMost(f64),
    /// Ours is at most this, whatever the rival does.
    AtMost(f64),
}

/// A goal and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// The goal in words.
    pub(crate) goal: String,
    /// What was measured: a ratio or a value, as the goal asks.
    pub(crate) measured: f64,
    pub(crate) pass: bool,
}

impl Goal {
    /// Judges the medians of ours and of the rival, which is called `other`; `None` if a figure it needs was not measured.
    pub(crate) fn judge(&self, ours: &[Figure], rival: &[Figure], other: &str) -> Option<Verdict> {
        let value = find(ours, self.figure)?;
        let unit = ours
            .iter()
            .find(|figure| figure.name == self.figure)?
            .unit
            .symbol();
        let ratio = || find(rival, self.figure).map(|against| value / against);
        let name = self.figure;
        let (goal, measured, pass) = match self.bound {
            Bound::RatioAtLeast(bound) => {
                let ratio = ratio()?;
                (
                    format!("{name} at least {bound} x {other}"),
                    ratio,
                    ratio >= bound,
                )
            }
            Bound::RatioAtMost(bound) => {
                let ratio = ratio()?;
                (format!("{name} at most {bound} x {other}"), ratio, ratio <= bound)
            }
            Bound::AtMost(bound) => {
                let goal = format!("{name} at most {bound} {unit}");
                (goal.trim_end().to_owned(), value, value <= bound)
            }
        };
        Some(Verdict { goal, measured, pass })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: f64) -> Vec<Figure> {
        vec![Figure::new("puts", Unit::PerSecond, value)]
    }

    #[test]
    fn medians_are_taken_per_figure() {
        assert_eq!(Figure::medians(&[run(3.0), run(1.0), run(2.0)]), run(2.0));
        assert_eq!(Figure::medians(&[run(3.0), run(1.0)]), run(2.0));
        assert_eq!(Figure::medians(&[]), []);
    }

    #[test]
    fn goals_are_judged_by_ratio_or_value() {
        let goal = |bound| Goal {
            figure: "puts",
            bound,
        };
        let pass = |bound| {
            goal(bound)
                .judge(&run(30.0), &run(20.0), "etcd")
                .map(|verdict| verdict.pass)
        };
        assert_eq!(pass(Bound::RatioAtLeast(1.5)), Some(true));
        assert_eq!(pass(Bound::RatioAtLeast(1.6)), Some(false));
        assert_eq!(pass(Bound::RatioAtMost(1.0)), Some(false));
        assert_eq!(pass(Bound::AtMost(30.0)), Some(true));
        assert_eq!(goal(Bound::RatioAtMost(1.0)).judge(&run(30.0), &[], "etcd"), None);
    }
}
