//! When a search is sure enough, and of what.

use std::num::NonZeroU32;

use super::history::History;
use super::posterior::Posterior;
use super::search::Search;
use super::verdict::{Next, Verdict};

/// What part of the doubt that is claimed the posterior has: the world is not quite what [`super::rate`] takes it for.
const DOUBT: f64 = 0.6;

/// Trials that a proof asks for at a time.
const PROOF: NonZeroU32 = NonZeroU32::new(8).unwrap();

/// What is claimed of what the posterior gives this probability.
fn claim(probability: f64) -> f64 {
    (1.0 - (1.0 - probability) / DOUBT).max(0.0)
}

impl Search {
    /// The verdict if the posterior is sure enough, or the trial that it lacks.
    pub(super) fn conclusion(&self, posterior: &Posterior) -> Option<Next> {
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
            let mut after = self.history.descendants(place);
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

    /// The fewest commits that are as sure as can be, if nothing that can be tried tells more.
    pub(super) fn smallest_set(&self, posterior: &Posterior) -> Verdict {
        let doubt = 1.0 - self.options.confidence.share();
        let least = DOUBT * doubt / self.history.len() as f64;
        let mut set: Vec<(f64, usize)> = self
            .possible
            .ones()
            .filter(|place| *place != History::GOOD)
            .map(|place| (posterior.weight(place), place))
            .filter(|(weight, _)| *weight > least)
            .collect();
        set.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        let mut confidence = 0.0;
        set.retain(|(weight, _)| {
            let is_wanted = claim(confidence) < 1.0 - doubt;
            confidence += if is_wanted { *weight } else { 0.0 };
            is_wanted
        });
        set.sort_by_key(|(_, place)| *place);
        let commits = set.iter().map(|(_, place)| self.history.commit(*place)).collect();
        Verdict::Among { commits, confidence: claim(confidence) }
    }
}
