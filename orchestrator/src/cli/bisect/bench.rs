//! What every bisect does with what it tries: make it, let it live, and have both in the journal before anybody acts on it.

use std::time::Instant;

use super::testbed::{Hunted, Made, Testbed, Tried};
use crate::cli::output;
use crate::error::{ExitCode, Failure};
use crate::escape::escape;
use crate::store::{BisectWriter, BuildRecord, Entry, Outcome, Probe};

/// After so many trials in a row that ended in trouble of farm's own a bisect stops.
const MOST_TROUBLES: u32 = 5;

pub(super) struct Bench<T> {
    pub(super) writer: BisectWriter,
    /// All that is known, as the journal has it.
    pub(super) entries: Vec<Entry>,
    testbed: T,
    hunted: Hunted,
    /// So many trials in a row, since farm was started, were trouble of its own.
    troubles: u32,
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
        let mut bench = Self { writer, entries, testbed, hunted, troubles: 0, began: Instant::now() };
        if let Some((of, run, trials)) = cut.flatten() {
            let tried = bench.testbed.ended(&run, trials, &bench.hunted)?;
            bench.keep(of, run, &tried)?;
        }
        Ok(bench)
    }

    /// Makes it ready to be tried.
    pub(super) fn make(&mut self, of: &Probe) -> Result<Build, Failure> {
        let began = Instant::now();
        let outcome = match self.testbed.make(of)? {
            Made::Ready { signature, cached } => BuildRecord::Built { signature, cached },
            Made::Cannot { said } => BuildRecord::CannotBuild { said },
        };
        let seconds = began.elapsed().as_secs_f64();
        self.record(Entry::Built { of: of.clone(), outcome: outcome.clone(), seconds })?;
        Ok(Build { outcome, seconds })
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
        self.check_host(&tried)?;
        Ok(tried)
    }

    /// Trouble of farm's own says nothing of what is tried; where there is nothing else, it is the host that needs looking at.
    fn check_host(&mut self, tried: &Tried) -> Result<(), Failure> {
        for trial in &tried.trials {
            self.troubles = if trial.outcome == Outcome::Infra { self.troubles + 1 } else { 0 };
        }
        if tried.trials.is_empty() && !tried.interrupted {
            self.troubles += 1;
        }
        if self.troubles < MOST_TROUBLES {
            return Ok(());
        }
        let reason = tried.trials.iter().rev().map(|trial| trial.reason.as_str()).find(|why| !why.is_empty());
        let reason = reason.map(|why| format!(": {}", escape(why.as_bytes()))).unwrap_or_default();
        let message = format!("{} trials in a row ended in trouble of farm's own{reason}", self.troubles);
        Err(Failure::new(ExitCode::Infra, message)
            .hint("`farm doctor` says what is missing; what was learned is kept, and none of these counts"))
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
