//! `farm calibrate --mutants`: whether scenarios see the bugs that were planted for them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::args::CalibrateArgs;
use super::environment::Environment;
use super::perform::{Planned, assign, load, perform, warmth};
use super::provision::{Asked, Grounds, Guests, config, kernel_catalog, sources};
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::kernel::{BuildRequest, Kernel, Mutant, NamedTree, build};
use crate::plan::{Counting, Request, Schedule, expand};
use crate::runner::Assignment;
use crate::scenario::Scenario;
use crate::store::{MutationRecord, MutationRow};

pub(super) fn calibrate(environment: &Environment, options: &CalibrateArgs) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let mutants = chosen(&options.mutants)?;
    let config = config(&catalog, &options.guest.tree.config)?;
    let has_mutants = |tree: &NamedTree| mutants.iter().any(|mutant| mutant.patch(tree).is_some());
    let trees: Vec<&NamedTree> = match &options.guest.tree.tree {
        None => catalog.trees.iter().filter(|tree| has_mutants(tree)).collect(),
        Some(word) => {
            let named = catalog.tree(word.as_str()).filter(|tree| has_mutants(tree));
            let known: Vec<_> = catalog
                .trees
                .iter()
                .filter(|tree| has_mutants(tree))
                .map(|tree| tree.name.as_str())
                .collect();
            let unknown = || {
                Failure::new(ExitCode::Usage, format!("there are no mutants of {word}"))
                    .hint(format!("there are of {}", known.join(", ")))
            };
            vec![named.ok_or_else(unknown)?]
        }
    };
    let mut kernels: Vec<Kernel> = Vec::new();
    let mut rows = Vec::new();
    for named in trees {
        let (_, tree, id) = sources(&environment.cache, &catalog, named.name.as_str().into())?;
        let mut built = |name: &str, patches: &[(String, Vec<u8>)]| -> Result<(), Failure> {
            let request = BuildRequest { patches, ..BuildRequest::new(name, &config) };
            kernels.push(build(&environment.cache, (&tree, &id), &request, &output::note)?);
            Ok(())
        };
        built(&named.name, &[])?;
        for mutant in &mutants {
            let Some(patch) = mutant.patch(named) else { continue };
            let mutated = format!("{}+{}", named.name, mutant.name);
            built(&mutated, &[(mutant.name.clone(), patch)])?;
            rows.push(MutationRow {
                mutant: mutant.name.clone(),
                tree: named.name.clone(),
                scenario: mutant.scenario.clone(),
                base: named.name.clone(),
                mutated,
            });
        }
    }
    let runtime = runtime()?;
    let asked = Asked {
        protection: None,
        fixes: None,
        schedule: Schedule::Parallel,
        seed: options.lives.seed,
        counting: Counting::On,
    };
    let grounds =
        Grounds::with_kernels(environment, &runtime, &options.guest.machine, asked, || Ok(kernels))?;
    let mut scenarios: BTreeMap<&str, Arc<Scenario>> = BTreeMap::new();
    for mutant in &mutants {
        if let [scenario] = &load(std::slice::from_ref(&mutant.scenario))?[..] {
            scenarios.insert(&mutant.scenario, Arc::clone(scenario));
        }
    }
    // What comes seldom takes more lives, with the bug and without.
    let lives = |scenario: &str| {
        let all = mutants.iter().filter(|mutant| mutant.scenario == scenario);
        all.map(|mutant| mutant.lives).max().unwrap_or(1)
    };
    let mut assignments = Vec::new();
    let mut guests = Guests::new();
    let mut seen = HashSet::new();
    for row in &rows {
        let Some(scenario) = scenarios.get(row.scenario.as_str()) else { continue };
        let both = [&row.base, &row.mutated];
        let keys = grounds.request.kernels.iter().filter(|key| both.contains(&&key.name)).cloned();
        let request = Request { kernels: keys.collect(), ..grounds.request.clone() };
        for cell in expand(scenario, &request) {
            if seen.insert(cell.id) {
                let assignment = assign(environment, &grounds, cell, &mut guests)?;
                assignments.push(Assignment { at_least: lives(&row.scenario), ..assignment });
            }
        }
    }
    let scenarios: Vec<_> = scenarios.into_values().collect();
    let planned = Planned {
        jobs: options.lives.jobs,
        repeat: options.repeat,
        warmth: warmth(options.lives.cold),
        mutation: Some(MutationRecord { rows }),
        ..Planned::new(&scenarios, assignments)
    };
    perform(environment, &runtime, grounds, planned)
}

/// Those that are named; all if none is.
fn chosen(names: &[String]) -> Result<Vec<Mutant>, Failure> {
    let all = Mutant::all().map_err(|error| Failure::of(ExitCode::Fault, &error))?;
    if names.iter().all(|name| name == "all") {
        return Ok(all);
    }
    let find = |name: &String| {
        all.iter().find(|mutant| mutant.name == *name).cloned().ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|mutant| mutant.name.as_str()).collect();
            Failure::new(ExitCode::Usage, format!("there is no mutant '{}'", name.escape_debug()))
                .hint(format!("there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}
