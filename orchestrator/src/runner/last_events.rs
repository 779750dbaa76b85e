//! The trace of a life: as its guest told it, or as a guest that could not was had to print it.

use std::time::Instant;

use super::keepsakes::Keepsakes;
use super::life::{MachineWords, Task, Trouble};
use super::transcript::{Tracing, Transcript};
use crate::machine::{LastEvents, Machine, Streams};
use crate::plan::Cell;
use crate::store::{StoreError, Timings, TraceRecord};
use crate::workload::{TraceFunctions, dumped_events};

/// Whether a guest was had to say something that it would not have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Printed,
    LeftAlone,
}

impl Keepsakes {
    /// Whether a kernel that cannot tell its trace is to print it. QEMU could not repeat that of a recorded life.
    pub(super) fn wants_last_events(&self, cell: &Cell) -> bool {
        !cell.scenario.trace.is_empty() && !self.recording
    }
}

impl Task {
    /// Of a guest that stands still for good, and whose init has not told the trace.
    pub(super) async fn print_trace(
        &self,
        machine: &mut Machine,
        streams: &mut Streams,
        words: &mut MachineWords,
        began: Instant,
        timings: &mut Timings,
        transcript: &mut Transcript,
    ) -> Result<Lost, Trouble> {
        if words.cpus.is_none() || !self.keepsakes.wants_last_events(&self.assignment.cell) {
            return Ok(Lost::LeftAlone);
        }
        self.read_rest(streams, began, timings, transcript).await?;
        let (Some(cpus), Some(stub), Some(functions)) =
            (&words.cpus, &mut streams.stub, transcript.trace.functions)
        else {
            return Ok(Lost::LeftAlone);
        };
        let TraceFunctions { ftrace_dump, panic } = functions;
        if transcript.trace.is_told || ftrace_dump == 0 || panic == 0 {
            return Ok(Lost::LeftAlone);
        }
        let console = &mut streams.console;
        let printed = LastEvents { machine, stub, console, cpus, ftrace_dump, panic }.print().await;
        words.last_events = Some(match printed {
            Ok(printed) => Ok(dumped_events(&printed)),
            Err(error) => {
                let Trouble(trouble) = error.into();
                Err(trouble)
            }
        });
        Ok(Lost::Printed)
    }

    /// Writes down what was traced, if anything stopped the trace or stood against it.
    pub(super) fn keep_trace(&self, words: &MachineWords, told: &Tracing) -> Result<(), StoreError> {
        let Tracing { untraced, events, .. } = told;
        // It is had to print them only where init has not told them all.
        let (events, trouble) = match &words.last_events {
            None => (events, None),
            Some(Ok(printed)) if printed.is_empty() => {
                (events, Some("the kernel printed no events".to_owned()))
            }
            Some(Ok(printed)) => (printed, None),
            Some(Err(trouble)) => (events, Some(trouble.clone())),
        };
        if events.is_empty() && untraced.is_empty() && trouble.is_none() {
            return Ok(());
        }
        self.files.trace(&TraceRecord::new(events.clone(), untraced.clone(), trouble))
    }
}
