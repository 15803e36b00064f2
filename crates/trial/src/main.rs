//! The program `trial`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    trial::main()
}
