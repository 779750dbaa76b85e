//! `kernels/kernels.yaml`: the named kernels, read and checked.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::build::{Base, Compiler, ConfigRecipe, Fragment};
use crate::assets;

/// The package of the C library, on every architecture that farm runs on.
const LIBC: &str = "libc6";

/// The checked file: every source that is referred to exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// In the order of their names.
    pub kernels: Vec<NamedKernel>,
    pub configs: Vec<ConfigRecipe>,
    pub trees: Vec<NamedTree>,
    pub busybox: Packages,
    pub qemu: Packages,
}

/// A kernel that can be asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKernel {
    pub name: String,
    /// One line for people.
    pub purpose: String,
    pub recipe: Recipe,
}

impl NamedKernel {
    /// What is in them is known when they are read, and no sooner.
    pub fn is_of_users_files(&self) -> bool {
        match &self.recipe {
            Recipe::Package(_) => false,
            Recipe::Build(KernelBuild { tree, patches, .. }) => {
                !patches.is_empty() || matches!(tree.sources, TreeSources::Directory(_))
            }
        }
    }
}

/// How a named kernel comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// A distribution's packages.
    Package(KernelPackages),
    /// Sources that are built here.
    Build(KernelBuild),
}

/// A kernel that is built here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBuild {
    pub tree: NamedTree,
    pub config: ConfigRecipe,
    /// Files of patches, which are applied one after the other.
    pub patches: Vec<Utf8PathBuf>,
}

/// Sources by name, for all kernels that are built of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTree {
    pub name: String,
    pub sources: TreeSources,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeSources {
    /// A distribution's package of sources.
    Package(Packages),
    /// The user's tree, as it is.
    Directory(Utf8PathBuf),
}

/// Packages that make a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPackages {
    /// The metapackage that depends on the image proper.
    pub image: Packages,
    /// Where the programs of its build come from, for this host.
    pub kbuild: Source,
    /// The C library that these need, where the host's own may be too old.
    pub libc: Option<Packages>,
}

/// Packages that are taken, in one version, from one source. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packages {
    pub names: Vec<String>,
    pub source: Source,
}

/// Suites of Debian's archives that apt looks at together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub main: Vec<String>,
    pub security: Vec<String>,
    pub pinned: Vec<Pinned>,
}

/// A version of a package that stands in for one that no verified index lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    pub package: String,
    pub version: String,
    /// Below the root of the main archive.
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// The names of the packages it depends on.
    #[serde(default)]
    pub depends: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("kernels.yaml cannot be read")]
    Parse(#[source] serde_yaml::Error),
    /// Every problem at once.
    #[error("kernels.yaml: {}", problems.join("; "))]
    Check { problems: Vec<String> },
    #[error("{path} cannot be read")]
    ReadOwn { path: Utf8PathBuf, source: std::io::Error },
    #[error("{path} is not what farm reads: docs/kernels.md has what can stand in it")]
    ParseOwn { path: Utf8PathBuf, source: serde_yaml::Error },
    #[error("{path}: {}", problems.join("; "))]
    CheckOwn { path: Utf8PathBuf, problems: Vec<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalog {
    sources: BTreeMap<String, RawSource>,
    #[serde(default)]
    trees: BTreeMap<String, RawPackage>,
    #[serde(default)]
    configs: BTreeMap<String, RawConfig>,
    kernels: BTreeMap<String, RawKernel>,
    busybox: RawPackage,
    qemu: RawPackages,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    main: Vec<String>,
    /// Default: none; backports, for one, have no security archive.
    #[serde(default)]
    security: Vec<String>,
    /// Default: what no verified index lists is not to be had.
    #[serde(default)]
    pinned: Vec<Pinned>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    base: Base,
    /// Names of files in kernels/configs, without `.config`.
    fragments: Vec<String>,
    #[serde(default)]
    compiler: Compiler,
}

/// Either a package (with source and kbuild) or a build (a tree and a config).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKernel {
    purpose: String,
    #[serde(default)]
    package: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    kbuild: Option<String>,
    /// Default: the programs run with the host's C library.
    #[serde(default)]
    libc: Option<String>,
    #[serde(default)]
    tree: Option<String>,
    #[serde(default)]
    config: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackage {
    package: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPackages {
    packages: Vec<String>,
    source: String,
}

impl Catalog {
    /// What the repository has.
    pub fn embedded() -> Result<Self, CatalogError> {
        Self::parse(assets::KERNELS_YAML, assets::fragment)
    }

    /// `fragment` gives the text of a piece of configuration by its name.
    pub fn parse(text: &str, fragment: impl Fn(&str) -> Option<String>) -> Result<Self, CatalogError> {
        let raw: RawCatalog = serde_yaml::from_str(text).map_err(CatalogError::Parse)?;
        let mut check = Check { sources: &raw.sources, problems: Vec::new() };
        check.sources();
        let configs: Vec<ConfigRecipe> =
            raw.configs.iter().map(|(name, config)| check.config(name, config, &fragment)).collect();
        let trees: Vec<NamedTree> = raw.trees.iter().map(|(name, tree)| check.tree(name, tree)).collect();
        let mut kernels = Vec::new();
        for (name, kernel) in &raw.kernels {
            check.word("kernel", name);
            if let Some(recipe) = check.recipe(name, kernel, &trees, &configs) {
                kernels.push(NamedKernel { name: name.clone(), purpose: kernel.purpose.clone(), recipe });
            }
        }
        let busybox =
            check.packages("busybox", std::slice::from_ref(&raw.busybox.package), &raw.busybox.source);
        let qemu = check.packages("qemu", &raw.qemu.packages, &raw.qemu.source);
        let problems = check.problems;
        if problems.is_empty() {
            Ok(Self { kernels, configs, trees, busybox, qemu })
        } else {
            Err(CatalogError::Check { problems })
        }
    }

    pub fn kernel(&self, name: &str) -> Option<&NamedKernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    pub fn tree(&self, name: &str) -> Option<&NamedTree> {
        self.trees.iter().find(|tree| tree.name == name)
    }

    pub fn config(&self, name: &str) -> Option<&ConfigRecipe> {
        self.configs.iter().find(|config| config.name == name)
    }
}

struct Check<'a> {
    sources: &'a BTreeMap<String, RawSource>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn sources(&mut self) {
        let sources = self.sources;
        for (name, source) in sources {
            self.word("source", name);
            if source.main.is_empty() && source.security.is_empty() {
                self.problems.push(format!("source {name:?} has no suites"));
            }
            for suite in source.main.iter().chain(&source.security) {
                self.word("suite", suite);
            }
            for pinned in &source.pinned {
                self.pinned(name, pinned);
            }
        }
    }

    fn tree(&mut self, name: &str, package: &RawPackage) -> NamedTree {
        self.word("tree", name);
        let sources = self.packages(name, std::slice::from_ref(&package.package), &package.source);
        NamedTree { name: name.to_owned(), sources: TreeSources::Package(sources) }
    }

    fn config(
        &mut self,
        name: &str,
        config: &RawConfig,
        fragment: &impl Fn(&str) -> Option<String>,
    ) -> ConfigRecipe {
        self.word("config", name);
        let mut fragments = Vec::new();
        for part in &config.fragments {
            match fragment(part) {
                Some(text) => fragments.push(Fragment { name: part.clone(), text }),
                None => self.problems.push(format!("{name:?} has no fragment {part:?} in kernels/configs")),
            }
        }
        ConfigRecipe { name: name.to_owned(), base: config.base, fragments, compiler: config.compiler }
    }

    fn recipe(
        &mut self,
        name: &str,
        kernel: &RawKernel,
        trees: &[NamedTree],
        configs: &[ConfigRecipe],
    ) -> Option<Recipe> {
        match kernel {
            RawKernel {
                package: Some(package),
                source: Some(source),
                kbuild: Some(kbuild),
                libc,
                tree: None,
                config: None,
                ..
            } => {
                let image = self.packages(name, std::slice::from_ref(package), source);
                let kbuild = self.source(name, kbuild);
                let libc = libc.as_ref().map(|source| self.packages(name, &[LIBC.to_owned()], source));
                Some(Recipe::Package(KernelPackages { image, kbuild, libc }))
            }
            RawKernel {
                package: None,
                source: None,
                kbuild: None,
                libc: None,
                tree: Some(tree),
                config: Some(config),
                ..
            } => {
                let tree_found = trees.iter().find(|known| known.name == *tree);
                let found = (tree_found, configs.iter().find(|known| known.name == *config));
                let (Some(tree), Some(config)) = found else {
                    self.problems.push(format!(
                        "{name:?} is built of {tree:?} with {config:?}, and one of them is unknown"
                    ));
                    return None;
                };
                let (tree, config) = (tree.clone(), config.clone());
                Some(Recipe::Build(KernelBuild { tree, config, patches: Vec::new() }))
            }
            _ => {
                self.problems.push(format!(
                    "{name:?} has to have either package, source and kbuild, or tree and config"
                ));
                None
            }
        }
    }

    fn pinned(&mut self, source: &str, pinned: &Pinned) {
        for name in [&pinned.package].into_iter().chain(&pinned.depends) {
            self.word("package", name);
        }
        let package = &pinned.package;
        if self.sources.get(source).is_none_or(|source| source.main.is_empty()) {
            self.problems
                .push(format!("{package:?} is pinned in {source:?}, which has nothing of the main archive"));
        }
        if pinned.sha256.len() != 64 || !pinned.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            self.problems.push(format!("the pinned {package:?} has no SHA-256 of 64 digits"));
        }
        if !pinned.file.starts_with("pool/") || pinned.file.split('/').any(|part| part == "..") {
            self.problems.push(format!("the pinned {package:?} is not below pool/"));
        }
    }

    fn packages(&mut self, user: &str, names: &[String], source: &str) -> Packages {
        if names.is_empty() {
            self.problems.push(format!("{user:?} names no package"));
        }
        for name in names {
            self.word("package", name);
        }
        Packages { names: names.to_vec(), source: self.source(user, source) }
    }

    fn source(&mut self, user: &str, source: &str) -> Source {
        let found = self.sources.get(source);
        if found.is_none() {
            let known: Vec<_> = self.sources.keys().map(String::as_str).collect();
            self.problems.push(format!(
                "{user:?} refers to the source {source:?}, which is none of {}",
                known.join(", ")
            ));
        }
        let suites = |of: fn(&RawSource) -> &Vec<String>| found.map(of).cloned().unwrap_or_default();
        Source {
            name: source.to_owned(),
            main: suites(|source| &source.main),
            security: suites(|source| &source.security),
            pinned: found.map(|source| source.pinned.clone()).unwrap_or_default(),
        }
    }

    /// Names become file names and words of apt's configuration and command line.
    fn word(&mut self, what: &str, word: &str) {
        if !is_plain_name(word) {
            self.problems.push(format!("the {what} name {word:?} is not made of a-z, 0-9, '-', '+' and '.'"));
        }
    }
}

pub(super) fn is_plain_name(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+.".contains(c);
    word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::fragment;

    #[test]
    fn the_repositorys_catalog_names_debians_kernels_apart() {
        let catalog = Catalog::embedded().unwrap();
        let sources: Vec<_> = catalog
            .kernels
            .iter()
            .filter_map(|kernel| {
                let Recipe::Package(KernelPackages { image, kbuild, libc }) = &kernel.recipe else {
                    return None;
                };
                let libc = libc.as_ref().map_or("", |libc| &libc.source.name);
                Some([&kernel.name, &image.names[0], &image.source.name, &kbuild.name, libc])
            })
            .collect();
        assert_eq!(
            sources,
            [
                ["debian-12", "linux-image-s390x", "bookworm", "bookworm", ""],
                ["debian-13", "linux-image-s390x", "trixie", "bookworm-backports", ""],
                ["debian-14", "linux-image-s390x", "forky", "forky", "forky"],
            ]
        );
        let bookworm = &catalog.busybox.source;
        assert!(bookworm.main.iter().chain(&bookworm.security).all(|suite| suite.starts_with("bookworm")));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let text = "
sources:
  Empty: { main: [], pinned: [{ package: p, version: '1', file: /p, bytes: 1, sha256: 00FF }] }
configs: { c: { base: allnoconfig, fragments: [none] } }
kernels:
  a: { purpose: p, package: 'x y', source: nowhere, kbuild: neither }
  b: { purpose: p, tree: t, config: c }
  c: { purpose: p, tree: t, source: s }
busybox: { package: busybox, source: Empty }
qemu: { packages: [], source: Empty }
";
        let CatalogError::Check { problems } = Catalog::parse(text, fragment).unwrap_err() else { panic!() };
        let expected = [
            "\"Empty\" is not made of",
            "has no suites",
            "nothing of the main archive",
            "no SHA-256 of 64",
            "not below pool/",
            "\"x y\"",
            "\"nowhere\"",
            "\"neither\"",
            "names no package",
            "no fragment \"none\"",
            "built of \"t\" with",
            "has to have either",
        ];
        for part in expected {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
        }
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    }

    #[test]
    fn unknown_fields_are_errors() {
        let text = "
sources: {}
kernels: { a: { purpose: p, package: x, source: s, kbuild: s, linux: /linux } }
busybox: { package: b, source: s }
qemu: { packages: [q], source: s }
";
        let CatalogError::Parse(error) = Catalog::parse(text, fragment).unwrap_err() else { panic!() };
        assert!(error.to_string().contains("unknown field `linux`"), "{error}");
    }
}
