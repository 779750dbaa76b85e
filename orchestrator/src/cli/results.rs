//! `farm runs`, `farm hits`, `farm show`: what there has been.

use serde::Serialize;

use super::args::HitsArgs;
use super::environment::Environment;
use super::output;
use crate::calibration::{Row as CalibrationRow, calibration};
use crate::contrast::{Axis, contrast};
use crate::error::{ExitCode, Failure};
use crate::kernel::Place;
use crate::mutation::{Mutation, mutations};
use crate::trial::{Compared, compared};

use crate::recheck::{Recheck, rechecks};
use crate::report::{self, HitPage};
use crate::repro::{Again, again};
use crate::store::{
    Found, FoundHit, HitId, StoreError, StoredHit, StoredRun, TraceRecord, find, read_answer, read_cells,
    read_trace,
};
use crate::verdict::JudgedHit;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown(_) => Failure::of(ExitCode::Usage, &error)
                .hint("`farm runs` and `farm hits` list ids; any unique beginning of one will do"),
            StoreError::NoRun => Failure::of(ExitCode::Usage, &error).hint(
                "`farm run smoke` makes one; --state DIR or FARM_STATE names another place for results",
            ),
            StoreError::NoBisect => Failure::of(ExitCode::Usage, &error)
                .hint("--state DIR or FARM_STATE names another place for results"),
            StoreError::Busy { .. } => Failure::of(ExitCode::Usage, &error)
                .hint("wait for it, or stop it; it can be gone on with then"),
            StoreError::Ambiguous { .. } => Failure::of(ExitCode::Usage, &error).hint("give more of it"),
            StoreError::Write { .. } | StoreError::Read { .. } => Failure::of(ExitCode::Infra, &error)
                .hint("--state DIR or FARM_STATE names another place for results"),
            StoreError::Corrupt { .. } => Failure::of(ExitCode::Infra, &error)
                .hint("it may be from another version of farm; move its directory away to go on without it"),
        }
    }
}

pub(super) fn runs(environment: &Environment) -> Result<ExitCode, Failure> {
    let runs = read_runs(environment)?;
    if runs.is_empty() && !environment.json {
        output::note(&format!("no runs yet in {}; `farm run smoke` makes one", environment.state_dir));
        return Ok(ExitCode::Passed);
    }
    environment.print(&report::run_list(&runs), &runs.iter().map(RunView::new).collect::<Vec<_>>())?;
    Ok(ExitCode::Passed)
}

/// Runs that can be read; those that can't are named, and don't keep the others from being shown.
fn read_runs(environment: &Environment) -> Result<Vec<StoredRun>, Failure> {
    let (runs, unreadable) = environment.store.read_runs()?;
    for error in unreadable {
        output::note(&format!("left out: {}", Failure::from(error)));
    }
    Ok(runs)
}

pub(super) fn hits(environment: &Environment, options: &HitsArgs) -> Result<ExitCode, Failure> {
    let runs = match &options.run {
        None => read_runs(environment)?,
        Some(id) => match find(&read_runs(environment)?, id)? {
            Found::Run(run) => vec![*run],
            _ => {
                return Err(Failure::new(ExitCode::Usage, format!("{id} is not a run"))
                    .hint("`farm runs` lists runs"));
            }
        },
    };
    let table = report::finding_table(&runs);
    if table.is_empty() && !environment.json {
        output::note("no hits");
        return Ok(ExitCode::Passed);
    }
    let mut hits = Vec::new();
    for run in &runs {
        let rechecks = rechecks(run);
        for (life, hit) in run.lives.iter().flat_map(|life| life.hits.iter().map(move |hit| (life, hit))) {
            hits.push(serde_json::json!({
                "run": run.record.id, "life": life.life, "scenario": life.scenario, "kernel": life.kernel,
                "id": hit.id, "standing": hit.judged.standing, "hit": hit.judged.hit,
                "places": hit.places,
                "recheck_of": life.recheck_of, "recheck": recheck_of(&rechecks, hit),
            }));
        }
    }
    environment.print(&format!("{table}{}", report::recheck_list(&runs)), &hits)?;
    Ok(ExitCode::Passed)
}

pub(super) fn show(environment: &Environment, id: &str) -> Result<ExitCode, Failure> {
    let found = match find(&read_runs(environment)?, id) {
        Err(StoreError::Unknown(_) | StoreError::NoRun)
            if environment.store.find_bisect(Some(id)).is_ok() =>
        {
            return show_bisect(environment, id);
        }
        found => found?,
    };
    match found {
        Found::Run(run) => environment.print(&report::run_text(&run), &RunView::new(&run))?,
        Found::Life(run, life) => environment.print(&report::life_text(&run, &life), &life)?,
        Found::Hit(found) => {
            let rechecks = rechecks(&found.run);
            let StoredHit { id, step, judged, places } = &found.hit;
            let recheck = recheck_of(&rechecks, &found.hit);
            let trace = read_trace(&found.run.life_directory(&found.life.life))?;
            let cells = read_cells(&found.run)?;
            let axes = contrast(&found.run, &found.life.scenario, &judged.hit.fingerprint, &cells);
            let page = HitPage { trace: trace.as_ref(), axes: &axes };
            let view =
                HitView { id, step: *step, judged, places, recheck, trace: page.trace, axes: page.axes };
            environment.print(&report::hit_text(&found, page), &view)?;
        }
    }
    Ok(ExitCode::Passed)
}

/// The hit that an id names.
pub(super) fn found_hit(environment: &Environment, id: &str) -> Result<FoundHit, Failure> {
    match find(&read_runs(environment)?, id)? {
        Found::Hit(found) => Ok(*found),
        _ => Err(Failure::new(ExitCode::Usage, format!("{id} is not a hit")).hint("`farm hits` lists hits")),
    }
}

fn show_bisect(environment: &Environment, id: &str) -> Result<ExitCode, Failure> {
    let (directory, record) = environment.store.find_bisect(Some(id))?;
    match read_answer(&directory)? {
        Some((text, answer)) => environment.print(&text, &answer)?,
        None => output::note(&format!(
            "bisect {id} has no answer yet; `farm bisect resume {id}` goes on with it",
            id = record.id
        )),
    }
    Ok(ExitCode::Passed)
}

/// What was rechecked of a hit's finding.
fn recheck_of<'a>(rechecks: &'a [Recheck], hit: &StoredHit) -> Option<&'a Recheck> {
    rechecks.iter().find(|recheck| recheck.fingerprint == hit.judged.hit.fingerprint)
}

/// A hit as JSON.
#[derive(Serialize)]
struct HitView<'a> {
    id: &'a HitId,
    step: Option<u32>,
    judged: &'a JudgedHit,
    /// For each frame; empty if none is known.
    places: &'a [Vec<Place>],
    recheck: Option<&'a Recheck>,
    /// null: its life was not traced.
    trace: Option<&'a TraceRecord>,
    /// Empty: all cells of its scenario in this run have it, or are alike.
    axes: &'a [Axis],
}

/// A run as JSON.
#[derive(Serialize)]
pub(super) struct RunView<'a> {
    directory: &'a camino::Utf8Path,
    run: &'a crate::store::RunRecord,
    /// null: the run was cut short, or is still going on.
    summary: &'a Option<crate::store::RunSummary>,
    /// null: it was no search. Few of its lives are kept.
    search: &'a Option<crate::store::SearchRecord>,
    lives: &'a [crate::store::LifeRecord],
    rechecks: Vec<Recheck>,
    /// Empty: it was not to show what fixes mend.
    calibration: Vec<CalibrationRow>,
    /// Empty: it was not to show what a patch changes.
    trial: Vec<Compared>,
    /// Empty: it was not to show whether planted bugs are seen.
    mutations: Vec<Mutation>,
    /// null: it was not to show a hit again.
    repro: Option<Again>,
    unfinished: &'a [String],
}

impl<'a> RunView<'a> {
    pub(super) fn new(run: &'a StoredRun) -> Self {
        Self {
            directory: &run.directory,
            run: &run.record,
            summary: &run.summary,
            search: &run.search,
            lives: &run.lives,
            rechecks: rechecks(run),
            calibration: calibration(run),
            trial: compared(run),
            mutations: mutations(run),
            repro: again(run),
            unfinished: &run.unfinished,
        }
    }
}
