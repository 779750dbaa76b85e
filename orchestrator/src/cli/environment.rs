//! What every command needs: where things lie, and how to print.

use camino::{Utf8Path, Utf8PathBuf};
use tracing_subscriber::EnvFilter;

use super::args::Args;
use super::output;
use crate::cache::Cache;
use crate::error::{ExitCode, Failure};
use crate::store::Store;

pub(super) struct Environment {
    pub(super) store: Store,
    pub(super) state_dir: Utf8PathBuf,
    pub(super) cache: Cache,
    pub(super) json: bool,
}

impl Environment {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        start_logging(args.verbose)?;
        let variable = |name: &str| std::env::var(name).ok();
        let state_dir = state_directory(args.state.as_deref(), variable)?;
        let cache = Cache::locate(args.cache.as_deref(), variable)?;
        Ok(Self { store: Store::new(state_dir.clone()), state_dir, cache, json: args.json })
    }

    /// Prints a result: as text, or as JSON if asked.
    pub(super) fn print(&self, text: &str, value: &impl serde::Serialize) -> Result<(), Failure> {
        if self.json { output::json(value) } else { output::text(text) }
    }
}

/// The directory given, or the one the XDG base directory specification names. Always absolute: QEMU is started in
/// other directories.
fn state_directory(
    given: Option<&Utf8Path>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Utf8PathBuf, Failure> {
    if let Some(given) = given {
        return absolute(given);
    }
    let set = |name| variable(name).map(Utf8PathBuf::from).filter(|path| path.is_absolute());
    match set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state"))) {
        Some(base) => Ok(base.join("farm")),
        None => Err(Failure::new(ExitCode::Usage, "neither XDG_STATE_HOME nor HOME names a directory")
            .hint("give one with --state DIR")),
    }
}

pub(super) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf, Failure> {
    camino::absolute_utf8(path).map_err(|error| {
        Failure::of(ExitCode::Usage, &error).hint(format!("{path} cannot be made an absolute path"))
    })
}

fn start_logging(verbose: u8) -> Result<(), Failure> {
    let level = match verbose {
        0 => "warn",
        1 => "farm=info,warn",
        _ => "farm=debug,info",
    };
    let filter = match std::env::var("FARM_LOG") {
        Ok(filter) => EnvFilter::try_new(&filter).map_err(|error| {
            Failure::of(ExitCode::Usage, &error).hint(format!("FARM_LOG={filter} is not a tracing filter"))
        })?,
        Err(_) => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .compact()
        .init();
    Ok(())
}
