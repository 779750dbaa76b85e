//! What a minimisation came to, for a report and as JSON.

use serde::Serialize;

use super::{End, Lives, Search, Tally};
use crate::repro::interval;
use crate::scenario::{Action, Scenario};

/// How often a cell shows the hit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub tally: Tally,
    /// With 95 %, Clopper's and Pearson's; none if no life tells.
    pub interval: Option<(f64, f64)>,
}

impl Rate {
    fn of(tally: Tally) -> Self {
        let told = tally.told();
        Self { tally, interval: (told > 0).then(|| interval(tally.shown.into(), told.into())) }
    }
}

/// How large a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Extent {
    pub steps: usize,
    /// Of the step with most.
    pub workers: u32,
    /// That all steps of a life took, the median of all lives.
    pub seconds: f64,
    /// Programs of interference, of all steps.
    pub beside: usize,
    /// Options that are given, of all programs.
    pub options: usize,
    pub cpus: u32,
    pub memory_mib: u32,
    pub disks: usize,
}

impl Extent {
    fn of(scenario: &Scenario, lives: &Lives) -> Self {
        let Scenario { steps, machine, .. } = scenario;
        let workers = |action: &Action| match action {
            Action::Stress { workers, .. } | Action::Exec { workers, .. } => *workers,
            Action::Write { .. } => 1,
        };
        let options = |action: &Action| match action {
            Action::Stress { args, .. } => args.len(),
            Action::Exec { args, .. } => args.len(),
            Action::Write { .. } => 0,
        };
        let beside = || steps.iter().flat_map(|step| &step.beside);
        Self {
            steps: steps.len(),
            workers: steps.iter().map(|step| workers(&step.action)).max().unwrap_or(0),
            seconds: lives.median_seconds(),
            beside: beside().count(),
            options: steps.iter().map(|step| options(&step.action)).sum::<usize>()
                + beside().map(|one| one.args.len()).sum::<usize>(),
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            disks: machine.disks.len(),
        }
    }

    /// Steps × workers × seconds.
    pub fn product(&self) -> f64 {
        self.steps as f64 * f64::from(self.workers) * self.seconds
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub end: End,
    pub before: Extent,
    pub after: Extent,
    pub rate_before: Rate,
    /// By new lives, which chose nothing.
    pub rate_after: Rate,
    /// What was taken away, in this order.
    pub changes: Vec<String>,
    /// Of all cells.
    pub lives: u32,
    pub candidates: usize,
    /// That show that a candidate has lost the hit, if all of them are.
    pub clean_lives: Option<u32>,
    /// Reductions of the smallest whose lives could not tell.
    pub mute: Vec<String>,
}

impl Answer {
    /// Whether new lives of the smallest could tell, and none showed the hit.
    pub fn is_lost(&self) -> bool {
        let Tally { shown, clean, .. } = self.rate_after.tally;
        shown == 0 && clean > 0
    }

    pub fn of(search: &Search<'_>) -> Self {
        let (lives, candidates) = search.trials();
        Self {
            end: search.end().unwrap_or(End::Stopped),
            before: Extent::of(search.original(), search.original_lives()),
            after: Extent::of(search.smallest(), &search.lives_of_smallest()),
            rate_before: Rate::of(search.original_lives().tally),
            rate_after: Rate::of(search.confirmed().tally),
            changes: search.changes().map(str::to_owned).collect(),
            lives,
            candidates,
            clean_lives: search.clean_lives(),
            mute: search.mute(),
        }
    }
}
