//! Many checks on one node, beside Prometheus that has its blackbox exporter probe the same targets as often: processor and memory.
//!
//! Both spread their probes over the interval. What is measured begins an interval after as many probes have arrived as there are targets,
//! because qu looks at a new check twice, and lasts a whole number of intervals. That the probes were made is counted where they arrive.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::list;
use crate::bench::Bench;
use crate::figure::{Bound, Figure, Goal, Unit};
use crate::qu::Nodes;
use crate::scenario::{RESIDENT, Scenario, mebibytes};
use crate::server::{Ports, Server, Site};
use crate::system::{System, text};
use crate::uptime::Uptime;

const CPU: &str = "CPU";
const PROBES: &str = "probes";
/// Intervals until every target must have been looked at once.
const FIRST_INTERVALS: u32 = 4;
/// Share of the probes that must arrive, for the figures to mean anything.
const PROBES_LEAST: f64 = 0.9;
/// Between two looks at the number of probes.
const POLL: Duration = Duration::from_millis(50);

/// The scenario.
pub(super) struct Checks {
    count: usize,
    interval: Duration,
    /// Intervals that are measured.
    intervals: u32,
}

impl Checks {
    pub(super) fn new(count: u32, quick: bool) -> Self {
        Self {
            count: count as usize,
            interval: Duration::from_secs(if quick { 3 } else { 30 }),
            intervals: 2,
        }
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.interval.as_secs_f64()
    }
}

impl Scenario for Checks {
    fn name(&self) -> String {
        format!("checks-{}", self.count)
    }

    fn about(&self) -> String {
        format!(
            "one node makes {} checks (half http, half tcp, all well) every {} s for {} intervals",
            self.count,
            self.interval.as_secs(),
            self.intervals
        )
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |figure, bound| Goal { figure, bound };
        vec![
            goal(CPU, Bound::RatioAtMost(0.5)),
            goal(RESIDENT, Bound::AtMost(100.0)),
        ]
    }

    fn run(&self, bench: &Bench, system: System) -> Result<Vec<Figure>> {
        let uptime = Uptime::start()?;
        if system == System::Qu {
            let checks = list(&uptime, self.count, self.interval);
            let nodes = Nodes::start(bench, 1, Some(&checks))?;
            self.measure(&uptime, &[nodes.server(0)?])
        } else {
            let rival = Rival::start(bench, &uptime, self)?;
            self.measure(&uptime, &[&rival.prometheus, &rival.exporter])
        }
    }
}

impl Checks {
    fn measure(&self, uptime: &Uptime, servers: &[&Server]) -> Result<Vec<Figure>> {
        let started = Instant::now();
        while uptime.probes() < self.count as u64 {
            if started.elapsed() > self.interval * FIRST_INTERVALS {
                bail!(
                    "only {} of {} targets were looked at in {} intervals",
                    uptime.probes(),
                    self.count,
                    FIRST_INTERVALS
                );
            }
            std::thread::sleep(POLL);
        }
        std::thread::sleep(self.interval);
        let cpu = || {
            let times = servers.iter().map(|server| server.cpu_time());
            times.sum::<Result<Duration>>()
        };
        let (began, before, probes) = (Instant::now(), cpu()?, uptime.probes());
        std::thread::sleep(self.interval * self.intervals);
        let (elapsed, spent) = (began.elapsed().as_secs_f64(), cpu()?.saturating_sub(before));
        let rate = (uptime.probes() - probes) as f64 / elapsed;
        if rate < self.rate() * PROBES_LEAST {
            bail!("only {rate:.1} probes per second of {:.1}", self.rate());
        }
        let mut resident = 0;
        for server in servers {
            resident += server.memory()?.resident;
        }
        Ok(vec![
            Figure::new(CPU, Unit::Percent, spent.as_secs_f64() / elapsed * 100.0),
            mebibytes(RESIDENT, resident),
            Figure::new(PROBES, Unit::PerSecond, rate),
        ])
    }
}

/// Prometheus and its exporter.
struct Rival {
    // Before the sites: no process may be alive when its directory is removed.
    prometheus: Server,
    exporter: Server,
    _sites: [Site; 2],
}

impl Rival {
    fn start(bench: &Bench, uptime: &Uptime, checks: &Checks) -> Result<Self> {
        nix::unistd::sync();
        let ports = Ports::free(2).context("find free ports on 127.0.0.1")?;
        let listen = |ports: Ports| format!("--web.listen-address=127.0.0.1:{}", ports.api);
        let exporter = Site::with(System::Blackbox, &bench.dir, ports[0], "/-/healthy", |dir| {
            let file = dir.join("blackbox.yml");
            let modules =
                "modules:\n  http: {prober: http, timeout: 2s}\n  tcp: {prober: tcp, timeout: 2s}\n";
            write(&file, modules)?;
            Ok(vec![
                "prometheus-blackbox-exporter".to_owned(),
                format!("--config.file={}", text(&file)?),
                listen(ports[0]),
                "--log.level=error".to_owned(),
            ])
        })?;
        let prometheus = Site::with(System::Blackbox, &bench.dir, ports[1], "/-/ready", |dir| {
            let file = dir.join("prometheus.yml");
            write(&file, &configuration(uptime, checks, exporter.address()))?;
            Ok(vec![
                "prometheus".to_owned(),
                format!("--config.file={}", text(&file)?),
                format!("--storage.tsdb.path={}", text(&dir.join("data"))?),
                listen(ports[1]),
                "--log.level=error".to_owned(),
            ])
        })?;
        Ok(Self {
            exporter: exporter.start_ready()?,
            prometheus: prometheus.start_ready()?,
            _sites: [exporter, prometheus],
        })
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// One job for each kind of check. Ports repeat, so each target has its number in front, which only its label keeps.
fn configuration(uptime: &Uptime, checks: &Checks, exporter: SocketAddr) -> String {
    debug_assert_eq!(exporter.ip(), Ipv4Addr::LOCALHOST);
    let mut out = format!(
        "global: {{scrape_interval: {}s, scrape_timeout: 2s}}\nscrape_configs:\n",
        checks.interval.as_secs()
    );
    for (kind, first) in [("http", 0), ("tcp", 1)] {
        // Writing to a text does not fail.
        let _ = write!(
            out,
            "- job_name: {kind}\n  metrics_path: /probe\n  params: {{module: [{kind}]}}\n  relabel_configs:\n\
             \x20 - {{source_labels: [__address__], regex: '(\\d+)_(.*)', target_label: instance, replacement: '$1'}}\n\
             \x20 - {{source_labels: [__address__], regex: '(\\d+)_(.*)', target_label: __param_target, replacement: '$2'}}\n\
             \x20 - {{target_label: __address__, replacement: '{exporter}'}}\n  static_configs:\n  - targets:\n"
        );
        for number in (first..checks.count).step_by(2) {
            let target = if kind == "http" {
                uptime.page(number)
            } else {
                uptime.port(number)
            };
            let _ = writeln!(out, "    - '{number}_{target}'");
        }
    }
    out
}
