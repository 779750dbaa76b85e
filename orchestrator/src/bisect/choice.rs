//! Which commit to try next, and how often: what teaches most for its seconds.
//!
//! What a batch of trials teaches is the mutual information, in bits, of how it ends (a hit, or all clean) and which commit
//! is the culprit. What it takes is the build, if there is none yet, and the trials up to the first hit.

use std::num::NonZeroU32;

use super::history::History;
use super::posterior::{NEXT_TO_NOTHING, Outlook, Posterior};
use super::rate::{BATCHES, Rates};

/// A larger batch is asked for if it teaches nearly as much a second as the best does: lives run side by side.
const NEARLY: f64 = 0.9;
/// Commits that are not built are first ranked as though a batch showed the bug with each of these probabilities, and the best of each
/// ranking are weighed exactly.
const SHOWS: [f64; 3] = [0.4, 0.75, 0.98];
const OF_EACH_RANKING: usize = 3;

/// A commit that can be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    pub(super) place: usize,
    /// The seconds that its build takes; 0 if it is built.
    pub(super) build: f64,
    /// How likely it builds, boots and tells.
    pub(super) fit: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) place: usize,
    pub(super) trials: NonZeroU32,
    /// Bits a second.
    pub(super) speed: f64,
}

/// None if no trial teaches anything.
pub(super) fn choose(
    history: &History,
    rates: &Rates,
    posterior: &Posterior,
    trial: f64,
    chances: &[Chance],
) -> Option<Choice> {
    let scale = Scale::new(history, rates, posterior, trial);
    let mut best: Option<Choice> = None;
    for chance in scale.worth_weighing(chances) {
        let choice = scale.weigh(&chance);
        // Of equals the first: the choice must not depend on anything but the records.
        if choice.speed > best.map_or(0.0, |best| best.speed) {
            best = Some(choice);
        }
    }
    best
}

struct Scale<'a> {
    history: &'a History,
    rates: &'a Rates,
    posterior: &'a Posterior,
    outlooks: Vec<(usize, Outlook<'a>)>,
    trial: f64,
}

impl<'a> Scale<'a> {
    fn new(history: &'a History, rates: &'a Rates, posterior: &'a Posterior, trial: f64) -> Self {
        let outlooks = posterior
            .classes
            .iter()
            .enumerate()
            .filter(|(_, class)| class.weight > NEXT_TO_NOTHING)
            .map(|(index, class)| (index, posterior.outlook(rates, class)))
            .collect();
        Self { history, rates, posterior, outlooks, trial }
    }

    fn worth_weighing(&self, chances: &[Chance]) -> Vec<Chance> {
        let mut worth: Vec<Chance> = chances.iter().copied().filter(|chance| chance.build == 0.0).collect();
        let unbuilt: Vec<(f64, Chance)> = chances
            .iter()
            .filter(|chance| chance.build > 0.0)
            .map(|chance| (self.posterior.has(self.history.ancestors(chance.place)), *chance))
            .collect();
        for shows in SHOWS {
            let mut ranked: Vec<(f64, Chance)> = unbuilt
                .iter()
                .map(|(has, chance)| {
                    let teaches = uncertainty(has * shows) - has * uncertainty(shows);
                    (chance.fit * teaches / (chance.build + self.trial), *chance)
                })
                .collect();
            let count = OF_EACH_RANKING.min(ranked.len());
            if count == 0 {
                continue;
            }
            ranked.select_nth_unstable_by(count - 1, |one, other| {
                other.0.total_cmp(&one.0).then(one.1.place.cmp(&other.1.place))
            });
            worth.extend(ranked[..count].iter().map(|(_, chance)| *chance));
        }
        worth.sort_by_key(|chance| chance.place);
        worth.dedup_by_key(|chance| chance.place);
        worth
    }

    fn weigh(&self, chance: &Chance) -> Choice {
        let before = self.history.ancestors(chance.place);
        // By batch: how likely all is clean, and how uncertain that is if one knows the culprit.
        let mut clean = [1.0; BATCHES.len()];
        let mut known = [0.0; BATCHES.len()];
        for (index, outlook) in &self.outlooks {
            let class = &self.posterior.classes[*index];
            let has = class.weight * class.part(before);
            if has > 0.0 {
                let all_clean = self.rates.all_clean(&outlook.at(chance.place));
                for ((clean, known), all_clean) in clean.iter_mut().zip(&mut known).zip(all_clean) {
                    *clean -= has * (1.0 - all_clean);
                    *known += has * uncertainty(all_clean);
                }
            }
        }
        let mut seconds = 0.0;
        let (mut last_trials, mut last_clean) = (0, 1.0);
        let mut speeds = [0.0; BATCHES.len()];
        for (batch, trials) in BATCHES.into_iter().enumerate() {
            let more = f64::from(trials - last_trials);
            // A trial is made if all before it were clean.
            seconds +=
                if trials == 1 { self.trial } else { more * self.trial * (last_clean + clean[batch]) / 2.0 };
            (last_trials, last_clean) = (trials, clean[batch]);
            let teaches = (uncertainty(clean[batch]) - known[batch]).max(0.0);
            speeds[batch] = chance.fit * teaches / (chance.build + chance.fit * seconds);
        }
        let speed = speeds.iter().copied().fold(0.0, f64::max);
        let batch = speeds.iter().rposition(|one| *one >= NEARLY * speed).unwrap_or_default();
        let trials = NonZeroU32::new(BATCHES[batch]).unwrap_or(NonZeroU32::MIN);
        Choice { place: chance.place, trials, speed }
    }
}

/// Of something that is so with this probability, in bits.
fn uncertainty(probability: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(probability) + part(1.0 - probability)
}
