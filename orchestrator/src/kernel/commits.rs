//! Commits of a user's repository, which is only read.

use camino::Utf8Path;

use super::KernelError;
use super::git::{self, Commit};
use super::tree::MARKS;

/// Commits from a good one to a bad one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub good: Commit,
    /// All that are in the bad one and not in the good one, parents before children; the bad one is the last.
    pub between: Vec<Commit>,
}

impl Commit {
    /// As kernel developers write it.
    pub fn short(&self) -> &str {
        &self.id[..self.id.len().min(12)]
    }
}

impl Range {
    /// Refuses words that name no commit, and ends of which the one does not lead to the other.
    pub fn new(directory: &Utf8Path, good: &str, bad: &str) -> Result<Self, KernelError> {
        if git::of_user(directory)?.is_none() {
            return Err(KernelError::NoRepository { path: directory.to_owned() });
        }
        let commit = |word: &str| -> Result<Commit, KernelError> {
            let unknown = || KernelError::NoCommit { what: word.to_owned(), tree: directory.to_owned() };
            let id = git::commit(directory, word)?.ok_or_else(unknown)?;
            git::described(directory, &id)?.ok_or_else(unknown)
        };
        let (good, bad) = (commit(good)?, commit(bad)?);
        if good == bad {
            return Err(KernelError::SameCommit { id: good.short().to_owned() });
        }
        let common = git::common(directory, &good.id, &bad.id)?;
        if common.as_ref() != Some(&good.id) {
            let (good, bad) = (good.short().to_owned(), bad.short().to_owned());
            return Err(KernelError::NotBefore { good, bad, common });
        }
        let between = git::between(directory, &good.id, &bad.id)?;
        Ok(Self { good, between })
    }

    /// Refuses ends that are no kernel trees, whatever is checked out.
    pub fn check_are_kernels(&self, directory: &Utf8Path) -> Result<(), KernelError> {
        for end in [Some(&self.good), self.between.last()].into_iter().flatten() {
            for missing in MARKS {
                if !git::holds(directory, &end.id, missing)? {
                    return Err(KernelError::NoSources { path: directory.to_owned(), missing });
                }
            }
        }
        Ok(())
    }
}
