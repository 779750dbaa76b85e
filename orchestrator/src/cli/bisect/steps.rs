//! The loop of a bisect of configurations: the search asks, Kconfig settles, the bench tries.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::config::{config_file, write};
use super::drive::GoesOn;
use super::testbed::Testbed;
use crate::bisect::Witness;
use crate::bisect::config::{
    Changes, Difference, Known, Next, Request, Sampling, TestOutcome, Verdict, next,
};
use crate::error::Failure;
use crate::kernel::Configurator;
use crate::report::bisect::{built_line, tried_line};
use crate::store::{BuildRecord, Entry, Outcome, Probe};

pub(super) struct Steps<T> {
    pub(super) bench: Bench<T>,
    pub(super) configurator: Configurator,
    pub(super) difference: Difference,
    sampling: Sampling,
    known: Known,
    /// How much of what the journal has of a configuration the search was told, by its name.
    told: BTreeMap<String, usize>,
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
        Self { bench, configurator, difference, sampling, known, told }
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
                    let of = Probe::Subject(self.name(&changes));
                    if self.bench.made(&of).is_none() {
                        self.make(&of, &request, &changes)?;
                    } else if !self.tell(&of, &changes) && self.try_it(&of, trials)? == GoesOn::No {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
        }
    }

    /// Builds a configuration.
    fn make(&mut self, of: &Probe, request: &Request, changes: &Changes) -> Result<(), Failure> {
        self.bench.say(&format!("{}: {} of {} options", called(of), changes.len(), self.all()));
        let settled = self.configurator.settle(&self.difference.asked(request))?;
        write(&config_file(self.bench.writer.directory(), of), &settled.to_string())?;
        let build = self.bench.make(of)?;
        if !matches!(build.outcome, BuildRecord::Built { cached: true, .. }) {
            self.bench.say(&built_line(called(of), &build.outcome, build.seconds));
        }
        Ok(())
    }

    /// Lets one that was built live so many times.
    fn try_it(&mut self, of: &Probe, trials: u32) -> Result<GoesOn, Failure> {
        let before = self.known.tallies().count();
        let tried = self.bench.try_it(of, trials)?;
        let before = format!("{before} configurations were tried before");
        self.bench.say(&tried_line(called(of), &tried.trials, &before));
        Ok(if tried.interrupted { GoesOn::No } else { GoesOn::Yes })
    }

    /// Tells the search what it does not know yet of a configuration; false if that is nothing.
    fn tell(&mut self, of: &Probe, changes: &Changes) -> bool {
        let shown = self.shown(of);
        let told = self.told.entry(called(of).to_owned()).or_default();
        let is_news = shown.len() > *told;
        for outcome in shown.into_iter().skip(*told) {
            self.known.record(changes.clone(), outcome);
            *told += 1;
        }
        is_news
    }

    /// What its kernel has shown.
    fn shown(&self, of: &Probe) -> Vec<TestOutcome> {
        if let Some(BuildRecord::CannotBuild { .. }) = self.bench.made(of) {
            return vec![TestOutcome::Unresolved];
        }
        let mut shown = Vec::new();
        let mut witness = Witness::default();
        for outcome in self.outcomes(of) {
            witness.hear(outcome);
            shown.extend(match outcome {
                Outcome::Hit => Some(TestOutcome::Hit),
                Outcome::Clean => Some(TestOutcome::Clean),
                Outcome::Weak | Outcome::OtherFailure | Outcome::CannotBoot | Outcome::Infra => None,
            });
        }
        if witness.is_unfit() {
            shown.push(TestOutcome::Unresolved);
        }
        shown
    }

    /// Of all trials of a configuration, and of others that come to the same kernel.
    fn outcomes(&self, of: &Probe) -> impl Iterator<Item = Outcome> {
        let own = self.signature(of);
        let is_same = move |other: &Probe| other == of || (own.is_some() && self.signature(other) == own);
        let trials = self.bench.entries.iter().filter_map(move |entry| match entry {
            Entry::Tried { of: tried, trials, .. } if is_same(tried) => Some(trials),
            _ => None,
        });
        trials.flatten().map(|trial| trial.outcome)
    }

    fn signature(&self, of: &Probe) -> Option<&String> {
        match self.bench.made(of) {
            Some(BuildRecord::Built { signature, .. }) => signature.as_ref(),
            _ => None,
        }
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
