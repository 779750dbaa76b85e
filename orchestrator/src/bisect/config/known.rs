//! What has been found out so far: facts, that only grow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Changes, Request};

/// What one trial of a configuration showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    /// What is hunted for: the configuration is bad.
    Hit,
    /// Nothing, though it could have shown: a good configuration, or luck.
    Clean,
    /// It does not build or boot, or tells nothing: neither good nor bad.
    Unresolved,
}

/// The trials of one configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub hits: u32,
    pub clean: u32,
    pub unresolved: u32,
}

/// All facts of a search.
#[derive(Debug, Default)]
pub struct Known {
    settled: BTreeMap<Request, Changes>,
    tallies: BTreeMap<Changes, Tally>,
}

impl Tally {
    pub fn trials(self) -> u32 {
        self.hits + self.clean
    }
}

impl Known {
    /// What `olddefconfig` made of a request.
    pub fn settle(&mut self, request: Request, changes: Changes) {
        self.settled.insert(request, changes);
    }

    pub fn record(&mut self, changes: Changes, outcome: TestOutcome) {
        let tally = self.tallies.entry(changes).or_default();
        match outcome {
            TestOutcome::Hit => tally.hits += 1,
            TestOutcome::Clean => tally.clean += 1,
            TestOutcome::Unresolved => tally.unresolved += 1,
        }
    }

    pub(super) fn settled(&self, request: &Request) -> Option<&Changes> {
        self.settled.get(request)
    }

    /// Requests that come to the same configuration share its trials.
    pub fn tally(&self, changes: &Changes) -> Tally {
        self.tallies.get(changes).copied().unwrap_or_default()
    }

    /// The trials of each configuration that was tried.
    pub fn tallies(&self) -> impl Iterator<Item = Tally> {
        self.tallies.values().copied()
    }
}
