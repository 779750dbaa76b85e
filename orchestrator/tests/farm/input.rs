//! Bad input: what is wrong, where, and what was perhaps meant.

use super::harness::Farm;

fn refused(farm: &Farm, arguments: &[&str]) -> String {
    let refused = farm.run(arguments).with_code(2);
    assert_eq!(refused.stdout, "");
    refused.stderr.replace(farm.path("").as_str(), "HERE/")
}

#[test]
fn names_that_are_not_known() {
    let farm = Farm::new();
    insta::assert_snapshot!(refused(&farm, &["run", "somke"]), @r#"
    error: no scenario or group of scenarios has the name 'somke'
      hint: did you mean 'smoke'?
    "#);
    insta::assert_snapshot!(refused(&farm, &["run", "./absent.yaml"]), @r#"
    error: cannot read scenario ./absent.yaml
      because: No such file or directory (os error 2)
    "#);
    insta::assert_snapshot!(refused(&farm, &["run", "smoke", "--kernel", "debain-12"]), @r#"
    error: there is no kernel 'debain-12'
      hint: did you mean 'debian-12'? Known are debian-12, debian-13, debian-14, debug-info-6.1, debug-info-6.12, debug-vm-6.1, debug-vm-6.12, fault-injection-6.1, fault-injection-6.12, kasan-6.1, kasan-6.12, lean-6.1, lean-6.12, lean-clang-6.1, lean-clang-6.12, lockdep-6.1, lockdep-6.12
    "#);
    insta::assert_snapshot!(refused(&farm, &["run", "smoke", "--kernel", "mainline"]), @r#"
    error: there is no kernel 'mainline'
      hint: known are debian-12, debian-13, debian-14, debug-info-6.1, debug-info-6.12, debug-vm-6.1, debug-vm-6.12, fault-injection-6.1, fault-injection-6.12, kasan-6.1, kasan-6.12, lean-6.1, lean-6.12, lean-clang-6.1, lean-clang-6.12, lockdep-6.1, lockdep-6.12; a kernel of your own is given by its path, its sources by --tree
    "#);
    insta::assert_snapshot!(refused(&farm, &["show", "last"]), @r#"
    error: there is no run yet
      hint: `farm run smoke` makes one; --state DIR or FARM_STATE names another place for results
    "#);
    insta::assert_snapshot!(refused(&farm, &["show", "0123456789", "--json"]), @r#"
    error: nothing is called '0123456789'
      hint: `farm runs` and `farm hits` list ids; any unique beginning of one will do
    "#);
    insta::assert_snapshot!(refused(&farm, &["hits", "--run", "0123456789", "--json"]), @r#"
    error: nothing is called '0123456789'
      hint: `farm runs` and `farm hits` list ids; any unique beginning of one will do
    "#);
    assert!(!farm.state().exists());
}

#[test]
fn a_broken_scenario_is_told_with_place_and_hint() {
    let farm = Farm::new();
    let broken = farm.file("broken.yaml", "name: [broken\n");
    insta::assert_snapshot!(refused(&farm, &["run", broken.as_str()]), @r#"
    error: HERE/broken.yaml:2:1: not YAML: while parsing a flow sequence, expected ',' or ']'
    "#);
    let wrong = farm.scenario("wrong", "steps:\n  - {stress: slpice, for: 1x}\n  - {stress: dio, ops: 0}\n");
    insta::assert_snapshot!(refused(&farm, &["run", &wrong, "somke"]), @r#"
    error: HERE/wrong.yaml:5:14: unknown stress program 'slpice'
        did you mean 'splice'?
    HERE/wrong.yaml:5:27: for: expected a time from 10ms to 24h, found '1x'
        write it as in 500ms, 3s or 2h 5m
    HERE/wrong.yaml:6:24: ops: expected a number from 1 to 1000000000000, found '0'
    error: no scenario or group of scenarios has the name 'somke'
      hint: did you mean 'smoke'?
    "#);
}

#[test]
fn a_check_of_several_files_reports_all_their_problems() {
    let farm = Farm::new();
    let good = farm.short();
    let wrong = farm.scenario("wrong", "steps:\n  - {stress: slpice, for: 1s}\n  - {stress: dio, ops: 0}\n");
    let broken = farm.file("broken.yaml", "name: [broken\n");
    let check = farm.run(&["scenario", "check", &good, &wrong, "somke", broken.as_str()]).with_code(2);
    let text = format!("{}---\n{}", check.stdout, check.stderr).replace(farm.path("").as_str(), "HERE/");
    insta::assert_snapshot!(text, @r#"
    HERE/short.yaml: good: a test
    HERE/wrong.yaml:5:14: unknown stress program 'slpice'
        did you mean 'splice'?
    HERE/wrong.yaml:6:24: ops: expected a number from 1 to 1000000000000, found '0'
    HERE/broken.yaml:2:1: not YAML: while parsing a flow sequence, expected ',' or ']'
    ---
    error: no scenario or group of scenarios has the name 'somke'
      hint: did you mean 'smoke'?
    "#);
}

#[test]
fn an_id_that_names_several_things_is_told_with_all_of_them() {
    let farm = Farm::new();
    let scenario = farm.short();
    // Two lives of one cell, skipped at once where KVM is not: no guest is needed for this.
    let run =
        ["run", scenario.as_str(), "--accel", "tcg", "--protection", "hardware", "--repeat", "2", "--json"];
    let run = farm.run(&run).with_code(104).json();
    let (id, life) = (run["run"]["id"].as_str().unwrap(), run["lives"][0]["life"].as_str().unwrap());
    let cell = life.strip_suffix(".1").unwrap();
    let told = refused(&farm, &["show", cell]).replace(cell, "CELL").replace(id, "RUN");
    insta::assert_snapshot!(told, @r#"
    error: 'CELL' is the beginning of life CELL.1 of run RUN, life CELL.2 of run RUN
      hint: give more of it
    "#);
}
