//! `farm repro HIT --minimise`: the smallest cell that still shows the hit, as a scenario's file and as lines to type.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::HitCell;
use crate::cli::args::ReproArgs;
use crate::cli::environment::{Environment, absolute};
use crate::cli::output;
use crate::cli::perform::{Planned, assign, begin, interrupts, jobs};
use crate::cli::provision::Guests;
use crate::cli::scenarios::library;
use crate::error::{ExitCode, Failure};
use crate::escape::escape;
use crate::machine::quote;
use crate::minimise::{Answer, Ask, End, Life, Search, Standing, Told, What};
use crate::plan::{Cell, Protection, Request, Schedule, Setting, expand};
use crate::recheck::{Word, word_of};
use crate::report::{Ways, command_lines, minimise_text};
use crate::runner::{GuestSize, Interrupt, NoGuest};
use crate::scenario::{Action, Catalog, Scenario, Source, check, executable::Beside, write};
use crate::store::{LifeRecord, ReproRecord, Store, write_whole};
use crate::verdict::Verdict;

/// The first words of a file of this command's, which it writes over.
const MARK: &str = "# Made by `farm repro";
/// As long as a purpose may be.
const LONGEST_PURPOSE: usize = 200;
/// The rate of the hit is measured in this part of the time at most,
const TO_MEASURE: u32 = 4;
/// and confirmed in this part, if it takes so long.
const TO_CONFIRM: u32 = 3;
/// New lives that confirm.
const CONFIRMED_BY: f64 = 10.0;

pub(super) fn minimise(
    environment: &Environment,
    runtime: &Runtime,
    options: &ReproArgs,
    file: Option<&Utf8Path>,
) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let hit = HitCell::find(environment, runtime, options)?;
    if hit.cell.protection == Protection::Hardware {
        return Err(Failure::new(
            ExitCode::Usage,
            "a scenario's file cannot ask for the hardware's protection",
        ));
    }
    let file = file_for(&hit, file)?;
    let catalog = library()?.catalog;
    let mut scenario = hit.cell.alone();
    scenario.purpose = purpose(&hit.found.hit.judged.hit.title);
    for step in &mut scenario.steps {
        if let Action::Exec { path, .. } = &mut step.action {
            *path = absolute(path)?;
        }
    }
    let found_in = hit.found.hit.step.and_then(|number| hit.cell.step(number)).map(|step| step.name.clone());
    let search = Search::new(scenario, found_in, hit.cell.schedule, &catalog);
    let signals = Signals::new(runtime, began + options.budget)?;
    let directory = format!("{}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"), hit.record().hit);
    let runs = environment.state_dir.join("minimised").join(directory);
    let bench = Bench {
        environment,
        runtime,
        options,
        catalog: &catalog,
        request: hit.cell.request(),
        store: Store::new(runs.clone()),
        runs: runs.clone(),
        record: hit.record(),
        hit,
        guests: Guests::new(),
        signals,
        began,
        seconds_each: 0.0,
    };
    output::note(&format!("every life is kept: `farm --state {} runs`", quote(runs.as_str())));
    bench.drive(search, &file)
}

/// Where the scenario goes: a file of the user's is not written over.
fn file_for(hit: &HitCell, given: Option<&Utf8Path>) -> Result<Utf8PathBuf, Failure> {
    let default = || Utf8PathBuf::from(format!("{}-{}.yaml", hit.cell.scenario.name, hit.found.hit.id));
    let file = absolute(&given.map_or_else(default, Utf8Path::to_owned))?;
    // To be told before hours of work, not behind them.
    if let Some(directory) = file.parent().filter(|parent| !parent.is_dir()) {
        return Err(Failure::new(ExitCode::Usage, format!("{directory} is no directory"))
            .hint("make it, or name another file"));
    }
    match fs::read(&file) {
        Ok(bytes) if bytes.starts_with(MARK.as_bytes()) => Ok(file),
        Ok(_) => Err(Failure::new(ExitCode::Usage, format!("{file} is there already"))
            .hint("name another file; only what --minimise has made is written over")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(file),
        Err(error) => Err(Failure::of(ExitCode::Usage, &error).hint(format!("{file} cannot be written"))),
    }
}

/// No longer than a purpose may be.
fn purpose(title: &str) -> String {
    let mut purpose = format!("the smallest that was found to show {}", escape(title.as_bytes()));
    while purpose.len() > LONGEST_PURPOSE {
        purpose.pop();
    }
    purpose
}

/// What ends the work before it is done.
struct Signals {
    receive: mpsc::Receiver<Interrupt>,
    by_user: Arc<AtomicBool>,
    deadline: Instant,
}

impl Signals {
    /// Guests that live when the time is over are stopped as if the user wanted it.
    fn new(runtime: &Runtime, deadline: Instant) -> Result<Self, Failure> {
        let mut user = runtime.block_on(async { interrupts() })?;
        let (send, receive) = mpsc::channel(4);
        let by_user = Arc::new(AtomicBool::new(false));
        let (of_user, said) = (send.clone(), Arc::clone(&by_user));
        runtime.spawn(async move {
            while let Some(interrupt) = user.recv().await {
                said.store(true, Ordering::Relaxed);
                // Nobody listens when all is done.
                let _ = of_user.send(interrupt).await;
            }
        });
        runtime.spawn(async move {
            tokio::time::sleep_until(deadline.into()).await;
            let _ = send.send(Interrupt).await;
        });
        Ok(Self { receive, by_user, deadline })
    }

    fn is_by_user(&self) -> bool {
        self.by_user.load(Ordering::Relaxed)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

struct Bench<'a> {
    environment: &'a Environment,
    runtime: &'a Runtime,
    options: &'a ReproArgs,
    catalog: &'a Catalog,
    /// Gives a scenario's cell under the hit's conditions.
    request: Request,
    /// Where the runs go: out of the way of `farm runs` and `farm hits`.
    store: Store,
    runs: Utf8PathBuf,
    record: ReproRecord,
    hit: HitCell,
    guests: Guests,
    signals: Signals,
    began: Instant,
    /// That a life took last, those beside it counted.
    seconds_each: f64,
}

impl Bench<'_> {
    fn drive(mut self, mut search: Search<'_>, file: &Utf8Path) -> Result<ExitCode, Failure> {
        let mut written = search.original().clone();
        while let Some(ask) = self.next(&mut search)? {
            // A farm that is killed leaves the smallest so far; what is given back is none.
            if written != *search.smallest() {
                self.write(file, &search)?;
                written = search.smallest().clone();
            }
            match self.live(&ask)? {
                Some(lives) => {
                    let standing = search.record(&ask, &lives);
                    self.tell(&ask, &lives, standing);
                }
                None => search.refuse(&ask),
            }
        }
        self.finish(&search, file)
    }

    /// What is to live, while there is time.
    fn next(&self, search: &mut Search<'_>) -> Result<Option<Ask>, Failure> {
        if self.signals.is_by_user() {
            search.stop();
            return Ok(None);
        }
        let budget = self.options.budget;
        if self.began.elapsed() > budget / TO_MEASURE {
            search.stop_measuring();
        }
        let to_confirm = Duration::from_secs_f64(CONFIRMED_BY * self.seconds_each).min(budget / TO_CONFIRM);
        let left = self.signals.left();
        if left <= to_confirm {
            search.stop();
        }
        let cell = self.cell(&Arc::new(search.smallest().clone()), None)?;
        let side_by_side = self.jobs(&cell);
        let ask = search.next(side_by_side);
        Ok(ask.filter(|_| !left.is_zero()))
    }

    fn jobs(&self, cell: &Cell) -> u32 {
        let guest = GuestSize { cpus: cell.shape.cpus, memory_mib: cell.shape.memory_mib };
        jobs(self.options.jobs, guest).jobs
    }

    /// Checked as whoever runs the file will have it checked. None: it is no scenario.
    fn checked(&self, scenario: &Scenario) -> Option<Arc<Scenario>> {
        let text = write(scenario);
        let files = Beside { folder: Utf8PathBuf::new() };
        check(Source { file: &scenario.file, text: &text }, self.catalog, &files).ok().map(Arc::new)
    }

    fn cell(&self, scenario: &Arc<Scenario>, seed: Option<u64>) -> Result<Cell, Failure> {
        let request = Request { seed, ..self.request.clone() };
        let cell = expand(scenario, &request).into_iter().next();
        let cell = cell.ok_or_else(|| Failure::new(ExitCode::Fault, "a scenario without a cell"))?;
        Ok(if self.hit.cell.is_single_threaded() { cell.under(&Setting::SingleThread) } else { cell })
    }

    /// Lives it. None: it cannot live.
    fn live(&mut self, ask: &Ask) -> Result<Option<Vec<Life>>, Failure> {
        let Some(scenario) = self.checked(&ask.scenario) else { return Ok(None) };
        let (seeds, repeat) = self.seeds(ask);
        let mut assignments = Vec::new();
        for seed in seeds {
            let cell = self.cell(&scenario, seed)?;
            let assignment = assign(self.environment, &self.hit.grounds, cell, &mut self.guests)?;
            match (&assignment.guest, ask.what) {
                (Ok(_), _) => {}
                (Err(NoGuest::Skipped(_) | NoGuest::NotBuilt(_)), What::Candidate(_)) => return Ok(None),
                (Err(why), _) => return Err(why.clone().into()),
            }
            assignments.push(assignment);
        }
        let scenarios = [scenario];
        let planned = Planned {
            jobs: self.options.jobs,
            repeat,
            warmth: self.hit.warmth(self.options.cold),
            repro: Some(self.record.clone()),
            ..Planned::new(&scenarios, assignments)
        };
        let began = Instant::now();
        let begun = begin(&self.store, &self.hit.grounds, planned)?;
        let directory = begun.directory().to_owned();
        begun.live(self.runtime, &mut self.signals.receive, |_| {})?;
        self.seconds_each = began.elapsed().as_secs_f64() / f64::from(ask.lives.max(1));
        let run = self.store.read_run(&directory)?;
        if ask.what == What::Original && run.asked_for().all(|life| life.verdict == Verdict::Infra) {
            let message = "no life of the hit's cell came to its end, by no fault of the kernel's";
            return Err(Failure::new(ExitCode::Infra, message)
                .hint(format!("farm --state {} show last", quote(self.runs.as_str()))));
        }
        Ok(Some(run.asked_for().map(|life| read(life, &self.record)).collect()))
    }

    /// None is the scenario's own. Lives of one cell are alike under a deterministic schedule, so each gets another.
    fn seeds(&self, ask: &Ask) -> (Vec<Option<u64>>, u32) {
        match self.request.schedule {
            Schedule::Parallel => (vec![None], ask.lives),
            Schedule::Deterministic => (ask.seeds(self.hit.cell.seed).collect(), 1),
        }
    }

    fn tell(&self, ask: &Ask, lives: &[Life], standing: Standing) {
        let count = |told| lives.iter().filter(|life| life.told == told).count();
        let (shown, silent) = (count(Told::Shown), count(Told::Silent));
        let silent = if silent > 0 { format!(", {silent} could not tell") } else { String::new() };
        let outcome = match (ask.what, standing) {
            (What::Original | What::Confirmation | What::Smallest, _) | (_, Standing::Open) => "",
            (_, Standing::Kept) => ": kept",
            (_, Standing::Lost) => ": lost",
            (_, Standing::Slower) => ": takes longer",
            (_, Standing::Mute) => ": cannot tell",
        };
        let what = match ask.what {
            What::Confirmation => "the smallest, new lives",
            What::Smallest => "the smallest so far",
            What::Original | What::Candidate(_) => &ask.change,
        };
        let seconds = self.began.elapsed().as_secs_f64();
        output::note(&format!("[{seconds:>6.1} s] {what}: {shown} of {}{silent}{outcome}", lives.len()));
    }

    /// The whole file or none.
    fn write(&self, file: &Utf8Path, search: &Search<'_>) -> Result<(), Failure> {
        let (run, tally) = (self.hit.run_command(file, self.options), search.lives_of_smallest().tally);
        let kernel = &self.hit.cell.kernel;
        let head = format!(
            "{MARK} {} --minimise`: {}\n# {} of {} lives on {} ({}) showed it. {run}\n",
            self.record.hit,
            escape(self.record.title.as_bytes()),
            tally.shown,
            tally.told(),
            kernel.name,
            kernel.release,
        );
        Ok(write_whole(file, (head + &write(search.smallest())).as_bytes())?)
    }

    fn finish(mut self, search: &Search<'_>, file: &Utf8Path) -> Result<ExitCode, Failure> {
        let answer = Answer::of(search);
        let is_there = answer.end != End::NotSeen;
        let mut by_hand = Vec::new();
        if is_there {
            self.write(file, search)?;
            by_hand = self.by_hand(search.smallest())?;
        }
        let mut notes = self.record.differs.clone();
        if self.hit.cell.is_single_threaded() {
            notes.push(
                "all lives had QEMU execute the CPUs on one thread, which `farm run` does not do".to_owned(),
            );
        }
        let (run, shell) = (self.hit.run_command(file, self.options), self.hit.shell_command(file));
        let ways = Ways { file: file.to_string(), run, shell, by_hand, notes };
        let seconds = self.began.elapsed().as_secs_f64();
        let text = minimise_text(&self.record.title, &answer, &ways, seconds);
        let view =
            View { hit: &self.record, answer: &answer, ways: &ways, seconds, scenario: search.smallest() };
        self.environment.print(&text, &view)?;
        Ok(match answer.end {
            _ if self.signals.is_by_user() => ExitCode::Interrupted,
            End::NotSeen => ExitCode::NoAnswer,
            _ if answer.is_lost() => ExitCode::NoAnswer,
            End::Minimal | End::Stopped => ExitCode::Passed,
        })
    }

    fn by_hand(&mut self, scenario: &Scenario) -> Result<Vec<String>, Failure> {
        let Some(scenario) = self.checked(scenario) else { return Ok(Vec::new()) };
        let cell = self.cell(&scenario, None)?;
        let assignment = assign(self.environment, &self.hit.grounds, cell, &mut self.guests)?;
        let (Ok(guest), cell) = (&assignment.guest, &assignment.cell) else { return Ok(Vec::new()) };
        let job = guest.job_of(cell).map_err(|error| Failure::of(ExitCode::Infra, &error))?;
        Ok(command_lines(&job))
    }
}

/// A life that did its job to the end without the hit is clean here, whether it reached what it was to touch or not: so
/// would whoever runs it find it.
fn read(life: &LifeRecord, hunted: &ReproRecord) -> Life {
    let told = match word_of(life, &hunted.fingerprint) {
        Word::Seen => Told::Shown,
        Word::NotSeen => Told::Clean,
        Word::Nothing if life.verdict == Verdict::Ineffective => Told::Clean,
        Word::Nothing => Told::Silent,
    };
    Life { told, seed: life.seed, seconds: seconds_of_steps(life) }
}

/// A life that was cut short is timed from its first step to its end.
fn seconds_of_steps(life: &LifeRecord) -> f64 {
    let micros = match (life.timings.ready_us, life.timings.ended_us) {
        (Some(ready), Some(ended)) if life.steps.iter().any(|step| step.outcome.is_none()) => {
            ended.saturating_sub(ready)
        }
        _ => life.steps.iter().map(|step| step.wall_us).sum(),
    };
    micros as f64 / 1e6
}

/// The answer as JSON.
#[derive(Serialize)]
struct View<'a> {
    hit: &'a ReproRecord,
    answer: &'a Answer,
    ways: &'a Ways,
    seconds: f64,
    scenario: &'a Scenario,
}
