//! A kernel that really crashes, and what a scenario may say about that beforehand.

use std::fs;

use serde_json::Value;

use super::harness::{Farm, hits, verdict};

const TITLE: &str = "kernel panic: sysrq triggered crash";

/// z/Architecture Principles of Operation, "Program-Status Word": bit 14 is the wait state.
const PSW_WAIT: u64 = 1 << (63 - 14);

#[test]
fn a_crash_is_one_titled_hit_with_registers_and_a_readable_report() {
    let farm = Farm::new();
    let run = ["run", "crash-unexpected", "--kernel", "debian-12", "--kernel", "debian-13", "--json"];
    let run = farm.run(&run).with_code(100).json();
    for life in run["lives"].as_array().unwrap() {
        // Console and kmsg both tell of it: that is one hit.
        assert_eq!((verdict(life), hits(life)), (("hit", TITLE), vec![(TITLE, "new")]));
        let micros = |name: &str| life["timings"][name].as_u64().unwrap();
        assert!(micros("verdict_us") - micros("ended_us") < 1_000_000, "{}", life["timings"]);
    }
    for life in farm.lives() {
        let cpus: Value = serde_json::from_slice(&fs::read(life.join("cpus.json")).unwrap()).unwrap();
        let mask = u64::from_str_radix(cpus["cpus"][0]["psw"]["mask"].as_str().unwrap(), 16).unwrap();
        assert_ne!(mask & PSW_WAIT, 0, "{cpus}");
        assert!(cpus["registers"].as_str().unwrap().contains("R15"), "{cpus}");
    }

    let life = &run["lives"][0];
    let hit = life["hits"][0]["id"].as_str().unwrap();
    let shown = farm.run(&["show", &hit[..6]]).with_code(0).stdout;
    let (head, report) = shown.split_once("\n\n  ").unwrap();
    let mut head = head.to_owned();
    let state = farm.state().into_string();
    for (word, name) in [
        (state.as_str(), "STATE"),
        (run["directory"].as_str().unwrap().rsplit('/').next().unwrap(), "DIRECTORY"),
        (run["run"]["id"].as_str().unwrap(), "RUN"),
        (run["run"]["qemu"].as_str().unwrap(), "QEMU"),
        (life["life"].as_str().unwrap(), "LIFE"),
        (life["kernel"]["version"].as_str().unwrap(), "VERSION"),
        (life["kernel"]["release"].as_str().unwrap(), "RELEASE"),
        (hit, "HIT"),
    ] {
        head = head.replace(word, name);
    }
    let (before, after) = head.split_once("at           ").unwrap();
    let (_, after) = after.split_once(" s since").unwrap();
    insta::assert_snapshot!(format!("{before}at           TIME s since{after}"), @r#"
    kernel panic: sysrq triggered crash

    hit          HIT
    fingerprint  panic:sysrq-triggered-crash
    standing     new
    kernel       debian-12 VERSION (RELEASE)
    cell         LIFE (crash-unexpected), seed 1
    run          RUN, QEMU
    at           TIME s since boot
    logs         STATE/runs/DIRECTORY/cells/LIFE
    again        farm run crash-unexpected --kernel debian-12 --kernel debian-13 --json --cold
    reproduce    farm repro HIT
    in gdb       farm repro HIT --gdb
    smaller      farm repro HIT --minimise
    by hand      farm repro HIT --shell; or sh STATE/runs/DIRECTORY/cells/LIFE/command.sh
    "#);
    assert!(report.starts_with("Kernel panic - not syncing: sysrq triggered crash\n"), "{shown}");
    assert!(report.contains("__handle_sysrq+0x"), "{shown}");

    let listed = farm.run(&["hits"]).with_code(0).stdout;
    assert!(listed.contains(TITLE) && listed.contains("debian-12 debian-13"), "{listed}");
}

/// Freezes a file system and has a child write to it, which then waits where no signal reaches it.
const BLOCKED: &str = r#"
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int directory = open("/mnt/0", O_RDONLY);

	if (directory < 0 || ioctl(directory, FIFREEZE, 0))
		return 1;
	if (fork() == 0) {
		open("/mnt/0/file", O_WRONLY | O_CREAT, 0600);
		_exit(0);
	}
	sleep(4);
	if (ioctl(directory, FITHAW, 0) || wait(NULL) < 0)
		return 1;
	return 0;
}
"#;

#[test]
fn what_both_streams_tell_of_is_one_hit_and_the_guest_goes_on() {
    let farm = Farm::new();
    farm.program("blocked", BLOCKED);
    let text = "name: blocked\npurpose: a test\nmachine: {cpus: 1, memory: 128M, disks: [{size: 16M}]}\n\
                steps:\n\
                \x20 - {write: /proc/sys/kernel/hung_task_warnings, text: '1'}\n\
                \x20 - {write: /proc/sys/kernel/hung_task_timeout_secs, text: '1'}\n\
                \x20 - {exec: blocked}\n";
    let scenario = farm.file("blocked.yaml", text);
    let life = farm.run(&["run", scenario.as_str(), "--json"]).with_code(100).life("blocked");
    let seen = hits(&life);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(life["hits"][0]["judged"]["hit"]["kind"], "hung-task", "{seen:?}");
    assert_eq!((verdict(&life).0, &life["ending"]["type"]), ("hit", &"powered-off".into()));
    for log in ["console.log", "kmsg.log"] {
        let log = fs::read_to_string(farm.lives()[0].join(log)).unwrap();
        assert_eq!(log.matches("blocked for more than").count(), 1, "{log}");
    }
}

#[test]
fn a_crash_that_is_expected_or_known_passes_and_is_told() {
    let farm = Farm::new();
    let known = farm.scenario(
        "known",
        "steps: [{write: /proc/sysrq-trigger, text: c}]\n\
         known: [{title: 'kernel panic: sysrq *', reason: it was asked for}]\n",
    );
    let run = farm.run(&["run", "crash-expected", &known, "--json"]).with_code(0);
    for (scenario, standing) in [("crash-expected", "expected"), ("known", "known")] {
        let life = run.life(scenario);
        assert_eq!(hits(&life), [(TITLE, standing)]);
        assert_eq!(verdict(&life), ("passed", "as foreseen: kernel panic: sysrq triggered crash"));
    }
    // One finding, whose hits have two standings.
    let listed = farm.run(&["hits"]).with_code(0).stdout;
    assert!(listed.contains("expected, known"), "{listed}");
    let hit = run.life("known")["hits"][0]["id"].as_str().unwrap().to_owned();
    let shown = farm.run(&["show", &hit]).with_code(0).stdout;
    assert!(shown.contains("known: it was asked for"), "{shown}");
}

#[test]
fn an_expected_hit_that_does_not_come_is_missed() {
    let farm = Farm::new();
    let quiet = farm.scenario(
        "quiet",
        "steps: [{write: /proc/sys/vm/drop_caches, text: '3'}]\n\
         expect:\n  - {title: 'WARNING in try_get_folio'}\n  - {title: 'BUG *', when: kernel < 6.0}\n",
    );
    let run = farm.run(&["run", &quiet, "--json"]).with_code(100);
    let life = run.life("quiet");
    assert_eq!(verdict(&life).0, "missed");
    assert!(verdict(&life).1.contains("WARNING in try_get_folio"), "{life}");
    assert_eq!(life["missed"].as_array().unwrap().len(), 1, "the other one's condition does not hold");
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("1 missed") && shown.contains("expected but not seen"), "{shown}");
}
