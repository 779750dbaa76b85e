//! What a patch changes, by lives of the same cells with it and without it. Pure, from a run's results.
//!
//! For each finding of each cell the lives that *tell* of it are counted on both sides ([`crate::recheck`] says which
//! do). How sure a difference is comes from Fisher's exact test: how often
//! would so many or more of all the hits fall on the one side by chance, if both had the same rate? That is doubled, since
//! either side could have been it. It assumes no rate, and few lives make no strong claim. Each finding is judged by itself; of many
//! that are 95 % sure one in twenty is wrong.
//!
//! A life that shows no hit and does not do its job either (its programs fail, it does not boot, it runs into a limit) says nothing of
//! any finding. So such lives are a row of their own. Whether a hit is one that the scenario expects or knows is of no account here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::detect::Fingerprint;
use crate::error::ExitCode;
use crate::recheck::{Word, word_of};
use crate::store::{LifeRecord, StoredRun};
use crate::verdict::Verdict;

/// What a claim has to be as sure as.
pub const ENOUGH: f64 = 0.95;
/// The title of the row about lives that did not do their job.
const UNDONE: &str = "a life that did not do its job: programs failed, no boot, or a limit";

/// How often one side showed a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Side {
    pub seen: u64,
    /// Lives that tell.
    pub of: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Of the cell, which both kernels have.
    pub label: String,
    /// None: the row is about lives that did not do their job.
    pub fingerprint: Option<Fingerprint>,
    pub title: String,
    pub base: Side,
    pub patched: Side,
    pub change: Change,
}

/// `sure` is from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum Change {
    /// Seen without the patch and not with it.
    Gone {
        sure: f64,
    },
    /// Seen with the patch and not without it.
    New {
        sure: f64,
    },
    /// Seen with both, with it less or more often.
    Rarer {
        sure: f64,
    },
    Commoner {
        sure: f64,
    },
    /// As often with it as without it.
    Same,
    /// One side has no life that tells.
    Unknown,
}

impl Change {
    pub fn is_sure(self) -> bool {
        match self {
            Self::Gone { sure } | Self::New { sure } | Self::Rarer { sure } | Self::Commoner { sure } => {
                sure >= ENOUGH
            }
            Self::Same | Self::Unknown => false,
        }
    }
}

/// All findings of a trial, those that differ most surely first; empty if the run was none.
pub fn compared(run: &StoredRun) -> Vec<Compared> {
    let Some(trial) = &run.record.trial else { return Vec::new() };
    let mut shown: BTreeMap<(&str, &Fingerprint), &str> = BTreeMap::new();
    for life in run.asked_for() {
        for hit in &life.hits {
            let hit = &hit.judged.hit;
            shown.entry((&life.label, &hit.fingerprint)).or_insert(&hit.title);
        }
    }
    let mut all: Vec<Compared> = shown
        .into_iter()
        .map(|((label, fingerprint), title)| {
            let lives = || run.asked_for().filter(|life| life.label == label);
            let base = side(lives().filter(|life| life.kernel.name == trial.base), fingerprint);
            let patched = side(lives().filter(|life| life.kernel.name == trial.patched), fingerprint);
            let change = change(base, patched);
            let (label, title) = (label.to_owned(), title.to_owned());
            Compared { label, fingerprint: Some(fingerprint.clone()), title, base, patched, change }
        })
        .collect();
    let labels: BTreeSet<&str> = run.asked_for().map(|life| life.label.as_str()).collect();
    for label in labels {
        let lives = || run.asked_for().filter(|life| life.label == label);
        let base = undone(lives().filter(|life| life.kernel.name == trial.base));
        let patched = undone(lives().filter(|life| life.kernel.name == trial.patched));
        if base.seen + patched.seen > 0 {
            let (label, title) = (label.to_owned(), UNDONE.to_owned());
            let change = change(base, patched);
            all.push(Compared { label, fingerprint: None, title, base, patched, change });
        }
    }
    let sureness = |compared: &Compared| match compared.change {
        Change::New { sure } | Change::Commoner { sure } => 2.0 + sure,
        Change::Gone { sure } | Change::Rarer { sure } => 1.0 + sure,
        Change::Same | Change::Unknown => 0.0,
    };
    all.sort_by(|a, b| sureness(b).total_cmp(&sureness(a)));
    all
}

/// What the whole says: 100 if the patch brings a hit or makes one more common, 0 if one is gone or rarer for sure and
/// none is worse, 107 if nothing is sure. A worse that is not sure is not passed over: then nothing is.
pub fn exit(run: &StoredRun) -> ExitCode {
    let all = compared(run);
    // What the other side could not tell of may well be worse.
    let worse = |compared: &Compared| match compared.change {
        Change::New { .. } | Change::Commoner { .. } => true,
        Change::Unknown => compared.patched.seen > 0,
        Change::Gone { .. } | Change::Rarer { .. } | Change::Same => false,
    };
    if all.iter().any(|compared| worse(compared) && compared.change.is_sure()) {
        return ExitCode::Hits;
    }
    let better = all.iter().any(|compared| compared.change.is_sure()) && !all.iter().any(worse);
    if better { ExitCode::Passed } else { ExitCode::NoAnswer }
}

fn side<'a>(lives: impl Iterator<Item = &'a LifeRecord>, finding: &Fingerprint) -> Side {
    lives.fold(Side::default(), |side, life| match word_of(life, finding) {
        Word::Seen => Side { seen: side.seen + 1, of: side.of + 1 },
        Word::NotSeen => Side { of: side.of + 1, ..side },
        Word::Nothing => side,
    })
}

/// Lives that did not do their job, of those that could.
fn undone<'a>(lives: impl Iterator<Item = &'a LifeRecord>) -> Side {
    lives.fold(Side::default(), |side, life| match life.verdict {
        Verdict::Infra | Verdict::Skipped => side,
        Verdict::WorkloadFailed
        | Verdict::Ineffective
        | Verdict::TimedOut
        | Verdict::BootFailed
        | Verdict::BuildFailed => Side { seen: side.seen + 1, of: side.of + 1 },
        Verdict::Passed | Verdict::Missed | Verdict::Hit => Side { of: side.of + 1, ..side },
    })
}

fn change(base: Side, patched: Side) -> Change {
    if base.of == 0 || patched.of == 0 {
        return Change::Unknown;
    }
    // By rates, without dividing.
    match (base.seen * patched.of).cmp(&(patched.seen * base.of)) {
        std::cmp::Ordering::Equal => Change::Same,
        std::cmp::Ordering::Greater => {
            let sure = sure(base, patched);
            if patched.seen == 0 { Change::Gone { sure } } else { Change::Rarer { sure } }
        }
        std::cmp::Ordering::Less => {
            let sure = sure(patched, base);
            if base.seen == 0 { Change::New { sure } } else { Change::Commoner { sure } }
        }
    }
}

fn sure(more: Side, less: Side) -> f64 {
    (1.0 - 2.0 * chance(more, less)).max(0.0)
}

/// How likely it is that so many or more of all that was seen fall on `more` by chance.
fn chance(more: Side, less: Side) -> f64 {
    let seen = more.seen + less.seen;
    let all = more.of + less.of;
    let whole = choose(all, seen);
    (more.seen..=seen.min(more.of))
        .map(|k| (choose(more.of, k) + choose(less.of, seen - k) - whole).exp())
        .sum()
}

/// The logarithm of the number of ways to take k of n; of none, of minus infinity.
fn choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    (1..=k).map(|i| (((n - k + i) as f64) / i as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;
    use crate::recheck::tests::{life, run};
    use crate::report::run_text;
    use crate::store::TrialRecord;
    use crate::verdict::Ending;

    /// Lives of one cell on each kernel: the verdict, and the names of the hits.
    fn tried(base: &[(Verdict, &[&str])], patched: &[(Verdict, &[&str])]) -> StoredRun {
        let mut lives = Vec::new();
        for (kernel, cell, all) in [("base", "1", base), ("patched", "2", patched)] {
            for (number, (verdict, names)) in (1..).zip(all) {
                let hits: Vec<Hit> = names.iter().map(|name| Hit::hang(name)).collect();
                let hits: Vec<&Hit> = hits.iter().collect();
                let mut life = life(&cell.repeat(16), number, *verdict, Ending::JobDone, &hits);
                life.kernel.name = kernel.to_owned();
                life.label = "splice".to_owned();
                lives.push(life);
            }
        }
        let mut run = run(lives);
        run.record.recheck = None;
        run.record.farm = "1.0".to_owned();
        run.record.qemu = "QEMU 10".to_owned();
        run.record.scenarios = vec!["splice".to_owned()];
        run.record.trial = Some(TrialRecord {
            base: "base".to_owned(),
            patched: "patched".to_owned(),
            base_tree: "aa".to_owned(),
            patched_tree: "bb".to_owned(),
            config: "lean".to_owned(),
            subjects: vec!["fs: mend it".to_owned()],
        });
        run
    }

    const SEEN: (Verdict, &[&str]) = (Verdict::Passed, &["old"]);
    const MISSED: (Verdict, &[&str]) = (Verdict::Missed, &[]);
    const OTHER: (Verdict, &[&str]) = (Verdict::Hit, &["brought"]);

    #[test]
    fn a_patch_that_mends_for_sure_and_breaks_nothing_passes() {
        let run = tried(&[SEEN; 5], &[MISSED; 5]);
        assert_eq!(exit(&run), ExitCode::Passed);
        let text = run_text(&run);
        for part in [
            "5 of 5   0 of 5  mends it, 99.2 % sure",
            "  > fs: mend it\n",
            "Tested on s390x with farm 1.0, QEMU 10, scenarios splice, configuration lean:\n  base aa, patched bb (git trees)",
            "    without the patch 5 of 5 lives, with it 0 of 5: the patch mends it, 99.2 % sure\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn too_few_lives_and_lives_that_tell_nothing_give_no_answer() {
        assert_eq!(exit(&tried(&[SEEN; 2], &[MISSED; 2])), ExitCode::NoAnswer);
        let silent: (Verdict, &[&str]) = (Verdict::BootFailed, &[]);
        let run = tried(&[SEEN; 5], &[silent; 5]);
        let hung = compared(&run).into_iter().find(|one| one.fingerprint.is_some()).unwrap();
        assert_eq!((hung.patched, hung.change), (side(0, 0), Change::Unknown));
        assert_eq!(exit(&run), ExitCode::Hits, "it does not boot any more");
        assert_eq!(exit(&tried(&[MISSED; 5], &[MISSED; 5])), ExitCode::NoAnswer);
    }

    /// The fix of one bug that shows another, which no life without the fix came as far as.
    #[test]
    fn what_only_patched_lives_could_tell_of_is_not_passed_over() {
        let mut run = tried(&[SEEN; 5], &[OTHER; 5]);
        for life in run.lives.iter_mut().filter(|life| life.kernel.name == "base") {
            life.verdict = Verdict::Hit;
            life.ending = Ending::Discarded;
        }
        let brought = compared(&run).into_iter().find(|one| one.patched.seen == 5).unwrap();
        assert_eq!((brought.base, brought.change), (side(0, 0), Change::Unknown));
        assert_eq!(exit(&run), ExitCode::NoAnswer);
    }

    #[test]
    fn lives_whose_programs_fail_are_worse_though_they_show_no_hit() {
        let failed: (Verdict, &[&str]) = (Verdict::WorkloadFailed, &[]);
        let run = tried(&[SEEN; 5], &[MISSED, MISSED, failed, failed, failed]);
        assert_ne!(exit(&run), ExitCode::Passed);
        let text = run_text(&run);
        assert!(text.contains("a life that did not do its job"), "{text}");
    }

    #[test]
    fn a_patch_that_brings_something_does_not_pass() {
        assert_eq!(exit(&tried(&[SEEN; 5], &[OTHER; 5])), ExitCode::Hits);
        // Once may be chance, and is not passed over.
        let once = [OTHER, MISSED, MISSED, MISSED, MISSED];
        let run = tried(&[SEEN; 5], &once);
        assert_eq!(exit(&run), ExitCode::NoAnswer);
        assert!(run_text(&run).contains("may be that it BRINGS it, 0.0 % sure"), "{}", run_text(&run));
    }

    fn side(seen: u64, of: u64) -> Side {
        Side { seen, of }
    }

    /// The figures of R's fisher.test(…, alternative = "greater"), and of hand: 1 in C(10, 5) = 252.
    #[test]
    fn sureness_is_that_of_fishers_exact_test() {
        for (base, patched, wanted) in [
            (side(5, 5), side(0, 5), 1.0 / 252.0),
            (side(3, 3), side(0, 3), 1.0 / 20.0),
            (side(1, 1), side(0, 1), 1.0 / 2.0),
            (side(8, 10), side(2, 10), 0.011_507_1),
            (side(3, 10), side(0, 10), 0.105_263_2),
        ] {
            let chance = chance(base, patched);
            assert!((chance - wanted).abs() < 1e-6, "{base:?} {patched:?}: {chance}");
        }
    }

    #[test]
    fn a_change_has_a_direction_and_a_word() {
        let word = |base, patched| match change(base, patched) {
            Change::Gone { .. } => "gone",
            Change::New { .. } => "new",
            Change::Rarer { .. } => "rarer",
            Change::Commoner { .. } => "commoner",
            Change::Same => "same",
            Change::Unknown => "unknown",
        };
        for (base, patched, wanted) in [
            (side(5, 5), side(0, 5), "gone"),
            (side(0, 5), side(1, 5), "new"),
            (side(4, 5), side(1, 5), "rarer"),
            (side(1, 10), side(1, 5), "commoner"),
            (side(2, 4), side(1, 2), "same"),
            (side(1, 5), side(0, 0), "unknown"),
        ] {
            assert_eq!(word(base, patched), wanted, "{base:?} {patched:?}");
        }
        assert!(change(side(5, 5), side(0, 5)).is_sure());
        assert!(!change(side(3, 3), side(0, 3)).is_sure(), "90 %");
        assert!(!change(side(2, 5), side(0, 5)).is_sure());
    }
}
