//! What is asked of a search, what it asks for, and how it ends.

use std::num::NonZeroU32;

use super::cost::Costs;
use super::history::Commit;

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

impl Options {
    /// The bad end is tried so often that a bug which shows in one of a hundred trials is seen with this confidence.
    pub fn new(confidence: Confidence, costs: Costs) -> Self {
        let trials = (-confidence.share()).ln_1p() / (-RAREST).ln_1p();
        let max_end_trials = NonZeroU32::new(trials.ceil() as u32).unwrap_or(NonZeroU32::MIN);
        Self { confidence, max_end_trials, costs }
    }
}

/// The rate of the rarest bug that a search looks for, if it is not told otherwise.
const RAREST: f64 = 0.01;

/// What the search asks for. Asking twice gives the same, until something is recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Have this commit's kernel built, or taken from the cache, and [`Search::record_build`] what came of it. Then ask
    /// again: a kernel that is the same as one that was tried may need no trial.
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
    /// No single commit explains what was seen: both have the bug and no candidate is in both; or `second` comes after `first`, which
    /// has the bug, and stayed clean in so many trials that it was gone again. What was not tried is not seen: that the bad end has the
    /// bug without the culprit is for who reverts it ([`super::Search::trials_of_revert`]).
    TwoCulprits {
        first: Commit,
        second: Commit,
        confidence: f64,
    },
    NoAnswer(WhyNoAnswer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNoAnswer {
    /// An end cannot be built, does not boot, or its trials do not tell.
    EndCannotBeTried(Commit),
}

impl Verdict {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Culprit { .. } => "culprit",
            Self::Among { .. } => "among",
            Self::GoodIsBad => "good-is-bad",
            Self::BadDoesNotReproduce { .. } => "bad-does-not-reproduce",
            Self::TwoCulprits { .. } => "two-culprits",
            Self::NoAnswer(_) => "no-answer",
        }
    }

    /// The commits that it names.
    pub fn commits(&self) -> Vec<Commit> {
        match self {
            Self::Culprit { commit, .. } | Self::NoAnswer(WhyNoAnswer::EndCannotBeTried(commit)) => {
                vec![*commit]
            }
            Self::Among { commits, .. } => commits.clone(),
            Self::TwoCulprits { first, second, .. } => vec![*first, *second],
            Self::GoodIsBad | Self::BadDoesNotReproduce { .. } => Vec::new(),
        }
    }

    /// How likely the claim holds, where it is not certain.
    pub fn confidence(&self) -> Option<f64> {
        match self {
            Self::Culprit { confidence, .. }
            | Self::Among { confidence, .. }
            | Self::TwoCulprits { confidence, .. } => Some(*confidence),
            Self::GoodIsBad | Self::BadDoesNotReproduce { .. } | Self::NoAnswer(_) => None,
        }
    }
}

/// How a commit stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub commit: Commit,
    /// How likely it is the culprit.
    pub probability: f64,
    /// Of all trials of its kernel, be it the kernel of other commits too.
    pub hits: u32,
    pub clean: u32,
    pub fit: Fitness,
}

/// Whether a commit can be tried, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    Unknown,
    Built,
    /// It does not build or boot, or its trials do not tell.
    Unfit,
}
