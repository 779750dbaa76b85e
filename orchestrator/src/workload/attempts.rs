//! What a step was to reach in the kernel, and what the guest counted of it.

use serde::{Deserialize, Serialize};

use super::results::TouchReport;
use crate::scenario::Touch;

/// A reason longer than this is cut: init's own is shorter.
const LONGEST_REASON: usize = 1024;

/// How often a kernel function was called while a step ran, by whomever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// As the scenario names it, with all alternatives: `a|b`.
    pub functions: String,
    /// How many calls are enough.
    pub least: u64,
    /// The function that was counted.
    pub symbol: Option<String>,
    pub count: u64,
    /// Calls that came while this CPU was in the probe of another, which the kernel counts apart
    /// (Documentation/trace/kprobes.rst).
    pub missed: u64,
    /// Why it could not be counted.
    pub reason: Option<String>,
}

impl Attempts {
    /// What was asked, and what of that step's reports answers it.
    pub fn new(touch: &Touch, reports: &[TouchReport]) -> Self {
        let functions = touch.alternatives();
        let least = touch.least;
        let Some(report) = reports.iter().find(|report| report.functions == functions) else {
            let reason = Some("init said nothing of it".to_owned());
            return Self { functions, least, symbol: None, count: 0, missed: 0, reason };
        };
        match &report.symbol {
            Some(symbol) if touch.functions.contains(symbol) => {
                let TouchReport { count, missed, .. } = *report;
                Self { functions, least, symbol: Some(symbol.clone()), count, missed, reason: None }
            }
            Some(_) => {
                let reason = Some("init counted another function".to_owned());
                Self { functions, least, symbol: None, count: 0, missed: 0, reason }
            }
            None => {
                let reason = report.reason.as_deref().unwrap_or("init did not say why");
                let reason = Some(reason.chars().take(LONGEST_REASON).collect());
                Self { functions, least, symbol: None, count: 0, missed: 0, reason }
            }
        }
    }

    /// All calls: a missed one was a call too.
    pub fn calls(&self) -> u64 {
        self.count.saturating_add(self.missed)
    }

    /// Why this proves nothing, if it does not.
    pub fn shortfall(&self) -> Option<String> {
        match (&self.symbol, self.calls()) {
            (None, _) => {
                let reason = self.reason.as_deref().unwrap_or("no reason is known");
                Some(format!("calls of {} could not be counted: {reason}", self.functions))
            }
            (Some(symbol), calls) if calls < self.least => {
                let times = if calls == 1 { "once".to_owned() } else { format!("{calls} times") };
                Some(format!("{symbol} was called {times}, at least {} are needed", self.least))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(functions: &[&str], least: u64) -> Touch {
        Touch { functions: functions.iter().map(|name| (*name).to_owned()).collect(), least, when: None }
    }

    fn report(functions: &str, symbol: Option<&str>, (count, missed): (u64, u64)) -> TouchReport {
        let reason = symbol.is_none().then(|| "no tracefs".to_owned());
        TouchReport {
            step: 1,
            functions: functions.to_owned(),
            symbol: symbol.map(str::to_owned),
            count,
            missed,
            reason,
        }
    }

    #[test]
    fn a_step_reached_what_was_called_often_enough() {
        let asked = touch(&["a", "b"], 10);
        for (report, shortfall) in [
            (report("a|b", Some("b"), (10, 0)), None),
            (report("a|b", Some("a"), (7, 3)), None),
            (report("a|b", Some("a"), (9, 0)), Some("a was called 9 times, at least 10 are needed")),
            (report("a|b", Some("b"), (0, 1)), Some("b was called once, at least 10 are needed")),
            (report("a|b", Some("b"), (u64::MAX, 1)), None),
            (report("a|b", None, (11, 0)), Some("calls of a|b could not be counted: no tracefs")),
            (
                report("a|b", Some("c"), (11, 0)),
                Some("calls of a|b could not be counted: init counted another function"),
            ),
            (
                report("a", Some("a"), (11, 0)),
                Some("calls of a|b could not be counted: init said nothing of it"),
            ),
        ] {
            let attempts = Attempts::new(&asked, std::slice::from_ref(&report));
            assert_eq!(attempts.shortfall().as_deref(), shortfall, "{report:?}");
        }
    }

    #[test]
    fn a_guests_reason_is_cut() {
        let mut endless = report("a", None, (0, 0));
        endless.reason = Some("x".repeat(1 << 16));
        let reason = Attempts::new(&touch(&["a"], 1), &[endless]).reason.unwrap();
        assert_eq!(reason.len(), LONGEST_REASON);
    }
}
