//! `farm scenario`: list, check, show.

use super::environment::Environment;
use super::output;
use crate::assets;
use crate::error::{ExitCode, Failure};
use crate::guest::{Manifest, module_names};
use crate::report::{Align, Table};
use crate::scenario::{Catalog, Library, LoadError};

/// The scenarios and the programs that farm brings.
pub(super) fn library() -> Result<Library, Failure> {
    let catalog = Catalog::embedded().map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new(ExitCode::Fault, lines.join("\n"))
    })?;
    let mut modules = module_names(&assets::GUESTS);
    modules.extend(Manifest::parse(assets::LITE_YAML)?.known_modules());
    let catalog = catalog.with_modules(modules);
    Ok(Library { scenarios: assets::SCENARIOS.clone(), catalog })
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let failure = Failure::of(ExitCode::Usage, &error);
        match error {
            LoadError::Unknown { hint, .. } => failure.hint(hint.unwrap_or_else(|| {
                "`farm scenario list` lists names; a file of your own is given by a path with a / or .yaml".to_owned()
            })),
            LoadError::Group { .. } | LoadError::Unreadable { .. } | LoadError::Invalid(_) => failure,
        }
    }
}

pub(super) fn list(environment: &Environment) -> Result<ExitCode, Failure> {
    let library = library()?;
    let scenarios = library.all()?;
    let mut table = Table::new(&[
        ("group", Align::Left),
        ("scenario", Align::Left),
        ("needs", Align::Left),
        ("purpose", Align::Left),
    ]);
    for scenario in &scenarios {
        let group = library.group_of(scenario).unwrap_or_default().to_owned();
        let needs: Vec<_> = scenario.needs.iter().map(ToString::to_string).collect();
        table.row([group, scenario.name.to_string(), needs.join(" "), scenario.purpose.clone()]);
    }
    environment.print(&table.to_string(), &scenarios)?;
    Ok(ExitCode::Passed)
}

pub(super) fn check(environment: &Environment, files: &[String]) -> Result<ExitCode, Failure> {
    let library = library()?;
    let mut good = Vec::new();
    let mut problems = Vec::new();
    let mut code = ExitCode::Passed;
    for file in files {
        match library.load_all(file) {
            Ok(scenarios) => good.extend(scenarios),
            Err(LoadError::Invalid(found)) => {
                code = ExitCode::Usage;
                problems.extend(found);
            }
            Err(other) => {
                code = ExitCode::Usage;
                output::failure(&other.into());
            }
        }
    }
    let mut text = String::new();
    for scenario in &good {
        text += &format!("{}: good: {}\n", scenario.file, scenario.purpose);
    }
    for problem in &problems {
        text += &format!("{problem}\n");
    }
    environment.print(&text, &serde_json::json!({ "good": good, "problems": problems }))?;
    Ok(code)
}

pub(super) fn show(environment: &Environment, name: &str) -> Result<ExitCode, Failure> {
    let library = library()?;
    let scenario = library.load(name)?;
    let text = library.text(name)?;
    environment.print(&text, &scenario)?;
    Ok(ExitCode::Passed)
}
