//! What lives of a kernel say about a hunted finding. Pure.
//!
//! Only the hunted finding is a hit. A kernel that complains of something else and does all of its work all the same is as
//! clean as one that does not complain; one that breaks down before is no witness at all.

use crate::scenario::Pattern;
use crate::store::{LifeRecord, Outcome, StepRecord, StoredHit};
use crate::verdict::{Ending, Verdict};
use crate::workload::StepOutcome;

/// What one trial came to, and what else it showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub outcome: Outcome,
    /// Titles of hits that are not hunted, each once.
    pub others: Vec<String>,
    /// Why it is neither a hit nor clean.
    pub reason: String,
}

/// Whether a hit is one of those that are hunted.
pub fn is_hunted(hunted: &[Pattern], hit: &StoredHit) -> bool {
    let hit = &hit.judged.hit;
    hunted.iter().any(|pattern| pattern.matches(&hit.title, hit.fingerprint.as_str()))
}

/// A trial is a life of each cell. It hits if one of them does, and is clean if all are.
pub fn read_trial<'a>(lives: impl IntoIterator<Item = &'a LifeRecord>, hunted: &[Pattern]) -> Reading {
    let mut whole = Reading { outcome: Outcome::Clean, others: Vec::new(), reason: String::new() };
    for life in lives {
        let (outcome, reason) = read_life(life, hunted);
        for hit in life.hits.iter().filter(|hit| hit.is_new() && !is_hunted(hunted, hit)) {
            if !whole.others.contains(&hit.judged.hit.title) {
                whole.others.push(hit.judged.hit.title.clone());
            }
        }
        if weight(outcome) > weight(whole.outcome) {
            (whole.outcome, whole.reason) = (outcome, reason);
        }
    }
    whole
}

/// Which of two lives' outcomes is the trial's.
fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Clean => 0,
        Outcome::Weak => 1,
        Outcome::Infra => 2,
        Outcome::OtherFailure => 3,
        Outcome::CannotBoot => 4,
        Outcome::Hit => 5,
    }
}

fn read_life(life: &LifeRecord, hunted: &[Pattern]) -> (Outcome, String) {
    if life.hits.iter().any(|hit| is_hunted(hunted, hit)) {
        return (Outcome::Hit, String::new());
    }
    let reason = || life.reason.clone();
    match (life.verdict, &life.ending) {
        (Verdict::Infra, _) | (_, Ending::Stopped { .. }) => return (Outcome::Infra, reason()),
        (Verdict::BootFailed, _) => return (Outcome::CannotBoot, reason()),
        (Verdict::Skipped | Verdict::Ineffective, _) => return (Outcome::Weak, reason()),
        (Verdict::BuildFailed | Verdict::WorkloadFailed | Verdict::TimedOut, _) => {
            return (Outcome::OtherFailure, reason());
        }
        // Whether a scenario's own expectations hold is another question.
        (Verdict::Passed | Verdict::Missed | Verdict::Hit, _) => {}
    }
    let is_skipped = |step: &StepRecord| step.outcome == Some(StepOutcome::Skipped);
    let mut tried = life.steps.iter().filter(|step| !is_skipped(step)).peekable();
    if tried.peek().is_none() || tried.any(|step| !is_whole(step)) {
        return (Outcome::OtherFailure, reason());
    }
    let attempts = life.steps.iter().flat_map(|step| step.attempts.iter().map(move |one| (step, one)));
    match attempts.filter_map(|(step, one)| Some((step, one.shortfall()?))).next() {
        Some((step, shortfall)) => (Outcome::Weak, format!("step {}: {shortfall}", step.name)),
        None => (Outcome::Clean, String::new()),
    }
}

/// It came to its end, and did some work if it was to do any.
fn is_whole(step: &StepRecord) -> bool {
    let moves = step.workers.iter().any(|worker| !worker.end.program.stats.is_empty());
    step.outcome == Some(StepOutcome::Ok) && (!moves || step.ops() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Hit;
    use crate::event::StopCause;
    use crate::recheck::tests::life;
    use crate::workload::{Attempts, PathStats, ProgramEnd, ProgramReport, WorkerReport};

    fn hunted() -> Vec<Pattern> {
        vec![Pattern::Title(Hit::hang("hunted_function").title)]
    }

    fn step(outcome: StepOutcome, ops: u64, calls: Option<u64>) -> StepRecord {
        let stats = vec![PathStats { path: "pipe".into(), ops, bytes: 1 }];
        let end = ProgramEnd {
            exit: Some(0),
            signal: None,
            stuck: false,
            wall_us: 1,
            cpu_us: 1,
            truncated: 0,
            program: ProgramReport { stats, ..ProgramReport::default() },
        };
        let counted = |count| Attempts {
            functions: "splice_to_pipe".into(),
            least: 10,
            symbol: Some("splice_to_pipe".into()),
            count,
            missed: 0,
            reason: None,
        };
        StepRecord {
            step: 0,
            name: "work".into(),
            outcome: Some(outcome),
            wall_us: 1,
            kmsg_seq: None,
            rearmed: false,
            workers: vec![WorkerReport { step: 0, worker: 0, limit: false, end }],
            beside: Vec::new(),
            attempts: calls.map(counted).into_iter().collect(),
        }
    }

    fn lived(verdict: Verdict, steps: Vec<StepRecord>, hits: &[&str]) -> LifeRecord {
        let hits: Vec<Hit> = hits.iter().map(|function| Hit::hang(function)).collect();
        let hits: Vec<&Hit> = hits.iter().collect();
        LifeRecord { steps, ..life("0123456789abcdef", 1, verdict, Ending::JobDone, &hits) }
    }

    fn outcome(life: &LifeRecord) -> Outcome {
        read_trial([life], &hunted()).outcome
    }

    fn done() -> Vec<StepRecord> {
        vec![step(StepOutcome::Ok, 5, Some(10))]
    }

    #[test]
    fn only_what_is_hunted_is_a_hit() {
        let life = lived(Verdict::Hit, Vec::new(), &["another_function", "hunted_function"]);
        let reading = read_trial([&life], &hunted());
        assert_eq!(reading.outcome, Outcome::Hit);
        assert_eq!(reading.others, [Hit::hang("another_function").title]);
        // Another one says nothing of the hunted one, unless all of the work was done beside it.
        assert_eq!(outcome(&lived(Verdict::Hit, Vec::new(), &["another_function"])), Outcome::OtherFailure);
        assert_eq!(outcome(&lived(Verdict::Hit, done(), &["another_function"])), Outcome::Clean);
    }

    #[test]
    fn only_a_life_that_did_its_work_is_clean() {
        assert_eq!(outcome(&lived(Verdict::Passed, done(), &[])), Outcome::Clean);
        // What a scenario expects is no matter here.
        assert_eq!(outcome(&lived(Verdict::Missed, done(), &[])), Outcome::Clean);
        let idle = vec![step(StepOutcome::Ok, 0, Some(10))];
        assert_eq!(outcome(&lived(Verdict::Passed, idle, &[])), Outcome::OtherFailure);
        assert_eq!(outcome(&lived(Verdict::Passed, Vec::new(), &[])), Outcome::OtherFailure);
        let failed = vec![step(StepOutcome::Failed, 5, Some(10))];
        assert_eq!(outcome(&lived(Verdict::Hit, failed, &["another_function"])), Outcome::OtherFailure);
        let beside_it = vec![step(StepOutcome::Ok, 5, Some(9))];
        let reading = read_trial([&lived(Verdict::Passed, beside_it, &[])], &hunted());
        assert_eq!(reading.outcome, Outcome::Weak);
        assert!(reading.reason.starts_with("step work: "), "{}", reading.reason);
    }

    #[test]
    fn a_step_that_the_kernel_has_nothing_for_takes_nothing_from_the_others() {
        let with_another = vec![step(StepOutcome::Skipped, 0, None), step(StepOutcome::Ok, 5, Some(10))];
        assert_eq!(outcome(&lived(Verdict::Passed, with_another, &[])), Outcome::Clean);
        let alone = vec![step(StepOutcome::Skipped, 0, None)];
        assert_eq!(outcome(&lived(Verdict::Passed, alone, &[])), Outcome::OtherFailure);
        assert_eq!(outcome(&lived(Verdict::Skipped, Vec::new(), &[])), Outcome::Weak);
    }

    #[test]
    fn the_worst_life_is_the_trial() {
        let stopped = LifeRecord {
            ending: Ending::Stopped { cause: StopCause::Interrupted },
            ..lived(Verdict::Infra, Vec::new(), &[])
        };
        let lives = [
            lived(Verdict::Passed, done(), &[]),
            lived(Verdict::Ineffective, done(), &[]),
            stopped,
            lived(Verdict::TimedOut, done(), &[]),
            lived(Verdict::BootFailed, Vec::new(), &[]),
            lived(Verdict::Hit, Vec::new(), &["hunted_function"]),
        ];
        let outcomes: Vec<Outcome> =
            (1..=lives.len()).map(|count| read_trial(&lives[..count], &hunted()).outcome).collect();
        let expected = [
            Outcome::Clean,
            Outcome::Weak,
            Outcome::Infra,
            Outcome::OtherFailure,
            Outcome::CannotBoot,
            Outcome::Hit,
        ];
        assert_eq!(outcomes, expected);
    }
}
