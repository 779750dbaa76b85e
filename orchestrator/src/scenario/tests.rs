//! The checker as a person meets it: good scenarios, and what is said of bad ones.

use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use include_dir::{Dir, include_dir};
use proptest::prelude::*;

use super::executable::ReadFile;
use super::programs::Program;
use super::*;

mod beside;
mod emulated;
mod library;
mod share;
mod touches;
mod write;

const CATALOG: &str = "
- name: splice
  purpose: files through pipes
  kernel: do_splice
  args:
    - {name: mode, kind: choice, choices: [all, file-file, file-pipe-file], default: all, help: paths}
    - {name: max-length, kind: size, default: 64K, min: 1, max: 16M, help: bytes}
    - {name: tries, kind: number, default: 3, min: 1, max: 9, help: tries}
    - {name: direct, kind: flag, help: O_DIRECT}
- {name: sendfile, purpose: files to sockets, kernel: do_sendfile}
- {name: dio, purpose: direct I/O, kernel: iomap_dio_rw}
";

const INTERFERENCE: &str = "
- name: compact
  purpose: compact memory
  kernel: compact_zone
  args:
    - {name: rate, kind: number, default: 5, min: 1, max: 1000, help: acts a second}
    - {name: all, kind: flag, help: everything}
- {name: ksm, purpose: merge pages, kernel: ksm_do_scan}
";

/// The repository's own scenarios.
static SCENARIOS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../scenarios");

/// Every path is this file.
pub(crate) struct OneFile<'a>(pub(crate) &'a [u8]);

impl ReadFile for OneFile<'_> {
    fn locate(&self, path: &Utf8Path) -> Utf8PathBuf {
        Utf8Path::new("/home/me").join(path)
    }
    fn read(&self, _: &Utf8Path, most: u64) -> io::Result<Vec<u8>> {
        if self.0.len() as u64 > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(self.0.to_vec()) }
    }
}

/// The least that passes for a program: a big-endian 64-bit ELF header of EM_S390 with one PT_LOAD.
pub(crate) fn static_elf() -> Vec<u8> {
    let mut elf = vec![0; 64 + 56];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    elf[17] = 2; // e_type: ET_EXEC
    elf[19] = 22; // e_machine: EM_S390
    elf[23] = 1; // e_version
    elf[39] = 64; // e_phoff
    elf[53] = 64; // e_ehsize
    elf[55] = 56; // e_phentsize
    elf[57] = 1; // e_phnum
    elf[67] = 1; // p_type: PT_LOAD
    elf
}

pub(crate) fn catalog() -> Catalog {
    let modules = ["tripwire", "other"].map(str::to_owned).to_vec();
    let catalog = Catalog::parse("programs.yaml", CATALOG).unwrap().with_modules(modules);
    catalog.with_interference("i.yaml", INTERFERENCE).unwrap()
}

fn check_text(text: &str, content: &[u8]) -> Result<Scenario, Vec<Problem>> {
    check(Source { file: "a.yaml", text }, &catalog(), &OneFile(content))
}

pub(crate) fn parse_with(text: &str, content: &[u8]) -> Scenario {
    check_text(text, content).unwrap_or_else(|problems| panic!("{}", print(&problems)))
}

pub(crate) fn parse(text: &str) -> Scenario {
    parse_with(text, &static_elf())
}

fn print(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

fn problems(text: &str) -> String {
    match check_text(text, &static_elf()) {
        Ok(_) => "(none)".to_owned(),
        Err(problems) => print(&problems),
    }
}

/// A scenario with these steps.
fn with_steps(steps: &str) -> String {
    format!("name: a\npurpose: p\nmachine: {{disks: [{{format: raw}}, {{}}]}}\nsteps:\n{steps}\n")
}

const SPLICE: &str = "  - {stress: splice, for: 3s}";

#[test]
fn every_field_is_understood() {
    let scenario = parse(
        "
name: splice-files
purpose: one line
hunts: [leaks, 'lost bytes']
needs: [kvm, pv]
modules: [tripwire, other]
machine: {cpus: 4, memory: 1G, disks: [{size: 64M, format: raw}, {}], share: true, kernel-args: [quiet, a=b]}
heartbeat: 1m
steps:
  - name: first
    stress: splice
    args: {tries: 4, mode: file-file, direct: true, max-length: 4K}
    for: 1.5s
    workers: 2
    limit: 2m
  - {stress: splice, ops: 1000, dir: tmp}
  - {exec: ./MyTest_1.elf, args: [--fast, 1, no], workers: 3}
  - {write: /proc/sys/vm/drop_caches, text: 3, limit: 5s}
expect: [{title: 'WARNING in *', when: kernel >= 6.5}]
known: [{fingerprint: warn-foo, reason: old}]
matrix: {cpus: [1, 2], seeds: [0, 3], args: {first: {mode: [all, file-file]}}}
",
    );
    assert_eq!(scenario.name.as_str(), "splice-files");
    assert_eq!(scenario.hunts, ["leaks", "lost bytes"]);
    assert_eq!(scenario.needs, [Need::Kvm, Need::Pv]);
    assert_eq!(scenario.modules, ["tripwire", "other"]);
    let disks = vec![
        Disk { size_mib: 64, format: DiskFormat::Raw },
        Disk { size_mib: 256, format: DiskFormat::Ext4 },
    ];
    let kernel_args = vec!["quiet".to_owned(), "a=b".to_owned()];
    assert_eq!(scenario.machine, MachineSpec { cpus: 4, memory_mib: 1024, disks, share: true, kernel_args });
    assert_eq!(scenario.heartbeat, HeartbeatLimit(Duration::from_secs(60)));
    let steps: Vec<_> = scenario
        .steps
        .iter()
        .map(|step| format!("{} {:?} {}", step.name, step.limit, step.action.arguments().join(" ")))
        .collect();
    assert_eq!(
        steps,
        [
            "first 120s --direct --max-length=4096 --mode=file-file --tries=4 --for=1500 --dir=/mnt/1",
            "splice 60s --ops=1000 --dir=/tmp",
            "mytest-1 60s --fast 1 no",
            "write 5s ",
        ]
    );
    let Action::Exec { path, sha256, workers, .. } = &scenario.steps[2].action else { panic!() };
    assert_eq!((path.as_str(), *workers), ("/home/me/./MyTest_1.elf", 3));
    assert_eq!(*sha256, check::sha256(&static_elf()));
    let write = Action::Write { path: "/proc/sys/vm/drop_caches".into(), text: "3".into() };
    assert_eq!(scenario.steps[3].action, write);
    assert_eq!(scenario.expect[0].pattern, Pattern::Title("WARNING in *".into()));
    assert_eq!(scenario.expect[0].when.as_ref().unwrap().to_string(), "kernel >= 6.5");
    assert_eq!(scenario.known[0].reason, "old");
    let values = vec![ArgValue::Text("all".into()), ArgValue::Text("file-file".into())];
    let axis = ArgAxis { step: "first".into(), arg: "mode".into(), values };
    assert_eq!(
        scenario.matrix,
        Matrix { cpus: vec![1, 2], seeds: vec![0, 3], freeze_delay: Vec::new(), args: vec![axis] }
    );
}

#[test]
fn what_is_not_given_has_its_default() {
    let scenario = parse("name: a\npurpose: p\nsteps: [{stress: splice, for: 3s}]");
    let machine = MachineSpec { cpus: 2, memory_mib: 512, disks: vec![], share: false, kernel_args: vec![] };
    assert_eq!(scenario.machine, machine);
    assert_eq!(scenario.heartbeat.0, Duration::from_secs(30));
    assert_eq!(scenario.steps[0].limit, Duration::from_secs(33));
    let Action::Stress { workers, dir, args, .. } = &scenario.steps[0].action else { panic!() };
    assert_eq!((*workers, dir.as_str(), args.len()), (1, "/tmp", 0));
    assert_eq!(scenario.matrix, Matrix::default());
}

#[test]
fn steps_without_a_name_get_a_free_one() {
    let steps = "  - {stress: splice, for: 3s}\n  - {stress: splice, for: 3s}\n  - {stress: dio, for: 3s, name: splice-2}\n  - {exec: ./+++, name: splice-3}\n  - {exec: ./+++}";
    let names: Vec<_> = parse(&with_steps(steps)).steps.into_iter().map(|step| step.name).collect();
    assert_eq!(names, ["splice", "splice-4", "splice-2", "splice-3", "exec"]);
}

#[test]
fn a_wrong_scenario_is_told_everything_at_once() {
    let text = "\
name: Splice Files
purpos: one line
hunts: leaks
needs: [pvv, [kvm]]
machine:
  cpus: 65
  memory: 512
  disk: []
  disks: [{size: 1M}, {format: ext3}]
  kernel-args: [a b]
heartbeat: 30
steps:
  - stress: slpice
    for: 3s
  - stress: splice
    args: {moed: all, mode: file-fiel, tries: 10, seed: 1, direct: }
    for: 3s
    ops: 1000
  - {stres: splice, for: 3s}
  - {stress: splice, exec: ./a, for: 3s}
  - stress: splice
    for: 3s
    limit: 2s
    workers: 0
    dir: disk1
    bogus: \"\\e[31m\"
  - {write: proc, text: ''}
expect: [{title: a, fingerprint: b}, {when: kernel = 6}]
known: [{title: a}]
matrix: {cpus: [1, 1], seeds: [], args: {nope: {}}}
";
    insta::assert_snapshot!(problems(text));
}

#[test]
fn broken_yaml_has_a_place_too() {
    let deep = format!("name: {}", "[".repeat(40));
    let large = format!("# {}", "x".repeat(1 << 20));
    let texts: [&str; 16] = [
        "",
        "# nothing\n",
        "---\n",
        "just text",
        "- a\n- b",
        "name: [a, b",
        "name: a\n\tpurpose: p",
        "name: a\n  purpose: p: q",
        "name: 'a",
        "name: a\nname: b\nsteps: []",
        "a: &x [1]\nb: *x",
        "a: &x [*x, *x]",
        "name: &x a\npurpose: *x\nhunts: *x\nmachine: *x\nsteps: *x",
        "name: !!str a",
        "? [a]\n: b",
        "name: a\n---\nname: b",
    ];
    let mut report = String::new();
    for text in texts.into_iter().chain([deep.as_str(), large.as_str()]) {
        let shown: String = text.chars().take(60).collect();
        report += &format!("{shown:?}\n{}\n\n", problems(text));
    }
    insta::assert_snapshot!(report);
}

/// Each row breaks one bound by one; just within it all is well.
#[test]
fn every_bound_holds_on_both_sides() {
    let steps = |count: usize| with_steps(&vec![SPLICE; count].join("\n"));
    let machine = |text: &str| format!("name: a\npurpose: p\nmachine: {{{text}}}\nsteps:\n{SPLICE}\n");
    let top = |text: &str| format!("name: a\npurpose: p\n{text}\nsteps:\n{SPLICE}\n");
    let named = |name: &str| format!("name: {name}\npurpose: p\nsteps:\n{SPLICE}\n");
    let list = |item: &str, count: usize| vec![item; count].join(", ");
    let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let step = |text: &str| with_steps(&format!("  - {{{text}}}"));
    let word = |length: usize| "x".repeat(length);
    let rows: Vec<(String, String)> = vec![
        (named(&word(64)), named(&word(65))),
        (top(&format!("hunts: [{}]", list("x", 16))), top(&format!("hunts: [{}]", list("x", 17)))),
        (top(&format!("hunts: [{}]", word(200))), top(&format!("hunts: [{}]", word(201)))),
        (top("heartbeat: 5s"), top("heartbeat: 4999ms")),
        (top("heartbeat: 10m"), top("heartbeat: 601s")),
        (machine("cpus: 1"), machine("cpus: 0")),
        (machine("cpus: 64"), machine("cpus: 65")),
        (machine("memory: 128M"), machine("memory: 127M")),
        (machine("memory: 64G"), machine("memory: 65G")),
        (machine(&format!("disks: [{}]", list("{}", 8))), machine(&format!("disks: [{}]", list("{}", 9)))),
        (machine("disks: [{size: 16M}]"), machine("disks: [{size: 15M}]")),
        (machine("disks: [{size: 64G}]"), machine("disks: [{size: 65G}]")),
        (machine("disks: [{size: 300M, format: xfs}]"), machine("disks: [{size: 299M, format: xfs}]")),
        (
            machine(&format!("kernel-args: [{}]", word(128))),
            machine(&format!("kernel-args: [{}]", word(129))),
        ),
        (
            machine(&format!("kernel-args: [{}]", list("x", 32))),
            machine(&format!("kernel-args: [{}]", list("x", 33))),
        ),
        (
            machine(&format!("kernel-args: [{}]", list(&word(127), 4))),
            machine(&format!("kernel-args: [{}, x]", list(&word(127), 4))),
        ),
        (steps(64), steps(65)),
        (step("stress: splice, for: 10ms"), step("stress: splice, for: 9ms")),
        (step("stress: splice, for: 24h"), step("stress: splice, for: 24h 1s")),
        (step("stress: splice, ops: 1"), step("stress: splice, ops: 0")),
        (step("stress: splice, ops: 1000000000000"), step("stress: splice, ops: 1000000000001")),
        (step("stress: splice, for: 3s, workers: 64"), step("stress: splice, for: 3s, workers: 65")),
        (step("stress: splice, for: 3s, limit: 3s"), step("stress: splice, for: 3s, limit: 2s")),
        (step("exec: ./a, limit: 1s"), step("exec: ./a, limit: 999ms")),
        (step("exec: ./a, limit: 25h"), step("exec: ./a, limit: 25h 1s")),
        (
            step(&format!("exec: ./a, args: [{}]", list("x", 64))),
            step(&format!("exec: ./a, args: [{}]", list("x", 65))),
        ),
        (
            step(&format!("exec: ./a, args: [{}]", word(1024))),
            step(&format!("exec: ./a, args: [{}]", word(1025))),
        ),
        (step(&format!("write: /{}, text: x", word(255))), step(&format!("write: /{}, text: x", word(256)))),
        (
            step(&format!("write: /a, text: {}", word(1024))),
            step(&format!("write: /a, text: {}", word(1025))),
        ),
        (
            top(&format!("expect: [{}]", list("{title: x}", 64))),
            top(&format!("expect: [{}]", list("{title: x}", 65))),
        ),
        (
            top(&format!("known: [{}]", list("{title: x, reason: y}", 64))),
            top(&format!("known: [{}]", list("{title: x, reason: y}", 65))),
        ),
        (
            top(&format!("matrix: {{cpus: [{}]}}", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16")),
            top(&format!(
                "matrix: {{cpus: [{}]}}",
                "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17"
            )),
        ),
        (top("matrix: {seeds: [9007199254740991]}"), top("matrix: {seeds: [9007199254740992]}")),
        (
            top(&format!("matrix: {{seeds: [{}]}}", numbers(256))),
            top(&format!("matrix: {{seeds: [{}]}}", numbers(257))),
        ),
        (
            top(&format!("matrix: {{cpus: [1, 2], seeds: [{}]}}", numbers(128))),
            top(&format!("matrix: {{cpus: [1, 2], seeds: [{}]}}", numbers(129))),
        ),
        (top("matrix: {args: {splice: {tries: [1, 2]}}}"), top("matrix: {args: {splice: {tries: []}}}")),
    ];
    let mut report = String::new();
    for (good, bad) in rows {
        assert_eq!(problems(&good), "(none)", "{good}");
        report += &format!("{}\n", problems(&bad));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn options_in_a_matrix_are_checked_like_those_of_a_step() {
    let text = "\
name: a
purpose: p
steps:
  - {stress: splice, for: 3s}
  - {write: /a, text: b}
matrix:
  args:
    slpice: {mode: [all]}
    write: {mode: [all]}
    splice:
      mode: [all, al, [all]]
      moed: [all]
      tries: 3
      max-length: [4K, 4096]
";
    insta::assert_snapshot!(problems(text));
}

#[test]
fn a_module_is_one_of_farms_own_and_is_there_once() {
    let text = "name: a\npurpose: p\nsteps: []\nmodules: [tripwire, tripwrie, ext4, ../x, tripwire]\n";
    insta::assert_snapshot!(problems(text), @r"
    a.yaml:4:21: unknown module 'tripwrie'
        did you mean 'tripwire'?
    a.yaml:4:31: unknown module 'ext4'
        one of: tripwire, other
    a.yaml:4:37: modules: expected a name of a-z, 0-9 and inner '-', '_', '.' (up to 64 bytes), found '../x'
    a.yaml:4:43: modules: tripwire is given twice
    ");
}

#[test]
fn a_step_with_a_problem_does_not_make_its_matrix_wrong() {
    let text = "name: a\npurpose: p\nsteps: [{stress: splice}]\nmatrix: {args: {splice: {mode: [all]}}}\n";
    assert_eq!(
        problems(text),
        "a.yaml:3:9: a stress step needs `for` or `ops`, and not both\n    as in `for: 3s` or `ops: 1000`"
    );
}

#[test]
fn an_unfit_program_says_how_to_build_it() {
    let text = with_steps("  - exec: ./my test");
    let print = |content: &[u8]| print(&check_text(&text, content).unwrap_err());
    assert_eq!(
        print(b"#!/bin/sh"),
        "a.yaml:5:11: exec: /home/me/./my test is not an ELF file\n    \
         build it with s390x-linux-gnu-gcc -static"
    );
    let large = vec![0; (64 << 20) + 1];
    assert_eq!(print(&large), "a.yaml:5:11: exec: cannot read /home/me/./my test\n    file too large");
}

pub(crate) fn library() -> Library {
    let catalog = Catalog::embedded();
    let catalog = catalog.unwrap_or_else(|problems| panic!("{}", print(&problems)));
    let mut modules = crate::guest::module_names(&crate::assets::GUESTS);
    modules.extend(crate::guest::Manifest::parse(crate::assets::LITE_YAML).unwrap().known_modules());
    Library { scenarios: SCENARIOS.clone(), catalog: catalog.with_modules(modules) }
}

#[test]
fn the_repositorys_scenarios_are_in_order() {
    let all = library().all().unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
    for name in ["smoke", "splice", "sendfile", "dio", "crash-unexpected", "crash-expected"] {
        assert!(names.contains(&name), "{name} is missing");
    }
    for (index, scenario) in all.iter().enumerate() {
        let stem = Utf8Path::new(&scenario.file).file_stem();
        assert_eq!(stem, Some(scenario.name.as_str()), "{} has another name than its file", scenario.file);
        assert!(!names[..index].contains(&scenario.name.as_str()), "{} is there twice", scenario.name);
        assert!(!scenario.hunts.is_empty(), "{} does not say what it hunts", scenario.file);
    }
    for folder in SCENARIOS.dirs() {
        let group = folder.path().to_str().unwrap();
        assert!(!names.contains(&group), "{group} is a scenario and a group");
        assert!(!library().load_all(group).unwrap().is_empty(), "the group {group} is empty");
    }
}

#[test]
fn a_group_stands_for_all_its_scenarios() {
    let library = library();
    let names = |word: &str| {
        let scenarios = library.load_all(word).unwrap();
        scenarios.iter().map(|scenario| scenario.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("example"), ["crash-expected", "crash-unexpected"]);
    assert_eq!(names("smoke"), ["smoke"]);
    assert_eq!(library.group_of(&library.load("crash-expected").unwrap()), Some("example"));
    assert_eq!(library.group_of(&library.load("smoke").unwrap()), None);
    assert_eq!(
        library.load("example").unwrap_err().to_string(),
        "'example' is a group of scenarios, and one is wanted: crash-expected, crash-unexpected"
    );
    let LoadError::Unknown { hint, .. } = library.load_all("ample").unwrap_err() else { panic!() };
    assert_eq!(hint.as_deref(), Some("did you mean 'example'?"));
}

/// Words of scenarios, so that random text gets past the first lines of the checker.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "name: ",
        "steps:",
        "\n",
        "\n  ",
        "\n  - ",
        "stress: ",
        "splice",
        "args: ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "for: ",
        "3s",
        "matrix: ",
        "machine: ",
        "disks: ",
        "*x",
        "&x ",
        "!!str ",
        "'",
        "\"",
        "|",
        ">",
        "#",
        "---",
        "? ",
        ": ",
        "\t",
        "cpus",
        "exec: ",
        "write: ",
        "known: ",
        "when: ",
        "kernel >= 6",
        "\u{feff}",
        "é",
        "%",
        "~",
    ];
    prop_oneof![4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the text, it is understood or a problem within the text is told.
    #[test]
    fn no_text_breaks_the_checker(pieces in proptest::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        if let Err(problems) = check_text(&text, b"") {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.line >= 1 && problem.column >= 1);
                prop_assert!(problem.line <= text.lines().count() + 2, "{problem}");
                prop_assert!(!problem.message.chars().any(char::is_control), "{problem}");
            }
        }
    }
}
