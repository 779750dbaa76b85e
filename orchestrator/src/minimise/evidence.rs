//! When lives show that a smaller cell keeps a hit, and when that it has lost it. Pure.
//!
//! What was measured of a cell gives its rate; a smaller one has lost the hit if it shows it a quarter as often, or never. Each
//! life weighs for one of the two: a hit by ln 4, a clean life by how much more likely it is at the lower rate (Wald's sequential
//! test, Annals of Mathematical Statistics 16:117, 1945).

/// A rate that has fallen to this part is no longer the same hit for somebody who wants to see it.
const FALL: f64 = 4.0;
/// The chance that a cell which has the full rate is taken for one that lost it.
pub const DOUBT: f64 = 0.05;
/// A rate is known from so many hits,
const HITS_MEASURED: u32 = 6;
/// or, as well as it can be, from so many lives.
const MOST_MEASURED: u32 = 40;
/// A cell has so many times the clean lives that would decide, and then it counts as lost: its rate is between the two.
const PATIENCE: u32 = 3;
/// After so many lives that cannot tell, more than those that can, no more are tried.
const MOST_SILENT: u32 = 3;
/// From this rate on a first life alone probably tells.
const STEADY: f64 = 0.7;

/// What one life says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Shown,
    Clean,
    /// It was ended before it could tell, or failed.
    Silent,
}

/// What lives of one cell said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    pub shown: u32,
    pub clean: u32,
    pub silent: u32,
}

impl Tally {
    pub fn add(&mut self, told: Told) {
        *match told {
            Told::Shown => &mut self.shown,
            Told::Clean => &mut self.clean,
            Told::Silent => &mut self.silent,
        } += 1;
    }

    /// Lives that could tell.
    pub fn told(&self) -> u32 {
        self.shown + self.clean
    }

    pub fn lives(&self) -> u32 {
        self.told() + self.silent
    }

    /// How many more lives it takes at least until the rate is known.
    pub fn left_to_measure(&self) -> u32 {
        HITS_MEASURED.saturating_sub(self.shown).min(MOST_MEASURED.saturating_sub(self.lives()))
    }
}

/// What is to be done about a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Open,
    Kept,
    Lost,
    /// It shows the hit, but takes longer than what it should make smaller.
    Slower,
    /// Its lives cannot tell.
    Mute,
}

/// What lives are weighed by.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    rate: f64,
}

impl Scale {
    /// From the lives of the cell as it was: the mean of all rates that agree with them, each as likely as the next at first.
    pub fn of(measured: Tally) -> Self {
        Self { rate: f64::from(measured.shown + 1) / f64::from(measured.told() + 2) }
    }

    /// The same for the reductions of a smaller cell: they show the hit no more often than that.
    pub fn at_most(self, smaller: Tally) -> Self {
        Self { rate: self.rate.min(Self::of(smaller).rate) }
    }

    fn of_clean(self) -> f64 {
        ((1.0 - self.rate) / (1.0 - self.rate / FALL)).ln()
    }

    fn weight(self, tally: Tally) -> f64 {
        f64::from(tally.shown) * FALL.ln() + f64::from(tally.clean) * self.of_clean()
    }

    /// So many clean lives and no other decide.
    pub fn clean_lives(self) -> u32 {
        (DOUBT.ln() / self.of_clean()).ceil() as u32
    }

    fn is_long(self, tally: Tally) -> bool {
        tally.told() >= PATIENCE * self.clean_lives()
    }

    /// A first life that shows the hit is enough; later ones have to outweigh those that do not by as much.
    pub fn standing(self, tally: Tally) -> Standing {
        if tally.shown > 0 && self.weight(tally) >= FALL.ln() - f64::EPSILON {
            Standing::Kept
        } else if self.has_fallen(tally) || self.is_long(tally) {
            Standing::Lost
        } else if tally.silent >= MOST_SILENT && tally.silent > tally.told() {
            Standing::Mute
        } else {
            Standing::Open
        }
    }

    /// Whether a cell that counts as keeping the hit turns out to show it too rarely.
    pub fn has_fallen(self, tally: Tally) -> bool {
        self.weight(tally) <= DOUBT.ln()
    }

    /// How many lives to live at once, so that few are lived in vain.
    pub fn next_lives(self, tally: Tally, side_by_side: u32) -> u32 {
        if self.rate >= STEADY && tally.lives() == 0 {
            return 1;
        }
        side_by_side.min(self.clean_lives().saturating_sub(tally.clean)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(shown: u32, clean: u32) -> Tally {
        Tally { shown, clean, silent: 0 }
    }

    #[test]
    fn a_hit_of_every_life_needs_few_and_a_rare_one_many() {
        for (measured, clean) in [((6, 0), 2), ((6, 6), 6), ((6, 12), 9), ((6, 34), 22)] {
            let scale = Scale::of(tally(measured.0, measured.1));
            assert_eq!(scale.clean_lives(), clean, "{measured:?}");
            assert_eq!(scale.standing(tally(1, 0)), Standing::Kept);
            assert_eq!(scale.standing(tally(0, clean - 1)), Standing::Open);
            assert_eq!(scale.standing(tally(0, clean)), Standing::Lost);
        }
    }

    /// With the full rate, so many clean lives come by luck in one of twenty cases at most.
    #[test]
    fn clean_lives_are_as_many_as_absence_takes() {
        for shown in 1..=40 {
            for clean in 0..=40 {
                let scale = Scale::of(tally(shown, clean));
                let luck = (1.0 - scale.rate).powf(f64::from(scale.clean_lives()));
                assert!(luck <= DOUBT, "{shown} {clean}: {luck}");
            }
        }
    }

    #[test]
    fn a_rate_that_fell_is_seen_and_one_between_is_not_tried_for_ever() {
        let scale = Scale::of(tally(6, 12));
        // One of twelve: a quarter of a third.
        assert!(scale.has_fallen(tally(1, 14)) && !scale.has_fallen(tally(1, 10)));
        // Outweighed by clean lives, a hit alone does not keep it.
        assert_eq!(scale.standing(tally(1, 3)), Standing::Open);
        assert_eq!(scale.standing(tally(2, 3)), Standing::Kept);
        assert_eq!(scale.standing(tally(5, 25)), Standing::Lost);
    }

    #[test]
    fn reductions_of_a_rarer_cell_need_more_clean_lives() {
        let full = Scale::of(tally(6, 6));
        assert_eq!(full.at_most(tally(9, 0)).clean_lives(), full.clean_lives());
        assert_eq!(full.at_most(tally(6, 12)).clean_lives(), 9);
    }

    #[test]
    fn silent_lives_count_for_neither() {
        let scale = Scale::of(tally(6, 0));
        let silent = |shown, clean, silent| scale.standing(Tally { shown, clean, silent });
        assert_eq!(silent(0, 0, 2), Standing::Open);
        assert_eq!(silent(0, 0, 3), Standing::Mute);
        assert_eq!(silent(1, 0, 9), Standing::Kept);
        assert_eq!(silent(0, 1, 1), Standing::Open);
    }

    #[test]
    fn measuring_ends_with_enough_hits_or_with_many_lives() {
        assert_eq!(tally(0, 0).left_to_measure(), 6);
        assert_eq!(tally(6, 0).left_to_measure(), 0);
        assert_eq!(tally(3, 1).left_to_measure(), 3);
        assert_eq!(tally(3, 36).left_to_measure(), 1);
        assert_eq!(tally(6, 20).left_to_measure(), 0);
        assert_eq!(tally(0, 40).left_to_measure(), 0);
        assert_eq!(Tally { shown: 0, clean: 0, silent: 40 }.left_to_measure(), 0);
    }
}
