//! What options of `farm run` change.

use super::harness::{Farm, verdict};

#[test]
fn repeats_are_lives_side_by_side_and_plain_lines_tell_of_them() {
    let farm = Farm::new();
    let scenario = farm.short();
    let run = farm.run(&["run", &scenario, "--repeat", "3", "--jobs", "2"]).with_code(0);
    assert!(run.stderr.contains(": 3 lives, up to 2 at a time (--jobs)"), "{}", run.stderr);
    assert!(run.stdout.contains("passed 3"), "{}", run.stdout);
    // The second starts before the first has ended; the third does not.
    let lines: Vec<&str> = run.stderr.lines().collect();
    let told: Vec<&str> = lines
        .iter()
        .filter_map(|line| [": starting", ": passed"].into_iter().find(|word| line.contains(word)))
        .collect();
    let expected = [": starting", ": starting", ": passed", ": starting", ": passed", ": passed"];
    assert_eq!(told, expected, "{}", run.stderr);
    let numbers: Vec<_> = farm.lives().iter().map(|life| life.extension().unwrap().to_owned()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
}

#[test]
fn fail_fast_stops_at_the_first_that_does_not_pass() {
    let farm = Farm::new();
    farm.program("three", "int main(void) { return 3; }\n");
    let failing = farm.scenario("failing", "steps: [{exec: three}]\n");
    let arguments = ["run", failing.as_str(), "--repeat", "20", "--jobs", "1", "--fail-fast", "--json"];
    let run = farm.run(&arguments).with_code(100).json();
    let lives = run["lives"].as_array().unwrap();
    assert_eq!((lives.len(), verdict(&lives[0]).0), (1, "workload-failed"));
}

#[test]
fn a_protected_guest_is_skipped_with_the_reasons_where_there_can_be_none() {
    let farm = Farm::new();
    let scenario = farm.short();
    // TCG cannot protect a guest on any host.
    let arguments = ["run", &scenario, "--accel", "tcg", "--protection", "hardware", "--repeat", "2"];
    let run = farm.run(&arguments).with_code(104);
    for text in [&run.stdout, &run.stderr] {
        assert!(text.contains("skipped: hardware protection needs KVM"), "{text}");
    }
    assert!(run.stdout.contains(" (and 1 more like it): skipped: "), "{}", run.stdout);
    assert!(run.stdout.contains(": 2 skipped in "), "{}", run.stdout);
    assert_eq!(farm.run(&["show", "last"]).with_code(0).stdout, run.stdout);
}
