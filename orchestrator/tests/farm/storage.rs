//! Disks that are full or cannot be written.

use std::ffi::OsStr;
use std::process::Command;

use super::harness::{Farm, Finished, farm_program, shared_cache, verdict};

/// Runs farm where `prepare`, shell commands, have arranged the file systems, in a mount namespace of its own.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn in_namespace(farm: &Farm, prepare: &str, arguments: &[&str]) -> Option<Finished> {
    let place = farm.path("");
    let probe =
        Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", place.as_str()]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespaces for this user here");
        return None;
    }
    let script = format!("set -e; {prepare}\nexec \"$@\"");
    let before = ["-Urm", "sh", "-c", &script, "sh", farm_program()];
    Some(farm.finish(farm.command_of(OsStr::new("unshare"), &before, arguments)))
}

#[test]
fn a_full_disk_is_farms_own_trouble_and_the_mend_is_named() {
    let farm = Farm::new();
    let scenario = farm.short();
    let state = farm.state();
    std::fs::create_dir(&state).unwrap();
    // Not enough for the run's own record; enough for that and not for an initrd.
    for size in ["4k", "2m"] {
        let prepare = format!("mount -t tmpfs -o size={size} none {state}");
        let Some(run) = in_namespace(&farm, &prepare, &["run", &scenario, "--cold"]) else { return };
        let run = run.with_code(103);
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(told.contains("No space left on device") && told.contains("--state"), "{size}: {told}");
    }
}

#[test]
fn a_disk_that_fills_up_while_the_guest_talks_is_farms_own_trouble() {
    let farm = Farm::new();
    farm.program(
        "chatter",
        "#include <fcntl.h>\n#include <unistd.h>\n\
         int main(void) {\n\
         static char line[900];\n\
         for (int i = 0; i < 899; i++) line[i] = 'x';\n\
         line[899] = '\\n';\n\
         int fd = open(\"/dev/console\", O_WRONLY);\n\
         for (;;) if (write(fd, line, sizeof(line)) < 0) return 1;\n\
         }\n",
    );
    let scenario = farm.scenario("chatter", "steps: [{exec: chatter, limit: 1m}]\n");
    let state = farm.state();
    std::fs::create_dir(&state).unwrap();
    // An image and its job are about 24 MiB; what is left is filled by the guest.
    let prepare = format!("mount -t tmpfs -o size=28m none {state}");
    let Some(run) = in_namespace(&farm, &prepare, &["run", &scenario, "--cold"]) else { return };
    let run = run.with_code(103);
    let told = format!("{}{}", run.stdout, run.stderr);
    assert!(
        told.contains("ready") && told.contains("No space left on device") && told.contains("--state"),
        "{told}"
    );
}

#[test]
fn a_read_only_cache_serves_what_it_has_and_says_what_it_lacks() {
    let farm = Farm::new();
    let scenario = farm.short();
    farm.run(&["run", &scenario]).with_code(0);
    let cache = shared_cache();
    let read_only = |path: &str| format!("mount --bind {path} {path}; mount -o remount,bind,ro {path}");
    let Some(run) = in_namespace(&farm, &read_only(cache.as_str()), &["run", &scenario, "--cold", "--json"])
    else {
        return;
    };
    let life = run.with_code(0).life("short");
    assert_eq!(verdict(&life), ("passed", ""));

    let empty = farm.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let arguments = ["run", scenario.as_str(), "--cold", "--cache", empty.as_str()];
    let Some(run) = in_namespace(&farm, &read_only(empty.as_str()), &arguments) else { return };
    let told = run.with_code(103).stderr;
    assert!(told.contains("cannot be written") && told.contains("--cache"), "{told}");
}
