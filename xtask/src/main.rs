//! The repository's own chores: setting a host up, the demo, the tests, CI and generated documents.
//!
//! `farm` itself never installs anything and never needs a checkout; whatever does either lives here.
//! Every program that is run is printed first, in the form in which it can be pasted into a shell.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a set of commands for a person at a terminal"
)]

mod bench;
mod ci;
mod cmd;
mod demo;
mod docs;
mod packages;
mod practice_tree;
mod setup;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this repository. `cargo xtask demo` is the place to start.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what this host lacks (asks apt only for that), and fetch QEMU 10 into farm's cache
    Setup,
    /// Set up, build, fetch a kernel, and run the scenario `smoke` on it
    Demo,
    /// Set up and run all tests, those with a real QEMU included
    Test(test::Options),
    /// Check format, lints, licences, advisories, spelling, shell scripts and generated documents
    Ci,
    /// Measure farm against plain QEMU, and print the tables of docs/benchmarks.md
    Bench(bench::Options),
    PracticeTree(practice_tree::Options),
    /// Write the generated documents anew
    Docs(docs::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Setup => setup::run(),
        Chore::Demo => demo::run(),
        Chore::Test(options) => test::run(&options),
        Chore::Ci => ci::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::PracticeTree(options) => practice_tree::run(&options),
        Chore::Docs(options) => docs::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
