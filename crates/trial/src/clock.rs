//! Wall clocks of members that can be stepped: a small C library, preloaded, which adds what a file says.
//!
//! Programs that ask the C library for the time are misled so, Chainfire among them; Go programs ask the kernel themselves. The library
//! is compiled by the machine's compiler when a run begins (see `clock.c`). Debian's libfaketime is of no use here: it makes a program
//! crash that brings its own allocator.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const SOURCE: &str = include_str!("clock.c");

/// Makes the library in `dir`.
pub(crate) fn library(dir: &Path) -> Result<PathBuf> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, SOURCE).with_context(|| format!("write {}", source.display()))?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .output()
        .context("run cc")?;
    if !output.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(library)
}

/// One member's wall clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, told by this file.
    pub(crate) fn create(file: &Path) -> Result<Self> {
        let clock = Self {
            file: file.to_owned(),
        };
        std::fs::write(file, 0_i64.to_ne_bytes()).with_context(|| format!("write {}", file.display()))?;
        Ok(clock)
    }

    /// The environment of a member that is to believe it.
    pub(crate) fn env(&self, library: &Path) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("MAINSTAY_TRIAL_CLOCK".to_owned(), self.file.display().to_string()),
        ]
    }

    /// From now on it is so many seconds ahead.
    pub(crate) fn set(&self, ahead_s: i64) -> Result<()> {
        let told = || format!("write {}", self.file.display());
        // In place: the member has the file mapped, and eight bytes at its start are stored at once.
        let file = std::fs::File::options()
            .write(true)
            .open(&self.file)
            .with_context(told)?;
        file.write_all_at(&(ahead_s * 1_000_000_000).to_ne_bytes(), 0)
            .with_context(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_believes_the_stepped_clock() {
        let dir = tempfile::tempdir().unwrap();
        let library = library(dir.path()).unwrap();
        let clock = Clock::create(&dir.path().join("clock")).unwrap();
        let seconds = || -> i64 {
            let output = Command::new("date")
                .arg("+%s")
                .envs(clock.env(&library))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        };
        let now = seconds();
        for ahead in [86_400, -3_600, 0] {
            clock.set(ahead).unwrap();
            let difference = seconds() - now - ahead;
            assert!((0..60).contains(&difference), "{ahead}: {difference}");
        }
    }
}
