//! What goes wrong around saved guests: it costs time, or a life that says so, and never a wrong verdict.

use std::ffi::CStr;
use std::fs;
use std::mem::MaybeUninit;

use rustix::fs::inotify;
use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Started, verdict};
use super::storage::in_namespace;
use super::warm::{Warm, assert_start, inode, lives};

/// Kills the QEMU of the first life, as soon as it runs.
fn kill_first_qemu(warm: &Warm, run: &mut Started) {
    // Those that farm asks for their version run before.
    run.wait_for(": starting");
    loop {
        let found = warm.farm.processes().into_iter().find(|process| process.name.starts_with("qemu-system"));
        if let Some(qemu) = found {
            return qemu.signal(Signal::KILL);
        }
        std::thread::yield_now();
    }
}

#[track_caller]
fn assert_infra(life: &Value, reason: &str) {
    let (verdict, why) = verdict(life);
    assert!(verdict == "infra" && why.contains(reason), "{life}");
}

#[track_caller]
fn assert_passed(life: &Value, start: &str) {
    assert_eq!(verdict(life), ("passed", ""));
    assert_start(life, start);
}

/// A life's directory holds what is to be kept of it, and no memory, initrd or half written file.
#[track_caller]
fn assert_no_scratch(warm: &Warm) {
    for directory in warm.farm.lives() {
        let names = directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned());
        let scratch: Vec<_> = names.filter(|name| name.ends_with(".part") || name == "initrd").collect();
        assert_eq!(scratch, [""; 0], "{directory}");
    }
}

#[test]
fn a_cache_that_is_deleted_meanwhile_takes_no_guest_away() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let mut run = warm.start(&scenario, &["--repeat", "6", "--jobs", "1"]);
    run.wait_for(": ready");
    for kind in ["saved", "kernel", "image", "disk"] {
        let path = warm.cache.join(kind);
        if path.is_symlink() { fs::remove_file(path).unwrap() } else { fs::remove_dir_all(path).unwrap() }
    }
    let run = run.end().with_code(0);
    assert_eq!(lives(&run).len(), 6);
    lives(&run).iter().for_each(|life| assert_passed(life, "resumed"));
    assert_eq!(warm.farm.processes(), []);
}

#[test]
fn where_qemu_itself_is_deleted_it_is_farms_own_trouble_until_it_is_back() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let mut run = warm.start(&scenario, &["--repeat", "4", "--jobs", "1"]);
    run.wait_for(": ready");
    fs::remove_dir_all(&warm.cache).unwrap();
    let run = run.end().with_code(103);
    let lives = lives(&run);
    let (passed, infra): (Vec<_>, Vec<_>) = lives.iter().partition(|life| verdict(life).0 == "passed");
    assert!(!passed.is_empty() && !infra.is_empty(), "{lives:?}");
    infra.iter().for_each(|life| assert_infra(life, "No such file or directory"));
    assert_eq!(warm.farm.processes(), []);

    if warm.cache.is_dir() {
        fs::remove_dir_all(&warm.cache).unwrap();
    }
    warm.link_cache();
    let life = warm.run(&scenario, &[]).with_code(0).life("short");
    assert_passed(&life, "resumed");
}

#[test]
fn where_the_disk_is_full_no_guest_is_saved_and_lives_boot() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let saved = warm.cache.join("saved");
    fs::create_dir(&saved).unwrap();
    let (first, left) = (warm.farm.path("first.json"), warm.farm.path("left"));
    // Too little for QEMU to save the guest; enough for that, and not for keeping it.
    for size in ["20m", "90m"] {
        let prepare = format!(
            "mount -t tmpfs -o size={size} none {saved}\n\"$@\" > {first}\n\
             find {saved} -mindepth 1 ! -name '.*.lock' > {left}; mount -o remount,size=1g {saved}"
        );
        let arguments = warm.arguments(&scenario, &[]);
        let Some(second) = in_namespace(&warm.farm, &prepare, &arguments) else { return };
        let first: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
        let life = &first["lives"][0];
        assert_passed(life, "booted-instead");
        let why = life["timings"]["start"]["reason"].as_str().unwrap();
        assert!(why.contains("No space left on device"), "{size}: {why}");
        assert_eq!(fs::read_to_string(&left).unwrap(), "", "{size}");
        assert_passed(&second.with_code(0).life("short"), "resumed");
    }
}

#[test]
fn a_qemu_that_is_killed_is_farms_own_trouble_and_the_next_life_passes() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let mut run = warm.start(&scenario, &["--repeat", "2", "--jobs", "1"]);
    kill_first_qemu(&warm, &mut run);
    let run = run.end().with_code(0);
    let life = &lives(&run)[0];
    assert_passed(life, "booted-instead");
    let why = life["timings"]["start"]["reason"].as_str().unwrap();
    assert!(why.contains("SIGKILL"), "while it boots the guest that is to be saved: {why}");
    // It is tried again.
    assert_passed(&lives(&run)[1], "resumed");
    assert_eq!(warm.saved().len(), 1);

    let mut run = warm.start(&scenario, &["--repeat", "3", "--jobs", "1"]);
    kill_first_qemu(&warm, &mut run);
    let run = run.end().with_code(103);
    let (killed, rest) = (&lives(&run)[0], &lives(&run)[1..]);
    assert_infra(killed, "SIGKILL");
    assert!(killed["timings"]["ready_us"].is_null(), "while it is resumed: {killed}");
    rest.iter().for_each(|life| assert_passed(life, "resumed"));
    assert_eq!(warm.farm.processes(), []);
    assert_no_scratch(&warm);

    let endless = warm.farm.endless();
    let mut run = warm.start(&endless, &["--fail-fast"]);
    run.wait_for(": ready");
    warm.farm.qemu().signal(Signal::KILL);
    let life = run.end().with_code(103).life("endless");
    assert_infra(&life, "QEMU was killed by SIGKILL");
    assert_start(&life, "resumed");
    assert_eq!(warm.farm.processes(), []);
    assert_no_scratch(&warm);
}

#[test]
fn a_farm_that_is_killed_while_it_saves_leaves_nothing_that_is_used() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let saved = warm.cache.join("saved");
    fs::create_dir(&saved).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, saved.as_std_path(), inotify::WatchFlags::CREATE).unwrap();
    let run = warm.start(&scenario, &[]);
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut made = inotify::Reader::new(&watch, &mut buffer);
    let is_half = |name: &CStr| name.to_string_lossy().contains(".filling.");
    while !made.next().unwrap().file_name().is_some_and(is_half) {}
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    assert_eq!(warm.farm.processes(), []);
    let [half] = &warm.saved()[..] else { panic!("{:?}", warm.saved()) };
    assert!(half.file_name().unwrap().contains(".filling."), "{half}");

    let life = warm.run(&scenario, &[]).with_code(0).life("short");
    assert_passed(&life, "resumed");
    let kept = warm.memory();
    assert!(!kept.as_str().contains(".filling."), "{kept}");
}

#[test]
fn two_farms_that_save_the_same_guest_keep_one() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let runs = [(); 2].map(|()| warm.start(&scenario, &["--repeat", "2"]));
    for run in runs {
        lives(&run.end().with_code(0)).iter().for_each(|life| assert_passed(life, "resumed"));
    }
    assert_eq!(warm.farm.processes(), []);
    let kept = inode(&warm.memory());
    assert_passed(&warm.run(&scenario, &[]).with_code(0).life("short"), "resumed");
    assert_eq!(inode(&warm.memory()), kept, "it is whole");
}

#[test]
fn another_saved_guest_under_this_ones_name_is_not_used() {
    let warm = Warm::new();
    let of = |name: &str, argument: &str| {
        let machine = format!("machine: {{cpus: 1, memory: 128M, kernel-args: [{argument}]}}");
        let steps = "steps: [{write: /proc/sys/vm/drop_caches, text: '3'}]";
        let text = format!("name: {name}\npurpose: a test\n{machine}\n{steps}\n");
        warm.farm.file(&format!("{name}.yaml"), text).into_string()
    };
    warm.run(&of("ours", "one=1"), &[]).with_code(0);
    let ours = warm.memory().parent().unwrap().to_owned();
    let aside = warm.cache.join("aside");
    fs::rename(&ours, &aside).unwrap();
    warm.run(&of("other", "two=2"), &[]).with_code(0);
    // A guest of the same size, which QEMU would resume without a word.
    let other = warm.memory();
    let foreign = inode(&other);
    fs::rename(other.parent().unwrap(), &ours).unwrap();
    let life = warm.run(&of("ours", "one=1"), &[]).with_code(0).life("ours");
    assert_passed(&life, "resumed");
    assert_ne!(inode(&ours.join("memory")), foreign, "it was made anew");
}
