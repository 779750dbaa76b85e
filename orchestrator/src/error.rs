//! The edge: exit codes, and how a failure is told to a person.
//!
//! Modules have errors of their own; what kind each is, which exit code it ends with and which hint goes with
//! it is decided here and nowhere else.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

use crate::verdict::Verdict;

/// farm's exit codes. Several at once: the first in the order of `BY_WEIGHT` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// All passed.
    Passed,
    /// A fault of farm itself.
    Fault,
    /// Wrong usage or bad input.
    Usage,
    /// New hits, missed hits or failed workloads.
    Hits,
    /// A kernel did not build.
    BuildFailed,
    /// A kernel did not boot.
    BootFailed,
    /// Trouble of the farm's own: QEMU died, disk full, no network.
    Infra,
    /// Nothing ran: all skipped, or nothing to run.
    NothingRan,
    /// The steps did too little for a green result to mean anything.
    Ineffective,
    /// Something was longer than its wall limit.
    TimedOut,
    /// A question has no answer yet, or what should have been the same in every life was not.
    NoAnswer,
    /// The user stopped it.
    Interrupted,
    /// To `git bisect run`, which was asked for: a commit is bad, cannot be told, or the bisection is to stop.
    GitBad,
    GitCannotTell,
    GitStop,
}

impl ExitCode {
    /// The order in which codes win when several apply.
    const BY_WEIGHT: [Self; 12] = [
        Self::Interrupted,
        Self::Fault,
        Self::Usage,
        Self::Infra,
        Self::Hits,
        Self::TimedOut,
        Self::BootFailed,
        Self::BuildFailed,
        Self::Ineffective,
        Self::NoAnswer,
        Self::NothingRan,
        Self::Passed,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Fault => 1,
            Self::Usage => 2,
            Self::Hits => 100,
            Self::BuildFailed => 101,
            Self::BootFailed => 102,
            Self::Infra => 103,
            Self::NothingRan => 104,
            Self::Ineffective => 105,
            Self::TimedOut => 106,
            Self::NoAnswer => 107,
            Self::Interrupted => 130,
            Self::GitBad => 1,
            Self::GitCannotTell => 125,
            Self::GitStop => 128,
        }
    }

    fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Hit | Verdict::Missed | Verdict::WorkloadFailed => Self::Hits,
            Verdict::Ineffective => Self::Ineffective,
            Verdict::TimedOut => Self::TimedOut,
            Verdict::BootFailed => Self::BootFailed,
            Verdict::BuildFailed => Self::BuildFailed,
            Verdict::Skipped => Self::NothingRan,
            Verdict::Infra => Self::Infra,
        }
    }

    /// The one of the two that counts.
    pub fn or(self, other: Self) -> Self {
        let both = [self, other];
        Self::BY_WEIGHT.into_iter().find(|code| both.contains(code)).unwrap_or(self)
    }

    /// What this is to `git bisect run` (git-bisect(1)), where it was not the lives that told.
    pub fn to_git(self) -> Self {
        match self {
            Self::BuildFailed | Self::BootFailed | Self::Ineffective | Self::TimedOut => Self::GitCannotTell,
            Self::Interrupted => Self::Interrupted,
            _ => Self::GitStop,
        }
    }

    /// The code of a run with these verdicts. Skipped lives beside others don't change it.
    pub fn of_verdicts(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        let ran: Vec<_> =
            verdicts.into_iter().filter(|v| *v != Verdict::Skipped).map(Self::of_verdict).collect();
        Self::BY_WEIGHT.into_iter().find(|code| ran.contains(code)).unwrap_or(Self::NothingRan)
    }
}

/// An error and the chain of its sources, outermost first; an error that only repeats its source counts once.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if messages.last() != Some(&message) {
            messages.push(message);
        }
        source = cause.source();
    }
    messages
}

/// Whether what is at the bottom of an error is a disk, or a quota, without room.
pub fn is_full_disk(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What ends a command early, ready to be told: what happened, why, and what mends it.
#[derive(Debug)]
pub struct Failure {
    pub exit: ExitCode,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Takes an error with its chain of sources.
    pub fn of(exit: ExitCode, error: &(dyn Error + 'static)) -> Self {
        let mut causes = chain(error);
        let message = causes.remove(0);
        Self { exit, message, causes, hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_verdict_gives_the_code() {
        use Verdict::{BootFailed, Hit, Infra, Passed, Skipped, TimedOut};
        let table: [(&[Verdict], u8); 8] = [
            (&[], 104),
            (&[Skipped, Skipped], 104),
            (&[Passed], 0),
            (&[Passed, Skipped], 0),
            (&[Passed, Hit, TimedOut], 100),
            (&[TimedOut, BootFailed], 106),
            (&[Hit, Infra], 103),
            (&[BootFailed, Passed], 102),
        ];
        for (verdicts, code) in table {
            assert_eq!(ExitCode::of_verdicts(verdicts.iter().copied()).code(), code, "{verdicts:?}");
        }
    }

    #[test]
    fn every_code_has_a_place_in_the_order() {
        let mut codes: Vec<_> = ExitCode::BY_WEIGHT.iter().map(|c| c.code()).collect();
        assert_eq!(codes, [130, 1, 2, 103, 100, 106, 102, 101, 105, 107, 104, 0]);
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ExitCode::BY_WEIGHT.len());
    }
}
