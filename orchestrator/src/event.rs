//! The one stream of events that a run emits. The display, the recorder and the reports all consume it, so
//! none of them can know something that the others don't.

use serde::{Deserialize, Serialize};

use crate::plan::LifeId;
use crate::verdict::Verdict;

/// Something that happened in a run. Times are in the run's own clock: microseconds since it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at_us: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// The plan is made; `lives` guests will be started, up to `jobs` at a time.
    RunStarted {
        run: String,
        lives: u32,
        jobs: u32,
        jobs_why: String,
    },
    /// A cell will not be run on this host.
    Skipped {
        life: LifeId,
        label: String,
        reason: String,
    },
    /// QEMU has been started.
    LifeStarted {
        life: LifeId,
        label: String,
    },
    /// Init is up and takes its job.
    Ready {
        life: LifeId,
        uptime_us: u64,
    },
    StepStarted {
        life: LifeId,
        step: u32,
        name: String,
    },
    StepEnded {
        life: LifeId,
        step: u32,
        name: String,
        outcome: String,
        ops: u64,
        bytes: u64,
    },
    /// The kernel complained. More than one may belong to one finding.
    HitSeen {
        life: LifeId,
        title: String,
    },
    LifeEnded {
        life: LifeId,
        label: String,
        verdict: Verdict,
        reason: String,
        wall_us: u64,
        ops: u64,
        bytes: u64,
    },
    /// The user asked to stop.
    Interrupted,
    RunEnded {
        exit: u8,
    },
}
