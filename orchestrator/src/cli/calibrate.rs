//! `farm calibrate`: whether each fix of the emulated ultravisor mends what scenarios say, and nothing else.

use std::collections::HashSet;

use super::args::CalibrateArgs;
use super::environment::Environment;
use super::perform::{Planned, assign, load, perform, warmth};
use super::provision::{Asked, Grounds, Guests};
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::plan::{CalibrationRecord, Counting, Schedule, calibrate as rows_of, can_be_calibrated};

pub(super) fn calibrate(environment: &Environment, options: &CalibrateArgs) -> Result<ExitCode, Failure> {
    let (scenarios, others): (Vec<_>, Vec<_>) =
        load(&options.scenarios)?.into_iter().partition(|scenario| can_be_calibrated(scenario));
    if scenarios.is_empty() {
        return Err(Failure::new(ExitCode::Usage, "no scenario here says what mends a hit")
            .hint("`mended-by` of an entry of `expect` does"));
    }
    for scenario in others {
        output::note(&format!("{} is left out: it does not say what mends a hit", scenario.name));
    }
    let runtime = runtime()?;
    let asked = Asked {
        // A scenario that says what mends a hit is for emulated protection.
        protection: None,
        fixes: None,
        schedule: Schedule::Parallel,
        seed: options.lives.seed,
        counting: Counting::On,
    };
    let grounds = Grounds::new(environment, &runtime, &options.guest, asked)?;

    let mut assignments = Vec::new();
    let mut record = CalibrationRecord::default();
    let mut guests = Guests::new();
    let mut seen = HashSet::new();
    for (row, cells) in scenarios.iter().flat_map(|scenario| rows_of(scenario, &grounds.request)) {
        // A scenario or kernel named twice is meant once.
        if !cells.iter().all(|cell| seen.insert(cell.id)) {
            continue;
        }
        record.rows.push(row);
        for cell in cells {
            assignments.push(assign(environment, &grounds, cell, &mut guests)?);
        }
    }
    let planned = Planned {
        jobs: options.lives.jobs,
        repeat: options.repeat,
        warmth: warmth(options.lives.cold),
        calibration: Some(record),
        ..Planned::new(&scenarios, assignments)
    };
    perform(environment, &runtime, grounds, planned)
}
