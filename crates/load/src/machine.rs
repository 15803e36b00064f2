//! Facts about the machine without which the numbers mean nothing.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Syncs of the probe; the median of so few is steady and takes a fraction of a second on any disk.
const PROBE_SYNCS: usize = 200;

/// Bytes appended before each sync of the probe: about one put of 256 bytes in a log.
const PROBE_BYTES: usize = 512;

/// The machine, as far as it decides the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Median time of appending a little and making it durable in the directory of the servers' data.
    pub(crate) fdatasync_median_us: f64,
}

impl Machine {
    /// Looks and probes. `dir` is where the servers will write.
    pub(crate) fn probe(dir: &Path) -> Result<Self> {
        Ok(Self {
            cores: cores(),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .and_then(|text| {
                    text.strip_suffix("kB")
                        .and_then(|number| number.trim().parse::<u64>().ok())
                })
                .map_or(0, |kibibytes| kibibytes / 1024),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            fdatasync_median_us: sync_median(dir)?.as_secs_f64() * 1e6,
        })
    }
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The value of the first `name : value` line of a file under `/proc`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn sync_median(dir: &Path) -> Result<Duration> {
    let path = dir.join("sync-probe");
    let probe = || -> std::io::Result<Vec<Duration>> {
        let mut file = File::create(&path)?;
        let mut times = Vec::with_capacity(PROBE_SYNCS);
        for _ in 0..PROBE_SYNCS {
            let started = Instant::now();
            file.write_all(&[b'x'; PROBE_BYTES])?;
            file.sync_data()?;
            times.push(started.elapsed());
        }
        std::fs::remove_file(&path)?;
        Ok(times)
    };
    let mut times = probe().with_context(|| format!("measure fdatasync with {}", path.display()))?;
    times.sort_unstable();
    Ok(times[PROBE_SYNCS / 2])
}
