//! The order of the runs: scenario by scenario, round by round, the systems in turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use terminal::note;

use crate::closed_loop::Extent;
use crate::figure::Figure;
use crate::machine::{self, Machine};
use crate::options::{Format, Options, Subject};
use crate::report::{Report, ScenarioReport, SystemReport};
use crate::scenario::{self, Scenario};
use crate::server::Site;
use crate::system::System;

/// Threads of the generator that are enough for any server.
const WORKERS_MAX: usize = 4;

/// What every run needs to know.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) workers: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    pub(crate) mainstay: PathBuf,
    /// Where servers keep their data.
    pub(crate) dir: PathBuf,
}

impl Bench {
    /// An empty place for a server. What earlier runs wrote is on the disk by then, so that it does not disturb this one.
    pub(crate) fn site(&self, system: System) -> Result<Site> {
        let mut sites = self.sites(system, 1)?;
        Ok(sites.remove(0))
    }

    /// The same for so many members of one cluster, all on the same disk.
    pub(crate) fn sites(&self, system: System, members: usize) -> Result<Vec<Site>> {
        nix::unistd::sync();
        Site::create(system, members, &self.mainstay, &self.dir)
    }

    /// The usual extent of a closed loop.
    pub(crate) fn window(&self) -> Extent {
        Extent::Window {
            warm_up: self.warm_up,
            measured: self.measured,
        }
    }
}

/// The scenarios that these options mean. The error says which option is wrong.
pub(crate) fn scenarios(options: &Options) -> Result<Vec<Box<dyn Scenario>>> {
    let million_keys = options
        .keys
        .unwrap_or(if options.quick { 100_000 } else { 1_000_000 });
    let all = match (options.subject, options.nodes) {
        (Subject::Qu, 1) => scenario::qu::all(&scenario::qu::Extent {
            quick: options.quick,
            checks: options.checks.unwrap_or(if options.quick { 300 } else { 10_000 }),
            kills: options.kills.unwrap_or(if options.quick { 3 } else { 30 }),
        }),
        (Subject::Qu, _) => bail!("--nodes: the scenarios of qu say themselves how many nodes they have"),
        (Subject::Chainfire, 1) => scenario::all(million_keys),
        (Subject::Chainfire, nodes) => scenario::cluster::all(&scenario::cluster::Extent {
            nodes: usize::from(nodes),
            clients_on: options.clients_on,
            kills: options.kills.unwrap_or(if options.quick { 3 } else { 30 }),
            passes: if options.quick { 1 } else { 3 },
            keys: million_keys,
        }),
    };
    chosen(options, all)
}

/// Runs the scenarios and prints the report. False if something could not be measured.
pub(crate) fn run(options: &Options, scenarios: &[Box<dyn Scenario>]) -> Result<bool> {
    if options.list {
        for scenario in scenarios {
            println!("{:<20} {}", scenario.name(), scenario.about());
        }
        return Ok(true);
    }
    let systems = systems(options)?;
    let bench = prepare(options, &systems)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 3 });
    let mut report = Report {
        subject: options.subject.name(),
        nodes: (options.subject == Subject::Chainfire).then_some(options.nodes),
        quick: options.quick,
        rounds,
        measured_s: bench.measured.as_secs(),
        workers: bench.workers,
        machine: Machine::probe(&bench.dir)?,
        versions: systems
            .iter()
            .map(|&system| Ok((system.name(), system.version(&bench.mainstay)?)))
            .collect::<Result<_>>()?,
        scenarios: Vec::new(),
    };
    if options.format == Format::Table {
        println!("{}", report.head());
    }
    for scenario in scenarios {
        let measured = measure(scenario.as_ref(), &bench, &systems, rounds);
        if options.format == Format::Table {
            println!("{}", measured.table());
        }
        report.scenarios.push(measured);
    }
    if options.format == Format::Json {
        println!("{}", report.json()?);
    }
    if let Some(path) = &options.output {
        std::fs::write(path, report.json()?).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(report.scenarios.iter().all(ScenarioReport::complete))
}

/// The scenarios that `--only` names, all without it.
fn chosen(options: &Options, all: Vec<Box<dyn Scenario>>) -> Result<Vec<Box<dyn Scenario>>> {
    let names: Vec<String> = all.iter().map(|scenario| scenario.name()).collect();
    for only in &options.only {
        if !names.iter().any(|name| name.starts_with(only)) {
            bail!("--only {only}: no such scenario; known are {}", names.join(", "));
        }
    }
    // A full name means that scenario alone: put-1 is not put-1 and whatever begins with it.
    let means = |only: &String, name: &str| name == only || (!names.contains(only) && name.starts_with(only));
    Ok(all
        .into_iter()
        .filter(|scenario| {
            options.only.is_empty() || options.only.iter().any(|only| means(only, &scenario.name()))
        })
        .collect())
}

/// The systems that take turns.
fn systems(options: &Options) -> Result<Vec<System>> {
    let known = options.subject.systems();
    if options.systems.is_empty() {
        return Ok(known.into());
    }
    if let Some(stranger) = options.systems.iter().find(|system| !known.contains(system)) {
        let known = known.map(System::name).join(", ");
        bail!(
            "--systems {}: not measured with {}; known are {known}",
            stranger.name(),
            options.subject.name()
        );
    }
    Ok(options.systems.clone())
}

fn prepare(options: &Options, systems: &[System]) -> Result<Bench> {
    let own = std::env::current_exe().context("find the path of this program")?;
    let own_dir = own.parent().unwrap_or_else(|| Path::new("."));
    let mainstay = match &options.mainstay {
        Some(path) => path.clone(),
        None => own_dir.join("mainstay"),
    };
    let mut bench = Bench {
        workers: options
            .workers
            .map_or_else(|| machine::cores().min(WORKERS_MAX), usize::from),
        warm_up: Duration::from_secs(if options.quick { 1 } else { 2 }),
        measured: Duration::from_secs(options.seconds.unwrap_or(if options.quick { 2 } else { 10 })),
        mainstay,
        dir: options.dir.clone().unwrap_or_else(|| own_dir.join("../bench")),
    };
    std::fs::create_dir_all(&bench.dir)
        .with_context(|| format!("make the directory {}", bench.dir.display()))?;
    // Servers run in their own directories, so their paths must not depend on ours.
    bench.dir = bench
        .dir
        .canonicalize()
        .with_context(|| format!("find the directory {}", bench.dir.display()))?;
    if systems.iter().any(|system| system.is_ours()) {
        bench.mainstay = bench.mainstay.canonicalize().with_context(|| {
            format!(
                "find the program {}; `cargo build --release -p mainstay` makes it, --mainstay names another",
                bench.mainstay.display()
            )
        })?;
    }
    Ok(bench)
}

/// All rounds of one scenario. A system that fails is not tried again in it; the other goes on.
fn measure(scenario: &dyn Scenario, bench: &Bench, systems: &[System], rounds: u32) -> ScenarioReport {
    let mut runs: Vec<(System, Vec<Vec<Figure>>, Option<String>)> = systems
        .iter()
        .filter(|system| scenario.takes(**system))
        .map(|&system| (system, Vec::new(), None))
        .collect();
    for round in 1..=rounds {
        for (system, done, failure) in &mut runs {
            if failure.is_some() {
                continue;
            }
            note(&format!(
                "{} {round}/{rounds}: {}",
                scenario.name(),
                system.name()
            ));
            match scenario.run(bench, *system) {
                Ok(figures) => done.push(figures),
                Err(error) => {
                    note(&format!(
                        "{}: {} failed: {error:#}",
                        scenario.name(),
                        system.name()
                    ));
                    *failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    let systems = runs
        .into_iter()
        .map(|(system, runs, failure)| SystemReport {
            system,
            medians: Figure::medians(&runs),
            runs,
            failure,
        })
        .collect();
    ScenarioReport::new(scenario, systems)
}
