//! What runs beside a step, as a scenario says it.

use super::*;

fn step(beside: &str) -> String {
    with_steps(&format!("  - {{stress: splice, for: 3s, beside: {beside}}}"))
}

#[test]
fn interference_goes_with_the_steps_that_run_programs() {
    let steps = "
  - {stress: splice, for: 3s, beside: [{interference: ksm}, {interference: compact, args: {rate: 20, all: true}}]}
  - {exec: ./own, beside: [{interference: compact, args: {all: false}}]}";
    let scenario = parse(&with_steps(steps));
    let told: Vec<Vec<String>> = (scenario.steps.iter())
        .map(|step| {
            let text = |one: &Interference| format!("{} {}", one.program, one.arguments().join(" "));
            step.beside.iter().map(text).collect()
        })
        .collect();
    assert_eq!(told, [vec!["ksm ", "compact --all --rate=20"], vec!["compact "]]);
    assert!(parse(&with_steps(SPLICE)).steps[0].beside.is_empty());
}

#[test]
fn wrong_interference_is_told_with_its_place() {
    for (beside, told) in [
        ("[{}]", "a.yaml:5:40: the field 'interference' is missing"),
        ("[{interference: splice}]", "a.yaml:5:55: unknown interference 'splice'"),
        (
            "[{interference: compact, args: {rat: 1}}]",
            "a.yaml:5:71: unknown option 'rat' of program 'compact'",
        ),
        (
            "[{interference: compact, args: {rate: 0}}]",
            "a.yaml:5:77: rate: expected a number from 1 to 1000, found '0'",
        ),
        ("[{interference: compact, for: 3s}]", "a.yaml:5:64: unknown field 'for' in interference"),
        ("[compact]", "a.yaml:5:40: interference: expected a map, found a single value"),
        (
            "compact",
            "a.yaml:5:39: beside: expected a list of 0 to 8, each interference, found a single value",
        ),
    ] {
        let problems = problems(&step(beside));
        assert_eq!(problems.lines().next(), Some(told), "{problems}");
    }
    let stress = problems(&with_steps("  - {stress: compact, for: 3s}"));
    assert!(stress.starts_with("a.yaml:5:14: unknown stress program 'compact'"), "{stress}");
    let write = problems(&with_steps("  - {write: /a, text: b, beside: []}"));
    assert!(write.starts_with("a.yaml:5:26: unknown field 'beside' in a write step"), "{write}");
}

#[test]
fn as_much_interference_as_init_takes() {
    let list = |count| format!("[{}]", vec!["{interference: ksm}"; count].join(", "));
    assert_eq!(problems(&step(&list(8))), "(none)");
    assert!(problems(&step(&list(9))).contains("beside: expected 0 to 8 entries, found 9"));
}
