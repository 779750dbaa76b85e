//! A search: lives without end, until there is enough. Most of them pass and are only counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recheck::Found;
use super::{Assignment, micros_since};
use crate::plan::{Cell, LifeId, SearchPlan};
use crate::scenario::Catalog;
use crate::store::{SearchAsked, SearchRecord, SearchTally};
use crate::verdict::Verdict;

/// When a search has found or lived enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// A life ends with a new hit, or with failed work.
    Hit,
    /// So many lives have been lived.
    Lives(u64),
    /// So much time is over; what runs then comes to its end.
    Time(Duration),
}

/// What to search from the cells that are asked for, and for how long.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub asked: SearchAsked,
    pub until: Until,
    /// What can be varied.
    pub catalog: Catalog,
}

/// Lives that are kept of one finding, or of one verdict without any: more tell nothing new.
const MOST_KEPT_OF_A_KIND: u32 = 16;
/// Lives that are kept in all, since a guest can make up as many findings as it likes.
const MOST_KEPT: u64 = 1000;

pub(super) struct Search {
    plan: SearchPlan,
    until: Until,
    /// What the plan's cells run on, in its order.
    assignments: Vec<Assignment>,
    began: Instant,
    begun: u64,
    tally: SearchTally,
    kept_of_a_kind: BTreeMap<String, u32>,
}

/// What becomes of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its directory stays.
    Kept,
    /// It has been counted, and that is all.
    Counted,
}

impl Search {
    /// Each of the assignments has a guest; without any there is nothing to search.
    pub(super) fn new(request: &SearchRequest, assignments: Vec<Assignment>) -> Self {
        let cells = assignments.iter().map(|assignment| Cell::clone(&assignment.cell)).collect();
        Self {
            plan: SearchPlan::new(request.asked.seed, cells, request.catalog.clone()),
            until: request.until,
            assignments,
            began: Instant::now(),
            begun: 0,
            tally: SearchTally::default(),
            kept_of_a_kind: BTreeMap::new(),
        }
    }

    pub(super) fn until(&self) -> Until {
        self.until
    }

    /// The next life, if there is to be one.
    pub(super) fn next(&mut self) -> Option<(LifeId, Assignment)> {
        let enough = match self.until {
            Until::Hit => self.tally.found > 0,
            Until::Lives(lives) => self.begun >= lives,
            Until::Time(time) => self.began.elapsed() >= time,
        };
        if enough || self.assignments.is_empty() {
            return None;
        }
        let (base, cell) = self.plan.draw(self.begun);
        self.begun += 1;
        let life = LifeId { cell: cell.id, number: 1 };
        Some((life, Assignment { cell: Arc::new(cell), ..self.assignments[base].clone() }))
    }

    /// Counts a life that is over.
    pub(super) fn count(&mut self, verdict: Verdict, found: &Found) -> Fate {
        let tally = &mut self.tally;
        *tally.verdicts.entry(verdict).or_default() += 1;
        if verdict.is_finding() {
            tally.found += 1;
        }
        if verdict == Verdict::Passed {
            return Fate::Counted;
        }
        for (fingerprint, title) in &found.findings {
            let fingerprint = fingerprint.to_string();
            if tally.findings.len() as u64 >= MOST_KEPT && !tally.findings.contains_key(&fingerprint) {
                continue;
            }
            let finding = tally.findings.entry(fingerprint).or_default();
            finding.title.clone_from(title);
            finding.lives += 1;
        }
        let mut kinds: Vec<String> =
            found.findings.iter().map(|(fingerprint, _)| fingerprint.to_string()).collect();
        if kinds.is_empty() {
            kinds.push(verdict.to_string());
        }
        let rare = kinds
            .iter()
            .any(|kind| self.kept_of_a_kind.get(kind).is_none_or(|kept| *kept < MOST_KEPT_OF_A_KIND));
        if !rare || tally.kept >= MOST_KEPT {
            return Fate::Counted;
        }
        for kind in kinds {
            *self.kept_of_a_kind.entry(kind).or_default() += 1;
        }
        tally.kept += 1;
        Fate::Kept
    }

    pub(super) fn record(&self) -> SearchRecord {
        SearchRecord { wall_us: micros_since(self.began), tally: self.tally.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;

    fn search() -> Search {
        let asked = SearchAsked { until: "hit".to_owned(), seed: 1 };
        let request = SearchRequest { asked, until: Until::Hit, catalog: Catalog::embedded().unwrap() };
        Search::new(&request, Vec::new())
    }

    fn found(symbols: &[&str]) -> Found {
        let findings = symbols.iter().map(|symbol| Hit::hang(symbol)).map(|hit| (hit.fingerprint, hit.title));
        let life = LifeId { cell: "00000000000000aa".parse().unwrap(), number: 1 };
        Found { life, name: String::new(), findings: findings.collect() }
    }

    #[test]
    fn what_passed_is_counted_and_of_a_finding_the_first_lives_are_kept() {
        let mut search = search();
        let fates = |search: &mut Search, verdict, symbols: &[&str], lives: u32| {
            let fates = (0..lives).map(|_| search.count(verdict, &found(symbols)));
            fates.filter(|fate| *fate == Fate::Kept).count()
        };
        assert_eq!(fates(&mut search, Verdict::Passed, &[], 30), 0);
        assert_eq!(fates(&mut search, Verdict::Hit, &["a"], 30), 16);
        assert_eq!(fates(&mut search, Verdict::Hit, &["a", "b"], 1), 1, "b is new");
        assert_eq!(fates(&mut search, Verdict::WorkloadFailed, &[], 30), 16);
        assert_eq!(fates(&mut search, Verdict::Infra, &[], 3), 3);
        let SearchTally { verdicts, found, kept, findings } = search.record().tally;
        assert_eq!(verdicts[&Verdict::Hit], 31);
        assert_eq!((found, kept), (61, 36), "trouble of farm's own is kept, and is no finding");
        let lives: Vec<u64> = findings.values().map(|finding| finding.lives).collect();
        assert_eq!(lives, [31, 1]);
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_a_guest_makes_up() {
        let mut search = search();
        let kept = (0..1100).filter(|number| {
            search.count(Verdict::Hit, &found(&[&format!("made_up_{number}")])) == Fate::Kept
        });
        assert_eq!(kept.count(), 1000);
    }
}
