//! What a build or a trial came to.

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
    CannotBuild,
    /// The farm's own trouble: says nothing of the commit.
    Infra,
}
