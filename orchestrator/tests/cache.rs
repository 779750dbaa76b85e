//! A cache under what befalls real ones: kill -9, a full disk, a read-only file system.
//!
//! Each of these needs a process of its own, so this program starts itself again with one `child_…` test,
//! which does nothing when it is run with the others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, CacheError, Kind, quiet};

const PLACE: &str = "FARM_TEST_PLACE";

fn place() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().to_owned()).unwrap();
    (directory, path)
}

/// The cache that the parent names, if this is the child that it wants.
fn childs_cache(test: &str) -> Option<Cache> {
    let wanted = std::env::var(PLACE).ok()?;
    let path = wanted.strip_prefix(test)?.strip_prefix('=')?;
    Some(Cache::new(Utf8Path::new(path)).unwrap())
}

/// This program again, for one test only; `wrapper` goes in front.
fn child(test: &str, wrapper: &[&str], place: &Utf8Path) -> Command {
    let itself = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(Into::into).chain([itself.into_os_string()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture"]).env(PLACE, format!("{test}={place}"));
    command
}

fn fill(directory: &Utf8Path) -> Result<(), CacheError> {
    fs::write(directory.join("part"), "whole").unwrap();
    Ok(())
}

#[test]
fn kill_9_in_the_middle_of_a_fill_leaves_no_entry_and_the_next_farm_cleans_up() {
    let (_guard, root) = place();
    let mut filling =
        child("child_fills_half", &[], &root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(filling.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("half is written")));
    filling.kill().unwrap();
    filling.wait().unwrap();

    let cache = Cache::new(&root).unwrap();
    assert_eq!(cache.existing(Kind::Kernel, "k"), None);
    let half = |name: &str| name.starts_with(".k.filling.");
    let names =
        || fs::read_dir(root.join("kernel")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names().filter(|name| half(name)).count(), 1);
    let entry = cache.entry(Kind::Kernel, "k", &quiet, fill).unwrap();
    assert_eq!(fs::read_to_string(entry.join("part")).unwrap(), "whole");
    assert_eq!(names().filter(|name| half(name)).count(), 0);
}

#[test]
#[expect(clippy::print_stdout, reason = "tells the parent where it is")]
fn child_fills_half() {
    let Some(cache) = childs_cache("child_fills_half") else { return };
    let _ = cache.entry(Kind::Kernel, "k", &quiet, |directory| -> Result<(), CacheError> {
        fs::write(directory.join("part"), "who").unwrap();
        println!("half is written");
        io::stdout().flush().unwrap();
        // Ends only with the parent, which kills this process first.
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        Ok(())
    });
}

/// Runs a child where `prepare`, a shell command, has arranged the file systems, in a mount namespace of its
/// own.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn in_namespace(test: &str, prepare: &str) {
    let (_guard, root) = place();
    let probe =
        Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", root.as_str()]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespaces for this user here");
        return;
    }
    let script = format!("place=$1; shift; {prepare} && exec \"$@\"");
    let wrapper = ["unshare", "-Urm", "sh", "-c", &script, "sh", root.as_str()];
    let output = child(test, &wrapper, &root).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_is_named_with_the_mend() {
    in_namespace("child_meets_a_full_disk", "mount -t tmpfs -o size=1m none $place");
}

#[test]
fn child_meets_a_full_disk() {
    #[derive(Debug, thiserror::Error)]
    enum Error {
        #[error("the tool failed")]
        Tool,
        #[error(transparent)]
        Cache(#[from] CacheError),
    }
    let Some(cache) = childs_cache("child_meets_a_full_disk") else { return };
    // As dpkg-deb does: the disk's own error stays in the tool's text.
    let error = cache.entry(Kind::Kernel, "k", &quiet, |directory| {
        fs::write(directory.join("big"), vec![1; 2 << 20]).unwrap_err();
        Err(Error::Tool)
    });
    let Err(Error::Cache(error @ CacheError::Full { .. })) = error else { panic!("{error:?}") };
    let expected = format!(
        "no space left on the disk of {} (0 MiB free); free some or choose another cache with --cache or FARM_CACHE",
        cache.path(Kind::Kernel, "k")
    );
    assert_eq!(error.to_string(), expected);
    // Nothing of the failed fill stays, so there is room again.
    cache.entry(Kind::Kernel, "k", &quiet, fill).unwrap();
}

#[test]
fn a_read_only_cache_serves_what_it_has_and_says_what_it_lacks() {
    in_namespace(
        "child_reads_only",
        "mkdir -p $place/kernel/old && mount --bind $place $place && mount -o remount,bind,ro $place",
    );
}

#[test]
fn child_reads_only() {
    let Some(cache) = childs_cache("child_reads_only") else { return };
    let old =
        cache.entry(Kind::Kernel, "old", &quiet, |_| -> Result<(), CacheError> { panic!("filled again") });
    assert_eq!(old.unwrap(), cache.path(Kind::Kernel, "old"));
    let error = cache.entry(Kind::Kernel, "new", &quiet, fill).unwrap_err();
    let expected = format!(
        "the cache cannot be written and {} is not in it; make it writable or choose another with --cache or FARM_CACHE",
        cache.path(Kind::Kernel, "new")
    );
    assert_eq!(error.to_string(), expected);
}
