//! How often a kernel that has the bug shows it: not known, and not the same all over history.
//!
//! The logarithm of the rate walks at random along history, on a ladder of levels. Kernels near each other have nearly
//! the same rate, and those at the two ends of history may well differ by a factor of five. Beside that walk stands the
//! plain case, one rate for all; what is seen says how much weight each of the two has. So a clean trial of a kernel weighs what hits
//! nearby let it weigh, and is weak evidence where there were none.

use std::array;
use std::f64::consts::PI;

/// A function of the level.
pub(super) type Levels = [f64; Rates::LEVELS];

/// One of the two ways in which rates may go along history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Steady,
    Drifting,
}

/// What was seen of one kernel, as a likelihood of each level, with the logarithm of what it was divided by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub(super) likelihood: Levels,
    pub(super) scale: f64,
}

/// Numbers of trials that are weighed against each other.
pub(super) const BATCHES: [u32; 18] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];

/// The ladder, and the steps on it.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    rates: Levels,
    /// By batch: how likely all its trials are clean.
    all_clean: [Levels; BATCHES.len()],
    /// The walk's eigenvectors, one a row, and how fast each decays.
    waves: [Levels; Self::LEVELS],
    decay: Levels,
    prior: Levels,
}

impl Rates {
    pub(super) const LEVELS: usize = 16;
    pub(super) const COURSES: [Course; 2] = [Course::Steady, Course::Drifting];

    /// The highest level. Not quite 1: one clean trial must not be proof, for there are flukes.
    const HIGHEST: f64 = 0.99;
    /// The lowest. With rarer bugs in mind a clean trial would prove next to nothing.
    const LOWEST: f64 = 0.01;
    /// The standard deviation of the rate's logarithm from one end of history to the other: ln 5.
    const DRIFT: f64 = 1.6;
    /// Beforehand: that the rate is the same all over history.
    const STEADY: f64 = 0.6;
    /// Beforehand: that the bug is of the highest level. Many bugs show in every trial.
    const ALWAYS: f64 = 0.2;

    pub(super) fn new() -> Self {
        let count = Self::LEVELS as f64;
        let step = (Self::HIGHEST / Self::LOWEST).ln() / (count - 1.0);
        let rates = array::from_fn(|level| Self::HIGHEST * (-step * level as f64).exp());
        // A walk to the neighbours, reflected at both ends of the ladder, has cosines for eigenvectors.
        let angle = |wave: usize| PI * wave as f64 / count;
        let waves = array::from_fn(|wave| {
            let norm = if wave == 0 { 1.0 / count } else { 2.0 / count }.sqrt();
            array::from_fn(|level| norm * (angle(wave) * (level as f64 + 0.5)).cos())
        });
        let steps = (Self::DRIFT / step).powi(2) / 2.0;
        let decay = array::from_fn(|wave| 2.0 * steps * (1.0 - angle(wave).cos()));
        let prior = array::from_fn(|level| {
            let level_of_all = (1.0 - Self::ALWAYS) / count;
            if level == 0 { level_of_all + Self::ALWAYS } else { level_of_all }
        });
        let all_clean = BATCHES.map(|trials| rates.map(|rate: f64| (1.0 - rate).powi(trials as i32)));
        Self { rates, all_clean, waves, decay, prior }
    }

    /// What is known of the level at the bad end before anything was tried.
    pub(super) fn prior(&self) -> &Levels {
        &self.prior
    }

    /// How likely each course is beforehand.
    pub(super) fn courses() -> [f64; 2] {
        [Self::STEADY, 1.0 - Self::STEADY]
    }

    pub(super) fn evidence(&self, hits: u32, clean: u32) -> Evidence {
        let logs: Levels =
            self.rates.map(|rate| f64::from(hits) * rate.ln() + f64::from(clean) * (-rate).ln_1p());
        let scale = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Evidence { likelihood: logs.map(|log| (log - scale).exp()), scale }
    }

    /// What is known at one end of a stretch of history, carried to the other. All of history is a stretch of 1.
    pub(super) fn carry(&self, known: &Levels, course: Course, stretch: f64) -> Levels {
        if course == Course::Steady || stretch == 0.0 {
            return *known;
        }
        let mut carried = [0.0; Self::LEVELS];
        for (wave, decay) in self.waves.iter().zip(&self.decay) {
            let amplitude = dot(wave, known) * (-decay * stretch).exp();
            carried.iter_mut().zip(wave).for_each(|(carried, wave)| *carried += amplitude * wave);
        }
        // Rounding may leave a little less than nothing.
        carried.map(|known| known.max(0.0))
    }

    /// By batch: how likely all its trials are clean.
    pub(super) fn all_clean(&self, known: &Levels) -> [f64; BATCHES.len()] {
        array::from_fn(|batch| dot(&self.all_clean[batch], known))
    }

    /// How many trials it takes on average until one shows the bug.
    pub(super) fn trials_to_hit(&self, known: &Levels) -> f64 {
        dot(&self.rates.map(f64::recip), known)
    }
}

fn dot(one: &Levels, other: &Levels) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
