//! `chainfire-client`: the command line over the etcd v3 interface.
//!
//! A command is parsed ([`cli`]), connects to the first endpoint that answers ([`connection`]), asks, and prints the reply as
//! text, JSON or a table ([`output`]). One file per noun holds the arguments of its commands and one function per verb.
//! Nothing here knows more of the server than its gRPC interface, so the same program works against a real etcd.
//!
//! Exit codes: 0 done, 1 the server refused or a file of this machine could not be used, 2 wrong usage, 3 not reachable or no
//! answer in time; `lock` with a command ends with the code of that command (127 if there is none such). Results go to standard output, everything else to standard error.
//!
//! Invariants: each event of a stream is flushed as it is printed; a reader that closes our output ends the program
//! quietly; a signal releases what `lock` and `elect` hold before the program ends.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufWriter, Read, Write};
use std::process::ExitCode;

mod argument;
mod auth;
mod cli;
mod cluster;
mod connection;
mod election;
mod failure;
mod gossip;
pub mod grammar;
mod interrupt;
mod json;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod membership;
mod output;
mod password;
mod secure;
mod snapshot;
mod txn;
mod watch;

use failure::Failure;

/// Bytes of output gathered before they are written. Streams flush after every event regardless.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// Where a run reads and writes. The program uses the process's own streams, a test its own.
pub struct Console {
    /// Standard input.
    pub input: Box<dyn Read + Send>,
    /// Standard output: results only.
    pub output: Box<dyn Write + Send>,
    /// Standard error: everything else.
    pub errors: Box<dyn Write + Send>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl Console {
    /// The streams of this process.
    pub fn process() -> Self {
        Self {
            input: Box::new(std::io::stdin()),
            output: Box::new(BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, std::io::stdout())),
            errors: Box::new(std::io::stderr()),
        }
    }
}

/// The argument tree, for completions, man pages and tests.
pub fn command() -> clap::Command {
    cli::tree()
}

/// Runs the program. `args[0]` is its name.
pub fn main(args: Vec<OsString>) -> ExitCode {
    ExitCode::from(run(args, Console::process()))
}

/// Runs one command on the given streams and returns its exit code.
pub fn run(args: Vec<OsString>, mut console: Console) -> u8 {
    let parsed = match cli::Parsed::from_args(args) {
        Ok(parsed) => parsed,
        Err(refusal) => return print_refusal(&refusal, &mut console),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return print_failure(
                &Failure::refused(format!("start runtime: {error}")),
                &mut console.errors,
            );
        }
    };
    let Console {
        input,
        output,
        errors,
    } = console;
    let mut context = match cli::Context::new(parsed.global, parsed.format, input, output, errors) {
        Ok(context) => context,
        Err((failure, mut errors)) => return print_failure(&failure, &mut errors),
    };
    let result = runtime.block_on(Box::pin(cli::dispatch(parsed.command, &mut context)));
    let result = context.printer.flush().and(result);
    match result {
        Ok(()) => 0,
        Err(Failure::NotConnected(text)) => {
            let advised = Failure::NotConnected(format!("{text}; {}", context.settings.advice()));
            print_failure(&advised, &mut context.errors)
        }
        Err(failure) => print_failure(&failure, &mut context.errors),
    }
}

/// Help and version are results; anything else clap says is wrong usage.
fn print_refusal(refusal: &clap::Error, console: &mut Console) -> u8 {
    let (stream, code) = if refusal.use_stderr() {
        (&mut console.errors, Failure::USAGE)
    } else {
        (&mut console.output, 0)
    };
    // Nobody is left to tell when these streams are closed.
    let _ = write!(stream, "{}", refusal.render()).and_then(|()| stream.flush());
    code
}

fn print_failure(failure: &Failure, errors: &mut dyn Write) -> u8 {
    if let Some(text) = failure.text() {
        // Nobody is left to tell when standard error is closed.
        let _ = match failure.advice() {
            Some(advice) => writeln!(errors, "Error: {text}; {advice}"),
            None => writeln!(errors, "Error: {text}"),
        };
    }
    failure.exit_code()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Exit code, standard output and standard error of a run.
    pub(super) fn run<'a>(
        words: impl IntoIterator<Item = &'a str>,
        input: &'static [u8],
    ) -> (u8, String, String) {
        let (output, errors) = (Shared::default(), Shared::default());
        let console = Console {
            input: Box::new(input),
            output: Box::new(output.clone()),
            errors: Box::new(errors.clone()),
        };
        let args = std::iter::once("chainfire-client")
            .chain(words)
            .map(OsString::from)
            .collect();
        let code = super::run(args, console);
        let text = |shared: Shared| String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        (code, text(output), text(errors))
    }
}
