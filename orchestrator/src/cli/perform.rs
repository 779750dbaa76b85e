//! From cells to a recorded run and its report: what `farm run` and `farm calibrate` have in common.

use std::collections::HashSet;
use std::sync::Arc;

use camino::Utf8Path;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::bisect::Hunted;
use super::environment::{Environment, absolute};
use super::output;
use super::progress::Progress;
use super::provision::{Grounds, Guests};
use super::results::RunView;
use super::scenarios::library;
use crate::bisect::{Outcome, read_trial};
use crate::bundle::remove_unpacked;
use crate::error::{ExitCode, Failure};
use crate::event::Event;
use crate::machine::{Preflight, Wanted, preflight};
use crate::mutation;
use crate::plan::{CalibrationRecord, Cell, Protection, expand};
use crate::report;
use crate::repro;
use crate::runner::{
    self, Assignment, Comparison, FailFast, Guest, GuestSize, Interrupt, Jobs, Keepsakes, Limits, NoGuest,
    Options, Rechecks, RunError, SearchRequest, Warmth, default_jobs, host_record, host_size,
};
use crate::scenario::Scenario;
use crate::store::{
    MutationRecord, RecheckRecord, ReproRecord, RunId, RunRecord, RunWriter, Store, StoreError, StoredRun,
    TrialRecord,
};
use crate::trial;

/// Loads all, or tells of all the problems in all the files.
pub(super) fn load(names: &[String]) -> Result<Vec<Arc<Scenario>>, Failure> {
    let library = library()?;
    let mut scenarios = Vec::new();
    let mut failure = None;
    for name in names {
        match library.load_all(name) {
            Ok(found) => scenarios.extend(found.into_iter().map(Arc::new)),
            Err(error) => {
                if let Some(earlier) = failure.replace(Failure::from(error)) {
                    output::failure(&earlier);
                }
            }
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(scenarios),
    }
}

/// The cell with what it boots, or why it can't be run here.
pub(super) fn assign(
    environment: &Environment,
    grounds: &Grounds,
    cell: Cell,
    guests: &mut Guests,
) -> Result<Assignment, Failure> {
    let guest = match lacks(grounds, &cell) {
        Some(reason) => Err(NoGuest::Skipped(reason)),
        None => grounds.provision.guest(environment, &cell, &grounds.qemu, guests)?,
    };
    Ok(Assignment { cell: Arc::new(cell), guest, at_least: 1, recheck_of: None })
}

/// The same with a guest that is there.
pub(super) fn assign_to(grounds: &Grounds, cell: Cell, guest: Guest) -> Assignment {
    let guest = match lacks(grounds, &cell) {
        Some(reason) => Err(NoGuest::Skipped(reason)),
        None => Ok(Arc::new(guest)),
    };
    Assignment { cell: Arc::new(cell), guest, at_least: 1, recheck_of: None }
}

/// All cells with what they boot. A scenario or kernel named twice is meant once; `--repeat` is for more.
pub(super) fn assign_all(
    environment: &Environment,
    grounds: &Grounds,
    scenarios: &[Arc<Scenario>],
) -> Result<Vec<Assignment>, Failure> {
    let mut guests = Guests::new();
    let mut seen = HashSet::new();
    let cells = scenarios.iter().flat_map(|scenario| expand(scenario, &grounds.request));
    let cells = cells.filter(|cell| seen.insert(cell.id));
    cells.map(|cell| assign(environment, grounds, cell, &mut guests)).collect()
}

/// Why the cell must not run here.
fn lacks(grounds: &Grounds, cell: &Cell) -> Option<String> {
    let (own, protection) = (cell.scenario.protection, cell.protection);
    if own == Protection::Emulated && protection != own {
        return Some(format!("the scenario needs {own} protection, and --protection {protection} was given"));
    }
    let wanted = Wanted { accel: cell.shape.accel, protection, needs: &cell.scenario.needs };
    match preflight(wanted, &grounds.host, &grounds.qemu) {
        // A protected guest boots an image sealed for its host, and never quietly an open one instead.
        Preflight::Run if protection == Protection::Hardware => {
            Some("this farm cannot seal an image for the host's ultravisor yet".to_owned())
        }
        Preflight::Run => None,
        Preflight::Skip { reasons } => Some(reasons.join("; ")),
    }
}

/// A run that is ready to begin.
pub(super) struct Planned<'a> {
    pub(super) scenarios: &'a [Arc<Scenario>],
    pub(super) assignments: Vec<Assignment>,
    /// None: what the host bears.
    pub(super) jobs: Option<u32>,
    pub(super) repeat: u32,
    pub(super) fail_fast: FailFast,
    pub(super) comparison: Comparison,
    pub(super) warmth: Warmth,
    pub(super) recheck: Option<(RecheckRecord, Rechecks)>,
    pub(super) search: Option<SearchRequest>,
    pub(super) calibration: Option<CalibrationRecord>,
    pub(super) trial: Option<TrialRecord>,
    pub(super) mutation: Option<MutationRecord>,
    pub(super) repro: Option<ReproRecord>,
    /// What `git bisect run` is to be told of.
    pub(super) git_bisect: Option<Hunted>,
    pub(super) keepsakes: Keepsakes,
}

/// What `--cold` says.
pub(super) fn warmth(cold: bool) -> Warmth {
    if cold { Warmth::Cold } else { Warmth::Warm }
}

impl<'a> Planned<'a> {
    /// Each cell once, in a warm guest.
    pub(super) fn new(scenarios: &'a [Arc<Scenario>], assignments: Vec<Assignment>) -> Self {
        Self {
            scenarios,
            assignments,
            jobs: None,
            repeat: 1,
            fail_fast: FailFast::No,
            comparison: Comparison::No,
            warmth: Warmth::Warm,
            recheck: None,
            search: None,
            calibration: None,
            trial: None,
            mutation: None,
            repro: None,
            git_bisect: None,
            keepsakes: Keepsakes::default(),
        }
    }
}

/// A run that is over.
pub(super) struct Lived {
    pub(super) outcome: Result<ExitCode, Failure>,
    /// What was recorded of it, whatever else went wrong.
    pub(super) run: Result<StoredRun, StoreError>,
}

/// Runs and records it, and shows how it goes.
pub(super) fn live_all(
    environment: &Environment,
    runtime: &Runtime,
    grounds: &Grounds,
    planned: Planned<'_>,
) -> Result<Lived, Failure> {
    let mut interrupts = runtime.block_on(async { interrupts() })?;
    remove_unpacked(&environment.state_dir);
    let begun = begin(&environment.store, grounds, planned)?;
    let directory = begun.directory().to_owned();
    let mut progress = Progress::new();
    let outcome = begun.live(runtime, &mut interrupts, |event| progress.show(event));
    drop(progress);
    Ok(Lived { outcome, run: environment.store.read_run(&directory) })
}

/// Runs, records and reports it.
pub(super) fn perform(
    environment: &Environment,
    runtime: &Runtime,
    grounds: Grounds,
    planned: Planned<'_>,
) -> Result<ExitCode, Failure> {
    let git_bisect = planned.git_bisect.clone();
    let Lived { outcome, run } = live_all(environment, runtime, &grounds, planned)?;
    // What was recorded is reported, whatever else went wrong.
    let run = match run {
        Ok(run) => run,
        Err(error) => {
            output::failure(&error.into());
            return outcome;
        }
    };
    environment.print(&report::run_text(&run), &RunView::new(&run))?;
    // What its lives mean by themselves is not what was asked.
    if let Some(hunted) = git_bisect {
        return outcome.map(|exit| for_git(exit, &run, &hunted));
    }
    match outcome {
        Ok(ExitCode::Passed | ExitCode::Hits) if run.record.trial.is_some() => Ok(trial::exit(&run)),
        Ok(exit)
            if run.record.mutation.is_some()
                && !matches!(exit, ExitCode::Interrupted | ExitCode::Fault | ExitCode::Infra) =>
        {
            Ok(mutation::exit(&run))
        }
        Ok(exit) if !matches!(exit, ExitCode::Interrupted | ExitCode::Fault | ExitCode::Infra) => {
            Ok(repro::again(&run).map_or(exit, |again| repro::exit(&again)))
        }
        outcome => outcome,
    }
}

/// Lives that were clean in vain, or that were not lived, are no clean lives.
fn for_git(exit: ExitCode, run: &StoredRun, hunted: &Hunted) -> ExitCode {
    if matches!(exit, ExitCode::Interrupted | ExitCode::Fault) {
        return exit.to_git();
    }
    let any_new = Hunted::any_new(run);
    let patterns = if hunted.is_known() { &hunted.patterns } else { &any_new.patterns };
    let outcomes: Vec<Outcome> = run.asked_for().map(|life| read_trial([life], patterns).outcome).collect();
    if outcomes.contains(&Outcome::Hit) {
        ExitCode::GitBad
    } else if outcomes.contains(&Outcome::Infra) {
        ExitCode::GitStop
    } else if !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome == Outcome::Clean) {
        ExitCode::Passed
    } else {
        ExitCode::GitCannotTell
    }
}

/// A run that has its directory, and is to begin.
pub(super) struct Begun {
    assignments: Vec<Assignment>,
    options: Options,
    writer: RunWriter,
}

/// Makes the directory of a run in the store.
pub(super) fn begin(store: &Store, grounds: &Grounds, planned: Planned<'_>) -> Result<Begun, Failure> {
    let Planned { scenarios, assignments, repeat, fail_fast, comparison, warmth, search, .. } = planned;
    let Grounds { launcher, qemu, provision, .. } = grounds;
    let (recheck_record, rechecks) = planned.recheck.unzip();
    let jobs = jobs(planned.jobs, size_of(&assignments));
    let lives = assignments.iter().fold(0_u32, |sum, one| sum.saturating_add(one.at_least.max(repeat)));
    let started = Timestamp::now();
    let record = RunRecord {
        id: RunId::new(started, std::process::id()),
        started,
        farm: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        started_in: Some(absolute(".".into())?),
        host: host_record(),
        qemu: format!("QEMU {}", qemu.full_version()),
        qemu_path: qemu.binary.to_string(),
        scenarios: scenarios.iter().map(|s| s.name.to_string()).collect(),
        kernels: provision.records(),
        lives: if search.is_some() { 0 } else { lives },
        jobs: jobs.jobs,
        recheck: recheck_record,
        search: search.as_ref().map(|search| search.asked.clone()),
        calibration: planned.calibration,
        trial: planned.trial,
        mutation: planned.mutation,
        repro: planned.repro,
    };
    let writer = store.begin(&record)?;
    let limits = Limits::default();
    let options = Options {
        jobs,
        repeat,
        fail_fast,
        rechecks,
        search,
        limits,
        launcher: launcher.clone(),
        comparison,
        warmth,
        keepsakes: planned.keepsakes,
    };
    Ok(Begun { assignments, options, writer })
}

impl Begun {
    pub(super) fn directory(&self) -> &Utf8Path {
        self.writer.directory()
    }

    /// Lives it to its end.
    pub(super) fn live(
        self,
        runtime: &Runtime,
        interrupts: &mut mpsc::Receiver<Interrupt>,
        display: impl FnMut(&Event),
    ) -> Result<ExitCode, Failure> {
        let Self { assignments, options, writer } = self;
        let run = runner::run(&assignments, &options, writer, interrupts, display);
        runtime.block_on(run).map_err(Failure::from)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Record(_) => Failure::of(ExitCode::Infra, &error).hint(
                "free space, or name another place for results with --state DIR; what was recorded is kept",
            ),
            RunError::Panic(_) => Failure::of(ExitCode::Fault, &error).hint("this is a bug in farm"),
        }
    }
}

/// The largest of all guests.
fn size_of(assignments: &[Assignment]) -> GuestSize {
    let cells = || assignments.iter().filter(|a| a.guest.is_ok()).map(|a| &a.cell.shape);
    GuestSize {
        cpus: cells().map(|shape| shape.cpus).max().unwrap_or(1),
        memory_mib: cells().map(|shape| shape.memory_mib).max().unwrap_or(0),
    }
}

pub(super) fn jobs(asked: Option<u32>, guest: GuestSize) -> Jobs {
    match asked {
        Some(jobs) => Jobs { jobs, why: "--jobs".to_owned() },
        None => default_jobs(host_size(), guest),
    }
}

/// SIGINT, SIGTERM and SIGHUP: the first stops nicely, the second at once. To be called in the runtime.
pub(super) fn interrupts() -> Result<mpsc::Receiver<Interrupt>, Failure> {
    let (send, receive) = mpsc::channel(2);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(|error| Failure::of(ExitCode::Fault, &error))?;
        let send = send.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // The run is over if nobody listens any more.
                let _ = send.send(Interrupt).await;
            }
        });
    }
    Ok(receive)
}
