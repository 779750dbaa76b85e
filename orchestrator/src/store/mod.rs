//! Where results live: one directory a run, complete in itself.
//!
//! ```text
//! STATE/runs/20261122-140311-7f3a9c51e2/
//!   run.json         what was asked, by which farm, on which host, with which QEMU; written first
//!   events.jsonl     the event stream, one JSON object a line, appended as it happens
//!   search.json      how far a search has come: lives counted, findings; most of its lives leave nothing else
//!   summary.json     verdicts and the exit code; written last, so its absence means the run was cut short
//!   cells/5f0c2a1122334455.1/      the first life of cell 5f0c2a1122334455
//!     cell.json      the cell: everything that went into it
//!     job.txt        what init was told; job.cpio is the archive that brings it into the guest
//!     command.sh     starts the same guest by hand; what that writes goes to by-hand/
//!     console.log kmsg.log results.log     the guest's three streams, bounded
//!     qemu.log       what QEMU wrote to its standard error
//!     trace.json     what the kernel traced last before it complained, if the scenario asks for a trace
//!     cpus.json      PSW and registers, if the guest crashed or hung
//!     dump.elf       its memory, if it was asked for; replay.rr, by which QEMU repeats the life
//!     result.json    verdict, hits, steps, times
//! ```
//!
//! A bisect's directory, beside `runs`, is told of in `bisect`.
//!
//! Documents appear by rename; `events.jsonl` is only ever appended to.

mod bisect;
mod files;
mod find;
mod record;
mod trace;

pub use bisect::{
    BisectRecord, BisectWriter, BuildRecord, Entry, Finding, Outcome, Probe, SubjectRecord, Trial,
    read_answer, write_synced,
};
pub use files::{LifeFiles, RunWriter, Store, StoreError, write_whole};
pub use find::{Found, FoundHit, find, read_cell, read_cells};
pub use record::{
    CallRecord, CpuRecord, DUMP_FILE, Difference, DumpRecord, ExactRecord, HitId, HostRecord, KernelRecord,
    LifeRecord, MutationRecord, MutationRow, RECORDING_FILE, RecheckOf, RecheckRecord, ReproRecord, RunId,
    RunRecord, RunSummary, SearchAsked, SearchFinding, SearchRecord, SearchTally, Started, StepRecord,
    StoredHit, StoredRun, StreamRecord, Timings, TrialRecord,
};
pub use trace::{MOST_EVENTS, TraceRecord, read_trace};
