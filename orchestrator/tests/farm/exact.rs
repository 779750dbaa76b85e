//! Deterministic schedules: lives of a cell are the same in every byte, other seeds meet other races.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::harness::{Farm, Finished, debian_12, newer_qemu};

/// Two CPUs count without a lock; how many counts they lose stands in the warning.
const RACE: &str = "modules: [tripwire]\n\
                    machine: {cpus: 2, memory: 256M}\n\
                    steps: [{write: /sys/kernel/debug/tripwire/trip, text: lost-update}]\n\
                    expect: [{title: WARNING in tripwire_lost_update}]\n";
/// Pages that are spliced while processes come and go.
const SPLICE: &str = "machine: {cpus: 2, memory: 512M}\n\
                      steps: [{stress: splice, for: 200ms, workers: 2, beside: [{interference: fork-storm}]}]\n";
/// Memory that is remapped while it is read and written by way of others' page tables, on four CPUs.
const GUP: &str = "machine: {cpus: 4, memory: 512M}\n\
                   steps: [{stress: gup, for: 200ms, workers: 3, beside: [{interference: mprotect-mremap}]}]\n";

/// With a machine of its own.
fn scenario(farm: &Farm, name: &str, rest: &str) -> String {
    farm.file(&format!("{name}.yaml"), format!("name: {name}\npurpose: a test\n{rest}")).into_string()
}

fn run(farm: &Farm, scenario: &str, seed: u64, more: &[&str]) -> Finished {
    debian_12();
    let seed = seed.to_string();
    let mut arguments = vec!["run", scenario, "--schedule", "deterministic", "--seed", &seed, "--json"];
    arguments.extend(more);
    farm.finish(farm.warm_command(&arguments))
}

fn exact(run: &Finished) -> Value {
    run.json()["summary"]["exact"].clone()
}

/// What the race came to, as the kernel says it.
fn lost(run: &Finished, farm: &Farm) -> String {
    let _ = run.json();
    let log = std::fs::read_to_string(farm.lives()[0].join("kmsg.log")).unwrap();
    let line = log.lines().find(|line| line.contains("updates are lost")).unwrap();
    line.split_once("tripwire: ").unwrap().1.to_owned()
}

#[test]
fn lives_of_a_cell_are_the_same_in_every_byte() {
    newer_qemu();
    let farm = Farm::new();
    let race = scenario(&farm, "race", RACE);
    for (how, lives) in [(&["--cold", "--repeat", "2"][..], 2), (&["--repeat", "4"], 4)] {
        let exact = exact(&run(&farm, &race, 3, &[how, &["--check-exact"]].concat()).with_code(0));
        assert_eq!(
            (&exact["cells"], &exact["lives"], &exact["different"]),
            (&1.into(), &lives.into(), &0.into())
        );
    }
}

#[test]
fn other_seeds_meet_other_races() {
    newer_qemu();
    let mut outcomes = HashSet::new();
    for seed in 1..=4 {
        let farm = Farm::new();
        let race = scenario(&farm, "race", RACE);
        outcomes.insert(lost(&run(&farm, &race, seed, &[]).with_code(0), &farm));
    }
    assert!(outcomes.len() >= 3, "{outcomes:?}");
}

#[test]
fn lives_that_differ_are_found_and_shown() {
    let farm = Farm::new();
    let qemu = newer_qemu();
    // Every second guest has a slower clock.
    let altered = farm.file(
        "qemu-system-s390x",
        format!(
            "#!/bin/bash\n\
             flag=${{0%/*}}/flag\n\
             arguments=()\n\
             for word; do\n\
             case $word in shift=*) if rm \"$flag\"; then word=shift=4,sleep=off; else touch \"$flag\"; fi ;; esac\n\
             arguments+=(\"$word\")\n\
             done 2> /dev/null\n\
             exec {} -L {} \"${{arguments[@]}}\"\n",
            qemu.binary, qemu.data
        ),
    );
    std::fs::set_permissions(&altered, PermissionsExt::from_mode(0o755)).unwrap();
    let scenario = farm.short();
    let altered = run(&farm, &scenario, 3, &["--check-exact", "--qemu", altered.as_str()]).with_code(107);
    let exact = exact(&altered);
    assert_eq!((&exact["cells"], &exact["lives"], &exact["different"]), (&1.into(), &2.into(), &1.into()));
    let difference = &exact["differences"][0];
    assert_eq!(difference["stream"], "console.log");
    assert_ne!(difference["was"], difference["is"]);
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    let was = difference["was"].as_str().unwrap();
    assert!(
        shown.contains("NOT exact: 2 lives of 1 cell") && shown.contains(&format!("  - {was}\n")),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let farm = Farm::new();
    let short = farm.short();
    let disk = scenario(
        &farm,
        "disk",
        "machine: {disks: [{size: 256M}]}\nsteps: [{write: /proc/sys/vm/drop_caches, text: '3'}]\n",
    );
    let share =
        farm.file("share.yaml", "name: share\npurpose: p\nmachine: {share: true}\nsteps: []\n").into_string();
    let deterministic = ["--schedule", "deterministic"];
    for (scenario, options, why, mend) in [
        (&disk, &[][..], "a disk, which answers when the host likes", "zram"),
        (&share, &[], "a share, which answers when the host likes", "in a scenario without `share`"),
        (&short, &["--accel", "kvm"], "KVM", "--accel tcg"),
        (&short, &["--recheck"], "--recheck", "--check-exact"),
    ] {
        let arguments = [&["run", scenario], &deterministic[..], options].concat();
        let refused = farm.run(&arguments).with_code(2);
        assert!(refused.stderr.contains(why) && refused.stderr.contains(mend), "{}", refused.stderr);
    }
    let parallel = farm.run(&["run", &short, "--schedule", "parallel", "--check-exact"]).with_code(2);
    assert!(parallel.stderr.contains("--schedule deterministic"), "{}", parallel.stderr);
    assert!(!farm.state().exists(), "no run was begun");
}

mod soak {
    use std::time::Duration;

    use super::super::harness::{Farm, newer_qemu, verdict};
    use super::{GUP, RACE, SPLICE, exact, scenario};

    const LIMIT: Duration = Duration::from_secs(80 * 60);
    const SEEDS: u32 = 20;
    const LIVES: u32 = 5;

    /// Of three scenarios on a host with more guests than CPUs.
    fn all_lives_are_the_same(how: &[&str]) {
        newer_qemu();
        let farm = Farm::new();
        let seeds: Vec<String> = (1..=SEEDS).map(|seed| seed.to_string()).collect();
        let seeds = format!("matrix: {{seeds: [{}]}}\n", seeds.join(", "));
        let scenarios = [("race", RACE), ("splice", SPLICE), ("gup", GUP)]
            .map(|(name, rest)| scenario(&farm, name, &format!("{rest}{seeds}")));
        let [race, splice, gup] = &scenarios;
        let lives = LIVES.to_string();
        let mut arguments = vec!["run", race, splice, gup, "--schedule", "deterministic", "--json"];
        arguments.extend(["--check-exact", "--jobs", "3", "--repeat", &lives]);
        arguments.extend(how);
        let run = farm.finish_within(LIMIT, farm.warm_command(&arguments)).with_code(0);
        let exact = exact(&run);
        assert_eq!(exact["cells"], 3 * SEEDS);
        assert_eq!(exact["lives"], 3 * SEEDS * LIVES);
        assert_eq!(exact["different"], 0, "{exact}");
    }

    #[test]
    fn twenty_seeds_of_three_scenarios_that_boot() {
        all_lives_are_the_same(&["--cold"]);
    }

    #[test]
    fn twenty_seeds_of_three_scenarios_that_are_resumed() {
        all_lives_are_the_same(&[]);
    }

    /// Two ways to take a reference while the kernel has the page's count frozen for three times; the first warning
    /// ends the guest.
    #[test]
    fn five_seeds_of_a_freeze_race() {
        newer_qemu();
        let lives = LIVES.to_string();
        let options = ["--schedule", "deterministic", "--check-exact", "--jobs", "2", "--json"];
        for seed in ["1", "2", "3", "4", "5"] {
            let farm = Farm::new();
            let race = ["run", "secure-freeze-gup", "--seed", seed, "--repeat", &lives];
            let command = farm.warm_command(&[&race[..], &options].concat());
            let run = farm.finish_within(LIMIT, command).with_code(0);
            let exact = exact(&run);
            let counts = (&exact["cells"], &exact["lives"], &exact["different"]);
            assert_eq!(counts, (&6.into(), &(6 * LIVES).into(), &0.into()), "seed {seed}: {exact}");
            for life in run.json()["lives"].as_array().unwrap() {
                assert_eq!(verdict(life), ("passed", "as foreseen: WARNING in try_grab_page"), "{life}");
            }
        }
    }
}
