//! `put KEY VALUE`, `get KEY [END] [flags]`, `del KEY [END] [flags]`: the words of a line, given to the commands' own parsers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::scanner::{Mistake, Scanner};
use crate::client::failure::Failure;
use crate::client::kv;
use crate::wire::etcdserverpb::RequestOp;
use crate::wire::etcdserverpb::request_op::Request;

/// An operation of a transaction.
#[derive(Debug, clap::Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_colored_help = true
)]
enum Operation {
    Put(kv::Put),
    Get(kv::Get),
    Del(kv::Del),
}

/// Parses operations; building the argument tree once serves all lines.
pub(super) struct Parser {
    command: clap::Command,
}

impl Parser {
    pub(super) fn new() -> Self {
        Self {
            command: Operation::command(),
        }
    }

    /// Reads one operation, the whole line.
    pub(super) fn parse(&mut self, scanner: &mut Scanner<'_>) -> Result<RequestOp, Mistake> {
        let start = scanner.clone();
        let words = words(scanner)?;
        if !matches!(words.first().map(Vec::as_slice), Some(b"put" | b"get" | b"del")) {
            return Err(start.mistake("want an operation: put KEY VALUE, get KEY [END], or del KEY [END]"));
        }
        let words = words.into_iter().map(OsString::from_vec);
        let operation = self
            .command
            .try_get_matches_from_mut(words)
            .and_then(|matches| Operation::from_arg_matches(&matches))
            .map_err(|error| start.mistake(first_line(&error)))?;
        let request = match operation {
            Operation::Put(put) => {
                let missing =
                    || Failure::usage("want put KEY VALUE: a transaction has the value on the line");
                let request = put.request(|value| value.ok_or_else(missing));
                Request::RequestPut(
                    request.map_err(|failure| start.mistake(failure.text().unwrap_or_default()))?,
                )
            }
            Operation::Get(get) => Request::RequestRange(get.request()),
            Operation::Del(del) => Request::RequestDeleteRange(del.request()),
        };
        Ok(RequestOp {
            request: Some(request),
        })
    }
}

/// The words of the line: plain ones end at a blank, `"..."` has escapes, `'...'` has none.
fn words(scanner: &mut Scanner<'_>) -> Result<Vec<Vec<u8>>, Mistake> {
    let mut words = Vec::new();
    loop {
        scanner.skip_blanks();
        let opening = scanner.clone();
        match scanner.peek() {
            None => return Ok(words),
            Some(b'"') => words.push(scanner.quoted()?),
            Some(b'\'') => {
                scanner.take(b'\'');
                words.push(scanner.raw(b'\'', &opening)?);
            }
            Some(_) => words.push(scanner.take_while(|byte| !byte.is_ascii_whitespace()).to_vec()),
        }
    }
}

/// What clap found wrong, without its usage text.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // A missing argument is named on the line after.
    match first.strip_suffix(':') {
        Some(_) => format!("{first} {}", lines.next().unwrap_or_default()),
        None => first.to_owned(),
    }
}
