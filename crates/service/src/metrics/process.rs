//! The standard metrics every Prometheus client library gives about its own process, read from `/proc` at each scrape.
//!
//! What cannot be read is left out rather than shown as zero.

use std::fmt;
use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks per second in `/proc/<pid>/stat`. Linux fixed it at 100 for user space (`USER_HZ`), whatever the kernel's own.
const USER_HZ: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "User and system CPU time spent in seconds.",
                None,
                counter.metric_type(),
            )?)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                status_bytes("VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                status_bytes("VmSize:"),
            ),
            (
                "process_open_fds",
                "Number of open file descriptors.",
                open_files(),
            ),
            (
                "process_max_fds",
                "Maximum number of open file descriptors.",
                max_files(),
            ),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                started(),
            ),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(micros as f64 / 1e6)
}

/// A line of `/proc/self/status` such as `VmRSS:     1234 kB`.
fn status_bytes(key: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // The directory being read is one of the entries.
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(entries.saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .map(|(soft, _hard)| soft as f64)
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + start_ticks(&stat)? / USER_HZ)
}

/// Field 22 of `/proc/<pid>/stat` (`proc(5)`). Field 2 is the program's name in brackets and may hold blanks and brackets,
/// so counting starts behind the last one.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::metrics::Metrics;

    fn value(text: &str, name: &str) -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name}\n{text}"));
        line.trim().parse().unwrap()
    }

    #[test]
    fn this_process_is_described() {
        let metrics = Metrics::new();
        metrics.register_process();
        let before = value(&metrics.encode(), "process_open_fds ");
        let held = fs::File::open("/proc/self/stat").unwrap();
        let text = metrics.encode();
        assert!(value(&text, "process_open_fds ") >= before, "{text}");
        drop(held);
        assert!(value(&text, "process_resident_memory_bytes ") > 100_000.0);
        assert!(
            value(&text, "process_virtual_memory_bytes ") > value(&text, "process_resident_memory_bytes ")
        );
        assert!(value(&text, "process_cpu_seconds_total ") >= 0.0);
        assert!(value(&text, "process_max_fds ") > value(&text, "process_open_fds "));
        let age = SystemClock::new().unix_ms() as f64 / 1e3 - value(&text, "process_start_time_seconds ");
        assert!((-2.0..3_600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn odd_program_names_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1";
        assert_eq!(start_ticks(stat), Some(98_765.0));
    }
}
