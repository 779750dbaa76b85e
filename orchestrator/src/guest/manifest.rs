//! `guests/images/lite.yaml`: what is in the image besides the programs.

use serde::Deserialize;

use super::GuestError;

/// The checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Loaded before `ready`; every kernel must have them.
    pub boot_modules: Vec<String>,
    /// Loaded when a job asks.
    pub modules: Vec<String>,
    /// The same, but only in the images of scenarios that ask.
    pub modules_on_request: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawManifest {
    boot_modules: Vec<String>,
    /// Default: none.
    #[serde(default)]
    modules: Vec<String>,
    /// Default: none.
    #[serde(default)]
    modules_on_request: Vec<String>,
}

impl Manifest {
    pub fn parse(text: &str) -> Result<Self, GuestError> {
        let raw: RawManifest = serde_yaml::from_str(text).map_err(GuestError::Manifest)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let all = raw.boot_modules.iter().chain(&raw.modules).chain(&raw.modules_on_request);
        let bad: Vec<String> = all
            .filter(|name| name.is_empty() || !name.chars().all(plain))
            .map(|name| format!("{name:?}"))
            .collect();
        if !bad.is_empty() {
            return Err(GuestError::ModuleNames { names: bad.join(", ") });
        }
        let RawManifest { boot_modules, modules, modules_on_request } = raw;
        Ok(Self { boot_modules, modules, modules_on_request })
    }

    /// What is in the image for a scenario that asks for these modules.
    pub fn with_requested(&self, asked: &[String]) -> Self {
        let requested = self.modules_on_request.iter().filter(|module| asked.contains(module));
        let modules = self.modules.iter().chain(requested).cloned().collect();
        Self { boot_modules: self.boot_modules.clone(), modules, modules_on_request: Vec::new() }
    }

    /// Every module that a scenario can ask for.
    pub fn known_modules(self) -> impl Iterator<Item = String> {
        self.modules.into_iter().chain(self.modules_on_request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_manifest_has_what_init_needs() {
        let text = crate::assets::GUESTS.get_file("images/lite.yaml").unwrap().contents_utf8().unwrap();
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.boot_modules, ["virtio_console", "virtio_blk"]);
        assert!(manifest.modules.contains(&"ext4".to_owned()));
    }

    #[test]
    fn a_module_on_request_is_only_in_the_image_of_who_asks() {
        let text = "boot-modules: [virtio_blk]\nmodules: [ext4]\nmodules-on-request: [xfs, btrfs]";
        let manifest = Manifest::parse(text).unwrap();
        let with = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
            manifest.with_requested(&asked).modules
        };
        assert_eq!(with(&[]), ["ext4"]);
        assert_eq!(with(&["btrfs", "tripwire"]), ["ext4", "btrfs"]);
        assert_eq!(manifest.known_modules().collect::<Vec<_>>(), ["ext4", "xfs", "btrfs"]);
    }

    #[test]
    fn bad_names_are_reported_together_and_unknown_fields_refused() {
        let error = Manifest::parse("boot-modules: ['a/b', ok]\nmodules: ['']").unwrap_err();
        assert!(error.to_string().contains(r#""a/b", """#), "{error}");
        let error = Manifest::parse("boot-modules: []\nfirmware: []").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("unknown field `firmware`"), "{source}");
    }
}
