//! The command line: what a person types, and what is printed.
//!
//! stdout is data, stderr is progress and logs; only `output` and `progress` write to either.

mod args;
mod bisect;
mod calibrate;
mod doctor;
mod environment;
mod kernels;
mod mutants;
mod output;
mod perform;
mod progress;
mod provision;
mod repro;
mod results;
mod run;
mod scan;
mod scenarios;
mod shell;
mod trial;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, KernelCommand, ScenarioCommand};
use environment::Environment;

use crate::error::{self, Failure};

/// Runs what the command line asks for and gives the process's exit code.
pub fn main() -> ExitCode {
    if let Some(code) = crate::machine::launch_if_asked(std::env::args_os()) {
        return code;
    }
    let args = Args::parse(); // exits with 2 on wrong usage, as documented
    let code = match execute(&args) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(code.code())
}

fn execute(args: &Args) -> Result<error::ExitCode, Failure> {
    let environment = Environment::new(args)?;
    match &args.command {
        Command::Run(options) => run::run(&environment, options),
        Command::Calibrate(options) if !options.mutants.is_empty() => {
            mutants::calibrate(&environment, options)
        }
        Command::Calibrate(options) => calibrate::calibrate(&environment, options),
        Command::Try(options) => trial::try_patch(&environment, options),
        Command::Repro(options) => repro::repro(&environment, options),
        Command::Bisect(command) => bisect::bisect(&environment, command),
        Command::Shell(options) => shell::shell(&environment, options),
        Command::Runs => results::runs(&environment),
        Command::Hits(options) => results::hits(&environment, options),
        Command::Show { id } => results::show(&environment, id),
        Command::Scan(options) => scan::scan(&environment, options),
        Command::Doctor => doctor::doctor(&environment),
        Command::Kernel(KernelCommand::List) => kernels::list(&environment),
        Command::Kernel(KernelCommand::Fetch { names }) => kernels::fetch(&environment, names),
        Command::Kernel(KernelCommand::Symbols { names }) => kernels::symbols(&environment, names),
        Command::Kernel(KernelCommand::Configs) => kernels::configs(&environment),
        Command::Kernel(KernelCommand::Build { names, tree }) => kernels::build(&environment, names, tree),
        Command::Kernel(KernelCommand::Config { name, tree }) => {
            kernels::show_config(&environment, name.as_deref(), tree)
        }
        Command::Scenario(ScenarioCommand::List) => scenarios::list(&environment),
        Command::Scenario(ScenarioCommand::Check { files }) => scenarios::check(&environment, files),
        Command::Scenario(ScenarioCommand::Show { name }) => scenarios::show(&environment, name),
    }
}

/// A directory that goes when the first of these does.
fn scratch() -> Result<(tempfile::TempDir, camino::Utf8PathBuf), Failure> {
    let failed = |error: std::io::Error| Failure::of(error::ExitCode::Infra, &error);
    let directory = tempfile::tempdir().map_err(failed)?;
    let path = camino::Utf8PathBuf::try_from(directory.path().to_owned());
    Ok((directory, path.map_err(|error| failed(error.into_io_error()))?))
}

/// A current-thread runtime: QEMU is killed when the thread that started it dies, and the main thread lives as long as farm.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(error::ExitCode::Infra, &error))
}
