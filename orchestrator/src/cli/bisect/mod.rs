//! `farm bisect`: what is asked, and the same again after a stop.

mod args;
mod bench;
mod command;
mod commits;
mod conclude;
mod config;
mod drive;
mod ends;
mod from_hit;
mod kernels;
mod packaged;
mod simulate;
mod steps;
mod testbed;

use std::sync::Arc;

use clap::Parser as _;
use jiff::Timestamp;

use self::args::BisectAsked;
pub(super) use self::args::BisectCommand;
use super::args::{Args, Command};
use super::environment::{Environment, absolute};
use super::output;
use crate::bisect::{Costs, Options, Seconds};
use crate::error::{ExitCode, Failure};
use crate::kernel::{ConfigRecipe, sha256_hex};
use crate::machine::quote;
use crate::scenario::Scenario;
use crate::store::{BisectRecord, BisectWriter, RunId, SubjectRecord};
pub(super) use testbed::Hunted;

/// Where nothing is known yet of what a build and a trial take.
const FIRST_GUESS: Costs = Costs { build: Seconds(300.0), cached: Seconds(2.0), trial: Seconds(5.0) };
/// The same where a commit is only checked out.
const FIRST_GUESS_OF_COMMANDS: Costs =
    Costs { build: Seconds(1.0), cached: Seconds(1.0), trial: Seconds(5.0) };

pub(super) fn bisect(environment: &Environment, command: &BisectCommand) -> Result<ExitCode, Failure> {
    match command {
        BisectCommand::Commits(options) => match &options.resume {
            Some(id) => resume(environment, id.as_deref()),
            None => match &options.hit {
                Some(hit) => begin_with_hit(environment, hit),
                None => commits::begin(environment, options, std::env::args().collect()),
            },
        },
        BisectCommand::Config(options) => config::begin(environment, options),
        BisectCommand::Kernels(options) => packaged::begin(environment, options),
        BisectCommand::Simulate(options) => simulate::simulate(environment, options),
        BisectCommand::Resume { id } => resume(environment, id.as_deref()),
    }
}

/// A bisect that is to begin.
struct Beginning<'a> {
    subjects: Vec<SubjectRecord>,
    inputs: String,
    /// What is kept beside the record.
    files: &'a [(&'a str, String)],
    /// How much there is to search, for people.
    asked: String,
    /// What was typed, or what that stands for.
    command: Vec<String>,
}

/// A hash of what is read again when a bisect goes on.
fn inputs(scenarios: &[Arc<Scenario>], config: Option<&ConfigRecipe>) -> String {
    let scenarios: Vec<&str> = scenarios.iter().map(|scenario| scenario.sha256.as_str()).collect();
    sha256_hex(format!("{scenarios:?} {config:?}").as_bytes())
}

/// Trials of one scenario or configuration say nothing of another.
fn check_inputs(record: &BisectRecord, inputs: &str) -> Result<(), Failure> {
    if record.inputs == inputs {
        return Ok(());
    }
    let message =
        format!("the scenario or the configuration is not what it was when bisect {} began", record.id);
    Err(Failure::new(ExitCode::Usage, message).hint("put it back, or begin anew"))
}

fn begin_with_hit(environment: &Environment, hit: &str) -> Result<ExitCode, Failure> {
    let asked: Vec<String> = std::env::args().collect();
    let command = from_hit::spelled_out(environment, hit, &asked)?;
    let words: Vec<String> = command.iter().skip(1).map(|word| quote(word)).collect();
    output::note(&format!("as in: farm {}", words.join(" ")));
    let parsed = Args::try_parse_from(&command).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("what the hit's run was asked is not understood: {error}"))
    })?;
    match &parsed.command {
        Command::Bisect(BisectCommand::Commits(question)) => commits::begin(environment, question, command),
        _ => Err(Failure::new(ExitCode::Fault, "a bisect of commits turned into something else")),
    }
}

/// Makes the directory of a new bisect, and says how to go on with it.
fn begun(environment: &Environment, new: Beginning<'_>) -> Result<(BisectRecord, BisectWriter), Failure> {
    let Beginning { subjects, inputs, files, asked, command } = new;
    let started = Timestamp::now();
    let record = BisectRecord {
        id: RunId::new(started, std::process::id()),
        started,
        farm: env!("CARGO_PKG_VERSION").to_owned(),
        command,
        directory: absolute(".".into())?,
        subjects,
        inputs,
    };
    let writer = environment.store.begin_bisect(&record, files)?;
    output::note(&format!(
        "bisect {id}: {asked}; after a stop, `farm bisect resume {id}` goes on",
        id = record.id
    ));
    Ok((record, writer))
}

/// To go on is to ask the same again, with what was learned.
fn resume(environment: &Environment, id: Option<&str>) -> Result<ExitCode, Failure> {
    let (directory, record) = environment.store.find_bisect(id)?;
    let (writer, entries) = BisectWriter::open(directory)?;
    std::env::set_current_dir(&record.directory).map_err(|error| {
        Failure::of(ExitCode::Usage, &error).hint(format!("{} is not there any more", record.directory))
    })?;
    let asked = Args::try_parse_from(&record.command).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("this farm does not know what was asked: {error}"))
    })?;
    output::note(&format!("bisect {}: going on", record.id));
    match &asked.command {
        Command::Bisect(BisectCommand::Commits(question)) => {
            commits::go_on(environment, question, &record, writer, entries)
        }
        Command::Bisect(BisectCommand::Kernels(question)) => {
            packaged::go_on(environment, question, &record, writer, entries)
        }
        Command::Bisect(BisectCommand::Config(question)) => {
            config::go_on(environment, question, &record, writer, entries)
        }
        _ => Err(Failure::new(ExitCode::Fault, "what was asked was no bisect")),
    }
}

impl BisectAsked {
    fn search(&self, costs: Costs) -> Options {
        let options = Options::new(self.confidence, costs);
        Options { max_end_trials: self.max_end_trials.unwrap_or(options.max_end_trials), ..options }
    }
}
