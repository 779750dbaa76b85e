//! What is written is read as what it was.

use super::*;

fn read_back(scenario: &Scenario) {
    let text = write(scenario);
    let read =
        check(Source { file: &scenario.file, text: &text }, &library().catalog, &OneFile(&static_elf()));
    let read = read.unwrap_or_else(|problems| panic!("{}\nof\n{text}", print(&problems)));
    assert_eq!(Scenario { sha256: scenario.sha256.clone(), ..read }, *scenario, "{text}");
}

#[test]
fn every_scenario_of_the_repository_is_read_back() {
    let all = library().all().unwrap();
    assert!(all.len() > 50);
    all.iter().for_each(read_back);
}

#[test]
fn odd_words_names_and_places_are_read_back() {
    let text = r##"
name: "1.0"
purpose: "a: b # c \"d\" é"
hunts: ["- x", "null", "{}", "a, b", "*", "~", "'"]
needs: [pv, kvm]
protection: emulated
uvsim: {fix: [dio, splice], busy: 1, partial: 2, export-failure: 3, owner-mismatch: 4, freeze-delay: 5us, pin-shared: true, early: true}
modules: [tripwire, dm-mod]
trace: ["sched:sched_switch", "irq:*", a.isra.0]
machine: {cpus: 3, memory: 1G, disks: [{size: 64M, format: raw}, {format: xfs, size: 300M}], share: true, kernel-args: ["a=b,c", "[x]", "{y}", "#"]}
heartbeat: 10m
steps:
  - {write: /a, text: "x\ty\nz \\ \" 'q' "}
  - {write: /b, text: "-"}
  - {name: write, write: /c, text: "3"}
  - {name: tee-2, stress: tee, for: 1500ms, dir: tmp}
  - {stress: tee, ops: 5, dir: disk1, limit: 90s, secure: true}
  - {stress: tee, ops: 5, dir: uvsinkb, args: {mode: storm, max-length: 4097}}
  - {stress: sendfile, for: 2h, args: {udp-checksums: true}, workers: 64}
  - {stress: sendfile, for: 2h, args: {udp-checksums: false}}
  - {stress: share, ops: 1}
  - {exec: "a dir/Prog 1", args: ["", " ", "-x"], workers: 2}
  - {exec: "../b", beside: [{interference: swap, args: {device: uvsinkb}, secure: true}], limit: 5s}
  - {stress: gup, for: 1s, touches: [{function: a|b.isra.0, count: 7, when: kernel >= 6.5 and protection == emulated}]}
expect:
  - {title: "WARNING in *", mended-by: [dio], when: kernel < 6.10}
  - {fingerprint: "data:x:*"}
known:
  - {fingerprint: "a b", reason: "see https://x.y/z?a=b#c"}
matrix: {cpus: [1, 64], seeds: [0, 9007199254740991], freeze-delay: [0s, 1ms], args: {tee-2: {mode: [all, storm], fan-out: [1, 2]}, gup: {churn: [fork]}}}
"##
    // An empty argument is none.
    .replace(r#"["", " ", "-x"]"#, r#"[" ", "-x"]"#);
    let files = OneFile(&static_elf());
    let scenario = check(Source { file: "a.yaml", text: &text }, &library().catalog, &files);
    let mut scenario = scenario.unwrap_or_else(|problems| panic!("{}", print(&problems)));
    for step in &mut scenario.steps {
        if let Action::Exec { path, .. } = &step.action {
            assert!(path.is_absolute());
        }
    }
    read_back(&scenario);
}

#[test]
fn what_is_by_itself_as_it_should_be_is_not_written() {
    let text = "name: a\npurpose: p\nsteps:\n  - {stress: splice, for: 3s}\n  - {stress: splice, ops: 2, workers: 2}\n";
    let scenario = library();
    let files = OneFile(b"");
    let scenario = check(Source { file: "a.yaml", text }, &scenario.catalog, &files).unwrap();
    assert_eq!(write(&scenario), text);
    let bare = Scenario { steps: Vec::new(), ..scenario };
    assert_eq!(write(&bare), "name: a\npurpose: p\nsteps: []\n");
}
