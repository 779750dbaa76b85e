//! Proof of effect: what a step is to reach in the kernel is counted there, and too little of it proves nothing.

use serde_json::Value;

use super::harness::{Farm, verdict};

const BOTH: [&str; 4] = ["--kernel", "debian-12", "--kernel", "debian-13"];

/// The kernel functions of a step as (function, count, missed), and what could not be counted as (functions, why).
fn counted(life: &Value, step: usize) -> (Vec<(&str, u64, u64)>, Vec<(&str, &str)>) {
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
