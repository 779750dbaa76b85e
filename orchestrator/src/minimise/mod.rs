//! The smallest cell that still shows a hit: what to live next, from what earlier lives showed. Pure, like `bisect`: [`Search::next`]
//! asks, [`Search::record`] takes what came of it, and the same answers give the same questions.
//!
//! 1. The cell as it was lives until the rate of its hit is known ([`evidence`]).
//! 2. Of the smallest cell so far the first reduction ([`reduce`]) that its lives do not decide yet is tried; if it keeps the hit,
//!    it is the smallest.
//! 3. Before reductions of another kind, and at the end, the rate of the smallest is measured, too. If it has fallen since the last such
//!    measurement, the smallest has lost the hit, and the search goes back to the one before. If it is only lower than it seemed, clean
//!    lives say less, and reductions that seemed to have lost the hit are tried further.
//! 4. When every reduction of the smallest has lost the hit, nothing more can be taken away (it is 1-minimal, as far as trials tell). New lives, which chose nothing, say how often
//!    the hit comes.

mod answer;
pub mod evidence;
pub mod reduce;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use answer::{Answer, Extent, Rate};
use evidence::Scale;
pub use evidence::{DOUBT, Standing, Tally, Told};
pub use reduce::{Reduction, Stage, reductions};

use crate::plan::{DEFAULT_SEED, Schedule, seeds, step_seed};
use crate::scenario::{Catalog, Matrix, Scenario, write};

/// New lives of the smallest cell, by which it is confirmed.
const CONFIRMED_BY: u32 = 10;
/// A program without its options may do all that it can: what takes so many times as long is no smaller, whatever it lacks,
const SLOWER: f64 = 2.0;
/// unless it takes only so many seconds more: of a step that takes a millisecond the next life needs three.
const NO_SLOWER: f64 = 0.5;

/// What is to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub what: What,
    pub scenario: Scenario,
    /// What it is, for people.
    pub change: String,
    pub lives: u32,
    /// So many were lived before: under a deterministic schedule each has a seed of its own.
    pub lived: u32,
}

impl Ask {
    /// The seeds of its lives, each another; none stands for the scenario's own, which is the first of all. `own` is that of the hit's
    /// cell.
    pub fn seeds(&self, own: u64) -> impl Iterator<Item = Option<u64>> {
        let first = self.scenario.matrix.seeds.first().copied().unwrap_or(DEFAULT_SEED);
        // None that a person would choose.
        let others = (1..).map(move |number: u32| step_seed(own, 0) ^ u64::from(number));
        let others = others.filter(move |seed| *seed != first).map(Some);
        std::iter::once(None).chain(others).skip(self.lived as usize).take(self.lives as usize)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Original,
    Candidate(Stage),
    /// The smallest so far, to be sure of it.
    Smallest,
    /// The smallest, by new lives.
    Confirmation,
}

/// What came of one life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Life {
    pub told: Told,
    pub seed: u64,
    /// That its steps took.
    pub seconds: f64,
}

/// All lives of a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lives {
    pub tally: Tally,
    /// Of each.
    seconds: Vec<f64>,
}

impl Lives {
    fn add(&mut self, life: &Life) {
        self.tally.add(life.told);
        self.seconds.push(life.seconds);
    }

    /// That the steps of a life take: the median, since one that hangs takes as long as a hundred others.
    pub fn median_seconds(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

/// A cell that keeps the hit.
#[derive(Debug, Clone)]
struct Kept {
    scenario: Scenario,
    change: String,
    /// The kind of reduction that led to it.
    stage: Stage,
    /// What was known when reductions of that kind began. None: the rate is still being measured.
    scale: Option<Scale>,
}

#[derive(Debug)]
pub struct Search<'a> {
    catalog: &'a Catalog,
    schedule: Schedule,
    found_in: Option<String>,
    original: Lives,
    /// The original, then each smaller one.
    kept: Vec<Kept>,
    tried: BTreeMap<String, Tried>,
    /// Changes that lost the hit, of whatever cell: they are tried again last.
    lost: BTreeSet<String>,
    confirmed: Lives,
    end: Option<End>,
}

#[derive(Debug, Clone, Default)]
struct Tried {
    lives: Lives,
    /// It is no scenario, takes longer, or was kept by luck: whatever its lives say.
    is_out: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Nothing more can be taken away.
    Minimal,
    /// There was no time to know that.
    Stopped,
    /// The hit did not come again.
    NotSeen,
}

impl<'a> Search<'a> {
    /// Of a cell's scenario, which makes this cell alone. `found_in` names the step in which the hit was seen.
    pub fn new(
        scenario: Scenario,
        found_in: Option<String>,
        schedule: Schedule,
        catalog: &'a Catalog,
    ) -> Self {
        let change = "as it was".to_owned();
        let kept = vec![Kept { scenario, change, stage: Stage::Steps, scale: None }];
        Self {
            catalog,
            schedule,
            found_in,
            original: Lives::default(),
            kept,
            tried: BTreeMap::new(),
            lost: BTreeSet::new(),
            confirmed: Lives::default(),
            end: None,
        }
    }

    /// None: all is known. So many guests can live at once.
    pub fn next(&mut self, side_by_side: u32) -> Option<Ask> {
        if self.scale().is_none() {
            let left = self.original.tally.left_to_measure();
            if left > 0 {
                return Some(self.ask_smallest(What::Original, self.original.tally, left));
            }
            self.stop_measuring();
        }
        if self.scale().is_none() {
            self.end = Some(End::NotSeen);
            return None;
        }
        if self.end.is_none()
            && let Some(ask) = self.search(side_by_side)
        {
            return Some(ask);
        }
        let end = *self.end.get_or_insert(End::Minimal);
        let left = CONFIRMED_BY.saturating_sub(self.confirmed.tally.lives());
        let is_due = end != End::NotSeen && left > 0;
        is_due.then(|| self.ask_smallest(What::Confirmation, self.confirmed.tally, left))
    }

    /// What is known of the original's rate is all that will be.
    pub fn stop_measuring(&mut self) {
        if self.kept[0].scale.is_none() && self.original.tally.shown > 0 {
            self.kept[0].scale = Some(Scale::of(self.original.tally));
        }
    }

    /// No more candidates: there is no time for them.
    pub fn stop(&mut self) {
        self.stop_measuring();
        self.end.get_or_insert(if self.scale().is_some() { End::Stopped } else { End::NotSeen });
    }

    fn search(&mut self, side_by_side: u32) -> Option<Ask> {
        loop {
            let scale = self.scale()?;
            let smallest = self.smallest_kept();
            let tally = self.tally_of_smallest();
            if self.kept.len() > 1 && smallest.scale.is_some_and(|began| began.has_fallen(tally)) {
                let fallen = key(self.smallest(), self.schedule);
                self.tried.entry(fallen).or_default().is_out = true;
                self.kept.pop();
                continue;
            }
            let open = self.first_open(scale);
            let is_same_stage = open.as_ref().is_some_and(|(reduction, _)| reduction.stage == smallest.stage);
            if self.kept.len() > 1 && !is_same_stage && tally.left_to_measure() > 0 {
                return Some(self.ask_smallest(What::Smallest, tally, side_by_side.max(1)));
            }
            let (Reduction { stage, change, scenario, is_shortcut: _ }, tally) = open?;
            let lives = scale.next_lives(tally, side_by_side);
            return Some(Ask { what: What::Candidate(stage), scenario, change, lives, lived: tally.lives() });
        }
    }

    /// The first reduction of the smallest that is not decided by this scale, with what its lives said.
    fn first_open(&self, scale: Scale) -> Option<(Reduction, Tally)> {
        let open = |reduction: Reduction| {
            let Tried { lives, is_out } = self.tried_of(&reduction.scenario);
            let is_decided = is_out || matches!(scale.standing(lives.tally), Standing::Lost | Standing::Mute);
            (!is_decided).then_some((reduction, lives.tally))
        };
        let (again, new): (Vec<_>, Vec<_>) =
            self.reductions().into_iter().partition(|reduction| self.lost.contains(&reduction.change));
        let again = again.into_iter().filter(|reduction| !reduction.is_shortcut);
        new.into_iter().chain(again).find_map(open)
    }

    fn reductions(&self) -> Vec<Reduction> {
        let seed_is_free = self.schedule == Schedule::Parallel;
        reductions(self.smallest(), self.found_in.as_deref(), self.catalog, seed_is_free)
    }

    fn tried_of(&self, scenario: &Scenario) -> Tried {
        self.tried.get(&key(scenario, self.schedule)).cloned().unwrap_or_default()
    }

    fn ask_smallest(&self, what: What, tally: Tally, lives: u32) -> Ask {
        let Kept { scenario, change, .. } = self.smallest_kept();
        // Lives that confirm have seeds that chose nothing.
        let before = if what == What::Confirmation { self.tally_of_smallest().lives() } else { 0 };
        let (scenario, change) = (scenario.clone(), change.clone());
        Ask { what, scenario, change, lives, lived: before + tally.lives() }
    }

    /// What reductions of the smallest are weighed by: its own rate, once that is known.
    fn scale(&self) -> Option<Scale> {
        let tally = self.tally_of_smallest();
        let began = self.smallest_kept().scale?;
        Some(if tally.left_to_measure() == 0 { began.at_most(tally) } else { began })
    }

    /// Takes what came of what was asked; the standing of a candidate.
    pub fn record(&mut self, ask: &Ask, lives: &[Life]) -> Standing {
        let key = key(&ask.scenario, self.schedule);
        let to = match ask.what {
            What::Original => &mut self.original,
            What::Confirmation => &mut self.confirmed,
            What::Candidate(_) | What::Smallest => &mut self.tried.entry(key).or_default().lives,
        };
        lives.iter().for_each(|life| to.add(life));
        let (tally, seconds) = (to.tally, to.median_seconds());
        let (What::Candidate(stage), Some(scale)) = (ask.what, self.scale()) else { return Standing::Open };
        let standing = match scale.standing(tally) {
            Standing::Kept if is_slower(seconds, self.lives_of_kept().median_seconds()) => Standing::Slower,
            standing => standing,
        };
        match standing {
            Standing::Open => {}
            Standing::Kept => self.keep(ask, stage, scale, lives),
            Standing::Lost | Standing::Mute => {
                self.lost.insert(ask.change.clone());
            }
            Standing::Slower => self.refuse(ask),
        }
        standing
    }

    fn keep(&mut self, ask: &Ask, stage: Stage, scale: Scale, lives: &[Life]) {
        let mut scenario = ask.scenario.clone();
        // What showed it under a deterministic schedule shows it again.
        let shown = lives.iter().find(|life| life.told == Told::Shown);
        if let (Schedule::Deterministic, Some(life)) = (self.schedule, shown) {
            scenario.matrix = seeds(life.seed);
        }
        let last = self.smallest_kept();
        let scale = if last.stage == stage { last.scale } else { Some(scale) };
        self.kept.push(Kept { scenario, change: ask.change.clone(), stage, scale });
    }

    /// The candidate is none: it is not a scenario, nothing can boot it, or it takes longer.
    pub fn refuse(&mut self, ask: &Ask) {
        self.tried.entry(key(&ask.scenario, self.schedule)).or_default().is_out = true;
    }

    fn smallest_kept(&self) -> &Kept {
        &self.kept[self.kept.len() - 1]
    }

    /// Of the smallest, but for those that confirm.
    fn lives_of_kept(&self) -> Lives {
        match self.kept.len() {
            1 => self.original.clone(),
            _ => self.tried_of(self.smallest()).lives,
        }
    }

    fn tally_of_smallest(&self) -> Tally {
        self.lives_of_kept().tally
    }

    pub fn smallest(&self) -> &Scenario {
        &self.smallest_kept().scenario
    }

    pub fn original(&self) -> &Scenario {
        &self.kept[0].scenario
    }

    /// What was taken away, in this order.
    pub fn changes(&self) -> impl Iterator<Item = &str> {
        self.kept[1..].iter().map(|kept| kept.change.as_str())
    }

    pub fn original_lives(&self) -> &Lives {
        &self.original
    }

    /// Those that confirm, which chose nothing.
    pub fn confirmed(&self) -> &Lives {
        &self.confirmed
    }

    /// All of the smallest cell, those that chose it among them.
    pub fn lives_of_smallest(&self) -> Lives {
        let mut lives = self.lives_of_kept();
        let Lives { tally: Tally { shown, clean, silent }, seconds } = &self.confirmed;
        lives.tally.shown += shown;
        lives.tally.clean += clean;
        lives.tally.silent += silent;
        lives.seconds.extend(seconds);
        lives
    }

    /// Lives of the original, of all candidates and to confirm; and how many candidates there were.
    pub fn trials(&self) -> (u32, usize) {
        let lives: u32 = self.tried.values().map(|one| one.lives.tally.lives()).sum();
        let all = lives + self.original.tally.lives() + self.confirmed.tally.lives();
        (all, self.tried.values().filter(|one| one.lives.tally.lives() > 0).count())
    }

    /// So many clean lives, and no other, show that a reduction of the smallest has lost the hit; none while that is not known.
    pub fn clean_lives(&self) -> Option<u32> {
        self.scale().map(Scale::clean_lives)
    }

    /// Reductions of the smallest of which lives could not tell.
    pub fn mute(&self) -> Vec<String> {
        let Some(scale) = self.scale() else { return Vec::new() };
        let is_mute = |reduction: &Reduction| {
            let Tried { lives, is_out } = self.tried_of(&reduction.scenario);
            !is_out && scale.standing(lives.tally) == Standing::Mute
        };
        self.reductions().into_iter().filter(is_mute).map(|reduction| reduction.change).collect()
    }

    pub fn end(&self) -> Option<End> {
        self.end
    }
}

fn is_slower(seconds: f64, before: f64) -> bool {
    seconds > SLOWER * before && seconds > before + NO_SLOWER
}

/// Two scenarios with the same are one candidate. Under a deterministic schedule a candidate's lives differ by their seeds alone.
fn key(scenario: &Scenario, schedule: Schedule) -> String {
    match schedule {
        Schedule::Parallel => write(scenario),
        Schedule::Deterministic => write(&Scenario { matrix: Matrix::default(), ..scenario.clone() }),
    }
}
