//! Finds scenarios: those that farm brings, by name, and any other by path.

use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use include_dir::{Dir, File};

use super::check::{Source, check};
use super::executable::{Beside, Nowhere, ReadFile};
use super::problem::{Mark, Problem, Problems, printable, suggest};
use super::tree::LARGEST_FILE;
use super::{Catalog, Scenario};

/// The scenarios that farm brings, and the catalog that all are checked against.
#[derive(Debug, Clone)]
pub struct Library {
    /// The folder `scenarios/` of the repository.
    pub scenarios: Dir<'static>,
    pub catalog: Catalog,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The hint says which names there are.
    #[error("no scenario or group of scenarios has the name '{}'", printable(.name))]
    Unknown { name: String, hint: Option<String> },
    #[error("'{name}' is a group of scenarios, and one is wanted: {}", members.join(", "))]
    Group { name: String, members: Vec<String> },
    #[error("cannot read scenario {}", printable(.path.as_str()))]
    Unreadable { path: Utf8PathBuf, source: io::Error },
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl Library {
    /// The scenario of that name, or, if the word has a `/` or ends in `.yaml` or `.yml`, at that path.
    pub fn load(&self, name_or_path: &str) -> Result<Scenario, LoadError> {
        if is_path(name_or_path) {
            return self.load_path(Utf8Path::new(name_or_path));
        }
        if let Some(file) = self.files().into_iter().find(|file| stem(file) == Some(name_or_path)) {
            return self.check_embedded(file);
        }
        let name = name_or_path.to_owned();
        Err(match self.group(name_or_path) {
            Some(files) => {
                let members = files.into_iter().filter_map(stem).map(str::to_owned).collect();
                LoadError::Group { name, members }
            }
            None => LoadError::Unknown { name, hint: suggest(name_or_path, self.names()) },
        })
    }

    /// All scenarios of the group of that name, by file, or else the one that [`Library::load`] gives.
    pub fn load_all(&self, name_or_path: &str) -> Result<Vec<Scenario>, LoadError> {
        match self.group(name_or_path) {
            Some(files) => files.into_iter().map(|file| self.check_embedded(file)).collect(),
            None => Ok(vec![self.load(name_or_path)?]),
        }
    }

    /// The group of a scenario that farm brings.
    pub fn group_of(&self, scenario: &Scenario) -> Option<&'static str> {
        let file = self.files().into_iter().find(|file| stem(file) == Some(scenario.name.as_str()))?;
        self.groups().find(|group| file.path().starts_with(group))
    }

    /// The YAML text of a scenario, named as for [`Library::load`].
    pub fn text(&self, name_or_path: &str) -> Result<String, LoadError> {
        let scenario = self.load(name_or_path)?;
        let embedded = self.files().into_iter().find(|file| stem(file) == Some(name_or_path));
        match embedded.and_then(File::contents_utf8) {
            Some(text) => Ok(text.to_owned()),
            None => std::fs::read_to_string(&scenario.file)
                .map_err(|source| LoadError::Unreadable { path: scenario.file.into(), source }),
        }
    }

    /// Every scenario that farm brings, by file.
    pub fn all(&self) -> Result<Vec<Scenario>, LoadError> {
        self.files().into_iter().map(|file| self.check_embedded(file)).collect()
    }

    fn load_path(&self, path: &Utf8Path) -> Result<Scenario, LoadError> {
        let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
        let bytes = read(path).map_err(unreadable)?;
        // The programs beside it are kept in its cells by path, which are read from anywhere.
        let place = camino::absolute_utf8(path).map_err(unreadable)?;
        let folder = place.parent().map(Utf8Path::to_owned).unwrap_or_default();
        self.check_bytes(path.as_str(), &bytes, &Beside { folder })
    }

    fn check_embedded(&self, file: &File<'_>) -> Result<Scenario, LoadError> {
        self.check_bytes(&format!("scenarios/{}", file.path().display()), file.contents(), &Nowhere)
    }

    fn check_bytes(&self, file: &str, bytes: &[u8], files: &dyn ReadFile) -> Result<Scenario, LoadError> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line_start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let at = Mark {
                line: 1 + good.iter().filter(|byte| **byte == b'\n').count(),
                column: 1 + String::from_utf8_lossy(&good[line_start..]).chars().count(),
            };
            let problems = Problems::new(file);
            problems.report(at, "not UTF-8", None);
            LoadError::Invalid(problems.into_sorted())
        })?;
        check(Source { file, text }, &self.catalog, files).map_err(LoadError::Invalid)
    }

    fn files(&self) -> Vec<&'static File<'static>> {
        yaml_files(&self.scenarios)
    }

    /// A folder of `scenarios/` is a group.
    fn groups(&self) -> impl Iterator<Item = &'static str> {
        self.scenarios.dirs().filter_map(|folder| folder.path().to_str())
    }

    /// The files of a group.
    fn group(&self, name: &str) -> Option<Vec<&'static File<'static>>> {
        self.scenarios.dirs().find(|folder| folder.path().to_str() == Some(name)).map(yaml_files)
    }

    /// Of all scenarios and groups.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.files().into_iter().filter_map(stem).chain(self.groups())
    }
}

/// Whether a word is a scenario's path, and no name.
pub fn is_path(word: &str) -> bool {
    word.contains('/') || matches!(Utf8Path::new(word).extension(), Some("yaml" | "yml"))
}

/// One byte more than the checker takes is enough for it to say so.
fn read(path: &Utf8Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Those of the folder itself and of all below it, by path.
fn yaml_files(folder: &Dir<'static>) -> Vec<&'static File<'static>> {
    let yaml = |file: &&File<'_>| file.path().extension().is_some_and(|extension| extension == "yaml");
    let mut files: Vec<_> = folder.files().filter(yaml).collect();
    files.extend(folder.dirs().flat_map(yaml_files));
    files.sort_by_key(|file| file.path());
    files
}

fn stem<'f>(file: &'f File<'_>) -> Option<&'f str> {
    file.path().file_stem().and_then(|stem| stem.to_str())
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
