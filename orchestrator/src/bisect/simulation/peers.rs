//! How others would search the same history: to be compared with.
//!
//! Their rules, not their code. All keep what they have built, and stop a batch at the first hit where their rule lets them.

use std::collections::HashMap;

use fixedbitset::FixedBitSet;

use super::bayesect::Bayesect;
use super::{Drift, End, Field, Played, Spent, World, judge};
use crate::bisect::history::{Commit, History};
use crate::bisect::{BuildOutcome, Outcome};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Peer {
    /// `git bisect run` with a script that tries each commit so often that all is right with this confidence, if the rate is as low as
    /// the lowest in this history: it has been told the rate.
    GitBisect { told: Drift, confidence: f64, ends: Ends },
    /// Syzkaller's rule (pkg/bisect, `bisectionDecision`): 20 trials, or 10 if all 20 of the bad end's were hits; bad with a sixth of
    /// them, but 2 at least; good with none; else the commit is skipped.
    Syzkaller,
    /// git_bayesect: the commit whose trial lowers the entropy most, whatever its build takes. It knows no branches and, here, no
    /// commits that cannot be tried.
    Bayesect { confidence: f64 },
}

/// Whether the two ends are tried, or taken for what the user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    Checked,
    Trusted,
}

/// What a rule makes of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Bad,
    Skip,
}

impl Peer {
    pub fn play(self, world: &World, history: &History, seed: u64) -> Played {
        let mut field = Field::new(world, history, seed);
        let named = match self {
            Self::GitBisect { told, confidence, ends } => {
                let steps = (history.candidates().len() as f64).log2().ceil();
                let trials = ((1.0 - confidence) / steps).ln() / (-told.lowest()).ln_1p();
                // A rate of 1 needs one trial.
                let trials = (trials.ceil() as u32).max(1);
                bisected(history, &mut field, ends, |field, commit| until_hit(field, commit, trials))
            }
            Self::Syzkaller => {
                let mut trials = SYZKALLER_TRIALS;
                bisected(history, &mut field, Ends::Checked, |field, commit| {
                    let (mark, all_hit) = syzkaller(field, commit, trials);
                    if all_hit {
                        trials = SYZKALLER_TRIALS / 2;
                    }
                    mark
                })
            }
            Self::Bayesect { confidence } => Some(bayesected(history, &mut field, confidence)),
        };
        played(world, history, named, field.spent)
    }
}

const SYZKALLER_TRIALS: u32 = 20;

fn played(world: &World, history: &History, named: Option<Vec<Commit>>, spent: Spent) -> Played {
    let end = named.map_or(End::NoAnswer, |named| judge(world, history, &named));
    Played { end, claimed: f64::NAN, spent }
}

/// git's way: of the commits that may be it, the one that halves them best, until one is left or none that can be tried.
fn bisected(
    history: &History,
    field: &mut Field<'_>,
    ends: Ends,
    mut mark: impl FnMut(&mut Field<'_>, Commit) -> Mark,
) -> Option<Vec<Commit>> {
    let mut marked = |place: usize| {
        let commit = history.commit(place);
        match field.build(commit).0 {
            BuildOutcome::Built(_) | BuildOutcome::Cached(_) => mark(field, commit),
            BuildOutcome::CannotBuild => Mark::Skip,
        }
    };
    let bad = history.len() - 1;
    let are_as_said = |ends: [Mark; 2]| ends == [Mark::Bad, Mark::Good];
    if ends == Ends::Checked && !are_as_said([bad, History::GOOD].map(&mut marked)) {
        return None;
    }
    let mut suspects = history.ancestors(bad).clone();
    suspects.set(History::GOOD, false);
    let mut to_try = suspects.clone();
    to_try.set(bad, false);
    loop {
        let count = suspects.count_ones(..);
        let halves = |place: &usize| {
            let before = suspects.intersection_count(history.ancestors(*place));
            before.min(count - before)
        };
        let untried: FixedBitSet = &to_try & &suspects;
        let Some(place) = untried.ones().max_by_key(halves) else {
            return Some(suspects.ones().map(|place| history.commit(place)).collect());
        };
        to_try.set(place, false);
        match marked(place) {
            Mark::Bad => suspects.intersect_with(history.ancestors(place)),
            Mark::Good => suspects.difference_with(history.ancestors(place)),
            Mark::Skip => {}
        }
    }
}

fn until_hit(field: &mut Field<'_>, commit: Commit, trials: u32) -> Mark {
    for _ in 0..trials {
        match field.trial(commit).0 {
            Outcome::Hit => return Mark::Bad,
            Outcome::Clean => {}
            _ => return Mark::Skip,
        }
    }
    Mark::Good
}

fn syzkaller(field: &mut Field<'_>, commit: Commit, trials: u32) -> (Mark, bool) {
    let outcomes: Vec<Outcome> = (0..trials).map(|_| field.trial(commit).0).collect();
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u32;
    let (hits, clean) = (count(Outcome::Hit), count(Outcome::Clean));
    let mark = match hits {
        0 if clean >= trials / 2 => Mark::Good,
        _ if hits >= (trials / 6).max(2) && hits + clean >= trials / 2 => Mark::Bad,
        _ => Mark::Skip,
    };
    (mark, hits == trials)
}

fn bayesected(history: &History, field: &mut Field<'_>, confidence: f64) -> Vec<Commit> {
    // The newest first, the good end last.
    let commit = |index: usize| history.commit(history.len() - 1 - index);
    let mut bayesect = Bayesect::new(history.len());
    let mut built = HashMap::new();
    loop {
        let index = bayesect.select();
        built.entry(index).or_insert_with(|| field.build(commit(index)));
        bayesect.record(index, field.trial(commit(index)).0 == Outcome::Hit);
        let (likeliest, probability) = bayesect.likeliest();
        if probability >= confidence {
            return vec![commit(likeliest)];
        }
    }
}
