//! This program goes on in namespaces of its own, so that whatever happens to it nothing is left on the machine.
//!
//! It starts itself again under `unshare` with a new network, mount and process namespace. There it is process 1: when it ends, or is
//! killed, the kernel ends every member with it, and the network goes with the last process. The names of the members' networks are
//! files on a `/run` that exists only in there.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

/// Says to the second start that it is the second.
const INSIDE: &str = "MAINSTAY_TRIAL_INSIDE";

/// What `unshare` is asked for.
const UNSHARE: &[&str] = &[
    "--net",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// Where the program finds itself.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Where it is to work.
    Inside,
    /// The start inside has ended with this.
    Done(ExitCode),
}

/// Starts the program again inside, unless it is there. The error says what the machine lacks.
pub(crate) fn enter() -> Result<Entry> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(Entry::Inside);
    }
    if let Err(error) = possible() {
        bail!("network namespaces are not to be had ({error:#}); run as root");
    }
    let own = std::env::current_exe().context("find the path of this program")?;
    // `unshare` ends its child when it is killed, but ignores SIGTERM and outlives us by itself: so it is killed with this thread.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(UNSHARE)
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("run unshare")?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(Entry::Done(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

/// Tries, in namespaces that are gone at once, what the network needs.
fn possible() -> Result<()> {
    const TRY: &str = "mount -t tmpfs none /run && ip link add bridge0 type bridge && ip netns add try && \
                       ip link add try0 type veth peer name try1 netns try && nft add table ip try";
    let output = Command::new("unshare")
        .args(UNSHARE)
        .args(["--", "sh", "-c", TRY])
        .output()
        .context("run unshare")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.trim().lines().next().unwrap_or("no reason told"));
    }
    Ok(())
}
