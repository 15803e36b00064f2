//! A directory for one test.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A directory that is removed when the test has passed, and stays when it panics, with its path printed.
#[derive(Debug)]
pub struct TestDir {
    path: PathBuf,
    kept: bool,
}

impl TestDir {
    /// A new directory, its name beginning with `name`, in the system's folder for temporary files.
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir()
            .with_context(|| format!("cannot create a directory for {name}"))?
            .keep();
        Ok(Self { path, kept: false })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps it, whatever happens.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if self.kept || std::thread::panicking() {
            note(&format!("kept: {}", self.path.display()));
        } else {
            // A directory that cannot be removed is no reason to fail a passed test.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[allow(
    clippy::print_stderr,
    reason = "tells whoever reads a failed test where its files are"
)]
fn note(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_after_success_and_stays_after_a_panic() {
        let dir = TestDir::new("passing").unwrap();
        let path = dir.path().to_owned();
        assert!(path.is_dir());
        drop(dir);
        assert!(!path.exists());

        let dir = TestDir::new("failing").unwrap();
        let path = dir.path().to_owned();
        let failed = std::thread::spawn(move || {
            let _dir = dir;
            panic!("this test is meant to fail");
        });
        assert!(failed.join().is_err());
        assert!(path.is_dir());
        std::fs::remove_dir_all(path).unwrap();
    }
}
