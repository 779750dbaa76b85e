//! What the guest says about its own work: the results stream, read as it comes.
//!
//! The contract is `docs/guest-protocol.md`. `results` splits the stream into init's messages; `program`
//! reads the KTAP that a stress program printed, `attempts` sets what was counted against what was asked, and `trace` reads
//! lines of the kernel's own trace.

mod attempts;
mod program;
mod results;
mod trace;

pub use attempts::Attempts;
pub use program::{DataFailure, PathStats, ProgramReport, Test, TestResult};
pub use results::{
    BesideReport, Message, ProgramEnd, Ready, ResultsReader, StepOutcome, StepReport, TouchReport,
    WorkerReport,
};
pub use trace::{TraceEvent, TraceFunctions, Untraced, dumped_events};
