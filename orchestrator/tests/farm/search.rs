//! Searches: lives without end, of which only those that found something leave more than their count.

use std::fs;

use camino::Utf8Path;
use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Farm, Process, debian_12, newer_qemu, wait_gone};

/// Makes the kernel warn in one life of four.
const DICE: &str = r#"
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>
int main(void)
{
	unsigned char drawn;

	if (getrandom(&drawn, 1, 0) != 1)
		return 1;
	if (drawn < 64 && write(open("/sys/kernel/debug/tripwire/trip", O_WRONLY), "warn-text", 9) != 9)
		return 1;
	return 0;
}
"#;
/// Passes always, in little time.
const STEPS: &str = "steps: [{stress: splice, for: 100ms}]\n";

fn farm() -> Farm {
    debian_12();
    newer_qemu();
    Farm::new()
}

fn document(path: &Utf8Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_search_until_a_hit_ends_with_its_cell_and_nothing_else() {
    let farm = farm();
    farm.program("dice", DICE);
    let scenario = farm.scenario("dice", "modules: [tripwire]\nsteps: [{exec: dice}]\n");
    let arguments = ["run", &scenario, "--until", "hit", "--jobs", "1", "--json"];
    let run = farm.finish(farm.warm_command(&arguments)).with_code(100);
    let result = run.json();
    let (search, lives) = (&result["search"], result["lives"].as_array().unwrap());
    assert_eq!(
        (&search["found"], &search["kept"], &search["verdicts"]["hit"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(lives.len(), 1);
    assert_eq!(lives[0]["verdict"], "hit");
    let kept = farm.lives();
    assert_eq!(kept.len(), 1, "lives that passed are gone");
    for file in ["cell.json", "command.sh", "console.log", "kmsg.log", "result.json"] {
        assert!(kept[0].join(file).exists(), "{file}");
    }
    assert!(run.stderr.contains("(`farm show "), "{}", run.stderr);
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(
        shown.contains("search until hit, plan 1: ") && shown.contains(", 1 found something: per 1,000 "),
        "{shown}"
    );
}

#[test]
fn a_search_of_some_lives_counts_them_and_keeps_none() {
    let farm = farm();
    let scenario = farm.scenario("splice", STEPS);
    let search = |more: &[&str]| {
        let arguments = [&["run", &scenario, "--until", "6", "--json"], more].concat();
        let run = farm.finish(farm.warm_command(&arguments)).with_code(0).json();
        assert_eq!(run["search"]["verdicts"], serde_json::json!({ "passed": 6 }));
        assert_eq!(run["summary"]["verdicts"], serde_json::json!({ "passed": 6 }));
        assert_eq!(run["lives"], serde_json::json!([]));
    };
    search(&[]);
    search(&["--seed", "2"]);
    assert_eq!(farm.lives(), [""; 0]);
    let listed = farm.run(&["runs"]).with_code(0).stdout;
    assert_eq!(listed.matches("6 passed").count(), 2, "{listed}");
}

#[test]
fn a_search_that_is_interrupted_or_killed_has_counted_what_was_lived() {
    let farm = farm();
    let scenario = farm.scenario("splice", STEPS);
    let arguments = ["run", &scenario, "--until", "1h", "--jobs", "1"];
    let mut run = farm.begin(farm.warm_command(&arguments));
    run.wait_for("none found anything");
    run.signal(Signal::INT);
    run.end().with_code(130);
    let search = document(&farm.run_directory().join("search.json"));
    let summary = document(&farm.run_directory().join("summary.json"));
    assert_eq!(summary["verdicts"], search["verdicts"]);
    assert!(search["verdicts"]["passed"].as_u64().unwrap() > 0, "{search}");

    let farm = self::farm();
    let mut run = farm.begin(farm.warm_command(&arguments));
    run.wait_for("none found anything");
    // Stopped first, so that the guests are those that it leaves.
    run.signal(Signal::STOP);
    let left: Vec<_> = farm.processes().iter().map(Process::handle).collect();
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    left.iter().for_each(wait_gone);
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("search until 1h, plan 1: ") && shown.contains("it has no end"), "{shown}");
}

#[test]
fn what_no_search_can_be_is_refused() {
    let farm = Farm::new();
    let scenario = farm.short();
    for until in ["0", "hits", "1d", "m", "-1"] {
        let option = format!("--until={until}");
        let refused = farm.run(&["run", &scenario, &option]).with_code(2);
        assert!(refused.stderr.contains("`hit`, a number of lives, or a time as 90s"), "{}", refused.stderr);
    }
    for other in [&["--repeat", "2"][..], &["--recheck"], &["--fail-fast"]] {
        farm.run(&[&["run", &scenario, "--until", "hit"], other].concat()).with_code(2);
    }
}

/// A search draws options that no scenario sets: the shortest turns, for one.
#[test]
fn every_program_works_with_the_shortest_turns() {
    let farm = farm();
    let step = |(program, least): (&str, &str)| {
        format!("  - {{stress: {program}, args: {{max-length: {least}}}, for: 200ms, workers: 2}}\n")
    };
    let programs = [("splice", "1"), ("sendfile", "1"), ("dio", "4K"), ("tee", "1"), ("vmsplice", "1")];
    let more = [("gup", "1"), ("uring", "1"), ("pagecache", "4K")];
    let steps: String = programs.into_iter().chain(more).map(step).collect();
    let text =
        format!("name: short-turns\npurpose: a test\nmachine: {{cpus: 2, memory: 512M}}\nsteps:\n{steps}");
    let scenario = farm.file("short-turns.yaml", text);
    let run = farm.finish(farm.warm_command(&["run", scenario.as_str(), "--json"])).with_code(0);
    assert_eq!(run.life("short-turns")["verdict"], "passed");
}
