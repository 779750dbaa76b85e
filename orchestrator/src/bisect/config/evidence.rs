//! How many trials it takes to call a configuration good. A hit is certain; that none came may be luck.

use super::Tally;

/// The rate of the bad configuration is measured until it is known from so many hits.
const HITS_MEASURED: u32 = 10;

/// What one trial tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// All: each would end as the first did.
    Once,
    /// A bad configuration shows it in part of its trials. The whole search may take a bad configuration for good with
    /// this chance; how often a bad one shows it is measured in so many trials at most.
    Repeated { wrong_at_most: f64, most_measured: u32 },
}

impl Sampling {
    /// Whether so many trials say how often the bad configuration shows it.
    pub(super) fn is_measured(self, tally: Tally) -> bool {
        self.left_to_measure(tally) == 0
    }

    /// How many trials that takes at least.
    pub(super) fn left_to_measure(self, tally: Tally) -> u32 {
        let hits = HITS_MEASURED.saturating_sub(tally.hits);
        match self {
            Self::Once => 1_u32.saturating_sub(tally.trials()),
            Self::Repeated { most_measured, .. } => hits.min(most_measured.saturating_sub(tally.trials())),
        }
    }

    /// How many trials without a hit make a configuration a good one, if a bad one shows it as often as was measured, and
    /// there are so many such decisions.
    pub(super) fn clean_trials(self, measured: Tally, decisions: u32) -> u32 {
        match self {
            Self::Once => 1,
            Self::Repeated { wrong_at_most, .. } => {
                let share = wrong_at_most / f64::from(decisions);
                let mut chance = 1.0;
                let mut trials = 0;
                while chance > share {
                    chance *= next_clean(measured, trials);
                    trials += 1;
                }
                trials
            }
        }
    }

    /// The chance that a bad configuration showed nothing in so many trials.
    pub(super) fn chance_of_luck(self, measured: Tally, trials: u32) -> f64 {
        match self {
            Self::Once => 0.0,
            Self::Repeated { .. } => (0..trials).map(|before| next_clean(measured, before)).product(),
        }
    }
}

/// The chance that the next trial is clean after so many that were, over all rates that agree with what was measured: the
/// product of these is E[(1-p)^n] with p from Beta(1 + hits, 1 + clean), every rate taken for as likely as any other at
/// first.
fn next_clean(measured: Tally, before: u32) -> f64 {
    f64::from(1 + measured.clean + before) / f64::from(2 + measured.trials() + before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(hits: u32, clean: u32) -> Tally {
        Tally { hits, clean, unresolved: 0 }
    }

    #[test]
    fn rarer_hits_and_more_decisions_take_more_trials() {
        let sampling = Sampling::Repeated { wrong_at_most: 0.01, most_measured: 200 };
        for (measured, decisions, wanted) in [
            (tally(10, 0), 1, 3),
            (tally(10, 0), 20, 5),
            (tally(10, 10), 1, 9),
            (tally(10, 10), 20, 16),
            (tally(10, 90), 20, 96),
        ] {
            let trials = sampling.clean_trials(measured, decisions);
            assert_eq!(trials, wanted, "{measured:?} {decisions}");
            let share = 0.01 / f64::from(decisions);
            assert!(sampling.chance_of_luck(measured, trials) <= share);
            assert!(sampling.chance_of_luck(measured, trials - 1) > share);
        }
        assert_eq!(Sampling::Once.clean_trials(tally(1, 0), 20), 1);
    }

    /// E[(1-p)^2] with p uniform is the integral of (1-p)^2 from 0 to 1.
    #[test]
    fn the_chance_of_luck_is_the_integral() {
        let sampling = Sampling::Repeated { wrong_at_most: 0.01, most_measured: 200 };
        assert!((sampling.chance_of_luck(tally(0, 0), 2) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_rate_is_known_from_hits_or_not_at_all() {
        let sampling = Sampling::Repeated { wrong_at_most: 0.01, most_measured: 200 };
        assert!(!sampling.is_measured(tally(9, 100)));
        assert!(sampling.is_measured(tally(10, 0)));
        assert!(sampling.is_measured(tally(0, 200)));
        assert!(Sampling::Once.is_measured(tally(0, 1)));
    }
}
