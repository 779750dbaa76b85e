//! The search: what to build and to try next, what that taught, and the verdict.

use std::collections::HashMap;
use std::num::NonZeroU32;

use fixedbitset::FixedBitSet;

use super::choice::{self, Chance};
use super::cost::{CostModel, Costs, Seconds};
use super::history::{Commit, History};
use super::outcome::{BuildOutcome, Outcome, Signature};
use super::posterior::{Posterior, Tried};
use super::rate::{BATCHES, Rates};

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
    /// has the bug, and stayed clean in so many trials that it was gone again.
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

/// So many failed boots, or troubles of the farm's own, make a commit unfit.
const BOOTS: u32 = 2;
const TROUBLES: u32 = 3;
/// Trials that do not tell make a commit unfit when there are so many more than of those that do.
const UNTELLING: u32 = 3;
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
/// What part of the doubt that is claimed the posterior has: the world is not quite what [`super::rate`] takes it for.
const DOUBT: f64 = 0.6;

/// Trials that are left, in units of those that a hit takes: for each bit that is not known, and for the proof. From simulation.
const TRIALS_A_BIT: f64 = 3.2;
const TRIALS_OF_PROOF: f64 = 12.0;
/// Trials that a proof asks for at a time.
const PROOF: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// One kernel, and the commits that it is the kernel of.
#[derive(Debug, Clone)]
struct Kernel {
    places: Vec<usize>,
    hits: u32,
    clean: u32,
    untelling: u32,
    boots_failed: u32,
    troubles: u32,
}

/// A search. All its state comes from what was recorded, in that order: the same records give the same search.
#[derive(Debug, Clone)]
pub struct Search {
    history: History,
    options: Options,
    rates: Rates,
    costs: CostModel,
    kernels: Vec<Kernel>,
    /// By place.
    kernel_of: Vec<Option<usize>>,
    by_signature: HashMap<Signature, usize>,
    cached: FixedBitSet,
    unfit: FixedBitSet,
    build_troubles: HashMap<usize, u32>,
    last_built: Option<usize>,
    /// What may be the culprit as far as certain evidence goes.
    possible: FixedBitSet,
}

/// What is claimed of what the posterior gives this probability.
fn claim(probability: f64) -> f64 {
    (1.0 - (1.0 - probability) / DOUBT).max(0.0)
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
            build_troubles: HashMap::new(),
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
        if self.cached.contains(place) {
            self.costs.learn_cached(took);
        } else if outcome != BuildOutcome::Infra {
            self.costs.learn_build(self.distance(place), took);
            self.last_built = Some(place);
        }
        match outcome {
            BuildOutcome::Built(signature) => self.built(place, signature),
            BuildOutcome::CannotBuild => self.unfit.insert(place),
            BuildOutcome::Infra => {
                let troubles = self.build_troubles.entry(place).or_default();
                *troubles += 1;
                if *troubles >= TROUBLES {
                    self.unfit.insert(place);
                }
            }
        }
    }

    fn built(&mut self, place: usize, signature: Option<Signature>) {
        if self.kernel_of[place].is_some() {
            return;
        }
        let new = self.kernels.len();
        let index = signature.map_or(new, |signature| *self.by_signature.entry(signature).or_insert(new));
        if index == new {
            self.kernels.push(Kernel {
                places: Vec::new(),
                hits: 0,
                clean: 0,
                untelling: 0,
                boots_failed: 0,
                troubles: 0,
            });
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
        match outcome {
            Outcome::Hit => kernel.hits += 1,
            Outcome::Clean => kernel.clean += 1,
            Outcome::Weak | Outcome::OtherFailure => kernel.untelling += 1,
            Outcome::CannotBoot => kernel.boots_failed += 1,
            Outcome::Infra => kernel.troubles += 1,
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
        let telling = kernel.hits + kernel.clean;
        let unfit = kernel.boots_failed >= BOOTS + telling
            || kernel.troubles >= TROUBLES + telling
            || kernel.untelling >= UNTELLING * (1 + telling);
        if unfit {
            self.unfit.extend(kernel.places.iter().copied());
        }
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
        match choice::choose(&self.history, &self.rates, &posterior, self.costs.trial(), &self.chances()) {
            Some(choice) => self.ask(choice.place, choice.trials),
            None => Next::Done(self.smallest_set(&posterior)),
        }
    }

    /// How it ended, if it did.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.next() {
            Next::Done(verdict) => Some(verdict),
            Next::Build { .. } | Next::Trial { .. } => None,
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

    fn tried(&self, place: usize) -> Tried {
        let kernel = self.kernel_of[place].map(|index| &self.kernels[index]);
        let (hits, clean) = kernel.map_or((0, 0), |kernel| (kernel.hits, kernel.clean));
        Tried { place, hits, clean }
    }

    fn ask_end(&self, place: usize, trials: NonZeroU32) -> Next {
        if self.unfit.contains(place) {
            return Next::Done(Verdict::NoAnswer(WhyNoAnswer::EndCannotBeTried(self.history.commit(place))));
        }
        self.ask(place, trials)
    }

    fn ask(&self, place: usize, trials: NonZeroU32) -> Next {
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

    /// The verdict if the posterior is sure enough, or the trial that it lacks.
    fn conclusion(&self, posterior: &Posterior) -> Option<Next> {
        let enough = self.options.confidence.share();
        if claim(posterior.two) >= enough {
            return Some(Next::Done(self.two_culprits(claim(posterior.two))));
        }
        let heaviest = posterior.heaviest()?;
        // At most one commit that can be tried is in a cohort.
        if heaviest.size > self.unfit.count_ones(..) + 1 {
            return None;
        }
        let cohorts = heaviest.members.ones().map(|place| self.cohort(posterior, place));
        let (cohort, weight) = cohorts.max_by(|one, other| one.1.total_cmp(&other.1))?;
        let confidence = claim(weight);
        if cohort == [History::GOOD] {
            // All of history has the bug, or no single commit explains it. Trials of the good end tell.
            return (claim(weight + posterior.two) >= enough).then(|| self.prove_good(posterior));
        }
        if confidence < enough {
            return None;
        }
        let [place] = cohort[..] else {
            let commits = cohort.iter().map(|place| self.history.commit(*place)).collect();
            return Some(Next::Done(Verdict::Among { commits, confidence }));
        };
        // That it has the bug may be known from others alone; it is to be seen.
        let is_shown = self.tried(place).hits > 0 || self.unfit.contains(place);
        let commit = self.history.commit(place);
        Some(if is_shown {
            Next::Done(Verdict::Culprit { commit, confidence })
        } else {
            self.ask(place, PROOF)
        })
    }

    fn prove_good(&self, posterior: &Posterior) -> Next {
        let left = self.options.max_end_trials.get().saturating_sub(self.tried(History::GOOD).clean);
        match NonZeroU32::new(left) {
            Some(left) => self.ask_end(History::GOOD, left.min(PROOF)),
            None => Next::Done(self.two_culprits(claim(posterior.two))),
        }
    }

    /// The commits that nothing that can be tried tells from this one, and how likely the culprit is among them.
    fn cohort(&self, posterior: &Posterior, place: usize) -> (Vec<usize>, f64) {
        let mut telling = self.unfit.clone();
        telling.toggle_range(..);
        for kernel in self.kernels.iter().filter(|kernel| kernel.hits > 0) {
            telling.extend(kernel.places.iter().copied());
        }
        let shown_by = |place: usize| {
            let mut after = self.history.descendants(place).clone();
            after.intersect_with(&telling);
            after
        };
        let wanted = shown_by(place);
        let cohort: Vec<usize> = self.possible.ones().filter(|other| shown_by(*other) == wanted).collect();
        let weight = cohort.iter().map(|place| posterior.weight(*place)).sum();
        (cohort, weight)
    }

    fn two_culprits(&self, confidence: f64) -> Verdict {
        let hit =
            || self.kernels.iter().filter(|kernel| kernel.hits > 0).flat_map(|kernel| kernel.places.iter());
        let commit = |place: &usize| self.history.commit(*place);
        for first in hit() {
            for second in hit() {
                let mut both = self.history.ancestors(*first).clone();
                both.intersect_with(self.history.ancestors(*second));
                if both.count_ones(..) == 1 {
                    return Verdict::TwoCulprits { first: commit(first), second: commit(second), confidence };
                }
            }
        }
        let clean = self.kernels.iter().filter(|kernel| kernel.hits == 0 && kernel.clean > 0);
        let (first, second) = clean
            .flat_map(|kernel| kernel.places.iter().map(move |place| (kernel.clean, place)))
            .flat_map(|(clean, second)| hit().map(move |first| (clean, first, second)))
            .filter(|(_, first, second)| self.history.ancestors(**second).contains(**first))
            .max_by_key(|(clean, ..)| *clean)
            .map_or((0, 0), |(_, first, second)| (*first, *second));
        Verdict::TwoCulprits { first: commit(&first), second: commit(&second), confidence }
    }

    /// The fewest commits that are sure enough, if nothing that can be tried tells more.
    fn smallest_set(&self, posterior: &Posterior) -> Verdict {
        let mut places: Vec<(f64, usize)> = self
            .possible
            .ones()
            .filter(|place| *place != History::GOOD)
            .map(|place| (posterior.weight(place), place))
            .collect();
        places.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let mut confidence = 0.0;
        let mut set = Vec::new();
        for (weight, place) in places {
            if claim(confidence) >= self.options.confidence.share() {
                break;
            }
            confidence += weight;
            set.push(place);
        }
        set.sort_unstable();
        let commits = set.iter().map(|place| self.history.commit(*place)).collect();
        Verdict::Among { commits, confidence: claim(confidence) }
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
        Seconds(bits * build + trials * self.costs.trial())
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
