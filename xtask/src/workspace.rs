//! Where things are: the checkout, the per-machine cache, the files git tracks.
//!
//! Nothing here changes anything. All other modules take their paths from here, so that no path of one machine is ever written
//! into a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// This checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target_dir: PathBuf,
}

impl Workspace {
    /// The checkout this program was built from.
    pub(crate) fn open() -> Result<Workspace> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .context("find the workspace: xtask's manifest has no parent folder")?
            .to_owned();
        if !root.join("Cargo.lock").is_file() {
            bail!(
                "find the workspace: {} holds no Cargo.lock; run this as `cargo xtask`",
                root.display()
            );
        }
        let target_dir =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Workspace { root, target_dir })
    }

    /// The same checkout, built into another folder.
    pub(crate) fn with_target_dir(&self, target_dir: PathBuf) -> Workspace {
        Workspace {
            root: self.root.clone(),
            target_dir,
        }
    }

    /// The folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Where cargo puts what it builds: `CARGO_TARGET_DIR`, else `target/`.
    pub(crate) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// Every file git tracks, as paths relative to the root, in git's order.
    pub(crate) fn tracked_files(&self) -> Result<Vec<PathBuf>> {
        let output = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(&self.root)
            .output()
            .context("list tracked files: git did not start")?;
        if !output.status.success() {
            bail!(
                "list tracked files: git ls-files: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let listing =
            String::from_utf8(output.stdout).context("list tracked files: a file name is not UTF-8")?;
        // A file deleted in the working tree is still listed until that is committed.
        Ok(listing
            .split('\0')
            .filter(|name| !name.is_empty() && self.root.join(name).exists())
            .map(PathBuf::from)
            .collect())
    }

    /// Writes `text` to `path` unless the file already says exactly that; answers whether it was written. An unchanged file keeps
    /// its time stamp, so that nothing depending on it is built again.
    pub(crate) fn write_if_different(path: &Path, text: &str) -> Result<bool> {
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(true)
    }
}

/// The folder for what is kept per machine rather than per checkout: `$XDG_CACHE_HOME/mainstay`, else `~/.cache/mainstay`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("find the cache folder: HOME is not set")?)
            .join(".cache"),
    };
    Ok(base.join("mainstay"))
}
