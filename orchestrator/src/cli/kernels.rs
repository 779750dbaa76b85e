//! `farm kernel`: list, fetch, build.

use serde_json::json;

use super::args::TreeArgs;
use super::environment::Environment;
use super::output;
use super::provision::{config, fetcher, kernel_catalog, of_tree, sources, unknown_kernel};
use crate::error::{ExitCode, Failure};
use crate::kernel::{BuildRequest, Kernel, KernelError, Recipe, Refresh, Tree, configuration};
use crate::report::{Align, Table};

pub(super) fn list(environment: &Environment) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let fetcher = fetcher(&environment.cache, Refresh::No);
    let mut table = Table::new(&[
        ("kernel", Align::Left),
        ("cached", Align::Left),
        ("release", Align::Left),
        ("purpose", Align::Left),
    ]);
    let mut values = Vec::new();
    for named in &catalog.kernels {
        let cached = fetcher.cached_kernel(named)?;
        let (version, release) = match &cached {
            Some(kernel) => (kernel.key.version.clone(), kernel.key.release.clone()),
            None => ("no".to_owned(), String::new()),
        };
        table.row([named.name.clone(), version, release, named.purpose.clone()]);
        values.push(json!({
            "name": named.name, "purpose": named.purpose,
            "cached": cached.map(|kernel| json!({ "key": kernel.key, "boot": kernel.boot, "origin": kernel.origin })),
        }));
    }
    environment.print(&table.to_string(), &values)?;
    Ok(ExitCode::Passed)
}

pub(super) fn fetch(environment: &Environment, names: &[String]) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let fetcher = fetcher(&environment.cache, Refresh::Yes);
    // The image needs it beside the kernel, and modules their headers: after this, runs need no network.
    fetcher.busybox(&catalog.busybox)?;
    let mut text = String::new();
    let mut keys = Vec::new();
    for name in names {
        let named = catalog.kernel(name).ok_or_else(|| unknown_kernel(name, &catalog))?;
        let kernel = fetcher.kernel(named)?;
        fetcher.headers(named, &kernel)?;
        let key = kernel.key;
        text += &format!("{} {} ({})\n", key.name, key.version, key.release);
        keys.push(key);
    }
    environment.print(&text, &keys)?;
    Ok(ExitCode::Passed)
}

pub(super) fn symbols(environment: &Environment, names: &[String]) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let fetcher = fetcher(&environment.cache, Refresh::No);
    let mut text = String::new();
    let mut values = Vec::new();
    for name in names {
        let named = catalog.kernel(name).ok_or_else(|| unknown_kernel(name, &catalog))?;
        let Recipe::Package(packages) = &named.recipe else {
            let message = format!("{name} is built here, and has its debug information already");
            return Err(Failure::new(ExitCode::Usage, message));
        };
        let kernel = fetcher.kernel(named)?;
        let kernel = fetcher.debug_package(packages, kernel).map_err(|error| match error {
            error @ (KernelError::NoPackage { .. } | KernelError::OtherVersion { .. }) => {
                Failure::from(error)
                    .hint(format!("the archive may have a newer kernel by now: `farm kernel fetch {name}`"))
            }
            error => error.into(),
        })?;
        text += &format!(
            "{} {} ({})\n  vmlinux  {}\n  modules  {}\n",
            kernel.key.name,
            kernel.key.version,
            kernel.key.release,
            place(&kernel.vmlinux),
            place(&kernel.debug_modules),
        );
        values.push(
            json!({ "key": kernel.key, "vmlinux": kernel.vmlinux, "debug_modules": kernel.debug_modules }),
        );
    }
    environment.print(&text, &values)?;
    Ok(ExitCode::Passed)
}

pub(super) fn configs(environment: &Environment) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let columns = ["config", "base", "fragments", "compiler"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    let mut values = Vec::new();
    for config in &catalog.configs {
        let fragments: Vec<&str> = config.fragments.iter().map(|fragment| fragment.name.as_str()).collect();
        let compiler = config.compiler;
        table.row([config.name.clone(), config.base.to_string(), fragments.join(", "), compiler.to_string()]);
        values.push(json!({
            "name": config.name, "base": config.base, "fragments": fragments, "compiler": compiler,
        }));
    }
    environment.print(&table.to_string(), &values)?;
    Ok(ExitCode::Passed)
}

pub(super) fn build(
    environment: &Environment,
    names: &[String],
    tree: &TreeArgs,
) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let fetcher = fetcher(&environment.cache, Refresh::No);
    let mut kernels = Vec::new();
    if let Some(directory) = &tree.tree {
        kernels.push(of_tree(&environment.cache, &catalog, directory, &tree.config)?);
    }
    for name in names {
        let named = catalog.kernel(name).ok_or_else(|| unknown_kernel(name, &catalog))?;
        if !matches!(named.recipe, Recipe::Build(_)) {
            let message = format!("{name} is a distribution's package");
            return Err(Failure::new(ExitCode::Usage, message).hint(format!("`farm kernel fetch {name}`")));
        }
        kernels.push(fetcher.kernel(named)?);
    }
    if kernels.is_empty() {
        let message = "no kernel is named: say which, or give a tree with --tree";
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let text: String = kernels.iter().map(built_text).collect();
    let values: Vec<_> = kernels
        .iter()
        .map(|kernel| {
            json!({
                "key": kernel.key, "boot": kernel.boot, "modules": kernel.modules, "vmlinux": kernel.vmlinux,
                "debug_modules": kernel.debug_modules, "config": kernel.config, "headers": kernel.headers, "origin": kernel.origin,
            })
        })
        .collect();
    environment.print(&text, &values)?;
    Ok(ExitCode::Passed)
}

fn built_text(kernel: &Kernel) -> String {
    format!(
        "{} {} ({})\n  boot     {}\n  vmlinux  {}\n  config   {}\n  headers  {}\n",
        kernel.key.name,
        kernel.key.version,
        kernel.key.release,
        kernel.boot,
        place(&kernel.vmlinux),
        place(&kernel.config),
        place(&kernel.headers),
    )
}

fn place(path: &Option<camino::Utf8PathBuf>) -> String {
    path.as_ref().map_or(String::new(), ToString::to_string)
}

pub(super) fn show_config(
    environment: &Environment,
    name: Option<&str>,
    asked: &TreeArgs,
) -> Result<ExitCode, Failure> {
    let catalog = kernel_catalog()?;
    let cache = &environment.cache;
    let of = |name: &str, recipe: &_, patches: &[_], tree: &Tree, id: &_| {
        let request = BuildRequest { patches, ..BuildRequest::new(name, recipe) };
        configuration(cache, (tree, id), &request, &output::note)
    };
    let text = match (&asked.tree, name) {
        (Some(word), _) => {
            let (name, tree, id) = sources(cache, &catalog, word)?;
            of(&name, &config(&catalog, &asked.config)?, &[], &tree, &id)?
        }
        (None, name) => {
            let name = name.unwrap_or_default();
            let named = catalog.kernel(name).ok_or_else(|| unknown_kernel(name, &catalog))?;
            let Recipe::Build(recipe) = &named.recipe else {
                let message = format!("{name} is a distribution's package, and not built here");
                return Err(Failure::new(ExitCode::Usage, message));
            };
            let (tree, id) = fetcher(cache, Refresh::No).sources(&recipe.tree)?;
            of(name, &recipe.config, &recipe.patches()?, &tree, &id)?
        }
    };
    environment.print(&text, &json!({ "config": text }))?;
    Ok(ExitCode::Passed)
}
