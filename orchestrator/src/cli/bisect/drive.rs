//! The loop of a bisect over commits or kernels: the search asks, the bench tries.

use super::bench::Bench;
use super::testbed::Testbed;
use crate::bisect::{BuildOutcome, Commit, Counts, Next, Search, Seconds, Signature, Verdict};
use crate::error::Failure;
use crate::report::bisect as told;
use crate::store::{BuildRecord, Entry, Probe, SubjectRecord};

/// A bisect that goes on.
pub(super) struct Drive<'a, T> {
    pub(super) bench: Bench<T>,
    pub(super) search: Search,
    subjects: &'a [SubjectRecord],
    /// So many entries of the journal the search has been told.
    learned: usize,
}

/// How far it came.
pub(super) enum Ended {
    Verdict(Verdict),
    Interrupted,
}

/// Whether the user lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoesOn {
    Yes,
    No,
}

impl<'a, T: Testbed> Drive<'a, T> {
    pub(super) fn new(bench: Bench<T>, search: Search, subjects: &'a [SubjectRecord]) -> Self {
        let mut drive = Self { bench, search, subjects, learned: 0 };
        drive.learn();
        drive
    }

    /// Goes on until the search is done.
    pub(super) fn search(&mut self) -> Result<Ended, Failure> {
        loop {
            let goes_on = match self.search.next() {
                Next::Done(verdict) => return Ok(Ended::Verdict(verdict)),
                Next::Build { commit } => self.make(&self.probe(commit))?,
                Next::Trial { commit, trials } => self.try_it(&self.probe(commit), trials.get())?,
            };
            if goes_on == GoesOn::No {
                return Ok(Ended::Interrupted);
            }
        }
    }

    /// Makes a subject ready to be tried.
    pub(super) fn make(&mut self, of: &Probe) -> Result<GoesOn, Failure> {
        let Some(build) = self.bench.make(of)? else { return Ok(GoesOn::No) };
        self.bench.say(&told::built_line(&self.called(of), &build.outcome, build.seconds));
        self.learn();
        Ok(GoesOn::Yes)
    }

    /// What trials of it have shown.
    pub(super) fn counts(&self, of: &Probe) -> Counts {
        Counts::of_journal(&self.bench.entries, of)
    }

    /// Lets a subject that was made live so many times.
    pub(super) fn try_it(&mut self, of: &Probe, trials: u32) -> Result<GoesOn, Failure> {
        let tried = self.bench.try_it(of, trials)?;
        self.learn();
        self.bench.say(&told::tried_line(&self.called(of), &tried.trials, &self.left()));
        Ok(if tried.interrupted { GoesOn::No } else { GoesOn::Yes })
    }

    /// Tells the search what it does not know yet.
    fn learn(&mut self) {
        for entry in &self.bench.entries[self.learned..] {
            match entry {
                Entry::Hunted { .. } | Entry::Begun { .. } => {}
                Entry::Built { of, outcome, seconds } => {
                    if let Some(commit) = commit(self.subjects, of) {
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
                    if let Some(commit) = commit(self.subjects, of) {
                        for trial in trials {
                            self.search.record(commit, trial.outcome, Seconds(trial.seconds));
                        }
                    }
                }
            }
        }
        self.learned = self.bench.entries.len();
    }

    fn probe(&self, commit: Commit) -> Probe {
        Probe::Subject(self.subjects[commit.0].id.clone())
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
}

/// None: the search did not ask for it.
fn commit(subjects: &[SubjectRecord], of: &Probe) -> Option<Commit> {
    let Probe::Subject(id) = of else { return None };
    subjects.iter().position(|subject| subject.id == *id).map(Commit)
}
