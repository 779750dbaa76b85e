//! What modules of a kernel are built against: Debian's packages of headers, or a kernel tree of the user's.
//!
//! Debian splits what such a build needs into three packages: the headers of one configuration, the headers that
//! all configurations share, and the build's own programs (modpost, fixdep), which run on this host. They are meant
//! for /usr; [`BuildTree::lay_out`] puts them together anywhere, with links. Programs of a newer Debian than the host
//! run with a C library that is unpacked beside them.

use std::fs;
use std::os::unix::fs::symlink;

use camino::{Utf8Path, Utf8PathBuf};

use super::apt::Candidate;
use super::catalog::{KernelPackages, NamedKernel, Packages, Recipe};
use super::libc::link_programs;
use super::package::{Fetcher, GUEST_ARCHITECTURE, Wanted, keep_only};
use super::qemu::host_architecture;
use super::{Compiler, Kernel, KernelError, read, sha256_hex};
use crate::cache::Kind;

/// The places of the packages' directories in a cache entry.
const CONFIGURED: &str = "configured";
const COMMON: &str = "common";
const KBUILD: &str = "kbuild";
/// The parts of a tree that Debian packs apart: links in the packages of headers.
const PACKED_APART: [&str; 2] = ["scripts", "tools"];

/// What modules of one kernel are built against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTree {
    /// Stands for all that is in it, in keys of the cache.
    identity: String,
    compiler: Compiler,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A tree in which `make` has built the kernel.
    Tree(Utf8PathBuf),
    Packages {
        configured: Utf8PathBuf,
        common: Utf8PathBuf,
        kbuild: Utf8PathBuf,
        /// The directory of a C library and its loader, if the host's own does not serve.
        libc: Option<Utf8PathBuf>,
    },
}

impl BuildTree {
    /// The tree that the user gave or that the kernel's modules point to.
    pub fn of_own(kernel: &Kernel) -> Result<Self, KernelError> {
        let directory = kernel
            .headers
            .as_ref()
            .ok_or_else(|| KernelError::NoHeaders { kernel: kernel.key.name.clone() })?;
        check_tree(directory, &kernel.key.release)?;
        // Without CONFIG_MODVERSIONS, or before `make modules`, a tree may lack the first.
        let files = ["Module.symvers", "include/generated/autoconf.h"].map(|file| directory.join(file));
        let content = |path: &Utf8PathBuf| if path.is_file() { read(path) } else { Ok(Vec::new()) };
        let [symbols, options] = [content(&files[0])?, content(&files[1])?];
        // Whoever changes a header builds the kernel anew: its image stands for the headers.
        let parts = kernel.key.sha256.clone() + &sha256_hex(&symbols) + &sha256_hex(&options);
        let options = String::from_utf8_lossy(&options);
        let is_set = |option| options.lines().any(|line| line.trim_end() == format!("#define {option} 1"));
        if !options.is_empty() && !is_set("CONFIG_MODULES") {
            return Err(KernelError::NoLoadableModules { kernel: kernel.key.name.clone() });
        }
        let compiler = if is_set("CONFIG_CC_IS_CLANG") { Compiler::Clang } else { Compiler::Gcc };
        Ok(Self { identity: sha256_hex(parts.as_bytes()), compiler, place: Place::Tree(directory.clone()) })
    }

    /// What the kernel was compiled with, which its modules need, too.
    pub(crate) fn compiler(&self) -> Compiler {
        self.compiler
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// The directories whose files a build in `work` reads.
    pub(crate) fn places(&self, work: &Utf8Path) -> Vec<Utf8PathBuf> {
        match &self.place {
            Place::Tree(directory) => vec![directory.clone()],
            Place::Packages { .. } => [CONFIGURED, COMMON].map(|name| work.join(name)).to_vec(),
        }
    }

    /// Gives the arguments that lead `make` to the tree. Those of packages are put together in `work`.
    pub(crate) fn lay_out(&self, work: &Utf8Path) -> Result<Vec<String>, KernelError> {
        match &self.place {
            Place::Tree(directory) => Ok(vec!["-C".to_owned(), directory.to_string()]),
            Place::Packages { configured, common, kbuild, libc } => {
                let [objects, sources, programs] = [CONFIGURED, COMMON, KBUILD].map(|name| work.join(name));
                let kbuild = match libc {
                    Some(libc) => {
                        link_programs(kbuild, libc, &programs)?;
                        &programs
                    }
                    None => kbuild,
                };
                link_all(configured, kbuild, &objects)?;
                link_all(common, kbuild, &sources)?;
                // The configured part's own Makefile only includes the common one and names the output's directory,
                // both by their paths under /usr.
                let output = format!("KBUILD_OUTPUT={objects}");
                let makefile = sources.join("Makefile").into_string();
                Ok(vec!["-C".to_owned(), objects.into_string(), "-f".to_owned(), makefile, output])
            }
        }
    }
}

impl Fetcher<'_> {
    /// The headers of a named kernel, out of the cache if they have been fetched.
    pub fn headers(&self, named: &NamedKernel, kernel: &Kernel) -> Result<BuildTree, KernelError> {
        let Recipe::Package(KernelPackages { image, kbuild, libc }) = &named.recipe else {
            return BuildTree::of_own(kernel);
        };
        let release = &kernel.key.release;
        let common = release
            .strip_suffix(&format!("-{GUEST_ARCHITECTURE}"))
            .ok_or_else(|| KernelError::NoHeaders { kernel: kernel.key.name.clone() })?;
        let headers = Packages {
            names: vec![format!("linux-headers-{release}"), format!("linux-headers-{common}-common")],
            source: image.source.clone(),
        };
        let headers = self.entry(&Wanted {
            kind: Kind::Headers,
            packages: &headers,
            architecture: GUEST_ARCHITECTURE,
            behind: &[],
            along: &[],
            // A module takes the versions of the kernel's symbols from here.
            version_of: Some(&kernel.key),
            tidy: &tidy_headers,
        })?;
        let architecture = host_architecture(std::env::consts::ARCH)?;
        let programs = Packages {
            names: vec![format!("linux-headers-{}", flavour(architecture))],
            source: kbuild.clone(),
        };
        let programs = self.entry(&Wanted {
            kind: Kind::Headers,
            packages: &programs,
            architecture,
            // The one name that stays: the package of the programs has their version in its name.
            behind: &["linux-headers-", "linux-kbuild-"],
            along: &[],
            version_of: None,
            tidy: &tidy_kbuild,
        })?;
        let libc = libc.as_ref().map(|libc| self.libc(libc, architecture)).transpose()?;
        // A C library changes nothing in what the programs make.
        let names = [&headers, &programs].map(|entry| entry.file_name().unwrap_or_default());
        let place = Place::Packages {
            configured: headers.join(CONFIGURED),
            common: headers.join(COMMON),
            kbuild: programs.join(KBUILD),
            libc,
        };
        Ok(BuildTree { identity: names.join(" "), compiler: Compiler::Gcc, place })
    }
}

/// What Debian calls its ordinary kernel for an architecture, where it is not the architecture's own name.
fn flavour(architecture: &'static str) -> &'static str {
    match architecture {
        "ppc64el" => "powerpc64le",
        other => other,
    }
}

/// Refuses what is no configured and built tree of this release.
pub(super) fn check_tree(directory: &Utf8Path, release: &str) -> Result<(), KernelError> {
    let lacks = |missing| KernelError::NotABuildTree { path: directory.to_owned(), missing };
    for file in ["Makefile", "include/generated/autoconf.h", "scripts/mod/modpost"] {
        if !directory.join(file).is_file() {
            return Err(lacks(file));
        }
    }
    // #define UTS_RELEASE "6.18.0-rc1"
    let line = read(&directory.join("include/generated/utsrelease.h"))?;
    let line = String::from_utf8_lossy(&line);
    let found = line.split('"').nth(1).ok_or_else(|| lacks("include/generated/utsrelease.h"))?;
    if found == release {
        return Ok(());
    }
    let (path, found, expected) = (directory.to_owned(), found.to_owned(), release.to_owned());
    Err(KernelError::OtherTree { path, found, expected })
}

fn tidy_headers(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    for (candidate, home) in candidates.iter().zip([CONFIGURED, COMMON]) {
        settle(root, &root.join("usr/src").join(&candidate.package), home, candidate)?;
    }
    keep_only(root, &[CONFIGURED, COMMON])
}

fn tidy_kbuild(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    let candidate = &candidates[0];
    settle(root, &root.join("usr/lib").join(&candidate.package), KBUILD, candidate)?;
    keep_only(root, &[KBUILD])
}

fn settle(root: &Utf8Path, place: &Utf8Path, home: &str, candidate: &Candidate) -> Result<(), KernelError> {
    if !place.is_dir() {
        return Err(KernelError::Incomplete {
            package: candidate.package.clone(),
            version: candidate.version.clone(),
            what: "its directory of headers or programs",
        });
    }
    fs::rename(place, root.join(home)).map_err(|source| KernelError::Io { path: place.to_owned(), source })
}

/// Makes the directory `to` with a link to all that is in `from`, and to the build's programs.
fn link_all(from: &Utf8Path, kbuild: &Utf8Path, to: &Utf8Path) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: to.to_owned(), source };
    fs::create_dir(to).map_err(failed)?;
    for entry in from.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !PACKED_APART.contains(&entry.file_name()) {
            symlink(entry.path(), to.join(entry.file_name())).map_err(failed)?;
        }
    }
    PACKED_APART.iter().try_for_each(|name| symlink(kbuild.join(name), to.join(name))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, quiet};
    use crate::kernel::{Catalog, MirrorChoice, Mirrors, Origin, Refresh};
    use crate::plan::KernelKey;

    struct Folder {
        _guard: tempfile::TempDir,
        root: Utf8PathBuf,
    }

    impl Folder {
        fn new() -> Self {
            let guard = tempfile::tempdir().unwrap();
            let root = Utf8PathBuf::try_from(guard.path().to_owned()).unwrap();
            Self { _guard: guard, root }
        }

        fn put(&self, path: &str, content: &str) {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn tree(&self) -> Utf8PathBuf {
            self.put("tree/Makefile", "");
            self.put("tree/scripts/mod/modpost", "");
            self.put("tree/include/generated/autoconf.h", "#define CONFIG_MODULES 1\n");
            self.put("tree/include/generated/utsrelease.h", "#define UTS_RELEASE \"6.18.0-rc1\"\n");
            self.root.join("tree")
        }
    }

    fn kernel(version: &str, headers: Option<Utf8PathBuf>) -> Kernel {
        let key = KernelKey {
            name: "mine".into(),
            release: "6.18.0-rc1".into(),
            version: version.into(),
            sha256: "00ff".into(),
        };
        let origin = Origin::Own { boot: "/k".into() };
        Kernel {
            key,
            boot: "/k".into(),
            modules: None,
            vmlinux: None,
            debug_modules: None,
            config: None,
            headers,
            origin,
            command_line_bytes: 896,
        }
    }

    fn candidate(package: &str, version: &str) -> Candidate {
        let (package, version) = (package.into(), version.into());
        Candidate { package, version, sha256: String::new(), bytes: 0, depends: Vec::new(), pinned_at: None }
    }

    #[test]
    fn a_tree_of_the_users_must_be_built_and_of_the_kernels_release() {
        let error = BuildTree::of_own(&kernel("", None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there are no headers of the kernel mine; name its build tree with --headers DIR"
        );
        for (file, content, expected) in [
            ("Makefile", None, "no Makefile in it"),
            ("scripts/mod/modpost", None, "no scripts/mod/modpost in it; `make modules_prepare`"),
            ("include/generated/autoconf.h", None, "no include/generated/autoconf.h in it"),
            (
                "include/generated/autoconf.h",
                Some("#define CONFIG_SMP 1\n"),
                "mine loads no modules: CONFIG_MODULES is not set",
            ),
            ("include/generated/utsrelease.h", Some("nothing"), "no include/generated/utsrelease.h in it"),
            (
                "include/generated/utsrelease.h",
                Some("#define UTS_RELEASE \"6.17.0\"\n"),
                "tree is the build tree of 6.17.0, but the kernel is 6.18.0-rc1",
            ),
        ] {
            let place = Folder::new();
            let tree = place.tree();
            BuildTree::of_own(&kernel("", Some(tree.clone()))).unwrap();
            match content {
                Some(content) => place.put(&format!("tree/{file}"), content),
                None => fs::remove_file(tree.join(file)).unwrap(),
            }
            let error = BuildTree::of_own(&kernel("", Some(tree))).unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn a_tree_is_told_by_its_kernel_and_configuration_and_not_by_its_place() {
        let (one, two) = (Folder::new(), Folder::new());
        let identity = |place: &Folder| BuildTree::of_own(&kernel("", Some(place.tree()))).unwrap().identity;
        let first = identity(&one);
        assert_eq!(first, identity(&two));
        two.put("tree/Module.symvers", "0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n");
        assert_ne!(first, identity(&two));
        let mut rebuilt = kernel("", Some(one.tree()));
        rebuilt.key.sha256 = "ff00".into();
        assert_ne!(first, BuildTree::of_own(&rebuilt).unwrap().identity);
    }

    #[test]
    fn packages_come_together_by_links_with_the_hosts_programs_among_them() {
        let place = Folder::new();
        for path in
            ["configured/.config", "configured/Makefile", "common/Makefile", "kbuild/scripts/mod/modpost"]
        {
            place.put(path, path);
        }
        for part in ["configured", "common"] {
            symlink("../../lib/linux-kbuild-6.18/scripts", place.root.join(part).join("scripts")).unwrap();
        }
        let [configured, common, kbuild] =
            ["configured", "common", "kbuild"].map(|part| place.root.join(part));
        let packages = Place::Packages { configured, common, kbuild, libc: None };
        let tree = BuildTree { identity: String::new(), compiler: Compiler::Gcc, place: packages };
        let work = place.root.join("work");
        fs::create_dir(&work).unwrap();
        let arguments = tree.lay_out(&work).unwrap();
        assert_eq!(
            arguments,
            [
                "-C",
                &format!("{work}/configured"),
                "-f",
                &format!("{work}/common/Makefile"),
                &format!("KBUILD_OUTPUT={work}/configured")
            ]
        );
        for (path, content) in [
            ("configured/.config", "configured/.config"),
            ("common/Makefile", "common/Makefile"),
            ("configured/scripts/mod/modpost", "kbuild/scripts/mod/modpost"),
            ("common/scripts/mod/modpost", "kbuild/scripts/mod/modpost"),
        ] {
            assert_eq!(fs::read_to_string(work.join(path)).unwrap(), content, "{path}");
        }
        // The kernel's Makefile takes the directory of the sources from where it stands itself.
        assert!(!work.join("common").is_symlink());
    }

    #[test]
    fn only_headers_of_the_very_kernel_are_remembered() {
        let place = Folder::new();
        let cache = Cache::new(&place.root).unwrap();
        let catalog = Catalog::embedded().unwrap();
        let named = catalog.kernel("debian-12").unwrap();
        let architecture = host_architecture(std::env::consts::ARCH).unwrap();
        let programs = format!("linux-headers-{}", flavour(architecture));
        for (note, entry) in [
            (
                "linux-headers-6.1.0-50-s390x+linux-headers-6.1.0-50-common.bookworm.s390x".to_owned(),
                "linux-headers-6.1.0-50-s390x_6.1.176-1_00ff",
            ),
            (format!("{programs}.bookworm.{architecture}"), "linux-kbuild-6.1_6.1.176-2_00ff"),
        ] {
            cache.entry(Kind::Headers, entry, &quiet, |_| Ok::<_, KernelError>(())).unwrap();
            cache.remember(&note, &serde_json::json!({ "entry": entry })).unwrap();
        }
        let mirrors = MirrorChoice::These(Mirrors::none());
        let fetcher = Fetcher { cache: &cache, refresh: Refresh::No, mirrors, progress: &quiet };
        let headers = |version: &str| {
            let mut kernel = kernel(version, None);
            kernel.key.release = "6.1.0-50-s390x".into();
            fetcher.headers(named, &kernel)
        };
        headers("6.1.176-1").unwrap();
        // A newer kernel of this release has come: the archive is asked for its headers.
        let error = headers("6.1.177-1").unwrap_err();
        assert!(matches!(error, KernelError::NoMirror { .. }), "{error}");
    }

    #[test]
    fn what_was_unpacked_of_the_headers_and_programs_is_put_in_its_place() {
        let place = Folder::new();
        place.put("usr/src/linux-headers-a/Makefile", "");
        place.put("usr/src/linux-headers-b/Makefile", "");
        place.put("usr/share/doc/linux-headers-a/copyright", "");
        let packages = ["linux-headers-a", "linux-headers-b"].map(|name| candidate(name, "6.18.1-2"));
        tidy_headers(&place.root, &packages).unwrap();
        let kept = place.root.read_dir_utf8().unwrap().count();
        assert!(kept == 2 && place.root.join("common/Makefile").is_file());
        let error = tidy_kbuild(&place.root, &[candidate("linux-kbuild-6.18", "1")]).unwrap_err();
        assert!(
            error.to_string().starts_with("the package linux-kbuild-6.18 1 lacks its directory"),
            "{error}"
        );
    }
}
