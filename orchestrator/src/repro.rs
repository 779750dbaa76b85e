//! How often lives of a hit's exact cell show it again. Pure, from a run's results.
//!
//! A life that was ended before it could tell counts on neither side ([`crate::recheck`] says which those are). The interval
//! is Clopper's and Pearson's (Biometrika 26:404, 1934): with whatever rate the hit comes, the interval misses it in one of twenty such
//! experiments at most.

use serde::Serialize;

use crate::error::ExitCode;
use crate::recheck::{Word, word_of};
use crate::store::{Started, StoredRun};

/// How likely the interval may miss, on both sides together.
const DOUBT: f64 = 0.05;
/// Halvings of the interval from 0 to 1: more than a report shows.
const HALVINGS: u32 = 40;

/// What came of the lives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Again {
    /// Lives that showed the hit.
    pub same: u64,
    /// Lives that did not, and could have, but showed another.
    pub other: u64,
    /// That showed none, and could have.
    pub clean: u64,
    /// That could not tell: another hit ended them, they failed, or they were stopped.
    pub silent: u64,
    /// The rate of the hit is between these; none if no life tells.
    pub interval: Option<(f64, f64)>,
}

/// None: the run was not to show a hit again.
pub fn again(run: &StoredRun) -> Option<Again> {
    let record = run.record.repro.as_ref()?;
    let mut again = Again { same: 0, other: 0, clean: 0, silent: 0, interval: None };
    for life in run.asked_for() {
        match word_of(life, &record.fingerprint) {
            Word::Seen => again.same += 1,
            Word::NotSeen if life.hits.iter().any(|hit| hit.is_new()) => again.other += 1,
            Word::NotSeen => again.clean += 1,
            Word::Nothing => again.silent += 1,
        }
    }
    let told = again.same + again.other + again.clean;
    again.interval = (told > 0).then(|| interval(again.same, told));
    Some(again)
}

/// Why the lives took other turns than the hit's, if they did.
pub fn other_turns(run: &StoredRun) -> Option<&'static str> {
    let then = run.record.repro.as_ref()?.start.as_ref()?;
    run.asked_for().find_map(|life| turns_differ(then, &life.timings.start))
}

fn turns_differ(then: &Started, now: &Started) -> Option<&'static str> {
    match (then, now) {
        (then, now) if then == now => None,
        (Started::Resumed { guest: Some(_) }, Started::Resumed { guest: Some(_) }) => Some(
            "the saved guest was made anew, and its copies take other turns than those of the one before",
        ),
        (Started::Resumed { .. }, Started::Resumed { .. }) => None,
        (Started::Resumed { .. }, _) => {
            Some("its guest boots, and went on from a saved one: it takes other turns")
        }
        (_, Started::Resumed { .. }) => {
            Some("its guest goes on from a saved one, and booted: it takes other turns")
        }
        (_, _) => None,
    }
}

/// 0 if it came again, else 107.
pub fn exit(again: &Again) -> ExitCode {
    if again.same > 0 { ExitCode::Passed } else { ExitCode::NoAnswer }
}

/// The rates that agree with `seen` of `of`.
pub(crate) fn interval(seen: u64, of: u64) -> (f64, f64) {
    let least =
        if seen == 0 { 0.0 } else { rate_where(|rate| 1.0 - at_most(seen - 1, of, rate) < DOUBT / 2.0) };
    let most = if seen == of { 1.0 } else { rate_where(|rate| at_most(seen, of, rate) >= DOUBT / 2.0) };
    (least, most)
}

/// The largest rate of which this holds, of all smaller ones too.
fn rate_where(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// How likely so many or fewer of all lives show what comes with this rate.
fn at_most(seen: u64, of: u64, rate: f64) -> f64 {
    let mut ways: f64 = 0.0;
    let mut sum = 0.0;
    for k in 0..=seen {
        if k > 0 {
            ways += ((of - k + 1) as f64 / k as f64).ln();
        }
        sum += (ways + k as f64 * rate.ln() + (of - k) as f64 * (-rate).ln_1p()).exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;
    use crate::plan::LifeId;
    use crate::recheck::tests::{life, run};
    use crate::store::{LifeRecord, ReproRecord};
    use crate::verdict::{Ending, Verdict};

    const CELL: &str = "0000000000000001";

    /// From Clopper's and Pearson's own charts and later tables of the exact interval.
    #[test]
    fn the_interval_is_the_exact_one() {
        for (seen, of, low, high) in [
            (0, 10, 0.0, 0.3085),
            (1, 10, 0.0025, 0.4450),
            (5, 10, 0.1871, 0.8129),
            (10, 10, 0.6915, 1.0),
            (2, 120, 0.0020, 0.0589),
        ] {
            let (least, most) = interval(seen, of);
            assert!(
                (least - low).abs() < 1e-4 && (most - high).abs() < 1e-4,
                "{seen} of {of}: {least} {most}"
            );
        }
    }

    #[test]
    fn the_same_hit_another_and_none_are_counted_apart() {
        let (hunted, other) = (Hit::hang("hunted_function"), Hit::hang("another_function"));
        let lived = |number, verdict, ending, hits: &[&Hit]| -> LifeRecord {
            let mut life = life(CELL, number, verdict, ending, hits);
            life.ready = None;
            life
        };
        let mut run = run(vec![
            lived(1, Verdict::Hit, Ending::Hung, &[&other, &hunted]),
            lived(2, Verdict::Hit, Ending::JobDone, &[&other]),
            lived(3, Verdict::Passed, Ending::JobDone, &[]),
            // Ended by another hit, before it could tell.
            lived(4, Verdict::Hit, Ending::Hung, &[&other]),
            lived(5, Verdict::Infra, Ending::Infra { trouble: "t".into() }, &[]),
        ]);
        assert_eq!(again(&run), None);
        run.record.repro = Some(record_of(&run));
        let found = again(&run).unwrap();
        assert_eq!((found.same, found.other, found.clean, found.silent), (1, 1, 1, 2));
        assert_eq!(exit(&found), ExitCode::Passed);
        assert_eq!(found.interval, Some(interval(1, 3)));
    }

    #[test]
    fn a_guest_that_comes_to_its_job_in_another_way_is_told() {
        let resumed = |guest: &str| Started::Resumed { guest: Some(guest.to_owned()) };
        let older = Started::Resumed { guest: None };
        let instead = Started::BootedInstead { reason: "r".into() };
        for (then, now, told) in [
            (None, resumed("a"), None),
            (Some(resumed("a")), resumed("a"), None),
            (Some(resumed("a")), resumed("b"), Some("made anew")),
            (Some(older.clone()), resumed("b"), None),
            (Some(resumed("a")), Started::Booted, Some("boots, and went on")),
            (Some(older), instead.clone(), Some("boots, and went on")),
            (Some(Started::Booted), resumed("a"), Some("goes on from a saved one, and booted")),
            (Some(Started::Booted), instead, None),
        ] {
            let mut lived = life(CELL, 1, Verdict::Passed, Ending::JobDone, &[]);
            lived.timings.start = now.clone();
            let mut run = run(vec![lived]);
            let mut record = record_of(&run);
            record.start = then.clone();
            run.record.repro = Some(record);
            let why = other_turns(&run);
            assert_eq!(why.is_some(), told.is_some(), "{then:?} {now:?}: {why:?}");
            assert!(why.unwrap_or_default().contains(told.unwrap_or_default()), "{then:?} {now:?}: {why:?}");
        }
    }

    fn record_of(run: &StoredRun) -> ReproRecord {
        let hunted = Hit::hang("hunted_function");
        ReproRecord {
            hit: "0123456789".into(),
            run: run.record.id.clone(),
            life: LifeId { cell: CELL.parse().unwrap(), number: 1 },
            fingerprint: hunted.fingerprint.clone(),
            title: hunted.title.clone(),
            differs: Vec::new(),
            start: None,
            bundle: None,
        }
    }
}
