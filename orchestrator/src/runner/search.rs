//! A search: lives without end, until there is enough. Most of them pass and are only counted.

use std::collections::{BTreeMap, BTreeSet};
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
/// Lives that are kept in all, and findings that are counted, since a guest can make up as many as it likes.
const MOST_KEPT: u64 = 256;
const MOST_FINDINGS: usize = 1000;
/// So many lives in a row that end in trouble of farm's own are no chance.
const MOST_TROUBLES: u32 = 20;

pub(super) struct Search {
    plan: SearchPlan,
    until: Until,
    /// What the plan's cells run on, in its order.
    assignments: Vec<Assignment>,
    began: Instant,
    begun: u64,
    tally: SearchTally,
    kept_of_a_kind: BTreeMap<String, u32>,
    /// Lives in a row that ended in trouble of farm's own.
    troubles: u32,
}

/// What follows from a life.
pub(super) struct Counted {
    pub(super) fate: Fate,
    /// It is what the search was for.
    pub(super) found: bool,
    /// It makes no sense to go on.
    pub(super) in_vain: bool,
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
            troubles: 0,
        }
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
    pub(super) fn count(&mut self, verdict: Verdict, found: &Found) -> Counted {
        *self.tally.verdicts.entry(verdict).or_default() += 1;
        self.troubles = if verdict == Verdict::Infra { self.troubles + 1 } else { 0 };
        let judged = !matches!(verdict, Verdict::Infra | Verdict::Skipped);
        // A kernel can complain before it is ready, and then has not booted.
        let is_finding = judged && (!found.findings.is_empty() || verdict == Verdict::WorkloadFailed);
        if is_finding {
            self.tally.found += 1;
            self.tally_findings(found);
        }
        Counted {
            fate: self.fate(verdict, found),
            found: is_finding && self.until == Until::Hit,
            in_vain: self.troubles >= MOST_TROUBLES,
        }
    }

    fn tally_findings(&mut self, found: &Found) {
        let findings = &mut self.tally.findings;
        // A life may meet one finding several times.
        let met: BTreeMap<String, &String> =
            found.findings.iter().map(|(fingerprint, title)| (fingerprint.to_string(), title)).collect();
        for (fingerprint, title) in met {
            if findings.len() >= MOST_FINDINGS && !findings.contains_key(&fingerprint) {
                continue;
            }
            let finding = findings.entry(fingerprint).or_default();
            finding.title.clone_from(title);
            finding.lives += 1;
        }
    }

    fn fate(&mut self, verdict: Verdict, found: &Found) -> Fate {
        let tally = &mut self.tally;
        if matches!(verdict, Verdict::Passed | Verdict::Skipped) {
            return Fate::Counted;
        }
        let mut kinds: BTreeSet<String> =
            found.findings.iter().map(|(fingerprint, _)| fingerprint.to_string()).collect();
        if kinds.is_empty() {
            kinds.insert(verdict.to_string());
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
        Found { life, name: String::new(), findings: findings.collect(), foreseen: Vec::new() }
    }

    /// How many of so many lives are kept.
    fn kept(search: &mut Search, verdict: Verdict, symbols: &[&str], lives: u32) -> usize {
        let fates = (0..lives).map(|_| search.count(verdict, &found(symbols)).fate);
        fates.filter(|fate| *fate == Fate::Kept).count()
    }

    #[test]
    fn what_passed_is_counted_and_of_a_finding_the_first_lives_are_kept() {
        let mut search = search();
        assert_eq!(kept(&mut search, Verdict::Passed, &[], 30), 0);
        assert_eq!(kept(&mut search, Verdict::Hit, &["a"], 30), 16);
        assert_eq!(
            kept(&mut search, Verdict::Hit, &["a", "b", "a"], 1),
            1,
            "b is new, and a life is counted once"
        );
        assert_eq!(kept(&mut search, Verdict::WorkloadFailed, &[], 30), 16);
        assert_eq!(kept(&mut search, Verdict::BootFailed, &["b"], 1), 1);
        assert_eq!(kept(&mut search, Verdict::Infra, &["b"], 3), 3);
        assert_eq!(kept(&mut search, Verdict::Skipped, &[], 3), 0, "they were ended");
        let SearchTally { verdicts, found, kept, findings } = search.record().tally;
        assert_eq!(verdicts[&Verdict::Hit], 31);
        assert_eq!((found, kept), (62, 37), "trouble of farm's own is kept, and is no finding");
        let lives: Vec<u64> = findings.values().map(|finding| finding.lives).collect();
        assert_eq!(lives, [31, 2]);
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_a_guest_makes_up() {
        let mut search = search();
        let kept =
            (0..1100).map(|number| kept(&mut search, Verdict::Hit, &[&format!("made_up_{number}")], 1));
        assert_eq!(kept.sum::<usize>(), 256);
        assert_eq!(search.record().tally.findings.len(), 1000);
    }

    #[test]
    fn a_search_ends_with_its_first_finding_or_if_nothing_works() {
        let ends = |search: &mut Search, verdict, symbols: &[&str]| {
            let Counted { found, in_vain, .. } = search.count(verdict, &found(symbols));
            (found, in_vain)
        };
        let mut search = search();
        assert_eq!(ends(&mut search, Verdict::Passed, &[]), (false, false));
        assert_eq!(ends(&mut search, Verdict::BootFailed, &[]), (false, false));
        assert_eq!(
            ends(&mut search, Verdict::BootFailed, &["a"]),
            (true, false),
            "it complained while it booted"
        );
        assert_eq!(ends(&mut search, Verdict::WorkloadFailed, &[]), (true, false));
        for _ in 0..19 {
            assert_eq!(ends(&mut search, Verdict::Infra, &["a"]), (false, false));
        }
        assert_eq!(ends(&mut search, Verdict::Infra, &[]), (false, true));
        assert_eq!(ends(&mut search, Verdict::Passed, &[]), (false, false), "it works again");
    }
}
