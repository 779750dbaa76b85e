//! `farm bisect commits`: the commit that brought a finding.

use std::collections::HashMap;
use std::num::NonZeroU32;

use camino::Utf8PathBuf;
use jiff::Timestamp;

use super::command::CommandTrials;
use super::drive::{Drive, Ended, GoesOn};
use super::kernels::{Kernels, Lives, Supply};
use super::testbed::{Hunted, Testbed};
use crate::bisect::{
    Answer, Commit, Costs, History, Options, Search, Seconds, Verdict, rate_where_seen, trials_to_clear,
};
use crate::cli::args::{Args, BisectCommand, BisectCommitsArgs, Command};
use crate::cli::environment::{Environment, absolute};
use crate::cli::perform::{interrupts, load, warmth};
use crate::cli::provision::{config, kernel_catalog};
use crate::cli::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::kernel::{
    self, BuildRequest, Checkout, ConfigRecipe, Kernel, KernelError, Range, Tree, TreeId, build,
    which_are_built,
};
use crate::report::bisect::{answer_text, git_log};
use crate::store::{BisectRecord, BisectWriter, BuildRecord, Probe, RunId, SubjectRecord};

/// Where nothing is known yet of what a build and a trial take.
const FIRST_GUESS: Costs = Costs { build: Seconds(300.0), cached: Seconds(2.0), trial: Seconds(5.0) };

pub(in crate::cli) fn commits(
    environment: &Environment,
    options: &BisectCommitsArgs,
) -> Result<ExitCode, Failure> {
    match &options.resume {
        None => begin(environment, options),
        Some(id) => resume(environment, id.as_deref()),
    }
}

fn begin(environment: &Environment, question: &BisectCommitsArgs) -> Result<ExitCode, Failure> {
    let directory = absolute(&question.tree)?;
    if question.run.is_empty() {
        Tree::check(&directory)?;
    }
    let range = Range::new(&directory, &question.good, &question.bad)?;
    let started = Timestamp::now();
    let record = BisectRecord {
        id: RunId::new(started, std::process::id()),
        started,
        farm: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        directory: absolute(".".into())?,
        subjects: std::iter::once(&range.good).chain(&range.between).map(subject).collect(),
    };
    // Whatever can be wrong with what was typed is told before anything is kept.
    load(&question.scenarios)?;
    config(&kernel_catalog()?, &question.config)?;
    let writer = environment.store.begin_bisect(&record)?;
    output::note(&format!(
        "bisect {}: {} commits; after a stop, `farm bisect commits --resume {}` goes on",
        record.id,
        range.between.len(),
        record.id
    ));
    go_on(environment, question, &record, writer, Vec::new())
}

fn resume(environment: &Environment, id: Option<&str>) -> Result<ExitCode, Failure> {
    use clap::Parser as _;

    let (directory, record) = environment.store.find_bisect(id)?;
    let (writer, entries) = BisectWriter::open(directory)?;
    std::env::set_current_dir(&record.directory).map_err(|error| {
        Failure::of(ExitCode::Usage, &error).hint(format!("{} is not there any more", record.directory))
    })?;
    let asked = Args::try_parse_from(&record.command).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("this farm does not know what was asked: {error}"))
    })?;
    let Command::Bisect(BisectCommand::Commits(question)) = &asked.command else {
        let message = format!("bisect {} is not one of commits", record.id);
        return Err(Failure::new(ExitCode::Usage, message));
    };
    output::note(&format!("bisect {}: going on", record.id));
    go_on(environment, question, &record, writer, entries)
}

fn go_on(
    environment: &Environment,
    question: &BisectCommitsArgs,
    record: &BisectRecord,
    writer: BisectWriter,
    entries: Vec<crate::store::Entry>,
) -> Result<ExitCode, Failure> {
    let directory = absolute(&question.tree)?;
    let runtime = runtime()?;
    let interrupts = runtime.block_on(async { interrupts() })?;
    let options = Options {
        confidence: question.confidence,
        max_end_trials: question.max_end_trials,
        costs: FIRST_GUESS,
    };
    let mut search = Search::new(history(&record.subjects)?, options);
    let bad = record.subjects[record.subjects.len() - 1].id.clone();
    let hunted = Hunted::of_words(&question.hunt);
    if !question.run.is_empty() {
        let checkout = Checkout::open(&directory, &writer.directory().join("checkout"))?;
        let testbed = CommandTrials {
            runtime: &runtime,
            interrupts,
            checkout,
            command: &question.run,
            weak_code: question.weak_code,
            bad,
            directory: writer.directory().to_owned(),
            prepared: None,
        };
        let drive = Drive::new(writer, entries, testbed, search, &record.subjects, hunted)?;
        return conclude(environment, record, drive, question);
    }
    let config = config(&kernel_catalog()?, &question.config)?;
    let tree = Tree::of_repository(&environment.cache, &directory, &output::note)?;
    let supply = Commits {
        environment,
        directory,
        tree,
        config,
        contents: record.subjects.iter().filter_map(content).collect(),
        bad,
    };
    let contents: Vec<TreeId> = record.subjects.iter().filter_map(content).map(|(_, id)| id).collect();
    let built = which_are_built(&environment.cache, &contents.iter().collect::<Vec<_>>(), &supply.config)?;
    for (number, _) in built.iter().enumerate().filter(|(_, built)| **built) {
        search.record_cached(Commit(number));
    }
    let testbed = Kernels {
        environment,
        runtime: &runtime,
        interrupts,
        store: writer.store(),
        supply,
        lives: Lives {
            scenarios: load(&question.scenarios)?,
            machine: &question.machine,
            seed: question.seed,
            jobs: question.jobs,
            warmth: warmth(question.cold),
        },
        ready: None,
        begun: None,
    };
    let drive = Drive::new(writer, entries, testbed, search, &record.subjects, hunted)?;
    conclude(environment, record, drive, question)
}

/// Searches, proves and answers.
fn conclude<T: Testbed>(
    environment: &Environment,
    record: &BisectRecord,
    mut drive: Drive<'_, T>,
    question: &BisectCommitsArgs,
) -> Result<ExitCode, Failure> {
    let interrupted = || {
        output::note(&format!("stopped; `farm bisect commits --resume {}` goes on", record.id));
        Ok(ExitCode::Interrupted)
    };
    let verdict = match drive.search()? {
        Ended::Interrupted => return interrupted(),
        Ended::Verdict(verdict) => verdict,
    };
    if let Verdict::Culprit { commit, .. } = &verdict
        && prove(&mut drive, &record.subjects[commit.0].id, question)? == GoesOn::No
    {
        return interrupted();
    }
    let answer = Answer::new(record, &drive.entries, &verdict);
    let text = answer_text(record, &answer);
    drive.writer.answer(&answer, &text, Some(&git_log(record, &answer)))?;
    environment.print(&text, &answer)?;
    output::note(&format!("kept in {}", drive.writer.directory()));
    Ok(match verdict {
        Verdict::Culprit { .. } => ExitCode::Passed,
        Verdict::GoodIsBad | Verdict::BadDoesNotReproduce { .. } => ExitCode::Usage,
        _ => ExitCode::NoAnswer,
    })
}

/// Tries the bad end without the culprit.
fn prove<T: Testbed>(
    drive: &mut Drive<'_, T>,
    culprit: &str,
    question: &BisectCommitsArgs,
) -> Result<GoesOn, Failure> {
    let without = Probe::Without(culprit.to_owned());
    let Some(made) = drive.made(&without)? else { return Ok(GoesOn::No) };
    if matches!(made, BuildRecord::CannotBuild { .. }) {
        return Ok(GoesOn::Yes);
    }
    let (hits, trials) = rate_where_seen(&drive.entries);
    let wanted = trials_to_clear(hits, trials, question.confidence);
    let counts = drive.counts(&without);
    let left = wanted.saturating_sub(counts.telling());
    // A hit says all there is to say.
    if counts.hit > 0 || left == 0 {
        return Ok(GoesOn::Yes);
    }
    drive.try_it(&without, left)
}

fn subject(commit: &kernel::Commit) -> SubjectRecord {
    SubjectRecord {
        id: commit.id.clone(),
        parents: commit.parents.clone(),
        content: Some(commit.content.as_str().to_owned()),
        subject: commit.subject.clone(),
        author: Some(commit.author.clone()),
        date: Some(commit.date.clone()),
    }
}

fn content(subject: &SubjectRecord) -> Option<(String, TreeId)> {
    Some((subject.id.clone(), TreeId::known(subject.content.clone()?)))
}

/// Parents that are not in the list are in the good end.
fn history(subjects: &[SubjectRecord]) -> Result<History, Failure> {
    let places: HashMap<&str, usize> =
        subjects.iter().enumerate().map(|(place, subject)| (subject.id.as_str(), place)).collect();
    let parents = |(place, subject): (usize, &SubjectRecord)| -> Vec<usize> {
        // What the good end comes from is of no interest.
        let parents = if place == 0 { &[][..] } else { &subject.parents[..] };
        parents.iter().filter_map(|parent| places.get(parent.as_str()).copied()).collect()
    };
    let parents: Vec<Vec<usize>> = subjects.iter().enumerate().map(parents).collect();
    History::new(&parents, Commit(0), Commit(subjects.len() - 1))
        .map_err(|error| Failure::of(ExitCode::Fault, &error))
}

/// Kernels of a repository's commits.
struct Commits<'a> {
    environment: &'a Environment,
    directory: Utf8PathBuf,
    tree: Tree,
    config: ConfigRecipe,
    contents: HashMap<String, TreeId>,
    bad: String,
}

impl Supply for Commits<'_> {
    fn kernel(&self, of: &Probe) -> Result<Result<(Kernel, bool), String>, Failure> {
        let known = |id: &String| {
            let unknown = || Failure::new(ExitCode::Fault, format!("commit {id} is not of this bisect"));
            self.contents.get(id).ok_or_else(unknown)
        };
        let content = match of {
            Probe::Subject(id) => known(id)?.clone(),
            Probe::Without(id) => match self.tree.reverted(&self.directory, known(&self.bad)?, id) {
                Ok(content) => content,
                Err(error @ KernelError::PatchRefused { .. }) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error.into()),
            },
        };
        let cache = &self.environment.cache;
        let cached = which_are_built(cache, &[&content], &self.config)?.contains(&true);
        // A name that is the same for all: a cell is one of the scenario's, whatever it is tried on.
        let request = BuildRequest { name: "bisected", config: &self.config, patches: &[] };
        match build(cache, (&self.tree, &content), &request, &|line| tracing::info!("{line}")) {
            Ok(kernel) => Ok(Ok((kernel, cached))),
            Err(error) if error.is_of_the_sources() => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

/// How many trials of the bad end are enough to say that it does not reproduce.
pub(in crate::cli) const MOST_END_TRIALS: NonZeroU32 = NonZeroU32::new(300).unwrap();
