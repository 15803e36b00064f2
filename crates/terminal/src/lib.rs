//! How our command-line programs look: results on standard output, everything else on standard error, and one way to show
//! tables, JSON, errors, progress, colours, sizes and durations.
//!
//! What is printed to standard output may be read by a program, so it does not depend on the terminal except where a person
//! is looking at one: tables are then fitted to its width and [`style`] gives colour. Nothing here asks questions.
//!
//! Invariants: a reader that goes away (`| head`) ends the program quietly; any other failure to write is an error with
//! exit code 1, never a silently short output.

mod error;
mod format;
mod harmless;
mod human;
mod out;
mod progress;
pub mod style;
mod table;
mod variables;

pub use error::{chain, error, note};
pub use format::{OutputFormat, print_json};
pub use harmless::{brief, harmless, is_harmful};
pub use human::{human_bytes, human_duration};
pub use out::{EXIT_PIPE, Out, out, out_bytes};
pub use progress::{Progress, progress};
pub use table::Table;
pub use variables::without_empty_variables;
