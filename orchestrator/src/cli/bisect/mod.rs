//! `farm bisect`: which commit brought a bug.

mod simulate;

use clap::Subcommand;

use super::environment::Environment;
use crate::error::{ExitCode, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum BisectCommand {
    /// Search a history that a file describes, without git, kernels or guests, and show each step
    #[command(after_help = simulate::HELP)]
    Simulate(simulate::SimulateArgs),
}

pub(super) fn bisect(environment: &Environment, command: &BisectCommand) -> Result<ExitCode, Failure> {
    match command {
        BisectCommand::Simulate(options) => simulate::simulate(environment, options),
    }
}
