//! `cargo xtask test`: everything a merge needs, in one command. This is what CI runs.
//!
//! Stages run in an order that shows cheap failures first; a failed stage does not stop the others, unless they need what it should
//! have produced. The last line is `N passed, N failed, N skipped`: the tests, plus one failure for each failed stage that counts
//! no tests. `--quick` is the inner loop (type check and unit tests); `--filter` runs only the tests it names.
//!
//! With `CI=true` the build goes into one permanent folder per machine, so that third-party crates stay built from run to run.
//! Cargo compares file times and not contents, so all tracked files are touched first: our own crates are then always built
//! from this checkout. A lock keeps two such runs apart.

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::counts::Counts;
use crate::dist;
use crate::fuzz;
use crate::nextest::{self, Selection};
use crate::packages;
use crate::process;
use crate::stages::Stages;
use crate::tidy;
use crate::toolchain;
use crate::tools;
use crate::workspace::{self, Workspace};

/// How long each fuzz target runs here: long enough to notice a broken one. `cargo xtask fuzz` looks longer.
const FUZZ_SECONDS: u32 = 10;

#[derive(Default)]
struct Options {
    quick: bool,
    filter: Option<String>,
}

/// The command.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(what) => return Ok(crate::wrong_usage("test", &what)),
    };
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let shared;
    let (workspace, _lock) = if in_ci && std::env::var_os("CARGO_TARGET_DIR").is_none() {
        let (folder, lock) = claim_ci_folder()?;
        touch_tracked_files(workspace)?;
        shared = workspace.with_target_dir(folder);
        (&shared, Some(lock))
    } else {
        (workspace, None)
    };

    let mut stages = Stages::new();
    if options.quick {
        quick(workspace, &options, &mut stages);
    } else if options.filter.is_some() {
        filtered(workspace, &options, in_ci, &mut stages);
    } else {
        everything(workspace, in_ci, &mut stages);
    }
    Ok(if stages.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn parse(arguments: &[String]) -> std::result::Result<Options, String> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => options.quick = true,
            "--filter" => options.filter = Some(words.next().ok_or("--filter needs a value")?.clone()),
            other => match other.strip_prefix("--filter=") {
                Some(value) => options.filter = Some(value.to_owned()),
                None => {
                    return Err(format!(
                        "unknown argument \"{other}\", it takes --quick and --filter TEXT"
                    ));
                }
            },
        }
    }
    Ok(options)
}

fn set_up(workspace: &Workspace) -> Result<()> {
    toolchain::ensure(workspace)?;
    packages::ensure(packages::BUILD_TESTS)
}

fn everything(workspace: &Workspace, quiet: bool, stages: &mut Stages) {
    if !stages.check("set-up", || set_up(workspace)) {
        return;
    }
    stages.check("packages for tests", || packages::ensure(packages::TEST));
    stages.check("format", || {
        process::run(process::cargo(workspace).args(["fmt", "--all", "--check", "--message-format", "short"]))
    });
    stages.check("conventions", || tidy::check(workspace));
    stages.tests("dependency policy", || dependency_policy(workspace));
    stages.check("lints", || {
        let mut clippy = cargo(workspace, quiet, &["clippy", "--workspace", "--all-targets"]);
        process::run(clippy.args(["--", "-D", "warnings"]))
    });
    let built = stages.check("build", || {
        process::run(&mut cargo(workspace, quiet, &["build", "--workspace"]))
    });
    if built {
        // Run from the target folder: building it alone would resolve other features and build half the tree again.
        stages.check("generated code", || {
            process::run(built_program(workspace, "codegen").arg("--check"))
        });
        all_tests(workspace, None, quiet, stages);
        stages.tests("documentation examples", || nextest::run_doc_tests(workspace));
        stages.check("runbook syntax", || {
            process::run(built_program(workspace, "mainstay").args(["runbook", "check"]))
        });
        stages.check("fuzzing", || fuzz::run_targets(workspace, FUZZ_SECONDS, None));
    } else {
        for name in [
            "generated code",
            "package",
            "tests",
            "documentation examples",
            "runbook syntax",
            "fuzzing",
        ] {
            stages.not_run(name);
        }
    }
}

fn quick(workspace: &Workspace, options: &Options, stages: &mut Stages) {
    if !stages.check("set-up", || set_up(workspace)) {
        return;
    }
    stages.check("check", || {
        process::run(&mut cargo(
            workspace,
            false,
            &["check", "--workspace", "--all-targets"],
        ))
    });
    let selection = Selection {
        unit_only: true,
        filter: options.filter.as_deref(),
        quiet: false,
        deb: None,
    };
    stages.tests("unit tests", || nextest::run(workspace, &selection));
}

fn filtered(workspace: &Workspace, options: &Options, quiet: bool, stages: &mut Stages) {
    if !stages.check("set-up", || set_up(workspace)) {
        return;
    }
    stages.check("packages for tests", || packages::ensure(packages::TEST));
    // Tests start the programs of the workspace, so these have to be there and current.
    if stages.check("build", || {
        process::run(&mut cargo(workspace, quiet, &["build", "--workspace"]))
    }) {
        all_tests(workspace, options.filter.as_deref(), quiet, stages);
    } else {
        stages.not_run("tests");
    }
}

/// Packs the Debian package, because some tests install it, and runs the tests of every crate.
fn all_tests(workspace: &Workspace, filter: Option<&str>, quiet: bool, stages: &mut Stages) {
    let mut deb = None;
    stages.check("package", || {
        let [_, package] = dist::pack(workspace, dist::Profile::Dev)?;
        deb = Some(package);
        Ok(())
    });
    let selection = Selection {
        unit_only: false,
        filter,
        quiet,
        deb: deb.as_deref(),
    };
    stages.tests("tests", || nextest::run(workspace, &selection));
}

fn cargo(workspace: &Workspace, quiet: bool, arguments: &[&str]) -> Command {
    let mut command = process::cargo(workspace);
    command.args(arguments);
    if quiet {
        command.arg("--quiet");
    }
    command
}

fn built_program(workspace: &Workspace, name: &str) -> Command {
    let mut command = Command::new(workspace.target_dir().join("debug").join(name));
    command.current_dir(workspace.root());
    command
}

/// `cargo deny` over `deny.toml`: bans, licences and sources. Advisories need a database from the network and are looked at by
/// hand when the lock file changes.
fn dependency_policy(workspace: &Workspace) -> Result<Counts> {
    let Some(program) = tools::find_or_install(workspace, "cargo-deny", &["--version"]) else {
        eprintln!("skipped: cargo-deny cannot be had on this machine");
        return Ok(Counts {
            skipped: 1,
            ..Counts::default()
        });
    };
    // It looks at every crate of the lock file, those for other platforms too, which no build here has fetched.
    process::run(process::cargo(workspace).args(["fetch", "--locked", "--quiet"]))?;
    let mut deny = Command::new(program);
    deny.current_dir(workspace.root());
    process::run(deny.args([
        "--offline",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    Ok(Counts::default())
}

/// Takes the permanent build folder for this run.
fn claim_ci_folder() -> Result<(PathBuf, File)> {
    let folder = workspace::cache_dir()?.join("ci-target");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("run.lock");
    let lock = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another run to leave {}", folder.display());
        lock.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    Ok((folder, lock))
}

#[expect(clippy::disallowed_methods, reason = "cargo compares real file times")]
fn touch_tracked_files(workspace: &Workspace) -> Result<()> {
    let times = FileTimes::new().set_modified(SystemTime::now());
    for name in workspace.tracked_files()? {
        let path = workspace.path(&name);
        if path.is_symlink() {
            continue;
        }
        let file = File::options().append(true).open(&path);
        file.and_then(|file| file.set_times(times))
            .with_context(|| format!("touch {}", path.display()))?;
    }
    if workspace.tracked_files()?.is_empty() {
        bail!("touch tracked files: git lists none");
    }
    Ok(())
}
