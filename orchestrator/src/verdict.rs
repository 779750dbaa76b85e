//! From what one life of a cell showed to its verdict. Pure: no I/O, no clock.
//!
//! Trouble of farm's own never counts for or against a kernel, and a kernel's hit never hides behind
//! trouble of the workload: the order of the rules in `judge` is the order of trust.

use serde::{Deserialize, Serialize};

use crate::detect::Hit;
use crate::event::StopCause;
use crate::scenario::{Facts, Scenario};
use crate::workload::{Attempts, BesideReport, EXIT_ALL_SKIPPED, StepOutcome, StepReport, WorkerReport};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All steps ended well; no hit but expected and known ones.
    Passed,
    /// The kernel complained, hung, or corrupted data.
    Hit,
    /// A hit that the scenario expects did not come.
    Missed,
    /// A program failed although the kernel did not complain.
    WorkloadFailed,
    /// The steps ended well but did too little for a green result to mean anything.
    Ineffective,
    /// A step or the whole life was longer than its wall limit.
    TimedOut,
    /// The guest never became ready.
    BootFailed,
    /// The kernel, or a module for it, could not be built.
    BuildFailed,
    /// It was not run, and why is said.
    Skipped,
    /// Trouble of farm's own; says nothing about the kernel.
    Infra,
}

impl Verdict {
    /// The word as it stands in YAML, JSON and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Hit => "hit",
            Self::Missed => "missed",
            Self::WorkloadFailed => "workload-failed",
            Self::Ineffective => "ineffective",
            Self::TimedOut => "timed-out",
            Self::BootFailed => "boot-failed",
            Self::BuildFailed => "build-failed",
            Self::Skipped => "skipped",
            Self::Infra => "infra",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// How a life came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Ending {
    /// The guest switched itself off.
    PoweredOff,
    /// A disabled-wait PSW: the kernel panicked.
    Panicked,
    /// Nothing was heard from the guest for its heartbeat limit.
    Hung,
    /// The guest asked for another IPL.
    Reset,
    /// Stopped after a hit that corrupts memory: nothing after it can be trusted.
    Discarded,
    /// The whole life was longer than its wall limit.
    WallLimit,
    /// It did not become ready within the boot limit.
    BootLimit,
    /// The run was stopped while it lived.
    Stopped { cause: StopCause },
    /// It was never started.
    NotRun { reason: String },
    /// It was never started: a part of it that is made from source could not be built.
    NotBuilt { reason: String },
    /// QEMU died, went silent, or farm could not do its work.
    Infra { trouble: String },
}

/// What one life showed.
pub struct Evidence<'a> {
    pub ending: &'a Ending,
    pub ready: bool,
    /// Init said that the job was done.
    pub ended: bool,
    /// Init said that it could not do its work.
    pub init_error: Option<&'a str>,
    pub steps: &'a [StepReport],
    pub workers: &'a [WorkerReport],
    /// What ran beside them.
    pub beside: &'a [BesideReport],
    /// Of steps that ended well: the step's name, and what it was to reach in the kernel.
    pub attempts: Vec<(&'a str, &'a Attempts)>,
    pub hits: Vec<Hit>,
    /// Hits that were seen and not kept, none of whose kind was: whether they are foreseen is not known.
    pub unknown_hits: u64,
}

/// The verdict, why, and what became of each hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: String,
    pub hits: Vec<JudgedHit>,
    /// Expected hits that did not come, as the scenario names them.
    pub missed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedHit {
    pub standing: Standing,
    pub hit: Hit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Standing {
    /// Neither expected nor known.
    New,
    /// The scenario says that it must occur.
    Expected,
    /// The scenario says that it may occur.
    Known { reason: String },
}

/// Decides. `facts` are what the scenario's `when:` conditions ask about.
pub fn judge(scenario: &Scenario, facts: Facts<'_>, mut evidence: Evidence<'_>) -> Judgement {
    let missed: Vec<String> = scenario
        .expect
        .iter()
        .filter(|e| e.when.as_ref().is_none_or(|when| when.holds(facts)))
        .filter(|e| !evidence.hits.iter().any(|hit| e.pattern.matches(&hit.title, hit.fingerprint.as_str())))
        .map(|e| e.pattern.to_string())
        .collect();
    let hits: Vec<JudgedHit> = std::mem::take(&mut evidence.hits)
        .into_iter()
        .map(|hit| JudgedHit { standing: standing(scenario, facts, &hit), hit })
        .collect();
    let (verdict, reason) = decide(&evidence, &hits, &missed);
    Judgement { verdict, reason, hits, missed }
}

fn standing(scenario: &Scenario, facts: Facts<'_>, hit: &Hit) -> Standing {
    let fingerprint = hit.fingerprint.as_str();
    let holds =
        |when: &Option<crate::scenario::Condition>| when.as_ref().is_none_or(|when| when.holds(facts));
    if scenario.expect.iter().any(|e| holds(&e.when) && e.pattern.matches(&hit.title, fingerprint)) {
        return Standing::Expected;
    }
    match scenario.known.iter().find(|k| holds(&k.when) && k.pattern.matches(&hit.title, fingerprint)) {
        Some(known) => Standing::Known { reason: known.reason.clone() },
        None => Standing::New,
    }
}

/// The order of the rules is the order of trust.
fn decide(evidence: &Evidence<'_>, hits: &[JudgedHit], missed: &[String]) -> (Verdict, String) {
    // Farm's own trouble comes first: nothing is known about the kernel then.
    match evidence.ending {
        Ending::Infra { trouble } => return (Verdict::Infra, trouble.clone()),
        Ending::NotRun { reason } => return (Verdict::Skipped, reason.clone()),
        Ending::NotBuilt { reason } => return (Verdict::BuildFailed, reason.clone()),
        _ => {}
    }
    let new: Vec<_> = hits.iter().filter(|h| h.standing == Standing::New).collect();
    let stopped = matches!(evidence.ending, Ending::Stopped { .. });
    if !evidence.ready && !stopped {
        return (Verdict::BootFailed, boot_failure(evidence, new.first().map(|h| &h.hit)));
    }
    match new[..] {
        [] if evidence.unknown_hits > 0 => {
            return (Verdict::Hit, format!("{} hits of more kinds than are kept", evidence.unknown_hits));
        }
        [] => {}
        [only] => return (Verdict::Hit, only.hit.title.clone()),
        [first, ref others @ ..] => {
            return (Verdict::Hit, format!("{} and {} more", first.hit.title, others.len()));
        }
    }
    if let Ending::Stopped { cause } = evidence.ending {
        return (Verdict::Skipped, cause.to_string());
    }
    if let Some(error) = evidence.init_error {
        return (Verdict::Infra, format!("init: {error}"));
    }

    // From here on only foreseen hits are left, or none.
    if let Some(step) = evidence.steps.iter().find(|s| s.outcome == StepOutcome::Limit) {
        return (Verdict::TimedOut, format!("step {} ran into its wall limit", step.step));
    }
    if *evidence.ending == Ending::WallLimit {
        return (Verdict::TimedOut, "the life ran into its wall limit".to_owned());
    }
    let foreseen_end = ended_by_a_foreseen_hit(evidence.ending, hits);
    let failed = evidence.steps.iter().find(|s| s.outcome == StepOutcome::Failed);
    if let Some(step) = failed.filter(|_| !foreseen_end) {
        return (Verdict::WorkloadFailed, failure_of(step.step, evidence));
    }
    if !evidence.ended && !foreseen_end {
        let how = match evidence.ending {
            Ending::Reset => "the guest reset itself before its job was done",
            _ => "the guest went off before its job was done",
        };
        return (Verdict::WorkloadFailed, how.to_owned());
    }
    if !evidence.steps.is_empty() && evidence.steps.iter().all(|s| s.outcome == StepOutcome::Skipped) {
        return (Verdict::Skipped, skip_reason(evidence));
    }
    if let Some(first) = missed.first() {
        return (Verdict::Missed, format!("expected but not seen: {first}"));
    }
    if let Some(reason) = without_effect(evidence) {
        return (Verdict::Ineffective, reason);
    }
    let reason = match hits {
        [] => String::new(),
        [only] => format!("as foreseen: {}", only.hit.title),
        all => format!("{} hits, all foreseen", all.len()),
    };
    (Verdict::Passed, reason)
}

fn boot_failure(evidence: &Evidence<'_>, hit: Option<&Hit>) -> String {
    let how = match evidence.ending {
        Ending::Panicked => "the kernel panicked before init was ready",
        Ending::BootLimit | Ending::Hung | Ending::WallLimit => "init was not ready within the boot limit",
        Ending::Reset => "the guest reset itself before init was ready",
        Ending::Discarded => "the kernel was not to be trusted any more before init was ready",
        _ => "the guest went off before init was ready",
    };
    match (evidence.init_error, hit) {
        (Some(error), _) => format!("init: {error}"),
        (None, Some(hit)) => format!("{how}: {}", hit.title),
        (None, None) => how.to_owned(),
    }
}

/// Steps that were not reached are no failure where a foreseen hit ended the guest, and neither is a worker that an
/// oops killed before the life was discarded: that is what the scenario is about. A harmless one excuses nothing.
fn ended_by_a_foreseen_hit(ending: &Ending, hits: &[JudgedHit]) -> bool {
    matches!(ending, Ending::Panicked | Ending::Discarded | Ending::Hung)
        && hits.iter().any(|h| h.hit.ends_the_guest() || h.hit.kind.corrupts_memory())
}

fn failure_of(step: u32, evidence: &Evidence<'_>) -> String {
    let well = |exit| matches!(exit, Some(0 | EXIT_ALL_SKIPPED));
    let worker = evidence.workers.iter().find(|w| w.step == step && !well(w.exit));
    let beside = evidence.beside.iter().find(|b| b.step == step && !well(b.exit));
    let (who, exit, signal) = match (worker, beside) {
        (Some(worker), _) => (format!("worker {}", worker.worker), worker.exit, worker.signal),
        (None, Some(beside)) => (format!("beside it {}", beside.name), beside.exit, beside.signal),
        (None, None) => return format!("step {step} failed"),
    };
    match (exit, signal) {
        (_, Some(signal)) => format!("step {step}, {who}: killed by {}", signal_name(signal)),
        (Some(code), None) => format!("step {step}, {who}: exit status {code}"),
        (None, None) => format!("step {step}, {who}: could not be killed, it hangs in the kernel"),
    }
}

/// A stress program that says it passed but moved nothing proves nothing, and neither does a step that did not reach
/// what it is for.
fn without_effect(evidence: &Evidence<'_>) -> Option<String> {
    let idle = evidence
        .workers
        .iter()
        .find(|w| !w.program.stats.is_empty() && w.program.ops() == 0 && w.exit == Some(0))
        .map(|w| format!("step {}, worker {}: the program passed but moved no data", w.step, w.worker));
    let short = || {
        let mut attempts = evidence.attempts.iter();
        attempts.find_map(|(step, attempts)| Some(format!("step {step}: {}", attempts.shortfall()?)))
    };
    idle.or_else(short)
}

fn skip_reason(evidence: &Evidence<'_>) -> String {
    let workers = evidence.workers.iter().map(|worker| &worker.program);
    let programs = workers.chain(evidence.beside.iter().map(|one| &one.program));
    match programs.flat_map(|program| &program.tests).find(|test| !test.reason.is_empty()) {
        Some(test) => format!("every step was skipped: {}: {}", test.name, test.reason),
        None => "every step was skipped".to_owned(),
    }
}

/// Names as in signal(7), for the numbers that are the same on s390x and elsewhere.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Kind;
    use crate::plan::Protection;
    use crate::scenario::executable::Nowhere;
    use crate::scenario::{Catalog, Source, check};
    use crate::workload::{PathStats, ProgramReport};

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
        let program = ProgramReport::default();
        WorkerReport {
            step: 1,
            worker: 2,
            exit,
            signal,
            limit: false,
            stuck: false,
            wall_us: 1,
            truncated: 0,
            program,
        }
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
        let facts = Facts { kernel_release: release, protection: Protection::None };
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
            (
                "trouble hides every hit",
                Evidence { ending: &infra, hits: hang("x"), ..GOOD },
                Infra,
                "disk full",
            ),
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
            (
                "too many kinds",
                Evidence { hits: hang("known"), unknown_hits: 3, ..GOOD },
                Verdict::Hit,
                "3 hits",
            ),
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
        let idle = WorkerReport {
            program: ProgramReport { stats, ..ProgramReport::default() },
            ..worker(Some(0), None)
        };
        let evidence = Evidence { steps: &[step(1, StepOutcome::Ok)], workers: &[idle], ..GOOD };
        assert_eq!(verdict("6.1.0", evidence).0, Verdict::Ineffective);
    }

    #[test]
    fn what_runs_beside_a_step_can_fail_it() {
        let beside = |step, exit, signal, stuck| {
            let (name, program) = ("compact".to_owned(), ProgramReport::default());
            BesideReport { step, beside: 1, name, exit, signal, stuck, wall_us: 1, truncated: 0, program }
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
}
