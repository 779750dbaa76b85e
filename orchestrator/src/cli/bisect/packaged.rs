//! `farm bisect kernels`: the first of a list of kernels that has a finding.

use super::args::BisectKernelsArgs;
use super::bench::Bench;
use super::conclude::{Proof, conclude};
use super::drive::Drive;
use super::kernels::{Kernels, Lives, Supplied, Supply};
use super::testbed::Hunted;
use super::{Beginning, FIRST_GUESS, begun, check_inputs, inputs};
use crate::bisect::{Commit, History, Search};
use crate::cli::environment::Environment;
use crate::cli::perform::{interrupts, load};
use crate::cli::provision::{fetcher, kernel_catalog, unknown_kernel};
use crate::cli::runtime;
use crate::error::{ExitCode, Failure};
use crate::kernel::{Catalog, Refresh};
use crate::store::{BisectRecord, BisectWriter, Entry, Probe, SubjectRecord};

pub(super) fn begin(environment: &Environment, question: &BisectKernelsArgs) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    for (place, name) in question.kernels.iter().enumerate() {
        let named = catalog.kernel(name).ok_or_else(|| unknown_kernel(name, &catalog))?;
        if named.is_of_users_files() {
            let message = format!("{name} is built of files of yours, which may change from trial to trial");
            let hint = "take kernels of packages; the commits of a tree are for `farm bisect commits`";
            return Err(Failure::new(ExitCode::Usage, message).hint(hint));
        }
        if question.kernels[..place].contains(name) {
            return Err(Failure::new(ExitCode::Usage, format!("{name} is named twice")));
        }
    }
    let inputs = inputs(&load(&question.scenarios)?, None);
    let subject = |(place, name): (usize, &String)| SubjectRecord {
        id: name.clone(),
        parents: question.kernels[..place].last().cloned().into_iter().collect(),
        content: None,
        subject: catalog.kernel(name).map(|kernel| kernel.purpose.clone()).unwrap_or_default(),
        author: None,
        date: None,
    };
    let subjects = question.kernels.iter().enumerate().map(subject).collect();
    let asked = format!("{} candidates", question.kernels.len() - 1);
    let (record, writer) = begun(
        environment,
        Beginning { subjects, inputs, files: &[], asked, command: std::env::args().collect() },
    )?;
    go_on(environment, question, &record, writer, Vec::new())
}

pub(super) fn go_on(
    environment: &Environment,
    question: &BisectKernelsArgs,
    record: &BisectRecord,
    writer: BisectWriter,
    entries: Vec<Entry>,
) -> Result<ExitCode, Failure> {
    let scenarios = load(&question.scenarios)?;
    check_inputs(record, &inputs(&scenarios, None))?;
    let runtime = runtime()?;
    let last = record.subjects.len() - 1;
    let parents: Vec<Vec<usize>> =
        (0..=last).map(|place| place.checked_sub(1).into_iter().collect()).collect();
    let history = History::new(&parents, Commit(0), Commit(last))
        .map_err(|error| Failure::of(ExitCode::Fault, &error))?;
    let interrupts = runtime.block_on(async { interrupts() })?;
    let supply = Packages { environment, catalog: kernel_catalog()? };
    let lives = Lives::new(scenarios, &question.asked);
    let testbed = Kernels::new(environment, &runtime, interrupts, writer.store(), supply, lives);
    let search = Search::new(history, question.asked.search(FIRST_GUESS));
    let hunted = Hunted::of_words(&question.asked.hunt);
    let drive = Drive::new(Bench::new(writer, entries, testbed, hunted)?, search, &record.subjects);
    conclude(environment, record, drive, Proof::BySearch)
}

/// Kernels that have names.
struct Packages<'a> {
    environment: &'a Environment,
    catalog: Catalog,
}

impl Supply for Packages<'_> {
    fn kernel(&self, of: &Probe) -> Result<Supplied, Failure> {
        let (Probe::Subject(name) | Probe::Without(name)) = of;
        let Some(named) = self.catalog.kernel(name) else { return Err(unknown_kernel(name, &self.catalog)) };
        let fetcher = fetcher(&self.environment.cache, Refresh::No);
        let cached = fetcher.cached_kernel(named)?.is_some();
        match fetcher.kernel(named) {
            Ok(kernel) => Ok(Ok((kernel, cached))),
            Err(error) if error.is_of_the_sources() => Ok(Err(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}
