//! Cargo tools that are not part of the toolchain (nextest, deny): the one on the path is used; a machine without it gets one built
//! into the cache folder, once. Nothing is installed into the person's own cargo folder.

use std::path::PathBuf;
use std::process::Command;

use crate::process;
use crate::workspace::{self, Workspace};

/// The program `name`, which is also its crate's name; `probe` are arguments with which it exits 0. `None`, after saying why, if it
/// is neither there nor can be built.
pub(crate) fn find_or_install(workspace: &Workspace, name: &str, probe: &[&str]) -> Option<PathBuf> {
    let works = |program: &PathBuf| process::succeeds(Command::new(program).args(probe));
    let on_path = PathBuf::from(name);
    if works(&on_path) {
        return Some(on_path);
    }
    let tools = workspace::cache_dir().ok()?.join("tools");
    let cached = tools.join("bin").join(name);
    if works(&cached) {
        return Some(cached);
    }
    eprintln!("building {name} once for this machine");
    let mut install = process::cargo(workspace);
    // Outside the checkout, so that the workspace's settings and lock file play no part.
    install.current_dir("/").env_remove("CARGO_TARGET_DIR");
    install
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(&tools)
        .arg(name);
    if let Err(error) = process::run(&mut install) {
        eprintln!("{error:#}");
        return None;
    }
    works(&cached).then_some(cached)
}
