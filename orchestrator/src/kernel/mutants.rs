//! `kernels/mutants/mutants.yaml`: patches that plant one bug each, and the scenario that must see it.

use serde::Deserialize;

use super::catalog::{CatalogError, NamedTree};
use crate::assets;

/// A planted bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    pub name: String,
    /// One line for people.
    pub purpose: String,
    /// The scenario, by name.
    pub scenario: String,
    /// How many lives it takes to see what comes seldom.
    pub lives: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMutant {
    name: String,
    purpose: String,
    scenario: String,
    /// Default: one is enough.
    #[serde(default)]
    lives: Option<u32>,
}

impl Mutant {
    /// Those of the repository, in its order.
    pub fn all() -> Result<Vec<Self>, CatalogError> {
        let raw: Vec<RawMutant> = serde_yaml::from_str(assets::MUTANTS_YAML).map_err(CatalogError::Parse)?;
        let mutant = |RawMutant { name, purpose, scenario, lives }| Self {
            name,
            purpose,
            scenario,
            lives: lives.unwrap_or(1),
        };
        Ok(raw.into_iter().map(mutant).collect())
    }

    /// The patch for sources by name, whose version stands behind the last `-`; none if it was not made for them.
    pub fn patch(&self, tree: &NamedTree) -> Option<Vec<u8>> {
        let (_, version) = tree.name.rsplit_once('-')?;
        assets::mutant(&format!("{}.{version}.patch", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Catalog;
    use super::*;

    #[test]
    fn every_mutant_has_a_patch_for_every_tree_and_a_scenario() {
        let trees = Catalog::embedded().unwrap().trees;
        let mutants = Mutant::all().unwrap();
        let names: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
        assert_eq!(names.len(), mutants.len(), "two have one name");
        assert!(mutants.len() >= 12, "{names:?}");
        let groups = assets::SCENARIOS.dirs().flat_map(|group| group.files());
        let files = assets::SCENARIOS.files().chain(groups);
        let scenarios: BTreeSet<_> = files.filter_map(|file| file.path().file_stem()?.to_str()).collect();
        for mutant in &mutants {
            assert!(scenarios.contains(mutant.scenario.as_str()), "{}", mutant.scenario);
            for tree in &trees {
                let patch = mutant.patch(tree).unwrap_or_else(|| panic!("{} of {}", mutant.name, tree.name));
                assert!(patch.windows(5).any(|bytes| bytes == b"\n--- "), "{} of {}", mutant.name, tree.name);
            }
        }
    }
}
