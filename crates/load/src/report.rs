//! The report: for people a table per scenario, for programs one JSON document with every run.

use anyhow::{Context as _, Result};
use serde::Serialize;
use terminal::Table;

use crate::figure::{Figure, Verdict, find};
use crate::machine::Machine;
use crate::scenario::Scenario;
use crate::system::System;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) subject: &'static str,
    /// Members of each system's cluster, if that is the same in all scenarios.
    pub(crate) nodes: Option<u8>,
    pub(crate) quick: bool,
    pub(crate) rounds: u32,
    pub(crate) measured_s: u64,
    /// Threads of the generator.
    pub(crate) workers: usize,
    pub(crate) machine: Machine,
    /// Each system with what it says of its version.
    pub(crate) versions: Vec<(&'static str, String)>,
    pub(crate) scenarios: Vec<ScenarioReport>,
}

impl Report {
    /// The facts, before the tables.
    pub(crate) fn head(&self) -> String {
        let machine = &self.machine;
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name}: {version}\n"))
            .collect();
        format!(
            "machine: {} cores, {}, {} MiB, Linux {}\ndisk: fdatasync median {:.0} µs\n{}{}\nruns: {} per system and scenario, {} s each, \
             median reported; generator with {} threads\n",
            machine.cores,
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            machine.fdatasync_median_us,
            versions.concat(),
            self.nodes(),
            self.rounds,
            self.measured_s,
            self.workers,
        )
    }

    fn nodes(&self) -> String {
        match self.nodes {
            Some(nodes) => format!("nodes: {nodes} of each system, on this machine and disk"),
            None => "nodes: as each scenario says, on this machine and disk".to_owned(),
        }
    }

    /// The whole as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("write the report as JSON")
    }
}

/// One scenario.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioReport {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) systems: Vec<SystemReport>,
    /// Ours divided by the rival's, if both were measured.
    pub(crate) ratios: Vec<(&'static str, f64)>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// One system in one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct SystemReport {
    pub(crate) system: System,
    pub(crate) medians: Vec<Figure>,
    /// The figures of each round.
    pub(crate) runs: Vec<Vec<Figure>>,
    /// Why rounds are missing.
    pub(crate) failure: Option<String>,
}

impl ScenarioReport {
    /// Compares and judges. A system that failed in any round is not compared.
    pub(crate) fn new(scenario: &dyn Scenario, systems: Vec<SystemReport>) -> Self {
        let sound = |is_ours| {
            systems
                .iter()
                .find(|report| report.system.is_ours() == is_ours && report.failure.is_none())
                .map_or(&[][..], |report| &report.medians)
        };
        let (ours, rival) = (sound(true), sound(false));
        let other = systems.iter().find(|report| !report.system.is_ours());
        let other = other.map_or("the rival", |report| report.system.name());
        let ratios = ours
            .iter()
            .filter_map(|figure| Some((figure.name, figure.value / find(rival, figure.name)?)))
            .collect();
        let verdicts = scenario
            .goals()
            .iter()
            .filter_map(|goal| goal.judge(ours, rival, other))
            .collect();
        Self {
            name: scenario.name(),
            about: scenario.about(),
            systems,
            ratios,
            verdicts,
        }
    }

    /// Whether every round of every system was measured.
    pub(crate) fn complete(&self) -> bool {
        self.systems.iter().all(|report| report.failure.is_none())
    }

    /// The table, the verdicts and the failures.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, self.about);
        if let Some(widest) = self
            .systems
            .iter()
            .map(|report| &report.medians)
            .max_by_key(|medians| medians.len())
        {
            let heads: Vec<String> = widest
                .iter()
                .map(|figure| {
                    format!("{} {}", figure.name, figure.unit.symbol())
                        .trim_end()
                        .to_owned()
                })
                .collect();
            let mut table = Table::new(std::iter::once("system".to_owned()).chain(heads.iter().cloned()))
                .numeric(&heads.iter().map(String::as_str).collect::<Vec<_>>());
            for report in self.systems.iter().filter(|report| !report.medians.is_empty()) {
                let values = report.medians.iter().map(|figure| number(figure.value));
                table.row(std::iter::once(report.system.name().to_owned()).chain(values));
            }
            if !self.ratios.is_empty() {
                let ratios = self.ratios.iter().map(|(_, ratio)| format!("{ratio:.2}"));
                table.row(std::iter::once("ratio".to_owned()).chain(ratios));
            }
            text.push_str(&table.render(None));
        }
        for verdict in &self.verdicts {
            let word = if verdict.pass { "PASS" } else { "MISS" };
            text.extend([
                word,
                "  ",
                &verdict.goal,
                ": ",
                &format!("{:.2}", verdict.measured),
                "\n",
            ]);
        }
        for report in &self.systems {
            if let Some(failure) = &report.failure {
                text.extend(["FAILED  ", report.system.name(), ": ", failure, "\n"]);
            }
        }
        text
    }
}

/// Three significant digits, no more than two behind the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::figure::{Bound, Goal, Unit};

    struct Example;

    impl Scenario for Example {
        fn name(&self) -> String {
            "put-64".to_owned()
        }

        fn about(&self) -> String {
            "puts".to_owned()
        }

        fn goals(&self) -> Vec<Goal> {
            vec![Goal {
                figure: "throughput",
                bound: Bound::RatioAtLeast(1.5),
            }]
        }

        fn run(&self, _: &Bench, _: System) -> Result<Vec<Figure>> {
            anyhow::bail!("not run by this test")
        }
    }

    fn measured(system: System, value: f64, failure: Option<&str>) -> SystemReport {
        let figures = vec![Figure::new("throughput", Unit::PerSecond, value)];
        SystemReport {
            system,
            medians: figures.clone(),
            runs: vec![figures],
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn both_systems_the_ratio_and_the_verdict_are_printed() {
        let systems = vec![
            measured(System::Etcd, 20_000.0, None),
            measured(System::Chainfire, 32_000.0, None),
        ];
        let report = ScenarioReport::new(&Example, systems);
        assert!(report.complete());
        assert_eq!(
            report.table(),
            "put-64: puts\n\
             system     throughput /s\n\
             etcd               20000\n\
             chainfire          32000\n\
             ratio               1.60\n\
             PASS  throughput at least 1.5 x etcd: 1.60\n"
        );
    }

    #[test]
    fn a_system_that_failed_is_not_compared() {
        let systems = vec![
            measured(System::Etcd, 20_000.0, None),
            measured(System::Chainfire, 32_000.0, Some("put: no space")),
        ];
        let report = ScenarioReport::new(&Example, systems);
        assert!(!report.complete());
        assert_eq!((report.ratios.len(), report.verdicts.len()), (0, 0));
        assert!(report.table().ends_with("FAILED  chainfire: put: no space\n"));
    }
}
