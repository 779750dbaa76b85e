//! The emulated ultravisor, as a scenario asks for it.

use super::*;

fn top(text: &str) -> String {
    format!("name: a\npurpose: p\n{text}\nsteps:\n{SPLICE}\n")
}

#[test]
fn knobs_are_understood_and_have_defaults() {
    let plain = parse(&top(""));
    assert_eq!((plain.protection, plain.uvsim), (Protection::None, Knobs::default()));
    let emulated = parse(&top("protection: emulated"));
    assert_eq!((emulated.protection, emulated.uvsim), (Protection::Emulated, Knobs::default()));
    let turned = parse(&top(
        "protection: emulated\nuvsim: {fix: [dio, splice], busy: 10, partial: 20, export-failure: 30, \
         owner-mismatch: 40, freeze-delay: 5us, pin-shared: true, early: true}",
    ));
    let knobs = Knobs {
        fix: vec![Fix::Splice, Fix::Dio],
        busy: 10,
        partial: 20,
        export_failure: 30,
        owner_mismatch: 40,
        freeze_delay: Duration::from_micros(5),
        pin_shared: true,
        early: true,
    };
    assert_eq!(turned.uvsim, knobs);
}

#[test]
fn delays_of_a_matrix_are_those_of_the_knob() {
    let matrix = |delays: &str, protection: &str| {
        top(&format!("protection: {protection}\nmatrix: {{freeze-delay: {delays}}}"))
    };
    let delays = parse(&matrix("[0s, 5us, 50us]", "emulated")).matrix.freeze_delay;
    assert_eq!(delays, [0, 5, 50].map(Duration::from_micros));
    assert_eq!(
        problems(&matrix("[5us, 0.005ms]", "emulated")),
        "a.yaml:4:30: freeze-delay: 5µs is given twice"
    );
    assert_eq!(
        problems(&matrix("[5us]", "none")),
        "a.yaml:4:24: freeze-delay: goes with emulated protection only\n    \
         add `protection: emulated` to the scenario"
    );
}

#[test]
fn a_program_for_secure_memory_alone_is_refused_any_other() {
    let print = |secure: bool| {
        let text = format!(
            "name: a\npurpose: p\nprotection: emulated\nsteps:\n  - {{stress: freeze, for: 1s, secure: {secure}}}\n"
        );
        check(Source { file: "a.yaml", text: &text }, &library().catalog, &OneFile(b""))
            .map_err(|problems| print(&problems))
    };
    assert_eq!(print(false).unwrap_err(), "a.yaml:5:39: freeze has nothing to do without `secure: true`");
    print(true).unwrap();
}

#[test]
fn a_secure_step_tells_its_program() {
    let yaml = |secure: &str| {
        format!(
            "name: a\npurpose: p\nprotection: emulated\nsteps: [{{stress: splice, for: 3s, secure: {secure}}}]\n"
        )
    };
    let arguments = |secure: &str| parse(&yaml(secure)).steps[0].action.arguments().join(" ");
    assert_eq!(arguments("true"), "--for=3000 --dir=/tmp --secure");
    assert_eq!(arguments("false"), "--for=3000 --dir=/tmp");
}

#[test]
fn secure_interference_and_the_modules_disk_tell_their_programs() {
    let yaml = "name: a\npurpose: p\nprotection: emulated\nsteps:\n  \
                - {stress: splice, for: 3s, dir: uvsinkb, beside: [{interference: compact, secure: true}, {interference: ksm, secure: false}]}\n";
    let step = &parse(yaml).steps[0];
    assert_eq!(step.action.arguments().join(" "), "--for=3000 --dir=/mnt/uvsinkb");
    let beside: Vec<String> = step.beside.iter().map(|one| one.arguments().join(" ")).collect();
    assert_eq!(beside, ["--secure", ""]);
}

#[test]
fn a_hit_is_expected_until_something_mends_it() {
    let yaml =
        "protection: emulated\nexpect: [{title: x, mended-by: [vmsplice, splice], when: kernel >= 6.5}]";
    let expectation = parse(&top(yaml)).expect.remove(0);
    assert_eq!(expectation.mended_by, [Fix::Splice, Fix::Vmsplice]);
    for (release, fixes, holds) in [
        ("6.12.1", &[][..], true),
        ("6.1.0", &[], false),
        ("6.12.1", &[Fix::Dio, Fix::Zerocopy], true),
        ("6.12.1", &[Fix::Splice], false),
        ("6.12.1", &[Fix::Dio, Fix::Vmsplice], false),
    ] {
        let facts = Facts { kernel_release: release, protection: Protection::Emulated, fixes };
        assert_eq!(expectation.holds(facts), holds, "{release} {fixes:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_mends_it() {
    let emulated = "\n    add `protection: emulated` to the scenario";
    let vain = |place: &str, field: &str| {
        format!("a.yaml:{place}: {field}: goes with emulated protection only{emulated}")
    };
    let hint = "\n    a scenario that wants the hardware's says `needs: [pv]`; `farm run --protection hardware` asks for it";
    for (yaml, told) in [
        (
            top("protection: hardware"),
            format!("a.yaml:3:13: protection: expected none or emulated, found 'hardware'{hint}"),
        ),
        (top("uvsim: {busy: 5}"), vain("3:8", "uvsim")),
        (top("uvsim: {}"), vain("3:8", "uvsim")),
        (
            top("protection: none\nexpect: [{title: x, mended-by: [splice]}]"),
            vain("4:32", "mended-by"),
        ),
        (with_steps("  - {stress: splice, for: 3s, secure: true}"), vain("5:39", "secure")),
        (with_steps("  - {stress: splice, for: 3s, secure: false}"), "(none)".to_owned()),
        (with_steps("  - {stress: splice, for: 3s, dir: uvsinkb}"), vain("5:36", "dir: uvsinkb")),
        (
            with_steps("  - {stress: splice, for: 3s, beside: [{interference: ksm, secure: true}]}"),
            vain("5:68", "secure"),
        ),
        (
            top("protection: emulated\nexpect: [{title: x, mended-by: []}]"),
            "a.yaml:4:32: mended-by: expected 1 to 4 entries, found 0".to_owned(),
        ),
        (
            top("protection: emulated\nuvsim: {fix: [dio, dio]}"),
            "a.yaml:4:20: fix: dio is given twice".to_owned(),
        ),
        (
            top("protection: emulated\nuvsim: {fix: [splic]}"),
            "a.yaml:4:15: fix: expected splice, vmsplice, zerocopy or dio, found 'splic'\n    did you mean 'splice'?"
                .to_owned(),
        ),
        (
            top("protection: emulated\nuvsim: {early: yes}"),
            "a.yaml:4:16: early: expected true or false, found 'yes'".to_owned(),
        ),
        (
            top("protection: emulated\nuvsim: {seed: 5}"),
            "a.yaml:4:9: unknown field 'seed' in the knobs of the emulated ultravisor".to_owned(),
        ),
    ] {
        let problems = problems(&yaml);
        assert!(problems.starts_with(&told), "{yaml}\n{problems}");
    }
    // One mistake is one problem.
    let once = problems(&top("protection: emulate\nuvsim: {busy: 5}"));
    assert_eq!(once.matches("a.yaml").count(), 1, "{once}");
}

#[test]
fn every_knob_has_its_bounds() {
    let knob = |text: &str| problems(&top(&format!("protection: emulated\nuvsim: {{{text}}}")));
    for name in ["busy", "partial", "export-failure", "owner-mismatch"] {
        assert_eq!(knob(&format!("{name}: 0")), "(none)");
        assert_eq!(knob(&format!("{name}: 100")), "(none)");
        let above = knob(&format!("{name}: 101"));
        assert!(above.contains(&format!("{name}: expected a number from 0 to 100, found '101'")), "{above}");
    }
    assert_eq!(knob("freeze-delay: 0s"), "(none)");
    assert_eq!(knob("freeze-delay: 1ms"), "(none)");
    let above = knob("freeze-delay: 1001us");
    assert!(above.contains("freeze-delay: expected a time from 0s to 1ms, found '1001us'"), "{above}");
}
