//! Bootable kernels: named ones, fetched as Debian packages, and a developer's own.

mod apt;
mod boot;
mod build;
mod catalog;
mod checkout;
mod commits;
mod debug_file;
mod debug_package;
mod git;
mod headers;
mod libc;
mod modules;
mod mutants;
mod own;
mod own_catalog;
mod package;
mod qemu;
mod series;
mod source;
mod symbols;
pub(crate) mod tool;
mod tree;

use std::fs;
use std::io::{self, Read as _};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::apt::{Archive, Mirrors};
pub use self::boot::{BootFacts, NotBootable, inspect};
pub use self::build::{
    BUILD_LIMIT, BadLine, Base, BuildRequest, Compiler, ConfigRecipe, Configurator, Fragment, Kconfig, Lost,
    Options, build, built_again, configuration, which_are_built,
};
pub use self::catalog::{
    Catalog, CatalogError, KernelBuild, KernelPackages, NamedKernel, NamedTree, Packages, Pinned, Recipe,
    Source, TreeSources,
};
pub use self::checkout::{Checkout, Exit, check_program, run_of_user};
pub use self::commits::Range;
pub use self::debug_file::DebugFileError;
pub use self::git::{Commit, TreeId};
pub use self::headers::BuildTree;
pub use self::mutants::Mutant;
pub use self::own::OwnKernel;
pub use self::own_catalog::own_catalog_file;
pub(crate) use self::package::keep_only;
pub use self::package::{Fetcher, MirrorChoice};
pub use self::qemu::{FoundQemu, find_qemus};
pub use self::series::Series;
pub(crate) use self::source::path_in_tree;
pub use self::source::{DebugFiles, Place, Pointer, SharedSources, Sources, Spot};
pub use self::symbols::SymbolsError;
pub use self::tool::{ToolError, kill_started};
pub use self::tree::Tree;
use crate::cache::CacheError;
use crate::plan::KernelKey;

/// A kernel that is on this host and can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub key: KernelKey,
    /// A bzImage, or an ELF boot image.
    pub boot: Utf8PathBuf,
    /// `lib/modules/RELEASE`, with `modules.dep` in it.
    pub modules: Option<Utf8PathBuf>,
    /// The ELF file with symbols and debug information.
    pub vmlinux: Option<Utf8PathBuf>,
    /// A directory of its modules with debug information.
    pub debug_modules: Option<Utf8PathBuf>,
    pub config: Option<Utf8PathBuf>,
    /// The build tree of a kernel of the user's; those of named kernels are fetched when a module needs them.
    pub headers: Option<Utf8PathBuf>,
    pub origin: Origin,
    /// Bytes for the command line, its closing NUL included.
    pub command_line_bytes: u64,
}

/// Where a kernel came from, as results record it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// A Debian package; the hash is that of the .deb.
    Package { package: String, version: String, sha256: String },
    /// A file of the user's.
    Own { boot: Utf8PathBuf },
    /// Built by farm: the git tree of the sources, the name of the configuration, compiler and linker, and the hash of
    /// what is loaded of it.
    Built { tree: String, config: String, toolchain: String, signature: String },
}

/// Whether the archive is asked for something newer than what is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// What was fetched once is used, with no network.
    No,
    Yes,
}

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("there is no kernel named {name:?}; known are {known}")]
    UnknownName { name: String, known: String },
    #[error(
        "no mirror of Debian in this host's apt configuration; run `apt-get update`, or name one in {variable}"
    )]
    NoMirror { variable: &'static str },
    #[error("the mirror {uri:?} is not a URI; mend {variable} or apt's configuration")]
    BadMirror { variable: &'static str, uri: String },
    #[error(
        "{path} is missing; Debian's package debian-archive-keyring has it and `cargo xtask setup` installs it"
    )]
    NoKeyring { path: Utf8PathBuf },
    #[error("{package} is not among the packages of {suites}; apt says: {complaints}")]
    NoPackage { package: String, suites: String, complaints: String },
    #[error("cannot download {package} {version}")]
    Download { package: String, version: String, source: ToolError },
    #[error("{package} depends on no package {prefix}…")]
    NoDependency { package: String, prefix: String },
    #[error("{path} has the SHA-256 {found}, where the signed index says {expected}; it is damaged")]
    Corrupt { path: Utf8PathBuf, expected: String, found: String },
    #[error("the package {package} {version} lacks {what}")]
    Incomplete { package: String, version: String, what: &'static str },
    #[error("cannot use {path}")]
    Io { path: Utf8PathBuf, source: io::Error },
    #[error("the cache entry's record {path} is damaged; remove its directory")]
    BadRecord { path: Utf8PathBuf, source: serde_json::Error },
    #[error("{path} is not an s390x kernel: it is {looks_like}")]
    NotAKernel { path: Utf8PathBuf, looks_like: String },
    #[error("{path} does not say its release; give its modules too, whose directory is named by it")]
    NoRelease { path: Utf8PathBuf },
    #[error("{path} holds no modules: there is no {missing} in it; give the directory lib/modules/RELEASE")]
    NoModules { path: Utf8PathBuf, missing: &'static str },
    #[error("{modules} holds modules of {found}, but {boot} is {expected}")]
    OtherRelease { modules: Utf8PathBuf, found: String, boot: Utf8PathBuf, expected: String },
    #[error("{path} is not a vmlinux with s390x code")]
    NotVmlinux { path: Utf8PathBuf },
    #[error("there are no headers of the kernel {kernel}; name its build tree with --headers DIR")]
    NoHeaders { kernel: String },
    #[error(
        "something that an earlier command has started is still at work in {directory}: `fuser {lock}` names it"
    )]
    AtWork { directory: Utf8PathBuf, lock: Utf8PathBuf },
    #[error("there is no {program} in {directory} that can be started")]
    NoProgram { program: String, directory: Utf8PathBuf },
    #[error("{kernel} loads no modules: CONFIG_MODULES is not set")]
    NoLoadableModules { kernel: String },
    #[error(
        "{path} is not a kernel's build tree: there is no {missing} in it; `make modules_prepare` makes it in a \
         configured tree"
    )]
    NotABuildTree { path: Utf8PathBuf, missing: &'static str },
    #[error("{path} is the build tree of {found}, but the kernel is {expected}")]
    OtherTree { path: Utf8PathBuf, found: String, expected: String },
    #[error("Debian's archive has {package} {found}, but {kernel} in the cache is {expected}")]
    OtherVersion { package: String, kernel: String, expected: String, found: String },
    #[error("{path} is no kernel tree: there is no {missing} in it")]
    NoSources { path: Utf8PathBuf, missing: &'static str },
    #[error("{path} holds no patch")]
    EmptySeries { path: Utf8PathBuf },
    #[error("{what} is neither a file nor a branch or commit of {tree}")]
    NoPatch { what: String, tree: Utf8PathBuf },
    #[error("HEAD holds {what} already: name a branch that it does not, or a mailbox")]
    NothingToTry { what: String },
    #[error(
        "the place {path} has a blank in its name, which the kernel's Makefiles do not bear; choose another cache with --cache or FARM_CACHE"
    )]
    BlankInPath { path: Utf8PathBuf },
    #[error("{what} and HEAD of {tree} have no commit in common")]
    NoBase { what: String, tree: Utf8PathBuf },
    #[error("{path} is not the top of a git repository")]
    NoRepository { path: Utf8PathBuf },
    #[error("{what} is no commit of {tree}")]
    NoCommit { what: String, tree: Utf8PathBuf },
    #[error("good and bad are the same commit {id}")]
    SameCommit { id: String },
    #[error("{good} is no ancestor of {bad}; {}", match common {
        Some(common) => format!("both come from {common}: try whether that is good, and if so bisect from there"),
        None => "they have no commit in common".to_owned(),
    })]
    NotBefore { good: String, bad: String, common: Option<String> },
    #[error("the patch {name} does not apply: {said}")]
    PatchRefused { name: String, said: String },
    #[error(transparent)]
    BadLine(#[from] BadLine),
    #[error("{name} does not take what its configuration asks for:\n{}", lost.iter().map(Lost::to_string).collect::<Vec<_>>().join("\n"))]
    ConfigLost { name: String, lost: Vec<Lost> },
    #[error("the tree's Kconfig does not settle {name}: {said}")]
    NotSettled { name: String, said: String },
    #[error("{name} did not build:\n{words}\nthe rest is in {log}")]
    Build { name: String, words: String, log: Utf8PathBuf },
    #[error("the kernel command line is {bytes} bytes long, and {kernel} takes {limit} at most")]
    CommandLine { bytes: u64, limit: u64, kernel: String },
    #[error("Debian has no programs for this host's architecture {architecture}")]
    HostArchitecture { architecture: &'static str },
    #[error("the QEMU at {path} does not run on this host")]
    QemuDoesNotRun { path: Utf8PathBuf, source: ToolError },
}

impl KernelError {
    /// Whether other sources would have built: nothing is wrong with this host.
    pub fn is_of_the_sources(&self) -> bool {
        match self {
            Self::Build { .. } | Self::ConfigLost { .. } | Self::NoSources { .. } => true,
            // It hangs.
            Self::Tool(ToolError::TooLong { .. }) => true,
            _ => false,
        }
    }
}

impl Kernel {
    /// Whether its vmlinux may tell of types, which its configuration rules out if it wants no debug information. What is built
    /// here without has lines nevertheless.
    pub fn may_have_types(&self) -> bool {
        let text = self.config.as_ref().and_then(|config| std::fs::read_to_string(config).ok());
        text.is_none_or(|text| text.lines().any(|line| line == "CONFIG_DEBUG_INFO=y"))
    }

    /// Refuses a command line that the kernel would cut off.
    pub fn check_command_line(&self, line: &str) -> Result<(), KernelError> {
        // The limit counts the NUL (arch/s390/boot/ipl_parm.c).
        let limit = self.command_line_bytes.saturating_sub(1);
        let bytes = line.len() as u64;
        if bytes <= limit {
            return Ok(());
        }
        Err(KernelError::CommandLine { bytes, limit, kernel: self.key.name.clone() })
    }
}

fn read(path: &Utf8Path) -> Result<Vec<u8>, KernelError> {
    fs::read(path).map_err(|source| KernelError::Io { path: path.to_owned(), source })
}

/// The SHA-256 of bytes in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The same of a file, which may be larger than one wants to hold.
fn sha256_of_file(path: &Utf8Path) -> Result<String, KernelError> {
    let failed = |source| KernelError::Io { path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(&digest.finalize())),
            Ok(length) => digest.update(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_types_by_its_configuration_and_a_limit_of_its_command_line() {
        let key = KernelKey {
            name: "k".into(),
            release: "6.1.0".into(),
            version: String::new(),
            sha256: String::new(),
        };
        let kernel = Kernel {
            key,
            boot: "/k".into(),
            modules: None,
            vmlinux: None,
            debug_modules: None,
            config: None,
            headers: None,
            origin: Origin::Own { boot: "/k".into() },
            command_line_bytes: 896,
        };
        // Nothing is known of its configuration.
        assert!(kernel.may_have_types());
        let configured = |text: &str| {
            let directory = tempfile::tempdir().unwrap();
            let config = Utf8Path::from_path(directory.path()).unwrap().join("config");
            std::fs::write(&config, text).unwrap();
            Kernel { config: Some(config), ..kernel.clone() }.may_have_types()
        };
        assert!(configured("CONFIG_A=y\nCONFIG_DEBUG_INFO=y\n"));
        assert!(!configured("# CONFIG_DEBUG_INFO is not set\nCONFIG_DEBUG_INFO_NONE=y\n"));
        kernel.check_command_line(&"x".repeat(895)).unwrap();
        let error = kernel.check_command_line(&"x".repeat(896)).unwrap_err();
        assert_eq!(error.to_string(), "the kernel command line is 896 bytes long, and k takes 895 at most");
    }

    #[test]
    fn hashes_are_printed_as_sha256sum_does() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), abc);
    }
}
