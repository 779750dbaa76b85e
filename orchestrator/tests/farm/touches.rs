//! Proof of effect: what a step is to reach in the kernel is counted there, and too little of it proves nothing.

use std::collections::HashMap;
use std::time::Duration;

use camino::Utf8Path;
use farm::assets;
use farm::guest::Manifest;
use farm::scenario::{Action, Catalog, Library, Scenario, Step, programs};
use serde_json::Value;

use super::harness::{Farm, verdict};

const BOTH: [&str; 4] = ["--kernel", "debian-12", "--kernel", "debian-13"];

/// Function, count, missed.
type Counted<'a> = (&'a str, u64, u64);

/// The kernel functions of a step, and what could not be counted as (functions, why).
fn counted(life: &Value, step: usize) -> (Vec<Counted<'_>>, Vec<(&str, &str)>) {
    let attempts = life["steps"][step]["attempts"].as_array().unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = attempts.iter().partition(|one| !one["symbol"].is_null());
    let number = |value: &Value| value.as_u64().unwrap();
    (
        good.iter()
            .map(|one| (one["symbol"].as_str().unwrap(), number(&one["count"]), number(&one["missed"])))
            .collect(),
        bad.iter().map(|one| (one["functions"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect(),
    )
}

/// No other process of a guest calls getppid.
const CALLER: &str = "#include <stdlib.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
    int main(int argc, char **argv) { for (int i = atoi(argv[argc - 1]); i > 0; i--) syscall(SYS_getppid); }\n";

#[test]
fn calls_are_counted_to_the_last_one_for_each_step_alone() {
    let farm = Farm::new();
    farm.program("caller", CALLER);
    let scenario = farm.scenario(
        "calls",
        "\
steps:
  - exec: caller
    name: many
    args: ['1000']
    workers: 3
    touches:
      - {function: '__s390x_sys_getppid', count: 3000}
      - {function: 'no_such_function|__s390x_sys_getppid|do_splice', count: 3000}
      - {function: 'splice_folio_into_pipe', count: 1000000, when: kernel < 6.1}
  - {exec: caller, name: few, args: ['7'], touches: [{function: '__s390x_sys_getppid', count: 7}]}
  - {exec: caller, name: not-counted, args: ['9']}
  - {exec: caller, name: last, args: ['1'], touches: [{function: '__s390x_sys_getppid', count: 1}]}
",
    );
    let run = farm.run(&[&["run", &scenario, "--json"], &BOTH[..]].concat()).with_code(0).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!(lives.len(), 2);
    let sys = |count| ("__s390x_sys_getppid", count, 0);
    for life in lives {
        assert_eq!(verdict(life), ("passed", ""));
        assert_eq!(counted(life, 0), (vec![sys(3000), sys(3000)], vec![]), "{life}");
        assert_eq!(counted(life, 1), (vec![sys(7)], vec![]));
        assert_eq!(counted(life, 2), (vec![], vec![]));
        assert_eq!(counted(life, 3), (vec![sys(1)], vec![]));
    }
    let shown = farm.run(&["show", "last"]).with_code(0).stdout;
    assert!(shown.contains("calls     debian-13  __s390x_sys_getppid 3,008\n"), "in all steps: {shown}");
    let shown = farm.run(&["show", lives[0]["life"].as_str().unwrap()]).with_code(0).stdout;
    assert!(shown.contains("\nfew       __s390x_sys_getppid      7       0      7\n"), "{shown}");
}

#[test]
fn a_stress_program_reaches_what_it_is_for() {
    let farm = Farm::new();
    let scenario = farm.scenario(
        "reach",
        "\
steps:
  - stress: splice
    args: {mode: file-pipe-file}
    ops: 50
    touches:
      - {function: do_splice, count: 50}
      - {function: page_cache_pipe_buf_confirm, count: 50}
      - {function: splice_folio_into_pipe, count: 50, when: kernel >= 6.5}
",
    );
    let run = farm.run(&[&["run", &scenario, "--json"], &BOTH[..]].concat()).with_code(0).json();
    for (life, functions) in run["lives"].as_array().unwrap().iter().zip([2, 3]) {
        let (counts, others) = counted(life, 0);
        assert_eq!((counts.len(), others), (functions, vec![]), "{life}");
        assert!(counts.iter().all(|(_, count, _)| *count >= 50), "{life}");
    }
}

#[test]
fn too_few_calls_prove_nothing_and_so_do_calls_that_cannot_be_counted() {
    let farm = Farm::new();
    farm.program("caller", CALLER);
    let scenario = |name: &str, touch: &str| {
        farm.scenario(name, &format!("steps: [{{exec: caller, args: ['12'], touches: [{touch}]}}]\n"))
    };
    let few = scenario("few", "{function: __s390x_sys_getppid, count: 13}");
    let unknown = scenario("unknown", "{function: no_such_function|s_show|memcpy, count: 1}");
    let run = farm.run(&["run", &few, &unknown, "--json"]).with_code(105);
    assert_eq!(
        verdict(&run.life("few")),
        ("ineffective", "step caller: __s390x_sys_getppid was called 12 times, at least 13 are needed")
    );
    // Of three kinds: not there, there several times, and there but without an entry to probe.
    let life = run.life("unknown");
    let (verdict, reason) = verdict(&life);
    let why = [
        "no_such_function: Invalid probed address or symbol",
        "s_show: The symbol is not unique",
        "memcpy: Failed to register probe event",
    ];
    let expected = format!(
        "step caller: calls of no_such_function|s_show|memcpy could not be counted: {}",
        why.join("; ")
    );
    assert_eq!((verdict, reason), ("ineffective", &*expected));

    let run = farm.run(&["run", &few, "--uncounted"]).with_code(0);
    assert!(run.stdout.contains("\nfew       debian-12  not counted (--uncounted)\n"), "{}", run.stdout);
    let job = std::fs::read_to_string(farm.lives()[0].join("job.txt")).unwrap();
    assert!(job.contains("\nrun ") && !job.contains("\ntouch "), "{job}");
}

/// A step for each of their steps, in two guests beside others.
const LONG: Duration = Duration::from_secs(280);

/// A scenario for each stress program, whose steps must not reach their counts when its main calls are compiled out.
const PROVEN: [&str; 14] = [
    "splice",
    "sendfile",
    "dio",
    "dio-async",
    "tee",
    "vmsplice",
    "gup",
    "uring",
    "pagecache",
    "secure-freeze-unmap",
    "secure-large-folio",
    "stack",
    "secure-io-errors",
    "share",
];

#[test]
fn an_idle_program_cannot_reach_the_counts_of_its_scenario() {
    let farm = Farm::new();
    let modules = Manifest::parse(assets::LITE_YAML).unwrap().known_modules().collect();
    let catalog = Catalog::embedded().unwrap().with_modules(modules);
    let library = Library { scenarios: assets::SCENARIOS.clone(), catalog };
    let scenarios = PROVEN.map(|name| library.load(name).unwrap());
    for program in library.catalog.programs() {
        let counted = |step: &Step| {
            !step.touches.is_empty()
                && matches!(&step.action, Action::Stress { program: own, .. } if *own == program.name)
        };
        assert!(scenarios.iter().any(|one| one.steps.iter().any(counted)), "{} is not here", program.name);
    }
    let workers: HashMap<String, u32> = scenarios
        .iter()
        .flat_map(|scenario| scenario.steps.iter().map(move |step| (scenario, step)))
        .filter_map(|(scenario, step)| match &step.action {
            Action::Stress { workers, .. } => Some((idle_name(scenario, step), *workers)),
            _ => None,
        })
        .collect();
    // One guest for all: what is counted begins anew with each step.
    let steps: Vec<Value> = scenarios
        .iter()
        .flat_map(|scenario| scenario.steps.iter().map(move |step| (scenario, step)))
        .filter(|(_, step)| !step.touches.is_empty())
        .map(|(scenario, step)| idle_step(&farm, &library.catalog, scenario, step))
        .collect();
    let idle = serde_json::json!({
        "name": "idle", "purpose": "a test", "protection": "emulated",
        "modules": ["loop", "dm-mod", "dm-flakey"],
        "machine": { "disks": [{ "size": "256M" }, { "size": "16M", "format": "raw" }], "share": true },
        "steps": steps,
    });
    // YAML is a superset of JSON.
    let idle = farm.file("idle.yaml", idle.to_string());
    let command = farm.command(&[&["run", "--json", "--jobs", "2", idle.as_str()], &BOTH[..]].concat());
    let run = farm.finish_within(LONG, command).with_code(105).json();
    for life in run["lives"].as_array().unwrap() {
        assert_eq!(life["steps"].as_array().unwrap().len(), steps.len(), "{life}");
        for step in life["steps"].as_array().unwrap() {
            assert_eq!(step["outcome"], "ok", "{step}");
            let attempts = step["attempts"].as_array().unwrap();
            // One worker stands for the scenario's: what each would do in its setup is taken as often as there are.
            let workers = workers[step["name"].as_str().unwrap()];
            let calls = |one: &Value| one["count"].as_u64().unwrap() + one["missed"].as_u64().unwrap();
            let idle = |one: &Value| calls(one) * u64::from(workers);
            let short = |one: &&Value| !one["symbol"].is_null() && idle(one) < one["least"].as_u64().unwrap();
            assert!(attempts.iter().any(|one| short(&one)), "an idle {} reaches all: {step}", step["name"]);
        }
    }
}

fn idle_name(scenario: &Scenario, step: &Step) -> String {
    format!("{}.{}", scenario.name, step.name)
}

/// The step with its program's main calls compiled out, as one that runs a program of the user's.
fn idle_step(farm: &Farm, catalog: &Catalog, scenario: &Scenario, step: &Step) -> Value {
    let Action::Stress { program, .. } = &step.action else { panic!("{} runs no stress program", step.name) };
    let sources = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/stress"));
    let header = programs::header(catalog.program(program).unwrap());
    farm.file(&format!("{program}.args.h"), header);
    let uvsim = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/modules/uvsim");
    let (own, common) = (sources.join(format!("{program}.c")), sources.join("common.c"));
    let include = farm.path("");
    let (idle, here, there) = ("-DSTRESS_IDLE", ["-I", include.as_str()], ["-I", sources.as_str()]);
    farm.compile(
        program,
        &[&[idle], &here[..], &there[..], &["-I", uvsim], &[own.as_str(), common.as_str()]].concat(),
    );
    let args = step.action.arguments().into_iter().chain(["--seed=1", "--worker=1"].map(str::to_owned));
    let touches: Vec<Value> = (step.touches.iter())
        .map(|touch| {
            let mut one = serde_json::json!({ "function": touch.alternatives(), "count": touch.least });
            if let Some(when) = &touch.when {
                one["when"] = when.to_string().into();
            }
            one
        })
        .collect();
    serde_json::json!({
        "exec": program, "name": idle_name(scenario, step), "args": args.collect::<Vec<_>>(),
        "limit": format!("{}ms", step.limit.as_millis()), "touches": touches,
    })
}
