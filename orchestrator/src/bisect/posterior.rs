//! How likely each commit is to be the culprit, given all that was seen.
//!
//! If commit c brought the bug, then c and all that come after it have it, and no other. Commits of which the kernels that
//! were tried say the same form a *class*; there are few, whatever the length of history. The likelihood of a class follows
//! the rate along the kernels that have the bug then ([`super::rate`]).

use fixedbitset::FixedBitSet;

use super::history::History;
use super::rate::{Course, Evidence, Levels, Rates};

/// Beforehand: that the good end has the bug. People are wrong about that now and then.
const GOOD_IS_BAD: f64 = 0.02;
/// Beforehand: that no single commit explains what is to be seen.
const TWO_CULPRITS: f64 = 0.002;

/// A kernel that was tried, and the commits that it is the kernel of.
#[derive(Debug, Clone)]
pub(super) struct Tried {
    /// One of its places; where on the way from the good end to the bad one it stands.
    pub(super) place: usize,
    pub(super) hits: u32,
    pub(super) clean: u32,
}

/// Commits that all that was seen speaks of in one way.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) members: FixedBitSet,
    pub(super) size: usize,
    /// How likely the culprit is one of them.
    pub(super) weight: f64,
    /// By kernel, newest first: whether it has the bug then.
    has: Vec<bool>,
    /// Of each course: its share of the weight.
    courses: [f64; 2],
}

#[derive(Debug, Clone)]
pub(super) struct Posterior {
    pub(super) classes: Vec<Class>,
    /// How likely no single commit explains it.
    pub(super) two: f64,
    /// Newest first.
    tried: Vec<(usize, Evidence)>,
    span: f64,
}

impl Posterior {
    /// `possible` are the places that may be the culprit's as far as certain evidence goes: hits, and kernels that are the same.
    pub(super) fn new(history: &History, rates: &Rates, possible: &FixedBitSet, tried: &[Tried]) -> Self {
        let mut tried: Vec<&Tried> = tried.iter().filter(|tried| tried.hits + tried.clean > 0).collect();
        tried.sort_by_key(|tried| std::cmp::Reverse(tried.place));
        let evidence: Vec<(usize, Evidence)> =
            tried.iter().map(|tried| (tried.place, rates.evidence(tried.hits, tried.clean))).collect();
        let span = history.len() as f64;
        let all =
            Class { members: possible.clone(), size: 0, weight: 0.0, has: Vec::new(), courses: [0.0; 2] };
        // The good end is in a class of its own, since it is likely in a way of its own.
        let mut classes: Vec<Class> = all.split(history.ancestors(History::GOOD)).collect();
        classes.iter_mut().for_each(|class| class.has.clear());
        for tried in &tried {
            let before = history.ancestors(tried.place);
            classes = classes.into_iter().flat_map(|class| class.split(before)).collect();
        }
        // Then classes with a common beginning are neighbours, and the way along it is gone once.
        classes.sort_by(|one, other| other.has.cmp(&one.has));

        let walk = Walk { rates, evidence: &evidence, span };
        let each = (1.0 - GOOD_IS_BAD - TWO_CULPRITS) / (history.len() - 1).max(1) as f64;
        let mut logs: Vec<[f64; 2]> = Vec::with_capacity(classes.len());
        let likelihoods = walk.of_all(&classes);
        for (class, likelihood) in classes.iter().zip(&likelihoods) {
            let is_good = class.members.contains(History::GOOD);
            let prior = if is_good { GOOD_IS_BAD } else { class.size as f64 * each };
            logs.push(both_ways(likelihood, prior));
        }
        let two = both_ways(&walk.of_two(&tried), TWO_CULPRITS);
        let most = logs.iter().chain([&two]).flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let weigh = |logs: &[f64; 2]| logs.map(|log| (log - most).exp());
        let two: f64 = weigh(&two).iter().sum();
        let total: f64 = two + logs.iter().flat_map(weigh).sum::<f64>();
        for (class, logs) in classes.iter_mut().zip(&logs) {
            let courses = weigh(logs);
            class.weight = courses.iter().sum::<f64>() / total;
            class.courses = courses.map(|course| course / total);
        }
        Self { classes, two: two / total, tried: evidence, span }
    }

    /// How likely the commit at this place has the bug, by the classes whose weight is not next to nothing.
    pub(super) fn has(&self, before: &FixedBitSet) -> f64 {
        let part = |class: &Class| class.weight * class.part(before);
        self.classes.iter().filter(|class| class.weight > NEXT_TO_NOTHING).map(part).sum()
    }

    /// How likely the commit at this place is the culprit.
    pub(super) fn weight(&self, place: usize) -> f64 {
        let class = self.classes.iter().find(|class| class.members.contains(place));
        class.map_or(0.0, |class| class.weight / class.size as f64)
    }

    /// The class of the good end.
    pub(super) fn good(&self) -> Option<&Class> {
        self.classes.iter().find(|class| class.members.contains(History::GOOD))
    }

    pub(super) fn heaviest(&self) -> Option<&Class> {
        self.classes.iter().max_by(|one, other| one.weight.total_cmp(&other.weight))
    }

    /// How uncertain the culprit is, in bits.
    pub(super) fn bits(&self) -> f64 {
        let of = |weight: f64, size: usize| {
            if weight > 0.0 { -weight * (weight / size as f64).log2() } else { 0.0 }
        };
        self.classes.iter().map(|class| of(class.weight, class.size)).sum::<f64>() + of(self.two, 1)
    }

    /// What is known of the rate at places, if the culprit is in this class.
    pub(super) fn outlook<'a>(&'a self, rates: &'a Rates, class: &'a Class) -> Outlook<'a> {
        Outlook::new(self, rates, class)
    }
}

/// The logarithms of likelihoods on both courses, with the prior.
fn both_ways(likelihoods: &[f64; 2], prior: f64) -> [f64; 2] {
    let courses = Rates::courses();
    std::array::from_fn(|course| likelihoods[course] + (prior * courses[course]).ln())
}

/// Classes of less weight do not move a choice.
pub(super) const NEXT_TO_NOTHING: f64 = 1e-4;

impl Class {
    fn split(self, before: &FixedBitSet) -> impl Iterator<Item = Self> {
        let mut with = self.members.clone();
        with.intersect_with(before);
        let mut without = self.members;
        without.difference_with(before);
        [(with, true), (without, false)].into_iter().filter_map(move |(members, has)| {
            let size = members.count_ones(..);
            let has: Vec<bool> = self.has.iter().copied().chain([has]).collect();
            (size > 0).then_some(Self { members, size, weight: 0.0, has, courses: [0.0; 2] })
        })
    }

    /// Which part of it is among these.
    pub(super) fn part(&self, before: &FixedBitSet) -> f64 {
        self.members.intersection_count(before) as f64 / self.size as f64
    }
}

/// The way along the kernels that were tried, newest first.
struct Walk<'a> {
    rates: &'a Rates,
    evidence: &'a [(usize, Evidence)],
    span: f64,
}

/// What is known of the rate where the walk stands, scaled.
#[derive(Clone, Copy)]
struct Standpoint {
    place: usize,
    known: Levels,
    log: f64,
}

impl Walk<'_> {
    fn start(&self) -> Standpoint {
        let place = self.evidence.first().map_or(0, |first| first.0);
        Standpoint { place, known: *self.rates.prior(), log: 0.0 }
    }

    fn step(
        &self,
        from: &Standpoint,
        course: Course,
        to: usize,
        likelihood: &Levels,
        scale: f64,
    ) -> Standpoint {
        let stretch = from.place.abs_diff(to) as f64 / self.span;
        let mut known = self.rates.carry(&from.known, course, stretch);
        known.iter_mut().zip(likelihood).for_each(|(known, likelihood)| *known *= likelihood);
        let sum: f64 = known.iter().sum();
        let known = known.map(|known| known / sum.max(f64::MIN_POSITIVE));
        Standpoint { place: to, known, log: from.log + scale + sum.ln() }
    }

    /// The logarithm of each class's likelihood, on each course.
    fn of_all(&self, classes: &[Class]) -> Vec<[f64; 2]> {
        let mut logs = vec![[0.0; 2]; classes.len()];
        for (index, course) in Rates::COURSES.into_iter().enumerate() {
            let mut way = vec![self.start()];
            let mut gone: &[bool] = &[];
            for (class, logs) in classes.iter().zip(&mut logs) {
                let common = gone.iter().zip(&class.has).take_while(|(one, other)| one == other).count();
                way.truncate(common + 1);
                for (has, (place, evidence)) in class.has.iter().zip(self.evidence).skip(common) {
                    let last = way[way.len() - 1];
                    way.push(match has {
                        true => self.step(&last, course, *place, &evidence.likelihood, evidence.scale),
                        false => last,
                    });
                }
                gone = &class.has;
                logs[index] = way[way.len() - 1].log;
            }
        }
        logs
    }

    /// The same if each kernel has the bug or not, as it pleases.
    fn of_two(&self, tried: &[&Tried]) -> [f64; 2] {
        Rates::COURSES.map(|course| {
            let mut at = self.start();
            for ((place, evidence), tried) in self.evidence.iter().zip(tried) {
                let without = if tried.hits == 0 { (-evidence.scale).exp() } else { 0.0 };
                let either = evidence.likelihood.map(|with| 0.5 * (with + without));
                at = self.step(&at, course, *place, &either, evidence.scale);
            }
            at.log
        })
    }
}

/// What is known of the rate at any place, if the culprit is in one class: from the kernels on both sides of it that have the bug.
pub(super) struct Outlook<'a> {
    rates: &'a Rates,
    span: f64,
    courses: [Stations; 2],
    weights: [f64; 2],
}

/// By kernel that has the bug, newest first: what the newer ones and itself say of its level, and what the older ones and itself say.
struct Stations {
    places: Vec<usize>,
    from_newer: Vec<Levels>,
    from_older: Vec<Levels>,
}

impl<'a> Outlook<'a> {
    fn new(posterior: &'a Posterior, rates: &'a Rates, class: &'a Class) -> Self {
        let walk = Walk { rates, evidence: &posterior.tried, span: posterior.span };
        let with: Vec<&(usize, Evidence)> =
            posterior.tried.iter().zip(&class.has).filter_map(|(tried, has)| has.then_some(tried)).collect();
        let courses = Rates::COURSES.map(|course| {
            let go = |mut at: Standpoint, kernels: &mut dyn Iterator<Item = &&(usize, Evidence)>| {
                let mut known = Vec::with_capacity(with.len());
                for (place, evidence) in kernels {
                    at = walk.step(&at, course, *place, &evidence.likelihood, 0.0);
                    known.push(at.known);
                }
                known
            };
            let from_newer = go(walk.start(), &mut with.iter());
            let oldest = with.last().map_or(0, |oldest| oldest.0);
            let nothing = Standpoint { place: oldest, known: [1.0; Rates::LEVELS], log: 0.0 };
            let mut from_older = go(nothing, &mut with.iter().rev());
            from_older.reverse();
            Stations { places: with.iter().map(|with| with.0).collect(), from_newer, from_older }
        });
        Self { rates, span: posterior.span, courses, weights: class.courses }
    }

    /// What is known of the level there; sums to 1.
    pub(super) fn at(&self, place: usize) -> Levels {
        let mut all = [0.0; Rates::LEVELS];
        for ((course, stations), weight) in Rates::COURSES.into_iter().zip(&self.courses).zip(self.weights) {
            let known = stations.at(self, course, place);
            let sum: f64 = known.iter().sum();
            if sum > 0.0 {
                all.iter_mut().zip(&known).for_each(|(all, known)| *all += weight * known / sum);
            }
        }
        let sum: f64 = all.iter().sum();
        all.map(|known| known / sum.max(f64::MIN_POSITIVE))
    }
}

impl Stations {
    fn at(&self, outlook: &Outlook<'_>, course: Course, place: usize) -> Levels {
        let carry = |known: &Levels, from: usize| {
            outlook.rates.carry(known, course, from.abs_diff(place) as f64 / outlook.span)
        };
        // The first that is not newer.
        let older = self.places.partition_point(|station| *station > place);
        let newer = older.checked_sub(1).map(|newer| carry(&self.from_newer[newer], self.places[newer]));
        let older = self.places.get(older).map(|station| carry(&self.from_older[older], *station));
        match (newer, older) {
            (Some(newer), Some(older)) => std::array::from_fn(|level| newer[level] * older[level]),
            (Some(one), None) => one,
            // Newer than all: there the prior counts.
            (None, Some(one)) => std::array::from_fn(|level| one[level] * outlook.rates.prior()[level]),
            (None, None) => *outlook.rates.prior(),
        }
    }
}
