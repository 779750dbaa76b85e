//! A newer QEMU than the host's, as packages unpacked into the cache beside it: QEMU needs no installation,
//! only its data directory named with `-L`.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::apt::Candidate;
use super::catalog::Packages;
use super::package::{Fetcher, Wanted, keep_only, read_record, write_record};
use super::{KernelError, tool};
use crate::cache::{Cache, Kind};

const BINARY: &str = "usr/bin/qemu-system-s390x";
const DATA: &str = "usr/share/qemu";

/// A QEMU in the cache, which ran on this host when it was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundQemu {
    pub binary: Utf8PathBuf,
    /// For QEMU's option `-L`.
    pub data: Utf8PathBuf,
    /// The package's version.
    pub version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: String,
}

impl Fetcher<'_> {
    /// Fetches QEMU's packages for this host. One that does not run with the host's libraries is not kept.
    pub fn qemu(&self, packages: &Packages) -> Result<FoundQemu, KernelError> {
        let architecture = host_architecture(std::env::consts::ARCH)?;
        let entry = self.entry(&Wanted {
            kind: Kind::Qemu,
            packages,
            architecture,
            behind: &[],
            along: &[],
            version_of: None,
            tidy: &tidy,
        })?;
        load(&entry)
    }
}

/// The QEMUs that are in the cache, sorted by the names of their entries.
pub fn find_qemus(cache: &Cache) -> Result<Vec<FoundQemu>, KernelError> {
    cache.entries(Kind::Qemu)?.iter().map(|entry| load(entry)).collect()
}

fn load(entry: &Utf8Path) -> Result<FoundQemu, KernelError> {
    let Record { version } = read_record(entry)?;
    Ok(FoundQemu { binary: entry.join(BINARY), data: entry.join(DATA), version })
}

fn tidy(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    keep_only(root, &["usr"])?;
    let binary = root.join(BINARY);
    tool::run(&binary, &["--version"])
        .map_err(|source| KernelError::QemuDoesNotRun { path: binary.clone(), source })?;
    write_record(root, &Record { version: candidates[0].version.clone() })
}

/// A Rust architecture in Debian's words.
pub(super) fn host_architecture(architecture: &'static str) -> Result<&'static str, KernelError> {
    match architecture {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        "powerpc64" => Ok("ppc64el"),
        "s390x" => Ok("s390x"),
        architecture => Err(KernelError::HostArchitecture { architecture }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn unpacked(script: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join(BINARY);
        fs::create_dir_all(binary.parent().unwrap()).unwrap();
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
        directory
    }

    fn candidate() -> Candidate {
        Candidate {
            package: "qemu-system-s390x".into(),
            version: "1:10.0".into(),
            sha256: String::new(),
            bytes: 0,
            depends: Vec::new(),
            pinned_at: None,
        }
    }

    #[test]
    fn only_a_qemu_that_runs_is_kept() {
        let good = unpacked("#!/bin/sh\n[ \"$1\" = --version ]\n");
        let root = Utf8Path::from_path(good.path()).unwrap();
        tidy(root, &[candidate()]).unwrap();
        let found = load(root).unwrap();
        assert_eq!((found.binary, found.version.as_str()), (root.join(BINARY), "1:10.0"));

        let bad = unpacked("#!/bin/sh\necho 'libfoo.so.9: cannot open shared object file' >&2; exit 127\n");
        let error = tidy(Utf8Path::from_path(bad.path()).unwrap(), &[candidate()]).unwrap_err();
        assert!(error.to_string().ends_with("does not run on this host"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("libfoo.so.9"), "{cause}");
    }

    #[test]
    fn an_architecture_without_packages_is_named() {
        assert_eq!(host_architecture("x86_64").unwrap(), "amd64");
        assert!(host_architecture("riscv32").unwrap_err().to_string().contains("riscv32"));
    }
}
