//! `farm bisect`.

mod command;
mod commits;
mod drive;
mod kernels;
mod testbed;

pub(super) use commits::MOST_END_TRIALS;
pub(super) use testbed::Hunted;

use super::args::BisectCommand;
use super::environment::Environment;
use crate::error::{ExitCode, Failure};

pub(super) fn bisect(environment: &Environment, command: &BisectCommand) -> Result<ExitCode, Failure> {
    match command {
        BisectCommand::Commits(options) => commits::commits(environment, options),
    }
}
