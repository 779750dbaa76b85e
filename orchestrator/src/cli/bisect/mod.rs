//! `farm bisect`.

mod command;
mod commits;
mod config;
mod drive;
mod ends;
mod kernels;
mod steps;
mod testbed;

pub(super) use commits::MOST_END_TRIALS;

use super::args::BisectCommand;
use super::environment::Environment;
use crate::error::{ExitCode, Failure};

pub(super) fn bisect(environment: &Environment, command: &BisectCommand) -> Result<ExitCode, Failure> {
    match command {
        BisectCommand::Commits(options) => commits::commits(environment, options),
        BisectCommand::Config(options) => config::config(environment, options),
    }
}
