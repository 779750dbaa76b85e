//! Trouble with QEMU is farm's own, and never a kernel's verdict.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::process::Signal;

use super::harness::{Farm, newer_qemu};

#[test]
fn a_qemu_that_is_not_there_or_dies_at_once_is_named() {
    let farm = Farm::new();
    let scenario = farm.short();
    let absent = farm.run(&["run", &scenario, "--qemu", "/nonexistent"]).with_code(103).stderr;
    assert!(
        absent.contains("/nonexistent: no such program") && absent.contains("cargo xtask setup"),
        "{absent}"
    );

    let dying = farm.file("dying", "#!/bin/sh\nprintf 'no \\033[31mluck\\377' >&2\nexit 7\n");
    fs::set_permissions(&dying, PermissionsExt::from_mode(0o755)).unwrap();
    let dead = farm.run(&["run", &scenario, "--qemu", dying.as_str()]).with_code(103).stderr;
    assert!(dead.contains("dying died at once (exit status: 7): no \\x1b[31mluck\\xff"), "{dead}");
}

#[test]
fn a_host_without_qemu_is_told_what_brings_one() {
    let farm = Farm::new();
    // All that farm needs on this host, but for QEMU.
    let bin = farm.path("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for tool in
        ["apt-get", "apt-cache", "apt-ftparchive", "dpkg-deb", "s390x-linux-gnu-gcc", "mke2fs", "mkfs.ext4"]
    {
        if let Some(found) =
            std::env::split_paths(&path).map(|directory| directory.join(tool)).find(|p| p.exists())
        {
            symlink(found, bin.join(tool)).unwrap();
        }
    }
    let mut command = farm.command(&["run", &farm.short()]);
    command.env("PATH", &bin).env("FARM_CACHE", farm.path("cache"));
    let told = farm.finish(command).with_code(103).stderr;
    assert!(told.contains("qemu-system-s390x") && told.contains("cargo xtask setup"), "{told}");
}

#[test]
fn a_qemu_that_is_killed_is_farms_own_trouble() {
    let farm = Farm::new();
    let mut run = farm.start(&["run", &farm.endless(), "--json"]);
    run.wait_for(": ready");
    farm.qemu().signal(Signal::KILL);
    let run = run.end().with_code(103);
    let life = run.life("endless");
    let expected = ("infra", "QEMU was killed by SIGKILL");
    assert_eq!(super::harness::verdict(&life), expected);
    assert_eq!(super::harness::hits(&life), []);
    assert_eq!(farm.processes(), []);
}

#[test]
fn a_hit_is_looked_for_with_another_qemu_and_that_is_told() {
    let farm = Farm::new();
    let ran = farm.run(&["run", "crash-unexpected", "--qemu", "/usr/bin/qemu-system-s390x", "--json"]);
    let ran = ran.with_code(100).json();
    let hit = ran["lives"][0]["hits"][0]["id"].as_str().unwrap();
    newer_qemu();
    let said = farm.run(&["repro", hit, "--repeat", "1", "--cold"]).with_code(0).stdout;
    assert!(said.contains("not as it was: QEMU is 10.") && said.contains(", and was 7.2."), "{said}");
    assert!(said.contains("same hit: 1 of 1"), "{said}");
}
