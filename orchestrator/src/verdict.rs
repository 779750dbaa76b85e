//! From what one life of a cell showed to its verdict. Pure: no I/O, no clock.
//!
//! Trouble of farm's own never counts for or against a kernel, and a kernel's hit never hides behind
//! trouble of the workload: the order of the rules in `judge` is the order of trust.

use serde::{Deserialize, Serialize};

use crate::detect::Hit;
use crate::scenario::{Facts, Scenario};
use crate::workload::{StepOutcome, StepReport, WorkerReport};

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
    /// The kernel could not be built.
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
#[serde(tag = "ending", rename_all = "kebab-case")]
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
    /// The user stopped the run.
    Interrupted,
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
    pub hits: Vec<Hit>,
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
#[serde(tag = "standing", rename_all = "kebab-case")]
pub enum Standing {
    /// Neither expected nor known.
    New,
    /// The scenario says that it must occur.
    Expected,
    /// The scenario says that it may occur.
    Known { reason: String },
}

/// Decides. `facts` are what the scenario's `when:` conditions ask about.
pub fn judge(scenario: &Scenario, facts: Facts<'_>, evidence: Evidence<'_>) -> Judgement {
    let hits: Vec<JudgedHit> = evidence
        .hits
        .iter()
        .map(|hit| JudgedHit { standing: standing(scenario, facts, hit), hit: hit.clone() })
        .collect();
    let missed: Vec<String> = scenario
        .expect
        .iter()
        .filter(|e| e.when.as_ref().is_none_or(|when| when.holds(facts)))
        .filter(|e| !evidence.hits.iter().any(|hit| e.pattern.matches(&hit.title, hit.fingerprint.as_str())))
        .map(|e| e.pattern.to_string())
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

fn decide(evidence: &Evidence<'_>, hits: &[JudgedHit], missed: &[String]) -> (Verdict, String) {
    let new_hit = hits.iter().find(|h| h.standing == Standing::New);

    // A life that never became ready is a boot failure, whatever was said on the way; but farm's own trouble
    // comes first, since then nothing is known about the kernel.
    match evidence.ending {
        Ending::Infra { trouble } => return (Verdict::Infra, trouble.clone()),
        Ending::Interrupted => return (Verdict::Skipped, "interrupted".to_owned()),
        _ => {}
    }
    if !evidence.ready {
        let how = match evidence.ending {
            Ending::Panicked => "the kernel panicked before init was ready",
            Ending::BootLimit | Ending::Hung => "init was not ready within the boot limit",
            Ending::Reset => "the guest reset itself before init was ready",
            Ending::Discarded => "the kernel was not to be trusted any more before init was ready",
            _ => "the guest went off before init was ready",
        };
        let reason = match (evidence.init_error, new_hit) {
            (Some(error), _) => format!("init: {error}"),
            (None, Some(hit)) => format!("{how}: {}", hit.hit.title),
            (None, None) => how.to_owned(),
        };
        return (Verdict::BootFailed, reason);
    }
    if let Some(hit) = new_hit {
        let others = hits.iter().filter(|h| h.standing == Standing::New).count() - 1;
        let more = if others > 0 { format!(" and {others} more") } else { String::new() };
        return (Verdict::Hit, format!("{}{more}", hit.hit.title));
    }
    if let Some(error) = evidence.init_error {
        return (Verdict::Infra, format!("init: {error}"));
    }
    if let Some(first) = missed.first() {
        return (Verdict::Missed, format!("expected but not seen: {first}"));
    }

    // From here on only expected and known hits are left. One of them may have ended the life before its
    // steps were over; that is what the scenario asked for.
    let cut_short_as_foreseen = !hits.is_empty() && !evidence.ended;
    if let Some(step) = evidence.steps.iter().find(|s| s.outcome == StepOutcome::Limit) {
        return (Verdict::TimedOut, format!("step {} ran into its wall limit", step.step));
    }
    if matches!(evidence.ending, Ending::WallLimit) {
        return (Verdict::TimedOut, "the life ran into its wall limit".to_owned());
    }
    if let Some(step) = evidence.steps.iter().find(|s| s.outcome == StepOutcome::Failed) {
        return (Verdict::WorkloadFailed, failure_of(step.step, evidence.workers));
    }
    if !evidence.ended && !cut_short_as_foreseen {
        let how = match evidence.ending {
            Ending::Reset => "the guest reset itself before its job was done",
            _ => "the guest went off before its job was done",
        };
        return (Verdict::WorkloadFailed, how.to_owned());
    }
    if let Some(reason) = without_effect(evidence) {
        return (Verdict::Ineffective, reason);
    }
    if !evidence.steps.is_empty() && evidence.steps.iter().all(|s| s.outcome == StepOutcome::Skipped) {
        return (Verdict::Skipped, skip_reason(evidence.workers));
    }
    let reason = match hits.len() {
        0 => String::new(),
        1 => format!("as foreseen: {}", hits[0].hit.title),
        n => format!("{n} hits, all foreseen"),
    };
    (Verdict::Passed, reason)
}

fn failure_of(step: u32, workers: &[WorkerReport]) -> String {
    let failed = workers.iter().find(|w| w.step == step && !matches!(w.exit, Some(0 | 4)));
    match failed {
        Some(WorkerReport { worker, signal: Some(signal), .. }) => {
            format!("step {step}, worker {worker}: killed by {}", signal_name(*signal))
        }
        Some(WorkerReport { worker, exit: Some(code), .. }) => {
            format!("step {step}, worker {worker}: exit status {code}")
        }
        _ => format!("step {step} failed"),
    }
}

/// A stress program that says it passed but moved nothing proves nothing.
fn without_effect(evidence: &Evidence<'_>) -> Option<String> {
    evidence
        .workers
        .iter()
        .find(|w| !w.program.stats.is_empty() && w.program.ops() == 0 && w.exit == Some(0))
        .map(|w| format!("step {}, worker {}: the program passed but moved no data", w.step, w.worker))
}

fn skip_reason(workers: &[WorkerReport]) -> String {
    let reason = workers.iter().flat_map(|w| &w.program.tests).find(|t| !t.reason.is_empty());
    match reason {
        Some(test) => format!("every step was skipped: {}: {}", test.name, test.reason),
        None => "every step was skipped".to_owned(),
    }
}

/// Names as in signal(7), for the numbers that are the same on s390x and elsewhere.
fn signal_name(signal: i32) -> String {
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
