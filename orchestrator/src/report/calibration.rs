//! What each fix mended.

use super::{Align, Table};
use crate::calibration::{Agreement, Column, Row, Shown, calibration};
use crate::scenario::Fix;
use crate::store::StoredRun;

/// A row for each scenario and kernel, a column without a fix and one for each; empty where nothing was calibrated.
pub(super) fn calibration_text(run: &StoredRun) -> String {
    let rows = calibration(run);
    if rows.is_empty() {
        return String::new();
    }
    let fixes: Vec<(&str, Align)> = Fix::ALL.iter().map(|(word, _)| (*word, Align::Left)).collect();
    let heading =
        [("scenario", Align::Left), ("kernel", Align::Left), ("none", Align::Left)].into_iter().chain(fixes);
    let mut table = Table::new(&heading.collect::<Vec<_>>());
    for Row { label, kernel, columns } in &rows {
        let cell = |fix: Option<Fix>| {
            columns.iter().find(|column| column.fix == fix).map(cell_text).unwrap_or_default()
        };
        let [splice, vmsplice, zerocopy, dio] = Fix::ALL.map(|(_, fix)| cell(Some(fix)));
        table.row([label.clone(), kernel.clone(), cell(None), splice, vmsplice, zerocopy, dio]);
    }
    let cells = || rows.iter().flat_map(|row| &row.columns);
    let (all, other) = (cells().count(), cells().filter(|cell| cell.agrees == Agreement::No).count());
    let open = cells().filter(|cell| cell.agrees == Agreement::Open).count();
    let mut out = table.to_string();
    out += &match (other, open) {
        (0, 0) => format!("\ncalibration: all {all} cells are as their scenarios say\n"),
        (0, _) => format!("\ncalibration: {} of {all} cells are as their scenarios say\n", all - open),
        _ => format!("\nNOT calibrated: {other} of {all} cells, marked !, are not as their scenarios say\n"),
    };
    if open > 0 {
        out += &format!("{open} of {all} cells did not run\n");
    }
    out
}

/// `hit`, `clean !` where that is not as foreseen, `hit 2, clean 1 !` of several lives.
fn cell_text(column: &Column) -> String {
    let word = |shown: &Shown| match shown {
        Shown::Hit => "hit".to_owned(),
        Shown::Clean => "clean".to_owned(),
        Shown::Nothing(verdict) => verdict.to_string(),
    };
    let text = match &column.shown[..] {
        [] => "not begun".to_owned(),
        [(shown, 1)] => word(shown),
        all => {
            let counts: Vec<_> =
                all.iter().map(|(shown, lives)| format!("{} {lives}", word(shown))).collect();
            counts.join(", ")
        }
    };
    match column.agrees {
        Agreement::Yes | Agreement::Open => text,
        Agreement::No => format!("{text} !"),
    }
}
