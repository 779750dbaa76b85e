//! Parts of `guests/init/`, compiled for this host with sanitizers: the parser of jobs on its own table, and the file system
//! that a guest writes to a disk of its own under the eyes of fsck.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn compile(place: &Path, sources: &[&str]) -> PathBuf {
    let program = place.join("program");
    let compiled = Command::new("cc")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/init"))
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-o"])
        .arg(&program)
        .args(sources)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    program
}

#[test]
fn init_takes_what_the_protocol_says_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let program = compile(place.path(), &["tests/job_test.c", "job.c"]);
    // Init frees nothing: a job lives as long as its guest.
    let ran = Command::new(&program).env("ASAN_OPTIONS", "detect_leaks=0").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("not ok")).collect();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && failed.is_empty(), "{failed:#?}\n{stderr}");
    assert!(said.lines().any(|line| line.starts_with("1..")), "it came to its end: {said}");
}

#[test]
fn fsck_finds_nothing_wrong_with_the_file_system_that_init_writes() {
    let place = tempfile::tempdir().unwrap();
    let program = compile(place.path(), &["tests/format_test.c", "format.c"]);
    let format = |bytes: u64| {
        let disk = place.path().join(format!("disk-{bytes}"));
        std::fs::File::create_new(&disk).unwrap().set_len(bytes).unwrap();
        let formatted = Command::new(&program).arg(&disk).output().unwrap();
        (disk, formatted)
    };
    let (block, mib) = (4096, 1 << 20);
    // The least that has a block to give; one that ends within a block; a whole group and more than one.
    for bytes in [22 * block, 23 * block + 512, 64 * mib, 128 * mib, 300 * mib] {
        let (disk, formatted) = format(bytes);
        assert!(formatted.status.success(), "{bytes}: {}", String::from_utf8_lossy(&formatted.stderr));
        let checked = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(&disk).output().unwrap();
        assert!(checked.status.success(), "{bytes}: {}", String::from_utf8_lossy(&checked.stdout));
    }
    let (_, refused) = format(21 * block);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("No space left on device"), "{refused:?}");
}
