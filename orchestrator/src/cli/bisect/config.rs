//! `farm bisect config`: the options that make a good configuration bad.

use std::fs;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::args::BisectConfigArgs;
use super::bench::Bench;
use super::command::{CommandTrials, Place};
use super::ends::Ends;
use super::kernels::{Kernels, Lives, Supplied, Supply, built};
use super::steps::{Ended, Steps};
use super::testbed::{Hunted, Made, Testbed};
use super::{Beginning, FIRST_GUESS, begun, check_inputs, inputs};
use crate::bisect::config::{Difference, Found, Sampling, Verdict};
use crate::cli::environment::Environment;
use crate::cli::perform::{interrupts, load};
use crate::cli::provision::{kernel_catalog, sources};
use crate::cli::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::kernel::{
    ConfigRecipe, Configurator, Exit, Fragment, Options, Tree, TreeId, check_program, run_of_user,
};
use crate::report::config::{ConfigAnswer, config_text};
use crate::store::{BisectRecord, BisectWriter, Entry, Probe, StoreError, SubjectRecord, write_synced};

/// The two ends, as they are kept.
const GOOD: &str = "good.config";
const BAD: &str = "bad.config";
const FRAGMENT: &str = "fragment.config";

pub(super) fn begin(environment: &Environment, question: &BisectConfigArgs) -> Result<ExitCode, Failure> {
    // Whatever can be wrong with what was typed is told before anything is kept.
    let inputs = inputs(&load(&question.scenarios)?, None);
    let (name, tree, id) = sources(&environment.cache, &kernel_catalog()?, &question.tree)?;
    let ends = Ends::of(environment, (&tree, &id), question)?;
    let mut configurator = Configurator::start(&environment.cache, (&tree, &id), &name, &output::note)?;
    let (good, bad) = (configurator.settle(&ends.good)?, configurator.settle(&ends.bad)?);
    let end = |end: &str| SubjectRecord {
        id: end.to_owned(),
        parents: Vec::new(),
        content: Some(id.as_str().to_owned()),
        subject: String::new(),
        author: None,
        date: None,
    };
    let difference = Difference::between(good.clone(), &bad, configurator.kconfig());
    let asked = format!("{} options differ", difference.changes().len());
    let files = [(GOOD, good.to_string()), (BAD, bad.to_string())];
    let subjects = vec![end("good"), end("bad")];
    let (record, writer) = begun(
        environment,
        Beginning { subjects, inputs, files: &files, asked, command: std::env::args().collect() },
    )?;
    search(environment, question, &record, Ground { tree, id, configurator }, writer, Vec::new())
}

pub(super) fn go_on(
    environment: &Environment,
    question: &BisectConfigArgs,
    record: &BisectRecord,
    writer: BisectWriter,
    entries: Vec<Entry>,
) -> Result<ExitCode, Failure> {
    check_inputs(record, &inputs(&load(&question.scenarios)?, None))?;
    let content = record.subjects.first().and_then(|end| end.content.clone());
    let content = content.ok_or_else(|| Failure::new(ExitCode::Fault, "the bisect names no tree"))?;
    // Whatever has become of the user's tree since: this is what was begun with.
    let (name, tree, _) = sources(&environment.cache, &kernel_catalog()?, &question.tree)?;
    let id = TreeId::known(content);
    let configurator = Configurator::start(&environment.cache, (&tree, &id), &name, &output::note)?;
    search(environment, question, record, Ground { tree, id, configurator }, writer, entries)
}

/// The tree, and what settles its configurations.
struct Ground {
    tree: Tree,
    id: TreeId,
    configurator: Configurator,
}

fn search(
    environment: &Environment,
    question: &BisectConfigArgs,
    record: &BisectRecord,
    ground: Ground,
    writer: BisectWriter,
    entries: Vec<Entry>,
) -> Result<ExitCode, Failure> {
    let Ground { tree, id, mut configurator } = ground;
    let mut end = |name: &str| -> Result<Options, Failure> {
        Ok(configurator.settle(&read(&writer.directory().join(name))?)?)
    };
    let (good, bad) = (end(GOOD)?, end(BAD)?);
    let difference = Difference::between(good, &bad, configurator.kconfig());
    let sampling = match question.once {
        true => Sampling::Once,
        false => Sampling::Repeated {
            wrong_at_most: 1.0 - question.asked.confidence.share(),
            most_measured: question.asked.search(FIRST_GUESS).max_end_trials.get(),
        },
    };
    let runtime = runtime()?;
    let interrupts = runtime.block_on(async { interrupts() })?;
    let directory = writer.directory().to_owned();
    let hunted = Hunted::of_words(&question.asked.hunt);
    if !question.run.is_empty() {
        let place = Files { directory: directory.clone(), ready: Utf8PathBuf::new() };
        let testbed = CommandTrials {
            runtime: &runtime,
            interrupts,
            place,
            command: &question.run,
            weak_code: None,
            directory,
            prepared: None,
        };
        let bench = Bench::new(writer, entries, testbed, hunted)?;
        return conclude(environment, record, Steps::new(bench, configurator, difference, sampling));
    }
    let supply = Configurations { environment, tree, id, directory, limit: question.builds.build_limit };
    let lives = Lives::new(load(&question.scenarios)?, &question.asked);
    let testbed = Kernels::new(environment, &runtime, interrupts, writer.store(), supply, lives);
    let bench = Bench::new(writer, entries, testbed, hunted)?;
    conclude(environment, record, Steps::new(bench, configurator, difference, sampling))
}

fn conclude<T: Testbed>(
    environment: &Environment,
    record: &BisectRecord,
    mut steps: Steps<T>,
) -> Result<ExitCode, Failure> {
    let verdict = match steps.search()? {
        Ended::Interrupted => {
            output::note(&format!("stopped; `farm bisect resume {}` goes on", record.id));
            return Ok(ExitCode::Interrupted);
        }
        Ended::Verdict(verdict) => verdict,
    };
    let fragment = match &verdict {
        Verdict::Found(found) => Some(fragment(&mut steps, found)?),
        _ => None,
    };
    let answer = ConfigAnswer::new(
        record.id.clone(),
        &verdict,
        fragment,
        steps.difference.changes().len(),
        steps.configurator.kconfig(),
        &steps.bench.entries,
    );
    let text = config_text(&answer);
    steps.bench.writer.answer(&answer, &text, None)?;
    environment.print(&text, &answer)?;
    output::note(&format!("kept in {}", steps.bench.writer.directory()));
    Ok(match verdict {
        Verdict::Found(_) => ExitCode::Passed,
        Verdict::NoDifference | Verdict::BadIsClean | Verdict::GoodHits => ExitCode::Usage,
        Verdict::Unresolved => ExitCode::NoAnswer,
    })
}

/// The lines that make the found configuration of the good one: that they do is looked at.
fn fragment<T: Testbed>(steps: &mut Steps<T>, found: &Found) -> Result<String, Failure> {
    let settled = steps.configurator.settle(&steps.difference.asked(&found.request))?;
    let lines = steps.difference.fragment(&settled, steps.configurator.kconfig());
    let fragment = Options::parse(FRAGMENT, &lines).map_err(crate::kernel::KernelError::from)?;
    let again = steps.configurator.settle(&steps.difference.good().overlaid(&fragment))?;
    if again != settled {
        let message = "the fragment does not make the configuration that was found: this is a bug in farm";
        return Err(Failure::new(ExitCode::Fault, message));
    }
    write(&steps.bench.writer.directory().join(FRAGMENT), &lines)?;
    Ok(lines)
}

/// Kernels of the configurations that a search has written.
struct Configurations<'a> {
    environment: &'a Environment,
    tree: Tree,
    id: TreeId,
    /// Of the bisect.
    directory: Utf8PathBuf,
    /// Of a build.
    limit: Duration,
}

impl Supply for Configurations<'_> {
    fn kernel(&self, of: &Probe) -> Result<Supplied, Failure> {
        let text = read(&config_file(&self.directory, of))?;
        let config = ConfigRecipe::of_file("bisected", Fragment { name: "bisected".to_owned(), text });
        let say = |line: &str| tracing::info!("{line}");
        built(&self.environment.cache, (&self.tree, &self.id), &config, self.limit, &say)
    }
}

/// A command of the user's gets the configuration's file as its last argument.
struct Files {
    directory: Utf8PathBuf,
    ready: Utf8PathBuf,
}

impl Place for Files {
    fn make(&mut self, of: &Probe) -> Result<Made, Failure> {
        self.ready = config_file(&self.directory, of);
        Ok(Made::Ready { signature: None, cached: true })
    }

    fn check_program(&self, program: &str) -> Result<(), Failure> {
        Ok(check_program(program, ".".into())?)
    }

    fn run(&self, command: &[String], log: &camino::Utf8Path) -> Result<Exit, Failure> {
        let command: Vec<String> = command.iter().cloned().chain([self.ready.to_string()]).collect();
        Ok(run_of_user(&command, ".".into(), log)?)
    }
}

/// Where a configuration that is to be tried is kept.
pub(super) fn config_file(directory: &camino::Utf8Path, of: &Probe) -> Utf8PathBuf {
    let (Probe::Subject(id) | Probe::Without(id)) = of;
    directory.join("configs").join(format!("{id}.config"))
}

pub(super) fn write(path: &camino::Utf8Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.map_err(|source| StoreError::Write { path: path.to_owned(), source })?;
    // The journal will say that there is a kernel of it.
    Ok(write_synced(path, text.as_bytes())?)
}

fn read(path: &camino::Utf8Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path);
    Ok(text.map_err(|source| StoreError::Read { path: path.to_owned(), source })?)
}
