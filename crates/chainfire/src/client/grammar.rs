//! The text form of a transaction, as `etcdctl txn` reads it:
//!
//! ```text
//! mod("stock") > "0"
//! value("state") = "open"
//!                              (an empty line ends the block of comparisons)
//! put state closed
//! get stock --print-value-only
//!                              (and the block of operations done when all hold)
//! get state
//!                              (and the block done otherwise)
//! ```
//!
//! A comparison is `TARGET("KEY") OPERATOR "VALUE"` with the targets `version`, `create`, `mod`, `value` and `lease` (or `ver`,
//! `c`, `m`, `val`) and the operators `=`, `!=`, `<`, `>`. Strings are quoted as in Go. An operation is `put`, `get` or `del`
//! with the arguments and flags the commands of that name take; `"..."` takes Go's escapes, `'...'` none.
//!
//! Beyond `etcdctl`: the end of the text ends a block too, `lease` compares against a lease id in hexadecimal, blanks may
//! stand around the brackets and operators, `'...'` is taken whole (etcdctl 3.4 cuts it to the number of words on the line), and
//! a mistake is told with line, column and what would be right.
//!
//! Invariants: any bytes give a request or a [`Problem`], never a panic; work and memory are proportional to the text, whose
//! size and number of lines are bounded; there is no nesting.

use std::fmt;

use crate::wire::etcdserverpb::TxnRequest;

mod comparison;
mod operation;
mod scanner;
#[cfg(test)]
mod tests;

use scanner::Scanner;

/// Longest text taken. A server takes requests of 1.5 MiB unless told otherwise.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// Most comparisons and operations taken. A server takes 128 of each unless told otherwise.
pub const LINES_MAX: usize = 10_000;

/// What is wrong with a text, and where. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the text.
    pub line: usize,
    /// Column in the line.
    pub column: usize,
    /// What was found and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Problem {}

/// Reads a transaction. Text after the third block is a mistake.
pub fn parse(text: &[u8]) -> Result<TxnRequest, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Problem {
            line: 1,
            column: 1,
            message,
        });
    }
    let mut txn = TxnRequest::default();
    let mut operations = operation::Parser::new();
    let mut block = Block::Comparisons;
    for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let mut scanner = Scanner::new(line);
        scanner.skip_blanks();
        let refuse = |(column, message): (usize, String)| Problem {
            line: n + 1,
            column,
            message,
        };
        if scanner.at_end() {
            block = block.next();
            continue;
        }
        let known = txn.compare.len() + txn.success.len() + txn.failure.len();
        if known == LINES_MAX {
            return Err(refuse((
                1,
                format!("more than {LINES_MAX} comparisons and operations"),
            )));
        }
        match block {
            Block::Comparisons => txn.compare.push(comparison::parse(&mut scanner).map_err(refuse)?),
            Block::Success => txn.success.push(operations.parse(&mut scanner).map_err(refuse)?),
            Block::Failure => txn.failure.push(operations.parse(&mut scanner).map_err(refuse)?),
            Block::End => {
                let message = "text after the third block: want comparisons, an empty line, operations, an empty line, \
                               operations for the other case, and nothing more";
                return Err(refuse((scanner.column(), message.to_owned())));
            }
        }
    }
    Ok(txn)
}

/// Which block a line belongs to.
#[derive(Clone, Copy)]
enum Block {
    Comparisons,
    Success,
    Failure,
    End,
}

impl Block {
    fn next(self) -> Self {
        match self {
            Block::Comparisons => Block::Success,
            Block::Success => Block::Failure,
            Block::Failure | Block::End => Block::End,
        }
    }
}
