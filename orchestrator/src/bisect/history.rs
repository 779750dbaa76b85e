//! The commits from a good one to a bad one, and who is whose ancestor.

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

/// What a search looks at, numbered by *place*: at place 0 the good end, behind it the candidates, which are in the bad end and
/// not in the good one, parents before children. The last place is the bad end's.
#[derive(Debug, Clone)]
pub struct History {
    commits: Vec<Commit>,
    /// By the number of the commit; none for a commit that has no place.
    places: Vec<Option<usize>>,
    /// By place. What is in the good end counts as the good end, so it is an ancestor of all.
    ancestors: Vec<FixedBitSet>,
}

impl History {
    /// The place of the good end.
    pub(super) const GOOD: usize = 0;

    /// `parents[n]` are the parents of commit n. Commits that are not in the bad end may be left out, and so may those that
    /// are in the good one, but for itself: `git rev-list --parents good..bad` and the good commit are enough.
    ///
    /// # Errors
    ///
    /// What the list lacks to be a history from the good commit to the bad one.
    pub fn new(parents: &[Vec<usize>], good: Commit, bad: Commit) -> Result<Self, HistoryError> {
        let count = parents.len();
        let mut named = parents.iter().flatten().chain([&good.0, &bad.0]);
        if let Some(stranger) = named.find(|number| **number >= count) {
            return Err(HistoryError::NoSuchCommit(*stranger, count));
        }
        if good == bad {
            return Err(HistoryError::Same);
        }
        let order = parents_first(parents)?;
        let [in_good, in_bad] = [good, bad].map(|end| {
            let mut within = FixedBitSet::with_capacity(count);
            within.insert(end.0);
            for number in order.iter().rev() {
                if within.contains(*number) {
                    within.extend(parents[*number].iter().copied());
                }
            }
            within
        });
        if !in_bad.contains(good.0) {
            return Err(HistoryError::GoodIsNoAncestor);
        }
        let is_candidate = |number: &usize| in_bad.contains(*number) && !in_good.contains(*number);
        let candidates = order.iter().copied().filter(is_candidate).map(Commit);
        let commits: Vec<Commit> = std::iter::once(good).chain(candidates).collect();
        let mut places = vec![None; count];
        for (place, commit) in commits.iter().enumerate() {
            places[commit.0] = Some(place);
        }
        let place_or_good = |parent: &usize| places[*parent].unwrap_or(Self::GOOD);
        let mut ancestors: Vec<FixedBitSet> = Vec::with_capacity(commits.len());
        ancestors.push([Self::GOOD].into_iter().collect());
        ancestors[Self::GOOD].grow(commits.len());
        for (place, commit) in commits.iter().enumerate().skip(1) {
            let mut all = ancestors[Self::GOOD].clone();
            for parent in parents[commit.0].iter().map(place_or_good) {
                all.union_with(&ancestors[parent]);
            }
            all.insert(place);
            ancestors.push(all);
        }
        Ok(Self { commits, places, ancestors })
    }

    pub fn good(&self) -> Commit {
        self.commits[Self::GOOD]
    }

    pub fn bad(&self) -> Commit {
        self.commits[self.commits.len() - 1]
    }

    /// The commits that may have brought the bug, parents before children; the last one is the bad end.
    pub fn candidates(&self) -> &[Commit] {
        &self.commits[1..]
    }

    /// The good end and the candidates.
    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn place(&self, commit: Commit) -> Option<usize> {
        self.places.get(commit.0).copied().flatten()
    }

    pub(super) fn commit(&self, place: usize) -> Commit {
        self.commits[place]
    }

    /// Itself included.
    pub(super) fn ancestors(&self, place: usize) -> &FixedBitSet {
        &self.ancestors[place]
    }

    /// Itself included.
    pub(super) fn descendants(&self, place: usize) -> FixedBitSet {
        let mut descendants = FixedBitSet::with_capacity(self.len());
        descendants.extend((place..self.len()).filter(|other| self.ancestors[*other].contains(place)));
        descendants
    }

    /// How many commits are in one of the two and not in the other.
    pub(super) fn distance(&self, one: usize, other: usize) -> usize {
        self.ancestors[one].symmetric_difference_count(&self.ancestors[other])
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
