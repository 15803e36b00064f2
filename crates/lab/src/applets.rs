//! The programs of the multi-call `mainstay` binary, as links in the lab's `bin` directory.
//!
//! Commands typed on a host of the lab then find `chainfire-client` and the rest by their own names, exactly as on
//! a machine where the package is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The `mainstay` binary: `MAINSTAY_BIN` if set; this program itself if it is the one; otherwise the one built in
/// the same target folder (`target/PROFILE/mainstay`), which is how tests and `xtask` find it.
pub fn mainstay_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MAINSTAY_BIN").map(PathBuf::from) {
        ensure!(
            path.is_file(),
            "MAINSTAY_BIN={}: no such file: run `cargo build -p mainstay` first",
            path.display()
        );
        return std::path::absolute(&path).with_context(|| format!("cannot resolve {}", path.display()));
    }
    let own = own_path()?;
    if own.file_name().is_some_and(|name| name == "mainstay") {
        return Ok(own);
    }
    // Tests live in target/PROFILE/deps/NAME-HASH, programs in target/PROFILE/NAME.
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("mainstay"))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "cannot find the mainstay binary near {}: run `cargo build -p mainstay` first, or set MAINSTAY_BIN",
                own.display()
            )
        })
}

/// Path of the running program. A program that was replaced while it runs (a rebuild) shows ` (deleted)` at the end.
fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot tell where this program lies")?;
    if path.is_file() {
        return Ok(path);
    }
    let text = path.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or(path.clone(), PathBuf::from))
}

/// Fills `folder` with a link to `binary` for every name that it lists, and for `mainstay` itself.
pub fn link_all(binary: &Path, folder: &Path) -> Result<Vec<String>> {
    link_to(binary, binary, folder)
}

/// Fills `folder` with a link to `target` for every name that `binary --list` prints, and for `mainstay` itself.
pub(crate) fn link_to(binary: &Path, target: &Path, folder: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run {} --list", binary.display()))?;
    if !output.status.success() {
        bail!(
            "{} --list failed: {}",
            binary.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    // The name is the first word of a line; a description may follow.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect();
    if !names.iter().any(|name| name == "mainstay") {
        names.push("mainstay".into());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in &names {
        ensure!(
            !name.contains('/'),
            "{} --list: bad program name {name:?}",
            binary.display()
        );
        let link = folder.join(name);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", link.display()));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(target, &link)
            .with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(names)
}

/// A program on `PATH`, or the path itself when it names a file.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    // Daemons and administration tools are not on the PATH of ordinary users.
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_for_every_listed_name() {
        let dir = std::env::temp_dir().join(format!("mainstay-applets-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let binary = dir.join("multi");
        std::fs::write(&binary, "#!/bin/sh\nprintf 'one  the first\\ntwo\\n'\n").unwrap();
        std::fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for _ in 0..2 {
            assert_eq!(
                link_all(&binary, &dir.join("bin")).unwrap(),
                ["one", "two", "mainstay"]
            );
        }
        assert_eq!(std::fs::read_link(dir.join("bin/two")).unwrap(), binary);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn programs_are_found_by_name_only_where_they_exist() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-here"), None);
    }
}
