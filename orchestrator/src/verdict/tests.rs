//! The table of verdicts.

use super::*;
use crate::detect::Kind;
use crate::plan::Protection;
use crate::scenario::executable::Nowhere;
use crate::scenario::{Catalog, Source, check};
use crate::workload::{DataFailure, PathStats, ProgramReport, Test, TestResult};

const FORESEEN: &str = "\
name: a
purpose: p
steps: []
expect: [{title: hang in expected, when: kernel >= 6.5}]
known: [{title: hang in known, reason: it is}, {fingerprint: 'panic:*', reason: so it ends}]
";

fn scenario(text: &str) -> Scenario {
    let (file, programs) = crate::assets::PROGRAMS_YAML;
    let catalog = Catalog::parse(file, programs).unwrap();
    check(Source { file: "a.yaml", text }, &catalog, &Nowhere).unwrap()
}

fn step(step: u32, outcome: StepOutcome) -> StepReport {
    StepReport { step, outcome, wall_us: 1, kmsg_seq: None, rearmed: true }
}

fn worker(exit: Option<i32>, signal: Option<i32>) -> WorkerReport {
    WorkerReport { step: 1, worker: 2, limit: false, end: end(exit, signal) }
}

fn end(exit: Option<i32>, signal: Option<i32>) -> ProgramEnd {
    ProgramEnd {
        exit,
        signal,
        stuck: false,
        wall_us: 1,
        cpu_us: 1,
        truncated: 0,
        program: ProgramReport::default(),
    }
}

/// A worker or another program with that exit status that said so much.
fn said(exit: i32, program: ProgramReport) -> ProgramEnd {
    ProgramEnd { program, ..end(Some(exit), None) }
}

const GOOD: Evidence<'_> = Evidence {
    ending: &Ending::PoweredOff,
    ready: true,
    ended: true,
    init_error: None,
    steps: &[],
    workers: &[],
    beside: &[],
    attempts: Vec::new(),
    hits: Vec::new(),
    unknown_hits: 0,
};

fn verdict(release: &str, evidence: Evidence<'_>) -> (Verdict, String) {
    let facts = Facts { kernel_release: release, protection: Protection::None, fixes: &[] };
    let judgement = judge(&scenario(FORESEEN), facts, evidence);
    (judgement.verdict, judgement.reason)
}

#[test]
fn every_end_has_its_verdict() {
    use Verdict::{BootFailed, Infra, Passed, Skipped, TimedOut, WorkloadFailed};
    let infra = Ending::Infra { trouble: "disk full".to_owned() };
    let stopped = Ending::Stopped { cause: StopCause::Interrupted };
    let not_run = Ending::NotRun { reason: "no KVM".to_owned() };
    let not_built = Ending::NotBuilt { reason: "t.c:1: error".to_owned() };
    let hang = |name: &str| vec![Hit::hang(name)];
    let (failed, limit) = ([step(1, StepOutcome::Failed)], [step(1, StepOutcome::Limit)]);
    let (ok, skipped) = ([step(1, StepOutcome::Ok)], [step(1, StepOutcome::Skipped)]);
    let killed = [worker(None, Some(11))];
    let exited = [worker(Some(3), None)];
    let early = |ending| Evidence { ending, ended: false, ..GOOD };
    let unready = |ending| Evidence { ready: false, ..early(ending) };
    for (what, evidence, expected, reason) in [
        ("all well", Evidence { steps: &ok, ..GOOD }, Passed, ""),
        ("trouble hides every hit", Evidence { ending: &infra, hits: hang("x"), ..GOOD }, Infra, "disk full"),
        ("init gave up", Evidence { init_error: Some("no ext4"), ..GOOD }, Infra, "init: no ext4"),
        ("not run", unready(&not_run), Skipped, "no KVM"),
        ("not built", unready(&not_built), Verdict::BuildFailed, "t.c:1: error"),
        ("stopped before ready", unready(&stopped), Skipped, "interrupted"),
        (
            "a new hit outlives a stop",
            Evidence { hits: hang("x"), ..early(&stopped) },
            Verdict::Hit,
            "hang in x",
        ),
        ("no boot", unready(&Ending::BootLimit), BootFailed, "boot limit"),
        (
            "boot panic",
            Evidence { hits: hang("x"), ..unready(&Ending::Panicked) },
            BootFailed,
            "init was ready: hang in x",
        ),
        (
            "boot and init's word",
            Evidence { init_error: Some("e"), ..unready(&Ending::PoweredOff) },
            BootFailed,
            "init: e",
        ),
        (
            "a hit before a failed step",
            Evidence { hits: hang("x"), steps: &failed, ..GOOD },
            Verdict::Hit,
            "hang in x",
        ),
        ("a known hit", Evidence { hits: hang("known"), ..GOOD }, Passed, "as foreseen: hang in known"),
        (
            "known and new",
            Evidence { hits: [hang("known"), hang("x"), hang("y")].concat(), ..GOOD },
            Verdict::Hit,
            "hang in x and 1 more",
        ),
        ("too many kinds", Evidence { hits: hang("known"), unknown_hits: 3, ..GOOD }, Verdict::Hit, "3 hits"),
        (
            "signal",
            Evidence { steps: &failed, workers: &killed, ..GOOD },
            WorkloadFailed,
            "worker 2: killed by SIGSEGV",
        ),
        (
            "exit",
            Evidence { steps: &failed, workers: &exited, ..GOOD },
            WorkloadFailed,
            "worker 2: exit status 3",
        ),
        ("limit of a step", Evidence { steps: &limit, ..GOOD }, TimedOut, "step 1"),
        ("limit of a life", early(&Ending::WallLimit), TimedOut, "life"),
        ("off too early", early(&Ending::PoweredOff), WorkloadFailed, "went off"),
        ("reset", early(&Ending::Reset), WorkloadFailed, "reset itself"),
        ("all skipped", Evidence { steps: &skipped, ..GOOD }, Skipped, "every step"),
        // A foreseen hit that ends the guest excuses the steps behind it; a harmless one excuses nothing.
        (
            "foreseen panic",
            Evidence { hits: vec![Hit::silent_panic()], ..early(&Ending::Panicked) },
            Passed,
            "foreseen",
        ),
        (
            "a worker that the foreseen panic took along",
            Evidence {
                hits: vec![Hit::silent_panic()],
                steps: &failed,
                workers: &killed,
                ..early(&Ending::Panicked)
            },
            Passed,
            "foreseen",
        ),
        (
            "a worker that a foreseen oops killed in a guest that went off first",
            Evidence { hits: vec![Hit::silent_panic()], steps: &failed, workers: &killed, ..GOOD },
            Passed,
            "foreseen",
        ),
        (
            "one that failed by itself beside a foreseen oops",
            Evidence { hits: vec![Hit::silent_panic()], steps: &failed, workers: &exited, ..GOOD },
            WorkloadFailed,
            "exit status 3",
        ),
        (
            "foreseen, then reset",
            Evidence { hits: vec![Hit::silent_panic()], ..early(&Ending::Reset) },
            WorkloadFailed,
            "reset",
        ),
    ] {
        let (verdict, said) = verdict("6.1.0", evidence);
        assert_eq!(verdict, expected, "{what}: {said}");
        assert!(said.contains(reason), "{what}: {said}");
    }
}

#[test]
fn an_expected_hit_must_come_where_its_condition_holds() {
    assert_eq!(verdict("6.1.0", GOOD).0, Verdict::Passed);
    assert_eq!(verdict("6.12.0", GOOD).0, Verdict::Missed);
    let seen = Evidence { hits: vec![Hit::hang("expected")], ..GOOD };
    assert_eq!(verdict("6.12.0", seen).0, Verdict::Passed);
    let elsewhere = Evidence { hits: vec![Hit::hang("expected")], ..GOOD };
    assert_eq!(verdict("6.1.0", elsewhere).0, Verdict::Hit, "what need not come there is news there");
    let crashed = Evidence { steps: &[step(1, StepOutcome::Limit)], ..GOOD };
    assert_eq!(verdict("6.12.0", crashed).0, Verdict::TimedOut, "what never ran can't be missed");
}

#[test]
fn a_program_that_moved_nothing_proves_nothing() {
    let stats = vec![PathStats { path: "p".to_owned(), ops: 0, bytes: 0 }];
    let idle = said(0, ProgramReport { stats, ..ProgramReport::default() });
    let idle = WorkerReport { end: idle, ..worker(None, None) };
    let evidence = Evidence { steps: &[step(1, StepOutcome::Ok)], workers: &[idle], ..GOOD };
    assert_eq!(verdict("6.1.0", evidence).0, Verdict::Ineffective);
}

#[test]
fn what_runs_beside_a_step_can_fail_it() {
    let beside = |step, exit, signal, stuck| {
        let (name, end) = ("compact".to_owned(), ProgramEnd { stuck, ..end(exit, signal) });
        BesideReport { step, beside: 1, name, end }
    };
    let failed = [step(1, StepOutcome::Ok), step(2, StepOutcome::Failed)];
    let workers = [worker(Some(0), None)];
    for (besides, reason) in [
        ([beside(1, Some(1), None, false), beside(2, Some(3), None, false)], "exit status 3"),
        ([beside(2, Some(4), None, false), beside(2, None, Some(15), false)], "killed by SIGTERM"),
        (
            [beside(2, Some(0), None, false), beside(2, None, None, true)],
            "could not be killed, it hangs in the kernel",
        ),
    ] {
        let evidence = Evidence { steps: &failed, workers: &workers, beside: &besides, ..GOOD };
        let reason = format!("step 2, beside it compact: {reason}");
        assert_eq!(verdict("6.1.0", evidence), (Verdict::WorkloadFailed, reason));
    }
}

#[test]
fn a_known_data_hit_excuses_the_test_that_found_it_and_nothing_else() {
    let test = |name: &str, result| Test { name: name.to_owned(), result, reason: String::new() };
    let wrong = |path: &str| DataFailure {
        path: path.to_owned(),
        check: "content".to_owned(),
        detail: "offset=0".to_owned(),
    };
    let (udp, tcp) = (test("udp", TestResult::NotOk), test("tcp", TestResult::NotOk));
    let report = |tests: &[&Test], paths: &[&str]| ProgramReport {
        tests: tests.iter().map(|&test| test.clone()).collect(),
        data_failures: paths.iter().map(|path| wrong(path)).collect(),
        ..ProgramReport::default()
    };
    let steps = [step(1, StepOutcome::Failed)];
    for (what, end, expected) in [
        ("its data alone was wrong", said(1, report(&[&udp], &["udp"])), Verdict::Passed),
        ("another path failed too", said(1, report(&[&udp, &tcp], &["udp"])), Verdict::WorkloadFailed),
        ("it gave up", said(2, report(&[&udp], &["udp"])), Verdict::WorkloadFailed),
        ("it reported no test", said(1, report(&[], &["udp"])), Verdict::WorkloadFailed),
        (
            "what else it said was dropped",
            ProgramEnd { truncated: 9, ..said(1, report(&[&udp], &["udp"])) },
            Verdict::WorkloadFailed,
        ),
        (
            "it crashed after it had reported",
            ProgramEnd { program: report(&[&udp], &["udp"]), ..end(None, Some(11)) },
            Verdict::WorkloadFailed,
        ),
    ] {
        let workers = [WorkerReport { end, ..worker(None, None) }, worker(Some(0), None)];
        let hits = vec![Hit::hang("known")];
        let evidence = Evidence { steps: &steps, workers: &workers, hits, ..GOOD };
        assert_eq!(verdict("6.1.0", evidence).0, expected, "{what}");
    }
}

#[test]
fn a_skipped_step_says_what_could_not_run() {
    let program = |name: &str| {
        let (name, reason) = (name.to_owned(), format!("no {name} here"));
        let tests = vec![Test { name, result: TestResult::Skipped, reason }];
        ProgramReport { tests, ..ProgramReport::default() }
    };
    let with = |exit, name| WorkerReport { end: said(exit, program(name)), ..worker(None, None) };
    let end = said(4, program("thp"));
    let beside = BesideReport { step: 1, beside: 1, name: "hugepage".to_owned(), end };
    let steps = [step(1, StepOutcome::Skipped)];
    for (worker, reason) in [(with(4, "direct"), "direct: no direct"), (with(0, "direct"), "thp: no thp")] {
        let (workers, beside) = ([worker], [beside.clone()]);
        let evidence = Evidence { steps: &steps, workers: &workers, beside: &beside, ..GOOD };
        let reason = format!("every step was skipped: {reason} here");
        assert_eq!(verdict("6.1.0", evidence), (Verdict::Skipped, reason));
    }
}

#[test]
fn what_did_not_reach_the_kernel_proves_nothing_and_hides_nothing() {
    let attempts = |count, symbol: Option<&str>| Attempts {
        functions: "f|g".to_owned(),
        least: 1000,
        symbol: symbol.map(str::to_owned),
        count,
        missed: 0,
        reason: symbol.is_none().then(|| "no tracefs".to_owned()),
    };
    let (few, enough, none) = (attempts(12, Some("g")), attempts(1000, Some("f")), attempts(0, None));
    let ok = [step(1, StepOutcome::Ok)];
    let failed = [step(1, StepOutcome::Ok), step(2, StepOutcome::Failed)];
    let with = |attempts| Evidence { steps: &ok, attempts, ..GOOD };
    for (release, evidence, expected, reason) in [
        ("6.1.0", with(vec![("tee", &enough)]), Verdict::Passed, ""),
        (
            "6.1.0",
            with(vec![("a", &enough), ("tee", &few)]),
            Verdict::Ineffective,
            "step tee: g was called 12 times, at least 1000 are needed",
        ),
        (
            "6.1.0",
            with(vec![("tee", &none)]),
            Verdict::Ineffective,
            "step tee: calls of f|g could not be counted: no tracefs",
        ),
        // Whatever is worse stands before it.
        (
            "6.1.0",
            Evidence { hits: vec![Hit::hang("x")], ..with(vec![("tee", &few)]) },
            Verdict::Hit,
            "hang in x",
        ),
        (
            "6.1.0",
            Evidence { steps: &failed, ..with(vec![("tee", &few)]) },
            Verdict::WorkloadFailed,
            "step 2 failed",
        ),
        (
            "6.12.0",
            with(vec![("tee", &few)]),
            Verdict::Missed,
            "expected but not seen: title hang in expected",
        ),
    ] {
        assert_eq!(verdict(release, evidence), (expected, reason.to_owned()));
    }
}

#[test]
fn a_panic_ends_all_trust() {
    assert!(Kind::Panic.corrupts_memory());
}

#[test]
fn a_hit_that_is_mended_is_news_and_one_that_stays_away_is_none() {
    use crate::scenario::Fix;
    let mended = "name: a\npurpose: p\nprotection: emulated\nsteps: []\nexpect: [{title: hang in x, mended-by: [dio]}]\n";
    let judged = |fixes: &[Fix], hits: Vec<Hit>| {
        let facts = Facts { kernel_release: "6.1.0", protection: Protection::Emulated, fixes };
        judge(&scenario(mended), facts, Evidence { hits, ..GOOD }).verdict
    };
    let hit = || vec![Hit::hang("x")];
    for (fixes, of_hit, of_silence) in [
        (&[][..], Verdict::Passed, Verdict::Missed),
        (&[Fix::Splice], Verdict::Passed, Verdict::Missed),
        (&[Fix::Dio], Verdict::Hit, Verdict::Passed),
    ] {
        assert_eq!((judged(fixes, hit()), judged(fixes, Vec::new())), (of_hit, of_silence), "{fixes:?}");
    }
}
