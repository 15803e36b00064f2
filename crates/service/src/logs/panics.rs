//! A panic is one ERROR line, and for a server the end of the process: a broken invariant stops the node.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// Replaces the panic hook by one that logs `ERROR panic: Panicked, thread=.., location=.., error=..`.
///
/// With `abort` the process ends at once with SIGABRT, so that the service manager restarts it and a core can be taken;
/// without it the panic goes on unwinding as usual. A back trace is added when `RUST_BACKTRACE` asks for one. When no
/// subscriber is there to show the line, it goes to standard error in the same form.
pub fn install_panic_hook(abort: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if abort {
            std::process::abort();
        }
    }));
}

fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let error = panic.payload_as_str().unwrap_or("not a text");
    let trace = Backtrace::capture();
    if !tracing::enabled!(target: "panic", tracing::Level::ERROR) {
        // The hook must not panic itself, so a failed write is dropped.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!(
                "ERROR panic: Panicked, thread={thread}, location={location}, error={}\n",
                error.escape_debug()
            )
            .as_bytes(),
        );
    } else if trace.status() == BacktraceStatus::Captured {
        tracing::error!(target: "panic", thread, location, %trace, error, "Panicked");
    } else {
        tracing::error!(target: "panic", thread, location, error, "Panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in the copy of this test that is meant to die.
    const VICTIM: &str = "SERVICE_TEST_PANIC";

    #[test]
    fn a_panic_is_one_line_and_ends_the_process() {
        if std::env::var_os(VICTIM).is_some() {
            let settings = crate::logs::LogSettings {
                timestamps: crate::logs::Timestamps::Never,
                ..Default::default()
            };
            crate::logs::init(&settings).unwrap();
            install_panic_hook(true);
            std::thread::Builder::new()
                .name("apply".into())
                .spawn(|| panic!("index 5\nafter 7"))
                .unwrap()
                .join()
                .unwrap_err();
            unreachable!("the process is gone");
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "logs::panics::tests::a_panic_is_one_line_and_ends_the_process",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .env_remove("RUST_BACKTRACE")
            .env_remove("JOURNAL_STREAM")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.signal(), Some(6), "{stderr}");
        let line = stderr.lines().find(|line| line.starts_with("ERROR")).unwrap();
        assert!(
            line.starts_with("ERROR panic: Panicked, thread=apply, location="),
            "{line}"
        );
        assert!(line.ends_with(", error=index 5\\nafter 7"), "{line}");
    }
}
