//! What tells the cells of a run that showed a finding from those that did not: for each property in which they differ,
//! how often each of its values went with it. Pure.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::detect::Fingerprint;
use crate::plan::{Cell, CellId};
use crate::store::{LifeRecord, StoredRun};
use crate::verdict::Verdict;

/// A property of cells that is not the same in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Axis {
    pub name: String,
    /// Those that went with the finding most often come first.
    pub values: Vec<AxisValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AxisValue {
    pub value: String,
    pub lives: u32,
    /// Those of them that showed the finding.
    pub hit: u32,
}

/// The axes of the lives of one scenario that were asked for, those that tell most first. Empty if all lives showed the
/// finding.
pub fn contrast(
    run: &StoredRun,
    scenario: &str,
    fingerprint: &Fingerprint,
    cells: &HashMap<CellId, Cell>,
) -> Vec<Axis> {
    let shows = |life: &LifeRecord| life.hits.iter().any(|hit| hit.judged.hit.fingerprint == *fingerprint);
    let lives: Vec<_> = run
        .asked_for()
        .filter(|life| life.scenario == scenario && tells(life.verdict))
        .filter_map(|life| Some((cells.get(&life.life.cell)?, shows(life))))
        .collect();
    if lives.iter().all(|(_, shows)| *shows) {
        return Vec::new();
    }
    let mut axes = BTreeMap::<String, BTreeMap<String, (u32, u32)>>::new();
    for (cell, shows) in &lives {
        for (name, value) in properties(cell) {
            let (lives, hit) = axes.entry(name).or_default().entry(value).or_default();
            *lives += 1;
            *hit += u32::from(*shows);
        }
    }
    let axis = |(name, values): (String, BTreeMap<String, (u32, u32)>)| {
        let mut values: Vec<_> =
            values.into_iter().map(|(value, (lives, hit))| AxisValue { value, lives, hit }).collect();
        values.sort_by(|a, b| share(b).total_cmp(&share(a)));
        Axis { name, values }
    };
    let mut axes: Vec<Axis> = axes.into_iter().filter(|(_, values)| values.len() > 1).map(axis).collect();
    axes.sort_by(|a, b| spread(b).total_cmp(&spread(a)));
    axes
}

/// A life that could have shown something.
fn tells(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Skipped | Verdict::Infra | Verdict::BuildFailed)
}

fn share(value: &AxisValue) -> f64 {
    f64::from(value.hit) / f64::from(value.lives)
}

fn spread(axis: &Axis) -> f64 {
    axis.values.first().map_or(0.0, share) - axis.values.last().map_or(0.0, share)
}

/// In the words of the command line and of scenarios.
fn properties(cell: &Cell) -> Vec<(String, String)> {
    let Cell { kernel, shape, protection, uvsim, schedule, seed, .. } = cell;
    let mut all = vec![
        ("kernel", format!("{} {}", kernel.name, kernel.version_or_release())),
        ("cpus", shape.cpus.to_string()),
        ("schedule", schedule.to_string()),
        ("protection", protection.to_string()),
        ("seed", seed.to_string()),
        ("freeze-delay", format!("{}us", uvsim.freeze_delay.as_micros())),
        (
            "fix",
            match &uvsim.fix[..] {
                [] => "none".to_owned(),
                fixes => fixes.iter().map(|fix| fix.word()).collect::<Vec<_>>().join(","),
            },
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect::<Vec<_>>();
    for axis in &cell.scenario.matrix.args {
        let step = cell.steps.iter().find(|step| step.name == axis.step);
        if let Some(value) = step.and_then(|step| step.action.arg(&axis.arg)) {
            all.push((format!("{}.{}", axis.step, axis.arg), value.to_string()));
        }
    }
    all
}
