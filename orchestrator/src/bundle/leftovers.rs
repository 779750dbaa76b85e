//! What a farm that was killed left half made.
//!
//! What is in the making has a random name with a prefix of its kind, and its farm holds an flock on it. A killed farm holds none, so
//! whoever makes the next of the kind first removes what nobody holds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use camino::{Utf8DirEntry, Utf8Path};
use rustix::fs::{FlockOperation, flock};

/// Another farm may look through the directory between the making of a file and its lock, and take it away.
const ATTEMPTS: u32 = 10;

/// Makes a file or directory, and holds it until the second is dropped.
pub(super) fn make_held<T>(
    make: impl Fn() -> io::Result<T>,
    path_of: impl Fn(&T) -> &Path,
) -> io::Result<(T, File)> {
    for _ in 0..ATTEMPTS {
        let made = make()?;
        let Ok(file) = File::open(path_of(&made)) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(&file, path_of(&made)) {
            return Ok((made, file));
        }
    }
    Err(io::Error::other("another farm removes what is made there"))
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = || Ok::<_, io::Error>(fs::metadata(path)?.ino() == file.metadata()?.ino());
    same().unwrap_or(false)
}

/// Removes what begins so and nobody holds. What cannot be removed stays: it is only in the way.
pub(super) fn remove_leftovers(directory: &Utf8Path, prefix: &str) {
    let Ok(entries) = directory.read_dir_utf8() else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().starts_with(prefix)) {
        if let Err(error) = remove_unheld(&entry) {
            tracing::warn!(path = %entry.path(), %error, "a killed farm's leftover stays");
        }
    }
}

fn remove_unheld(entry: &Utf8DirEntry) -> io::Result<()> {
    let kind = entry.file_type()?;
    // A pipe would wait for somebody to write.
    if !kind.is_dir() && !kind.is_file() {
        return Ok(());
    }
    let file = File::open(entry.path())?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    if kind.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let place = Utf8Path::from_path(place.path()).unwrap();
        let names = || {
            let entries = place.read_dir_utf8().unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
            names.sort();
            names
        };
        for name in ["bundle-dead", "runs"] {
            fs::create_dir(place.join(name)).unwrap();
            fs::write(place.join(name).join("kernel"), "").unwrap();
        }
        fs::write(place.join("bundle-file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", place.join("bundle-link")).unwrap();
        let make = || fs::create_dir(place.join("bundle-held")).map(|()| place.join("bundle-held"));
        let (_, held) = make_held(make, |path| path.as_std_path()).unwrap();
        remove_leftovers(place, "bundle-");
        assert_eq!(names(), ["bundle-held", "bundle-link", "runs"]);
        drop(held);
        remove_leftovers(place, "bundle-");
        assert_eq!(names(), ["bundle-link", "runs"]);
    }
}
