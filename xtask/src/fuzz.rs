//! `cargo xtask fuzz [SECONDS] [NAME]`: builds every fuzz target in `crates/*/fuzz/` and runs each for a while.
//!
//! The crates have the form that `cargo fuzz` expects, but no nightly compiler is needed: the coverage instrumentation that guides
//! libFuzzer is in the stable one, and only the address sanitizer is not, which matters little to code without `unsafe`. Inputs found
//! are kept from run to run; inputs in `crates/<x>/fuzz/seeds/<target>/` are read as well. A crash is an error that names its input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;
use crate::toolchain;
use crate::workspace::Workspace;

/// How long each target runs unless told otherwise.
const SECONDS: u32 = 60;

/// An input that takes longer than this is a finding.
const SLOWEST_INPUT_SECONDS: u32 = 10;

/// What makes libFuzzer see which input reached new code (the flags of `cargo fuzz`, without its sanitizer).
const INSTRUMENTATION: &str = "--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Clinker=clang -Clink-arg=-fuse-ld=mold";

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let (seconds, name) = match arguments {
        [] => (SECONDS, None),
        [seconds, rest @ ..] if rest.len() < 2 => match seconds.parse() {
            Ok(seconds) => (seconds, rest.first().map(String::as_str)),
            Err(_) => {
                return Ok(crate::wrong_usage(
                    "fuzz",
                    &format!("\"{seconds}\" is no number of seconds"),
                ));
            }
        },
        _ => {
            return Ok(crate::wrong_usage(
                "fuzz",
                "it takes seconds per target and the name of one target",
            ));
        }
    };
    toolchain::ensure(workspace)?;
    run_targets(workspace, seconds, name)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds and runs every target, or the one called `only`.
pub(crate) fn run_targets(workspace: &Workspace, seconds: u32, only: Option<&str>) -> Result<()> {
    let mut failed = Vec::new();
    let mut found = false;
    for folder in fuzz_crates(workspace)? {
        follow_lock_file(workspace, &folder)?;
        let targets: Vec<String> = targets(workspace, &folder)?
            .into_iter()
            .filter(|name| only.is_none_or(|only| only == name))
            .collect();
        if targets.is_empty() {
            continue;
        }
        found = true;
        build(workspace, &folder)?;
        for target in targets {
            if let Err(error) = run_target(workspace, &folder, &target, seconds) {
                eprintln!("{error:#}");
                failed.push(target);
            }
        }
    }
    match (found, only) {
        (false, Some(name)) => bail!("no fuzz target \"{name}\" in crates/*/fuzz"),
        (false, None) => bail!("no fuzz target in crates/*/fuzz"),
        (true, _) if !failed.is_empty() => bail!("failed fuzz targets: {}", failed.join(", ")),
        (true, _) => Ok(()),
    }
}

/// The folders `crates/*/fuzz` with a manifest, sorted.
fn fuzz_crates(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let crates = workspace.path("crates");
    let mut folders = Vec::new();
    for entry in fs::read_dir(&crates).with_context(|| format!("list {}", crates.display()))? {
        let folder = entry.context("list the crates")?.path().join("fuzz");
        if folder.join("Cargo.toml").is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

/// The fuzz crate's lock file is made from the workspace's and not committed, so that the code under test stands on the same
/// versions here as everywhere.
fn follow_lock_file(workspace: &Workspace, folder: &Path) -> Result<()> {
    let (ours, theirs) = (workspace.path("Cargo.lock"), folder.join("Cargo.lock"));
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if modified(&theirs) < modified(&ours) {
        fs::copy(&ours, &theirs).with_context(|| format!("write {}", theirs.display()))?;
    }
    Ok(())
}

/// The names of a fuzz crate's programs.
fn targets(workspace: &Workspace, folder: &Path) -> Result<Vec<String>> {
    let mut metadata = process::cargo(workspace);
    metadata
        .current_dir(folder)
        .args(["metadata", "--format-version=1", "--no-deps", "--quiet"]);
    let metadata: Value =
        serde_json::from_str(&process::read(&mut metadata)?).context("read the output of cargo metadata")?;
    let targets = metadata["packages"][0]["targets"]
        .as_array()
        .context("cargo metadata names no targets")?;
    Ok(targets
        .iter()
        .filter(|target| target["kind"][0] == "bin")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

fn build(workspace: &Workspace, folder: &Path) -> Result<()> {
    let mut build = process::cargo(workspace);
    build
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target_dir(workspace))
        .env("RUSTFLAGS", INSTRUMENTATION)
        // Enough to try many inputs a second, without the build time of a release.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        // Naming the target keeps the instrumentation out of build scripts.
        .args(["build", "--quiet", "--bins", "--target", &triple()]);
    process::run(&mut build)
}

fn run_target(workspace: &Workspace, folder: &Path, name: &str, seconds: u32) -> Result<()> {
    let program = target_dir(workspace).join(triple()).join("debug").join(name);
    // Two crates may call their targets the same.
    let owner = folder.parent().and_then(Path::file_name).unwrap_or_default();
    let kept = target_dir(workspace).join("corpus").join(owner).join(name);
    let crashes = target_dir(workspace).join("crashes").join(owner).join(name);
    for dir in [&kept, &crashes] {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let mut fuzz = Command::new(program);
    fuzz.current_dir(workspace.root())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOWEST_INPUT_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args(["-print_final_stats=1", "-rss_limit_mb=2048"])
        .arg(&kept);
    let seeds = folder.join("seeds").join(name);
    if seeds.is_dir() {
        fuzz.arg(seeds);
    }
    let output = fuzz
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start fuzz target {name}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let statistic = |key: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(key));
            line.map_or("?", str::trim).to_owned()
        };
        let inputs = statistic("stat::number_of_executed_units:");
        eprintln!("    {name}: {inputs} inputs, none fails");
        return Ok(());
    }
    // The end of libFuzzer's report has the panic, the stack and the path of the input.
    let lines: Vec<&str> = log.lines().collect();
    bail!(
        "fuzz target {name}: {}\n{}",
        output.status,
        lines[lines.len().saturating_sub(40)..].join("\n")
    )
}

fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("fuzz")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
