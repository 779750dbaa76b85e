//! What a bisect tries its subjects on: something that makes a kernel of one, and lets it live.

use crate::error::Failure;
use crate::scenario::Pattern;
use crate::store::{Finding, Probe, StoredHit, StoredRun, Trial};

/// What became of a subject that was to be made.
pub(super) enum Made {
    Ready {
        /// Of what is loaded; subjects of the same are the same.
        signature: Option<String>,
        /// It was there before.
        cached: bool,
    },
    /// It cannot be tried, and why.
    Cannot { said: String },
}

/// How trials of a run ended.
pub(super) struct Tried {
    /// Those that came to their end.
    pub(super) trials: Vec<Trial>,
    /// The user wants to stop.
    pub(super) interrupted: bool,
    /// What the first hit was, where nothing was hunted yet.
    pub(super) found: Vec<Finding>,
}

/// A run of trials that is to begin: its name is on disk before it does anything.
pub(super) trait Testbed {
    /// Makes a subject ready to be tried.
    fn make(&mut self, of: &Probe) -> Result<Made, Failure>;

    /// Prepares so many trials of a subject that was made, and gives their run's name.
    fn prepare(&mut self, of: &Probe, trials: u32, hunted: &Hunted) -> Result<String, Failure>;

    /// Lives what was prepared.
    fn live(&mut self, hunted: &Hunted) -> Result<Tried, Failure>;

    /// Of the so many trials of a run that was cut short those that had come to their end.
    fn ended(&self, run: &str, trials: u32, hunted: &Hunted) -> Result<Tried, Failure>;
}

/// What is hunted.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Hunted {
    /// Empty: the first finding that the bad end shows.
    pub(in crate::cli) patterns: Vec<Pattern>,
}

impl Hunted {
    /// A word of the user's, for a title or a fingerprint.
    pub(in crate::cli) fn of_words(words: &[String]) -> Self {
        let both = |word: &String| [Pattern::Title(word.clone()), Pattern::Fingerprint(word.clone())];
        Self { patterns: words.iter().flat_map(both).collect() }
    }

    pub(in crate::cli) fn of_findings(findings: &[Finding]) -> Self {
        let exactly = |finding: &Finding| Pattern::Fingerprint(finding.fingerprint.clone());
        Self { patterns: findings.iter().map(exactly).collect() }
    }

    /// All that is new in a run.
    pub(in crate::cli) fn any_new(run: &StoredRun) -> Self {
        let new = run.lives.iter().flat_map(|life| life.hits.iter().filter(|hit| hit.is_new()));
        let exactly = |hit: &StoredHit| Pattern::Fingerprint(hit.judged.hit.fingerprint.as_str().to_owned());
        Self { patterns: new.map(exactly).collect() }
    }

    pub(in crate::cli) fn is_known(&self) -> bool {
        !self.patterns.is_empty()
    }
}
