//! Writing to standard output.
//!
//! The Rust runtime ignores SIGPIPE, so a reader that went away shows as an error of `write`. Other tools die of the signal;
//! we end with the exit code a shell shows for that, saying nothing.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

/// Exit code when the reader of standard output went away: what a shell reports for death by SIGPIPE (128 + 13).
pub const EXIT_PIPE: i32 = 141;

/// Writes `text` as it is to standard output and flushes.
pub fn out(text: &str) {
    out_bytes(text.as_bytes());
}

/// Writes bytes as they are to standard output and flushes.
pub fn out_bytes(bytes: &[u8]) {
    let mut out = Out::stdout();
    out.bytes(bytes);
    out.flush();
}

/// A buffered writer whose failures end the program, so that callers need not handle them. Flushed when dropped.
pub struct Out<W: Write = Stdout> {
    writer: BufWriter<W>,
    fail: fn(&io::Error),
}

impl Out {
    /// Standard output.
    pub fn stdout() -> Self {
        Self {
            writer: BufWriter::new(io::stdout()),
            fail: end,
        }
    }
}

impl<W: Write> Out<W> {
    /// Writes one line; the newline is added.
    pub fn line(&mut self, text: impl fmt::Display) {
        let result = writeln!(self.writer, "{text}");
        self.check(result);
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let result = self.writer.write_all(bytes);
        self.check(result);
    }

    /// Hands everything on, for commands that print while they run.
    pub fn flush(&mut self) {
        let result = self.writer.flush();
        self.check(result);
    }

    fn check(&self, result: io::Result<()>) {
        if let Err(error) = result {
            (self.fail)(&error);
        }
    }
}

impl<W: Write> Drop for Out<W> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl<W: Write> fmt::Debug for Out<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("buffered", &self.writer.buffer().len())
            .finish_non_exhaustive()
    }
}

fn end(error: &io::Error) {
    let code = exit_code(error);
    if code != EXIT_PIPE {
        crate::error(&format_args!("write to standard output: {error}"));
    }
    std::process::exit(code);
}

fn exit_code(error: &io::Error) -> i32 {
    if error.kind() == ErrorKind::BrokenPipe {
        EXIT_PIPE
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    thread_local! {
        static FAILURES: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
    }

    fn note_failure(error: &io::Error) {
        FAILURES.with_borrow_mut(|codes| codes.push(exit_code(error)));
    }

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_arrives_by_the_time_of_drop() {
        let seen = Shared::default();
        let mut out = Out {
            writer: BufWriter::new(seen.clone()),
            fail: note_failure,
        };
        out.line(7);
        out.text("key\n");
        out.bytes(&[0xff, 0]);
        assert!(seen.0.borrow().is_empty(), "small output is buffered");
        drop(out);
        assert_eq!(*seen.0.borrow(), b"7\nkey\n\xff\0");
    }

    #[test]
    fn a_reader_gone_is_told_from_a_full_disk() {
        for (kind, code) in [(ErrorKind::BrokenPipe, EXIT_PIPE), (ErrorKind::StorageFull, 1)] {
            FAILURES.with_borrow_mut(Vec::clear);
            let mut out = Out {
                writer: BufWriter::new(Broken(kind)),
                fail: note_failure,
            };
            out.line("x");
            out.flush();
            assert_eq!(FAILURES.with_borrow(|codes| codes[0]), code);
        }
    }
}
