//! A run: its table of cells, and the list of runs.

use std::collections::BTreeMap;

use super::calibration::calibration_text;
use super::exact::exact_text;
use super::hit::finding_table;
use super::mutation::mutation_text;
use super::recheck::recheck_text;
use super::repro::repro_text;
use super::search::search_text;
use super::trial::trial_text;
use super::{Align, Table, seconds, size, thousands};
use crate::escape::escape;
use crate::plan::Counting;
use crate::store::{LifeRecord, StoredRun};
use crate::verdict::Verdict;

/// Past this many, a report is no shorter than the results that it reports on.
const MOST_UNEXPLAINED: usize = 10;

/// The table a run ends with, its findings, and where everything lies.
pub fn run_text(run: &StoredRun) -> String {
    // A search's cells are as many as its lives, and counts nothing that they reach. A calibration has a table of its own.
    let of_cells = run.search.is_none() && run.record.calibration.is_none() && run.record.mutation.is_none();
    let mut out =
        if of_cells { cell_table(run).to_string() } else { calibration_text(run) + &mutation_text(run) };
    let reached = if of_cells { reached_table(run) } else { Table::new(&[]) };
    if !reached.is_empty() {
        out += &format!("\n{reached}");
    }
    let not_beside = not_beside_table(run);
    if !not_beside.is_empty() {
        out += &format!("\n{not_beside}");
    }
    let findings = finding_table(std::slice::from_ref(run));
    if !findings.is_empty() {
        out += &format!("\n{findings}");
    }
    out += &trial_text(run);
    out += &repro_text(run);
    out += &recheck_text(run);
    out += &search_text(run);
    out += &exact_text(run);
    for (life, count) in unexplained(run).into_iter().take(MOST_UNEXPLAINED) {
        let reason = escape(life.reason.as_bytes());
        let others = if count > 1 { format!(" (and {} more like it)", count - 1) } else { String::new() };
        out += &format!(
            "\n{} on {}, {}{others}: {}: {reason}\n",
            life.label, life.kernel.name, life.life, life.verdict
        );
    }
    for life in &run.unfinished {
        let life = escape(life.as_bytes());
        out += &format!("\n{life} has no end; what there is of it stands in cells/{life}\n");
    }

    out += &format!("\nrun {}: {}", run.record.id, verdict_counts(&run.verdicts()));
    match &run.summary {
        Some(summary) => {
            if summary.not_begun > 0 {
                out += &format!(", {} not begun", summary.not_begun);
            }
            out += &format!(" in {}", seconds(summary.wall_us));
        }
        None => out += "; it has no end: it was cut short, or is still going on",
    }
    out += &format!("; {}\nresults: {}\n", run.record.qemu, run.directory);
    out
}

/// Lives whose verdict needs a word that no finding says: the first of each cell, and how many said the same.
fn unexplained(run: &StoredRun) -> Vec<(&LifeRecord, usize)> {
    let mut told: Vec<(&LifeRecord, usize)> = Vec::new();
    for life in run.asked_for().filter(|life| !matches!(life.verdict, Verdict::Passed | Verdict::Hit)) {
        let key = |life: &LifeRecord| (life.life.cell, life.verdict, life.reason.clone());
        match told.iter_mut().find(|(first, _)| key(first) == key(life)) {
            Some((_, count)) => *count += 1,
            None => told.push((life, 1)),
        }
    }
    told
}

/// What the cells reached in the kernel, where their scenario asks for it: calls of each function in all lives.
fn reached_table(run: &StoredRun) -> Table {
    let mut table =
        Table::new(&[("scenario", Align::Left), ("kernel", Align::Left), ("attempts", Align::Left)]);
    for lives in cells(run) {
        let mut calls: Vec<(&str, u64)> = Vec::new();
        for step in lives.iter().flat_map(|life| &life.steps) {
            // Two entries may have led to one function.
            let of_step: BTreeMap<_, _> =
                step.attempts.iter().filter_map(|one| Some((one.symbol.as_ref()?, one.calls()))).collect();
            for (symbol, number) in of_step {
                match calls.iter_mut().find(|(known, _)| known == symbol) {
                    Some((_, sum)) => *sum = sum.saturating_add(number),
                    None => calls.push((symbol, number)),
                }
            }
        }
        let first = lives[0];
        let reached = match first.counting {
            Counting::Off => "not counted (--uncounted)".to_owned(),
            Counting::On => {
                let calls = calls.iter().map(|(symbol, sum)| format!("{symbol} {}", thousands(*sum)));
                escape(calls.collect::<Vec<_>>().join("; ").as_bytes())
            }
        };
        if !reached.is_empty() {
            table.row([first.label.clone(), first.kernel.name.clone(), reached]);
        }
    }
    table
}

/// What could not run beside a step, once for each cell.
fn not_beside_table(run: &StoredRun) -> Table {
    let mut table = Table::new(&[
        ("scenario", Align::Left),
        ("kernel", Align::Left),
        ("step", Align::Left),
        ("not beside", Align::Left),
    ]);
    for lives in cells(run) {
        let mut told = Vec::new();
        for step in lives.iter().flat_map(|life| &life.steps) {
            for (name, reason) in step.not_beside() {
                let row = [&*step.name, &format!("{name}: {reason}")].map(|text| escape(text.as_bytes()));
                if !told.contains(&row) {
                    told.push(row);
                }
            }
        }
        for [step, reason] in told {
            table.row([lives[0].label.clone(), lives[0].kernel.name.clone(), step, reason]);
        }
    }
    table
}

/// The lives of each cell that was asked for, in the order of a table.
fn cells(run: &StoredRun) -> Vec<Vec<&LifeRecord>> {
    let mut cells: BTreeMap<String, Vec<&LifeRecord>> = BTreeMap::new();
    for life in run.asked_for() {
        cells.entry(life.life.cell.to_string()).or_default().push(life);
    }
    let mut cells: Vec<_> = cells.into_values().collect();
    cells.sort_by_key(|lives| {
        (lives[0].scenario.clone(), lives[0].kernel.name.clone(), lives[0].label.clone())
    });
    cells
}

/// One row for each cell that was asked for, however many lives it had.
fn cell_table(run: &StoredRun) -> Table {
    let mut table = Table::new(&[
        ("scenario", Align::Left),
        ("kernel", Align::Left),
        ("verdict", Align::Left),
        ("hits", Align::Right),
        ("steps", Align::Right),
        ("ops", Align::Right),
        ("data", Align::Right),
        ("wall", Align::Right),
        ("cell", Align::Left),
    ]);
    for lives in cells(run) {
        let first = lives[0];
        let steps: usize = lives.iter().map(|l| l.steps.len()).sum();
        let whole = |micros: Option<u64>| micros.unwrap_or(0);
        table.row([
            first.label.clone(),
            format!("{} {}", first.kernel.name, first.kernel.version_or_release()),
            verdict_cell(&lives),
            hit_cell(&lives),
            steps.to_string(),
            thousands(lives.iter().map(|l| l.ops()).sum()),
            size(lives.iter().map(|l| l.bytes()).sum()),
            seconds(lives.iter().map(|l| whole(l.timings.verdict_us)).sum::<u64>()),
            first.life.cell.to_string(),
        ]);
    }
    table
}

/// `passed`, or `hit 3, passed 17` where lives differ.
fn verdict_cell(lives: &[&LifeRecord]) -> String {
    let mut counts: BTreeMap<Verdict, u32> = BTreeMap::new();
    for life in lives {
        *counts.entry(life.verdict).or_default() += 1;
    }
    match (counts.len(), lives.len()) {
        (1, 1) => lives[0].verdict.to_string(),
        _ => counts.iter().map(|(verdict, n)| format!("{verdict} {n}")).collect::<Vec<_>>().join(", "),
    }
}

/// `2`, or `0 + 1 foreseen` where some were expected or known.
fn hit_cell(lives: &[&LifeRecord]) -> String {
    let all = lives.iter().map(|l| l.hits.len()).sum::<usize>();
    let new = lives.iter().flat_map(|l| &l.hits).filter(|hit| hit.is_new()).count();
    if new == all { new.to_string() } else { format!("{new} + {} foreseen", all - new) }
}

fn verdict_counts(verdicts: &BTreeMap<Verdict, u32>) -> String {
    if verdicts.is_empty() {
        return "nothing ran".to_owned();
    }
    verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect::<Vec<_>>().join(", ")
}

/// `farm runs`
pub fn run_list(runs: &[StoredRun]) -> String {
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("started (UTC)", Align::Left),
        ("scenarios", Align::Left),
        ("kernels", Align::Left),
        ("verdicts", Align::Left),
        ("hits", Align::Right),
        ("wall", Align::Right),
    ]);
    for run in runs {
        let kernels: Vec<_> = run.record.kernels.iter().map(|k| k.key.name.as_str()).collect();
        table.row([
            run.record.id.to_string(),
            run.record.started.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            run.record.scenarios.join(" "),
            kernels.join(" "),
            verdict_counts(&run.verdicts()),
            run.asked_for().map(|l| l.hits.len()).sum::<usize>().to_string(),
            run.summary.as_ref().map_or_else(|| "cut short".to_owned(), |s| seconds(s.wall_us)),
        ]);
    }
    table.to_string()
}
