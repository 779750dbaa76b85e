//! What lives of a kernel say about a hunted finding. Pure.
//!
//! Only the hunted finding is a hit. A kernel that complains of something else and does all of its work all the same is as
//! clean as one that does not complain; one that breaks down before is no witness at all.

use super::outcome::Outcome;
use crate::scenario::Pattern;
use crate::store::{LifeRecord, StepRecord, StoredHit};
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
    if life.steps.is_empty() || life.steps.iter().any(|step| !is_whole(step)) {
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
