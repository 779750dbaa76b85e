//! The commits between a good one and a bad one, and who is whose ancestor.

use fixedbitset::FixedBitSet;
use thiserror::Error;

/// A commit by its number in the list that [`History::new`] was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit(pub usize);

/// Why a list of commits is no history to search.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HistoryError {
    #[error("commit {0} is not in the list, which has {1}")]
    NoSuchCommit(usize, usize),
    #[error("commit {} is an ancestor of itself", .0.0)]
    Cycle(Commit),
    #[error("the good commit is the bad one")]
    Same,
    #[error("the good commit is not an ancestor of the bad one")]
    GoodIsNoAncestor,
}

/// The candidates, commits that are in the bad end and not in the good one, numbered by their *place*: parents before children.
#[derive(Debug, Clone)]
pub struct History {
    good: Commit,
    bad: Commit,
    /// By place.
    candidates: Vec<Commit>,
    /// By the number of the commit; none for a commit that is no candidate.
    places: Vec<Option<usize>>,
    /// By place: the places of the parents that are candidates.
    parents: Vec<Vec<usize>>,
    /// By place: the places of all ancestors, itself included.
    ancestors: Vec<FixedBitSet>,
}

impl History {
    /// `parents[n]` are the parents of commit n. Commits that are neither in the bad end nor the good one may be left out, and
    /// so may parents that are in the good one: `git rev-list --parents good..bad` and the good commit are enough.
    ///
    /// # Errors
    ///
    /// What the list lacks to be a history from the good commit to the bad one.
    pub fn new(parents: &[Vec<usize>], good: Commit, bad: Commit) -> Result<Self, HistoryError> {
        let count = parents.len();
        let named = parents.iter().flatten().chain([&good.0, &bad.0]);
        if let Some(stranger) = named.copied().find(|number| *number >= count) {
            return Err(HistoryError::NoSuchCommit(stranger, count));
        }
        if good == bad {
            return Err(HistoryError::Same);
        }
        let order = parents_first(parents)?;
        let mut in_good = FixedBitSet::with_capacity(count);
        let mut in_bad = FixedBitSet::with_capacity(count);
        in_good.insert(good.0);
        in_bad.insert(bad.0);
        for number in order.iter().rev() {
            for parent in &parents[*number] {
                for side in [&mut in_good, &mut in_bad] {
                    if side.contains(*number) {
                        side.insert(*parent);
                    }
                }
            }
        }
        if !in_bad.contains(good.0) {
            return Err(HistoryError::GoodIsNoAncestor);
        }
        let is_candidate = |number: &usize| in_bad.contains(*number) && !in_good.contains(*number);
        let candidates: Vec<Commit> = order.iter().copied().filter(is_candidate).map(Commit).collect();
        let mut places = vec![None; count];
        for (place, commit) in candidates.iter().enumerate() {
            places[commit.0] = Some(place);
        }
        let parents: Vec<Vec<usize>> = candidates
            .iter()
            .map(|commit| parents[commit.0].iter().filter_map(|parent| places[*parent]).collect())
            .collect();
        let mut ancestors: Vec<FixedBitSet> = Vec::with_capacity(candidates.len());
        for (place, parents) in parents.iter().enumerate() {
            let mut of_this = FixedBitSet::with_capacity(candidates.len());
            parents.iter().for_each(|parent| of_this.union_with(&ancestors[*parent]));
            of_this.insert(place);
            ancestors.push(of_this);
        }
        Ok(Self { good, bad, candidates, places, parents, ancestors })
    }

    pub fn good(&self) -> Commit {
        self.good
    }

    pub fn bad(&self) -> Commit {
        self.bad
    }

    /// The commits that may have brought the bug, parents before children; the last one is the bad end.
    pub fn candidates(&self) -> &[Commit] {
        &self.candidates
    }

    pub(super) fn place(&self, commit: Commit) -> Option<usize> {
        self.places.get(commit.0).copied().flatten()
    }

    pub(super) fn parents(&self, place: usize) -> &[usize] {
        &self.parents[place]
    }

    /// Itself included.
    pub(super) fn ancestors(&self, place: usize) -> &FixedBitSet {
        &self.ancestors[place]
    }
}

/// All commits, parents before children; among those that are free, in the order of the list.
fn parents_first(parents: &[Vec<usize>]) -> Result<Vec<usize>, HistoryError> {
    let mut children = vec![Vec::new(); parents.len()];
    let mut missing: Vec<usize> = parents.iter().map(Vec::len).collect();
    for (number, parents) in parents.iter().enumerate() {
        parents.iter().for_each(|parent| children[*parent].push(number));
    }
    let mut order: Vec<usize> = (0..parents.len()).filter(|number| missing[*number] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        for child in &children[order[next]] {
            missing[*child] -= 1;
            if missing[*child] == 0 {
                order.push(*child);
            }
        }
        next += 1;
    }
    match missing.iter().position(|missing| *missing > 0) {
        Some(number) => Err(HistoryError::Cycle(Commit(number))),
        None => Ok(order),
    }
}
