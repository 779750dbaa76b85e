//! Histories drawn at random.

use fastrand::Rng;

use super::{Buildable, Prices, Truth, World};
use crate::bisect::history::Commit;

/// How the rate goes along history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drift {
    None(f64),
    /// From the first to the second in equal factors, from the good end to the bad one.
    Slope(f64, f64),
    /// From the first to the second in the middle, and back.
    Hill(f64, f64),
}

/// What is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Candidates.
    pub commits: usize,
    pub branches: Branches,
    /// Of the candidates but the bad end, in runs of three on average; every third run does not boot, the others do not build.
    pub unfit: f64,
    pub drift: Drift,
    pub prices: Prices,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branches {
    None,
    /// Most commits come by branches of five on average, which fork from one of the last ten commits of the trunk.
    Merged,
}

impl Drift {
    fn rate(self, position: f64) -> f64 {
        match self {
            Self::None(rate) => rate,
            Self::Slope(from, to) => from * (to / from).powf(position),
            Self::Hill(from, to) => from * (to / from).powf(1.0 - (2.0 * position - 1.0).abs()),
        }
    }

    pub fn lowest(self) -> f64 {
        match self {
            Self::None(rate) => rate,
            Self::Slope(one, other) | Self::Hill(one, other) => one.min(other),
        }
    }
}

const RUN: f64 = 3.0;
const BRANCH: f64 = 5.0;
const FORKS_FROM: usize = 10;

impl Shape {
    /// A history with one culprit, each candidate as likely as the next.
    pub fn draw(&self, seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let parents = match self.branches {
            Branches::None => {
                (0..=self.commits).map(|number| number.checked_sub(1).into_iter().collect()).collect()
            }
            Branches::Merged => merged(self.commits, &mut random),
        };
        let culprit = random.usize(1..=self.commits);
        let mut has = vec![false; self.commits + 1];
        let mut unfit = None;
        let truths = (0..=self.commits)
            .map(|number| {
                has[number] = number == culprit || parents[number].iter().any(|parent| has[*parent]);
                let rate = self.drift.rate(number as f64 / self.commits as f64);
                unfit = match unfit {
                    Some(kind) if random.f64() < 1.0 - 1.0 / RUN => Some(kind),
                    // A run begins so often that the runs are that part of all.
                    _ if random.f64() < self.unfit / (1.0 - self.unfit) / RUN => {
                        Some(if random.u8(..3) == 0 { Buildable::CannotBoot } else { Buildable::CannotBuild })
                    }
                    _ => None,
                };
                let is_end = number == 0 || number == self.commits;
                let build = unfit.filter(|_| !is_end).unwrap_or(Buildable::Works);
                let rate = if has[number] { rate } else { 0.0 };
                Truth { build, rate, other_failure: 0.0, weak: 0.0, signature: None }
            })
            .collect();
        World { parents, good: Commit(0), bad: Commit(self.commits), truths, prices: self.prices }
    }
}

fn merged(commits: usize, random: &mut Rng) -> Vec<Vec<usize>> {
    let mut parents: Vec<Vec<usize>> = vec![Vec::new()];
    let mut trunk = vec![0];
    while parents.len() <= commits {
        let room = commits + 1 - parents.len();
        let head = trunk[trunk.len() - 1];
        let mut length = 1;
        while random.f64() < 1.0 - 1.0 / BRANCH {
            length += 1;
        }
        if random.u8(..4) == 0 || room < length + 1 {
            trunk.push(parents.len());
            parents.push(vec![head]);
            continue;
        }
        let mut tip = trunk[trunk.len() - 1 - random.usize(..trunk.len().min(FORKS_FROM))];
        for _ in 0..length {
            parents.push(vec![tip]);
            tip = parents.len() - 1;
        }
        trunk.push(parents.len());
        parents.push(vec![head, tip]);
    }
    parents
}
