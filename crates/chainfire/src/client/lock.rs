//! `lock NAME [COMMAND]`: holds a lock of the server's lock service, bound to a lease that is kept alive meanwhile.
//!
//! Whatever ends this program releases the lock: a signal or the end of the command by revoking the lease, a crash by letting
//! it expire. If the lease cannot be kept, the lock may be someone else's, so the command is told to end before that.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use bytes::Bytes;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::argument;
use super::cli::Context;
use super::failure::{Failure, Result, system};
use super::interrupt::{Interrupt, Wish};
use super::lease::Kept;
use crate::wire::v3lockpb::{LockRequest, LockResponse};

/// Lock arguments.
#[derive(Debug, Args)]
pub(super) struct Lock {
    /// Name of the lock
    #[arg(value_parser = argument::bytes())]
    name: Bytes,
    /// Seconds after which the lock is free when this program dies
    #[arg(long, value_name = "SECONDS", value_parser = argument::seconds, default_value_t = 10)]
    ttl: i64,
    /// Command to run while the lock is held, with its arguments, also after --
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn lock(arguments: Lock, context: &mut Context) -> Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let session = context.open().await?;
    let mut lease = Kept::grant(&session, &context.settings, arguments.ttl).await?;
    let request = LockRequest {
        name: arguments.name.clone(),
        lease: lease.id(),
    };
    let mut client = session.lock();
    let acquired = tokio::select! {
        reply = session.wait(client.lock(request)) => reply.map(Some),
        failure = lease.lost() => Err(lost(&failure)),
        _ = interrupt.wait() => Ok(None),
    };
    let result = match acquired {
        Ok(Some(reply)) => hold(&reply, &arguments.command, &mut lease, &mut interrupt, context).await,
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    let released = lease.revoke(&context.settings).await;
    // What ended the work says more than what ended the lock after it.
    result.and(released)
}

fn lost(failure: &Failure) -> Failure {
    Failure::refused(format!("lock lost: {}", failure.text().unwrap_or_default()))
}

async fn hold(
    reply: &LockResponse,
    command: &[OsString],
    lease: &mut Kept,
    interrupt: &mut Interrupt,
    context: &mut Context,
) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        context.printer.reply(reply, |text| text.bytes(&reply.key))?;
        return tokio::select! {
            failure = lease.lost() => Err(lost(&failure)),
            _ = interrupt.wait() => Ok(()),
        };
    };
    let key = OsStr::from_bytes(&reply.key);
    let revision = reply
        .header
        .as_ref()
        .map_or(0, |header| header.revision)
        .to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .env("CHAINFIRE_LOCK_KEY", key)
        .env("ETCD_LOCK_KEY", key)
        .env("ETCD_LOCK_REV", revision)
        .spawn()
        .map_err(|error| not_run(program, &error))?;
    loop {
        tokio::select! {
            status = child.wait() => return ended(status),
            failure = lease.lost() => {
                terminate(&child);
                let _status = child.wait().await;
                return Err(lost(&failure));
            }
            wish = interrupt.wait() => {
                // Ctrl-C at the terminal reached the command already.
                if wish == Wish::Terminate || !std::io::stdin().is_terminal() {
                    terminate(&child);
                }
            }
        }
    }
}

/// As a shell has it: 127 for a command that is not there, 126 for one that cannot be run.
fn not_run(program: &OsStr, error: &std::io::Error) -> Failure {
    let name = program.display();
    match error.kind() {
        std::io::ErrorKind::NotFound if program.as_bytes().contains(&b'/') => {
            Failure::NotRun(127, format!("run {name}: no such file, or not its interpreter"))
        }
        std::io::ErrorKind::NotFound => {
            Failure::NotRun(127, format!("run {name}: no such command in any folder of PATH"))
        }
        _ => Failure::NotRun(126, format!("run {name}: {}", system(error))),
    }
}

fn terminate(child: &Child) {
    // A child that has been waited for has no id any more.
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else {
        return;
    };
    // It may have ended by itself meanwhile.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
}

fn ended(status: std::io::Result<ExitStatus>) -> Result<()> {
    let status = status.map_err(|error| Failure::refused(format!("wait for the command: {error}")))?;
    // As a shell does: death by a signal is 128 and its number.
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Command(code)),
        Err(_) => Err(Failure::Command(1)),
    }
}
