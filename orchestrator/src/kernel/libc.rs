//! A newer Debian's C library, beside the host's own, for those programs of a kernel's build that need one.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use camino::{Utf8Path, Utf8PathBuf};

use super::KernelError;
use super::apt::Candidate;
use super::catalog::Packages;
use super::package::{Fetcher, Wanted, keep_only};
use crate::cache::Kind;

/// The place of the library's directory in a cache entry.
const LIBC: &str = "libc";
/// Of the programs that build a module for s390x the one that asks more of the C library than those of old hosts have:
/// Debian's `modpost` calls the one that was built for the kernel's byte order and word size.
const MODPOST: &str = "scripts/mod/modpost";
const MODPOST_PROPER: &str = "scripts/mod/modpost.real-msb-64";

impl Fetcher<'_> {
    /// The directory of the library, out of the cache if it has been fetched.
    pub(super) fn libc(&self, libc: &Packages, architecture: &str) -> Result<Utf8PathBuf, KernelError> {
        let entry = self.entry(&Wanted {
            kind: Kind::Package,
            packages: libc,
            architecture,
            behind: &[],
            along: &[],
            version_of: None,
            tidy: &tidy_libc,
        })?;
        Ok(entry.join(LIBC))
    }
}

/// Makes the directory `to` with links to the build's programs, and a `modpost` that runs with this C library.
pub(super) fn link_programs(kbuild: &Utf8Path, libc: &Utf8Path, to: &Utf8Path) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: to.to_owned(), source };
    let of_modpost = Utf8Path::new(MODPOST);
    // Each directory on the way to it, the top first.
    let mut way: Vec<_> = of_modpost.ancestors().skip(1).collect();
    way.reverse();
    for directory in way {
        fs::create_dir(to.join(directory)).map_err(failed)?;
        for entry in kbuild.join(directory).read_dir_utf8().map_err(failed)? {
            let name = directory.join(entry.map_err(failed)?.file_name());
            if !of_modpost.starts_with(&name) {
                symlink(kbuild.join(&name), to.join(&name)).map_err(failed)?;
            }
        }
    }
    let [loader, libc, proper] =
        [&loader_in(libc)?, libc, &kbuild.join(MODPOST_PROPER)].map(|path| quoted(path.as_str()));
    let script = format!("#!/bin/sh\nexec {loader} --library-path {libc} {proper} \"$@\"\n");
    let modpost = to.join(of_modpost);
    fs::write(&modpost, script).map_err(failed)?;
    fs::set_permissions(&modpost, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// As one word of a shell's.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Keeps the directory of the library itself, usr/lib/TRIPLET.
fn tidy_libc(root: &Utf8Path, candidates: &[Candidate]) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: root.to_owned(), source };
    let mut place = None;
    for entry in root.join("usr/lib").read_dir_utf8().map_err(failed)? {
        let path = entry.map_err(failed)?.into_path();
        if path.join("libc.so.6").is_file() {
            place = Some(path);
        }
    }
    let place = place.ok_or_else(|| KernelError::Incomplete {
        package: candidates[0].package.clone(),
        version: candidates[0].version.clone(),
        what: "usr/lib/TRIPLET/libc.so.6",
    })?;
    fs::rename(place, root.join(LIBC)).map_err(failed)?;
    loader_in(&root.join(LIBC))?;
    keep_only(root, &[LIBC])
}

/// The program that loads others: ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2.
fn loader_in(libc: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    let failed = |source| KernelError::Io { path: libc.to_owned(), source };
    for entry in libc.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().starts_with("ld") && entry.file_name().contains(".so.") {
            return Ok(entry.into_path());
        }
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tool;

    fn put(path: &Utf8Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn a_newer_modpost_runs_with_the_c_library_that_came_for_it() {
        let guard = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(guard.path()).unwrap().join("it's here");
        let (kbuild, unpacked) = (root.join("kbuild"), root.join("unpacked"));
        let others = ["scripts/basic/fixdep", "scripts/mod/modpost.real-msb-64", "tools/objtool/objtool"];
        for path in others.into_iter().chain([MODPOST]) {
            put(&kbuild.join(path), path);
        }
        put(&unpacked.join("usr/lib/other/file"), "");
        let library = Candidate {
            package: "libc6".into(),
            version: "2.43-7".into(),
            sha256: String::new(),
            bytes: 0,
            depends: Vec::new(),
            pinned_at: None,
        };
        let error = tidy_libc(&unpacked, std::slice::from_ref(&library)).unwrap_err();
        assert_eq!(error.to_string(), "the package libc6 2.43-7 lacks usr/lib/TRIPLET/libc.so.6");
        put(&unpacked.join("usr/lib/a-triplet/libc.so.6"), "");
        // In place of the loader: what says how it is called.
        let loader = unpacked.join("usr/lib/a-triplet/ld64.so.1");
        put(&loader, "#!/bin/sh\nprintf '%s|' \"$@\"\n");
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        tidy_libc(&unpacked, &[library]).unwrap();

        let (libc, programs) = (unpacked.join(LIBC), root.join("programs"));
        link_programs(&kbuild, &libc, &programs).unwrap();
        for path in others {
            assert_eq!(fs::read_to_string(programs.join(path)).unwrap(), path);
        }
        let said = tool::run(&programs.join(MODPOST), &["-o", "a b"]).unwrap();
        let proper = kbuild.join("scripts/mod/modpost.real-msb-64");
        assert_eq!(String::from_utf8(said).unwrap(), format!("--library-path|{libc}|{proper}|-o|a b|"));
    }
}
