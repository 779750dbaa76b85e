//! Whose a finding is, the kernel's or the emulator's, judged by what became of it under other settings of QEMU.
//! Pure, from a run's results.
//!
//! A life *tells* of a finding if it shows it, or if it came to the end of its job and does not. One that did not
//! boot, that was cut short by another hit, or whose steps failed or did too little, tells nothing in either direction.
//! Counted are the lives of the recheck; the hit that began it makes its own setting one that has shown the
//! finding, and is part of no count, because it was chosen for what it showed. The rules, in their order:
//!
//! 1. No life shows it again: no judgement. Too rare a hit for so few lives looks the same wherever it comes from.
//! 2. No life under another setting tells: no judgement.
//! 3. No other setting shows it: the emulator is suspected.
//! 4. It is there in every life that tells, but for those with another CPU model, or another QEMU, in none of which it
//!    is: the emulator is suspected, under the model or the version that the others share. Threads are no such sign:
//!    that a hit wants CPUs that really run at once is what a race of the kernel's looks like.
//! 5. Otherwise two settings or more have shown it, and it is taken for the kernel's.
//!
//! A suspicion is no proof. A race may need the timing of one setting, and a kernel has code of its own for a CPU's
//! facilities. Nor is rule 5: a fault that all of QEMU's translators and devices here share is seen under every setting.

use std::fmt;

use serde::Serialize;

use crate::detect::Fingerprint;
use crate::plan::{Emulator, LifeId, Setting};
use crate::store::{LifeRecord, StoredHit, StoredRun};
use crate::verdict::{Ending, Verdict};

/// A finding that was rechecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recheck {
    pub fingerprint: Fingerprint,
    pub title: String,
    pub judgement: Judgement,
    /// One for each setting that lives were begun under, the original one first.
    pub tallies: Vec<Tally>,
}

/// What the lives under one setting showed of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub setting: Setting,
    /// Lives that show it …
    pub seen: u32,
    /// … of so many that tell.
    pub told: u32,
    /// Verdict and reason of the lives that do not.
    pub silent: Vec<String>,
    pub lives: Vec<LifeId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Judgement {
    EmulatorSuspected {
        only_under: String,
    },
    /// Taken for the kernel's; `under` are the settings beside the original one.
    Kernel {
        under: Vec<String>,
    },
    Open {
        why: String,
    },
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmulatorSuspected { only_under } => {
                write!(f, "emulator suspected: only under {only_under}")
            }
            Self::Kernel { under } => {
                write!(f, "seen as it was and under {}: taken for the kernel's", under.join(", "))
            }
            Self::Open { why } => write!(f, "{why}: no judgement"),
        }
    }
}

/// The rules. `emulator` is that of the lives which were asked for.
pub fn judge(tallies: &[Tally], emulator: &Emulator) -> Judgement {
    let told: u32 = tallies.iter().map(|tally| tally.told).sum();
    if tallies.iter().all(|tally| tally.seen == 0) {
        let why = match told {
            0 => "no life could tell".to_owned(),
            1 => "not seen again in 1 life".to_owned(),
            lives => format!("not seen again in {lives} lives"),
        };
        return Judgement::Open { why };
    }
    let (shown, away): (Vec<_>, Vec<_>) = tallies
        .iter()
        .filter(|tally| tally.setting != Setting::Same && tally.told > 0)
        .partition(|tally| tally.seen > 0);
    match (&shown[..], &away[..]) {
        ([], []) => {
            Judgement::Open { why: "seen again, but no life under another setting could tell".to_owned() }
        }
        ([], _) => Judgement::EmulatorSuspected { only_under: emulator.to_string() },
        (_, [only])
            if matches!(only.setting, Setting::CpuModel { .. } | Setting::Qemu { .. })
                && tallies.iter().all(|tally| tally.setting == only.setting || tally.seen == tally.told) =>
        {
            Judgement::EmulatorSuspected { only_under: only.setting.as_it_was(emulator) }
        }
        _ => Judgement::Kernel { under: shown.iter().map(|tally| tally.setting.to_string()).collect() },
    }
}

/// What was rechecked in a run, in the order in which it was found.
pub fn rechecks(run: &StoredRun) -> Vec<Recheck> {
    let Some(asked) = &run.record.recheck else { return Vec::new() };
    let mut rechecks: Vec<Recheck> = Vec::new();
    for found in run.asked_for() {
        for hit in found.hits.iter().filter(|hit| hit.is_new()) {
            let hit = &hit.judged.hit;
            if rechecks.iter().any(|recheck| recheck.fingerprint == hit.fingerprint) {
                continue;
            }
            let tallies = tallies(run, &hit.fingerprint);
            if tallies.is_empty() {
                continue;
            }
            rechecks.push(Recheck {
                fingerprint: hit.fingerprint.clone(),
                title: hit.title.clone(),
                judgement: judge(&tallies, &asked.emulator),
                tallies,
            });
        }
    }
    rechecks
}

/// How many new findings of the lives that were asked for were to be rechecked, and were not.
pub fn left_alone(run: &StoredRun) -> usize {
    let asked = run.record.recheck.as_ref();
    if asked.is_none_or(|asked| asked.settings.is_empty()) {
        return 0;
    }
    let mut findings: Vec<_> =
        run.asked_for().flat_map(|life| &life.hits).filter(|hit| hit.is_new()).map(fingerprint).collect();
    findings.sort_unstable();
    findings.dedup();
    findings.len() - rechecks(run).len()
}

fn fingerprint(hit: &StoredHit) -> &Fingerprint {
    &hit.judged.hit.fingerprint
}

/// Of all lives that recheck one which found it new.
fn tallies(run: &StoredRun, finding: &Fingerprint) -> Vec<Tally> {
    let began = |life: &LifeRecord| life.hits.iter().any(|hit| hit.is_new() && fingerprint(hit) == finding);
    let begun: Vec<LifeId> = run.asked_for().filter(|life| began(life)).map(|life| life.life).collect();
    let mut tallies: Vec<Tally> = Vec::new();
    for life in &run.lives {
        let Some(recheck) = life.recheck_of.as_ref().filter(|recheck| begun.contains(&recheck.life)) else {
            continue;
        };
        let index = tallies.iter().position(|tally| tally.setting == recheck.setting);
        let index = index.unwrap_or_else(|| {
            let setting = recheck.setting.clone();
            tallies.push(Tally { setting, seen: 0, told: 0, silent: Vec::new(), lives: Vec::new() });
            tallies.len() - 1
        });
        let tally = &mut tallies[index];
        tally.lives.push(life.life);
        match word_of(life, finding) {
            Word::Seen => (tally.seen, tally.told) = (tally.seen + 1, tally.told + 1),
            Word::NotSeen => tally.told += 1,
            Word::Nothing => tally.silent.push(match life.reason.as_str() {
                "" => life.verdict.to_string(),
                reason => format!("{}: {reason}", life.verdict),
            }),
        }
    }
    tallies.sort_by(|a, b| a.setting.cmp(&b.setting));
    tallies
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Seen,
    NotSeen,
    Nothing,
}

/// What a life says of a finding.
pub(crate) fn word_of(life: &LifeRecord, finding: &Fingerprint) -> Word {
    // What QEMU's own trouble brought about is no word of the kernel's.
    if life.verdict == Verdict::Infra {
        return Word::Nothing;
    }
    if life.hits.iter().any(|hit| fingerprint(hit) == finding) {
        return Word::Seen;
    }
    let whole = match life.verdict {
        Verdict::Passed | Verdict::Missed => true,
        // Another one's; unless that ended the guest, the job was done.
        Verdict::Hit => matches!(life.ending, Ending::PoweredOff | Ending::JobDone),
        Verdict::WorkloadFailed
        | Verdict::Ineffective
        | Verdict::TimedOut
        | Verdict::BootFailed
        | Verdict::BuildFailed
        | Verdict::Skipped
        | Verdict::Infra => false,
    };
    if whole { Word::NotSeen } else { Word::Nothing }
}

#[cfg(test)]
pub(crate) mod tests;
