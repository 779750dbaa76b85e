//! The loop of a bisect of configurations: what is tried is in the journal before anybody acts on it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::config::{config_file, write};
use super::drive::outcome;
use super::testbed::{Hunted, Made, Testbed, Tried};
use crate::bisect::config::{Changes, Difference, Known, Next, Outcome, Request, Sampling, Verdict, next};
use crate::cli::output;
use crate::error::{ExitCode, Failure};
use crate::escape::escape;
use crate::kernel::Configurator;
use crate::report::bisect::{built_line, tried_line};
use crate::store::{BisectWriter, BuildRecord, Entry, Probe, TrialVerdict};

/// After so many trials that tell nothing, and none that does, a configuration is taken for one that never will.
const SILENT_TRIALS: u32 = 5;
/// After so many trials that ended in trouble of farm's own it is the host that needs looking at.
const INFRA_TRIALS: u32 = 5;

pub(super) struct Steps<T> {
    pub(super) writer: BisectWriter,
    pub(super) configurator: Configurator,
    pub(super) difference: Difference,
    /// All that is known, as the journal has it.
    pub(super) entries: Vec<Entry>,
    testbed: T,
    sampling: Sampling,
    hunted: Hunted,
    known: Known,
    /// What the journal has of configurations, by their names, and the search does not know yet.
    told: BTreeMap<String, Vec<Outcome>>,
    began: Instant,
}

pub(super) enum Ended {
    Verdict(Verdict),
    Interrupted,
}

impl<T: Testbed> Steps<T> {
    /// Takes what the journal has; trials of a run that was cut short are read from that.
    pub(super) fn new(
        writer: BisectWriter,
        entries: Vec<Entry>,
        testbed: T,
        configurator: Configurator,
        difference: Difference,
        sampling: Sampling,
        hunted: Hunted,
    ) -> Result<Self, Failure> {
        let mut steps = Self {
            writer,
            configurator,
            difference,
            entries: Vec::new(),
            testbed,
            sampling,
            hunted,
            known: Known::default(),
            told: BTreeMap::new(),
            began: Instant::now(),
        };
        let mut cut = None;
        for entry in entries {
            cut = match &entry {
                Entry::Begun { of, run, trials } => Some((of.clone(), run.clone(), *trials)),
                Entry::Tried { .. } => None,
                _ => cut,
            };
            steps.learn(entry);
        }
        if let Some((of, run, trials)) = cut {
            let tried = steps.testbed.ended(&run, trials, &steps.hunted)?;
            steps.keep(of, run, &tried)?;
        }
        Ok(steps)
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
        let built = |entry: &Entry| matches!(entry, Entry::Built { of: built, .. } if built == of);
        if !self.entries.iter().any(built) {
            self.say(&format!("{}: {} of {} options", called(of), changes.len(), self.all()));
            let settled = self.configurator.settle(&self.difference.asked(request))?;
            write(&config_file(self.writer.directory(), of), &settled.to_string())?;
            let began = Instant::now();
            let Some(made) = self.testbed.make(of)? else { return Ok(false) };
            let outcome = match made {
                Made::Ready { signature, cached } => BuildRecord::Built { signature, cached },
                Made::Cannot { said } => BuildRecord::CannotBuild { said },
            };
            let seconds = began.elapsed().as_secs_f64();
            if !matches!(outcome, BuildRecord::Built { cached: true, .. }) {
                self.say(&built_line(called(of), &outcome, seconds));
            }
            let cannot = matches!(outcome, BuildRecord::CannotBuild { .. });
            self.record(Entry::Built { of: of.clone(), outcome, seconds })?;
            if cannot {
                return Ok(true);
            }
        }
        let run = self.testbed.prepare(of, trials, &self.hunted)?;
        self.record(Entry::Begun { of: of.clone(), run: run.clone(), trials })?;
        let tried = self.testbed.live(&self.hunted)?;
        self.keep(of.clone(), run, &tried)?;
        Ok(!tried.interrupted)
    }

    fn keep(&mut self, of: Probe, run: String, tried: &Tried) -> Result<(), Failure> {
        if !self.hunted.is_known() && !tried.found.is_empty() {
            for finding in &tried.found {
                self.say(&format!("hunted from now on: {}", escape(finding.title.as_bytes())));
            }
            self.record(Entry::Hunted { findings: tried.found.clone() })?;
        }
        let trials: Vec<_> = tried.trials.iter().map(outcome).collect();
        let tried = self.known.tallies().count();
        self.say(&tried_line(called(&of), &trials, &format!("{tried} configurations were tried before")));
        self.record(Entry::Tried { of: of.clone(), run, trials })?;
        let trouble = self.verdicts(&of).filter(|one| *one == TrialVerdict::Infra).count();
        if trouble >= INFRA_TRIALS as usize {
            let message = format!("{trouble} trials of {} ended in trouble of farm's own", called(&of));
            return Err(Failure::new(ExitCode::Infra, message).hint("`farm doctor` says what is missing"));
        }
        Ok(())
    }

    fn record(&mut self, entry: Entry) -> Result<(), Failure> {
        self.writer.record(&entry)?;
        self.learn(entry);
        Ok(())
    }

    fn learn(&mut self, entry: Entry) {
        let (of, mut outcomes) = match &entry {
            Entry::Hunted { findings } => {
                self.hunted = Hunted::of_findings(findings);
                self.entries.push(entry);
                return;
            }
            Entry::Begun { .. } => {
                self.entries.push(entry);
                return;
            }
            Entry::Built { of, outcome, .. } => {
                let cannot = matches!(outcome, BuildRecord::CannotBuild { .. });
                (of.clone(), cannot.then_some(Outcome::Unresolved).into_iter().collect::<Vec<_>>())
            }
            Entry::Tried { of, trials, .. } => {
                (of.clone(), trials.iter().filter_map(|trial| told_by(trial.outcome)).collect())
            }
        };
        self.entries.push(entry);
        let tells = |verdict: TrialVerdict| matches!(told_by(verdict), Some(Outcome::Hit | Outcome::Clean));
        let silent = self.verdicts(&of).filter(|one| told_by(*one).is_none() && *one != TrialVerdict::Infra);
        if silent.count() >= SILENT_TRIALS as usize && !self.verdicts(&of).any(tells) {
            outcomes.push(Outcome::Unresolved);
        }
        if !outcomes.is_empty() {
            let (Probe::Subject(id) | Probe::Without(id)) = of;
            self.told.entry(id).or_default().extend(outcomes);
        }
    }

    /// Of all trials of a configuration.
    fn verdicts(&self, of: &Probe) -> impl Iterator<Item = TrialVerdict> {
        let trials = self.entries.iter().filter_map(move |entry| match entry {
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

    fn say(&self, line: &str) {
        let at = self.began.elapsed().as_secs();
        output::note(&format!("[{:>3}:{:02}] {line}", at / 60, at % 60));
    }
}

fn called(of: &Probe) -> &str {
    let (Probe::Subject(id) | Probe::Without(id)) = of;
    id
}

/// Nothing, if a trial says neither this nor that.
fn told_by(verdict: TrialVerdict) -> Option<Outcome> {
    match verdict {
        TrialVerdict::Hit => Some(Outcome::Hit),
        TrialVerdict::Clean => Some(Outcome::Clean),
        TrialVerdict::CannotBoot => Some(Outcome::Unresolved),
        TrialVerdict::Weak | TrialVerdict::OtherFailure | TrialVerdict::Infra => None,
    }
}
