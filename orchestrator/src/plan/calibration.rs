//! Which cells show that each fix mends what the scenario says, and nothing else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cell, CellId, Request, expand};
use crate::scenario::{Fix, Scenario};

/// A scenario's cells on one kernel that differ in their fixes alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationRow {
    /// As the cell without a fix is called.
    pub label: String,
    /// By name.
    pub kernel: String,
    /// Without a fix, then with each alone.
    pub columns: Vec<CalibrationColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationColumn {
    pub fix: Option<Fix>,
    pub cell: CellId,
    pub foreseen: Sight,
}

/// What a cell has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sight {
    Hit,
    Clean,
}

/// What a run calibrates, as its record keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    pub rows: Vec<CalibrationRow>,
}

/// Whether there is a fix to show on a scenario.
pub fn can_be_calibrated(scenario: &Scenario) -> bool {
    scenario.expect.iter().any(|expectation| !expectation.mended_by.is_empty())
}

/// The rows of a scenario, each with its cells in the order of its columns. The scenario's own `fix` and the request's
/// stand back.
pub fn calibrate(scenario: &Arc<Scenario>, request: &Request) -> Vec<(CalibrationRow, Vec<Cell>)> {
    let fixes = std::iter::once(None).chain(Fix::ALL.map(|(_, fix)| Some(fix)));
    let mut rows: Vec<(CalibrationRow, Vec<Cell>)> = Vec::new();
    for fix in fixes {
        let request = Request { fixes: Some(fix.into_iter().collect()), ..request.clone() };
        // The same cells in the same order, whatever the fix.
        for (index, cell) in expand(scenario, &request).into_iter().enumerate() {
            let column = CalibrationColumn { fix, cell: cell.id, foreseen: foreseen(&cell) };
            match rows.get_mut(index) {
                Some((row, cells)) => {
                    row.columns.push(column);
                    cells.push(cell);
                }
                None => {
                    let (label, kernel) = (cell.label(), cell.kernel.name.clone());
                    rows.push((CalibrationRow { label, kernel, columns: vec![column] }, vec![cell]));
                }
            }
        }
    }
    rows
}

fn foreseen(cell: &Cell) -> Sight {
    match cell.scenario.expect.iter().any(|expectation| expectation.holds(cell.facts())) {
        true => Sight::Hit,
        false => Sight::Clean,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::plan::KernelKey;
    use crate::plan::tests::request;
    use crate::scenario::tests::parse;

    const YAML: &str = "
name: dio
purpose: p
protection: emulated
uvsim: {fix: [zerocopy], busy: 5}
steps: [{stress: splice, for: 1s}]
expect:
  - {title: splice, mended-by: [splice]}
  - {title: dio, mended-by: [dio, vmsplice], when: kernel < 6.5}
matrix: {cpus: [1, 2]}
";

    #[test]
    fn each_fix_has_a_column_that_says_what_is_foreseen() {
        let mut request = request();
        let newer = KernelKey {
            name: "debian-13".to_owned(),
            release: "6.12.1".to_owned(),
            ..request.kernels[0].clone()
        };
        request.kernels.push(newer);
        let rows = calibrate(&Arc::new(parse(YAML)), &request);
        let told: Vec<String> = rows
            .iter()
            .map(|(row, cells)| {
                let columns = row.columns.iter().zip(cells);
                let words = columns.map(|(column, cell)| {
                    assert_eq!(column.cell, cell.id);
                    assert_eq!(cell.uvsim.fix, column.fix.into_iter().collect::<Vec<_>>());
                    assert_eq!(cell.uvsim.busy, 5);
                    let fix = column.fix.map_or("none", Fix::word);
                    format!("{fix} {:?}", column.foreseen)
                });
                format!("{} on {}: {}", row.label, row.kernel, words.collect::<Vec<_>>().join(", "))
            })
            .collect();
        // Where both hits are to be expected no fix alone mends both.
        let old = "none Hit, splice Hit, vmsplice Hit, zerocopy Hit, dio Hit";
        let new = "none Hit, splice Clean, vmsplice Hit, zerocopy Hit, dio Hit";
        assert_eq!(
            told,
            [
                format!("dio cpus=1 on debian-12: {old}"),
                format!("dio cpus=2 on debian-12: {old}"),
                format!("dio cpus=1 on debian-13: {new}"),
                format!("dio cpus=2 on debian-13: {new}"),
            ]
        );
        let ids: HashSet<CellId> = rows.iter().flat_map(|(_, cells)| cells).map(|cell| cell.id).collect();
        assert_eq!(ids.len(), 4 * 5);
    }

    #[test]
    fn a_scenario_that_nothing_mends_cannot_be_calibrated() {
        assert!(can_be_calibrated(&parse(YAML)));
        let plain = YAML.replace(", mended-by: [splice]", "").replace(", mended-by: [dio, vmsplice]", "");
        assert!(!can_be_calibrated(&parse(&plain)));
    }
}
