//! The loop of a bisect of configurations: the search asks, Kconfig settles, the bench tries.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::config::{config_file, write};
use super::testbed::Testbed;
use crate::bisect::config::{
    Changes, Difference, Known, Next, Request, Sampling, TestOutcome, Verdict, next,
};
use crate::error::{ExitCode, Failure};
use crate::kernel::Configurator;
use crate::report::bisect::{built_line, tried_line};
use crate::store::{BuildRecord, Entry, Outcome, Probe};

/// After so many trials that tell nothing, and none that does, a configuration is taken for one that never will.
const SILENT_TRIALS: usize = 5;
/// After so many trials that ended in trouble of farm's own it is the host that needs looking at.
const INFRA_TRIALS: usize = 5;

pub(super) struct Steps<T> {
    pub(super) bench: Bench<T>,
    pub(super) configurator: Configurator,
    pub(super) difference: Difference,
    sampling: Sampling,
    known: Known,
    /// What the journal has of configurations, by their names, and the search does not know yet.
    told: BTreeMap<String, Vec<TestOutcome>>,
    /// So many entries of the journal are known, or told.
    learned: usize,
}

pub(super) enum Ended {
    Verdict(Verdict),
    Interrupted,
}

impl<T: Testbed> Steps<T> {
    pub(super) fn new(
        bench: Bench<T>,
        configurator: Configurator,
        difference: Difference,
        sampling: Sampling,
    ) -> Self {
        let (known, told) = (Known::default(), BTreeMap::new());
        let mut steps = Self { bench, configurator, difference, sampling, known, told, learned: 0 };
        steps.learn();
        steps
    }

    /// Goes on until the search is done.
    pub(super) fn search(&mut self) -> Result<Ended, Failure> {
        loop {
            match next(&self.difference, &self.known, self.sampling) {
                Next::Done(verdict) => return Ok(Ended::Verdict(verdict)),
                Next::Settle(request) => {
                    let settled = self.configurator.settle(&self.difference.asked(&request))?;
                    self.known.settle(request, self.difference.changes_in(&settled));
                }
                Next::Try { request, changes, trials } => {
                    let id = self.name(&changes);
                    match self.told.remove(&id) {
                        Some(outcomes) => {
                            outcomes.into_iter().for_each(|one| self.known.record(changes.clone(), one));
                        }
                        None if self.try_it(&Probe::Subject(id), &request, &changes, trials)? => {}
                        None => return Ok(Ended::Interrupted),
                    }
                }
            }
        }
    }

    /// Builds a configuration and lets it live; false if the user wants to stop.
    fn try_it(
        &mut self,
        of: &Probe,
        request: &Request,
        changes: &Changes,
        trials: u32,
    ) -> Result<bool, Failure> {
        if self.bench.made(of).is_none() {
            self.bench.say(&format!("{}: {} of {} options", called(of), changes.len(), self.all()));
            let settled = self.configurator.settle(&self.difference.asked(request))?;
            write(&config_file(self.bench.writer.directory(), of), &settled.to_string())?;
            let Some(build) = self.bench.make(of)? else { return Ok(false) };
            self.learn();
            if !matches!(build.outcome, BuildRecord::Built { cached: true, .. }) {
                self.bench.say(&built_line(called(of), &build.outcome, build.seconds));
            }
            if matches!(build.outcome, BuildRecord::CannotBuild { .. }) {
                return Ok(true);
            }
        }
        let before = self.known.tallies().count();
        let tried = self.bench.try_it(of, trials)?;
        self.learn();
        let before = format!("{before} configurations were tried before");
        self.bench.say(&tried_line(called(of), &tried.trials, &before));
        let trouble = self.outcomes(of).filter(|one| *one == Outcome::Infra).count();
        if trouble >= INFRA_TRIALS {
            let message = format!("{trouble} trials of {} ended in trouble of farm's own", called(of));
            return Err(Failure::new(ExitCode::Infra, message).hint("`farm doctor` says what is missing"));
        }
        Ok(!tried.interrupted)
    }

    /// Takes from the journal what is new in it.
    fn learn(&mut self) {
        for place in self.learned..self.bench.entries.len() {
            let (of, mut outcomes) = match &self.bench.entries[place] {
                Entry::Hunted { .. } | Entry::Begun { .. } => continue,
                Entry::Built { of, outcome, .. } => {
                    let cannot = matches!(outcome, BuildRecord::CannotBuild { .. });
                    (of, cannot.then_some(TestOutcome::Unresolved).into_iter().collect::<Vec<_>>())
                }
                Entry::Tried { of, trials, .. } => {
                    (of, trials.iter().filter_map(|trial| told_by(trial.outcome)).collect())
                }
            };
            let all: Vec<_> = self.outcomes(of).filter(|one| *one != Outcome::Infra).map(told_by).collect();
            if all.len() >= SILENT_TRIALS && all.iter().all(Option::is_none) {
                outcomes.push(TestOutcome::Unresolved);
            }
            if !outcomes.is_empty() {
                self.told.entry(called(of).to_owned()).or_default().extend(outcomes);
            }
        }
        self.learned = self.bench.entries.len();
    }

    /// Of all trials of a configuration.
    fn outcomes(&self, of: &Probe) -> impl Iterator<Item = Outcome> {
        let trials = self.bench.entries.iter().filter_map(move |entry| match entry {
            Entry::Tried { of: tried, trials, .. } if tried == of => Some(trials),
            _ => None,
        });
        trials.flatten().map(|trial| trial.outcome)
    }

    /// What a configuration is called: the same for the same changes, whoever asks for them.
    fn name(&self, changes: &Changes) -> String {
        match changes.len() {
            0 => "good".to_owned(),
            _ if *changes == self.difference.all() => "bad".to_owned(),
            _ => changes.name(),
        }
    }

    fn all(&self) -> usize {
        self.difference.changes().len()
    }
}

fn called(of: &Probe) -> &str {
    let (Probe::Subject(id) | Probe::Without(id)) = of;
    id
}

/// Nothing, if a trial says neither this nor that.
fn told_by(outcome: Outcome) -> Option<TestOutcome> {
    match outcome {
        Outcome::Hit => Some(TestOutcome::Hit),
        Outcome::Clean => Some(TestOutcome::Clean),
        Outcome::CannotBoot => Some(TestOutcome::Unresolved),
        Outcome::Weak | Outcome::OtherFailure | Outcome::Infra => None,
    }
}
