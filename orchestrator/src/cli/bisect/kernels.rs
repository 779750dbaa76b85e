//! Trials of kernels: each is built, or fetched, and its guests live a scenario's cells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::args::BisectAsked;
use super::testbed::{Hunted, Made, Testbed, Tried};
use crate::bisect::{Reading, read_trial};
use crate::cache::{Cache, Progress};
use crate::cli::args::{LivesArgs, MachineArgs};
use crate::cli::environment::Environment;
use crate::cli::perform::{Begun, Planned, assign_all, begin, warmth};
use crate::cli::provision::{Asked, Grounds};
use crate::error::{ExitCode, Failure};
use crate::kernel::{
    BuildRequest, ConfigRecipe, Kernel, Origin, Tree, TreeId, build, kill_started, which_are_built,
};
use crate::runner::{Assignment, FailFast, Interrupt, NoGuest, Warmth};
use crate::scenario::Scenario;
use crate::store::{Finding, LifeRecord, Outcome, Probe, Store, StoredRun, Trial};

/// Where kernels come from.
pub(super) trait Supply: Sync {
    /// A failure is none of the kernel's.
    fn kernel(&self, of: &Probe) -> Result<Supplied, Failure>;
}

/// The kernel, and whether it was there before; or why there can be none.
pub(super) type Supplied = Result<(Kernel, bool), String>;

/// A kernel that is built of sources.
pub(super) fn built(
    cache: &Cache,
    (tree, content): (&Tree, &TreeId),
    config: &ConfigRecipe,
    limit: Duration,
    progress: Progress<'_>,
) -> Result<Supplied, Failure> {
    let cached = which_are_built(cache, &[content], config)?.contains(&true);
    // A name that is the same for all: a cell is one of the scenario's, whatever it is tried on.
    let request = BuildRequest { limit, ..BuildRequest::new("bisected", config) };
    match build(cache, (tree, content), &request, progress) {
        Ok(kernel) => Ok(Ok((kernel, cached))),
        Err(error) if error.is_of_the_sources() => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// How guests live in trials.
pub(super) struct Lives<'a> {
    pub(super) scenarios: Vec<Arc<Scenario>>,
    pub(super) machine: &'a MachineArgs,
    pub(super) seed: Option<u64>,
    pub(super) jobs: Option<u32>,
    pub(super) warmth: Warmth,
}

impl<'a> Lives<'a> {
    pub(super) fn new(scenarios: Vec<Arc<Scenario>>, asked: &'a BisectAsked) -> Self {
        let LivesArgs { seed, jobs, cold } = asked.lives;
        Self { scenarios, machine: &asked.machine, seed, jobs, warmth: warmth(cold) }
    }
}

pub(super) struct Kernels<'a, S> {
    environment: &'a Environment,
    runtime: &'a Runtime,
    interrupts: mpsc::Receiver<Interrupt>,
    /// Where the runs go.
    store: Store,
    supply: S,
    lives: Lives<'a>,
    /// What was made last, and can be tried.
    ready: Option<Ready>,
    /// What is to begin, with the number of trials.
    begun: Option<(Begun, u32)>,
}

impl<'a, S> Kernels<'a, S> {
    /// The runs go into `store`.
    pub(super) fn new(
        environment: &'a Environment,
        runtime: &'a Runtime,
        interrupts: mpsc::Receiver<Interrupt>,
        store: Store,
        supply: S,
        lives: Lives<'a>,
    ) -> Self {
        Self { environment, runtime, interrupts, store, supply, lives, ready: None, begun: None }
    }
}

/// A kernel with guests that boot it.
pub(super) struct Ready {
    of: Probe,
    grounds: Grounds,
    assignments: Vec<Assignment>,
}

impl<S: Supply> Testbed for Kernels<'_, S> {
    fn make(&mut self, of: &Probe) -> Result<Made, Failure> {
        let (kernel, cached) = match self.kernel(of)? {
            Ok(kernel) => kernel,
            Err(said) => return Ok(Made::Cannot { said }),
        };
        let signature = match &kernel.origin {
            Origin::Built { signature, .. } => Some(signature.clone()),
            _ => None,
        };
        // Modules of farm's own must build, too.
        let ready = self.ready(of, kernel)?;
        for assignment in &ready.assignments {
            match &assignment.guest {
                Ok(_) => {}
                Err(NoGuest::NotBuilt(said)) => return Ok(Made::Cannot { said: said.clone() }),
                Err(NoGuest::Skipped(why) | NoGuest::Infra(why)) => {
                    return Err(Failure::new(ExitCode::Infra, format!("no guest can live: {why}")));
                }
            }
        }
        self.ready = Some(ready);
        Ok(Made::Ready { signature, cached })
    }

    fn prepare(&mut self, of: &Probe, trials: u32, hunted: &Hunted) -> Result<String, Failure> {
        let ready = match self.ready.take() {
            Some(ready) if ready.of == *of => ready,
            // It was made for earlier trials.
            _ => match self.kernel(of)? {
                Ok((kernel, _)) => self.ready(of, kernel)?,
                Err(said) => return Err(Failure::new(ExitCode::BuildFailed, said)),
            },
        };
        let fail_fast = match hunted.is_known() {
            true => FailFast::Hunted(hunted.patterns.clone()),
            false => FailFast::NewHit,
        };
        let planned = Planned {
            repeat: trials,
            jobs: self.lives.jobs,
            warmth: self.lives.warmth,
            fail_fast,
            ..Planned::new(&self.lives.scenarios, ready.assignments.clone())
        };
        let begun = begin(&self.store, &ready.grounds, planned)?;
        self.ready = Some(ready);
        let name = begun.directory().file_name().unwrap_or_default().to_owned();
        self.begun = Some((begun, trials));
        Ok(name)
    }

    fn live(&mut self, hunted: &Hunted) -> Result<Tried, Failure> {
        let Some((begun, trials)) = self.begun.take() else {
            return Err(Failure::new(ExitCode::Fault, "no trials were prepared"));
        };
        let directory = begun.directory().to_owned();
        let exit = begun.live(self.runtime, &mut self.interrupts, |_| {})?;
        let tried = tried(&self.store.read_run(&directory)?, trials, hunted);
        Ok(Tried { interrupted: exit == ExitCode::Interrupted, ..tried })
    }

    fn ended(&self, run: &str, trials: u32, hunted: &Hunted) -> Result<Tried, Failure> {
        // A life whose record was cut is one that did not come to its end.
        Ok(
            match self.store.run_directory(run).and_then(|directory| self.store.read_rest_of_run(&directory))
            {
                Some(run) => tried(&run, trials, hunted),
                None => Tried { trials: Vec::new(), interrupted: false, found: Vec::new() },
            },
        )
    }
}

impl<S: Supply> Kernels<'_, S> {
    fn kernel(&mut self, of: &Probe) -> Result<Supplied, Failure> {
        let supply = &self.supply;
        attended(self.runtime, &mut self.interrupts, || supply.kernel(of))
    }

    fn ready(&self, of: &Probe, kernel: Kernel) -> Result<Ready, Failure> {
        let asked = Asked { seed: self.lives.seed, ..Asked::default() };
        let kernels = || Ok(vec![kernel]);
        let grounds =
            Grounds::with_kernels(self.environment, self.runtime, self.lives.machine, asked, kernels)?;
        let assignments = assign_all(self.environment, &grounds, &self.lives.scenarios)?;
        Ok(Ready { of: of.clone(), grounds, assignments })
    }
}

/// Does work that waits for programs. If the user wants to stop meanwhile, that is the end of farm, and of them.
pub(super) fn attended<T: Send>(
    runtime: &Runtime,
    interrupts: &mut mpsc::Receiver<Interrupt>,
    work: impl FnOnce() -> T + Send,
) -> T {
    thread::scope(|scope| {
        let (send, done) = oneshot::channel();
        let worker = scope.spawn(move || {
            let done = work();
            // Nobody waits for it if farm ends.
            let _ = send.send(());
            done
        });
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = done => {}
                Some(Interrupt) = interrupts.recv() => {
                    kill_started();
                    crate::cli::output::note("stopped; what was learned is kept");
                    std::process::exit(i32::from(ExitCode::Interrupted.code()))
                }
            }
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Of a run's trials those that came to their end: of which each cell has lived.
fn tried(run: &StoredRun, trials: u32, hunted: &Hunted) -> Tried {
    let mut lives: BTreeMap<u32, Vec<&LifeRecord>> = BTreeMap::new();
    for life in &run.lives {
        lives.entry(life.life.number).or_default().push(life);
    }
    let cells = (run.record.lives / trials.max(1)) as usize;
    let side_by_side = f64::from(run.record.jobs.clamp(1, run.record.lives.max(1)));
    let mut found = Vec::new();
    let patterns = if hunted.is_known() {
        hunted.patterns.clone()
    } else {
        found = first_finding(lives.values().flatten().copied());
        Hunted::of_findings(&found).patterns
    };
    let trial = |(number, lives): (u32, Vec<&LifeRecord>)| {
        let reading = read_trial(lives.iter().copied(), &patterns);
        let seconds =
            lives.iter().filter_map(|life| life.timings.verdict_us).sum::<u64>() as f64 / 1e6 / side_by_side;
        let is_whole = lives.len() == cells || reading.outcome == Outcome::Hit;
        let was_stopped = reading.outcome == Outcome::Infra && lives.iter().any(|life| is_stopped(life));
        let Reading { outcome, others, reason } = reading;
        (is_whole && !was_stopped).then_some(Trial { number, outcome, seconds, others, reason })
    };
    let trials = lives.into_iter().filter_map(trial).collect();
    Tried { trials, interrupted: false, found }
}

fn is_stopped(life: &LifeRecord) -> bool {
    matches!(life.ending, crate::verdict::Ending::Stopped { .. })
}

/// What the first life that shows something new shows first.
fn first_finding<'a>(mut lives: impl Iterator<Item = &'a LifeRecord>) -> Vec<Finding> {
    let first = lives.find_map(|life| life.hits.iter().find(|hit| hit.is_new()));
    let finding = first.map(|hit| {
        let hit = &hit.judged.hit;
        Finding { fingerprint: hit.fingerprint.as_str().to_owned(), title: hit.title.clone() }
    });
    finding.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;
    use crate::event::StopCause;
    use crate::recheck::tests::{life, run};
    use crate::verdict::{Ending, Verdict};

    const CELLS: [&str; 2] = ["0000000000000001", "0000000000000002"];

    fn of(lives: Vec<LifeRecord>, trials: u32, hunted: &Hunted) -> Tried {
        let mut run = run(lives);
        run.record.lives = trials * 2;
        tried(&run, trials, hunted)
    }

    fn weak(cell: usize, number: u32) -> LifeRecord {
        life(CELLS[cell], number, Verdict::Ineffective, Ending::JobDone, &[])
    }

    #[test]
    fn a_trial_is_a_life_of_each_cell_or_a_hit() {
        let hit = Hit::hang("hunted_function");
        let hunted = Hunted::of_words(std::slice::from_ref(&hit.title));
        let shows = life(CELLS[0], 2, Verdict::Hit, Ending::Hung, &[&hit]);
        let cut = Ending::Stopped { cause: StopCause::Interrupted };
        let stopped = life(CELLS[1], 4, Verdict::Infra, cut, &[]);
        let lives = vec![weak(0, 1), weak(1, 1), shows, weak(0, 3), weak(0, 4), stopped];
        let tried = of(lives, 4, &hunted);
        let outcomes: Vec<_> = tried.trials.iter().map(|trial| (trial.number, trial.outcome)).collect();
        // The third lacks a cell, and the fourth was stopped in one.
        assert_eq!(outcomes, [(1, Outcome::Weak), (2, Outcome::Hit)]);
        assert!(tried.found.is_empty());
    }

    #[test]
    fn the_first_new_finding_is_hunted_if_nothing_else_is() {
        let (first, second) = (Hit::hang("first_function"), Hit::hang("second_function"));
        let lives = vec![
            weak(0, 1),
            life(CELLS[1], 1, Verdict::Hit, Ending::Hung, &[&first, &second]),
            life(CELLS[0], 2, Verdict::Hit, Ending::Hung, &[&second]),
            weak(1, 2),
        ];
        let tried = of(lives, 2, &Hunted::default());
        assert_eq!(tried.found[0].title, first.title);
        assert_eq!(tried.found.len(), 1);
        let outcomes: Vec<_> = tried.trials.iter().map(|trial| trial.outcome).collect();
        assert_eq!(outcomes, [Outcome::Hit, Outcome::OtherFailure]);
        assert_eq!(tried.trials[1].others, [second.title]);
    }
}
