//! `trace.json`: what a life's kernel traced last.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::files::{LifeFiles, StoreError};
use super::find::read_if_there;
use crate::workload::{TraceEvent, Untraced};

/// Of one CPU.
const MOST_OF_A_CPU: usize = 256;
/// More than a guest hands out that has as many CPUs as a scenario can ask for.
pub const MOST_EVENTS: usize = 64 * MOST_OF_A_CPU;
const FILE: &str = "trace.json";

/// The last events of each CPU before the kernel's first complaint, or before the guest fell silent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// In the order of time.
    pub events: Vec<TraceEvent>,
    /// What was asked for beside.
    pub untraced: Vec<Untraced>,
    /// Why there are no events.
    pub trouble: Option<String>,
}

impl TraceRecord {
    pub fn new(mut events: Vec<TraceEvent>, untraced: Vec<Untraced>, trouble: Option<String>) -> Self {
        events.sort_by_key(|event| event.at_us);
        let mut kept = std::collections::HashMap::<u32, usize>::new();
        let mut is_last = |event: &TraceEvent| {
            let count = kept.entry(event.cpu).or_default();
            *count += 1;
            *count <= MOST_OF_A_CPU
        };
        let mut events: Vec<_> =
            events.into_iter().rev().filter(|event| is_last(event)).take(MOST_EVENTS).collect();
        events.reverse();
        Self { events, untraced, trouble }
    }
}

impl LifeFiles {
    pub fn trace(&self, trace: &TraceRecord) -> Result<(), StoreError> {
        self.document(FILE, trace)
    }
}

/// Of the life with this directory. None: it was not traced, or there was nothing to stop the trace.
pub fn read_trace(life: &Utf8Path) -> Result<Option<TraceRecord>, StoreError> {
    read_if_there(&life.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_of_each_cpu_stay_in_the_order_of_time() {
        let event = |at_us: u64, cpu: u32| TraceEvent {
            at_us,
            cpu,
            task: "t".to_owned(),
            pid: 1,
            event: "e".to_owned(),
            detail: String::new(),
        };
        let events = (0..600).map(|at| event(at, 1)).chain([event(3, 0)]).collect();
        let kept = TraceRecord::new(events, Vec::new(), None).events;
        assert_eq!(kept.len(), MOST_OF_A_CPU + 1);
        assert_eq!((&kept[0], &kept[1]), (&event(3, 0), &event(344, 1)));
        assert_eq!(kept.last(), Some(&event(599, 1)));
    }
}
