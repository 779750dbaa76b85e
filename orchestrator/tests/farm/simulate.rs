//! `farm bisect`.

use super::harness::Farm;

const BRANCH: &str = include_str!("../fixtures/bisect/branch.json");

#[test]
fn a_described_history_is_searched_step_by_step() {
    let farm = Farm::new();
    let file = farm.file("branch.json", BRANCH);
    let arguments = ["bisect", "simulate", file.as_str()];
    let shown = farm.run(&arguments).with_code(0);
    insta::assert_snapshot!(shown.stdout, @r#"
        at     left  what   commit  came of it
     7 min  118 min  build  v7      built
    10 min   35 min  try    v7      3 hit, 6 clean, 1 other failure
    11 min   33 min  build  v1      built
    12 min   33 min  try    v1      3 clean
    14 min   32 min  build  b5      built
    14 min   19 min  try    b5      hit
    15 min   18 min  build  b3      cannot build
    16 min   18 min  build  b2      built
    19 min   15 min  try    b2      8 clean
    20 min   15 min  build  b4      built
    21 min   17 min  try    b4      3 clean, 1 hit
    33 min   14 min  try    b2      35 clean

    One of b3, b4 brings the bug, 99.1 % sure; nothing that can be tried tells them apart.
    In truth b4 brings it. 12 candidates, 6 builds, 61 trials, 33 min.
    "#);
    // The same file, the same search.
    assert_eq!(farm.run(&arguments).with_code(0).stdout, shown.stdout);
    let result = farm.run(&["bisect", "simulate", file.as_str(), "--json"]).with_code(0).json();
    // b3 cannot be built, so it may have brought the bug as well as b4.
    assert_eq!(result["verdict"]["commits"], serde_json::json!(["b3", "b4"]));
    assert_eq!(result["truth"], serde_json::json!(["b4"]));
    assert!(result["verdict"]["confidence"].as_f64() >= Some(0.99), "{result}");
}

#[test]
fn what_has_no_answer_says_why() {
    let farm = Farm::new();
    let simulated = |name: &str, text: &str| {
        let file = farm.file(name, text);
        farm.run(&["bisect", "simulate", file.as_str()]).with_code(107).stdout
    };
    let good_is_bad = BRANCH
        .replace(r#"{"id": "v1"}"#, r#"{"id": "v1", "hit-rate": 0.4}"#)
        .replace("]}", r#"], "hit-rate": 0.4}"#);
    let verdict = simulated("good.json", &good_is_bad);
    assert!(verdict.contains("\nThe good end has the bug.\n"), "{verdict}");
    let clean = BRANCH.replace(r#""hit-rate": 0.4"#, r#""hit-rate": 0.0"#);
    let verdict = simulated("bad.json", &clean);
    assert!(verdict.contains("\nThe bad end does not show the bug in 459 trials.\n"), "{verdict}");
    // v3 has the bug of its own, and whichever of the two is found, the bad end has it without that too.
    let two = BRANCH
        .replace(r#"{"id": "v3", "parents": ["v2"]}"#, r#"{"id": "v3", "parents": ["v2"], "hit-rate": 0.4}"#)
        .replace(r#"{"id": "v4", "parents": ["v3"]}"#, r#"{"id": "v4", "parents": ["v3"], "hit-rate": 0.4}"#)
        .replace(r#""build": "cannot-build""#, r#""build": "works""#);
    let verdict = simulated("two.json", &two);
    assert!(verdict.contains("there are two culprits or more"), "{verdict}");
}

#[test]
fn a_description_is_refused_with_all_that_is_wrong() {
    let farm = Farm::new();
    let wrong = r#"{
      "good": "a", "bad": "z", "costs": {"build": -1, "trial": 0},
      "commits": [{"id": "a"}, {"id": "b", "parents": ["x"], "hit-rate": 2}, {"id": "b", "parents": ["a"]}, {"id": "c"}]
    }"#;
    let refused = |text: &str| {
        farm.file("wrong.json", text);
        let mut command = farm.command(&["bisect", "simulate", "wrong.json"]);
        command.current_dir(farm.path(""));
        farm.finish(command).with_code(2).stderr
    };
    insta::assert_snapshot!(refused(wrong), @r#"
    error: wrong.json describes no history that can be searched
      because: there are 7 problems
        commit b: there are two of this id
        commit b: its parent x is not listed
        commit b: a rate is from 0 to 1
        only one commit may have no parents, and so have a, c
        costs: seconds are not less than 0
        costs: a trial takes more than 0 seconds
        bad: commit z is not listed
      hint: `farm bisect simulate --help` shows what a description looks like
    "#);
    let circle = r#"{"good": "a", "bad": "c", "costs": {"build": 1, "trial": 1},
      "commits": [{"id": "a"}, {"id": "b", "parents": ["a", "c"]}, {"id": "c", "parents": ["b"]}]}"#;
    assert!(refused(circle).contains("commit b is an ancestor of itself"), "{}", refused(circle));
    assert!(refused(r#"{"good": "a", "typo": 1}"#).contains("unknown field `typo`"));
}
