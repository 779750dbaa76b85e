//! Hits run again under other settings of the emulator: four boots one after the other, which takes a busy host longer
//! than a command that is watched may take, so these are only started.

use std::fs;

use serde_json::Value;

use super::harness::{Farm, hits, verdict};

const TITLE: &str = "kernel panic: sysrq triggered crash";

/// `seen of told` by setting, and the cells.
fn tallies(recheck: &Value) -> Vec<(String, String, Vec<String>)> {
    let tallies = recheck["tallies"].as_array().unwrap().iter();
    tallies
        .map(|tally| {
            let setting = tally["setting"]["type"].as_str().unwrap().to_owned();
            let lives = tally["lives"].as_array().unwrap().iter();
            let lives = lives.map(|life| life.as_str().unwrap().to_owned()).collect();
            (setting, format!("{} of {}", tally["seen"], tally["told"]), lives)
        })
        .collect()
}

/// The settings that this host has, which another QEMU is one of only if it is installed.
fn settings(run: &Value) -> Vec<String> {
    let settings = run["run"]["recheck"]["settings"].as_array().unwrap().iter();
    let settings: Vec<_> = settings.map(|s| s["type"].as_str().unwrap().to_owned()).collect();
    let left_out = run["run"]["recheck"]["left_out"].as_array().unwrap();
    assert_eq!(settings[..3], ["same", "single-thread", "cpu-model"]);
    assert_eq!(settings.len() + left_out.len(), 4, "{run}");
    settings
}

#[test]
fn a_crash_that_every_setting_shows_is_the_kernels() {
    let farm = Farm::new();
    let typed = ["run", "crash-unexpected", "--kernel", "debian-12", "--recheck=1", "--json"];
    let ran = farm.start(&typed).end().with_code(100);
    let run = ran.json();
    let settings = settings(&run);

    // One finding, seen in as many lives as there are settings, each an ordinary life of a cell of its own.
    let rechecks = run["rechecks"].as_array().unwrap();
    assert_eq!((rechecks.len(), &rechecks[0]["title"]), (1, &TITLE.into()));
    assert_eq!(rechecks[0]["judgement"]["type"], "kernel", "{}", rechecks[0]);
    let tallies = tallies(&rechecks[0]);
    let counts: Vec<_> =
        tallies.iter().map(|(setting, count, _)| (setting.as_str(), count.as_str())).collect();
    assert_eq!(counts, settings.iter().map(|setting| (setting.as_str(), "1 of 1")).collect::<Vec<_>>());
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 1 + settings.len());
    let asked_for = lives[0]["life"].as_str().unwrap();
    assert_eq!(lives[0]["recheck_of"], Value::Null);
    for life in &lives[1..] {
        assert_eq!((verdict(life), hits(life)), (("hit", TITLE), vec![(TITLE, "new")]));
        assert_eq!(life["recheck_of"]["life"], asked_for);
    }
    assert_eq!(tallies[0].2, [asked_for.replace(".1", ".2")], "the same settings are the same cell");
    let command = |index: usize| {
        let directory = farm.run_directory().join("cells").join(&tallies[index].2[0]);
        fs::read_to_string(directory.join("command.sh")).unwrap()
    };
    assert!(command(0).contains("thread=multi") && command(0).contains("max"), "{}", command(0));
    assert!(command(1).contains("thread=single"), "{}", command(1));
    assert!(command(2).contains("z196-base,"), "{}", command(2));

    // The run is judged by what was asked for.
    assert_eq!(run["summary"]["verdicts"], serde_json::json!({"hit": 1}));
    assert!(ran.stderr.contains(": rechecking in "), "{}", ran.stderr);
    assert!(ran.stderr.contains(", recheck thread=single: starting (cell "), "{}", ran.stderr);
    let words = "seen as it was and under thread=single, -cpu z196-base…";
    for shown in [
        farm.run(&["show", "last"]),
        farm.run(&["hits"]),
        farm.run(&["show", lives[0]["hits"][0]["id"].as_str().unwrap()]),
    ] {
        assert!(shown.stdout.contains(words) && shown.stdout.contains("the kernel's"), "{}", shown.stdout);
    }
    let findings = farm.run(&["hits"]).with_code(0).stdout;
    let row = findings.lines().find(|line| line.starts_with(TITLE)).unwrap();
    assert!(row.starts_with(&format!("{TITLE}  new          1      1  ")), "rechecks add no hits: {row}");
    let shown = farm.run(&["show", &tallies[1].2[0]]).with_code(0).stdout;
    assert!(shown.contains(&format!("of {asked_for}, thread=single")), "{shown}");
}

/// Crashes the kernel, but on a z196 (machine type 2817), where it finds wrong data instead.
const CHOOSY: &str = r##"
#include <stdio.h>
#include <string.h>

int main(void)
{
	char line[4096];
	FILE *file = fopen("/proc/cpuinfo", "r");

	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, "machine = 2817")) {
			printf("KTAP version 1\n1..1\n"
			       "# farm-data path=p check=pattern offset=0 length=1 want=00 got=01\n"
			       "not ok 1 p\n");
			return 1;
		}
	}
	file = fopen("/proc/sysrq-trigger", "w");
	fputs("c", file);
	fclose(file);
	return 2;
}
"##;

#[test]
fn a_crash_that_one_cpu_model_shows_is_under_suspicion_and_what_else_is_met_is_told() {
    let farm = Farm::new();
    farm.program("choosy", CHOOSY);
    let scenario = farm.scenario("choosy", "steps: [{exec: choosy}]\n");
    let run = farm.start(&["run", &scenario, "--recheck=1", "--json"]).end().with_code(100).json();
    let settings = settings(&run);
    let rechecks = run["rechecks"].as_array().unwrap();
    assert_eq!(rechecks.len(), 1, "what is met in a recheck is not rechecked: {rechecks:?}");
    let judgement = serde_json::json!({"type": "emulator-suspected", "only_under": "-cpu max"});
    assert_eq!(rechecks[0]["judgement"], judgement, "{}", rechecks[0]);
    for (setting, count, _) in tallies(&rechecks[0]) {
        let expected = if setting == "cpu-model" { "0 of 1" } else { "1 of 1" };
        assert_eq!((setting.as_str(), count.as_str()), (setting.as_str(), expected));
    }
    assert_eq!(run["lives"].as_array().unwrap().len(), 1 + settings.len());

    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("emulator suspected: only under -cpu max"), "{shown}");
    let row = |title: &str| shown.lines().find(|line| line.starts_with(title)).unwrap().to_owned();
    assert!(row(TITLE).starts_with(&format!("{TITLE} ")) && !row(TITLE).contains("in a recheck"), "{shown}");
    assert!(row("wrong data in choosy").contains("new, in a recheck"), "{shown}");
}

#[test]
fn a_pass_is_not_rechecked_and_fail_fast_leaves_no_time_for_it() {
    let farm = Farm::new();
    let run = farm.run(&["run", &farm.short(), "--recheck", "--json"]).with_code(0).json();
    assert_eq!(
        (run["rechecks"].clone(), run["run"]["recheck"]["lives"].clone()),
        (serde_json::json!([]), 2.into())
    );
    assert_eq!(run["lives"].as_array().unwrap().len(), 1);
    let refused = farm.run(&["run", &farm.short(), "--recheck", "--fail-fast"]).with_code(2).stderr;
    assert!(refused.contains("cannot be used with"), "{refused}");
}
