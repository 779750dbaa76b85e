//! The record of a life, from all that was seen of it. Pure.

use std::collections::HashSet;

use super::Assignment;
use super::hang;
use super::life::MachineWords;
use super::transcript::Told;
use crate::detect::Hit;
use crate::plan::{Cell, LifeId};
use crate::store::{HitId, LifeRecord, RunId, StepRecord, StoredHit, Timings};
use crate::verdict::{Ending, Evidence, Judgement, judge};
use crate::workload::{Attempts, Ready, StepOutcome, StepReport, TouchReport};

/// Programs have few checks. Failures of other kinds than these make the life a hit, foreseen or not.
const MOST_DATA_HITS: usize = 256;

/// A life that is over.
pub(super) struct Lived<'a> {
    pub(super) run: &'a RunId,
    pub(super) life: LifeId,
    pub(super) assignment: &'a Assignment,
    pub(super) ending: Ending,
    pub(super) told: Told,
    pub(super) words: &'a MachineWords,
    pub(super) timings: Timings,
}

/// Gathers the hits of all sources, judges, and writes it all down.
pub(super) fn record_of(lived: Lived<'_>) -> LifeRecord {
    let Lived { run, life, assignment, ending, told, words, timings } = lived;
    let cell = &assignment.cell;
    let guest = assignment.guest.as_ref().ok();
    let Told {
        mut hits,
        hits_dropped,
        unknown_hits,
        streams,
        ready,
        mut steps,
        touches,
        ended,
        init_error,
        farm_line,
        ..
    } = told;
    for step in steps.iter_mut().filter(|step| step.outcome.is_some()) {
        step.attempts = attempts(cell, step.step, &touches);
    }
    let (data_hits, unknown_data_hits) = data_hits(cell, &steps);
    hits.extend(data_hits);
    let unknown_hits = unknown_hits.saturating_add(unknown_data_hits);
    hits.extend(hit_without_log(&ending, ready.is_some(), &hits, words));
    // A developer's kernel that lacks what init needs says so on the console, before there is a results port.
    let init_error = init_error.or(if ready.is_none() { farm_line } else { None });

    let reports: Vec<StepReport> = steps.iter().filter_map(step_report).collect();
    let workers: Vec<_> = steps.iter().flat_map(|s| s.workers.iter().cloned()).collect();
    let beside: Vec<_> = steps.iter().flat_map(|s| s.beside.iter().cloned()).collect();
    let attempts = steps.iter().filter(|step| step.outcome == Some(StepOutcome::Ok));
    let attempts = attempts.flat_map(|step| step.attempts.iter().map(|attempts| (&*step.name, attempts)));
    let evidence = Evidence {
        ending: &ending,
        ready: ready.is_some(),
        ended,
        init_error: init_error.as_deref(),
        steps: &reports,
        workers: &workers,
        beside: &beside,
        attempts: attempts.collect(),
        hits,
        unknown_hits,
    };
    let Judgement { verdict, reason, hits, missed } = judge(&cell.scenario, cell.facts(), evidence);
    let hits = hits
        .into_iter()
        .enumerate()
        .map(|(index, judged)| StoredHit {
            id: HitId::new(run, &life, index),
            step: step_of(&judged.hit, ready.as_ref(), &steps),
            judged,
            places: Vec::new(),
        })
        .collect();
    LifeRecord {
        life,
        scenario: cell.scenario.name.to_string(),
        label: cell.label(),
        kernel: cell.kernel.clone(),
        image_sha256: guest.map(|guest| guest.image.sha256.clone()).unwrap_or_default(),
        seed: cell.seed,
        protection: cell.protection,
        counting: cell.counting,
        recheck_of: assignment.recheck_of.clone(),
        verdict,
        reason,
        ending,
        ready,
        steps,
        hits,
        missed,
        hits_dropped,
        streams,
        timings,
        cpus: words.cpu_records.clone(),
        dump: words.dump.clone(),
    }
}

/// What the cell asks of a step, beside what the guest counted of it.
fn attempts(cell: &Cell, step: u32, touches: &[TouchReport]) -> Vec<Attempts> {
    let reports: Vec<TouchReport> = touches.iter().filter(|touch| touch.step == step).cloned().collect();
    let asked = cell.step(step).map_or(&[][..], |step| &step.touches);
    asked.iter().map(|touch| Attempts::new(touch, &reports)).collect()
}

/// What no log has: a guest that fell silent, or that gave up without a word.
fn hit_without_log(ending: &Ending, ready: bool, hits: &[Hit], words: &MachineWords) -> Option<Hit> {
    let explained = || hits.iter().any(|hit| hit.ends_the_guest() || hit.kind.corrupts_memory());
    match ending {
        Ending::Hung if ready => Some(hang::hit(words.cpus.as_ref(), &words.stands)),
        Ending::Panicked if !explained() => Some(hang::silent_panic(words.cpus.as_ref(), &words.stands)),
        _ => None,
    }
}

/// Failed data checks are hits: the kernel corrupted data, though it may have said nothing. Gives those of each kind
/// once, and how many were of more kinds than are kept.
fn data_hits(cell: &Cell, steps: &[StepRecord]) -> (Vec<Hit>, u64) {
    let mut hits = Vec::new();
    let mut kinds = HashSet::new();
    let mut unknown = 0;
    for step in steps {
        let program = cell.program_of_step(step.step).unwrap_or(&step.name);
        let workers = step.workers.iter().map(|worker| (program, &worker.end.program));
        let programs = workers.chain(step.beside.iter().map(|one| (&*one.name, &one.end.program)));
        let failures =
            programs.flat_map(|(name, said)| said.data_failures.iter().map(move |one| (name, one)));
        for (program, failure) in failures {
            let hit = Hit::data(program, &failure.path, &failure.check);
            if kinds.contains(&hit.fingerprint) {
                continue;
            }
            if hits.len() == MOST_DATA_HITS {
                unknown += 1;
                continue;
            }
            kinds.insert(hit.fingerprint.clone());
            hits.push(hit.with_text(&failure.detail));
        }
    }
    (hits, unknown)
}

/// The step by whose end a kernel log record had been drained, or the one that never ended; none during boot.
fn step_of(hit: &Hit, ready: Option<&Ready>, steps: &[StepRecord]) -> Option<u32> {
    let (at, sequence) = (hit.at?, hit.sequence?);
    if at.0 < ready?.uptime_us {
        return None;
    }
    let step = steps.iter().find(|s| s.kmsg_seq.is_none_or(|last| sequence <= last))?;
    Some(step.step)
}

fn step_report(step: &StepRecord) -> Option<StepReport> {
    let outcome = step.outcome?;
    let StepRecord { step, wall_us, kmsg_seq, rearmed, .. } = *step;
    Some(StepReport { step, outcome, wall_us, kmsg_seq, rearmed })
}
