//! `cargo xtask dist`: what is handed out, as a tarball and a Debian package under `target/dist/`.
//!
//! Both hold the same tree: the one program and a link for each of its names, the units, man pages and completions made from the
//! argument trees, the sample settings, alert rules and runbooks. The program itself tells its names (`mainstay --list`), so nothing
//! is listed twice. `--profile dev` packs the development build into `target/dist/dev/`, which tests install; it is ready in
//! seconds after a build.
//!
//! Times and owners inside the archives come from the last commit and root, so the same commit gives the same files.

mod package;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// The version of everything in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which build is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Optimised, for people. Compressed well.
    Release,
    /// As the tests build it. Compressed quickly.
    Dev,
}

/// The command: the paths of the two files on stdout.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let profile = match words.as_slice() {
        [] | ["--profile", "release"] | ["--profile=release"] => Profile::Release,
        ["--profile", "dev"] | ["--profile=dev"] => Profile::Dev,
        _ => {
            return Ok(crate::wrong_usage(
                "dist",
                "it takes --profile release or --profile dev",
            ));
        }
    };
    toolchain::ensure(workspace)?;
    let mut build = process::cargo(workspace);
    match profile {
        Profile::Release => build.args(["build", "--release", "--package", "mainstay"]),
        // The same selection as in `cargo xtask test`, so that nothing is built twice.
        Profile::Dev => build.args(["build", "--workspace"]),
    };
    process::run(&mut build)?;
    for path in pack(workspace, profile)? {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Packs what was built. Gives the tarball and the Debian package.
pub(crate) fn pack(workspace: &Workspace, profile: Profile) -> Result<[PathBuf; 2]> {
    let dist = workspace.target_dir().join("dist");
    let (program, out) = match profile {
        Profile::Release => (workspace.target_dir().join("release/mainstay"), dist),
        Profile::Dev => (workspace.target_dir().join("debug/mainstay"), dist.join("dev")),
    };
    check_sample_settings(workspace, &program)?;

    let name = format!("mainstay-{VERSION}-{}", std::env::consts::ARCH);
    let stage = out.join(&name);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("clear {}", stage.display()))?;
    }
    tree::build(workspace, &program, &stage)?;

    let time = process::read(
        Command::new("git")
            .args(["log", "-1", "--format=%ct"])
            .current_dir(workspace.root()),
    )?;
    let tarball = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.current_dir(&out)
        .args([
            "--create",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ])
        .arg(format!("--mtime=@{time}"))
        .arg(match profile {
            Profile::Release => "--use-compress-program=gzip -9n",
            Profile::Dev => "--use-compress-program=gzip -1n",
        })
        .arg("--file")
        .arg(&tarball)
        .arg(&name);
    process::run(&mut tar).context("pack the tarball")?;

    let package = package::build(workspace, &stage, &out, profile, &time)?;
    fs::remove_dir_all(&stage).with_context(|| format!("clear {}", stage.display()))?;
    Ok([tarball, package])
}

/// The settings we ship must be accepted by the program we ship.
fn check_sample_settings(workspace: &Workspace, program: &Path) -> Result<()> {
    let mut check = Command::new(program);
    check
        .arg("chainfire")
        .arg("--config")
        .arg(workspace.path("config/chainfire.toml"))
        .arg("--check-config");
    // Its answer is for the log; results on stdout are paths.
    let answer = process::read(&mut check).context("check the sample settings")?;
    eprintln!("config/chainfire.toml: {answer}");
    Ok(())
}
