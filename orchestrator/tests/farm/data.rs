//! Wrong data: a program in which a bug is planted must end as a hit of kind `data`, whichever of its bugs it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use farm::scenario::Catalog;
use farm::scenario::programs::{Program, header};

use super::harness::{Farm, hits, verdict};

/// These read none of their own data back: they act on that of the workers.
const WITHOUT_BUGS: [&str; 2] = ["memory-high", "memory-reclaim"];
/// TCG has no huge pages, and Debian's kernel no NUMA nodes.
const SKIPPED: [&str; 2] = ["hugepage", "migrate"];

/// Fifty programs in one guest: on a host that does other things too, that is minutes.
const LONG: Duration = Duration::from_secs(400);

fn guests(directory: &str) -> Utf8PathBuf {
    Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests")).join(directory)
}

/// A source file and the headers that it includes, by name. `NAME.args.h` is made, and lists no bugs.
fn read(file: &str, texts: &mut BTreeMap<String, String>) {
    let place = ["stress", "interference"].map(|directory| guests(directory).join(file));
    let Some(path) = place.iter().find(|path| path.exists()) else { return };
    let text = std::fs::read_to_string(path).unwrap();
    if texts.insert(file.to_owned(), text.clone()).is_some() {
        return;
    }
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) {
            read(header, texts);
        }
    }
}

/// The bugs that a program and its headers ask for: `planted(path, 3)`, or `STRESS_PLANT == 3` in a second thread.
fn bugs(program: &str) -> BTreeSet<u32> {
    let mut texts = BTreeMap::new();
    read(&format!("{program}.c"), &mut texts);
    let asked = |text: &str, question: &str| {
        let answers = text.split(question).skip(1);
        let number = |rest: &str| rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok();
        answers.filter_map(number).collect::<Vec<u32>>()
    };
    let questions = ["planted(path, ", "STRESS_PLANT == "];
    texts.values().flat_map(|text| questions.map(|question| asked(text, question)).concat()).collect()
}

/// Short turns, and enough of them for each bug: it comes in the seventh, and not to every path and kind of memory.
pub(crate) fn arguments(program: &Program, bug: u32) -> Vec<String> {
    let has = |name: &str| program.args.iter().any(|arg| arg.name == name);
    let ops = match program.name.as_str() {
        // Calls of tee(2): in a turn of a storm they are 16 for each pipe.
        "tee" => 250,
        // A turn is some eight of them.
        "pagecache" => 120,
        // Or some 250.
        "freeze" => 4000,
        // Up to 32.
        "folio" => 400,
        // Two to four on the way through a pipe, and one of its bugs is a read's alone.
        "flakey" => 240,
        _ => 60,
    };
    let common = ["--seed=1".to_owned(), format!("--worker={bug}"), format!("--ops={ops}")];
    let own = [
        ("max-length", "8K"),
        ("file-size", "128K"),
        ("rate", "1000"),
        // Two: a copy can be shorter than the one before it.
        ("fan-out", "2"),
        // Several requests in flight: one can complete twice.
        ("engine", "aio"),
        ("device", "disk1"),
        ("churn", "still"),
    ];
    let own = own.iter().filter(|(name, _)| has(name)).map(|(name, value)| format!("--{name}={value}"));
    let secure = program.secure_only.then_some("--secure");
    // Of its paths that leave the kernel whole, the one with a second process.
    let mode = (program.name == "freeze").then_some("--mode=pipe");
    let secure = secure.into_iter().chain(mode).map(str::to_owned);
    let dir = if program.share_only { "/mnt/share" } else { "/mnt/0" };
    common.into_iter().chain([format!("--dir={dir}")]).chain(own).chain(secure).collect()
}

/// Compiles programs so that `--worker` chooses a bug of theirs.
pub(crate) struct Planter<'f> {
    farm: &'f Farm,
    options: Vec<String>,
}

impl<'f> Planter<'f> {
    pub(crate) fn new(farm: &'f Farm) -> Self {
        let mut options = vec!["-DSTRESS_PLANT=stress_options.worker".to_owned()];
        for include in [farm.path(""), guests("stress"), guests("interference"), guests("modules/uvsim")] {
            options.extend(["-I".to_owned(), include.into_string()]);
        }
        let planter = Self { farm, options };
        planter.compile("common.o", &["-c", guests("stress").join("common.c").as_str()]);
        planter
    }

    fn compile(&self, target: &str, inputs: &[&str]) {
        let options = self.options.iter().map(String::as_str);
        self.farm.compile(target, &options.chain(inputs.iter().copied()).collect::<Vec<_>>());
    }

    pub(crate) fn plant(&self, directory: &str, program: &Program) {
        let Program { name, .. } = program;
        self.farm.file(&format!("{name}.args.h"), header(program));
        let source = guests(directory).join(format!("{name}.c"));
        self.compile(name, &[source.as_str(), self.farm.path("common.o").as_str()]);
    }
}

/// Every second program from `first` on, in one guest: to start it takes longer than what they do, but a scenario has
/// only so many steps.
#[track_caller]
fn every_bug_is_a_hit(first: usize) {
    let catalog = Catalog::embedded().unwrap();
    let stress = catalog.programs().iter().map(|program| ("stress", program));
    let programs = stress.chain(catalog.interference().iter().map(|program| ("interference", program)));
    let farm = Farm::new();
    let planter = Planter::new(&farm);
    // ext4: tmpfs has no direct I/O in 6.1. A disk to swap to; a second CPU and movable memory to be taken away.
    // Secure pages that reach a disk are no bug of a program's: the ultravisor's fixes keep that off.
    let mut scenario = "name: plant\npurpose: a test\nprotection: emulated\n\
                        uvsim: {fix: [splice, vmsplice, dio]}\n\
                        modules: [loop, dm-mod, dm-flakey, contig]\nmachine: {cpus: 2, memory: 1G, \
                        disks: [{size: 64M}, {size: 64M, format: raw}], share: true, \
                        kernel-args: [movablecore=512M]}\n\
                        steps:\n"
        .to_owned();
    let mut steps = Vec::new();
    for (directory, program) in programs.skip(first).step_by(2) {
        let name = &program.name;
        let bugs = bugs(name);
        assert_eq!(bugs.is_empty(), WITHOUT_BUGS.contains(&name.as_str()), "bugs of {name}: {bugs:?}");
        if bugs.is_empty() || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        planter.plant(directory, program);
        for bug in bugs {
            let step = format!("{name}-{bug}");
            let arguments = arguments(program, bug);
            scenario += &format!("  - {{name: {step}, exec: {name}, args: {arguments:?}}}\n");
            steps.push(step);
        }
    }
    let scenario = farm.file("plant.yaml", scenario);
    let command = farm.command(&["run", "--json", scenario.as_str()]);
    let run = farm.finish_within(LONG, command).with_code(100);
    let life = run.life("plant");
    assert_eq!(verdict(&life).0, "hit", "{life}");
    for (hit, (title, standing)) in life["hits"].as_array().unwrap().iter().zip(hits(&life)) {
        assert_eq!((&hit["judged"]["hit"]["kind"], standing), (&"data".into(), "new"), "{title}");
    }
    let unseen = |step: &String| {
        let wrong = format!("wrong data in {step}: ");
        !hits(&life).iter().any(|(title, _)| title.starts_with(&wrong))
    };
    let unseen: Vec<&String> = steps.iter().filter(|step| unseen(step)).collect();
    assert!(unseen.is_empty(), "bugs that were not seen: {unseen:?}");
}

#[test]
fn every_planted_bug_of_half_the_programs_is_a_hit() {
    every_bug_is_a_hit(0);
}

#[test]
fn every_planted_bug_of_the_other_programs_is_a_hit() {
    every_bug_is_a_hit(1);
}
