//! Tests of what refuses to run as root, run by root.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::AddressBlock;

use crate::dir::TestDir;
use crate::programs::require;

/// The user of Debian's PostgreSQL packages.
const USER: &str = "postgres";

/// The number of the addresses that the first run holds for the second one.
const BLOCK: &str = "MAINSTAY_TEST_BLOCK";
/// The directory that it has made for it.
const DIR: &str = "MAINSTAY_TEST_DIR";

/// Runs a test that must not run as root, in a directory of its own and with addresses of its own.
///
/// Root's test program runs the test of this name (all of it: `module::test`) a second time as the user `postgres`, and there `test` is
/// called; for anybody else it is called at once.
///
/// # Errors
/// What `test` fails with, or that the second run failed.
pub fn as_postgres(name: &str, test: impl FnOnce(&Path, &AddressBlock) -> Result<()>) -> Result<()> {
    if let (Ok(block), Ok(dir)) = (env::var(BLOCK), env::var(DIR)) {
        return test(Path::new(&dir), &AddressBlock::numbered(block.parse()?));
    }
    let addresses = AddressBlock::free()?;
    let mut dir = TestDir::new("postgres")?;
    if !nix::unistd::geteuid().is_root() {
        let done = test(dir.path(), &addresses);
        if done.is_err() {
            dir.keep();
        }
        return done;
    }
    let owner = Command::new("chown").arg(USER).arg(dir.path()).status();
    ensure!(
        owner.context("chown")?.success(),
        "the user {USER} owns no directory"
    );
    let own = env::current_exe().context("who am I")?;
    let program = readable_program(&dir, own, "test-program")?;
    let mut command = Command::new(require("setpriv")?);
    command.args(["--reuid", USER, "--regid", USER, "--init-groups"]);
    // It ends with this one, and what it has started ends with it.
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let number = addresses.host(0)?.octets()[2];
    command
        .env(BLOCK, number.to_string())
        .env(DIR, dir.path())
        .env("TMPDIR", dir.path())
        .env("HOME", dir.path())
        .current_dir(dir.path())
        .stdin(Stdio::null());
    // Tests of single crates run without it; those that need it say so.
    if let Ok(binary) = crate::mainstay_binary() {
        command.env("MAINSTAY_BIN", readable_program(&dir, binary, "mainstay")?);
    }
    let output = command.output().context("cannot run the test again")?;
    print(&output.stdout, &output.stderr);
    if !output.status.success() {
        dir.keep();
    }
    ensure!(output.status.success(), "{name} as {USER}: {}", output.status);
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    ensure!(ran, "there is no test {name}");
    Ok(())
}

/// A program, or a copy in the directory if it lies where only root can go.
fn readable_program(dir: &TestDir, program: PathBuf, name: &str) -> Result<PathBuf> {
    let mut test = Command::new(require("setpriv")?);
    test.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]);
    let reaches = test.args(["test", "-x"]).arg(&program).status();
    if reaches.is_ok_and(|status| status.success()) {
        return Ok(program);
    }
    let copy = dir.join(name);
    fs::copy(&program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what the test itself has printed"
)]
fn print(stdout: &[u8], stderr: &[u8]) {
    print!("{}", String::from_utf8_lossy(stdout));
    eprint!("{}", String::from_utf8_lossy(stderr));
}
