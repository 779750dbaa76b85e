//! What the detector's tests shake: the logs of the fixtures, and a small source of chance.

use super::fixtures::{Fixture, fixtures};

impl Fixture {
    pub(crate) fn is_healthy(&self) -> bool {
        self.says("healthy: true")
    }

    pub(crate) fn is_of_a_cell(&self) -> bool {
        self.says("timestamps: required")
    }
}

pub(crate) fn fixture_logs() -> Vec<Fixture> {
    fixtures().unwrap()
}

/// A small generator (xorshift), so that one seed tells the whole case.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
