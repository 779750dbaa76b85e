//! Debian packages in the cache: found, downloaded and unpacked once, and then used without asking anyone.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::apt::{Apt, Candidate, Mirrors};
use super::boot::{NotBootable, inspect};
use super::build::{self, BuildRequest};
use super::catalog::{KernelBuild, NamedKernel, NamedTree, Packages, Recipe, TreeSources};
use super::git::TreeId;
use super::qemu::host_architecture;
use super::tool::DPKG_DEB;
use super::tree::Tree;
use super::{Kernel, KernelError, Origin, Refresh, modules, read, sha256_hex, sha256_of_file};
use crate::cache::{Cache, Kind, Progress};
use crate::plan::KernelKey;

/// The guests' architecture in Debian's words.
pub(super) const GUEST_ARCHITECTURE: &str = "s390x";
/// The images proper that a metapackage depends on are called so.
const IMAGE_PREFIX: &str = "linux-image-";
/// The packages that Debian 14 has split the image into: what the others share, the boot image, the modules.
const IMAGE_PARTS: [&str; 3] = ["linux-base-", "linux-binary-", "linux-modules-"];
/// What these have beside the modules, and the older ones in boot/ with the release in its name.
const BESIDE_MODULES: [&str; 2] = ["vmlinuz", "config"];
/// The archive in an entry of sources.
const ARCHIVE: &str = "sources.tar.xz";
/// What farm knows of an entry, written into it when it is made.
const RECORD: &str = "farm.json";
/// Enough of a SHA-256 to tell two builds of one version apart.
const KEY_HEX_DIGITS: usize = 16;

/// Fetches packages into a cache.
pub struct Fetcher<'a> {
    pub cache: &'a Cache,
    pub refresh: Refresh,
    pub mirrors: MirrorChoice,
    pub progress: Progress<'a>,
}

/// Where the archives are. The host is asked only when something must be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorChoice {
    OfHost,
    These(Mirrors),
}

/// What is to be fetched, and what of it is kept.
pub(super) struct Wanted<'a> {
    pub(super) kind: Kind,
    pub(super) packages: &'a Packages,
    pub(super) architecture: &'a str,
    /// For a metapackage, the way to what counts: from package to package, the dependency whose name begins so.
    pub(super) behind: &'a [&'a str],
    /// What comes along: all dependencies of that whose names begin so. None is there always.
    pub(super) along: &'a [&'a str],
    /// The kernel whose version all packages must have, if any.
    pub(super) version_of: Option<&'a KernelKey>,
    pub(super) tidy: &'a Tidy<'a>,
}

/// Reduces the unpacked packages to what is needed and writes the record.
pub(super) type Tidy<'a> = dyn Fn(&Utf8Path, &[Candidate]) -> Result<(), KernelError> + 'a;

/// Which entry stands for a package today.
#[derive(Serialize, Deserialize)]
struct Note {
    entry: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelRecord {
    package: String,
    version: String,
    /// Of the .deb.
    sha256: String,
    release: String,
    boot_sha256: String,
    command_line_bytes: u64,
}

impl Fetcher<'_> {
    /// The named kernel, out of the cache if it has ever been fetched or built, and no refresh is asked for.
    pub fn kernel(&self, kernel: &NamedKernel) -> Result<Kernel, KernelError> {
        let packages = match &kernel.recipe {
            Recipe::Package(packages) => packages,
            Recipe::Build(recipe) => return self.built(&kernel.name, recipe),
        };
        let entry = self.entry(&Wanted {
            kind: Kind::Kernel,
            packages: &packages.image,
            architecture: GUEST_ARCHITECTURE,
            behind: &[IMAGE_PREFIX],
            along: &IMAGE_PARTS,
            version_of: None,
            tidy: &|root, candidates| tidy_kernel(root, candidates, self.progress),
        })?;
        self.with_debug_package(packages, load_kernel(&kernel.name, &entry)?)
    }

    fn built(&self, name: &str, recipe: &KernelBuild) -> Result<Kernel, KernelError> {
        let patches = recipe.patches()?;
        let request = BuildRequest { patches: &patches, ..BuildRequest::new(name, &recipe.config) };
        if self.refresh == Refresh::No
            && let Some(kernel) = self.built_before(&request, recipe)?
        {
            return Ok(kernel);
        }
        let (tree, id) = self.sources(&recipe.tree)?;
        build::build(self.cache, (&tree, &id), &request, self.progress)
    }

    /// Sources that have a name.
    pub fn sources(&self, named: &NamedTree) -> Result<(Tree, TreeId), KernelError> {
        let packages = match &named.sources {
            TreeSources::Package(packages) => packages,
            TreeSources::Directory(path) => return Tree::of_directory(self.cache, path, self.progress),
        };
        let entry = self.entry(&Wanted {
            kind: Kind::Archive,
            packages,
            // They are for all architectures, and the host's indices are those that mirrors keep best.
            architecture: host_architecture(std::env::consts::ARCH)?,
            behind: &[],
            along: &[],
            version_of: None,
            tidy: &tidy_archive,
        })?;
        Tree::of_archive(self.cache, &named.name, &entry.join(ARCHIVE), archive_key(&entry), self.progress)
    }

    /// Asks nobody, and waits for nobody who builds something of the same sources.
    fn built_before(
        &self,
        request: &BuildRequest<'_>,
        recipe: &KernelBuild,
    ) -> Result<Option<Kernel>, KernelError> {
        // What is in a directory today, or comes of patches, nobody knows without a look at all of it.
        let packages = match &recipe.tree.sources {
            TreeSources::Package(packages) if recipe.patches.is_empty() => packages,
            _ => return Ok(None),
        };
        let architecture = host_architecture(std::env::consts::ARCH)?;
        let Some(entry) = self.cached(Kind::Archive, &note_of(packages, architecture))? else {
            return Ok(None);
        };
        match Tree::imported(self.cache, &recipe.tree.name, archive_key(&entry)) {
            Some(id) => build::existing(self.cache, &id, request),
            None => Ok(None),
        }
    }

    /// The named kernel, if it has ever been fetched, or was built as it would be now.
    pub fn cached_kernel(&self, kernel: &NamedKernel) -> Result<Option<Kernel>, KernelError> {
        let packages = match &kernel.recipe {
            Recipe::Package(packages) => packages,
            Recipe::Build(recipe) => {
                let request = BuildRequest::new(&kernel.name, &recipe.config);
                return self.built_before(&request, recipe);
            }
        };
        let entry = self.cached(Kind::Kernel, &note_of(&packages.image, GUEST_ARCHITECTURE))?;
        let found = entry.map(|entry| load_kernel(&kernel.name, &entry)).transpose()?;
        found.map(|found| self.with_debug_package(packages, found)).transpose()
    }

    /// The static busybox for guests: the path of its binary.
    pub fn busybox(&self, packages: &Packages) -> Result<Utf8PathBuf, KernelError> {
        let entry = self.entry(&Wanted {
            kind: Kind::Package,
            packages,
            architecture: GUEST_ARCHITECTURE,
            behind: &[],
            along: &[],
            version_of: None,
            tidy: &tidy_busybox,
        })?;
        Ok(entry.join("busybox"))
    }

    pub(super) fn entry(&self, wanted: &Wanted<'_>) -> Result<Utf8PathBuf, KernelError> {
        let source = &wanted.packages.source;
        let note = note_of(wanted.packages, wanted.architecture);
        if let Some(entry) = self.remembered(wanted, &note)? {
            return Ok(entry);
        }
        let mut apt = Apt::open(self.cache, source, wanted.architecture, self.progress)?;
        // Another farm may have fetched it while this one waited for the state directory.
        if let Some(entry) = self.remembered(wanted, &note)? {
            return Ok(entry);
        }
        let mirrors = match &self.mirrors {
            MirrorChoice::OfHost => Mirrors::of_host(|name| std::env::var(name).ok())?,
            MirrorChoice::These(mirrors) => mirrors.clone(),
        };
        apt.update(&mirrors, wanted.architecture, self.progress)?;
        let newest = candidates(wanted, |name| apt.newest(name, self.progress))?;
        let (key, entry) = match self.filled(&apt, wanted, &newest) {
            Err(KernelError::Download { package, version, source }) => {
                let not_to_be_had = || KernelError::Download { package, version, source };
                let pinned = pinned_instead(&apt, wanted, &newest).ok_or_else(not_to_be_had)?;
                let Candidate { package, version, .. } = &pinned[0];
                (self.progress)(&format!(
                    "the archive lists {} {}, but does not give it; taking the pinned {package} {version}, by its SHA-256",
                    newest[0].package, newest[0].version
                ));
                self.filled(&apt, wanted, &pinned)
            }
            filled => filled,
        }?;
        self.cache.remember(&note, &Note { entry: key })?;
        Ok(entry)
    }

    /// The entry of these candidates, with its name.
    fn filled(
        &self,
        apt: &Apt<'_>,
        wanted: &Wanted<'_>,
        candidates: &[Candidate],
    ) -> Result<(String, Utf8PathBuf), KernelError> {
        // Before it is asked for: an entry that is there already is not filled again.
        check_versions(candidates, wanted.version_of)?;
        let key = entry_key(candidates);
        let fill = |work: &Utf8Path| self.fill(apt, wanted, candidates, work);
        let entry = self.cache.entry(wanted.kind, &key, self.progress, fill)?;
        Ok((key, entry))
    }

    fn remembered(&self, wanted: &Wanted<'_>, note: &str) -> Result<Option<Utf8PathBuf>, KernelError> {
        match self.refresh {
            Refresh::Yes => Ok(None),
            Refresh::No => self.fetched(wanted, note),
        }
    }

    /// What was fetched, if it still serves: a kernel may have come since then, under the same name.
    fn fetched(&self, wanted: &Wanted<'_>, note: &str) -> Result<Option<Utf8PathBuf>, KernelError> {
        let serves = |entry: &Utf8PathBuf| {
            wanted.version_of.is_none_or(|kernel| version_in_key(entry) == Some(&kernel.version))
        };
        Ok(self.cached(wanted.kind, note)?.filter(serves))
    }

    /// What is wanted, if it was ever fetched.
    pub(super) fn existing(&self, wanted: &Wanted<'_>) -> Result<Option<Utf8PathBuf>, KernelError> {
        self.fetched(wanted, &note_of(wanted.packages, wanted.architecture))
    }

    fn cached(&self, kind: Kind, note: &str) -> Result<Option<Utf8PathBuf>, KernelError> {
        let note: Option<Note> = self.cache.recall(note)?;
        Ok(note.and_then(|note| self.cache.existing(kind, &note.entry)))
    }

    fn fill(
        &self,
        apt: &Apt<'_>,
        wanted: &Wanted<'_>,
        candidates: &[Candidate],
        work: &Utf8Path,
    ) -> Result<(), KernelError> {
        let failed = |source| KernelError::Io { path: work.to_owned(), source };
        for candidate in candidates {
            let downloads = work.join(".deb");
            fs::create_dir(&downloads).map_err(failed)?;
            let deb = apt.download(candidate, &downloads, self.progress)?;
            verify(&deb, &candidate.sha256)?;
            (self.progress)(&format!("unpacking {} {}", candidate.package, candidate.version));
            DPKG_DEB.stdout(DPKG_DEB.command()?.args(["-x", deb.as_str(), work.as_str()]))?;
            fs::remove_dir_all(&downloads).map_err(failed)?;
        }
        (wanted.tidy)(work, candidates)
    }
}

/// What stands for the packages that are wanted, with what comes along.
fn candidates(
    wanted: &Wanted<'_>,
    candidate: impl Fn(&str) -> Result<Candidate, KernelError>,
) -> Result<Vec<Candidate>, KernelError> {
    let find = |name: &String| {
        wanted.behind.iter().try_fold(candidate(name)?, |found, prefix| {
            let mut depends = found.depends.iter();
            let proper = depends.find(|dependency| dependency.starts_with(prefix)).ok_or_else(|| {
                KernelError::NoDependency { package: found.package.clone(), prefix: (*prefix).to_owned() }
            })?;
            candidate(proper)
        })
    };
    let mut candidates = Vec::new();
    for name in &wanted.packages.names {
        let found = find(name)?;
        let comes_along = |name: &&String| wanted.along.iter().any(|prefix| name.starts_with(prefix));
        let along = found.depends.iter().filter(comes_along);
        let along: Vec<_> = along.map(|name| candidate(name)).collect::<Result<_, _>>()?;
        candidates.push(found);
        candidates.extend(along);
    }
    Ok(candidates)
}

/// The catalog's pinned versions in place of those that an index lists and the mirror does not have. Nothing if
/// they are the same, or not all are pinned.
fn pinned_instead(apt: &Apt<'_>, wanted: &Wanted<'_>, newest: &[Candidate]) -> Option<Vec<Candidate>> {
    let pinned = candidates(wanted, |name| {
        apt.pinned(name).ok_or_else(|| KernelError::NoPackage {
            package: name.to_owned(),
            suites: "those pinned".to_owned(),
            complaints: String::new(),
        })
    });
    pinned.ok().filter(|pinned| entry_key(pinned) != entry_key(newest))
}

/// Name, version and hash: the version of one package stands for all that are fetched together, the hash is
/// over all.
fn entry_key(candidates: &[Candidate]) -> String {
    let hashes: Vec<&str> = candidates.iter().map(|candidate| candidate.sha256.as_str()).collect();
    let hash = match &hashes[..] {
        [one] => (*one).to_owned(),
        several => sha256_hex(several.join("\n").as_bytes()),
    };
    let name =
        candidates.first().map(|first| format!("{}_{}", first.package, first.version)).unwrap_or_default();
    format!("{name}_{}", &hash[..hash.len().min(KEY_HEX_DIGITS)])
}

/// The version that [`entry_key`] has put into the name of an entry. Debian allows no `_` in a name or a version.
fn version_in_key(entry: &Utf8Path) -> Option<&str> {
    entry.file_name()?.split('_').nth(1)
}

fn check_versions(candidates: &[Candidate], kernel: Option<&KernelKey>) -> Result<(), KernelError> {
    let Some(kernel) = kernel else { return Ok(()) };
    match candidates.iter().find(|candidate| candidate.version != kernel.version) {
        None => Ok(()),
        Some(other) => Err(KernelError::OtherVersion {
            package: other.package.clone(),
            kernel: kernel.name.clone(),
            expected: kernel.version.clone(),
            found: other.version.clone(),
        }),
    }
}

/// apt has compared the download with the index; this compares what is on the disk now.
fn verify(deb: &Utf8Path, expected: &str) -> Result<(), KernelError> {
    let found = sha256_of_file(deb)?;
    if found == expected {
        return Ok(());
    }
    Err(KernelError::Corrupt { path: deb.to_owned(), expected: expected.to_owned(), found })
}

/// Keeps boot/ and lib/modules/, with the index of the modules made.
fn tidy_kernel(root: &Utf8Path, candidates: &[Candidate], progress: Progress<'_>) -> Result<(), KernelError> {
    let candidate = &candidates[0];
    let lacks = |what| KernelError::Incomplete {
        package: candidate.package.clone(),
        version: candidate.version.clone(),
        what,
    };
    let release = modules::settle(root)?.ok_or_else(|| lacks("lib/modules"))?;
    settle_boot(root, &release)?;
    let boot = boot_path(root, &release);
    if !boot.is_file() {
        return Err(lacks("boot/vmlinuz-RELEASE"));
    }
    let bytes = read(&boot)?;
    let facts = inspect(&bytes)
        .map_err(|NotBootable { looks_like }| KernelError::NotAKernel { path: boot.clone(), looks_like })?;
    progress(&format!("indexing the modules of {release}"));
    modules::index(root, &release)?;
    keep_only(root, &["boot", "lib"])?;
    let record = KernelRecord {
        package: candidate.package.clone(),
        version: candidate.version.clone(),
        sha256: candidate.sha256.clone(),
        release,
        boot_sha256: sha256_hex(&bytes),
        command_line_bytes: facts.command_line_bytes,
    };
    write_record(root, &record)
}

/// Moves what lies beside the modules to boot/.
fn settle_boot(root: &Utf8Path, release: &str) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: root.to_owned(), source };
    for name in BESIDE_MODULES {
        let place = root.join(format!("lib/modules/{release}/{name}"));
        if place.is_file() {
            fs::create_dir_all(root.join("boot")).map_err(failed)?;
            fs::rename(&place, root.join(format!("boot/{name}-{release}"))).map_err(failed)?;
        }
    }
    Ok(())
}

/// Keeps the archive of a package of sources, under one name.
fn tidy_archive(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    let package = &candidates[0].package;
    let found = root.join(format!("usr/src/{package}.tar.xz"));
    if !found.is_file() {
        return Err(KernelError::Incomplete {
            package: package.clone(),
            version: candidates[0].version.clone(),
            what: "its archive of sources",
        });
    }
    let home = root.join(ARCHIVE);
    fs::rename(found, &home).map_err(|source| KernelError::Io { path: home, source })?;
    keep_only(root, &[ARCHIVE])
}

/// What tells one archive from another of the same name.
fn archive_key(entry: &Utf8Path) -> &str {
    entry.file_name().and_then(|name| name.rsplit_once('_')).map_or("unknown", |(_, hash)| hash)
}

fn tidy_busybox(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| root.join(place));
    let found = places.iter().find(|path| path.is_file()).ok_or_else(|| KernelError::Incomplete {
        package: candidates[0].package.clone(),
        version: candidates[0].version.clone(),
        what: "bin/busybox",
    })?;
    let home = root.join("busybox");
    fs::rename(found, &home).map_err(|source| KernelError::Io { path: home, source })?;
    keep_only(root, &["busybox"])
}

/// Removes everything else from the top of a directory.
pub(crate) fn keep_only(root: &Utf8Path, kept: &[&str]) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: root.to_owned(), source };
    for entry in root.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if kept.contains(&entry.file_name()) {
            continue;
        }
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        let path = entry.path();
        if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(failed)?;
    }
    Ok(())
}

/// The name under which the cache remembers which entry stands for packages today.
fn note_of(packages: &Packages, architecture: &str) -> String {
    format!("{}.{}.{architecture}", packages.names.join("+"), packages.source.name)
}

fn load_kernel(name: &str, entry: &Utf8Path) -> Result<Kernel, KernelError> {
    let record: KernelRecord = read_record(entry)?;
    let KernelRecord { package, version, sha256, release, boot_sha256, command_line_bytes } = record;
    let config = entry.join(format!("boot/config-{release}"));
    Ok(Kernel {
        boot: boot_path(entry, &release),
        modules: Some(entry.join("lib/modules").join(&release)),
        vmlinux: None,
        debug_modules: None,
        config: config.is_file().then_some(config),
        headers: None,
        origin: Origin::Package { package, version: version.clone(), sha256 },
        key: KernelKey { name: name.to_owned(), release, version, sha256: boot_sha256 },
        command_line_bytes,
    })
}

fn boot_path(root: &Utf8Path, release: &str) -> Utf8PathBuf {
    root.join(format!("boot/vmlinuz-{release}"))
}

pub(super) fn write_record(root: &Utf8Path, record: &impl Serialize) -> Result<(), KernelError> {
    let path = root.join(RECORD);
    let text = serde_json::to_string_pretty(record)
        .map_err(|source| KernelError::BadRecord { path: path.clone(), source })?;
    fs::write(&path, text).map_err(|source| KernelError::Io { path, source })
}

pub(super) fn read_record<T: DeserializeOwned>(root: &Utf8Path) -> Result<T, KernelError> {
    let path = root.join(RECORD);
    serde_json::from_slice(&read(&path)?).map_err(|source| KernelError::BadRecord { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(package: &str, sha256: &str) -> Candidate {
        Candidate {
            package: package.into(),
            version: "1:1.35.0-4+b1".into(),
            sha256: sha256.into(),
            bytes: 1,
            depends: Vec::new(),
            pinned_at: None,
        }
    }

    #[test]
    fn a_key_names_package_version_and_every_hash() {
        let one = candidate("busybox-static", &"0123456789abcdef".repeat(4));
        assert_eq!(entry_key(std::slice::from_ref(&one)), "busybox-static_1:1.35.0-4+b1_0123456789abcdef");
        let pair = |second| entry_key(&[one.clone(), candidate("data", second)]);
        assert_ne!(pair("aa"), pair("bb"));
        assert!(pair("aa").starts_with("busybox-static_1:1.35.0-4+b1_"));
    }

    #[test]
    fn packages_of_a_kernel_have_its_version() {
        let key = |version: &str| KernelKey {
            name: "mine".into(),
            release: "6.18".into(),
            version: version.into(),
            sha256: String::new(),
        };
        let one = candidate("linux-headers-a", "00");
        let other = Candidate { version: "1:1.36.0-1".into(), ..candidate("linux-headers-b", "00") };
        check_versions(std::slice::from_ref(&one), Some(&key(&one.version))).unwrap();
        let error = check_versions(&[one.clone(), other.clone()], Some(&key(&one.version))).unwrap_err();
        let expected = "has linux-headers-b 1:1.36.0-1, but mine in the cache is 1:1.35.0-4+b1";
        assert!(error.to_string().contains(expected), "{error}");
        let entry = Utf8PathBuf::from("/cache/headers").join(entry_key(&[one.clone(), other.clone()]));
        assert_eq!(version_in_key(&entry), Some(&*one.version));
        check_versions(&[one, other], None).unwrap();
    }

    #[test]
    fn a_changed_download_is_refused_with_both_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let deb = Utf8Path::from_path(directory.path()).unwrap().join("a.deb");
        fs::write(&deb, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&deb, abc).unwrap();
        let error = verify(&deb, "00").unwrap_err().to_string();
        assert!(error.contains(abc) && error.contains("index says 00"), "{error}");
    }

    #[test]
    fn what_lies_beside_the_modules_is_put_where_older_packages_have_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let modules = root.join("lib/modules/7.2");
        fs::create_dir_all(&modules).unwrap();
        for name in ["vmlinuz", "config", "modules.order"] {
            fs::write(modules.join(name), name).unwrap();
        }
        settle_boot(root, "7.2").unwrap();
        assert_eq!(fs::read_to_string(boot_path(root, "7.2")).unwrap(), "vmlinuz");
        assert_eq!(fs::read_to_string(root.join("boot/config-7.2")).unwrap(), "config");
        assert_eq!(modules.read_dir_utf8().unwrap().count(), 1);
        // As it is with older ones.
        settle_boot(root, "7.2").unwrap();
    }

    #[test]
    fn a_package_without_a_kernel_is_incomplete() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let error = tidy_kernel(root, &[candidate("linux-image-x", "00")], &crate::cache::quiet).unwrap_err();
        assert_eq!(error.to_string(), "the package linux-image-x 1:1.35.0-4+b1 lacks lib/modules");
        fs::create_dir_all(root.join("lib/modules/6.1")).unwrap();
        let error = tidy_kernel(root, &[candidate("linux-image-x", "00")], &crate::cache::quiet).unwrap_err();
        assert!(error.to_string().ends_with("lacks boot/vmlinuz-RELEASE"), "{error}");
    }
}
