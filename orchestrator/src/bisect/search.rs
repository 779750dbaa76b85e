//! The search: what to build and to try next, what that taught, and the verdict.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::cost::{Costs, Seconds};
use super::history::{Commit, History};
use super::outcome::{BuildOutcome, Outcome};

/// A probability that a claim has to reach, at least 0.5 and less than 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence(f64);

impl Confidence {
    pub const DEFAULT: Self = Self(0.99);

    pub fn new(share: f64) -> Option<Self> {
        (0.5..1.0).contains(&share).then_some(Self(share))
    }

    pub fn share(self) -> f64 {
        self.0
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub confidence: Confidence,
    /// After so many clean trials of the bad end it is said not to reproduce.
    pub max_end_trials: NonZeroU32,
    pub costs: Costs,
}

/// What the search asks for. It never changes its mind without a record: asking twice gives the same.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Have this commit's kernel built, or taken from the cache, and [`Search::record_build`] what came of it. Then ask
    /// again: a kernel that is the same as one that was tried needs no trial.
    Build {
        commit: Commit,
    },
    /// Let this commit's kernel, which is built, live up to so many times, and [`Search::record`] each life. A hit ends
    /// the batch: ask again. So may anything else: to ask after every trial is right too.
    Trial {
        commit: Commit,
        trials: NonZeroU32,
    },
    Done(Verdict),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// This commit has the bug, and its parents do not.
    Culprit {
        commit: Commit,
        confidence: f64,
    },
    /// It is one of these, parents first, and no commit that can be tried tells them apart.
    Among {
        commits: Vec<Commit>,
        confidence: f64,
    },
    /// The good end showed the bug.
    GoodIsBad,
    /// The bad end stayed clean.
    BadDoesNotReproduce {
        trials: u32,
    },
    /// No single commit explains what was seen: `first` has the bug, and so has `second`, but no candidate is in both; or
    /// `second` comes after `first` and stayed clean in so many trials that the bug was gone again.
    TwoCulprits {
        first: Commit,
        second: Commit,
    },
    NoAnswer(WhyNoAnswer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNoAnswer {
    /// An end cannot be built, does not boot, or its trials do not tell.
    EndCannotBeTried(Commit),
}

/// How a commit stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub commit: Commit,
    /// How likely it is the culprit.
    pub probability: f64,
    pub hits: u32,
    pub clean: u32,
}

/// A search. All its state comes from what was recorded, in that order: the same records give the same search.
#[derive(Debug, Clone)]
pub struct Search {
    history: History,
    options: Options,
    built: HashMap<Commit, bool>,
    tried: HashMap<Commit, (u32, u32)>,
}

impl Search {
    pub fn new(history: History, options: Options) -> Self {
        Self { history, options, built: HashMap::new(), tried: HashMap::new() }
    }

    /// Says that the kernel of this commit is in the cache.
    pub fn record_cached(&mut self, _commit: Commit) {}

    pub fn record_build(&mut self, commit: Commit, outcome: BuildOutcome, _took: Seconds) {
        match outcome {
            BuildOutcome::Built(_) => self.built.insert(commit, true),
            BuildOutcome::CannotBuild => self.built.insert(commit, false),
            BuildOutcome::Infra => None,
        };
    }

    pub fn record(&mut self, commit: Commit, outcome: Outcome, _took: Seconds) {
        let (hits, clean) = self.tried.entry(commit).or_default();
        match outcome {
            Outcome::Hit => *hits += 1,
            Outcome::Clean => *clean += 1,
            _ => {}
        }
    }

    pub fn next(&self) -> Next {
        let enough = self.options.max_end_trials.get().min(20);
        let is_bad = |commit: &Commit| self.tried.get(commit).is_some_and(|tried| tried.0 > 0);
        let is_good = |commit: &Commit| self.tried.get(commit).is_some_and(|tried| tried.1 >= enough);
        let (good, bad) = (self.history.good(), self.history.bad());
        if is_good(&bad) {
            return Next::Done(Verdict::BadDoesNotReproduce { trials: enough });
        }
        if is_bad(&good) {
            return Next::Done(Verdict::GoodIsBad);
        }
        let unknown: Vec<Commit> =
            [bad, good].into_iter().filter(|end| !is_bad(end) && !is_good(end)).collect();
        let candidates = self.history.candidates();
        let first = candidates.iter().position(is_bad).unwrap_or(candidates.len() - 1);
        let last = candidates.iter().take(first).rposition(is_good).map_or(0, |place| place + 1);
        if unknown.is_empty() && last == first {
            return Next::Done(Verdict::Culprit { commit: candidates[first], confidence: 0.5 });
        }
        let commit = unknown.first().copied().unwrap_or(candidates[(last + first) / 2]);
        match self.built.get(&commit) {
            None => Next::Build { commit },
            Some(true) => Next::Trial { commit, trials: NonZeroU32::MIN },
            Some(false) => Next::Done(Verdict::NoAnswer(WhyNoAnswer::EndCannotBeTried(commit))),
        }
    }

    /// How it ended, if it did.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.next() {
            Next::Done(verdict) => Some(verdict),
            _ => None,
        }
    }

    /// What is likely still to be spent.
    pub fn left(&self) -> Seconds {
        Seconds::default()
    }

    /// All candidates, parents first.
    pub fn standings(&self) -> Vec<Standing> {
        let candidates = self.history.candidates();
        let standing = |commit: &Commit| {
            let (hits, clean) = self.tried.get(commit).copied().unwrap_or_default();
            Standing { commit: *commit, probability: 1.0 / candidates.len() as f64, hits, clean }
        };
        candidates.iter().map(standing).collect()
    }
}
