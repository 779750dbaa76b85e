//! Which lives recheck what a life found. Pure: the dispatcher asks, and lets them live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Assignment, Guest};
use crate::detect::Fingerprint;
use crate::event::What;
use crate::machine::Qemu;
use crate::plan::{CellId, LifeId, Setting};
use crate::store::RecheckOf;

/// Lives whose hits are rechecked in one run. Findings come from few bugs, and each recheck is some lives' time: a run
/// that meets more is not helped by more of them.
const MOST_RECHECKED: u32 = 8;

/// How new hits are run again.
#[derive(Debug, Clone)]
pub struct Rechecks {
    /// Under each setting.
    pub lives: u32,
    /// Each with the QEMU that it runs on.
    pub settings: Vec<(Setting, Qemu)>,
}

/// What of a life matters for its recheck.
pub(super) struct Found {
    pub(super) life: LifeId,
    pub(super) name: String,
    /// New hits: fingerprint and title.
    pub(super) findings: Vec<(Fingerprint, String)>,
    /// The others.
    pub(super) foreseen: Vec<(Fingerprint, String)>,
}

/// Keeps what has been rechecked, and how often each cell has lived.
pub(super) struct Rechecker {
    lived: HashMap<CellId, u32>,
    known: HashSet<Fingerprint>,
    rechecked: u32,
}

impl Rechecker {
    /// For a run in which each of `cells` lives `repeat` times anyway.
    pub(super) fn new(cells: impl Iterator<Item = CellId>, repeat: u32) -> Self {
        Self { lived: cells.map(|cell| (cell, repeat)).collect(), known: HashSet::new(), rechecked: 0 }
    }

    /// The lives that recheck what was found, and the word that they are begun; nothing where all of it has been
    /// rechecked, or enough has been.
    pub(super) fn recheck(
        &mut self,
        rechecks: &Rechecks,
        assignment: &Assignment,
        found: Found,
    ) -> Option<(What, Vec<(LifeId, Assignment)>)> {
        let Ok(guest) = &assignment.guest else { return None };
        if rechecks.settings.is_empty() {
            return None;
        }
        let titles = self.admit(found.findings)?;
        let assignments: Vec<Assignment> =
            rechecks.settings.iter().map(|setting| under(setting, assignment, guest, found.life)).collect();
        // Not setting by setting, so that a run that is stopped early has seen them all.
        let lives: Vec<_> = (0..rechecks.lives)
            .flat_map(|_| &assignments)
            .map(|assignment| {
                let number = self.lived.entry(assignment.cell.id).or_default();
                *number += 1;
                (LifeId { cell: assignment.cell.id, number: *number }, assignment.clone())
            })
            .collect();
        let begun = What::RecheckBegun {
            life: found.life,
            name: found.name,
            titles,
            settings: rechecks.settings.iter().map(|(setting, _)| setting.to_string()).collect(),
            lives: u32::try_from(lives.len()).unwrap_or(u32::MAX),
        };
        Some((begun, lives))
    }

    /// The titles of those that no life has been rechecked for yet, if there are any and there is room.
    fn admit(&mut self, findings: Vec<(Fingerprint, String)>) -> Option<Vec<String>> {
        let fresh: Vec<_> =
            findings.into_iter().filter(|(finding, _)| !self.known.contains(finding)).collect();
        if fresh.is_empty() || self.rechecked == MOST_RECHECKED {
            return None;
        }
        self.rechecked += 1;
        let (findings, titles): (Vec<_>, Vec<_>) = fresh.into_iter().unzip();
        self.known.extend(findings);
        Some(titles)
    }
}

fn under(
    (setting, qemu): &(Setting, Qemu),
    assignment: &Assignment,
    guest: &Guest,
    life: LifeId,
) -> Assignment {
    Assignment {
        cell: Arc::new(assignment.cell.under(setting)),
        guest: Ok(Arc::new(Guest { qemu: qemu.clone(), ..guest.clone() })),
        at_least: 1,
        recheck_of: Some(RecheckOf { life, setting: setting.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;

    fn findings(symbols: &[&str]) -> Vec<(Fingerprint, String)> {
        symbols.iter().map(|symbol| Hit::hang(symbol)).map(|hit| (hit.fingerprint, hit.title)).collect()
    }

    fn titles(symbols: &[&str]) -> Option<Vec<String>> {
        Some(findings(symbols).into_iter().map(|(_, title)| title).collect())
    }

    #[test]
    fn a_finding_is_rechecked_once_and_not_too_many_are() {
        let mut rechecker = Rechecker::new(std::iter::empty(), 1);
        assert_eq!(rechecker.admit(findings(&[])), None);
        assert_eq!(rechecker.admit(findings(&["a"])), titles(&["a"]));
        assert_eq!(rechecker.admit(findings(&["a"])), None);
        assert_eq!(
            rechecker.admit(findings(&["a", "b", "c"])),
            titles(&["b", "c"]),
            "what is known is not told anew"
        );
        for symbol in ["d", "e", "f", "g", "h", "i"] {
            assert_eq!(rechecker.admit(findings(&[symbol])), titles(&[symbol]));
        }
        assert_eq!(rechecker.admit(findings(&["j"])), None, "the ninth life");
    }
}
