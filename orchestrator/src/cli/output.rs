//! The one place that writes results to stdout and failures to stderr.
use std::io::{self, Write};

use serde::Serialize;

use crate::error::{ExitCode, Failure};

/// Prints text on stdout. A reader that has gone away (`farm runs | head`) is no failure.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    finish(io::stdout().write_all(text.as_bytes()))
}

/// Prints one JSON document on stdout.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Failure::of(ExitCode::Fault, &e))?;
    text.push('\n');
    finish(io::stdout().write_all(text.as_bytes()))
}

/// Prints one JSON document on stdout, as one line.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value).map_err(|e| Failure::of(ExitCode::Fault, &e))?;
    text.push('\n');
    finish(io::stdout().write_all(text.as_bytes()))
}

fn finish(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of(ExitCode::Infra, &error).hint("stdout cannot be written to"))
        }
        _ => Ok(()),
    }
}

pub(super) fn failure(failure: &Failure) {
    note(&failure.to_string());
}

/// A line of progress or advice.
pub(super) fn note(line: &str) {
    // Only a closed stderr makes this fail, and then there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}
