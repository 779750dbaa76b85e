//! A distribution's debug information of its kernels: packages of hundreds of megabytes, fetched only on request.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::apt::Candidate;
use super::catalog::{KernelPackages, Packages};
use super::package::{Fetcher, GUEST_ARCHITECTURE, Wanted, keep_only};
use super::{Kernel, KernelError, Origin};
use crate::cache::Kind;

/// Where such a package has its files.
const DEBUG: &str = "usr/lib/debug";
/// The directories of modules in it: since Debian 13 the package's own paths begin with usr/.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];
/// What is kept of it.
const KEPT_VMLINUX: &str = "vmlinux";
const KEPT_MODULES: &str = "modules";

impl Fetcher<'_> {
    /// The kernel with its debug information, fetched if it was not before.
    pub fn debug_package(&self, packages: &KernelPackages, kernel: Kernel) -> Result<Kernel, KernelError> {
        let wanted = debug_packages(packages, &kernel);
        let entry = self.entry(&wanted_of(&wanted, &kernel))?;
        Ok(with_files(kernel, &entry))
    }

    /// The kernel with its debug information, if that was fetched.
    pub(super) fn with_debug_package(
        &self,
        packages: &KernelPackages,
        kernel: Kernel,
    ) -> Result<Kernel, KernelError> {
        let wanted = debug_packages(packages, &kernel);
        Ok(match self.existing(&wanted_of(&wanted, &kernel))? {
            Some(entry) => with_files(kernel, &entry),
            None => kernel,
        })
    }
}

/// Debian calls it by the name of the image's package.
fn debug_packages(packages: &KernelPackages, kernel: &Kernel) -> Packages {
    let image = match &kernel.origin {
        Origin::Package { package, .. } => package.clone(),
        Origin::Own { .. } | Origin::Built { .. } => format!("linux-image-{}", kernel.key.release),
    };
    Packages { names: vec![format!("{image}-dbg")], source: packages.image.source.clone() }
}

fn wanted_of<'a>(packages: &'a Packages, kernel: &'a Kernel) -> Wanted<'a> {
    Wanted {
        kind: Kind::Symbols,
        packages,
        architecture: GUEST_ARCHITECTURE,
        behind: &[],
        along: &[],
        // Another build has other functions in other places.
        version_of: Some(&kernel.key),
        tidy: &tidy,
    }
}

fn with_files(kernel: Kernel, entry: &Utf8Path) -> Kernel {
    let (vmlinux, modules) = (entry.join(KEPT_VMLINUX), entry.join(KEPT_MODULES));
    Kernel { vmlinux: Some(vmlinux), debug_modules: Some(modules), ..kernel }
}

/// Keeps vmlinux and the modules.
fn tidy(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    let Candidate { package, version, .. } = &candidates[0];
    let lacks = |what| KernelError::Incomplete { package: package.clone(), version: version.clone(), what };
    let failed = |source| KernelError::Io { path: root.to_owned(), source };
    let release = package.trim_start_matches("linux-image-").trim_end_matches("-dbg");
    let debug = root.join(DEBUG);
    let modules =
        MODULES.map(|place| debug.join(place).join(release)).into_iter().find(|place| place.is_dir());
    let modules = modules.ok_or_else(|| lacks("its directory of modules"))?;
    // Some of these are links to the one that is a file.
    let places = [debug.join(format!("boot/vmlinux-{release}")), modules.join("vmlinux")];
    let is_file = |path: &Utf8PathBuf| fs::symlink_metadata(path).is_ok_and(|data| data.is_file());
    let vmlinux = places.into_iter().find(is_file).ok_or_else(|| lacks("vmlinux"))?;
    fs::rename(vmlinux, root.join(KEPT_VMLINUX)).map_err(failed)?;
    fs::rename(modules, root.join(KEPT_MODULES)).map_err(failed)?;
    keep_only(root, &[KEPT_VMLINUX, KEPT_MODULES])
}
