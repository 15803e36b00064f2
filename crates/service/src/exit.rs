//! Exit codes.
//!
//! Three codes mean the same in every program; a program that documents more (Chainfire: 2 start-up check, 3 corruption,
//! 4 failed fsync) attaches the code to the error with [`with_code`] where it knows the reason, and the entry function
//! asks [`code_of`]. Nothing here ends the process.

use std::fmt;

/// Done.
pub const OK: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// A start-up check or the configuration refused to go on.
pub const CONFIG: u8 = 2;
/// Wrong usage of the command line (`EX_USAGE` of `sysexits.h`).
pub const USAGE: u8 = 64;

/// An error that knows the exit code it stands for. Its text is the text of the error it wraps.
#[derive(Debug)]
struct Coded {
    code: u8,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The wrapped error shows through Display, so the chain goes on behind it.
        self.error.source()
    }
}

/// Attaches an exit code to an error. Context may still be added on top.
pub fn with_code(code: u8, error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Coded {
        code,
        error: error.into(),
    })
}

/// The exit code of an error: the outermost attached one, else [`FAILED`].
pub fn code_of(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Coded>())
        .map_or(FAILED, |coded| coded.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn attached_code_survives_context() {
        let error = with_code(3, anyhow!("disk").context("read log")).context("start");
        assert_eq!(code_of(&error), 3);
        assert_eq!(format!("{error:#}"), "start: read log: disk");
    }

    #[test]
    fn plain_errors_are_failures() {
        let error = Err::<(), _>(anyhow!("x")).context("y").unwrap_err();
        assert_eq!(code_of(&error), FAILED);
    }
}
