//! The parser of jobs in `guests/init/`, compiled for this host with sanitizers and run on its own table.

use std::process::Command;

#[test]
fn init_takes_what_the_protocol_says_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("job_test");
    let compiled = Command::new("cc")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/init"))
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-o"])
        .arg(&program)
        .args(["tests/job_test.c", "job.c"])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    // Init frees nothing: a job lives as long as its guest.
    let ran = Command::new(&program).env("ASAN_OPTIONS", "detect_leaks=0").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("not ok")).collect();
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && failed.is_empty(), "{failed:#?}\n{stderr}");
    assert!(said.lines().any(|line| line.starts_with("1..")), "it came to its end: {said}");
}
