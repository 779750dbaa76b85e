//! Whether scenarios see the bugs that were planted for them. Pure, from a run's results.
//!
//! A mutant is *seen* if a life of its scenario on it did not pass: a hit, an expected one that did not come, a program
//! that failed, too few calls of what must be called, a limit, no boot. That says something only if every life on the
//! kernel without the mutant passed, and at least one was lived: otherwise that kernel is *accused*. farm's own trouble
//! and what was skipped says nothing.

use serde::Serialize;

use crate::error::ExitCode;
use crate::store::{LifeRecord, MutationRow, StoredRun};
use crate::verdict::Verdict;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mutation {
    #[serde(flatten)]
    pub row: MutationRow,
    pub outcome: Outcome,
    /// Lives that say something, with the mutant and without it.
    pub lives: u64,
    pub base_lives: u64,
    /// How many of the mutant's were seen.
    pub seen_in: u64,
    /// The wall time of the mutant's lives up to the end of the first that saw it.
    pub until_seen_us: Option<u64>,
    /// What the first that saw it showed: a hit's title, else the verdict's reason.
    pub shown: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Seen,
    NotSeen,
    /// A life on the kernel without the mutant did not pass.
    Accused,
    /// One side has no life that says something.
    Unknown,
}

/// The rows of a run that was to try mutants.
pub fn mutations(run: &StoredRun) -> Vec<Mutation> {
    let rows = run.record.mutation.iter().flat_map(|record| &record.rows);
    rows.map(|row| mutation(run, row)).collect()
}

fn mutation(run: &StoredRun, row: &MutationRow) -> Mutation {
    let of = |kernel: &str| -> Vec<&LifeRecord> {
        run.asked_for()
            .filter(|life| life.scenario == row.scenario && life.kernel.name == kernel)
            .filter(|life| !matches!(life.verdict, Verdict::Infra | Verdict::Skipped))
            .collect()
    };
    let (base, mutated) = (of(&row.base), of(&row.mutated));
    let saw = |life: &&&LifeRecord| life.verdict != Verdict::Passed;
    let first = mutated.iter().position(|life| saw(&life));
    let outcome = match (&base[..], &mutated[..], first) {
        ([], _, _) | (_, [], _) => Outcome::Unknown,
        (base, ..) if base.iter().any(|life| life.verdict != Verdict::Passed) => Outcome::Accused,
        (.., Some(_)) => Outcome::Seen,
        (.., None) => Outcome::NotSeen,
    };
    Mutation {
        row: row.clone(),
        outcome,
        lives: mutated.len() as u64,
        base_lives: base.len() as u64,
        seen_in: mutated.iter().filter(saw).count() as u64,
        until_seen_us: first
            .map(|first| mutated[..=first].iter().map(|life| life.timings.verdict_us.unwrap_or(0)).sum()),
        shown: first.map(|first| shown(mutated[first])).unwrap_or_default(),
    }
}

fn shown(life: &LifeRecord) -> String {
    match life.hits.iter().find(|hit| hit.is_new()) {
        Some(hit) => hit.judged.hit.title.clone(),
        None => format!("{}: {}", life.verdict, life.reason),
    }
}

/// 100 if a kernel without a mutant is accused; 105 if a mutant is not seen, or nothing can be said of one.
pub fn exit(run: &StoredRun) -> ExitCode {
    let all = mutations(run);
    let any = |outcome| all.iter().any(|mutation| mutation.outcome == outcome);
    match () {
        () if any(Outcome::Accused) => ExitCode::Hits,
        () if all.is_empty() || any(Outcome::NotSeen) || any(Outcome::Unknown) => ExitCode::Ineffective,
        () => ExitCode::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;
    use crate::recheck::tests::{life, run};
    use crate::report::run_text;
    use crate::store::MutationRecord;
    use crate::verdict::Ending;

    fn planted(base: &[Verdict], mutated: &[Verdict]) -> StoredRun {
        let hit = Hit::hang("planted");
        let mut lives = Vec::new();
        for (kernel, cell, verdicts) in [("linux", "1", base), ("linux+bug", "2", mutated)] {
            for (number, verdict) in (1..).zip(verdicts) {
                let hits: &[&Hit] = if *verdict == Verdict::Hit { &[&hit] } else { &[] };
                let mut life = life(&cell.repeat(16), number, *verdict, Ending::JobDone, hits);
                life.kernel.name = kernel.to_owned();
                life.timings.verdict_us = Some(2_000_000);
                lives.push(life);
            }
        }
        let mut run = run(lives);
        run.record.recheck = None;
        let row = MutationRow {
            mutant: "bug".to_owned(),
            tree: "linux".to_owned(),
            scenario: "s".to_owned(),
            base: "linux".to_owned(),
            mutated: "linux+bug".to_owned(),
        };
        run.record.mutation = Some(MutationRecord { rows: vec![row] });
        run
    }

    #[test]
    fn a_mutant_is_seen_if_its_lives_fail_where_those_without_it_pass() {
        use Outcome::{Accused, NotSeen, Seen, Unknown};
        use Verdict::{Hit, Infra, Missed, Passed, Skipped};
        for (base, mutated, outcome, exit_code) in [
            (&[Passed][..], &[Hit][..], Seen, ExitCode::Passed),
            (&[Passed], &[Passed, Missed], Seen, ExitCode::Passed),
            (&[Passed], &[Passed], NotSeen, ExitCode::Ineffective),
            (&[Passed, Hit], &[Hit], Accused, ExitCode::Hits),
            (&[Infra], &[Hit], Unknown, ExitCode::Ineffective),
            (&[Passed, Infra], &[Skipped], Unknown, ExitCode::Ineffective),
        ] {
            let run = planted(base, mutated);
            assert_eq!(mutations(&run)[0].outcome, outcome, "{base:?} {mutated:?}");
            assert_eq!(exit(&run), exit_code, "{base:?} {mutated:?}");
        }
    }

    #[test]
    fn the_table_says_what_was_seen_when_and_by_whom() {
        let run = planted(&[Verdict::Passed], &[Verdict::Passed, Verdict::Hit, Verdict::Hit]);
        assert_eq!(mutations(&run)[0].until_seen_us, Some(4_000_000));
        let text = run_text(&run);
        assert!(text.contains("seen in 2 of 3"), "{text}");
        assert!(text.contains("mutation score: 1 of 1 seen, none accused without"), "{text}");
        let text = run_text(&planted(&[Verdict::Passed], &[Verdict::Passed]));
        assert!(text.contains("NOT SEEN in 1"), "{text}");
        assert!(text.contains("mutation score: 0 of 1 seen"), "{text}");
    }
}
