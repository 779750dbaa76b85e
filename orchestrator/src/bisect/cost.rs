//! What a build and a trial take.

/// Seconds of wall time.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Seconds(pub f64);

/// What things take as far as is known beforehand; what is measured meanwhile replaces it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A build from nothing.
    pub build: Seconds,
    /// Taking a kernel that was built before.
    pub cached: Seconds,
    pub trial: Seconds,
}
