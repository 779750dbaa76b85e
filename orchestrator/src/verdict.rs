//! From what one life of a cell showed to its verdict. Pure: no I/O, no clock.
//!
//! Trouble of farm's own never counts for or against a kernel, and a kernel's hit never hides behind
//! trouble of the workload: the order of the rules in `judge` is the order of trust.

use serde::{Deserialize, Serialize};

use crate::detect::Hit;
use crate::event::StopCause;
use crate::scenario::{Facts, Scenario};
use crate::workload::{Attempts, BesideReport, ProgramEnd, StepOutcome, StepReport, WorkerReport};

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
    /// Its job was done, and farm ended it.
    JobDone,
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

impl Evidence<'_> {
    /// How the programs of all steps ended, each with its step.
    fn ends(&self) -> impl Iterator<Item = (u32, &ProgramEnd)> {
        let workers = self.workers.iter().map(|one| (one.step, &one.end));
        workers.chain(self.beside.iter().map(|one| (one.step, &one.end)))
    }
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
        .filter(|e| e.holds(facts))
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
    if scenario.expect.iter().any(|e| e.holds(facts) && e.pattern.matches(&hit.title, fingerprint)) {
        return Standing::Expected;
    }
    match scenario.known.iter().find(|k| k.holds(facts) && k.pattern.matches(&hit.title, fingerprint)) {
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
    let mut failed = evidence.steps.iter().filter(|s| s.outcome == StepOutcome::Failed);
    if let Some(step) = failed.find(|step| !foreseen_end && !is_excused(step.step, evidence, hits)) {
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

/// Where only foreseen hits are left, so are the failed data checks among them, and a program that failed nothing else
/// did not fail beyond them; nor did one that an oops killed, in a guest that was off before it could be discarded.
fn is_excused(step: u32, evidence: &Evidence<'_>, hits: &[JudgedHit]) -> bool {
    let oops = hits.iter().any(|h| h.hit.kind.corrupts_memory());
    let ends = evidence.ends().filter(|(of, _)| *of == step).map(|(_, end)| end);
    let mut failed = ends.filter(|end| !end.is_well()).peekable();
    failed.peek().is_some() && failed.all(|end| end.failed_by_data_alone() || (oops && end.signal.is_some()))
}

fn failure_of(step: u32, evidence: &Evidence<'_>) -> String {
    let worker = evidence.workers.iter().find(|w| w.step == step && !w.end.is_well());
    let beside = evidence.beside.iter().find(|b| b.step == step && !b.end.is_well());
    let (who, end) = match (worker, beside) {
        (Some(worker), _) => (format!("worker {}", worker.worker), &worker.end),
        (None, Some(beside)) => (format!("beside it {}", beside.name), &beside.end),
        (None, None) => return format!("step {step} failed"),
    };
    match (end.exit, end.signal) {
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
        .find(|w| !w.end.program.stats.is_empty() && w.end.program.ops() == 0 && w.end.exit == Some(0))
        .map(|w| format!("step {}, worker {}: the program passed but moved no data", w.step, w.worker));
    let short = || {
        let mut attempts = evidence.attempts.iter();
        attempts.find_map(|(step, attempts)| Some(format!("step {step}: {}", attempts.shortfall()?)))
    };
    idle.or_else(short)
}

fn skip_reason(evidence: &Evidence<'_>) -> String {
    let skipped = evidence.ends().map(|(_, end)| end).filter(|end| end.is_skipped());
    match skipped.flat_map(|end| &end.program.tests).find(|test| !test.reason.is_empty()) {
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
mod tests;
