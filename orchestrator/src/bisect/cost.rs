//! What a build and a trial take: guesses that what is measured replaces.

/// Seconds of wall time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Seconds(pub f64);

/// What things take as far as is known beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A build from nothing.
    pub build: Seconds,
    /// Taking a kernel that was built before.
    pub cached: Seconds,
    pub trial: Seconds,
}

/// A guess counts as much as one measurement.
const GUESS: f64 = 1.0;
/// A guess: a build of what was just built takes this part of a build from nothing (kbuild looks at all, links again).
const NEAREST: f64 = 0.3;
/// A commit that is so far from the last one built takes nearly a build from nothing: a header that all include has changed.
const FAR: f64 = 1000.0;

#[derive(Debug, Clone)]
pub(super) struct CostModel {
    full: Mean,
    cached: Mean,
    trial: Mean,
    incremental: Line,
}

impl CostModel {
    pub(super) fn new(guess: Costs) -> Self {
        let mut incremental = Line::default();
        incremental.add(steps(0), NEAREST * guess.build.0);
        incremental.add(steps(FAR as usize), guess.build.0);
        let [full, cached, trial] = [guess.build, guess.cached, guess.trial].map(Mean::new);
        Self { full, cached, trial, incremental }
    }

    /// `distance` is to the commit that was built last; none if none was.
    pub(super) fn build(&self, distance: Option<usize>) -> f64 {
        match distance {
            None => self.full.get(),
            Some(distance) => self.incremental.at(steps(distance)).max(0.0),
        }
    }

    pub(super) fn cached(&self) -> f64 {
        self.cached.get()
    }

    pub(super) fn trial(&self) -> f64 {
        self.trial.get()
    }

    pub(super) fn learn_build(&mut self, distance: Option<usize>, took: Seconds) {
        match distance {
            None => self.full.add(took.0),
            Some(distance) => self.incremental.add(steps(distance), took.0),
        }
    }

    pub(super) fn learn_cached(&mut self, took: Seconds) {
        self.cached.add(took.0);
    }

    pub(super) fn learn_trial(&mut self, took: Seconds) {
        self.trial.add(took.0);
    }
}

/// Builds grow with the logarithm of the distance: half of what changes in 100 commits has changed in the first few.
fn steps(distance: usize) -> f64 {
    (distance as f64).ln_1p()
}

#[derive(Debug, Clone)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn new(guess: Seconds) -> Self {
        Self { sum: GUESS * guess.0, count: GUESS }
    }

    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn get(&self) -> f64 {
        self.sum / self.count
    }
}

/// The straight line with the least squares, which never falls.
#[derive(Debug, Clone, Default)]
struct Line {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    fn at(&self, x: f64) -> f64 {
        let spread = self.count * self.xx - self.x * self.x;
        let slope = ((self.count * self.xy - self.x * self.y) / spread).max(0.0);
        (self.y - slope * self.x) / self.count + slope * x
    }
}
