//! Lives that go on from a saved guest: as fresh as after a boot, and never from one that is damaged.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::{SeekFrom, seek};
use serde_json::Value;

use super::harness::{Farm, Finished, Started, debian_12, newer_qemu, shared_cache, verdict};

/// Prints a number that no other guest draws, and the time that the guest believes in.
const DRAW: &str = r#"
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
int main(void)
{
	unsigned long long drawn;

	if (getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn))
		return 1;
	printf("%016llx\n%lld\n", drawn, (long long)time(NULL));
	return 0;
}
"#;

/// A farm whose saved guests are its own; the rest of the cache is the shared one.
pub(crate) struct Warm {
    pub(crate) farm: Farm,
    pub(crate) cache: Utf8PathBuf,
}

impl Warm {
    pub(crate) fn new() -> Self {
        debian_12();
        newer_qemu();
        let farm = Farm::new();
        let cache = farm.path("cache");
        let warm = Self { farm, cache };
        warm.link_cache();
        warm
    }

    /// Makes the cache, but for its saved guests.
    pub(crate) fn link_cache(&self) {
        fs::create_dir(&self.cache).unwrap();
        for kind in ["kernel", "headers", "package", "qemu", "program", "module", "image", "disk", "notes"] {
            fs::create_dir_all(shared_cache().join(kind)).unwrap();
            symlink(shared_cache().join(kind), self.cache.join(kind)).unwrap();
        }
    }

    pub(crate) fn arguments<'a>(&'a self, scenario: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["run", scenario, "--json", "--cache", self.cache.as_str()], more].concat()
    }

    pub(crate) fn run(&self, scenario: &str, more: &[&str]) -> Finished {
        self.farm.finish(self.farm.warm_command(&self.arguments(scenario, more)))
    }

    pub(crate) fn start(&self, scenario: &str, more: &[&str]) -> Started {
        self.farm.begin(self.farm.warm_command(&self.arguments(scenario, more)))
    }

    /// What lies beside each other where saved guests are kept: the guests, and what is left of others.
    pub(crate) fn saved(&self) -> Vec<Utf8PathBuf> {
        let entries = self.cache.join("saved").read_dir_utf8().unwrap();
        entries.map(|entry| entry.unwrap().into_path()).filter(|path| path.is_dir()).collect()
    }

    /// The file of the one guest that is saved.
    pub(crate) fn memory(&self) -> Utf8PathBuf {
        let [entry] = &self.saved()[..] else { panic!("one saved guest: {:?}", self.saved()) };
        entry.join("memory")
    }
}

pub(crate) fn inode(path: &Utf8Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

pub(crate) fn lives(run: &Finished) -> Vec<Value> {
    run.json()["lives"].as_array().unwrap().clone()
}

#[track_caller]
pub(crate) fn assert_start(life: &Value, expected: &str) {
    assert_eq!(life["timings"]["start"]["type"], expected, "{life}");
}

#[test]
fn each_life_of_a_saved_guest_is_as_fresh_as_after_a_boot() {
    let warm = Warm::new();
    warm.farm.program("draw", DRAW);
    let steps = "modules: [tripwire]\n\
                 steps: [{write: /sys/kernel/debug/tripwire/trip, text: warn-once}, {exec: draw}]\n";
    let scenario = warm.farm.scenario("fresh", steps);
    // 6.1 makes its random numbers anew whenever it is asked and they are some seconds old, 6.12 in the background
    // (drivers/char/random.c, crng_reseed): there it takes what init feeds for two copies to differ at once.
    let lives_of = |repeat| {
        let more = ["--repeat", repeat, "--kernel", "debian-12", "--kernel", "debian-13"];
        lives(&warm.run(&scenario, &more).with_code(100))
    };
    let mut lives = lives_of("3");
    // Some lives after it was saved: a clock that went on from there would be behind.
    lives.extend(lives_of("1"));
    assert_eq!(lives.len(), 8);
    let mut drawn = HashSet::new();
    for life in &lives {
        assert_start(life, "resumed");
        let once = life["hits"].as_array().unwrap().iter().map(|hit| &hit["judged"]["hit"]["title"]);
        let mut once: Vec<_> = once.map(|title| title.as_str().unwrap()).collect();
        once.sort_unstable();
        assert_eq!(
            once,
            ["WARNING in tripwire_warn_once_one", "WARNING in tripwire_warn_once_two"],
            "{life}"
        );
        let said = life["steps"][1]["workers"][0]["end"]["program"]["tail"].as_array().unwrap();
        let [number, time] = [0, 1].map(|line| said[line].as_str().unwrap().to_owned());
        let started: Timestamp = life["timings"]["started"].as_str().unwrap().parse().unwrap();
        assert!(time.parse::<i64>().unwrap() >= started.as_second(), "the clock is set: {life}");
        assert!(drawn.insert(number), "two copies drew the same: {life}");
    }
    // A life's log is whole, although it was not there when the kernel booted.
    for life in warm.farm.lives() {
        let log = fs::read_to_string(life.join("kmsg.log")).unwrap();
        assert!(log.contains("Linux version 6.") && log.contains("farm: step 2 end"), "{log}");
    }
}

#[test]
fn a_saved_guest_that_is_not_what_it_was_is_made_anew() {
    let warm = Warm::new();
    let scenario = warm.farm.short();
    let run = || {
        let run = warm.run(&scenario, &[]).with_code(0);
        let life = run.life("short");
        assert_eq!(verdict(&life), ("passed", ""));
        assert_start(&life, "resumed");
        inode(&warm.memory())
    };
    let first = run();
    assert_eq!(run(), first, "it is used again");

    let file = OpenOptions::new().read(true).write(true).open(warm.memory()).unwrap();
    let place = seek(&file, SeekFrom::Data(64 << 20)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place).unwrap();
    let second = run();
    assert_ne!(second, first, "one bit was altered");

    OpenOptions::new().write(true).open(warm.memory()).unwrap().set_len(100 << 20).unwrap();
    let third = run();
    assert_ne!(third, second, "it was cut short");

    fs::write(warm.memory().parent().unwrap().join("farm.json"), "{").unwrap();
    assert_ne!(run(), third, "its record was damaged");
}

#[test]
fn a_job_that_does_not_fit_boots_and_says_so() {
    let warm = Warm::new();
    warm.farm.program(
        "big",
        "static const volatile char space[4 << 20] = { 1 };\nint main(void) { return !space[0]; }\n",
    );
    let scenario = warm.farm.scenario("big", "steps: [{exec: big}]\n");
    let run = warm.run(&scenario, &[]).with_code(0);
    let life = run.life("big");
    assert_eq!(verdict(&life), ("passed", ""));
    assert_start(&life, "booted-instead");
    assert!(run.stderr.contains("boots, as it cannot be resumed: its job of "), "{}", run.stderr);
}

mod soak {
    use super::*;

    const LIVES: usize = 5000;
    /// Files that a guest more or less makes farm hold open while it is asked.
    const FILES_OF_GUESTS: usize = 32;

    /// What farm holds while it runs.
    #[derive(Debug)]
    struct Held {
        files: usize,
        memory_kib: u64,
        processes: usize,
    }

    fn held(warm: &Warm, run: &Started) -> Held {
        let process = format!("/proc/{}", run.process_id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Held {
            files: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            memory_kib: memory.trim().trim_end_matches(" kB").parse().unwrap(),
            processes: warm.farm.processes().len(),
        }
    }

    #[test]
    fn five_thousand_lives_in_a_row_are_fresh_and_leave_nothing_behind() {
        let warm = Warm::new();
        let rest = "modules: [tripwire]\n\
                    steps:\n\
                    - {write: /sys/kernel/debug/tripwire/trip, text: warn-once}\n\
                    - {stress: splice, args: {mode: file-pipe-file}, for: 100ms, dir: tmp}\n\
                    expect: [{title: WARNING in tripwire_warn_once_one}, {title: WARNING in tripwire_warn_once_two}]\n";
        let scenario = warm.farm.scenario("armed", rest);
        let mut run = warm.start(&scenario, &["--repeat", &LIVES.to_string(), "--jobs", "2"]);
        run.wait_for(&format!(", life {}: passed", LIVES / 10));
        let saved = inode(&warm.memory());
        let early = held(&warm, &run);
        run.wait_for(&format!(", life {}: passed", LIVES - LIVES / 10));
        let late = held(&warm, &run);
        let run = run.end().with_code(0);

        assert!(late.files <= early.files + FILES_OF_GUESTS, "{early:?}, {late:?}");
        assert!(late.memory_kib <= early.memory_kib * 3 / 2, "{early:?}, {late:?}");
        // farm, and a guest for each job.
        assert!(early.processes <= 3 && late.processes <= 3, "{early:?}, {late:?}");
        assert_eq!(warm.farm.processes(), []);
        assert_eq!(inode(&warm.memory()), saved, "one guest was saved, once");

        let lives = lives(&run);
        assert_eq!(lives.len(), LIVES);
        for life in &lives {
            assert_eq!(verdict(life), ("passed", "2 hits, all foreseen"), "{life}");
            assert_start(life, "resumed");
        }
        let mut names: Vec<_> = fs::read_dir(warm.farm.run_directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["cells", "events.jsonl", "run.json", "summary.json"]);
        for directory in warm.farm.lives() {
            let sizes =
                directory.read_dir_utf8().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
            let sizes: Vec<u64> = sizes.collect();
            assert!(sizes.len() == 8 && sizes.iter().sum::<u64>() < 256 << 10, "{directory}: {sizes:?}");
        }
    }
}
