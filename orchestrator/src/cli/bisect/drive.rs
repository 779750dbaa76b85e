//! The loop of a bisect: the search asks, the testbed tries, and the journal has it before anybody acts on it.

use std::time::Instant;

use super::testbed::{Hunted, Made, Testbed, Trial, Tried};
use crate::bisect::{BuildOutcome, Commit, Counts, Next, Outcome, Search, Seconds, Signature, Verdict};
use crate::cli::output;
use crate::error::Failure;
use crate::escape::escape;
use crate::report::bisect as told;
use crate::store::{BisectWriter, BuildRecord, Entry, Probe, SubjectRecord, TrialOutcome, TrialVerdict};

/// A bisect that goes on.
pub(super) struct Drive<'a, T> {
    pub(super) writer: BisectWriter,
    pub(super) testbed: T,
    pub(super) search: Search,
    pub(super) subjects: &'a [SubjectRecord],
    pub(super) hunted: Hunted,
    /// All that is known, as the journal has it.
    pub(super) entries: Vec<Entry>,
    began: Instant,
}

/// How far it came.
pub(super) enum Ended {
    Verdict(Verdict),
    Interrupted,
}

impl<'a, T: Testbed> Drive<'a, T> {
    /// Takes what the journal has; trials of a run that was cut short are read from that.
    pub(super) fn new(
        writer: BisectWriter,
        entries: Vec<Entry>,
        testbed: T,
        search: Search,
        subjects: &'a [SubjectRecord],
        hunted: Hunted,
    ) -> Result<Self, Failure> {
        let began = Instant::now();
        let mut drive = Self { writer, testbed, search, subjects, hunted, entries: Vec::new(), began };
        let mut cut = None;
        for entry in entries {
            cut = match &entry {
                Entry::Begun { of, run, trials } => Some((of.clone(), run.clone(), *trials)),
                Entry::Tried { .. } => None,
                _ => cut,
            };
            drive.learn(entry);
        }
        if let Some((of, run, trials)) = cut {
            let tried = drive.testbed.ended(&run, trials, &drive.hunted)?;
            drive.keep(of, run, tried)?;
        }
        Ok(drive)
    }

    /// Goes on until the search is done.
    pub(super) fn search(&mut self) -> Result<Ended, Failure> {
        loop {
            match self.search.next() {
                Next::Done(verdict) => return Ok(Ended::Verdict(verdict)),
                Next::Build { commit } => {
                    let of = self.probe(commit);
                    if self.make(&of)?.is_none() {
                        return Ok(Ended::Interrupted);
                    }
                }
                Next::Trial { commit, trials } => {
                    let of = self.probe(commit);
                    if self.try_it(&of, trials.get())? == GoesOn::No {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
        }
    }

    /// Makes a subject ready; `None` if the user wants to stop.
    pub(super) fn make(&mut self, of: &Probe) -> Result<Option<BuildRecord>, Failure> {
        let began = Instant::now();
        let Some(made) = self.testbed.make(of)? else { return Ok(None) };
        let outcome = match made {
            Made::Ready { signature, cached } => BuildRecord::Built { signature, cached },
            Made::Cannot { said } => BuildRecord::CannotBuild { said },
        };
        let seconds = began.elapsed().as_secs_f64();
        self.say(&told::built_line(&self.called(of), &outcome, seconds));
        self.record(Entry::Built { of: of.clone(), outcome: outcome.clone(), seconds })?;
        Ok(Some(outcome))
    }

    /// The same, unless that was done before.
    pub(super) fn made(&mut self, of: &Probe) -> Result<Option<BuildRecord>, Failure> {
        let before = self.entries.iter().find_map(|entry| match entry {
            Entry::Built { of: built, outcome, .. } if built == of => Some(outcome.clone()),
            _ => None,
        });
        match before {
            Some(outcome) => Ok(Some(outcome)),
            None => self.make(of),
        }
    }

    /// What trials of it have shown.
    pub(super) fn counts(&self, of: &Probe) -> Counts {
        Counts::of_journal(&self.entries, of)
    }

    /// Lets a subject that was made live so many times.
    pub(super) fn try_it(&mut self, of: &Probe, trials: u32) -> Result<GoesOn, Failure> {
        let run = self.testbed.prepare(of, trials, &self.hunted)?;
        self.record(Entry::Begun { of: of.clone(), run: run.clone(), trials })?;
        let tried = self.testbed.live(&self.hunted)?;
        let interrupted = tried.interrupted;
        let outcomes = self.keep(of.clone(), run, tried)?;
        self.say(&told::tried_line(&self.called(of), &outcomes, &self.left()));
        Ok(if interrupted { GoesOn::No } else { GoesOn::Yes })
    }

    fn keep(&mut self, of: Probe, run: String, tried: Tried) -> Result<Vec<TrialOutcome>, Failure> {
        if !self.hunted.is_known() && !tried.found.is_empty() {
            for finding in &tried.found {
                self.say(&format!("hunted from now on: {}", escape(finding.title.as_bytes())));
            }
            self.record(Entry::Hunted { findings: tried.found.clone() })?;
        }
        let trials: Vec<TrialOutcome> = tried.trials.iter().map(outcome).collect();
        self.record(Entry::Tried { of, run, trials: trials.clone() })?;
        Ok(trials)
    }

    fn record(&mut self, entry: Entry) -> Result<(), Failure> {
        self.writer.record(&entry)?;
        self.learn(entry);
        Ok(())
    }

    /// Tells the search.
    fn learn(&mut self, entry: Entry) {
        match &entry {
            Entry::Hunted { findings } => self.hunted = Hunted::of_findings(findings),
            Entry::Begun { .. } => {}
            Entry::Built { of, outcome, seconds } => {
                if let Some(commit) = self.commit(of) {
                    let outcome = match outcome {
                        BuildRecord::Built { signature, .. } => {
                            BuildOutcome::Built(signature.clone().map(Signature::new))
                        }
                        BuildRecord::CannotBuild { .. } => BuildOutcome::CannotBuild,
                    };
                    self.search.record_build(commit, outcome, Seconds(*seconds));
                }
            }
            Entry::Tried { of, trials, .. } => {
                if let Some(commit) = self.commit(of) {
                    for trial in trials {
                        self.search.record(commit, trial.outcome.into(), Seconds(trial.seconds));
                    }
                }
            }
        }
        self.entries.push(entry);
    }

    fn probe(&self, commit: Commit) -> Probe {
        Probe::Subject(self.subjects[commit.0].id.clone())
    }

    /// None: the search did not ask for it.
    fn commit(&self, of: &Probe) -> Option<Commit> {
        let Probe::Subject(id) = of else { return None };
        self.subjects.iter().position(|subject| subject.id == *id).map(Commit)
    }

    fn called(&self, of: &Probe) -> String {
        told::called(of, self.subjects)
    }

    /// How much is left to do.
    fn left(&self) -> String {
        let standings = self.search.standings();
        let possible = standings.iter().filter(|standing| standing.probability > 0.001).count();
        told::left_words(possible, self.search.left())
    }

    fn say(&self, line: &str) {
        let at = self.began.elapsed().as_secs();
        output::note(&format!("[{:>3}:{:02}] {line}", at / 60, at % 60));
    }
}

/// Whether the user lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoesOn {
    Yes,
    No,
}

fn outcome(trial: &Trial) -> TrialOutcome {
    TrialOutcome {
        number: trial.number,
        outcome: trial.reading.outcome.into(),
        seconds: trial.took.0,
        others: trial.reading.others.clone(),
        reason: trial.reading.reason.clone(),
    }
}

impl From<Outcome> for TrialVerdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Hit => Self::Hit,
            Outcome::Clean => Self::Clean,
            Outcome::Weak => Self::Weak,
            Outcome::OtherFailure => Self::OtherFailure,
            Outcome::CannotBoot => Self::CannotBoot,
            Outcome::Infra => Self::Infra,
        }
    }
}

impl From<TrialVerdict> for Outcome {
    fn from(verdict: TrialVerdict) -> Self {
        match verdict {
            TrialVerdict::Hit => Self::Hit,
            TrialVerdict::Clean => Self::Clean,
            TrialVerdict::Weak => Self::Weak,
            TrialVerdict::OtherFailure => Self::OtherFailure,
            TrialVerdict::CannotBoot => Self::CannotBoot,
            TrialVerdict::Infra => Self::Infra,
        }
    }
}
