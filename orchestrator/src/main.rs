//! The `farm` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    farm::cli::main()
}
