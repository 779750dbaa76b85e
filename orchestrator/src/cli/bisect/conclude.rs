//! The end of a bisect: the proof, and the answer.

use std::num::NonZeroU32;

use super::drive::{Drive, Ended, GoesOn};
use super::testbed::Testbed;
use crate::bisect::{Answer, Commit, Verdict};
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
    let mut verdict = match drive.search()? {
        Ended::Interrupted => return interrupted(),
        Ended::Verdict(verdict) => verdict,
    };
    if proof == Proof::ByRevert
        && let Verdict::Culprit { commit, confidence } = verdict
    {
        let without = Probe::Without(record.subjects[commit.0].id.clone());
        if prove(&mut drive, &without)? == GoesOn::No {
            return interrupted();
        }
        if drive.counts(&without).hit > 0 {
            let second = Commit(record.subjects.len() - 1);
            verdict = Verdict::TwoCulprits { first: commit, second, confidence };
        }
    }
    let answer = Answer::new(record, &drive.bench.entries, &verdict);
    let text = answer_text(record, &answer);
    let log = (proof == Proof::ByRevert).then(|| git_log(record, &answer));
    drive.bench.writer.answer(&answer, &text, log.as_deref())?;
    environment.print(&text, &answer)?;
    output::note(&format!("kept in {}", drive.bench.writer.directory()));
    Ok(match verdict {
        Verdict::Culprit { .. } => ExitCode::Passed,
        Verdict::GoodIsBad | Verdict::BadDoesNotReproduce { .. } => ExitCode::Usage,
        _ => ExitCode::NoAnswer,
    })
}

/// Tries the bad end without the culprit, until it has shown the bug, or enough trials have not, or it turns out that they do not tell.
fn prove<T: Testbed>(drive: &mut Drive<'_, T>, without: &Probe) -> Result<GoesOn, Failure> {
    if drive.bench.made(without).is_none() {
        drive.make(without)?;
    }
    if let Some(BuildRecord::CannotBuild { .. }) = drive.bench.made(without) {
        return Ok(GoesOn::Yes);
    }
    let wanted = drive.search.trials_of_revert().map_or(MOST_TRIALS, NonZeroU32::get);
    loop {
        let counts = drive.counts(without);
        let left = wanted.saturating_sub(counts.telling());
        // A hit says all there is to say.
        if counts.hit > 0 || left == 0 || counts.witness().is_unfit() {
            drive.say_trials();
            return Ok(GoesOn::Yes);
        }
        if drive.try_it(without, left)? == GoesOn::No {
            return Ok(GoesOn::No);
        }
    }
}
