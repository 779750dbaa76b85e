//! The model of git_bayesect 1.2: commits up to the culprit show the bug with one unknown rate and the others with another.
//!
//! Both rates have Jeffreys' prior, so a likelihood is a quotient of beta functions. The next commit is the one whose trial leaves the
//! least entropy. Index 0 is the newest commit.

pub(super) struct Bayesect {
    /// Of the trials at this commit and the newer ones.
    hits: Vec<u32>,
    trials: Vec<u32>,
    /// The logarithms of the gamma function at 1/2 + n and at 1 + n.
    gamma_half: Vec<f64>,
    gamma_whole: Vec<f64>,
    weights: Vec<f64>,
}

/// The trials that a culprit at some index puts on the side that has the bug, or on the other one.
#[derive(Clone, Copy)]
struct Side {
    hits: u32,
    clean: u32,
}

impl Side {
    fn mean(self) -> f64 {
        (0.5 + f64::from(self.hits)) / (1.0 + f64::from(self.hits + self.clean))
    }
}

impl Bayesect {
    pub(super) fn new(commits: usize) -> Self {
        let weights = vec![1.0 / commits as f64; commits];
        let root = std::f64::consts::PI.sqrt().ln();
        Self {
            hits: vec![0; commits],
            trials: vec![0; commits],
            gamma_half: vec![root],
            gamma_whole: vec![0.0],
            weights,
        }
    }

    pub(super) fn record(&mut self, index: usize, hit: bool) {
        for (hits, trials) in self.hits.iter_mut().zip(&mut self.trials).skip(index) {
            *trials += 1;
            *hits += u32::from(hit);
        }
        let n = self.gamma_half.len() as f64;
        self.gamma_half.push(self.gamma_half[self.gamma_half.len() - 1] + (n - 0.5).ln());
        self.gamma_whole.push(self.gamma_whole[self.gamma_whole.len() - 1] + n.ln());
        let logs: Vec<f64> = (0..self.weights.len())
            .map(|index| {
                let (with, without) = self.sides(index);
                self.log_likelihood(with) + self.log_likelihood(without)
            })
            .collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.weights = logs.iter().map(|log| (log - most).exp()).collect();
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|weight| *weight /= sum);
    }

    fn sides(&self, index: usize) -> (Side, Side) {
        let last = self.hits.len() - 1;
        let (hits, trials) = (self.hits[index], self.trials[index]);
        let (other_hits, other_trials) = (self.hits[last] - hits, self.trials[last] - trials);
        (Side { hits, clean: trials - hits }, Side { hits: other_hits, clean: other_trials - other_hits })
    }

    /// But for a constant.
    fn log_likelihood(&self, side: Side) -> f64 {
        let (hits, clean) = (side.hits as usize, side.clean as usize);
        self.gamma_half[hits] + self.gamma_half[clean] - self.gamma_whole[hits + clean]
    }

    pub(super) fn likeliest(&self) -> (usize, f64) {
        let most = self.weights.iter().copied().enumerate();
        most.fold((0, 0.0), |most, one| if one.1 > most.1 { one } else { most })
    }

    pub(super) fn select(&self) -> usize {
        let log = |weight: f64| if weight > 0.0 { weight * weight.log2() } else { 0.0 };
        // By outcome (a hit, clean): a culprit's weight with that outcome of a trial that has the bug, and of one that has not.
        let parts: Vec<[[f64; 2]; 2]> = (0..self.weights.len())
            .map(|index| {
                let (with, without) = self.sides(index);
                let weight = self.weights[index];
                let of = |side: Side| [weight * side.mean(), weight * (1.0 - side.mean())];
                let (with, without) = (of(with), of(without));
                [[with[0], without[0]], [with[1], without[1]]]
            })
            .collect();
        let mut entropies = vec![0.0; parts.len()];
        for outcome in 0..2 {
            // Culprits that are as old or older put the trial where the bug is.
            let (mut sum, mut logs) = (0.0, 0.0);
            let mut with = vec![(0.0, 0.0); parts.len()];
            for index in (0..parts.len()).rev() {
                let part = parts[index][outcome][0];
                sum += part;
                logs += log(part);
                with[index] = (sum, logs);
            }
            let (mut sum, mut logs) = (0.0, 0.0);
            for index in 0..parts.len() {
                let whole: f64 = sum + with[index].0;
                if whole > 0.0 {
                    entropies[index] += whole * whole.log2() - (logs + with[index].1);
                }
                let part = parts[index][outcome][1];
                sum += part;
                logs += log(part);
            }
        }
        let least = entropies.iter().copied().fold(f64::INFINITY, f64::min);
        let close = |index: &usize| (entropies[*index] - least).abs() <= 1e-15 + 1e-12 * least.abs();
        let middle = entropies.len() / 2;
        let all = (0..entropies.len()).filter(close);
        all.min_by_key(|index| index.abs_diff(middle)).unwrap_or(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What git_bayesect 1.2 itself selects (its class `Bisector`), of 60 commits with the culprit at 17, whose bug shows in every third
    /// trial: the indices, and the probability of the likeliest after 40 trials.
    #[test]
    fn selects_as_git_bayesect_does() {
        let mut bayesect = Bayesect::new(60);
        let mut selected = Vec::new();
        for trial in 0..40 {
            let index = bayesect.select();
            selected.push(index);
            bayesect.record(index, index <= 17 && trial % 3 == 0);
        }
        assert_eq!(selected, SELECTED);
        let (likeliest, probability) = bayesect.likeliest();
        assert_eq!(likeliest, LIKELIEST.0);
        assert!((probability - LIKELIEST.1).abs() < 1e-9, "{probability}");
    }

    const SELECTED: [usize; 40] = [
        30, 1, 49, 59, 0, 59, 0, 20, 13, 9, 18, 14, 11, 13, 12, 12, 16, 13, 13, 21, 17, 16, 25, 22, 19, 18,
        17, 17, 20, 19, 18, 18, 18, 18, 18, 17, 17, 18, 18, 18,
    ];
    const LIKELIEST: (usize, f64) = (17, 0.753048073365);
}
