//! The search: what to build and to try next, what that taught, and the verdict.

use std::collections::HashMap;
use std::num::NonZeroU32;

use fixedbitset::FixedBitSet;

use super::choice::{self, Chance};
use super::cost::{CostModel, Seconds};
use super::history::{Commit, History};
use super::outcome::{BuildOutcome, Signature, Witness};
use super::posterior::{Posterior, Tried};
use super::rate::{BATCHES, Rates};
use super::verdict::{Fitness, Next, Options, Standing, Verdict, WhyNoAnswer};
use crate::store::Outcome;

/// Before anything was built: how many of so many commits can be tried.
const FIT: f64 = 0.95;
const FIT_OF: f64 = 4.0;
/// What does not build breaks for a stretch of history: next to such a commit others are likely as bad, this many commits away much less.
const BREAK_LENGTH: f64 = 3.0;
const BREAK_SPREADS: f64 = 0.7;
/// How likely the good end's first check is to miss that it is bad. A better check would take longer than the search that it
/// saves now and then; before a verdict the good end is as sure as all else.
const FIRST_CHECK: f64 = 0.5;
/// The rate is measured at the bad end, which is built, until it has shown the bug so often, for this part of what a build takes.
const MEASURED_BY: u32 = 3;
const MEASURE_FOR: f64 = 0.5;
/// What part of the doubt that is allowed a class has that is not weighed in a choice.
const NEGLIGIBLE: f64 = 0.01;
/// Trials that are left, in units of those that a hit takes: for each bit that is not known, and for the proof. From simulation.
const TRIALS_A_BIT: f64 = 2.2;
const TRIALS_OF_PROOF: f64 = 9.0;
/// The last bit takes trials of what is built by then.
const BITS_WITHOUT_BUILD: f64 = 0.7;

/// One kernel, and the commits that it is the kernel of.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) places: Vec<usize>,
    pub(super) hits: u32,
    pub(super) clean: u32,
    witness: Witness,
}

/// A search. All its state comes from what was recorded, in that order: the same records give the same search.
#[derive(Debug, Clone)]
pub struct Search {
    pub(super) history: History,
    pub(super) options: Options,
    rates: Rates,
    costs: CostModel,
    pub(super) kernels: Vec<Kernel>,
    /// By place.
    kernel_of: Vec<Option<usize>>,
    by_signature: HashMap<Signature, usize>,
    cached: FixedBitSet,
    pub(super) unfit: FixedBitSet,
    last_built: Option<usize>,
    /// What may be the culprit as far as certain evidence goes.
    pub(super) possible: FixedBitSet,
}

impl Search {
    pub fn new(history: History, options: Options) -> Self {
        let count = history.len();
        let mut possible = FixedBitSet::with_capacity(count);
        possible.insert_range(..);
        Self {
            options,
            rates: Rates::new(),
            costs: CostModel::new(options.costs),
            kernels: Vec::new(),
            kernel_of: vec![None; count],
            by_signature: HashMap::new(),
            cached: FixedBitSet::with_capacity(count),
            unfit: FixedBitSet::with_capacity(count),
            last_built: None,
            possible,
            history,
        }
    }

    /// Says that the kernel of this commit is in the cache. Commits that have no part in the search are passed over, here and below.
    pub fn record_cached(&mut self, commit: Commit) {
        if let Some(place) = self.history.place(commit) {
            self.cached.insert(place);
        }
    }

    pub fn record_build(&mut self, commit: Commit, outcome: BuildOutcome, took: Seconds) {
        let Some(place) = self.history.place(commit) else { return };
        if let BuildOutcome::Cached(_) = outcome {
            self.costs.learn_cached(took);
        } else {
            self.costs.learn_build(self.distance(place), took);
            self.last_built = Some(place);
        }
        match outcome {
            BuildOutcome::Built(signature) | BuildOutcome::Cached(signature) => self.built(place, signature),
            BuildOutcome::CannotBuild => self.unfit.insert(place),
        }
    }

    fn built(&mut self, place: usize, signature: Option<Signature>) {
        if self.kernel_of[place].is_some() {
            return;
        }
        let new = self.kernels.len();
        let index = signature.map_or(new, |signature| *self.by_signature.entry(signature).or_insert(new));
        if index == new {
            self.kernels.push(Kernel { places: Vec::new(), hits: 0, clean: 0, witness: Witness::default() });
        }
        self.kernel_of[place] = Some(index);
        let kernel = &mut self.kernels[index];
        kernel.places.push(place);
        // One kernel has the bug or has it not: no commit may be the culprit that is in only one of the two.
        let (first, here) = (self.history.ancestors(kernel.places[0]), self.history.ancestors(place));
        let mut one_only = first.clone();
        one_only.symmetric_difference_with(here);
        self.possible.difference_with(&one_only);
        self.judge_fitness(index);
    }

    /// What came of one trial.
    pub fn record(&mut self, commit: Commit, outcome: Outcome, took: Seconds) {
        let Some(place) = self.history.place(commit) else { return };
        if self.kernel_of[place].is_none() {
            // A journal may have no word of the build.
            self.built(place, None);
        }
        let Some(index) = self.kernel_of[place] else { return };
        let kernel = &mut self.kernels[index];
        kernel.witness.hear(outcome);
        match outcome {
            Outcome::Hit => kernel.hits += 1,
            Outcome::Clean => kernel.clean += 1,
            Outcome::Weak | Outcome::OtherFailure | Outcome::CannotBoot | Outcome::Infra => {}
        }
        if !matches!(outcome, Outcome::CannotBoot | Outcome::Infra) {
            self.costs.learn_trial(took);
        }
        if outcome == Outcome::Hit {
            for place in &self.kernels[index].places {
                self.possible.intersect_with(self.history.ancestors(*place));
            }
        }
        self.judge_fitness(index);
    }

    fn judge_fitness(&mut self, index: usize) {
        let kernel = &self.kernels[index];
        let unfit = kernel.witness.is_unfit();
        // It may also become fit again: what is recorded counts, not when.
        kernel.places.iter().for_each(|place| self.unfit.set(*place, unfit));
    }

    pub fn next(&self) -> Next {
        let good = self.tried(History::GOOD);
        if good.hits > 0 {
            return Next::Done(Verdict::GoodIsBad);
        }
        let (bad_place, most) = (self.history.len() - 1, self.options.max_end_trials.get());
        let bad = self.tried(bad_place);
        if bad.hits == 0 {
            return match NonZeroU32::new(most.saturating_sub(bad.clean)) {
                Some(trials) => self.ask_end(bad_place, trials),
                None => Next::Done(Verdict::BadDoesNotReproduce { trials: bad.clean }),
            };
        }
        if let Some(trials) = self.measurement_of_bad(&bad) {
            return self.ask_end(bad_place, trials);
        }
        if good.clean == 0 && self.unfit.contains(History::GOOD) {
            return self.ask_end(History::GOOD, NonZeroU32::MIN);
        }
        if let Some(trials) = self.first_check_of_good() {
            return self.ask_end(History::GOOD, trials);
        }
        let posterior = self.posterior(|_| true);
        if let Some(next) = self.conclusion(&posterior) {
            return next;
        }
        let chances = self.chances();
        let choose = |negligible| {
            choice::choose(&self.history, &self.rates, &posterior, self.costs.trial(), &chances, negligible)
        };
        let negligible = NEGLIGIBLE * (1.0 - self.options.confidence.share());
        match choose(negligible).or_else(|| choose(NEGLIGIBLE * negligible)) {
            Some(choice) => self.ask(choice.place, choice.trials),
            None => Next::Done(self.smallest_set(&posterior)),
        }
    }

    /// By what the kernels have shown that are let in.
    fn posterior(&self, lets_in: impl Fn(&Kernel) -> bool) -> Posterior {
        let tried: Vec<Tried> = self
            .kernels
            .iter()
            .filter(|kernel| lets_in(kernel))
            .map(|kernel| Tried { place: kernel.places[0], hits: kernel.hits, clean: kernel.clean })
            .collect();
        Posterior::new(&self.history, &self.rates, &self.possible, &tried)
    }

    pub(super) fn tried(&self, place: usize) -> Tried {
        let kernel = self.kernel_of[place].map(|index| &self.kernels[index]);
        let (hits, clean) = kernel.map_or((0, 0), |kernel| (kernel.hits, kernel.clean));
        Tried { place, hits, clean }
    }

    pub(super) fn ask_end(&self, place: usize, trials: NonZeroU32) -> Next {
        if self.unfit.contains(place) {
            return Next::Done(Verdict::NoAnswer(WhyNoAnswer::EndCannotBeTried(self.history.commit(place))));
        }
        self.ask(place, trials)
    }

    pub(super) fn ask(&self, place: usize, trials: NonZeroU32) -> Next {
        let commit = self.history.commit(place);
        match self.kernel_of[place] {
            Some(_) => Next::Trial { commit, trials },
            None => Next::Build { commit },
        }
    }

    /// How often the good end is still to be tried before anything between the ends is built.
    fn first_check_of_good(&self) -> Option<NonZeroU32> {
        let ends = [History::GOOD, self.history.len() - 1];
        let is_end = |kernel: &Kernel| kernel.places.iter().any(|place| ends.contains(place));
        if !self.kernels.iter().all(is_end) {
            return None;
        }
        let earlier = self.posterior(|kernel| !kernel.places.contains(&History::GOOD));
        let known = earlier.outlook(&self.rates, earlier.good()?).at(History::GOOD);
        let wanted =
            BATCHES.into_iter().zip(self.rates.all_clean(&known)).find(|(_, clean)| *clean <= FIRST_CHECK);
        let wanted = wanted.map_or(BATCHES[BATCHES.len() - 1], |(trials, _)| trials);
        NonZeroU32::new(wanted.saturating_sub(self.tried(History::GOOD).clean))
    }

    /// How often the bad end is still to be tried, which is known to have the bug, only to know its rate.
    fn measurement_of_bad(&self, bad: &Tried) -> Option<NonZeroU32> {
        let affordable = MEASURE_FOR * self.costs.build(None) / self.costs.trial();
        let left = affordable as u32 - bad.hits.saturating_add(bad.clean).min(affordable as u32);
        (bad.hits < MEASURED_BY).then(|| NonZeroU32::new(left)).flatten()
    }

    /// All that may be tried: of a kernel that is built only its first commit.
    fn chances(&self) -> Vec<Chance> {
        let unfit: Vec<usize> = self.unfit.ones().collect();
        let fit =
            (FIT * FIT_OF + self.kernels.len() as f64) / (FIT_OF + (self.kernels.len() + unfit.len()) as f64);
        let mut chances = Vec::new();
        for place in (0..self.history.len()).filter(|place| !self.unfit.contains(*place)) {
            match self.kernel_of[place] {
                Some(index) if self.kernels[index].places[0] == place && self.kernels[index].hits == 0 => {
                    chances.push(Chance { place, build: 0.0, fit: 1.0 });
                }
                Some(_) => {}
                None => {
                    let broken = |other: &usize| {
                        1.0 - BREAK_SPREADS * (-(other.abs_diff(place) as f64) / BREAK_LENGTH).exp()
                    };
                    let fit = fit * unfit.iter().map(broken).product::<f64>();
                    let build = if self.cached.contains(place) {
                        self.costs.cached()
                    } else {
                        self.costs.build(self.distance(place))
                    };
                    chances.push(Chance { place, build: build.max(f64::MIN_POSITIVE), fit });
                }
            }
        }
        chances
    }

    fn distance(&self, place: usize) -> Option<usize> {
        self.last_built.map(|last| self.history.distance(last, place))
    }

    /// How many trials of the bad end without the culprit have to be clean to prove that there is no other one: if it had the bug
    /// still, they would show it with the confidence that is asked for. None if no number of trials would.
    pub fn trials_of_revert(&self) -> Option<NonZeroU32> {
        let posterior = self.posterior(|_| true);
        let bad = self.history.len() - 1;
        let known = posterior.outlook(&self.rates, posterior.heaviest()?).at(bad);
        let doubt = 1.0 - self.options.confidence.share();
        let batches = BATCHES.into_iter().zip(self.rates.all_clean(&known));
        batches.filter(|(_, clean)| *clean <= doubt).find_map(|(trials, _)| NonZeroU32::new(trials))
    }

    /// What is likely still to be spent: roughly a build for each bit that is not known, and trials by how rare the bug is. Before
    /// the bad end has shown the bug that is a guess.
    pub fn left(&self) -> Seconds {
        let posterior = self.posterior(|_| true);
        let bits = posterior.bits();
        let Some(class) = posterior.heaviest() else { return Seconds::default() };
        let place = class.members.ones().next_back().unwrap_or(History::GOOD);
        let to_hit = self.rates.trials_to_hit(&posterior.outlook(&self.rates, class).at(place));
        let trials = to_hit * (TRIALS_A_BIT * bits + TRIALS_OF_PROOF * bits.min(1.0));
        let build = self.costs.build(self.last_built.map(|_| class.size / 2));
        let builds = (bits - BITS_WITHOUT_BUILD).max(0.0);
        Seconds(builds * build + trials * self.costs.trial())
    }

    /// All candidates, parents first.
    pub fn standings(&self) -> Vec<Standing> {
        let posterior = self.posterior(|_| true);
        (1..self.history.len())
            .map(|place| {
                let tried = self.tried(place);
                let fit = match self.kernel_of[place] {
                    _ if self.unfit.contains(place) => Fitness::Unfit,
                    Some(_) => Fitness::Built,
                    None => Fitness::Unknown,
                };
                let probability = posterior.weight(place);
                Standing {
                    commit: self.history.commit(place),
                    probability,
                    hits: tried.hits,
                    clean: tried.clean,
                    fit,
                }
            })
            .collect()
    }
}
