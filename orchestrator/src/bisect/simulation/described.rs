//! A history that a file describes: JSON → a checked world, or every problem at once.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use super::{Buildable, Prices, Truth, World};
use crate::bisect::cost::{Costs, Seconds};
use crate::bisect::history::{Commit, History, HistoryError};
use crate::bisect::outcome::Signature;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    good: String,
    bad: String,
    commits: Vec<RawCommit>,
    costs: RawCosts,
    /// What the outcomes are drawn from.
    #[serde(default)]
    seed: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCommit {
    id: String,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    build: Buildable,
    #[serde(default)]
    hit_rate: f64,
    #[serde(default)]
    other_failure: f64,
    #[serde(default)]
    weak: f64,
    signature: Option<String>,
}

/// In seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCosts {
    build: f64,
    incremental: Option<RawIncremental>,
    #[serde(default)]
    cached: f64,
    trial: f64,
}

/// A build after another takes `least`, and `each` for each commit between the two, but never more than a build from nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIncremental {
    least: f64,
    each: f64,
}

/// A world whose commits have names.
#[derive(Debug)]
pub struct Described {
    pub world: World,
    pub history: History,
    pub seed: u64,
    names: Vec<String>,
}

#[derive(Debug, Error)]
pub enum DescriptionError {
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    #[error("{0}")]
    Problems(Problems),
}

/// All that is wrong, one to a line.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [problem] => f.write_str(problem),
            problems => {
                write!(f, "there are {} problems", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n    {problem}"))
            }
        }
    }
}

impl Described {
    /// # Errors
    ///
    /// All that is wrong with the text; of its syntax the first.
    pub fn read(text: &str) -> Result<Self, DescriptionError> {
        let raw: Raw = serde_json::from_str(text)?;
        let mut problems = Vec::new();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for (number, commit) in raw.commits.iter().enumerate() {
            if numbers.insert(&commit.id, number).is_some() {
                problems.push(format!("commit {}: there are two of this id", commit.id));
            }
        }
        let mut parents = Vec::new();
        for commit in &raw.commits {
            let known: Vec<usize> =
                commit.parents.iter().filter_map(|parent| numbers.get(parent.as_str()).copied()).collect();
            let unknown = commit.parents.iter().filter(|parent| !numbers.contains_key(parent.as_str()));
            problems.extend(
                unknown.map(|parent| format!("commit {}: its parent {parent} is not listed", commit.id)),
            );
            let rates = [commit.hit_rate, commit.other_failure, commit.weak];
            if rates.iter().any(|rate| !(0.0..=1.0).contains(rate)) {
                problems.push(format!("commit {}: a rate is from 0 to 1", commit.id));
            }
            parents.push(known);
        }
        let roots = raw.commits.iter().filter(|commit| commit.parents.is_empty());
        let roots: Vec<&str> = roots.map(|commit| commit.id.as_str()).collect();
        if roots.len() > 1 {
            problems.push(format!("only one commit may have no parents, and so have {}", roots.join(", ")));
        }
        let costs = &raw.costs;
        let incremental = costs.incremental.as_ref().map_or([0.0; 2], |costs| [costs.least, costs.each]);
        if [costs.build, costs.cached].iter().chain(&incremental).any(|cost| !(0.0..).contains(cost)) {
            problems.push("costs: seconds are not less than 0".to_owned());
        }
        if costs.trial <= 0.0 {
            problems.push("costs: a trial takes more than 0 seconds".to_owned());
        }
        let mut end = |role: &str, id: &str| {
            let number = numbers.get(id).copied();
            if number.is_none() {
                problems.push(format!("{role}: commit {id} is not listed"));
            }
            number.map(Commit)
        };
        let ends = [end("good", &raw.good), end("bad", &raw.bad)];
        let ([Some(good), Some(bad)], true) = (ends, problems.is_empty()) else {
            return Err(DescriptionError::Problems(Problems(problems)));
        };
        let names: Vec<String> = raw.commits.iter().map(|commit| commit.id.clone()).collect();
        let history = History::new(&parents, good, bad).map_err(|error| {
            let problem = match error {
                HistoryError::Cycle(commit) => format!("commit {} is an ancestor of itself", names[commit.0]),
                other => other.to_string(),
            };
            DescriptionError::Problems(Problems(vec![problem]))
        })?;
        let [build, cached, trial] = [costs.build, costs.cached, costs.trial].map(Seconds);
        let incremental = costs.incremental.as_ref().map(|costs| (Seconds(costs.least), Seconds(costs.each)));
        let prices = Prices { guess: Costs { build, cached, trial }, incremental };
        let seed = raw.seed;
        let truths = raw.commits.into_iter().map(RawCommit::truth).collect();
        Ok(Self { world: World { parents, good, bad, truths, prices }, history, seed, names })
    }

    pub fn name(&self, commit: Commit) -> &str {
        &self.names[commit.0]
    }
}

impl RawCommit {
    fn truth(self) -> Truth {
        Truth {
            build: self.build,
            rate: self.hit_rate,
            other_failure: self.other_failure,
            weak: self.weak,
            signature: self.signature.map(Signature::new),
        }
    }
}
