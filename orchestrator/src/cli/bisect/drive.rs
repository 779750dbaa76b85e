//! The loop of a bisect over commits or kernels: the search asks, the bench tries.

use std::time::{Duration, Instant};

use super::bench::Bench;
use super::testbed::Testbed;
use crate::bisect::{BuildOutcome, Commit, Counts, Next, Search, Seconds, Signature, Verdict};
use crate::error::Failure;
use crate::report::bisect as told;
use crate::store::{BuildRecord, Entry, Probe, SubjectRecord, Trial};

/// How often a person who waits is told what trials came to.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A bisect that goes on.
pub(super) struct Drive<'a, T> {
    pub(super) bench: Bench<T>,
    pub(super) search: Search,
    subjects: &'a [SubjectRecord],
    /// So many entries of the journal the search has been told.
    learned: usize,
    unsaid: Option<Unsaid>,
}

/// Trials of one subject that the user was not told of yet. The search may ask for the next of it many times.
struct Unsaid {
    of: Probe,
    trials: Vec<Trial>,
    since: Instant,
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
        let mut drive = Self { bench, search, subjects, learned: 0, unsaid: None };
        drive.learn();
        drive
    }

    /// Goes on until the search is done.
    pub(super) fn search(&mut self) -> Result<Ended, Failure> {
        loop {
            let goes_on = match self.search.next() {
                Next::Done(verdict) => {
                    self.say_trials();
                    return Ok(Ended::Verdict(verdict));
                }
                Next::Build { commit } => {
                    self.make(&self.probe(commit))?;
                    GoesOn::Yes
                }
                Next::Trial { commit, trials } => self.try_it(&self.probe(commit), trials.get())?,
            };
            if goes_on == GoesOn::No {
                self.say_trials();
                return Ok(Ended::Interrupted);
            }
        }
    }

    /// Makes a subject ready to be tried.
    pub(super) fn make(&mut self, of: &Probe) -> Result<(), Failure> {
        self.say_trials();
        let build = self.bench.make(of)?;
        if !matches!(build.outcome, BuildRecord::Built { cached: true, .. }) {
            self.bench.say(&told::built_line(&self.called(of), &build.outcome, build.seconds));
        }
        self.learn();
        Ok(())
    }

    /// What trials of it have shown.
    pub(super) fn counts(&self, of: &Probe) -> Counts {
        Counts::of_journal(&self.bench.entries, of)
    }

    /// Lets a subject that was made live so many times.
    pub(super) fn try_it(&mut self, of: &Probe, trials: u32) -> Result<GoesOn, Failure> {
        if self.unsaid.as_ref().is_some_and(|unsaid| unsaid.of != *of) {
            self.say_trials();
        }
        let tried = self.bench.try_it(of, trials)?;
        self.learn();
        let unsaid = self.unsaid.get_or_insert_with(|| Unsaid {
            of: of.clone(),
            trials: Vec::new(),
            since: Instant::now(),
        });
        unsaid.trials.extend(tried.trials);
        if unsaid.since.elapsed() > TELL_EVERY {
            self.say_trials();
        }
        Ok(if tried.interrupted { GoesOn::No } else { GoesOn::Yes })
    }

    /// Tells the user of the trials that were not told yet.
    pub(super) fn say_trials(&mut self) {
        if let Some(Unsaid { of, trials, .. }) = self.unsaid.take() {
            self.bench.say(&told::tried_line(&self.called(&of), &trials, &self.left()));
        }
    }

    /// Tells the search what it does not know yet.
    fn learn(&mut self) {
        for entry in &self.bench.entries[self.learned..] {
            match entry {
                Entry::Hunted { .. } | Entry::Begun { .. } => {}
                Entry::Built { of, outcome, seconds } => {
                    if let Some(commit) = commit(self.subjects, of) {
                        let outcome = match outcome {
                            BuildRecord::Built { signature, cached } => {
                                let signature = signature.clone().map(Signature::new);
                                match cached {
                                    true => BuildOutcome::Cached(signature),
                                    false => BuildOutcome::Built(signature),
                                }
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
