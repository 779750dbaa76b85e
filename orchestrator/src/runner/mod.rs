//! Runs lives side by side and tells everything as one stream of events.
//!
//! The dispatcher (here) owns the truth: which lives wait, which run, whether to stop. A life (`life`) is
//! driven by a task of its own that only sends events. Recording, the display and the reports all see the
//! events that pass through here, in one order.

mod capacity;
mod debug;
mod exact;
mod guest;
mod hang;
mod host;
mod interactive;
mod keepsakes;
mod last_events;
mod life;
mod places;
mod recheck;
mod record;
mod rest;
mod rewind;
mod search;
mod transcript;
mod warm;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant as Clock, MissedTickBehavior, interval_at};

pub use capacity::{GuestSize, HostSize, Jobs, default_jobs};
pub use debug::{DebugError, Halted, Inspection, Source};
pub use guest::{Brought, Guest};
pub use host::{host_record, host_size};
pub use interactive::{ShellError, interact};
pub use keepsakes::Keepsakes;
pub use life::{Limits, STEP_SLACK};
pub use recheck::Rechecks;
pub use search::{SearchRequest, Until};

use crate::error::ExitCode;
use crate::event::{Event, StopCause, What};
use crate::machine::Launcher;
use crate::plan::{Cell, LifeId};
use crate::scenario::Pattern;
use crate::store::{RecheckOf, RunSummary, RunWriter, SearchRecord, StoreError};
use crate::verdict::Verdict;
use exact::{Exactness, GuestEnding, Lived};
use life::Over;
use recheck::{Found, Rechecker};
use search::{Counted, Fate, Search};
use warm::WarmGuests;

/// A cell, and what it boots; or why it can't be run here.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub cell: Arc<Cell>,
    pub guest: Result<Arc<Guest>, NoGuest>,
    /// At least so many lives, whatever the run's `repeat` says.
    pub at_least: u32,
    /// None: it was asked for.
    pub recheck_of: Option<RecheckOf>,
}

/// Why a cell has nothing to boot, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoGuest {
    /// This host cannot run it.
    Skipped(String),
    /// A part of it could not be built from source.
    NotBuilt(String),
    /// A part of it could not be had, which says nothing about the kernel.
    Infra(String),
}

/// When to stop before all lives were lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailFast {
    Yes,
    No,
    /// With the first life that shows a hit that nobody foresaw.
    NewHit,
    /// With the first life that shows one of these hits, foreseen or not.
    Hunted(Vec<Pattern>),
}

impl FailFast {
    fn is_met(&self, verdict: Verdict, found: &Found) -> bool {
        match self {
            Self::Yes => !matches!(verdict, Verdict::Passed | Verdict::Skipped),
            Self::No => false,
            Self::NewHit => !found.findings.is_empty(),
            Self::Hunted(patterns) => {
                found.findings.iter().chain(&found.foreseen).any(|(fingerprint, title)| {
                    patterns.iter().any(|pattern| pattern.matches(title, fingerprint.as_str()))
                })
            }
        }
    }
}

/// How a run is to go.
#[derive(Debug, Clone)]
pub struct Options {
    pub jobs: Jobs,
    pub repeat: u32,
    pub fail_fast: FailFast,
    /// None: hits are not run again.
    pub rechecks: Option<Rechecks>,
    pub limits: Limits,
    pub launcher: Launcher,
    pub warmth: Warmth,
    pub comparison: Comparison,
    /// None: each cell is run `repeat` times.
    pub search: Option<SearchRequest>,
    pub keepsakes: Keepsakes,
}

/// Dumps are as large as the guests' memory.
const MOST_DUMPS: u32 = 4;

/// Whether lives of one cell are to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    No,
    /// In every byte of their streams; each cell must live at least twice.
    Exact,
}

/// How guests come to their jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// Each boots.
    Cold,
    /// Each goes on from a copy of a saved guest, where that can be.
    Warm,
}

/// The user wants the run to stop. The first ends the running guests and reports; the second leaves at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt;

/// Why a run is not all that it should be. What could be recorded has been.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the run cannot be recorded")]
    Record(#[from] StoreError),
    #[error("a life ended in a panic of farm's own")]
    Panic(#[from] JoinError),
}

/// How often a search says how far it has come.
const SEARCH_TOLD: Duration = Duration::from_secs(2);

/// Runs all assignments `repeat` times and gives the exit code. Must be called on a current-thread runtime: children
/// are killed when the thread that started them dies.
pub async fn run(
    assignments: &[Assignment],
    options: &Options,
    writer: RunWriter,
    interrupts: &mut mpsc::Receiver<Interrupt>,
    display: impl FnMut(&Event),
) -> Result<ExitCode, RunError> {
    let (tell, mut told) = mpsc::channel(256);
    let warm = (options.warmth == Warmth::Warm).then(|| {
        let directory = writer.directory().to_owned();
        Arc::new(WarmGuests::new(options.launcher.clone(), options.limits, directory))
    });
    let (stop, stopping) = watch::channel(None);
    // A cell that has nothing to run on is told once.
    let (waiting, search) = match &options.search {
        None => (lives(assignments, options.repeat).collect(), None),
        Some(request) => {
            let (able, unable): (Vec<_>, Vec<_>) =
                assignments.iter().cloned().partition(|assignment| assignment.guest.is_ok());
            (lives(&unable, 1).collect(), Some(Search::new(request, able)))
        }
    };
    let mut dispatcher = Dispatcher {
        options,
        recorder: Recorder { began: Instant::now(), writer, display, trouble: None },
        waiting,
        search,
        warm,
        rechecker: Rechecker::new(assignments.iter().map(|a| a.cell.id), options.repeat),
        running: JoinSet::new(),
        verdicts: BTreeMap::new(),
        dumps: Arc::new(AtomicU32::new(MOST_DUMPS)),
        exactness: (options.comparison == Comparison::Exact).then(Exactness::default),
        not_begun: 0,
        panic: None,
        tell,
        stop,
        stopping,
    };
    let mut tell_search = interval_at(Clock::now() + SEARCH_TOLD, SEARCH_TOLD);
    tell_search.set_missed_tick_behavior(MissedTickBehavior::Delay);
    dispatcher.begin();
    loop {
        dispatcher.fill();
        if dispatcher.running.is_empty() {
            return dispatcher.end();
        }
        tokio::select! {
            biased;
            Some(Interrupt) = interrupts.recv() => {
                if dispatcher.stopped_by() == Some(StopCause::Interrupted) {
                    return Ok(ExitCode::Interrupted); // dropping the tasks kills their machines
                }
                dispatcher.stop(StopCause::Interrupted);
            }
            // Before `join_next`, so that what a life told stands before its end.
            Some(what) = told.recv() => dispatcher.hear(what),
            _ = tell_search.tick(), if dispatcher.search.is_some() => dispatcher.tell_search(),
            Some(ended) = dispatcher.running.join_next() => match ended {
                Ok(over) => dispatcher.count(over),
                Err(error) => {
                    dispatcher.panic.get_or_insert(error);
                    dispatcher.stop(StopCause::Fault);
                }
            },
        }
        if dispatcher.recorder.trouble.is_some() {
            dispatcher.stop(StopCause::Trouble);
        }
    }
}

/// Lives of one cell are not neighbours, so that a run that is stopped early has seen every cell.
fn lives(assignments: &[Assignment], repeat: u32) -> impl Iterator<Item = (LifeId, Assignment)> {
    let of = move |assignment: &Assignment| assignment.at_least.max(repeat);
    let most = assignments.iter().map(of).max().unwrap_or(0);
    (1..=most).flat_map(move |number| {
        let life = move |assignment: &Assignment| LifeId { cell: assignment.cell.id, number };
        let wanted = assignments.iter().filter(move |assignment| number <= of(assignment));
        wanted.map(move |assignment| (life(assignment), assignment.clone()))
    })
}

/// What waits, what runs, and whether to stop.
struct Dispatcher<'a, D> {
    options: &'a Options,
    recorder: Recorder<D>,
    waiting: VecDeque<(LifeId, Assignment)>,
    search: Option<Search>,
    warm: Option<Arc<WarmGuests>>,
    rechecker: Rechecker,
    running: JoinSet<Over>,
    /// Of the lives that were asked for.
    verdicts: BTreeMap<Verdict, u32>,
    /// How many more there may be.
    dumps: Arc<AtomicU32>,
    exactness: Option<Exactness>,
    not_begun: u32,
    /// A life that ended in a fault of farm's own.
    panic: Option<JoinError>,
    tell: mpsc::Sender<What>,
    stop: watch::Sender<Option<StopCause>>,
    stopping: watch::Receiver<Option<StopCause>>,
}

impl<D: FnMut(&Event)> Dispatcher<'_, D> {
    fn begin(&mut self) {
        self.recorder.record(What::RunStarted {
            run: self.recorder.writer.id().to_string(),
            until: self.options.search.as_ref().map(|search| search.asked.until.clone()),
            lives: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            jobs: self.options.jobs.jobs,
            jobs_why: self.options.jobs.why.clone(),
        });
    }

    /// Starts lives as long as there is room.
    fn fill(&mut self) {
        while self.running.len() < self.options.jobs.jobs as usize {
            let Some((life, assignment)) = self.next() else { break };
            let files = match self.recorder.writer.life(&life, &assignment.cell) {
                Ok(files) => files,
                Err(error) => {
                    self.not_begun += 1;
                    self.recorder.trouble(error.into());
                    self.stop(StopCause::Trouble);
                    continue;
                }
            };
            let task = life::Task {
                run: self.recorder.writer.id().clone(),
                life,
                assignment,
                files,
                limits: self.options.limits,
                launcher: self.options.launcher.clone(),
                warm: self.warm.clone(),
                keepsakes: self.options.keepsakes.clone(),
                dumps: Arc::clone(&self.dumps),
                tell: self.tell.clone(),
                stopping: self.stopping.clone(),
                locked_up: false,
            };
            self.running.spawn(task.live());
        }
    }

    fn next(&mut self) -> Option<(LifeId, Assignment)> {
        let searching = self.stopped_by().is_none();
        self.waiting.pop_front().or_else(|| self.search.as_mut().filter(|_| searching)?.next())
    }

    fn stopped_by(&self) -> Option<StopCause> {
        *self.stopping.borrow()
    }

    /// Starts nothing more and ends what runs; the first cause stays, but for the user's wish.
    fn stop(&mut self, cause: StopCause) {
        if self.stopped_by().is_some() && cause != StopCause::Interrupted {
            return;
        }
        self.not_begun += u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.waiting.clear();
        self.stop.send_replace(Some(cause));
        self.recorder.record(What::Stopping { cause });
    }

    /// A life that rechecks another says whose that one's hit is; the run is judged by the lives that were asked for.
    fn count(&mut self, over: Over) {
        let Over { assignment, verdict, reason, found, ending } = over;
        if assignment.recheck_of.is_some() {
            return;
        }
        *self.verdicts.entry(verdict).or_default() += 1;
        self.compare(found.life, verdict, ending);
        if self.search.is_some() {
            return self.count_in_search(verdict, reason, found);
        }
        if self.options.fail_fast.is_met(verdict, &found) {
            self.stop(StopCause::FailFast);
        }
        if verdict != Verdict::Infra
            && self.stopped_by().is_none()
            && let Some(rechecks) = &self.options.rechecks
            && let Some((begun, lives)) = self.rechecker.recheck(rechecks, &assignment, found)
        {
            self.recorder.record(begun);
            // In front of all that waits: whose the hit is, is the next thing to know.
            lives.into_iter().rev().for_each(|life| self.waiting.push_front(life));
        }
    }

    fn count_in_search(&mut self, verdict: Verdict, reason: String, found: Found) {
        let Some(search) = &mut self.search else { return };
        let Found { life, name, .. } = &found;
        let Counted { fate, found: enough, in_vain } = search.count(verdict, &found);
        match fate {
            Fate::Kept => {
                let (life, name) = (*life, name.clone());
                // What is kept is counted in search.json, whenever farm is killed.
                self.keep_search();
                self.recorder.record(What::Kept { life, name, verdict, reason });
            }
            Fate::Counted => {
                if let Err(error) = self.recorder.writer.forget(life) {
                    self.recorder.trouble(error.into());
                }
            }
        }
        if enough {
            self.stop(StopCause::Found);
        } else if in_vain {
            self.stop(StopCause::InVain);
        }
    }

    /// What lives tell is for people to watch; in a search there are too many of them.
    fn hear(&mut self, what: What) {
        if self.search.is_none() || matches!(what, What::BootedInstead { .. } | What::NotLocated { .. }) {
            self.recorder.record(what);
        }
    }

    fn tell_search(&mut self) {
        if let Some(record) = self.keep_search() {
            self.recorder.show(What::Searched(record));
        }
    }

    fn keep_search(&mut self) -> Option<SearchRecord> {
        let record = self.search.as_ref()?.record();
        if let Err(error) = self.recorder.writer.search(&record) {
            self.recorder.trouble(error.into());
        }
        Some(record)
    }

    /// A life that never was, or that the whole run was stopped in, says nothing about its schedule.
    fn compare(&mut self, life: LifeId, verdict: Verdict, ending: GuestEnding) {
        let Some(exactness) = &mut self.exactness else { return };
        if matches!(verdict, Verdict::Infra | Verdict::BuildFailed | Verdict::Skipped)
            || self.stopping.borrow().is_some()
        {
            return;
        }
        let directory = self.recorder.writer.life_directory(&life);
        match exactness.compare(Lived { life, directory: directory.clone(), ending }) {
            Ok(None) => {}
            Ok(Some(difference)) => self.recorder.record(What::Inexact(difference)),
            Err(source) => self.recorder.trouble(StoreError::Read { path: directory, source }.into()),
        }
    }

    fn end(mut self) -> Result<ExitCode, RunError> {
        self.tell_search();
        let exact = self.exactness.take().map(Exactness::record);
        let inexact = exact.as_ref().is_some_and(|exact| exact.different > 0);
        let exit = match self.stopped_by() {
            Some(StopCause::Interrupted) => ExitCode::Interrupted,
            _ => ExitCode::of_verdicts(self.verdicts.keys().copied()).or(if inexact {
                ExitCode::NoAnswer
            } else {
                ExitCode::Passed
            }),
        };
        self.recorder.record(What::RunEnded { exit: exit.code() });
        let Recorder { began, writer, trouble, .. } = self.recorder;
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let (id, wall_us) = (writer.id().clone(), micros_since(began));
        let (verdicts, not_begun) = (self.verdicts, self.not_begun);
        writer.finish(&RunSummary { id, wall_us, exit: exit.code(), verdicts, not_begun, exact })?;
        match self.panic {
            Some(panic) => Err(panic.into()),
            None => Ok(exit),
        }
    }
}

/// Shows and records events. The first trouble is kept, and the run goes on to its end without being recorded further.
struct Recorder<D> {
    began: Instant,
    writer: RunWriter,
    display: D,
    trouble: Option<RunError>,
}

impl<D: FnMut(&Event)> Recorder<D> {
    fn record(&mut self, what: What) {
        let event = self.show(what);
        if self.trouble.is_none()
            && let Err(error) = self.writer.event(&event)
        {
            self.trouble(error.into());
        }
    }

    /// Shows, without recording.
    fn show(&mut self, what: What) -> Event {
        let event = Event { at_us: micros_since(self.began), what };
        (self.display)(&event);
        event
    }

    fn trouble(&mut self, error: RunError) {
        self.trouble.get_or_insert(error);
    }
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}
