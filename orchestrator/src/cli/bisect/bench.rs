//! What every bisect does with what it tries: make it, let it live, and have both in the journal before anybody acts on it.

use std::time::Instant;

use super::testbed::{Hunted, Made, Testbed, Tried};
use crate::cli::output;
use crate::error::Failure;
use crate::escape::escape;
use crate::store::{BisectWriter, BuildRecord, Entry, Probe};

pub(super) struct Bench<T> {
    pub(super) writer: BisectWriter,
    /// All that is known, as the journal has it.
    pub(super) entries: Vec<Entry>,
    testbed: T,
    hunted: Hunted,
    began: Instant,
}

/// What became of something that was to be made.
pub(super) struct Build {
    pub(super) outcome: BuildRecord,
    pub(super) seconds: f64,
}

impl<T: Testbed> Bench<T> {
    /// Takes what the journal has; trials of a run that was cut short are read from that.
    pub(super) fn new(
        writer: BisectWriter,
        entries: Vec<Entry>,
        testbed: T,
        hunted: Hunted,
    ) -> Result<Self, Failure> {
        let known = entries.iter().rev().find_map(|entry| match entry {
            Entry::Hunted { findings } => Some(Hunted::of_findings(findings)),
            _ => None,
        });
        let cut = entries.iter().rev().find_map(|entry| match entry {
            Entry::Begun { of, run, trials } => Some(Some((of.clone(), run.clone(), *trials))),
            Entry::Tried { .. } => Some(None),
            _ => None,
        });
        let hunted = known.unwrap_or(hunted);
        let mut bench = Self { writer, entries, testbed, hunted, began: Instant::now() };
        if let Some((of, run, trials)) = cut.flatten() {
            let tried = bench.testbed.ended(&run, trials, &bench.hunted)?;
            bench.keep(of, run, &tried)?;
        }
        Ok(bench)
    }

    /// Makes it ready to be tried; `None` if the user wants to stop.
    pub(super) fn make(&mut self, of: &Probe) -> Result<Option<Build>, Failure> {
        let began = Instant::now();
        let Some(made) = self.testbed.make(of)? else { return Ok(None) };
        let outcome = match made {
            Made::Ready { signature, cached } => BuildRecord::Built { signature, cached },
            Made::Cannot { said } => BuildRecord::CannotBuild { said },
        };
        let seconds = began.elapsed().as_secs_f64();
        self.record(Entry::Built { of: of.clone(), outcome: outcome.clone(), seconds })?;
        Ok(Some(Build { outcome, seconds }))
    }

    /// What became of it when it was made, if it was.
    pub(super) fn made(&self, of: &Probe) -> Option<&BuildRecord> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Built { of: built, outcome, .. } if built == of => Some(outcome),
            _ => None,
        })
    }

    /// Lets what was made live so many times.
    pub(super) fn try_it(&mut self, of: &Probe, trials: u32) -> Result<Tried, Failure> {
        let run = self.testbed.prepare(of, trials, &self.hunted)?;
        self.record(Entry::Begun { of: of.clone(), run: run.clone(), trials })?;
        let tried = self.testbed.live(&self.hunted)?;
        self.keep(of.clone(), run, &tried)?;
        Ok(tried)
    }

    fn keep(&mut self, of: Probe, run: String, tried: &Tried) -> Result<(), Failure> {
        if !self.hunted.is_known() && !tried.found.is_empty() {
            for finding in &tried.found {
                self.say(&format!("hunted from now on: {}", escape(finding.title.as_bytes())));
            }
            self.hunted = Hunted::of_findings(&tried.found);
            self.record(Entry::Hunted { findings: tried.found.clone() })?;
        }
        self.record(Entry::Tried { of, run, trials: tried.trials.clone() })
    }

    fn record(&mut self, entry: Entry) -> Result<(), Failure> {
        self.writer.record(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn say(&self, line: &str) {
        let at = self.began.elapsed().as_secs();
        output::note(&format!("[{:>3}:{:02}] {line}", at / 60, at % 60));
    }
}
