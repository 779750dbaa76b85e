//! `farm bisect commits`: the commit that brought a finding.

use std::collections::HashMap;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::args::BisectCommitsArgs;
use super::bench::Bench;
use super::command::{CommandTrials, Repository};
use super::conclude::{Proof, conclude};
use super::drive::Drive;
use super::kernels::{Kernels, Lives, Supplied, Supply, attended, built};
use super::testbed::Hunted;
use super::{Beginning, FIRST_GUESS, FIRST_GUESS_OF_COMMANDS, begun, check_inputs, inputs};
use crate::bisect::{Commit, History, Search};
use crate::cli::environment::{Environment, absolute};
use crate::cli::perform::{interrupts, load};
use crate::cli::provision::{config, kernel_catalog};
use crate::cli::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::kernel::{
    self, Checkout, ConfigRecipe, KernelError, Range, Tree, TreeId, check_program, which_are_built,
};
use crate::store::{BisectRecord, BisectWriter, Entry, Probe, SubjectRecord};

/// So many take 1.25 GB of memory, and their square.
const MOST_COMMITS: usize = 100_000;

pub(super) fn begin(
    environment: &Environment,
    question: &BisectCommitsArgs,
    command: Vec<String>,
) -> Result<ExitCode, Failure> {
    // Whatever can be wrong with what was typed is told before anything is kept.
    let directory = absolute(&question.tree)?;
    let range = Range::new(&directory, &question.good, &question.bad)?;
    if question.run.is_empty() {
        range.check_are_kernels(&directory)?;
    } else if let [program, ..] = &question.run[..]
        && !program.contains('/')
    {
        check_program(program, &directory)?;
    }
    if range.between.len() > MOST_COMMITS {
        let message = format!(
            "{} commits are too many: a search keeps for each which others are in it",
            range.between.len()
        );
        let hint = format!(
            "take ends with less than {MOST_COMMITS} between them; releases in between can be tried by `farm run --tree`"
        );
        return Err(Failure::new(ExitCode::Usage, message).hint(hint));
    }
    let inputs = inputs_of(question)?;
    let asked = format!("{} candidates", range.between.len());
    let subjects = std::iter::once(&range.good).chain(&range.between).map(subject).collect();
    let (record, writer) = begun(environment, Beginning { subjects, inputs, files: &[], asked, command })?;
    go_on(environment, question, &record, writer, Vec::new())
}

fn inputs_of(question: &BisectCommitsArgs) -> Result<String, Failure> {
    Ok(inputs(&load(&question.scenarios)?, Some(&config(&kernel_catalog()?, &question.config)?)))
}

pub(super) fn go_on(
    environment: &Environment,
    question: &BisectCommitsArgs,
    record: &BisectRecord,
    writer: BisectWriter,
    entries: Vec<Entry>,
) -> Result<ExitCode, Failure> {
    check_inputs(record, &inputs_of(question)?)?;
    let directory = absolute(&question.tree)?;
    let runtime = runtime()?;
    let mut interrupts = runtime.block_on(async { interrupts() })?;
    let costs = if question.run.is_empty() { FIRST_GUESS } else { FIRST_GUESS_OF_COMMANDS };
    let mut search = Search::new(history(&record.subjects)?, question.asked.search(costs));
    let bad = record.subjects[record.subjects.len() - 1].id.clone();
    let hunted = Hunted::of_words(&question.asked.hunt);
    if !question.run.is_empty() {
        let place = writer.directory().join("checkout");
        let open = || Checkout::open(&directory, &place, &output::note);
        let checkout = attended(&runtime, &mut interrupts, open)?;
        let testbed = CommandTrials {
            runtime: &runtime,
            interrupts,
            place: Repository { checkout, bad },
            command: &question.run,
            weak_code: question.weak_code,
            directory: writer.directory().to_owned(),
            prepared: None,
        };
        let drive = Drive::new(Bench::new(writer, entries, testbed, hunted)?, search, &record.subjects);
        return conclude(environment, record, drive, Proof::ByRevert);
    }
    let config = config(&kernel_catalog()?, &question.config)?;
    // Another farm may have its place.
    let open = || Tree::of_repository(&environment.cache, &directory, &output::note);
    let tree = attended(&runtime, &mut interrupts, open)?;
    let supply = Commits {
        environment,
        directory,
        tree,
        config,
        contents: record.subjects.iter().filter_map(content).collect(),
        bad,
        limit: question.builds.build_limit,
    };
    let contents: Vec<TreeId> = record.subjects.iter().filter_map(content).map(|(_, id)| id).collect();
    let built = which_are_built(&environment.cache, &contents.iter().collect::<Vec<_>>(), &supply.config)?;
    for (number, _) in built.iter().enumerate().filter(|(_, built)| **built) {
        search.record_cached(Commit(number));
    }
    let lives = Lives::new(load(&question.scenarios)?, &question.asked);
    let testbed = Kernels::new(environment, &runtime, interrupts, writer.store(), supply, lives);
    let drive = Drive::new(Bench::new(writer, entries, testbed, hunted)?, search, &record.subjects);
    conclude(environment, record, drive, Proof::ByRevert)
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
    /// Of a build.
    limit: Duration,
}

impl Supply for Commits<'_> {
    fn kernel(&self, of: &Probe) -> Result<Supplied, Failure> {
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
        built(&self.environment.cache, (&self.tree, &content), &self.config, self.limit, &output::note)
    }
}
