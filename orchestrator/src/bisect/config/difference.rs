//! What differs between two configurations, as options in an order that lets Kconfig follow.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kernel::{Kconfig, Options, sha256_hex};

/// Of a configuration's name: as many as of a run's.
const NAME_DIGITS: usize = 10;

/// An option that is not the same in both configurations. `n` stands for what is not set, and for what is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Without CONFIG_.
    pub option: String,
    pub good: String,
    pub bad: String,
}

/// Options asked for with their bad value, by their place in the difference.
pub type Request = BTreeSet<usize>;

/// What a configuration has other than the good one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Changes(BTreeMap<String, String>);

/// The good configuration, and all in which the bad one differs.
#[derive(Debug, Clone)]
pub struct Difference {
    good: Options,
    /// The same, with what stands only in the bad one and is off there: by itself it would take its default where it
    /// comes up.
    kept: Options,
    /// What others depend on, or select, before them.
    changes: Vec<Change>,
    /// Those of them that a user can set; the others follow from them.
    settable: Vec<usize>,
}

impl Changes {
    pub fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(option, value)| (option.as_str(), value.as_str()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same for the same changes: the beginning of a hash.
    pub fn name(&self) -> String {
        let text: String = self.iter().map(|(option, value)| format!("{option}={value}\n")).collect();
        sha256_hex(text.as_bytes())[..NAME_DIGITS].to_owned()
    }
}

impl Difference {
    /// Of two configurations that `olddefconfig` has settled.
    pub fn between(good: Options, bad: &Options, kconfig: &Kconfig) -> Self {
        let names: BTreeSet<&str> = good.iter().chain(bad.iter()).map(|(name, _)| name).collect();
        let differing: BTreeSet<&str> =
            names.into_iter().filter(|name| good.value(name) != bad.value(name)).collect();
        let changes: Vec<Change> = kconfig
            .in_order(&differing)
            .into_iter()
            .map(|name| Change {
                option: name.to_owned(),
                good: good.value(name).to_owned(),
                bad: bad.value(name).to_owned(),
            })
            .collect();
        let settable =
            (0..changes.len()).filter(|one| kconfig.prompt(&changes[*one].option).is_some()).collect();
        let mut kept = good.clone();
        for (name, value) in bad.iter().filter(|(_, value)| *value == "n") {
            if good.get(name).is_none() {
                kept.set(name, value);
            }
        }
        Self { good, kept, changes, settable }
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub fn good(&self) -> &Options {
        &self.good
    }

    pub(super) fn settable(&self) -> &[usize] {
        &self.settable
    }

    /// Where the good configuration has another value, or none, the bad one's.
    pub fn all(&self) -> Changes {
        self.changes.iter().map(|change| (change.option.clone(), change.bad.clone())).collect()
    }

    /// Whether the option has its bad value.
    pub(super) fn holds(&self, one: usize, changes: &Changes) -> bool {
        let Change { option, good, bad } = &self.changes[one];
        changes.get(option).unwrap_or(good) == bad
    }

    /// The .config that is handed to `olddefconfig`.
    ///
    /// What differs and is not asked for keeps its good value, also where the good configuration does not show it: it would
    /// take its default as soon as what it depends on is there. What is asked for comes last, since of a choice's members the
    /// last one that is set holds.
    pub fn asked(&self, request: &Request) -> String {
        let mut kept = self.kept.clone();
        let mut asked = Options::default();
        for (one, Change { option, good, bad }) in self.changes.iter().enumerate() {
            if request.contains(&one) {
                asked.set(option, bad);
            } else {
                kept.set(option, good);
            }
        }
        kept.overlaid(&asked)
    }

    /// What `olddefconfig` made of it, against the good configuration.
    pub fn changes_in(&self, settled: &Options) -> Changes {
        let names: BTreeSet<&str> = self.good.iter().chain(settled.iter()).map(|(name, _)| name).collect();
        let other = |name: &&str| self.good.value(name) != settled.value(name);
        let values = names.into_iter().filter(other);
        values.map(|name| (name.to_owned(), settled.value(name).to_owned())).collect()
    }

    /// The lines that make the configuration of a good one: all options that a user can set and that stand otherwise in it,
    /// those included that would come with their default.
    pub fn fragment(&self, settled: &Options, kconfig: &Kconfig) -> String {
        let mut lines = Options::default();
        for (name, value) in settled.iter() {
            if self.good.get(name) != Some(value) && kconfig.prompt(name).is_some() {
                lines.set(name, value);
            }
        }
        // An option that is gone is gone because of another; if it is a user's own to set, it is said.
        for (name, _) in self.good.iter().filter(|(name, _)| settled.get(name).is_none()) {
            if self.good.value(name) != "n" && kconfig.prompt(name).is_some() {
                lines.set(name, "n");
            }
        }
        lines.to_string()
    }
}

impl FromIterator<(String, String)> for Changes {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}
