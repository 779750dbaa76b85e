//! Whether each fix of the emulated ultravisor mends what its scenarios say, and nothing else. Pure, from a run's results.
//!
//! What is foreseen of a cell stands in the run's record; that a cell shows it is its verdict's word: `passed` means that
//! every expected hit came and no other. What it showed is said beside it, for people.

use serde::Serialize;

use crate::plan::{CalibrationColumn, CalibrationRow, CellId, Sight};
use crate::scenario::Fix;
use crate::store::{LifeRecord, StoredRun};
use crate::verdict::{Standing, Verdict};

/// One scenario on one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub label: String,
    pub kernel: String,
    pub columns: Vec<Column>,
}

/// The lives under one fix, or without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub fix: Option<Fix>,
    pub cell: CellId,
    pub foreseen: Sight,
    /// What was shown, and by how many lives; nothing where none was lived.
    pub shown: Vec<(Shown, u32)>,
    pub agrees: Agreement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    Hit,
    Clean,
    /// Neither could be told.
    Nothing(Verdict),
}

/// Whether lives showed what was foreseen of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// All did.
    Yes,
    /// One did not.
    No,
    /// None was lived.
    Open,
}

/// What a run calibrates; nothing if that was not what it was for.
pub fn calibration(run: &StoredRun) -> Vec<Row> {
    let Some(record) = &run.record.calibration else { return Vec::new() };
    let column = |column: &CalibrationColumn| {
        let CalibrationColumn { fix, cell, foreseen } = *column;
        let lives = run.asked_for().filter(|life| life.life.cell == cell);
        let (shown, agrees) = judge(lives);
        Column { fix, cell, foreseen, shown, agrees }
    };
    let row = |row: &CalibrationRow| Row {
        label: row.label.clone(),
        kernel: row.kernel.clone(),
        columns: row.columns.iter().map(column).collect(),
    };
    record.rows.iter().map(row).collect()
}

fn judge<'a>(lives: impl Iterator<Item = &'a LifeRecord>) -> (Vec<(Shown, u32)>, Agreement) {
    let mut shown: Vec<(Shown, u32)> = Vec::new();
    let mut agrees = Agreement::Open;
    for life in lives {
        let what = shown_by(life);
        match shown.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => shown.push((what, 1)),
        }
        agrees = match (agrees, life.verdict) {
            (so_far, Verdict::Skipped) => so_far,
            (Agreement::No, _) => Agreement::No,
            (_, Verdict::Passed) => Agreement::Yes,
            _ => Agreement::No,
        };
    }
    shown.sort_unstable();
    (shown, agrees)
}

fn shown_by(life: &LifeRecord) -> Shown {
    // Known hits are nobody's affair here.
    let hit = life.hits.iter().any(|hit| matches!(hit.judged.standing, Standing::New | Standing::Expected));
    match life.verdict {
        Verdict::Passed | Verdict::Missed | Verdict::Hit if hit => Shown::Hit,
        Verdict::Passed | Verdict::Missed => Shown::Clean,
        // Of more kinds than are kept.
        Verdict::Hit => Shown::Hit,
        verdict => Shown::Nothing(verdict),
    }
}

#[cfg(test)]
mod tests;
