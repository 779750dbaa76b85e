//! The end of a bisect: the proof, and the answer.

use std::num::NonZeroU32;

use super::drive::{Drive, Ended, GoesOn};
use super::testbed::Testbed;
use crate::bisect::{Answer, Verdict};
use crate::cli::environment::Environment;
use crate::cli::output;
use crate::error::{ExitCode, Failure};
use crate::report::bisect::{answer_text, git_log};
use crate::store::{BisectRecord, BuildRecord, Probe};

/// Where no number of trials would prove it.
const MOST_TRIALS: u32 = 1000;

/// What shows that the culprit is one, beside the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The bad end without it is clean.
    ByRevert,
    /// Nothing can be taken back.
    BySearch,
}

/// Searches, proves and answers.
pub(super) fn conclude<T: Testbed>(
    environment: &Environment,
    record: &BisectRecord,
    mut drive: Drive<'_, T>,
    proof: Proof,
) -> Result<ExitCode, Failure> {
    let interrupted = || {
        output::note(&format!("stopped; `farm bisect resume {}` goes on", record.id));
        Ok(ExitCode::Interrupted)
    };
    let verdict = match drive.search()? {
        Ended::Interrupted => return interrupted(),
        Ended::Verdict(verdict) => verdict,
    };
    if proof == Proof::ByRevert
        && let Verdict::Culprit { commit, .. } = &verdict
        && prove(&mut drive, &record.subjects[commit.0].id)? == GoesOn::No
    {
        return interrupted();
    }
    let answer = Answer::new(record, &drive.bench.entries, &verdict);
    let text = answer_text(record, &answer);
    drive.bench.writer.answer(&answer, &text, Some(&git_log(record, &answer)))?;
    environment.print(&text, &answer)?;
    output::note(&format!("kept in {}", drive.bench.writer.directory()));
    Ok(match verdict {
        Verdict::Culprit { .. } => ExitCode::Passed,
        Verdict::GoodIsBad | Verdict::BadDoesNotReproduce { .. } => ExitCode::Usage,
        _ => ExitCode::NoAnswer,
    })
}

/// Tries the bad end without the culprit.
fn prove<T: Testbed>(drive: &mut Drive<'_, T>, culprit: &str) -> Result<GoesOn, Failure> {
    let without = Probe::Without(culprit.to_owned());
    if drive.bench.made(&without).is_none() && drive.make(&without)? == GoesOn::No {
        return Ok(GoesOn::No);
    }
    if let Some(BuildRecord::CannotBuild { .. }) = drive.bench.made(&without) {
        return Ok(GoesOn::Yes);
    }
    let wanted = drive.search.trials_of_revert().map_or(MOST_TRIALS, NonZeroU32::get);
    let counts = drive.counts(&without);
    let left = wanted.saturating_sub(counts.telling());
    // A hit says all there is to say.
    if counts.hit > 0 || left == 0 {
        return Ok(GoesOn::Yes);
    }
    let goes_on = drive.try_it(&without, left)?;
    drive.say_trials();
    Ok(goes_on)
}
