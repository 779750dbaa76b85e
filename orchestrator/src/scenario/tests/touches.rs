//! What a step is to reach in the kernel, as a scenario says it.

use super::*;

fn step(touches: &str) -> String {
    with_steps(&format!("  - {{stress: splice, for: 3s, touches: {touches}}}"))
}

#[test]
fn touches_go_with_the_steps_that_run_programs() {
    let steps = "
  - {stress: splice, for: 3s, touches: [{function: a|b.isra.0, count: 1000}, {function: c, count: 1, when: kernel >= 6.5}]}
  - {exec: ./own, touches: [{function: d, count: 2}]}";
    let scenario = parse(&with_steps(steps));
    let told: Vec<Vec<String>> = scenario
        .steps
        .iter()
        .map(|step| {
            let when = |touch: &Touch| touch.when.as_ref().map_or(String::new(), |when| format!(" {when}"));
            let text = |touch: &Touch| format!("{} {}{}", touch.alternatives(), touch.least, when(touch));
            step.touches.iter().map(text).collect()
        })
        .collect();
    assert_eq!(told, [vec!["a|b.isra.0 1000", "c 1 kernel >= 6.5"], vec!["d 2"]]);
    assert!(parse(&with_steps(SPLICE)).steps[0].touches.is_empty());
}

#[test]
fn a_wrong_touch_is_told_with_its_place() {
    let shape = "expected 1 to 8 names of functions with | between them (up to 128 bytes each)";
    for (touches, told) in [
        ("[{function: a}]", "a.yaml:5:41: the field 'count' is missing".to_owned()),
        ("[{count: 1}]", "a.yaml:5:41: the field 'function' is missing".to_owned()),
        ("[{function: a b, count: 1}]", format!("a.yaml:5:52: function: {shape}, found 'a b'")),
        ("[{function: a+4, count: 1}]", format!("a.yaml:5:52: function: {shape}, found 'a+4'")),
        (
            "[{function: a, count: 0}]",
            "a.yaml:5:62: count: expected a number from 1 to 1000000000000, found '0'".to_owned(),
        ),
        (
            "[{function: a, count: 1, least: 2}]",
            "a.yaml:5:65: unknown field 'least' in a kernel function and how often it must be called"
                .to_owned(),
        ),
        ("{function: a, count: 1}", {
            let list = "a list of 0 to 16, each a kernel function and how often it must be called";
            format!("a.yaml:5:40: touches: expected {list}, found a map")
        }),
    ] {
        let problems = problems(&step(touches));
        assert_eq!(problems.lines().next(), Some(&*told), "{problems}");
    }
    let write = with_steps("  - {write: /a, text: b, touches: []}");
    assert!(problems(&write).starts_with("a.yaml:5:26: unknown field 'touches' in a write step"));
}

#[test]
fn bounds_of_touches_hold_on_both_sides() {
    let (name, list) = (|length| "x".repeat(length), |item: &str, count| vec![item; count].join(", "));
    for (good, bad) in [
        (
            format!("[{{function: {}, count: 1}}]", name(128)),
            format!("[{{function: {}, count: 1}}]", name(129)),
        ),
        (
            format!("[{{function: {}, count: 1}}]", ["a"; 8].join("|")),
            format!("[{{function: {}, count: 1}}]", ["a"; 9].join("|")),
        ),
        (
            "[{function: a, count: 1000000000000}]".to_owned(),
            "[{function: a, count: 1000000000001}]".to_owned(),
        ),
        (
            format!("[{}]", list("{function: a, count: 1}", 16)),
            format!("[{}]", list("{function: a, count: 1}", 17)),
        ),
    ] {
        assert_eq!(problems(&step(&good)), "(none)", "{good}");
        assert_ne!(problems(&step(&bad)), "(none)", "{bad}");
    }
}
