//! A kernel's directory of modules, made ready for use.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::KernelError;
use super::tool::DEPMOD;

/// The modules' directories of an unpacked package: since Debian 13 they lie under usr/.
const PLACES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Moves an unpacked package's modules to `lib/modules` and gives their release; nothing if there are none.
pub(super) fn settle(root: &Utf8Path) -> Result<Option<String>, KernelError> {
    let failed = |source| KernelError::Io { path: root.to_owned(), source };
    for place in PLACES.map(|place| root.join(place)) {
        if !place.is_dir() {
            continue;
        }
        let first = place.read_dir_utf8().map_err(failed)?.next().transpose().map_err(failed)?;
        let Some(release) = first.map(|entry| entry.file_name().to_owned()) else { continue };
        let home = root.join(PLACES[0]);
        if place != home {
            fs::create_dir_all(root.join("lib")).map_err(failed)?;
            fs::rename(&place, &home).map_err(failed)?;
        }
        return Ok(Some(release));
    }
    Ok(None)
}

/// Makes `modules.dep` and its like, which Debian's packages leave to be made on installation.
pub(super) fn index(root: &Utf8Path, release: &str) -> Result<(), KernelError> {
    DEPMOD.stdout(DEPMOD.command()?.args(["-b", root.as_str(), release]))?;
    Ok(())
}

/// All .ko files below a directory, sorted; none if there is no such directory.
pub(super) fn files(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, KernelError> {
    let mut files = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let failed = |source| KernelError::Io { path: directory.clone(), source };
        let listing = match directory.read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listing => listing.map_err(failed)?,
        };
        for entry in listing {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                left.push(entry.into_path());
            } else if entry.file_name().ends_with(".ko") {
                files.push(entry.into_path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Checks a directory that a developer gave: `lib/modules/RELEASE` itself, or a place into which
/// `make modules_install INSTALL_MOD_PATH=…` has put one release.
pub(super) fn given(path: &Utf8Path) -> Result<Utf8PathBuf, KernelError> {
    if path.join("modules.dep").is_file() {
        return Ok(path.to_owned());
    }
    for place in PLACES.map(|place| path.join(place)) {
        let Ok(listing) = place.read_dir_utf8() else { continue };
        let with_index =
            listing.flatten().map(|entry| entry.into_path()).filter(|p| p.join("modules.dep").is_file());
        if let [only] = &with_index.collect::<Vec<_>>()[..] {
            return Ok(only.clone());
        }
    }
    // A kernel tree that was built but not installed has modules.order and no modules.dep.
    Err(KernelError::NoModules { path: path.to_owned(), missing: "modules.dep" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for path in paths {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        directory
    }

    fn utf8(directory: &tempfile::TempDir) -> &Utf8Path {
        Utf8Path::from_path(directory.path()).unwrap()
    }

    #[test]
    fn modules_settle_in_one_place_wherever_the_package_has_them() {
        for path in ["lib/modules/6.1/kernel/a.ko", "usr/lib/modules/6.1/kernel/a.ko"] {
            let directory = tree(&[path]);
            assert_eq!(settle(utf8(&directory)).unwrap().as_deref(), Some("6.1"), "{path}");
            assert!(utf8(&directory).join("lib/modules/6.1/kernel/a.ko").is_file(), "{path}");
        }
        let directory = tree(&["boot/vmlinuz"]);
        assert_eq!(settle(utf8(&directory)).unwrap(), None);
    }

    #[test]
    fn a_given_directory_is_one_release_or_an_install_path_with_one() {
        let table: [(&[&str], &str, Option<&str>); 5] = [
            (&["m/modules.dep"], "m", Some("m")),
            (&["i/lib/modules/6.9/modules.dep"], "i", Some("i/lib/modules/6.9")),
            (&["i/usr/lib/modules/6.9/modules.dep"], "i", Some("i/usr/lib/modules/6.9")),
            (&["i/lib/modules/6.9/modules.dep", "i/lib/modules/6.8/modules.dep"], "i", None),
            (&["t/modules.order"], "t", None),
        ];
        for (paths, given_path, expected) in table {
            let directory = tree(paths);
            let root = utf8(&directory);
            let found = given(&root.join(given_path)).ok();
            assert_eq!(found, expected.map(|path| root.join(path)), "{paths:?}");
        }
    }
}
