//! The documents of a run's directory, as they stand on disk.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::life_directory;
use crate::detect::Fingerprint;
use crate::kernel::{Origin, Place};
use crate::machine::{Call, Psw};
use crate::plan::{CalibrationRecord, Counting, Emulator, KernelKey, LifeId, Protection, Setting};
use crate::verdict::{Ending, JudgedHit, Standing, Verdict};
use crate::workload::{Attempts, BesideReport, Ready, StepOutcome, WorkerReport};

/// Names a run: ten hex digits, drawn from when and where it was started.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(String);

impl RunId {
    pub fn new(started: Timestamp, pid: u32) -> Self {
        let digest = Sha256::digest(format!("{}/{pid}", started.as_nanosecond()));
        Self(hex(&digest[..5]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// Names a hit: ten hex digits, the same whenever the same run is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HitId(String);

impl HitId {
    pub fn new(run: &RunId, life: &LifeId, index: usize) -> Self {
        let digest = Sha256::digest(format!("{run}/{life}/{index}"));
        Self(hex(&digest[..5]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for HitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `run.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub started: Timestamp,
    /// farm's own version.
    pub farm: String,
    /// What the user typed.
    pub command: Vec<String>,
    /// Where the user was then: what was typed may be relative to it. None in records of an older farm.
    #[serde(default)]
    pub started_in: Option<Utf8PathBuf>,
    pub host: HostRecord,
    /// The version that QEMU gives of itself, with its package's.
    pub qemu: String,
    pub qemu_path: String,
    pub scenarios: Vec<String>,
    pub kernels: Vec<KernelRecord>,
    /// That are planned; of a search none.
    pub lives: u32,
    pub jobs: u32,
    /// None: hits were not to be rechecked.
    #[serde(default)]
    pub recheck: Option<RecheckRecord>,
    /// None: its lives were counted beforehand.
    #[serde(default)]
    pub search: Option<SearchAsked>,
    /// None: it was not to show what fixes mend.
    #[serde(default)]
    pub calibration: Option<CalibrationRecord>,
    /// None: it was not to show what a patch changes.
    #[serde(default)]
    pub trial: Option<TrialRecord>,
    /// None: it was not to show whether planted bugs are seen.
    #[serde(default)]
    pub mutation: Option<MutationRecord>,
    /// None: it was not to show a hit again.
    #[serde(default)]
    pub repro: Option<ReproRecord>,
}

/// Which hit a run is to show again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReproRecord {
    pub hit: String,
    /// Where it was found.
    pub run: RunId,
    pub life: LifeId,
    pub fingerprint: Fingerprint,
    pub title: String,
    /// What is not as it was then, for people.
    pub differs: Vec<String>,
    /// How its guest came to its job, where the schedule depends on that.
    #[serde(default)]
    pub start: Option<Started>,
    /// The file whose kernel, image and job the run has; of these nothing is kept.
    #[serde(default)]
    pub bundle: Option<Utf8PathBuf>,
}

/// Which planted bugs a run tries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutationRecord {
    pub rows: Vec<MutationRow>,
}

/// A bug, planted into one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutationRow {
    pub mutant: String,
    pub tree: String,
    pub scenario: String,
    /// The names of the kernels without it and with it.
    pub base: String,
    pub mutated: String,
}

/// What a patch was tried on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The names of the two kernels.
    pub base: String,
    pub patched: String,
    /// The git trees of their sources.
    pub base_tree: String,
    pub patched_tree: String,
    /// By name.
    pub config: String,
    /// Of the patches, in their order.
    pub subjects: Vec<String>,
}

/// What a search was to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchAsked {
    /// As it was typed.
    pub until: String,
    /// Of the plan.
    pub seed: u64,
}

/// `search.json`: how far a search has come. Written anew every few seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchRecord {
    pub wall_us: u64,
    #[serde(flatten)]
    pub tally: SearchTally,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchTally {
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Lives that speak against the kernel.
    pub found: u64,
    /// Lives whose directories stay.
    pub kept: u64,
    /// By fingerprint; the first thousand.
    pub findings: BTreeMap<String, SearchFinding>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchFinding {
    pub title: String,
    pub lives: u64,
}

/// How the hits of a run were to be rechecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecheckRecord {
    /// Under each setting.
    pub lives: u32,
    pub emulator: Emulator,
    pub settings: Vec<Setting>,
    /// Why there were not more settings.
    pub left_out: Vec<String>,
}

/// A kernel of a run, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRecord {
    pub key: KernelKey,
    pub origin: Origin,
    pub boot: Utf8PathBuf,
    pub modules: Option<Utf8PathBuf>,
    #[serde(default)]
    pub vmlinux: Option<Utf8PathBuf>,
    #[serde(default)]
    pub headers: Option<Utf8PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    pub arch: String,
    pub kernel: String,
    pub cpus: u32,
    pub memory_mib: u64,
}

/// `summary.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    pub id: RunId,
    pub wall_us: u64,
    pub exit: u8,
    /// Of the lives that were asked for, without those that recheck a hit.
    pub verdicts: BTreeMap<Verdict, u32>,
    /// Lives that were planned and not begun.
    pub not_begun: u32,
    /// None: lives were not compared.
    #[serde(default)]
    pub exact: Option<ExactRecord>,
}

/// How far lives of one cell were the same in every byte of their streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactRecord {
    /// With more lives than one to compare.
    pub cells: u32,
    /// Cells of which nothing can be said.
    pub lived_once: u32,
    /// Of all these cells.
    pub lives: u32,
    /// Those of them that farm ended; they are compared as far as they went.
    pub cut: u32,
    /// Lives that said more than farm keeps, and are not compared.
    pub too_long: u32,
    /// Lives that differ from the first of their cell.
    pub different: u32,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// Where a life differs from the first of its cell. Lines are escaped, and cut if they are long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub life: LifeId,
    pub first: LifeId,
    pub stream: String,
    /// Counted from 1.
    pub line: u64,
    pub was: String,
    pub is: String,
}

/// `result.json`: all that one life showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifeRecord {
    pub life: LifeId,
    pub scenario: String,
    /// What tells this cell from the others of its run, for people.
    pub label: String,
    pub kernel: KernelKey,
    pub seed: u64,
    #[serde(default)]
    pub protection: Protection,
    #[serde(default)]
    pub counting: Counting,
    /// None: it was asked for, and not made to recheck what another found.
    #[serde(default)]
    pub recheck_of: Option<RecheckOf>,
    pub verdict: Verdict,
    pub reason: String,
    pub ending: Ending,
    pub ready: Option<Ready>,
    pub steps: Vec<StepRecord>,
    pub hits: Vec<StoredHit>,
    /// Expected hits that did not come.
    pub missed: Vec<String>,
    /// Hits that were counted but not kept: repetitions in a storm.
    pub hits_dropped: u64,
    /// What was booted.
    pub image_sha256: String,
    pub streams: StreamRecord,
    pub timings: Timings,
    /// Of a guest that crashed or hung: what its CPUs were doing.
    #[serde(default)]
    pub cpus: Vec<CpuRecord>,
    /// None: none was wanted, or the guest lived on.
    #[serde(default)]
    pub dump: Option<DumpRecord>,
}

/// One virtual CPU of a guest that crashed or hung. Its registers are in `cpus.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuRecord {
    pub number: u32,
    /// QEMU's word.
    pub state: String,
    pub psw: Option<Psw>,
    /// From the innermost call on.
    pub trace: Vec<CallRecord>,
}

/// A place in a CPU's call trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    #[serde(flatten)]
    pub call: Call,
    /// Where that stands in the source, and where what holds it was inlined; as far as the kernel's files tell.
    pub places: Vec<Place>,
}

/// A guest's memory in a file of the life's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpRecord {
    pub file: String,
    /// When it was made, for people.
    pub at: String,
    /// It has the note by which `crash` and drgn find their way.
    pub vmcoreinfo: bool,
    /// The vmlinux first, and modules that the guest may have had; none if no vmlinux with types is known, without which the
    /// dump cannot be read.
    #[serde(default)]
    pub symbols: Vec<Utf8PathBuf>,
    /// Why there is none, or it is not whole.
    pub trouble: Option<String>,
}

/// What a dump is called in a life's directory, and a recording.
pub const DUMP_FILE: &str = "dump.elf";
pub const RECORDING_FILE: &str = "replay.rr";

impl LifeRecord {
    pub fn ops(&self) -> u64 {
        self.steps.iter().fold(0, |sum, s| sum.saturating_add(s.ops()))
    }

    pub fn bytes(&self) -> u64 {
        self.steps.iter().fold(0, |sum, s| sum.saturating_add(s.bytes()))
    }
}

/// What a life rechecks, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecheckOf {
    /// The life whose new hits it is about.
    pub life: LifeId,
    pub setting: Setting,
}

/// One step, with the reports of its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: u32,
    pub name: String,
    /// None: the life ended before the step did.
    pub outcome: Option<StepOutcome>,
    pub wall_us: u64,
    /// The last kernel log record that was drained before its end was said.
    pub kmsg_seq: Option<u64>,
    /// Whether WARN_ON_ONCE was armed again after it.
    pub rearmed: bool,
    pub workers: Vec<WorkerReport>,
    /// What ran beside them.
    #[serde(default)]
    pub beside: Vec<BesideReport>,
    /// What it was to reach in the kernel; nothing of a step that did not end.
    #[serde(default)]
    pub attempts: Vec<Attempts>,
}

impl StepRecord {
    pub fn ops(&self) -> u64 {
        self.workers.iter().fold(0, |sum, w| sum.saturating_add(w.end.program.ops()))
    }

    pub fn bytes(&self) -> u64 {
        self.workers.iter().fold(0, |sum, w| sum.saturating_add(w.end.program.bytes()))
    }

    /// Why it was skipped, in the words of the first program that says so.
    pub fn skip_reason(&self) -> Option<&str> {
        if self.outcome != Some(StepOutcome::Skipped) {
            return None;
        }
        let workers = self.workers.iter().map(|one| &one.end);
        let ends = workers.chain(self.beside.iter().map(|one| &one.end));
        ends.filter(|end| end.is_skipped()).find_map(|end| end.program.skip_reason())
    }

    /// What could not run beside it, and why.
    pub fn not_beside(&self) -> impl Iterator<Item = (&str, &str)> {
        let skipped = self.beside.iter().filter(|one| one.end.is_skipped());
        skipped.map(|one| (&*one.name, one.end.program.skip_reason().unwrap_or("it did not say why")))
    }

    pub fn outcome_word(&self) -> &'static str {
        match self.outcome {
            Some(StepOutcome::Ok) => "ok",
            Some(StepOutcome::Skipped) => "skipped",
            Some(StepOutcome::Failed) => "failed",
            Some(StepOutcome::Limit) => "limit",
            None => "cut short",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredHit {
    pub id: HitId,
    /// The step by whose end the kernel had said it, where its log tells; what it says between two counts to the later.
    pub step: Option<u32>,
    pub judged: JudgedHit,
    /// For each frame of its trace where the instruction stands in the source, and behind that where it was inlined. Empty
    /// if the kernel's files do not tell of any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Vec<Place>>,
}

impl StoredHit {
    pub fn is_new(&self) -> bool {
        self.judged.standing == Standing::New
    }
}

/// What came through the guest's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    pub console_bytes: u64,
    pub kmsg_bytes: u64,
    pub results_bytes: u64,
    /// Kernel log records that were overwritten in the guest before they could be read.
    pub kmsg_lost: u64,
    /// Bytes that did not fit farm's bounds and are missing from the middle of the logs.
    pub dropped_bytes: u64,
}

/// How a guest came to its job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Started {
    #[default]
    Booted,
    /// It went on from a copy of a saved guest.
    Resumed {
        /// Which one, by the hash of what was saved. None: not recorded.
        #[serde(default)]
        guest: Option<String>,
    },
    /// It could not.
    BootedInstead { reason: String },
}

impl Started {
    pub fn is_resumed(&self) -> bool {
        matches!(self, Self::Resumed { .. })
    }
}

/// When things happened, in microseconds since the life began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub started: Option<Timestamp>,
    #[serde(default)]
    pub start: Started,
    /// QEMU had been started.
    pub spawned_us: Option<u64>,
    /// Init said that it was ready.
    pub ready_us: Option<u64>,
    /// The guest's end was known: it went off, crashed, or its limit was over.
    pub ended_us: Option<u64>,
    /// The verdict was known; its record is written right after.
    pub verdict_us: Option<u64>,
}

/// A run as read back from its directory.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    pub directory: Utf8PathBuf,
    pub record: RunRecord,
    /// None: the run was cut short, or is still going on.
    pub summary: Option<RunSummary>,
    /// None: it was no search.
    pub search: Option<SearchRecord>,
    pub lives: Vec<LifeRecord>,
    /// Lives without a result, by name: they were cut short, or still go on.
    pub unfinished: Vec<String>,
}

impl StoredRun {
    /// Where a life's logs are.
    pub fn life_directory(&self, life: &LifeId) -> Utf8PathBuf {
        life_directory(&self.directory, life)
    }

    /// The lives that were asked for: what a run is judged by. Those that recheck a hit are left out.
    pub fn asked_for(&self) -> impl Iterator<Item = &LifeRecord> {
        self.lives.iter().filter(|life| life.recheck_of.is_none())
    }

    /// Of the lives that were asked for; of a search, which keeps few of them, all that were lived.
    pub fn verdicts(&self) -> BTreeMap<Verdict, u32> {
        if let Some(search) = &self.search {
            let counts = search.tally.verdicts.iter();
            return counts
                .map(|(verdict, count)| (*verdict, u32::try_from(*count).unwrap_or(u32::MAX)))
                .collect();
        }
        let mut verdicts = BTreeMap::new();
        for life in self.asked_for() {
            *verdicts.entry(life.verdict).or_default() += 1;
        }
        verdicts
    }
}
