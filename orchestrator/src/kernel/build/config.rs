//! Configurations: a base and fragments, laid one over the other, and what became of them in a tree. No I/O.

use std::collections::BTreeMap;
use std::fmt;

/// What a configuration begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Nothing but what the fragments ask for.
    AllNoConfig,
    /// arch/s390/configs/defconfig.
    DefConfig,
    /// arch/s390/configs/debug_defconfig.
    DebugDefConfig,
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllNoConfig => "allnoconfig",
            Self::DefConfig => "defconfig",
            Self::DebugDefConfig => "debugdefconfig",
        })
    }
}

/// A named piece of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    pub name: String,
    pub text: String,
}

/// What compiles a kernel. The linker is GNU's in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// gcc as a cross compiler.
    #[default]
    Gcc,
    /// The host's, which makes code for s390x too (Documentation/kbuild/llvm.rst).
    Clang,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gcc => "gcc",
            Self::Clang => "clang",
        })
    }
}

/// A configuration by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRecipe {
    pub name: String,
    pub base: Base,
    pub fragments: Vec<Fragment>,
    pub compiler: Compiler,
}

impl ConfigRecipe {
    /// One file over nothing.
    pub fn of_file(name: &str, fragment: Fragment) -> Self {
        let (name, compiler) = (name.to_owned(), Compiler::default());
        Self { name, base: Base::AllNoConfig, fragments: vec![fragment], compiler }
    }
}

/// Options by name, without CONFIG_. `n` is what is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, Asked>);

/// A value and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    value: String,
    by: String,
    need: Need,
}

/// Whether a tree must have an option that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Always,
    /// Other versions of the kernel have no such option: `# where known: CONFIG_NAME=VALUE`, which is a comment to
    /// the kernel's own tools.
    WhereKnown,
}

/// A line that is none of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: neither CONFIG_NAME=VALUE nor `# CONFIG_NAME is not set`")]
pub struct BadLine {
    pub file: String,
    pub line: usize,
}

/// An option that a tree does not give the value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Without CONFIG_.
    pub option: String,
    pub asked: String,
    /// The fragment that asks for it.
    pub by: String,
    pub got: String,
    pub need: Need,
    /// Where the tree's Kconfig has the option and what it depends on, for people.
    pub because: Vec<String>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, asked, by, got, because, .. } = self;
        write!(f, "CONFIG_{option}={asked} ({by}) became {got}")?;
        because.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

impl Options {
    /// Those of one file.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, BadLine> {
        let mut options = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let (need, line) = match line.strip_prefix("# where known: ") {
                Some(rest) => (Need::WhereKnown, rest),
                None => (Need::Always, line),
            };
            let not_set = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
            let (name, value) = match (not_set, line.strip_prefix("CONFIG_")) {
                (Some(name), _) => (name, "n"),
                (None, None) if line.is_empty() || line.starts_with('#') => continue,
                (None, set) => set
                    .and_then(|set| set.split_once('='))
                    .ok_or_else(|| BadLine { file: file.to_owned(), line: number + 1 })?,
            };
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || value.is_empty() {
                return Err(BadLine { file: file.to_owned(), line: number + 1 });
            }
            let asked = Asked { value: value.to_owned(), by: file.to_owned(), need };
            options.0.insert(name.to_owned(), asked);
        }
        Ok(options)
    }

    /// Those of fragments: what a later one asks for holds.
    pub(crate) fn of_fragments(fragments: &[Fragment]) -> Result<Self, BadLine> {
        let mut all = Self::default();
        for fragment in fragments {
            all.0.extend(Self::parse(&fragment.name, &fragment.text)?.0);
        }
        Ok(all)
    }

    /// `n` for what is not there.
    pub(crate) fn value(&self, option: &str) -> &str {
        self.get(option).unwrap_or("n")
    }

    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(|asked| asked.value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, asked)| (name.as_str(), asked.value.as_str()))
    }

    pub(crate) fn set(&mut self, option: &str, value: &str) {
        let asked = Asked { value: value.to_owned(), by: String::new(), need: Need::Always };
        self.0.insert(option.to_owned(), asked);
    }

    /// A .config of these, with others in their place: at its end, since of a choice's members the last one that is set
    /// holds.
    pub(crate) fn overlaid(&self, others: &Self) -> String {
        let mut kept = self.clone();
        others.0.keys().for_each(|option| kept.remove(option));
        format!("{kept}{others}")
    }

    pub(crate) fn remove(&mut self, option: &str) {
        self.0.remove(option);
    }

    /// What was asked for and is not so in `found`.
    pub(crate) fn lost_in(&self, found: &Self) -> Vec<Lost> {
        let differs = |(option, asked): (&String, &Asked)| {
            let got = found.value(option);
            (got != asked.value).then(|| Lost {
                option: option.clone(),
                asked: asked.value.clone(),
                by: asked.by.clone(),
                got: got.to_owned(),
                need: asked.need,
                because: Vec::new(),
            })
        };
        self.0.iter().filter_map(differs).collect()
    }
}

/// In the form of a .config.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, asked)| match asked.value.as_str() {
            "n" => writeln!(f, "# CONFIG_{name} is not set"),
            value => writeln!(f, "CONFIG_{name}={value}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(name: &str, text: &str) -> Fragment {
        Fragment { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn later_fragments_hold_and_comments_do_not_count() {
        let all = Options::of_fragments(&[
            fragment("one", "# why\n\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_NAME=\"a=b\"\n"),
            fragment("two", "# CONFIG_A is not set\n  CONFIG_N=0x10\n# where known: CONFIG_Z=y\n"),
        ])
        .unwrap();
        let text = "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_N=0x10\nCONFIG_NAME=\"a=b\"\nCONFIG_Z=y\n";
        assert_eq!(all.to_string(), text);
    }

    #[test]
    fn what_is_no_option_is_refused_with_its_line() {
        for text in
            ["CONFIG_A", "A=y", "# where known: A", "CONFIG_A-B=y", "CONFIG_A=", "CONFIG_A is not set"]
        {
            let error = Options::parse("f", &format!("# a\n{text}\n")).unwrap_err();
            assert_eq!(error, BadLine { file: "f".into(), line: 2 }, "{text}");
        }
    }

    #[test]
    fn an_option_is_lost_if_it_has_another_value() {
        let asked =
            Options::parse("f", "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=8\n").unwrap();
        let found = Options::parse(".config", "CONFIG_A=y\nCONFIG_B=m\nCONFIG_D=y\nCONFIG_E=8\n").unwrap();
        let lost: Vec<_> = asked.lost_in(&found).into_iter().map(|lost| lost.to_string()).collect();
        assert_eq!(lost, ["CONFIG_B=y (f) became m", "CONFIG_D=n (f) became y"]);
    }
}
