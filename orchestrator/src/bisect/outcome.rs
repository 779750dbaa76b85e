//! What a build came to, and what trials are worth.

use crate::store::Outcome;

/// What makes two kernels the same kernel: a hash of all that runs. Empty differences (documentation, another architecture)
/// leave it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(String);

impl Signature {
    pub fn new(hash: impl Into<String>) -> Self {
        Self(hash.into())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutcome {
    /// There is a kernel. Without a signature it counts as unlike any other.
    Built(Option<Signature>),
    /// The same of one that was there before.
    Cached(Option<Signature>),
    CannotBuild,
}

/// So many failed boots make a kernel unfit to be tried.
const BOOTS: u32 = 2;
/// Trials that do not tell make one unfit when there are so many more than of those that do.
const UNTELLING: u32 = 3;

/// Whether trials of a kernel tell at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Witness {
    telling: u32,
    untelling: u32,
    boots_failed: u32,
}

impl Witness {
    pub fn hear(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Hit | Outcome::Clean => self.telling += 1,
            Outcome::Weak | Outcome::OtherFailure => self.untelling += 1,
            Outcome::CannotBoot => self.boots_failed += 1,
            // Farm's own trouble is none of the kernel's.
            Outcome::Infra => {}
        }
    }

    pub fn is_unfit(self) -> bool {
        self.boots_failed >= BOOTS + self.telling || self.untelling >= UNTELLING * (1 + self.telling)
    }
}
