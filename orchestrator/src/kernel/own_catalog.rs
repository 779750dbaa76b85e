//! A user's own `kernels.yaml`: kernels of trees on this host, by name, beside those that farm knows.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::build::{Base, Compiler, ConfigRecipe, Fragment};
use super::catalog::{
    Catalog, CatalogError, KernelBuild, NamedKernel, NamedTree, Recipe, TreeSources, is_plain_name,
};
use crate::assets;

/// What names the file.
const VARIABLE: &str = "FARM_KERNELS";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwn {
    #[serde(default)]
    trees: BTreeMap<String, RawTree>,
    #[serde(default)]
    configs: BTreeMap<String, RawConfig>,
    #[serde(default)]
    kernels: BTreeMap<String, RawKernel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTree {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    base: Base,
    /// farm's own by name, or files: those have a '/'.
    #[serde(default)]
    fragments: Vec<String>,
    #[serde(default)]
    compiler: Compiler,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKernel {
    tree: String,
    #[serde(default = "lean")]
    config: String,
    #[serde(default)]
    purpose: Option<String>,
    /// Diffs or mailboxes, applied one after the other.
    #[serde(default)]
    patches: Vec<String>,
}

fn lean() -> String {
    "lean".to_owned()
}

/// The file, if there is one: what FARM_KERNELS names, or farm/kernels.yaml in the XDG configuration directory.
pub fn own_catalog_file(variable: impl Fn(&str) -> Option<String>) -> Option<Utf8PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(named) = set(VARIABLE) {
        return Some(named.into());
    }
    let home = || set("HOME").map(|home| Utf8PathBuf::from(home).join(".config"));
    let config = set("XDG_CONFIG_HOME").map(Utf8PathBuf::from).or_else(home)?;
    Some(config.join("farm/kernels.yaml")).filter(|file| file.exists())
}

impl Catalog {
    /// With what the user's file has beside. Paths in it count from where it is; `~/` is the home directory.
    pub fn with_own(mut self, file: &Utf8Path) -> Result<Self, CatalogError> {
        let path = || file.to_owned();
        let text =
            fs::read_to_string(file).map_err(|source| CatalogError::ReadOwn { path: path(), source })?;
        let raw: RawOwn =
            serde_yaml::from_str(&text).map_err(|source| CatalogError::ParseOwn { path: path(), source })?;
        let mut problems = Vec::new();
        let place = |word: &str| match (word.strip_prefix("~/"), std::env::var("HOME")) {
            (Some(rest), Ok(home)) => Utf8PathBuf::from(home).join(rest),
            _ => file.parent().unwrap_or(Utf8Path::new("")).join(word),
        };
        for (name, tree) in raw.trees {
            check_name("tree", &name, self.tree(&name).is_some(), &mut problems);
            self.trees.push(NamedTree { name, sources: TreeSources::Directory(place(&tree.path)) });
        }
        for (name, RawConfig { base, fragments, compiler }) in raw.configs {
            check_name("config", &name, self.config(&name).is_some(), &mut problems);
            let mut fragment = |word: String| {
                let text = match word.contains('/') {
                    true => fs::read_to_string(place(&word)).map_err(|error| error.to_string()),
                    false => assets::fragment(&word)
                        .ok_or_else(|| "farm has none of this name; a file has a '/' in it".to_owned()),
                };
                match text {
                    Ok(text) => Some(Fragment { name: word, text }),
                    Err(why) => {
                        problems.push(format!("the fragment {word:?} of {name:?}: {why}"));
                        None
                    }
                }
            };
            let fragments = fragments.into_iter().filter_map(&mut fragment).collect();
            self.configs.push(ConfigRecipe { name, base, fragments, compiler });
        }
        for (name, RawKernel { tree, config, purpose, patches }) in raw.kernels {
            check_name("kernel", &name, self.kernel(&name).is_some(), &mut problems);
            let (Some(tree), Some(config)) = (self.tree(&tree).cloned(), self.config(&config).cloned())
            else {
                problems.push(format!(
                    "{name:?} is built of {tree:?} with {config:?}, and one of them is unknown"
                ));
                continue;
            };
            let purpose = purpose.unwrap_or_else(|| format!("{} with {}", tree.name, config.name));
            let patches = patches.iter().map(|patch| place(patch)).collect();
            let recipe = Recipe::Build(KernelBuild { tree, config, patches });
            self.kernels.push(NamedKernel { name, purpose, recipe });
        }
        self.kernels.sort_by(|a, b| a.name.cmp(&b.name));
        match problems.is_empty() {
            true => Ok(self),
            false => Err(CatalogError::CheckOwn { path: path(), problems }),
        }
    }
}

fn check_name(what: &str, name: &str, is_taken: bool, problems: &mut Vec<String>) {
    if !is_plain_name(name) {
        problems.push(format!("the {what} name {name:?} is not made of a-z, 0-9, '-', '+' and '.'"));
    }
    if is_taken {
        problems.push(format!("the {what} {name:?} is one of farm's own"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<Catalog, CatalogError> {
        let place = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(place.path()).unwrap();
        fs::write(root.join("my.config"), "CONFIG_A=y\n").unwrap();
        fs::write(root.join("kernels.yaml"), text.replace("HERE", root.as_str())).unwrap();
        Catalog::embedded().unwrap().with_own(&root.join("kernels.yaml"))
    }

    #[test]
    fn trees_of_the_users_have_names_configurations_and_patches() {
        let catalog = with(
            "trees: { mine: { path: HERE/linux } }\n\
             configs: { own: { base: defconfig, fragments: [kasan, ./my.config], compiler: clang } }\n\
             kernels:\n  next: { tree: mine, patches: [fix.mbox] }\n  stable: { tree: linux-6.1, config: own }\n",
        )
        .unwrap();
        let recipe = |name| match &catalog.kernel(name).unwrap().recipe {
            Recipe::Build(recipe) => recipe.clone(),
            Recipe::Package(_) => panic!("{name} is a package"),
        };
        let (next, stable) = (recipe("next"), recipe("stable"));
        let TreeSources::Directory(tree) = &next.tree.sources else { panic!("{next:?}") };
        assert!(tree.ends_with("linux") && next.patches[0].ends_with("fix.mbox"));
        assert_eq!((next.config.name.as_str(), &stable.tree.name[..]), ("lean", "linux-6.1"));
        assert_eq!((stable.config.base, stable.config.compiler), (Base::DefConfig, Compiler::Clang));
        assert_eq!(stable.config.fragments[1].text, "CONFIG_A=y\n");
        assert!(catalog.kernel("debian-12").is_some());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let error = with(
            "trees: { linux-6.1: { path: x } }\n\
             configs: { c: { base: defconfig, fragments: [none, ./none] } }\n\
             kernels: { 'A b': { tree: nowhere } }\n",
        )
        .unwrap_err()
        .to_string();
        for expected in [
            "the tree \"linux-6.1\" is one of farm's own",
            "\"none\" of \"c\": farm has none",
            "\"./none\" of \"c\": No such file",
            "\"A b\" is not made of",
            "built of \"nowhere\" with \"lean\"",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let error = with("kernels: { a: { trees: x } }\n").unwrap_err();
        assert!(matches!(error, CatalogError::ParseOwn { .. }), "{error}");
    }

    #[test]
    fn the_file_is_named_or_where_xdg_has_it() {
        let place = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(place.path()).unwrap();
        let found = |variables: &[(&str, &str)]| {
            own_catalog_file(|name| {
                variables.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(found(&[("HOME", root.as_str())]), None);
        assert_eq!(found(&[("FARM_KERNELS", "mine.yaml")]), Some("mine.yaml".into()));
        let file = root.join("farm/kernels.yaml");
        fs::create_dir(root.join("farm")).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(found(&[("HOME", "/nowhere"), ("XDG_CONFIG_HOME", root.as_str())]), Some(file));
    }
}
