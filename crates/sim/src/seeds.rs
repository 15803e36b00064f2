//! Runs many schedules, remembers those that failed, and says how to replay one.
//!
//! `SIM_SEED=N` runs one schedule only, with its trace; `SIM_SCHEDULES=N` runs so many instead of the usual
//! number, from seed `SIM_FIRST` on. Seeds in the
//! `seeds.txt` of the crate under test are run first; a seed that fails is added there, to be committed with the fix.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Where schedules come from and where failures go.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The crate under test.
    pub package: &'static str,
    /// Its folder: `env!("CARGO_MANIFEST_DIR")`.
    pub folder: &'static str,
    /// The test's name.
    pub name: &'static str,
    /// Schedules in an ordinary run.
    pub schedules: u64,
}

/// What a run of many schedules did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Schedules run.
    pub schedules: u64,
    /// Steps in all of them.
    pub steps: u64,
}

/// Runs one schedule; a panic is a failure like any other.
pub fn run_one(seed: u64, schedule: impl Fn(u64) -> Result<u64, String>) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| schedule(seed))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The first of these seeds whose schedule fails, and how: shows that a broken clause is noticed.
pub fn first_failure(
    mut seeds: Range<u64>,
    schedule: impl Fn(u64) -> Result<u64, String>,
) -> Option<(u64, String)> {
    seeds.find_map(|seed| run_one(seed, &schedule).err().map(|text| (seed, text)))
}

impl Campaign {
    /// Runs the schedules; `schedule` returns the number of its steps.
    ///
    /// # Panics
    /// If a schedule fails; the text says how to replay it.
    pub fn run(&self, schedule: impl Fn(u64) -> Result<u64, String>) -> Total {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let mut total = Total::default();
        let seeds: Vec<u64> = if let Some(seed) = number("SIM_SEED") {
            vec![seed]
        } else {
            let first = number("SIM_FIRST").unwrap_or(0);
            let count = number("SIM_SCHEDULES").unwrap_or(self.schedules);
            self.kept().into_iter().chain(first..first + count).collect()
        };
        for seed in seeds {
            match run_one(seed, &schedule) {
                Ok(steps) => {
                    total.schedules += 1;
                    total.steps += steps;
                }
                Err(text) => self.fail(seed, &text),
            }
        }
        total
    }

    fn kept(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(Path::new(self.folder).join("seeds.txt")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split('#').next())
            .filter_map(|line| line.trim().split_once(' '))
            .filter(|(name, _)| *name == self.name)
            .filter_map(|(_, seed)| seed.trim().parse().ok())
            .collect()
    }

    #[allow(clippy::panic, reason = "this is how a test fails")]
    fn fail(&self, seed: u64, text: &str) -> ! {
        let path = Path::new(self.folder).join("seeds.txt");
        if !self.kept().contains(&seed) {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            // Where the sources cannot be written, the message below still names the seed.
            drop(file.and_then(|mut file| writeln!(file, "{} {seed}", self.name)));
        }
        panic!(
            "seed {seed}: {text}\nreplay: SIM_SEED={seed} cargo nextest run --workspace -E 'package({}) and test({})' --no-capture",
            self.package, self.name
        );
    }
}

/// How much of a search is made: what the environment says, or `normal`.
pub fn number(name: &str, normal: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(normal)
}

/// Whether one schedule is replayed, which is the time to print what happens.
pub fn is_traced() -> bool {
    std::env::var_os("SIM_SEED").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_panics_are_found() {
        let schedule = |seed| if seed == 7 { Err("seven".to_owned()) } else { Ok(1) };
        assert_eq!(first_failure(0..10, schedule), Some((7, "seven".to_owned())));
        assert_eq!(first_failure(0..5, schedule), None);
        let panics = |seed: u64| -> Result<u64, String> { panic!("at {seed}") };
        assert_eq!(
            first_failure(0..1, panics),
            Some((0, "panicked: at 0".to_owned()))
        );
    }
}
