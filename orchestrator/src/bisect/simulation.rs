//! Histories whose truth is known, and how a search does on them.

mod bayesect;
mod described;
mod generate;
mod peers;

pub use described::{Described, DescriptionError};
pub use generate::{Branches, Drift, Shape};
pub use peers::{Ends, Peer};

use std::collections::HashSet;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::cost::{Costs, Seconds};
use super::history::{Commit, History};
use super::outcome::{BuildOutcome, Signature};
use super::search::Search;
use super::verdict::{Next, Options, Verdict};
use crate::store::Outcome;

/// What one commit is in truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub build: Buildable,
    /// How often a trial of its kernel shows the bug; 0 if it has none.
    pub rate: f64,
    /// How often a trial fails in another way, and how often one that shows nothing lacks its positive control.
    pub other_failure: f64,
    pub weak: f64,
    pub signature: Option<Signature>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buildable {
    #[default]
    Works,
    CannotBuild,
    CannotBoot,
}

/// What things take in truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    pub guess: Costs,
    /// What a build next to the last one takes, and what each commit between adds, up to a build from nothing.
    pub incremental: Option<(Seconds, Seconds)>,
}

/// A history with its truth.
#[derive(Debug, Clone)]
pub struct World {
    pub parents: Vec<Vec<usize>>,
    pub good: Commit,
    pub bad: Commit,
    pub truths: Vec<Truth>,
    pub prices: Prices,
}

/// What was done to find out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    pub builds: u32,
    pub trials: u32,
    pub seconds: f64,
}

/// A world in which one builds and tries, and which counts what it takes.
pub struct Field<'a> {
    world: &'a World,
    history: &'a History,
    random: Rng,
    built: HashSet<Commit>,
    last_built: Option<Commit>,
    pub spent: Spent,
}

impl<'a> Field<'a> {
    pub fn new(world: &'a World, history: &'a History, seed: u64) -> Self {
        Self {
            world,
            history,
            random: Rng::with_seed(seed),
            built: HashSet::new(),
            last_built: None,
            spent: Spent::default(),
        }
    }

    /// Builds it, or takes what was built before.
    pub fn build(&mut self, commit: Commit) -> (BuildOutcome, Seconds) {
        let truth = &self.world.truths[commit.0];
        let prices = self.world.prices;
        let took = if self.built.contains(&commit) {
            prices.guess.cached
        } else {
            let distance =
                self.last_built.map(|last| match (self.history.place(last), self.history.place(commit)) {
                    (Some(last), Some(this)) => self.history.distance(last, this) as f64,
                    _ => f64::INFINITY,
                });
            match (prices.incremental, distance) {
                (Some((least, each)), Some(distance)) => {
                    Seconds((least.0 + each.0 * distance).min(prices.guess.build.0))
                }
                _ => prices.guess.build,
            }
        };
        self.spent.builds += u32::from(!self.built.contains(&commit));
        self.spent.seconds += took.0;
        self.last_built = Some(commit);
        if truth.build == Buildable::CannotBuild {
            return (BuildOutcome::CannotBuild, took);
        }
        self.built.insert(commit);
        (BuildOutcome::Built(truth.signature.clone()), took)
    }

    pub fn trial(&mut self, commit: Commit) -> (Outcome, Seconds) {
        let rate = self.world.truths[commit.0].rate;
        self.trial_with(commit, rate)
    }

    /// A trial of the bad end without this culprit: it has the bug still if there is another one.
    pub fn trial_of_revert(&mut self, culprit: Commit) -> (Outcome, Seconds) {
        let bad = self.world.bad;
        let others = self
            .world
            .culprits()
            .into_iter()
            .any(|other| other != culprit && self.history.place(other).is_some());
        let rate = if others { self.world.truths[bad.0].rate } else { 0.0 };
        self.trial_with(bad, rate)
    }

    /// A build that is of no commit in this history.
    pub fn build_of_revert(&mut self) -> Seconds {
        let took = self.world.prices.guess.build;
        self.spent.builds += 1;
        self.spent.seconds += took.0;
        took
    }

    fn trial_with(&mut self, commit: Commit, rate: f64) -> (Outcome, Seconds) {
        let truth = &self.world.truths[commit.0];
        let took = self.world.prices.guess.trial;
        self.spent.trials += 1;
        self.spent.seconds += took.0;
        let outcome = match truth.build {
            Buildable::CannotBoot | Buildable::CannotBuild => Outcome::CannotBoot,
            Buildable::Works if self.random.f64() < truth.other_failure => Outcome::OtherFailure,
            Buildable::Works if self.random.f64() < rate => Outcome::Hit,
            Buildable::Works if self.random.f64() < truth.weak => Outcome::Weak,
            Buildable::Works => Outcome::Clean,
        };
        (outcome, took)
    }
}

/// What came of one build or one trial.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    OfBuild(BuildOutcome),
    OfTrial(Outcome),
}

/// Lets a search play. `saw` sees each build and trial once it is recorded, and what was spent by then.
pub fn play(
    search: &mut Search,
    field: &mut Field<'_>,
    mut saw: impl FnMut(&Search, Commit, Came, Spent),
) -> Verdict {
    loop {
        match search.next() {
            Next::Done(verdict) => return verdict,
            Next::Build { commit } => {
                let (outcome, took) = field.build(commit);
                search.record_build(commit, outcome.clone(), took);
                saw(search, commit, Came::OfBuild(outcome), field.spent);
            }
            Next::Trial { commit, trials } => {
                for _ in 0..trials.get() {
                    let (outcome, took) = field.trial(commit);
                    search.record(commit, outcome, took);
                    saw(search, commit, Came::OfTrial(outcome), field.spent);
                    if outcome != Outcome::Clean {
                        break;
                    }
                }
            }
        }
    }
}

impl World {
    /// The commits that bring the bug: they have it and none of their parents does.
    pub fn culprits(&self) -> Vec<Commit> {
        let has = |number: &usize| self.truths[*number].rate > 0.0;
        (0..self.parents.len())
            .filter(|number| has(number) && !self.parents[*number].iter().any(has))
            .map(Commit)
            .collect()
    }

    /// What a perfect search would name: the culprit, and the commits that nothing that can be tried tells from it.
    pub fn answer(&self, history: &History, culprit: Commit) -> Vec<Commit> {
        let works = |commit: Commit| self.truths[commit.0].build == Buildable::Works;
        let shown_by = |commit: Commit| -> Option<Vec<usize>> {
            let after = history.descendants(history.place(commit)?);
            Some(after.ones().filter(|place| works(history.commit(*place))).collect())
        };
        let wanted = shown_by(culprit);
        history.candidates().iter().copied().filter(|other| shown_by(*other) == wanted).collect()
    }
}

/// How a search of a world with one culprit ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Played {
    pub end: End,
    /// What the search claimed.
    pub claimed: f64,
    pub spent: Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Right,
    Wrong,
    NoAnswer,
}

/// Plays a search with these options.
pub fn play_farm(world: &World, history: &History, options: Options, seed: u64) -> Played {
    let mut search = Search::new(history.clone(), options);
    let mut field = Field::new(world, history, seed);
    let verdict = play(&mut search, &mut field, |_, _, _, _| {});
    let (named, claimed) = match verdict {
        Verdict::Culprit { commit, confidence } => (vec![commit], confidence),
        Verdict::Among { commits, confidence } => (commits, confidence),
        Verdict::GoodIsBad | Verdict::TwoCulprits { .. } => (Vec::new(), 1.0),
        Verdict::BadDoesNotReproduce { .. } | Verdict::NoAnswer(_) => {
            return Played { end: End::NoAnswer, claimed: 0.0, spent: field.spent };
        }
    };
    Played { end: judge(world, history, &named), claimed, spent: field.spent }
}

fn judge(world: &World, history: &History, named: &[Commit]) -> End {
    let right = world.culprits().iter().any(|culprit| {
        let answer = world.answer(history, *culprit);
        named.contains(culprit) && named.iter().all(|one| answer.contains(one))
    });
    if right { End::Right } else { End::Wrong }
}
