//! `farm kernel`: list, fetch.

use serde_json::json;

use super::environment::Environment;
use super::provision::{fetcher, kernel_catalog, unknown_kernel};
use crate::error::{ExitCode, Failure};
use crate::kernel::Refresh;
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
