//! The cells of a search: from a few that were asked for, as many others as one likes, all drawn from one seed.

use sha2::{Digest, Sha256};

use super::{Cell, ids, set};
use crate::scenario::programs::Arg;
use crate::scenario::{Action, ArgKind, ArgValue, Catalog};

/// A cell's seed: what every JSON reader keeps exactly (RFC 8259, section 6).
const SEED_BITS: u32 = 53;

/// Draws cells: the same number of the same plan is the same cell.
#[derive(Debug, Clone)]
pub struct SearchPlan {
    seed: u64,
    cells: Vec<Cell>,
    catalog: Catalog,
}

impl SearchPlan {
    /// From cells that are asked for, of which there is at least one.
    pub fn new(seed: u64, cells: Vec<Cell>, catalog: Catalog) -> Self {
        Self { seed, cells, catalog }
    }

    /// The cell of that number, and which of those that are asked for it was made from: another seed, and of its stress
    /// programs' options those that the scenario leaves open.
    pub fn draw(&self, number: u64) -> (usize, Cell) {
        let mut lots = Lots {
            key: Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(number.to_be_bytes()),
            drawn: 0,
        };
        let base = lots.below(self.cells.len() as u64) as usize;
        let mut cell = self.cells[base].clone();
        cell.seed = lots.next() >> (u64::BITS - SEED_BITS);
        for step in &mut cell.steps {
            self.vary(&mut step.action, &mut lots);
        }
        (base, ids::identify(cell))
    }

    /// A flag turns on what is off for a reason, and a file's size is paid for in each turn: both stay as they are. Numbers
    /// and sizes of a program have to fit each other (its `check_sizes`, as in guests/stress/tee.c): the defaults do with
    /// all that is drawn here, but what a scenario sets is its own affair, and so where it sets one it keeps them all.
    fn vary(&self, action: &mut Action, lots: &mut Lots) {
        let Action::Stress { program, args, .. } = &*action else { return };
        let Some(program) = self.catalog.program(program) else { return };
        let measures = |arg: &Arg| matches!(arg.kind, ArgKind::Number { .. } | ArgKind::Size { .. });
        let is_set = |arg: &Arg| args.iter().any(|(set, _)| *set == arg.name);
        let measured = program.args.iter().any(|arg| measures(arg) && is_set(arg));
        let stays = |arg: &Arg| is_set(arg) || measured && measures(arg);
        let open = program.args.iter().filter(|arg| !stays(arg));
        let mut drawn = Vec::new();
        for arg in open {
            let value = match &arg.kind {
                ArgKind::Choice { choices, .. } => choices[lots.below(choices.len() as u64) as usize].clone(),
                ArgKind::Number { min, max, .. } => (min + lots.below(max - min + 1)).to_string(),
                // What is moved at once, up to the default: a larger one may not fit the files.
                ArgKind::Size { min, default, .. } if arg.name == "max-length" => {
                    lots.size(*min, *default).to_string()
                }
                ArgKind::Size { .. } | ArgKind::Flag => continue,
            };
            drawn.push((arg.name.clone(), ArgValue::Text(value)));
        }
        for (name, value) in &drawn {
            set(action, name, value);
        }
    }
}

/// Numbers without end, all from one key.
struct Lots {
    key: Sha256,
    drawn: u64,
}

impl Lots {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        let hash = self.key.clone().chain_update(self.drawn.to_be_bytes()).finalize();
        hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Each number below `end` is as likely as any other, to one part in 2^64 / `end`.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Each power of two is as likely as any other, and so are the sizes up to the next.
    fn size(&mut self, least: u64, most: u64) -> u64 {
        let octaves = u64::from(most.ilog2() - least.ilog2());
        let from = least << self.below(octaves + 1);
        (from + self.below(from)).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::plan::expand;
    use crate::plan::tests::{cells, request};
    use crate::scenario::executable::Nowhere;
    use crate::scenario::programs::Program;
    use crate::scenario::tests::catalog;
    use crate::scenario::{Source, check};

    const YAML: &str = "
name: two
purpose: two steps
steps:
  - {stress: splice, args: {mode: file-file}, for: 100ms, workers: 2}
  - {stress: splice, for: 100ms}
matrix: {cpus: [1, 2, 4]}
";

    fn plan(seed: u64) -> SearchPlan {
        SearchPlan::new(seed, cells(YAML, &request()), catalog())
    }

    fn arg<'a>(cell: &'a Cell, step: usize, name: &str) -> &'a str {
        match cell.steps[step].action.arg(name) {
            Some(ArgValue::Text(text)) => text,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_plan_is_its_seed() {
        let ids =
            |seed: u64| (0..50).map(|number| plan(seed).draw(number).1.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(1), ids(1));
        let all: BTreeSet<_> = ids(1).into_iter().chain(ids(2)).collect();
        assert_eq!(all.len(), 100, "no two cells of two plans are the same");
    }

    #[test]
    fn what_the_scenario_leaves_open_is_varied_within_its_bounds() {
        let plan = plan(1);
        let drawn: Vec<(usize, Cell)> = (0..400).map(|number| plan.draw(number)).collect();
        let mut chosen = BTreeMap::<&str, u32>::new();
        for (base, cell) in &drawn {
            assert_eq!(cell.shape.cpus, [1, 2, 4][*base]);
            assert!(cell.seed < 1 << 53);
            assert_eq!(arg(cell, 0, "mode"), "file-file", "the scenario says so");
            let length: u64 = arg(cell, 0, "max-length").parse().unwrap();
            assert!((1..=64 << 10).contains(&length));
            assert_eq!(cell.steps[1].action.arg("direct"), None, "a flag stays off");
            *chosen.entry(arg(cell, 1, "mode")).or_default() += 1;
            *chosen.entry(arg(cell, 1, "tries")).or_default() += 1;
        }
        for base in 0..3 {
            assert!(drawn.iter().filter(|(drawn, _)| *drawn == base).count() > 80);
        }
        assert_eq!(chosen.len(), 3 + 9, "three modes, one to nine tries: {chosen:?}");
        assert!(chosen.values().all(|count| *count > 20), "{chosen:?}");
        let short =
            drawn.iter().filter(|(_, cell)| arg(cell, 0, "max-length").parse::<u64>().unwrap() < 4096);
        assert!((200..=350).contains(&short.count()), "sizes of all magnitudes");
    }

    /// The rules are those of guests/stress/sizes.h and tee.c: a program that finds its sizes at odds ends with 2, which
    /// is no fault of any kernel's.
    #[test]
    fn what_is_drawn_fits_what_the_scenario_sets_and_the_defaults() {
        let catalog = Catalog::embedded().unwrap();
        let modules = catalog.programs().iter().flat_map(|program| program.modules.clone()).collect();
        let catalog = catalog.with_modules(modules);
        let number = |cell: &Cell, program: &Program, name: &str| {
            let arg = program.args.iter().find(|arg| arg.name == name)?;
            let set = cell.steps[0].action.arg(name).map(ToString::to_string);
            Some(match (&arg.kind, set) {
                (_, Some(set)) => set.parse::<u64>().unwrap(),
                (ArgKind::Number { default, .. } | ArgKind::Size { default, .. }, None) => *default,
                (kind, None) => panic!("{name}: {kind:?}"),
            })
        };
        for (program, set) in catalog.programs().iter().flat_map(|program| {
            ["", "max-length: 64K", "file-size: 512K", "fan-out: 16"].map(|set| (program, set))
        }) {
            let name = set.split(':').next().unwrap();
            if !set.is_empty() && !program.args.iter().any(|arg| arg.name == name) {
                continue;
            }
            let yaml = format!(
                "name: fits\npurpose: a test\nprotection: emulated\nmachine: {{share: true}}\n\
                 modules: {:?}\nsteps: [{{stress: {}, args: {{{set}}}, for: 1s, secure: {}}}]\n",
                program.modules, program.name, program.secure_only
            );
            let scenario = check(Source { file: "a.yaml", text: &yaml }, &catalog, &Nowhere).unwrap();
            let cells = expand(&Arc::new(scenario), &request());
            let plan = SearchPlan::new(1, cells, catalog.clone());
            for (_, cell) in (0..100).map(|drawn| plan.draw(drawn)) {
                let [length, file, fan] =
                    ["max-length", "file-size", "fan-out"].map(|name| number(&cell, program, name));
                let branch = file.unwrap_or(u64::MAX) / fan.unwrap_or(1);
                let branch = if fan.is_some() { branch / 4096 * 4096 } else { branch };
                assert!(length.unwrap_or(1) <= branch / 2, "{}: {:?}", yaml, cell.steps[0].action);
            }
        }
    }

    #[test]
    fn a_size_of_a_power_of_two_reaches_both_ends() {
        let mut lots = Lots { key: Sha256::new(), drawn: 0 };
        let sizes: BTreeSet<u64> = (0..200).map(|_| lots.size(1, 8)).collect();
        assert_eq!(sizes, (1..=8).collect());
    }
}
