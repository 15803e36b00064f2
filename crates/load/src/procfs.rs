//! What `/proc` tells about a process: CPU time and memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Clock ticks per second in `/proc/PID/stat`: 100 on every architecture that Linux reports to user space (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// User and system CPU time of all threads of a process since it started. Resolution 10 ms.
pub(crate) fn cpu_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("read {path}: no CPU times in \"{}\"", text.trim()))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Fields 14 and 15 of proc(5) `stat`, counted after the program name, which may hold spaces and brackets itself.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// `VmRSS`: all resident pages, files mapped by the process included.
    pub(crate) resident: u64,
    /// `Pss`: the same with shared pages divided among those who share them.
    pub(crate) proportional: u64,
    /// `RssAnon`: without pages of files, which the kernel can drop at any time.
    pub(crate) anonymous: u64,
}

/// Memory of a process now.
pub(crate) fn memory(process: u32) -> Result<Memory> {
    let status = format!("/proc/{process}/status");
    let rollup = format!("/proc/{process}/smaps_rollup");
    Ok(Memory {
        resident: kibibytes(&status, "VmRSS:")?,
        proportional: kibibytes(&rollup, "Pss:")?,
        anonymous: kibibytes(&status, "RssAnon:")?,
    })
}

fn kibibytes(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(Path::new(path)).with_context(|| format!("read {path}"))?;
    let kibibytes: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("read {path}: no line \"{name} <number> kB\""))?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_strange_program_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 5 6 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat), Some(100));
    }

    #[test]
    fn own_memory_is_read() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0);
        assert!(memory.proportional > 0 && memory.proportional <= memory.resident * 2);
    }
}
