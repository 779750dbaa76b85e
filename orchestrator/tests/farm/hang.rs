//! A guest that really hangs.

use std::fs;

use serde_json::Value;

use super::harness::{Farm, hits, verdict};

/// Takes every CPU and never gives it back: the scheduler runs nothing else as long as a SCHED_FIFO task of the
/// highest priority can run, once real-time throttling is off (sched(7)).
const SPINNER: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <unistd.h>

int main(void)
{
	struct sched_param highest = { .sched_priority = 99 };
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int cpu = cpus - 1; cpu >= 0; cpu--) {
		if (cpu > 0 && fork() != 0)
			continue;
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) || sched_setscheduler(0, SCHED_FIFO, &highest))
			return 1;
		for (;;)
			;
	}
}
"#;

const HEARTBEAT_US: u64 = 5_000_000;
const GRACE_US: u64 = 2_000_000;

#[test]
fn a_hang_is_a_hit_soon_after_its_heartbeat_limit() {
    let farm = Farm::new();
    farm.program("spinner", SPINNER);
    let scenario = farm.scenario(
        "hang",
        "heartbeat: 5s\n\
         steps:\n\
         \x20 - {write: /proc/sys/kernel/sched_rt_runtime_us, text: '-1'}\n\
         \x20 - {exec: spinner, limit: 1m}\n",
    );
    let run = farm.run(&["run", &scenario, "--json"]).with_code(100);
    let life = run.life("hang");
    let (word, title) = verdict(&life);
    assert_eq!((word, hits(&life)), ("hit", vec![(title, "new")]));
    assert_eq!(life["hits"][0]["judged"]["hit"]["kind"], "hang");
    assert_eq!(life["ending"]["type"], "hung");

    // Init says nothing after the second step's start, or one beat more.
    let events = fs::read_to_string(farm.run_directory().join("events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |wanted: &dyn Fn(&Value) -> bool| {
        events.iter().find(|event| wanted(&event["what"])).unwrap()["at_us"].as_u64().unwrap()
    };
    let started = at(&|what| what["event"] == "step-started" && what["step"] == 2);
    let ended = at(&|what| what["event"] == "life-ended");
    let after = ended - started;
    assert!((HEARTBEAT_US..HEARTBEAT_US + GRACE_US).contains(&after), "{after} us");

    let cpus: Value = serde_json::from_slice(&fs::read(farm.lives()[0].join("cpus.json")).unwrap()).unwrap();
    let doing = life["hits"][0]["judged"]["hit"]["text"].as_str().unwrap();
    let mask = cpus["cpus"][0]["psw"]["mask"].as_str().unwrap();
    assert!(doing.starts_with(&format!("CPU 0: operating, PSW {mask}")), "{doing}");
}
