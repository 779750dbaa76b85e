//! Options planted between real configurations of Linux 6.1, whose own `olddefconfig` decides what each step comes to: a
//! trial looks whether the planted ones hold. The sources stay in `FARM_TEST_CACHE` (default: target/test-cache).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "how many configurations and trials it took")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use farm::bisect::config::{
    Change, Changes, Difference, Found, Known, Next, Request, Sampling, TestOutcome, Verdict, next,
};
use farm::cache::{Cache, quiet};
use farm::kernel::{
    Base, BuildRequest, Catalog, Compiler, ConfigRecipe, Configurator, Fetcher, MirrorChoice, Options,
    Refresh, Tree, TreeId, configuration,
};

const RUNS: u64 = 5;

fn cache() -> Cache {
    let default = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache");
    Cache::new(&std::env::var("FARM_TEST_CACHE").map_or(default, Utf8PathBuf::from)).unwrap()
}

fn sources(cache: &Cache) -> (Tree, TreeId) {
    let fetcher = Fetcher { cache, refresh: Refresh::No, mirrors: MirrorChoice::OfHost, progress: &quiet };
    fetcher.sources(Catalog::embedded().unwrap().tree("linux-6.1").unwrap()).unwrap()
}

/// s390's configurations, as they stand in the sources.
fn of_tree(cache: &Cache, (tree, id): (&Tree, &TreeId), base: Base) -> String {
    let compiler = Compiler::default();
    let config = ConfigRecipe { name: base.to_string(), base, fragments: Vec::new(), compiler };
    let request = BuildRequest::new("planted", &config);
    configuration(cache, (tree, id), &request, &quiet).unwrap()
}

/// A configuration that differs in more: of its modules every seventh is off, and every third of the others built in.
fn widened(text: &str) -> String {
    let mut modules = 0;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let module = line.strip_suffix("=m").filter(|name| name.starts_with("CONFIG_"));
        modules += u32::from(module.is_some());
        lines.push(match module {
            Some(name) if modules % 7 == 0 => format!("# {name} is not set"),
            Some(name) if modules % 3 == 0 => format!("{name}=y"),
            _ => line.to_owned(),
        });
    }
    lines.push("CONFIG_DEFAULT_HOSTNAME=\"planted\"".to_owned());
    lines.push("CONFIG_LOG_BUF_SHIFT=20\n".to_owned());
    lines.join("\n")
}

/// A pair of configurations, and the tree that settles what lies between.
struct Ground {
    configurator: Configurator,
    difference: Difference,
    /// What was settled before, so that several searches ask but once.
    settled: BTreeMap<Request, Options>,
}

impl Ground {
    fn new(mut configurator: Configurator, good: &str, bad: &str) -> Self {
        let good = configurator.settle(good).unwrap();
        let bad = configurator.settle(bad).unwrap();
        let difference = Difference::between(good, &bad, configurator.kconfig());
        Self { configurator, difference, settled: BTreeMap::new() }
    }

    fn settle(&mut self, request: &Request) -> Changes {
        let Self { configurator, difference, settled } = self;
        let options = settled
            .entry(request.clone())
            .or_insert_with(|| configurator.settle(&difference.asked(request)).unwrap());
        difference.changes_in(options)
    }

    /// Whether all of these have the bad value.
    fn holds(&self, planted: &[&str], changes: &Changes) -> bool {
        planted.iter().all(|name| {
            let planted = self.difference.changes().iter().find(|change| change.option == *name);
            let Change { good, bad, .. } = planted.unwrap_or_else(|| panic!("{name} is the same in both"));
            changes.get(name).unwrap_or(good) == bad
        })
    }
}

/// Planted options, and what should be found: the causes, and what they drag along.
struct Case {
    name: &'static str,
    planted: &'static [&'static str],
    causes: &'static [&'static str],
    dragged: &'static [&'static str],
    /// How many of a bad configuration's trials show it.
    percent: u64,
}

const fn case(
    name: &'static str,
    planted: &'static [&'static str],
    causes: &'static [&'static str],
    dragged: &'static [&'static str],
) -> Case {
    Case { name, planted, causes, dragged, percent: 100 }
}

const fn flaky(
    name: &'static str,
    planted: &'static [&'static str],
    causes: &'static [&'static str],
    dragged: &'static [&'static str],
) -> Case {
    Case { name, planted, causes, dragged, percent: 50 }
}

/// s390's defconfig against its debug_defconfig.
const DEBUG: [Case; 8] = [
    case("single", &["SLUB_DEBUG_ON"], &["SLUB_DEBUG_ON"], &[]),
    case("off", &["UEVENT_HELPER"], &["UEVENT_HELPER"], &[]),
    case("number", &["RCU_CPU_STALL_TIMEOUT"], &["RCU_CPU_STALL_TIMEOUT"], &[]),
    case("choice", &["PREEMPT"], &["PREEMPT"], &[]),
    case("leaf", &["FAIL_FUTEX"], &["FAIL_FUTEX"], &["FAULT_INJECTION"]),
    case("follows", &["LOCKDEP"], &["DEBUG_LOCK_ALLOC"], &[]),
    case("pair", &["SLUB_DEBUG_ON", "XFS_DEBUG"], &["SLUB_DEBUG_ON", "XFS_DEBUG"], &[]),
    flaky("flaky", &["DEBUG_VM_PGFLAGS"], &["DEBUG_VM_PGFLAGS"], &["DEBUG_VM"]),
];

/// defconfig against a debug_defconfig of which a third of the modules is built in, and a seventh off.
const WIDE: [Case; 15] = [
    case("single", &["PAGE_OWNER"], &["PAGE_OWNER"], &[]),
    case("off", &["UEVENT_HELPER"], &["UEVENT_HELPER"], &[]),
    case("choice", &["PREEMPT"], &["PREEMPT"], &[]),
    case("follows", &["LOCKDEP"], &["DEBUG_LOCK_ALLOC"], &[]),
    case("m to y", &["NILFS2_FS"], &["NILFS2_FS"], &[]),
    case("m to y leaf", &["L2TP_ETH"], &["L2TP_ETH"], &[]),
    case("m to n", &["JFS_FS"], &["JFS_FS"], &[]),
    case("not selected", &["CRYPTO_LIB_DES"], &["CRYPTO_DES", "CRYPTO_DES_S390"], &[]),
    case("string", &["DEFAULT_HOSTNAME"], &["DEFAULT_HOSTNAME"], &[]),
    case("number", &["LOG_BUF_SHIFT"], &["LOG_BUF_SHIFT"], &[]),
    case("leaf", &["PREEMPT_TRACER"], &["PREEMPT_TRACER"], &["PREEMPT"]),
    case("pair", &["KFENCE", "LOG_BUF_SHIFT"], &["KFENCE", "LOG_BUF_SHIFT"], &[]),
    case(
        "triple",
        &["KFENCE", "PREEMPT", "DEFAULT_HOSTNAME"],
        &["KFENCE", "PREEMPT", "DEFAULT_HOSTNAME"],
        &[],
    ),
    flaky("flaky", &["GUP_TEST"], &["GUP_TEST"], &[]),
    flaky("flaky pair", &["KFENCE", "WQ_WATCHDOG"], &["KFENCE", "WQ_WATCHDOG"], &[]),
];

/// Hits that come by chance, drawn from a seed.
struct Luck(u64);

impl Luck {
    /// Marsaglia's xorshift64 (Journal of Statistical Software 8:14, 2003).
    fn comes(&mut self, percent: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % 100 < percent
    }
}

/// What was found, in how many configurations and trials.
fn search(ground: &mut Ground, case: &Case, run: u64) -> (Found, usize, u32) {
    let sampling = match case.percent {
        100 => Sampling::Once,
        _ => Sampling::Repeated { wrong_at_most: 0.01, most_measured: 300 },
    };
    let mut luck = Luck(u64::MAX / 37 * run);
    let mut known = Known::default();
    loop {
        match next(&ground.difference, &known, sampling) {
            Next::Settle(request) => {
                let changes = ground.settle(&request);
                known.settle(request, changes);
            }
            Next::Try { changes, .. } => {
                let shows = ground.holds(case.planted, &changes) && luck.comes(case.percent);
                known.record(changes, if shows { TestOutcome::Hit } else { TestOutcome::Clean });
            }
            Next::Done(Verdict::Found(found)) => {
                let trials = known.tallies().map(|tally| tally.trials()).sum();
                return (found, known.tallies().count(), trials);
            }
            Next::Done(other) => panic!("{}: {other:?}", case.name),
        }
    }
}

fn names(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.option.as_str()).collect()
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names
}

/// Each case is found in each run, with nothing in it that could be left out.
fn check(ground: &mut Ground, cases: &[Case]) {
    println!("{} options differ", ground.difference.changes().len());
    let mut wrong = Vec::new();
    for case in cases {
        let found: Vec<_> = (1..=RUNS).map(|run| search(ground, case, run)).collect();
        let (first, configurations, trials) = &found[0];
        println!(
            "{:<12} {configurations:>3} configurations, {trials:>4} trials: {}; drags {}",
            case.name,
            names(&first.causes).join(" "),
            names(&first.dragged).join(" ")
        );
        let wanted = (sorted(case.causes.iter().copied()), sorted(case.dragged.iter().copied()));
        for (found, ..) in &found {
            let got = (sorted(names(&found.causes)), sorted(names(&found.dragged)));
            if got != wanted || found.wrong_at_most > 0.01 {
                wrong.push(format!("{}: {got:?}, {}", case.name, found.wrong_at_most));
            }
        }
        let whole = ground.settle(&first.request);
        if !ground.holds(case.planted, &whole) {
            wrong.push(format!("{}: does not show it", case.name));
        }
        for one in &first.request {
            let mut less = first.request.clone();
            less.remove(one);
            let changes = ground.settle(&less);
            if ground.holds(case.planted, &changes) {
                wrong.push(format!("{}: shows it without {one}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_planted_between_s390s_configurations_is_found() {
    let cache = cache();
    let (tree, id) = sources(&cache);
    let good = of_tree(&cache, (&tree, &id), Base::DefConfig);
    let bad = of_tree(&cache, (&tree, &id), Base::DebugDefConfig);
    let start = || Configurator::start(&cache, (&tree, &id), "planted", &quiet).unwrap();
    check(&mut Ground::new(start(), &good, &widened(&bad)), &WIDE);
    check(&mut Ground::new(start(), &good, &bad), &DEBUG);
}

/// Counts its calls, and kills farm in the sixth.
const COMMAND: &str = "\
#!/bin/sh
echo x >> calls
[ $(wc -l < calls) = 6 ] && kill -9 $PPID
grep -q '^CONFIG_FAIL_FUTEX=y' \"$1\" && exit 1
exit 0
";

#[test]
fn a_command_decides_and_a_bisect_that_was_killed_goes_on() {
    let cache = cache();
    // Fetched and unpacked, so that the commands need not be waited for.
    drop(sources(&cache));
    let place = place(COMMAND);
    let farm = |arguments: &[&str]| farm(place.path(), &cache, arguments);
    let asked = [
        "config",
        "--json",
        "--tree",
        "linux-6.1",
        "--good",
        "defconfig",
        "--bad",
        "debug-defconfig",
        "--once",
    ];
    let killed = farm(&[&asked[..], &["--run", "./command"]].concat());
    assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
    let ended = farm(&["resume"]);
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let answer: serde_json::Value =
        serde_json::from_slice(&fs::read(answer_file(place.path())).unwrap()).unwrap();
    let found = &answer["conclusion"];
    assert_eq!(found["causes"][0]["option"], "FAIL_FUTEX", "{answer}");
    assert_eq!(found["causes"][0]["prompt"], "Fault-injection capability for futexes");
    assert_eq!(found["dragged"][0]["option"], "FAULT_INJECTION");
    assert!(found["fragment"].as_str().unwrap().contains("# CONFIG_FAILSLAB is not set\n"), "{answer}");
    // Only the trial in which farm was killed was done again.
    let calls = fs::read_to_string(place.path().join("calls")).unwrap().lines().count() as u64;
    assert_eq!(calls, answer["trials"].as_u64().unwrap() + 1);
}

/// A directory with a command in it.
fn place(command: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("command"), command).unwrap();
    fs::set_permissions(place.path().join("command"), PermissionsExt::from_mode(0o755)).unwrap();
    place
}

fn farm(place: &Path, cache: &Cache, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farm"));
    command.current_dir(place).arg("bisect").args(arguments);
    command.env("FARM_STATE", place.join("state")).env("FARM_CACHE", cache.root());
    command.env("XDG_CONFIG_HOME", place).env_remove("FARM_KERNELS");
    command.output().unwrap()
}

/// Both ends begin with one configuration, or are made of farm's own pieces.
#[test]
fn the_ends_may_be_fragments() {
    let cache = cache();
    drop(sources(&cache));
    let place = place("#!/bin/sh\n! grep -q '^CONFIG_LOG_BUF_SHIFT=19' \"$1\"\n");
    fs::write(place.path().join("large.config"), "CONFIG_LOG_BUF_SHIFT=19\nCONFIG_CRC7=y\nCONFIG_CRC4=y\n")
        .unwrap();
    let found = |ends: &[&str], run: &str| {
        let asked = [&["config", "--json", "--tree", "linux-6.1", "--once"], ends, &["--run", run]].concat();
        let ended = farm(place.path(), &cache, &asked);
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        let causes = answer["conclusion"]["causes"].as_array().unwrap();
        causes.iter().map(|cause| cause["option"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--from", "lean", "--bad", "large.config"], "./command"), ["LOG_BUF_SHIFT"]);
    fs::write(place.path().join("other"), "#!/bin/sh\n! grep -q '^CONFIG_KASAN=y' \"$1\"\n").unwrap();
    fs::set_permissions(place.path().join("other"), PermissionsExt::from_mode(0o755)).unwrap();
    let fragments = ["--from", "fragments", "--good", "lean", "--bad", "lean,kasan"];
    assert_eq!(found(&fragments, "./other"), ["KASAN"]);
}

fn answer_file(place: &Path) -> PathBuf {
    let bisects = place.join("state/bisects");
    let bisect = fs::read_dir(bisects).unwrap().next().unwrap().unwrap();
    bisect.path().join("answer.json")
}
