//! A hit made smaller.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Farm, hits};

const TITLE: &str = "WARNING in tripwire_warn_text";
/// What is needed is the third step and the module, and nothing else.
const SIX: &str = "
modules: [tripwire]
heartbeat: 20s
matrix: {seeds: [5]}
steps:
  - {name: first, write: /proc/sys/vm/drop_caches, text: '3'}
  - {stress: tee, for: 200ms, workers: 2, args: {mode: read}, beside: [{interference: drop-caches}]}
  - {name: trip, write: /sys/kernel/debug/tripwire/trip, text: warn-text, limit: 20s}
  - {stress: splice, ops: 5}
  - {name: last, write: /proc/sys/vm/drop_caches, text: '1'}
  - {stress: sendfile, ops: 5}
";

fn hit(farm: &Farm, scenario: &str, arguments: &[&str]) -> String {
    let ran = farm.run(&[&["run", scenario, "--json"], arguments].concat()).with_code(100).json();
    let lives = ran["lives"].as_array().unwrap().iter();
    let hit = lives.flat_map(|life| life["hits"].as_array().unwrap()).next().unwrap();
    hit["id"].as_str().unwrap().to_owned()
}

fn numbers(answer: &Value, names: [&str; 3]) -> [u64; 3] {
    names.map(|name| answer[name].as_u64().unwrap_or_else(|| panic!("{name} in {answer}")))
}

#[test]
fn a_hit_is_made_smaller_and_its_file_shows_it() {
    let farm = Farm::new();
    let hit = hit(&farm, &farm.scenario("six", SIX), &[]);
    let file = farm.path("small.yaml");
    let said = farm.run(&["repro", &hit, "--minimise", file.as_str(), "--json"]).with_code(0).json();
    let answer = &said["answer"];
    assert_eq!(answer["end"], "minimal", "{said}");
    assert_eq!(numbers(&answer["before"], ["steps", "workers", "beside"]), [6, 2, 1]);
    assert_eq!(numbers(&answer["after"], ["steps", "workers", "beside"]), [1, 1, 0]);
    assert_eq!(numbers(&answer["rate_after"]["tally"], ["shown", "clean", "silent"]), [10, 0, 0]);
    assert_eq!(
        said["ways"]["by_hand"],
        serde_json::json!(["printf %s warn-text > /sys/kernel/debug/tripwire/trip"])
    );
    let text = fs::read_to_string(&file).unwrap();
    let (head, scenario): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
    assert!(head[0].contains(&hit) && head[0].contains(TITLE), "{text}");
    assert!(head[1].ends_with(&format!("farm run {file} --kernel debian-12")), "{text}");
    assert_eq!(
        scenario,
        [
            "name: six",
            &format!("purpose: \"the smallest that was found to show {TITLE}\""),
            "modules: [tripwire]",
            "machine: {cpus: 1, memory: 128M}",
            "steps:",
            "  - {write: /sys/kernel/debug/tripwire/trip, text: warn-text}",
        ]
    );
    let again = farm.run(&["run", file.as_str(), "--kernel", "debian-12", "--json"]).with_code(100).json();
    assert_eq!(hits(&again["lives"][0]), [(TITLE, "new")]);
    // Its lives are out of the way, and can be seen.
    assert_eq!(farm.run(&["runs", "--json"]).json().as_array().unwrap().len(), 2);
    let minimised = farm.state().join("minimised").read_dir_utf8().unwrap().next().unwrap().unwrap();
    let runs = farm.command(&["runs", "--json", "--state", minimised.path().as_str()]);
    assert!(farm.finish(runs).with_code(0).json().as_array().unwrap().len() > 10);
}

#[test]
fn what_is_interrupted_or_out_of_time_has_the_smallest_so_far() {
    let farm = Farm::new();
    let hit = hit(&farm, &farm.scenario("six", SIX), &[]);
    let file = farm.file("mine.yaml", "name: mine\n");
    let refused = farm.run(&["repro", &hit, "--minimise", file.as_str()]).with_code(2).stderr;
    assert!(refused.contains("mine.yaml is there already"), "{refused}");
    let nowhere = farm.path("gone/small.yaml");
    let refused = farm.run(&["repro", &hit, "--minimise", nowhere.as_str()]).with_code(2).stderr;
    assert!(refused.contains("gone is no directory"), "{refused}");
    fs::remove_file(&file).unwrap();

    let mut started = farm.start(&["repro", &hit, "--minimise", file.as_str()]);
    started.wait_for("only step trip: 1 of 1: kept");
    started.signal(Signal::INT);
    let stopped = started.end().with_code(130);
    assert!(stopped.stdout.contains("This is the smallest so far"), "{stopped:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("text: warn-text") && !text.contains("stress"), "{text}");

    // What was made so is written over; no candidate is tried in so little time.
    let ended = farm.run(&["repro", &hit, "--minimise", file.as_str(), "--budget", "1s"]);
    assert!([Some(0), Some(107)].contains(&ended.code), "{ended:?}");
    assert!(!file.with_extension("yaml.part").exists());
    assert_eq!(farm.processes(), []);
}

/// Three lives of four.
const COIN: &str = r#"
#include <fcntl.h>
#include <unistd.h>
int main(void)
{
	unsigned char c;
	int random = open("/dev/urandom", O_RDONLY), trip = open("/sys/kernel/debug/tripwire/trip", O_WRONLY);
	if (random < 0 || trip < 0 || read(random, &c, 1) != 1)
		return 1;
	return c < 192 && write(trip, "warn-text", 9) != 9;
}
"#;

#[test]
fn a_flaky_hit_is_made_smaller_and_keeps_its_rate() {
    let farm = Farm::new();
    farm.program("coin", COIN);
    let scenario = farm.scenario(
        "flaky",
        "modules: [tripwire]\nsteps: [{stress: tee, ops: 5, workers: 2}, {exec: coin}, {stress: splice, ops: 5}]\n",
    );
    let hit = hit(&farm, &scenario, &["--repeat", "12"]);
    let file = farm.path("small.yaml");
    let said = farm.run(&["repro", &hit, "--minimise", file.as_str(), "--json"]).with_code(0).json();
    let answer = &said["answer"];
    // One of three may stay by bad luck.
    assert!(answer["end"] == "minimal" && answer["after"]["steps"].as_u64().unwrap() < 3, "{said}");
    assert!(answer["rate_after"]["tally"]["shown"].as_u64().unwrap() > 2, "{said}");
    assert!(said["ways"]["by_hand"].to_string().contains("/job/exec/"), "{said}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("modules: [tripwire]") && text.contains("- {exec: /"), "{text}");
}
