//! Asking for a password: at the terminal without echo, or one line of standard input.
//!
//! Where there is no terminal the refusal says how else the password can be given, which the caller knows.
//!
//! The terminal's echo is switched back on even when reading fails. Passwords are never printed and not kept longer than the
//! request needs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::failure::{Failure, Result};

/// Longest password read.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// Asks at the controlling terminal; `otherwise` is what to do where there is none.
pub(super) fn ask(prompt: &str, otherwise: &str) -> Result<String> {
    let missing = || Failure::usage(format!("ask for a password: there is no terminal: {otherwise}"));
    let mut terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| missing())?;
    write!(terminal, "{prompt}").map_err(|_| missing())?;
    let answer = {
        let silence = Silence::on(&terminal).map_err(|_| missing())?;
        read_line(&mut &*silence.terminal)
    };
    // The newline typed was not echoed.
    writeln!(terminal).map_err(|_| missing())?;
    answer
}

/// Asks twice and wants the same answer.
pub(super) fn ask_twice(name: &str) -> Result<String> {
    let otherwise = "--interactive=false reads it from standard input";
    let first = ask(&format!("Password of {name}: "), otherwise)?;
    let second = ask(
        &format!("Type password of {name} again for confirmation: "),
        otherwise,
    )?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ"))
    }
}

/// Takes one line of `input`.
pub(super) fn read_line(input: &mut dyn Read) -> Result<String> {
    let mut line = String::new();
    BufReader::new(input.take(PASSWORD_BYTES_MAX))
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format!("read password: {error}")))?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::usage("read password: it is empty"));
    }
    Ok(password.to_owned())
}

/// Echo is off while this lives.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn on(terminal: &'a File) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // A terminal that went away needs no echo.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_the_password() {
        assert_eq!(
            read_line(&mut &b"s e:cret\r\nrest"[..]).as_deref(),
            Ok("s e:cret")
        );
        assert_eq!(read_line(&mut &b"x"[..]).as_deref(), Ok("x"));
    }

    #[test]
    fn an_empty_password_is_refused() {
        assert!(read_line(&mut &b"\n"[..]).is_err() && read_line(&mut &b""[..]).is_err());
        assert!(read_line(&mut &b"\xff\n"[..]).is_err());
    }
}
