//! What a guest's kernel did right before it complained.

use std::fs;

use serde_json::Value;

use super::harness::{Farm, Finished, hits};

/// What is traced in these tests: all that a guest at rest does.
const TRACE: &str = "trace: [sched:sched_switch, 'irq:*', full_proxy_write]\n";

fn scenario(farm: &Farm, name: &str, cpus: u32, rest: &str) -> String {
    let head = format!(
        "name: {name}\npurpose: a test\nmachine: {{cpus: {cpus}, memory: 128M}}\nmodules: [tripwire]\nheartbeat: 5s\n"
    );
    farm.file(&format!("{name}.yaml"), head + rest).into_string()
}

fn trip(what: &str) -> String {
    format!("steps: [{{write: /sys/kernel/debug/tripwire/trip, text: {what}, limit: 1m}}]\n")
}

/// The first hit of the run's life, with its page.
fn page(farm: &Farm, ran: &Finished, scenario: &str) -> (Value, Value, String) {
    let life = ran.life(scenario);
    let id = life["hits"][0]["id"].as_str().unwrap().to_owned();
    let text = farm.run(&["show", &id]).with_code(0).stdout;
    (life, farm.run(&["show", &id, "--json"]).with_code(0).json(), text)
}

#[track_caller]
fn events(page: &Value) -> Vec<Value> {
    assert_eq!(page["trace"]["trouble"], Value::Null);
    let events = page["trace"]["events"].as_array().unwrap().clone();
    let at: Vec<u64> = events.iter().map(|event| event["at_us"].as_u64().unwrap()).collect();
    assert!(at.is_sorted() && events.len() > 3, "{events:?}");
    events
}

/// By the clock of the kernel's log, in which the hit stands.
#[track_caller]
fn end_near_the_hit(page: &Value) {
    let hit = page["judged"]["hit"]["at"].as_u64().unwrap();
    let events = events(page);
    let last = events.last().unwrap()["at_us"].as_u64().unwrap();
    assert!(last < hit + 500_000 && last + 500_000 > hit, "{last} and {hit}");
    let before = events.iter().filter(|event| event["at_us"].as_u64().unwrap() <= hit);
    assert!(before.count() > 3);
}

/// Nothing that a kernel was had to print stands in what it said itself.
#[track_caller]
fn is_not_in_the_log(farm: &Farm) {
    for stream in ["console.log", "kmsg.log"] {
        let log = fs::read(farm.lives()[0].join(stream)).unwrap();
        let log = String::from_utf8_lossy(&log);
        assert!(!log.contains("ftrace buffer") && !log.contains("syncing: farm"), "{log}");
    }
}

#[test]
fn the_events_before_a_warning_are_told_and_the_guest_lives_on() {
    let farm = Farm::new();
    let rest = "trace: [sched:sched_switch, 'irq:*', full_proxy_write, sched:none, no_such_function]\nsteps:\n  \
                - {write: /sys/kernel/debug/tripwire/trip, text: warn-text}\n  \
                - {write: /proc/sys/vm/drop_caches, text: '3'}\n";
    let scenario = scenario(&farm, "warned", 2, rest);
    for kernel in ["debian-12", "debian-13"] {
        let ran = farm.warm_command(&["run", &scenario, "--kernel", kernel, "--json"]);
        let ran = farm.finish(ran).with_code(100);
        let (life, page, text) = page(&farm, &ran, "warned");
        assert_eq!(hits(&life), [("WARNING in tripwire_warn_text", "new")]);
        assert_eq!(life["steps"][1]["outcome"], "ok");
        end_near_the_hit(&page);
        let events = events(&page);
        let called = events.iter().rfind(|event| event["event"] == "full_proxy_write").unwrap();
        assert!(called["detail"].as_str().unwrap().contains("caller=vfs_write+0x"), "{called}");
        let untraced = page["trace"]["untraced"].as_array().unwrap();
        let untraced: Vec<_> = untraced.iter().map(|one| one["what"].as_str().unwrap()).collect();
        assert_eq!(untraced, ["sched:none", "no_such_function"]);
        assert!(text.contains("traced events, in microseconds before the hit:\n"), "{text}");
        assert!(text.contains("CPU 0") && text.contains("not traced: sched:none"), "{text}");
        assert!(text.contains(&format!("farm repro {} --gdb\n", page["id"].as_str().unwrap())), "{text}");
    }
}

#[test]
fn a_kernel_that_has_panicked_is_had_to_print_its_trace() {
    let farm = Farm::new();
    let scenario = scenario(&farm, "panicked", 2, &format!("{TRACE}{}", trip("panic")));
    for kernel in ["debian-12", "debian-13"] {
        let ran = farm.warm_command(&["run", &scenario, "--kernel", kernel, "--json"]);
        let ran = farm.finish(ran).with_code(100);
        let (life, page, _) = page(&farm, &ran, "panicked");
        assert_eq!(hits(&life), [("kernel panic: tripwire: a panic on request", "new")]);
        end_near_the_hit(&page);
        is_not_in_the_log(&farm);
    }
}

#[test]
fn a_kernel_that_hangs_is_had_to_print_its_trace() {
    for kernel in ["debian-12", "debian-13"] {
        let farm = Farm::new();
        let scenario = scenario(&farm, "hung", 1, &format!("{TRACE}{}", trip("hang")));
        let ran = farm.run(&["run", &scenario, "--kernel", kernel, "--json"]).with_code(100);
        let (life, page, text) = page(&farm, &ran, "hung");
        assert_eq!(life["ending"]["type"], "hung");
        // The writer that hangs was the last to be switched to.
        let events = events(&page);
        let last = events.iter().rfind(|event| event["event"] == "sched_switch").unwrap();
        assert!(last["detail"].as_str().unwrap().contains("next_comm=init "), "{last}");
        assert!(text.contains("in microseconds before the last of them:\n"), "{text}");
        is_not_in_the_log(&farm);
    }
}

#[test]
fn a_step_that_takes_too_long_ends_the_trace() {
    let farm = Farm::new();
    farm.program("sleeper", "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n");
    let scenario = scenario(&farm, "late", 1, &format!("{TRACE}steps: [{{exec: sleeper, limit: 1s}}]\n"));
    let ran = farm.warm_command(&["run", &scenario, "--kernel", "debian-12"]);
    farm.finish(ran).with_code(106);
    let trace: Value =
        serde_json::from_slice(&fs::read(farm.lives()[0].join("trace.json")).unwrap()).unwrap();
    let events = trace["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["event"] == "sched_switch"), "{trace}");
}

#[test]
fn an_oops_is_told_as_without_a_trace() {
    let farm = Farm::new();
    let scenario = scenario(&farm, "oops", 2, &format!("{TRACE}{}", trip("bug")));
    let ran = farm.run(&["run", &scenario, "--kernel", "debian-12", "--json"]).with_code(100);
    let (life, page, _) = page(&farm, &ran, "oops");
    assert_eq!(hits(&life), [("kernel BUG in tripwire_bug", "new")]);
    end_near_the_hit(&page);
    is_not_in_the_log(&farm);
}

#[test]
fn a_page_has_what_tells_the_cells_apart() {
    let farm = Farm::new();
    let rest = "steps: [{exec: even, limit: 1m}]\nmatrix: {cpus: [1, 2]}\n";
    // Complains where there are two CPUs.
    farm.program(
        "even",
        "#include <fcntl.h>\n#include <unistd.h>\nint main(void) { if (sysconf(_SC_NPROCESSORS_ONLN) == 2) \
         return write(open(\"/sys/kernel/debug/tripwire/trip\", O_WRONLY), \"warn-text\", 9) != 9; return 0; }\n",
    );
    let scenario = scenario(&farm, "even", 1, rest);
    let ran = farm.warm_command(&["run", &scenario, "--kernel", "debian-12", "--repeat", "2", "--json"]);
    let ran = farm.finish(ran).with_code(100).json();
    let lives = ran["lives"].as_array().unwrap();
    let hit = lives.iter().flat_map(|life| life["hits"].as_array().unwrap()).next().unwrap();
    let shown = farm.run(&["show", hit["id"].as_str().unwrap(), "--json"]).with_code(0).json();
    assert_eq!(shown["trace"], Value::Null);
    let values =
        |value: &str, lives: u32, hit: u32| serde_json::json!({"value": value, "lives": lives, "hit": hit});
    assert_eq!(
        shown["axes"],
        serde_json::json!([{"name": "cpus", "values": [values("2", 2, 2), values("1", 2, 0)]}])
    );
}
