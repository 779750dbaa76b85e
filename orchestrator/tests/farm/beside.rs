//! Interference: it runs as long as the workers of a step do, and no longer; what becomes of it is told.

use serde_json::Value;

use super::harness::{Farm, verdict};

/// Finds the interference "compact" and sends it a signal; then stays for a while. Without one to send it only looks.
const MEDDLER: &str = r#"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int find(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int found = 0;

	while (!found && (entry = readdir(proc))) {
		char path[300], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "r");
		if (file && fgets(name, sizeof(name), file) && !strcmp(name, "compact\n"))
			found = atoi(entry->d_name);
		if (file)
			fclose(file);
	}
	closedir(proc);
	return found;
}

int main(int argc, char **argv)
{
	char line[256];
	FILE *cgroup = fopen("/proc/self/cgroup", "r");
	int pid;

	while (cgroup && fgets(line, sizeof(line), cgroup))
		fputs(line, stdout);
	/* It was started before us, but may not have come to its exec yet. */
	while (!(pid = find()))
		usleep(10000);
	puts("it runs");
	fflush(stdout);
	if (argc > 1 && kill(pid, atoi(argv[1])))
		return 1;
	sleep(argc > 2 ? atoi(argv[2]) : 1);
	return 0;
}
"#;

/// Of the first step of a life: what ran beside it, as (name, exit, signal), by name; they come in the order of their ends.
fn besides(life: &Value) -> Vec<(&str, Option<i64>, Option<i64>)> {
    let besides = life["steps"][0]["beside"].as_array().unwrap().iter();
    let mut besides: Vec<_> = besides
        .map(|one| {
            (one["name"].as_str().unwrap(), one["end"]["exit"].as_i64(), one["end"]["signal"].as_i64())
        })
        .collect();
    besides.sort();
    besides
}

#[test]
fn interference_runs_as_long_as_the_workers_and_outside_their_group() {
    let farm = Farm::new();
    farm.program("meddler", MEDDLER);
    // Pages of 1 MiB, which TCG has not.
    let scenario = farm.scenario(
        "beside",
        "steps: [{exec: meddler, beside: [{interference: compact, args: {rate: 50}}, {interference: hugepage}]}]\n",
    );
    let arguments = ["run", &scenario, "--kernel", "debian-12", "--kernel", "debian-13", "--json"];
    let run = farm.run(&arguments).with_code(0).json();
    for life in run["lives"].as_array().unwrap() {
        assert_eq!(verdict(life), ("passed", ""));
        assert_eq!(besides(life), [("compact", Some(0), None), ("hugepage", Some(4), None)]);
        let step = &life["steps"][0];
        let besides = step["beside"].as_array().unwrap();
        let compact = besides.iter().find(|one| one["name"] == "compact").unwrap();
        let worker = &step["workers"][0];
        assert_eq!(worker["end"]["program"]["tail"], serde_json::json!(["0::/workers", "it runs"]));
        let (wall, longer) =
            (worker["end"]["wall_us"].as_u64().unwrap(), compact["end"]["wall_us"].as_u64().unwrap());
        assert!((wall..wall + 5_000_000).contains(&longer), "{wall} {longer}");
        assert!(compact["end"]["program"]["stats"][0]["ops"].as_u64() > Some(0), "{compact}");
        let shown = farm.run(&["show", life["life"].as_str().unwrap()]).with_code(0).stdout;
        assert!(
            shown.contains("beside: compact  ") && shown.contains(" not beside hugepage: no "),
            "{shown}"
        );
    }
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("beside    debian-13  meddler  hugepage: no "), "{shown}");
}

#[test]
fn interference_that_does_not_end_well_or_cannot_run_is_told() {
    let farm = Farm::new();
    farm.program("meddler", MEDDLER);
    let scenario = |name: &str, args: &str, more: &str| {
        let step = format!("{{exec: meddler, args: [{args}], beside: [{{interference: compact}}]{more}}}");
        farm.scenario(name, &format!("steps: [{step}]\n"))
    };
    let killed = scenario("killed", "'9'", "");
    // Stopped, it cannot take SIGTERM (15): SIGKILL comes 5 s later.
    let deaf = scenario("deaf", "'19'", "");
    let limit = scenario("limit", "'0', '60'", ", limit: 2s");
    let none = farm.scenario(
        "none",
        "steps: [{write: /proc/sys/vm/drop_caches, text: '1'}, {stress: splice, ops: 5, beside: [{interference: hugepage}]}]\n",
    );
    let run = farm.run(&["run", &killed, &deaf, &limit, &none, "--json"]).with_code(100);

    let life = run.life("killed");
    let reason = "step 1, beside it compact: killed by SIGKILL";
    assert_eq!(
        (verdict(&life), besides(&life)),
        (("workload-failed", reason), vec![("compact", None, Some(9))])
    );
    let shown = farm.run(&["show", life["life"].as_str().unwrap()]).with_code(0).stdout;
    assert!(shown.contains("\nstep 1, beside it compact was killed by SIGKILL"), "{shown}");

    let life = run.life("deaf");
    assert_eq!(
        (verdict(&life), besides(&life)),
        (("workload-failed", reason), vec![("compact", None, Some(9))])
    );
    let step = &life["steps"][0];
    let wall = |one: &Value| one["end"]["wall_us"].as_u64().unwrap();
    assert!(wall(&step["beside"][0]) >= wall(&step["workers"][0]) + 5_000_000, "{step}");

    let life = run.life("limit");
    assert_eq!(verdict(&life), ("timed-out", "step 1 ran into its wall limit"));
    assert_eq!(besides(&life), [("compact", None, Some(9))]);
    assert!(wall(&life["steps"][0]["beside"][0]) < 7_000_000, "at once: {life}");

    let life = run.life("none");
    assert_eq!(verdict(&life), ("passed", ""));
    assert_eq!(life["steps"][1]["outcome"], "skipped");
    let shown = farm.run(&["show", life["life"].as_str().unwrap()]).with_code(0).stdout;
    assert!(shown.contains("step splice: not beside hugepage: no "), "{shown}");
}
