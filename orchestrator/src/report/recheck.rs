//! What became of findings under other settings of the emulator.

use std::collections::BTreeSet;

use super::{Align, Table};
use crate::escape::escape;
use crate::plan::CellId;
use crate::recheck::{Recheck, Tally, left_alone, rechecks};
use crate::store::StoredRun;

/// A run's rechecks, each with its counts; empty where none was asked for.
pub fn recheck_text(run: &StoredRun) -> String {
    let mut out = String::new();
    for recheck in rechecks(run) {
        out += &format!("\nrecheck of {}", line(&recheck));
        let mut table = Table::new(&[
            ("  setting", Align::Left),
            ("seen", Align::Right),
            ("cell", Align::Left),
            ("cannot tell", Align::Left),
        ]);
        for tally in &recheck.tallies {
            let cells: BTreeSet<CellId> = tally.lives.iter().map(|life| life.cell).collect();
            let cells: Vec<_> = cells.iter().map(CellId::to_string).collect();
            table.row([
                format!("  {}", escape(tally.setting.to_string().as_bytes())),
                seen(tally),
                cells.join(" "),
                silent(tally),
            ]);
        }
        out += &table.to_string();
    }
    match left_alone(run) {
        0 => {}
        1 => out += "\n1 new finding was not rechecked\n",
        findings => out += &format!("\n{findings} new findings were not rechecked\n"),
    }
    for why in run.record.recheck.iter().flat_map(|recheck| &recheck.left_out) {
        out += &format!("\nrecheck: {}\n", escape(why.as_bytes()));
    }
    out
}

/// The newest recheck of each finding, one a line.
pub fn recheck_list(runs: &[StoredRun]) -> String {
    let mut told = BTreeSet::new();
    let mut out = String::new();
    for run in runs.iter().rev() {
        for recheck in rechecks(run) {
            if told.insert(recheck.fingerprint.clone()) {
                out += &format!("\nrecheck in run {} of {}", run.record.id, line(&recheck));
            }
        }
    }
    out
}

fn line(recheck: &Recheck) -> String {
    let judgement = recheck.judgement.to_string();
    format!("{}: {}\n", escape(recheck.title.as_bytes()), escape(judgement.as_bytes()))
}

/// `1 of 2`
pub(super) fn seen(tally: &Tally) -> String {
    format!("{} of {}", tally.seen, tally.told)
}

/// What the first life says that cannot tell, and how many there are.
fn silent(tally: &Tally) -> String {
    let Some(first) = tally.silent.first() else { return String::new() };
    let first = escape(first.as_bytes());
    match tally.silent.len() {
        1 => first,
        lives => format!("{lives} lives: {first}"),
    }
}
