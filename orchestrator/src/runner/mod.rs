//! Runs lives side by side and tells everything as one stream of events.
//!
//! The dispatcher (here) owns the truth: which lives wait, which run, whether to stop. A life (`life`) is
//! driven by a task of its own that only sends events. Recording, the display and the reports all see the
//! events that pass through here, in one order.

mod capacity;
mod guest;
mod hang;
mod host;
mod interactive;
mod life;
mod transcript;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use capacity::{GuestSize, HostSize, Jobs, default_jobs};
pub use guest::Guest;
pub use host::{host_record, host_size};
pub use interactive::{ShellError, interact};
pub use life::Limits;

use crate::error::ExitCode;
use crate::event::{Event, What};
use crate::machine::Launcher;
use crate::plan::{Cell, LifeId};
use crate::store::{RunSummary, RunWriter, StoreError};
use crate::verdict::Verdict;

/// A cell, and what it boots; or why it can't be run here.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub cell: Arc<Cell>,
    pub guest: Result<Arc<Guest>, SkipReason>,
}

/// Why a cell is not run on this host, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipReason(pub String);

/// When to stop before all lives were lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailFast {
    Yes,
    No,
}

/// How a run is to go.
#[derive(Debug, Clone)]
pub struct Options {
    pub jobs: Jobs,
    pub repeat: u32,
    pub fail_fast: FailFast,
    pub limits: Limits,
    pub launcher: Launcher,
}

/// The user wants the run to stop. The first ends the running guests and reports; the second leaves at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the run cannot be recorded")]
    Record(#[from] StoreError),
    #[error("a life ended in a panic of farm's own")]
    Panic(#[from] tokio::task::JoinError),
}

/// What a life tells the dispatcher.
type Told = (LifeId, What);

/// Runs all assignments `repeat` times and gives the exit code. Must be called on a current-thread runtime: children
/// are killed when the thread that started them dies.
pub async fn run(
    assignments: Vec<Assignment>,
    options: &Options,
    mut writer: RunWriter,
    mut interrupts: mpsc::Receiver<Interrupt>,
    mut display: impl FnMut(&Event),
) -> Result<ExitCode, RunError> {
    let began = Instant::now();
    let (tell, mut told) = mpsc::channel::<Told>(256);
    let (stop, stopping) = watch::channel(false);
    let id = writer.id().clone();
    let mut record = |writer: &mut RunWriter, what: What| -> Result<(), StoreError> {
        let event = Event { at_us: micros_since(began), what };
        display(&event);
        writer.event(&event)
    };

    let mut verdicts = Vec::new();
    let mut waiting = VecDeque::new();
    // Lives of one cell are not neighbours, so that a run that is stopped early has seen every cell.
    for number in 1..=options.repeat {
        for assignment in &assignments {
            let life = LifeId { cell: assignment.cell.id, number };
            waiting.push_back((life, assignment.clone()));
        }
    }
    record(
        &mut writer,
        What::RunStarted {
            run: id.to_string(),
            lives: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            jobs: options.jobs.jobs,
            jobs_why: options.jobs.why.clone(),
        },
    )?;

    let mut running = JoinSet::new();
    let mut interrupted = false;
    loop {
        while running.len() < options.jobs.jobs as usize {
            let Some((life, assignment)) = waiting.pop_front() else { break };
            let label = assignment.cell.label();
            match assignment.guest {
                Err(SkipReason(reason)) => {
                    verdicts.push(Verdict::Skipped);
                    record(&mut writer, What::Skipped { life, label, reason })?;
                }
                Ok(guest) => {
                    let files = writer.life(&life, &assignment.cell)?;
                    let task = life::Task {
                        run: id.clone(),
                        life,
                        cell: assignment.cell,
                        guest,
                        files,
                        limits: options.limits,
                        launcher: options.launcher.clone(),
                        tell: tell.clone(),
                        stopping: stopping.clone(),
                    };
                    running.spawn(task.live());
                }
            }
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            Some(Interrupt) = interrupts.recv() => {
                if interrupted {
                    return Ok(ExitCode::Interrupted); // dropping the tasks kills their machines
                }
                interrupted = true;
                waiting.clear();
                stop.send_replace(true);
                record(&mut writer, What::Interrupted)?;
            }
            // Before `join_next`, so that what a life told stands before its end.
            Some((_, what)) = told.recv() => record(&mut writer, what)?,
            Some(ended) = running.join_next() => {
                let verdict = ended?;
                verdicts.push(verdict);
                let failed = !matches!(verdict, Verdict::Passed | Verdict::Skipped);
                if failed && options.fail_fast == FailFast::Yes {
                    waiting.clear();
                    stop.send_replace(true);
                }
            }
        }
    }

    let exit =
        if interrupted { ExitCode::Interrupted } else { ExitCode::of_verdicts(verdicts.iter().copied()) };
    record(&mut writer, What::RunEnded { exit: exit.code() })?;
    let mut counts = std::collections::BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(verdict).or_default() += 1;
    }
    writer.finish(&RunSummary { id, wall_us: micros_since(began), exit: exit.code(), verdicts: counts })?;
    Ok(exit)
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}
