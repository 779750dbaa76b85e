//! The one stream of events that a run emits. The display, the recorder and the reports all consume it, so
//! none of them can know something that the others don't.

use serde::{Deserialize, Serialize};

use crate::plan::LifeId;
use crate::store::{Difference, SearchRecord};
use crate::verdict::Verdict;

/// Something that happened in a run. Times are in the run's own clock: microseconds since it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at_us: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The plan is made; `lives` guests will be started, up to `jobs` at a time.
    RunStarted {
        run: String,
        /// None: `lives` are planned, and no more.
        until: Option<String>,
        lives: u32,
        jobs: u32,
        jobs_why: String,
    },
    /// A guest is being prepared and started. `name` is for people: `splice cpus=4 on debian-12, life 3`.
    LifeStarted {
        life: LifeId,
        name: String,
    },
    /// Init is up and takes its job.
    Ready {
        life: LifeId,
        uptime_us: u64,
        /// Since it was started, if it went on from a saved guest.
        resumed_us: Option<u64>,
    },
    /// The guest boots where it was to go on from a saved one. Said once in a run for each reason; each life's record has it.
    BootedInstead {
        life: LifeId,
        reason: String,
    },
    /// It cannot be told where in the source some frames of a trace stand. Said once in a run for each file.
    NotLocated {
        life: LifeId,
        reason: String,
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
        /// Why it was skipped; empty otherwise.
        note: String,
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
        /// As in `LifeStarted`; a life that was skipped had none.
        name: String,
        verdict: Verdict,
        reason: String,
        wall_us: u64,
        ops: u64,
        bytes: u64,
    },
    /// What was new in this life is run again under other settings of the emulator, in so many lives more.
    RecheckBegun {
        life: LifeId,
        /// As in `LifeStarted`.
        name: String,
        titles: Vec<String>,
        settings: Vec<String>,
        lives: u32,
    },
    /// How far a search has come, for who watches: `search.json` has the latest, and the journal none. Of its lives only those that are kept are told, when they have ended.
    Searched(SearchRecord),
    /// A life of a search that is kept.
    Kept {
        life: LifeId,
        /// As in `LifeStarted`.
        name: String,
        verdict: Verdict,
        reason: String,
    },
    /// The life is not the same as the first of its cell.
    Inexact(Difference),
    /// No more lives are started, and those that run are ended.
    Stopping {
        cause: StopCause,
    },
    RunEnded {
        exit: u8,
    },
}

/// Why a run ends before all its lives were lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// The user asked for it.
    Interrupted,
    /// A life did not pass, and the run was to stop at the first.
    FailFast,
    /// A search has found what it was for.
    Found,
    /// A search met nothing but trouble of farm's own for some time.
    InVain,
    /// The run cannot be recorded any more.
    Trouble,
    /// Farm itself is at fault.
    Fault,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "interrupted",
            Self::FailFast => "stopped: another life has shown what was looked for",
            Self::Found => "stopped: another life has found what the search was for",
            Self::InVain => "stopped: the search met nothing but farm's own trouble",
            Self::Trouble => "stopped: the run could not be recorded any more",
            Self::Fault => "stopped: another life met a fault of farm's own",
        })
    }
}
