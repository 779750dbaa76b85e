//! `farm try`: what a patch changes, by the same cells with it and without it.

use camino::Utf8Path;

use super::args::TryArgs;
use super::environment::{Environment, absolute};
use super::perform::{Planned, assign_all, load, perform, warmth};
use super::provision::{Asked, Grounds, config, kernel_catalog, sources};
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::kernel::{BuildRequest, Catalog, Kernel, KernelError, Origin, Series, Tree, TreeId, build};
use crate::store::TrialRecord;

/// The two kernels' contents, and the patches' subjects.
struct Subject {
    tree: Tree,
    base: TreeId,
    patched: TreeId,
    subjects: Vec<String>,
}

pub(super) fn try_patch(environment: &Environment, options: &TryArgs) -> Result<ExitCode, Failure> {
    let scenarios = load(&options.scenarios)?;
    let catalog = kernel_catalog()?;
    let config = config(&catalog, &options.config)?;
    let Subject { tree, base, patched, subjects } = subject(environment, &catalog, options)?;
    for subject in &subjects {
        output::note(&format!("trying: {subject}"));
    }
    let cache = &environment.cache;
    let built = |name: &str, id: &TreeId| -> Result<Kernel, Failure> {
        let request = BuildRequest::new(name, &config);
        Ok(build(cache, (&tree, id), &request, &output::note)?)
    };
    let kernels = vec![built("base", &base)?, built("patched", &patched)?];
    drop(tree);
    if signature(&kernels[0]).is_some() && signature(&kernels[0]) == signature(&kernels[1]) {
        output::note(
            "what is loaded of both kernels is the same: the patch changes nothing that this configuration builds",
        );
    }
    let record = TrialRecord {
        base: kernels[0].key.name.clone(),
        patched: kernels[1].key.name.clone(),
        base_tree: base.as_str().to_owned(),
        patched_tree: patched.as_str().to_owned(),
        config: config.name.clone(),
        subjects,
    };
    let runtime = runtime()?;
    let asked = Asked { seed: options.lives.seed, ..Asked::default() };
    let grounds = Grounds::with_kernels(environment, &runtime, &options.machine, asked, || Ok(kernels))?;
    let assignments = assign_all(environment, &grounds, &scenarios)?;
    let planned = Planned {
        jobs: options.lives.jobs,
        repeat: options.repeat,
        warmth: warmth(options.lives.cold),
        trial: Some(record),
        ..Planned::new(&scenarios, assignments)
    };
    perform(environment, &runtime, grounds, planned)
}

fn signature(kernel: &Kernel) -> Option<&str> {
    match &kernel.origin {
        Origin::Built { signature, .. } => Some(signature),
        _ => None,
    }
}

/// A file of patches on the tree as it is, or a branch of its repository on the commit that it left HEAD at.
fn subject(environment: &Environment, catalog: &Catalog, options: &TryArgs) -> Result<Subject, Failure> {
    let what = Utf8Path::new(&options.what);
    if what.is_file() {
        let series = Series::of_file(&absolute(what)?)?;
        let (_, tree, base) = sources(&environment.cache, catalog, &options.tree)?;
        let patched = tree.patched(&base, &series.patches)?;
        return Ok(Subject { tree, base, patched, subjects: series.subjects() });
    }
    if !options.tree.is_dir() {
        // Sources by name have no branches; and else it says what they are called.
        sources(&environment.cache, catalog, &options.tree)?;
        let error = KernelError::NoPatch { what: options.what.clone(), tree: options.tree.clone() };
        return Err(Failure::of(ExitCode::Usage, &error));
    }
    let directory = absolute(&options.tree)?;
    Tree::check(&directory)?;
    let branch = Tree::of_branch(&environment.cache, &directory, &options.what, &output::note)?;
    let (tree, base, patched, subjects) = branch;
    Ok(Subject { tree, base, patched, subjects })
}
