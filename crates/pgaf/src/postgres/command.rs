//! Running one of PostgreSQL's programs to its end.
//!
//! Output is bounded, and so is the time; whoever stops waiting, for instance because the keeper has to stop everything, takes the program
//! and what it has started with it. Arguments hold no secrets: programs find passwords in `~/.pgpass`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::database::Error;

/// What is kept of each stream, from its end: enough for every message of these programs.
const KEPT: usize = 64 * 1024;

/// A program with its arguments, in the language that we read.
pub(super) fn program(bindir: &Path, name: &str) -> Command {
    let mut command = Command::new(bindir.join(name));
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Ends a program's process group when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs it and answers with its standard output. `seen` is shown what it writes to standard error, as it comes.
pub(super) async fn run(
    what: &'static str,
    mut command: Command,
    limit: Duration,
    seen: impl FnMut(&str),
) -> Result<String, Error> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .map_err(|error| Error::failed(what, format!("{name}: {error}")))?;
    let group = child.id().map(|pid| Pid::from_raw(pid.cast_signed()));
    let mut group = Group(group);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = tokio::time::timeout(limit, async {
        let (stdout, stderr) = tokio::join!(collect(stdout, |_| ()), collect(stderr, seen));
        (stdout, stderr, child.wait().await)
    });
    let Ok((stdout, stderr, status)) = ended.await else {
        return Err(Error::failed(what, format!("{name} took longer than {limit:?}")));
    };
    group.0 = None;
    let status = status.map_err(|error| Error::failed(what, error))?;
    if status.success() {
        return Ok(stdout);
    }
    Err(Error::failed(
        what,
        format!("{name}: {status}: {}", last(&stderr)),
    ))
}

/// The last lines of it, which say why.
fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

async fn collect(stream: Option<impl AsyncRead + Unpin>, mut seen: impl FnMut(&str)) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let (mut kept, mut piece) = (Vec::new(), vec![0; 8192]);
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        seen(&String::from_utf8_lossy(&piece[..read]));
        kept.extend_from_slice(&piece[..read]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = program(Path::new("/bin"), "sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn why_it_failed_is_in_the_error() {
        let limit = Duration::from_secs(20);
        let error = run("try", shell("echo so >&2; exit 3"), limit, |_| ()).await;
        let text = error.expect_err("it failed").to_string();
        assert!(text.contains("exit status: 3: so"), "{text}");
        let output = run("try", shell("echo out"), limit, |_| ()).await;
        assert_eq!(output.expect("it works"), "out\n");
    }

    /// The shell's child holds the pipe open; it has to go too.
    #[tokio::test]
    async fn who_takes_too_long_is_ended_with_its_children() {
        let limit = Duration::from_millis(300);
        let mut pid = String::new();
        let script = "sleep 600 & echo $! >&2; wait";
        let error = run("try", shell(script), limit, |piece| pid.push_str(piece)).await;
        assert!(error.expect_err("too long").to_string().contains("took longer"));
        let child = format!("/proc/{}/stat", pid.trim());
        testkit::wait_until(Duration::from_secs(20), "the child to be gone", || {
            std::fs::read_to_string(&child).map_or(true, |stat| stat.contains(") Z "))
        });
    }
}
