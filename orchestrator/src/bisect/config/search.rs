//! What is wanted next, computed from all that is known.

use std::collections::BTreeSet;

use serde::Serialize;

use super::least::{Answer, least};
use super::{Change, Changes, Difference, Known, Request, Sampling, Tally};

/// What the search wants of its caller, who puts the answer into [`Known`] and asks again.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// What `olddefconfig` makes of the request.
    Settle(Request),
    /// Trials of the configuration that the request came to, so many at most: a hit may end them.
    Try {
        request: Request,
        changes: Changes,
        trials: u32,
    },
    Done(Verdict),
}

/// What a search comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Found(Found),
    /// Both configurations are the same.
    NoDifference,
    /// The bad configuration showed nothing.
    BadIsClean,
    /// The good configuration shows it.
    GoodHits,
    /// One of the two does not build or boot, or its trials tell nothing.
    Unresolved,
}

/// The least set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Without any one of these the others show nothing.
    pub causes: Vec<Change>,
    /// Without these the causes can't be set.
    pub dragged: Vec<Change>,
    /// Nothing can be told without any one of these.
    pub unclear: Vec<Change>,
    /// All that the configuration has other than the good one, what follows from the causes included.
    pub changes: Changes,
    /// What is asked for of `olddefconfig`.
    #[serde(skip)]
    pub request: Request,
    /// The chance that one of the causes is none: that it shows without it too, and did not by luck.
    pub wrong_at_most: f64,
}

/// What is not known yet.
#[derive(Debug)]
enum Lack {
    Settled(Request),
    Trial { request: Request, changes: Changes, trials: u32 },
}

/// Looks into the facts.
struct Search<'a> {
    difference: &'a Difference,
    known: &'a Known,
    sampling: Sampling,
    /// Members of the search, in their order.
    order: Vec<usize>,
}

/// How often something is called good at most, or nearly: the search for three options and their removal.
fn decisions(members: usize) -> u32 {
    3 * (members.max(1).ilog2() + 1) + 6
}

pub fn next(difference: &Difference, known: &Known, sampling: Sampling) -> Next {
    let order = difference.settable().to_vec();
    let search = Search { difference, known, sampling, order };
    match search.verdict() {
        Ok(verdict) => Next::Done(verdict),
        Err(Lack::Settled(request)) => Next::Settle(request),
        Err(Lack::Trial { request, changes, trials }) => Next::Try { request, changes, trials },
    }
}

impl Search<'_> {
    fn verdict(mut self) -> Result<Verdict, Lack> {
        if self.difference.changes().is_empty() {
            return Ok(Verdict::NoDifference);
        }
        let mut all: Request = self.order.iter().copied().collect();
        if *self.settled(&all)? != self.difference.all() {
            // An option that seemed to follow from others is one to set.
            self.order = (0..self.difference.changes().len()).collect();
            all = self.order.iter().copied().collect();
        }
        let bad = self.measured(&all)?;
        if bad.unresolved > 0 {
            return Ok(Verdict::Unresolved);
        }
        if bad.hits == 0 {
            return Ok(Verdict::BadIsClean);
        }
        match self.answer(&Request::new(), &[bad])? {
            Answer::Yes => return Ok(Verdict::GoodHits),
            Answer::Unclear => return Ok(Verdict::Unresolved),
            Answer::No => {}
        }
        let found = least(&self.order, &mut |found, set| {
            let request = set.union(&self.enabling(found)?).copied().collect();
            self.answer(&request, &[bad])
        })?;
        let request: Request = found.union(&self.enabling(&found)?).copied().collect();
        self.reduced(request, bad).map(Verdict::Found)
    }

    fn settled(&self, request: &Request) -> Result<&Changes, Lack> {
        self.known.settled(request).ok_or_else(|| Lack::Settled(request.clone()))
    }

    /// What else must be asked for so that all of these have their bad value. No trial is needed for that.
    fn enabling(&self, wanted: &BTreeSet<usize>) -> Result<BTreeSet<usize>, Lack> {
        let others: Vec<usize> = self.order.iter().copied().filter(|one| !wanted.contains(one)).collect();
        least(&others, &mut |_, set| {
            let changes = self.settled(&wanted.union(set).copied().collect())?;
            let hold = wanted.iter().all(|one| self.difference.holds(*one, changes));
            Ok(if hold { Answer::Yes } else { Answer::No })
        })
    }

    /// The trials of a bad configuration, when they are enough to say how often it shows it.
    fn measured(&self, request: &Request) -> Result<Tally, Lack> {
        let changes = self.settled(request)?;
        let tally = self.known.tally(changes);
        if tally.unresolved > 0 || self.sampling.is_measured(tally) {
            return Ok(tally);
        }
        let trials = self.sampling.left_to_measure(tally);
        Err(Lack::Trial { request: request.clone(), changes: changes.clone(), trials })
    }

    /// Whether the configuration is bad: good is one that showed nothing in as many trials as the rarest of the measured ones
    /// calls for.
    fn answer(&self, request: &Request, measured: &[Tally]) -> Result<Answer, Lack> {
        let changes = self.settled(request)?;
        let tally = self.known.tally(changes);
        if tally.hits > 0 {
            return Ok(Answer::Yes);
        }
        if tally.unresolved > 0 {
            return Ok(Answer::Unclear);
        }
        let decisions = decisions(self.order.len());
        let enough = measured.iter().map(|rate| self.sampling.clean_trials(*rate, decisions)).max();
        let trials = enough.unwrap_or(1).saturating_sub(tally.clean);
        if trials == 0 {
            return Ok(Answer::No);
        }
        Err(Lack::Trial { request: request.clone(), changes: changes.clone(), trials })
    }

    /// Takes away what is not needed of all that has changed, one after the other.
    ///
    /// Those come first that others are selected by, or depend on nothing else: so that of a selecting option and a selected
    /// one that could be set alone, the latter is the cause.
    fn reduced(&self, request: Request, bad: Tally) -> Result<Found, Lack> {
        let goal = self.settled(&request)?.clone();
        let changed = |one: &usize| {
            let change = &self.difference.changes()[*one];
            goal.get(&change.option) == Some(&change.bad)
        };
        let mut kept: Request = self.order.iter().copied().filter(changed).collect();
        if *self.settled(&kept)? != goal {
            kept = request;
        }
        // It may show it less often than the bad configuration does.
        let here = self.measured(&kept)?;
        let rates = [bad, here];
        loop {
            let (mut causes, mut dragged, mut unclear) = (Request::new(), Request::new(), Request::new());
            let (mut fewer, mut luck) = (false, 0.0);
            for one in self.order.iter().rev() {
                if !kept.contains(one) {
                    continue;
                }
                let mut less = kept.clone();
                less.remove(one);
                let changes = self.settled(&less)?;
                if changes == self.settled(&kept)? {
                    // It follows from others, and may not any more without one of those.
                    kept = less;
                    fewer = true;
                } else {
                    // That a cause goes with it does not say that nothing is shown without both.
                    let is_lost = causes.iter().any(|cause| !self.difference.holds(*cause, changes));
                    match self.answer(&less, &rates)? {
                        Answer::Yes => {
                            kept = less;
                            fewer = true;
                        }
                        Answer::No if is_lost => drop(dragged.insert(*one)),
                        Answer::No => {
                            luck += self.luck(changes, &rates);
                            causes.insert(*one);
                        }
                        Answer::Unclear => drop(unclear.insert(*one)),
                    }
                }
            }
            // What was needed beside one that is gone may not be any more.
            if !fewer {
                let changes = self.settled(&kept)?.clone();
                let [causes, dragged, unclear] = [causes, dragged, unclear].map(|set| self.named(&set));
                return Ok(Found { causes, dragged, unclear, changes, request: kept, wrong_at_most: luck });
            }
        }
    }

    fn named(&self, set: &Request) -> Vec<Change> {
        set.iter().map(|one| self.difference.changes()[*one].clone()).collect()
    }

    /// The chance that a bad configuration would have shown as little. The others that were called good by luck don't
    /// count: the search then goes a longer way, and ends where it would have.
    fn luck(&self, changes: &Changes, rates: &[Tally]) -> f64 {
        let clean = self.known.tally(changes).clean;
        rates.iter().map(|rate| self.sampling.chance_of_luck(*rate, clean)).fold(0.0, f64::max)
    }
}
