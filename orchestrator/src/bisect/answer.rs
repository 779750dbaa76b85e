//! What a bisect came to, with its proof, from its journal. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::Commit;
use super::search::{Confidence, Verdict, WhyNoAnswer};
use crate::store::{
    BisectRecord, BuildRecord, Entry, Finding, Probe, SubjectRecord, TrialOutcome, TrialVerdict,
};

/// `answer.json`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    pub conclusion: Conclusion,
    pub hunted: Vec<Finding>,
    /// What was tried, parents first.
    pub tried: Vec<Row>,
    /// Hits that were not hunted; they never counted.
    pub others: Vec<Other>,
    pub builds: u32,
    pub trials: u32,
    /// That builds and trials took.
    pub seconds: f64,
}

/// The verdict, with what it names.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Conclusion {
    Culprit { culprit: SubjectRecord, confidence: f64, proof: Proof },
    Among { candidates: Vec<SubjectRecord>, confidence: f64 },
    GoodIsBad { good: SubjectRecord },
    BadDoesNotReproduce { bad: SubjectRecord, trials: u32 },
    TwoCulprits { first: SubjectRecord, second: SubjectRecord },
    NoAnswer { why: String },
}

/// What shows it, beside the search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    pub culprit: Counts,
    pub parents: Vec<Counts>,
    pub without: Without,
}

/// The bad end with the culprit taken back.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Without {
    /// It was not tried.
    NotTried,
    /// There is no kernel of it, and why.
    Cannot {
        said: String,
    },
    Tried(Counts),
}

/// How often trials showed what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub id: String,
    pub hit: u32,
    pub clean: u32,
    pub weak: u32,
    pub other_failure: u32,
    /// No more of it could be tried.
    pub cannot_boot: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub subject: SubjectRecord,
    /// None: nobody asked for a kernel of it.
    pub build: Option<BuildRecord>,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    pub title: String,
    pub trials: u32,
    /// Whose kernels showed it.
    pub subjects: u32,
}

impl Counts {
    fn of<'a>(id: &str, trials: impl Iterator<Item = &'a TrialOutcome>) -> Self {
        let mut counts = Self { id: id.to_owned(), ..Self::default() };
        for trial in trials {
            match trial.outcome {
                TrialVerdict::Hit => counts.hit += 1,
                TrialVerdict::Clean => counts.clean += 1,
                TrialVerdict::Weak => counts.weak += 1,
                TrialVerdict::OtherFailure => counts.other_failure += 1,
                TrialVerdict::CannotBoot => counts.cannot_boot += 1,
                TrialVerdict::Infra => {}
            }
        }
        counts
    }

    /// Of all trials of one.
    pub fn of_journal(entries: &[Entry], of: &Probe) -> Self {
        let (Probe::Subject(id) | Probe::Without(id)) = of;
        Self::of(id, trials_of(entries, of))
    }

    /// Trials that tell whether there is a hit.
    pub fn telling(&self) -> u32 {
        self.hit + self.clean
    }

    pub fn all(&self) -> u32 {
        self.telling() + self.weak + self.other_failure + self.cannot_boot
    }
}

impl Answer {
    pub fn new(record: &BisectRecord, entries: &[Entry], verdict: &Verdict) -> Self {
        let named = |commit: &Commit| record.subjects[commit.0].clone();
        let counts = |id: &str| Counts::of(id, trials_of(entries, &Probe::Subject(id.to_owned())));
        let conclusion = match verdict {
            Verdict::Culprit { commit, confidence } => {
                let culprit = named(commit);
                let proof = Proof {
                    culprit: counts(&culprit.id),
                    parents: culprit.parents.iter().map(|parent| counts(parent)).collect(),
                    without: without(entries, &culprit.id),
                };
                Conclusion::Culprit { culprit, confidence: *confidence, proof }
            }
            Verdict::Among { commits, confidence } => {
                Conclusion::Among { candidates: commits.iter().map(named).collect(), confidence: *confidence }
            }
            Verdict::GoodIsBad => Conclusion::GoodIsBad { good: record.subjects[0].clone() },
            Verdict::BadDoesNotReproduce { trials } => {
                let bad = record.subjects[record.subjects.len() - 1].clone();
                Conclusion::BadDoesNotReproduce { bad, trials: *trials }
            }
            Verdict::TwoCulprits { first, second } => {
                Conclusion::TwoCulprits { first: named(first), second: named(second) }
            }
            Verdict::NoAnswer(why) => Conclusion::NoAnswer { why: why_words(*why, named) },
        };
        Self {
            conclusion,
            hunted: hunted(entries),
            tried: record.subjects.iter().filter_map(|subject| row(subject, entries)).collect(),
            others: others(entries),
            builds: count(entries, |entry| {
                matches!(entry, Entry::Built { outcome: BuildRecord::Built { cached: false, .. }, .. })
                    || matches!(entry, Entry::Built { outcome: BuildRecord::CannotBuild { .. }, .. })
            }),
            trials: all_trials(entries).count().try_into().unwrap_or(u32::MAX),
            seconds: seconds(entries),
        }
    }
}

fn why_words(why: WhyNoAnswer, named: impl Fn(&Commit) -> SubjectRecord) -> String {
    match why {
        WhyNoAnswer::EndCannotBeTried(commit) => {
            format!("{} is an end, and cannot be tried: choose another", named(&commit).id)
        }
    }
}

/// How many clean trials in a row make it as sure as asked that a kernel lacks a bug that showed up in so many of so
/// many trials where it was: at the rate that is half a hit and half a trial below what was seen.
pub fn trials_to_clear(hits: u32, trials: u32, confidence: Confidence) -> u32 {
    let rate = (f64::from(hits) - 0.5).max(0.5) / (f64::from(trials) + 0.5).max(1.0);
    let wanted = (1.0 - confidence.share()).ln() / (1.0 - rate).ln();
    // Whatever is wrong with the rate, a day is not spent on it.
    wanted.ceil().clamp(2.0, 5000.0) as u32
}

/// Hits, of how many trials that tell, of all subjects that have shown the bug.
pub fn rate_where_seen(entries: &[Entry]) -> (u32, u32) {
    let mut counts: BTreeMap<&Probe, (u32, u32)> = BTreeMap::new();
    for (of, trial) in all_trials(entries) {
        let (hits, trials) = counts.entry(of).or_default();
        *hits += u32::from(trial.outcome == TrialVerdict::Hit);
        *trials += u32::from(matches!(trial.outcome, TrialVerdict::Hit | TrialVerdict::Clean));
    }
    let seen = counts.values().filter(|(hits, _)| *hits > 0);
    seen.fold((0, 0), |(hits, trials), (more_hits, more)| (hits + more_hits, trials + more))
}

fn all_trials(entries: &[Entry]) -> impl Iterator<Item = (&Probe, &TrialOutcome)> {
    entries.iter().flat_map(|entry| match entry {
        Entry::Tried { of, trials, .. } => trials.iter().map(move |trial| (of, trial)).collect(),
        _ => Vec::new(),
    })
}

fn trials_of<'a>(entries: &'a [Entry], of: &'a Probe) -> impl Iterator<Item = &'a TrialOutcome> {
    all_trials(entries).filter(move |(tried, _)| *tried == of).map(|(_, trial)| trial)
}

fn build_of(entries: &[Entry], probe: &Probe) -> Option<BuildRecord> {
    let built = entries.iter().rev().find_map(|entry| match entry {
        Entry::Built { of, outcome, .. } if of == probe => Some(outcome),
        _ => None,
    });
    built.cloned()
}

fn without(entries: &[Entry], culprit: &str) -> Without {
    let probe = Probe::Without(culprit.to_owned());
    match build_of(entries, &probe) {
        None => Without::NotTried,
        Some(BuildRecord::CannotBuild { said }) => Without::Cannot { said },
        Some(BuildRecord::Built { .. }) => Without::Tried(Counts::of(culprit, trials_of(entries, &probe))),
    }
}

fn row(subject: &SubjectRecord, entries: &[Entry]) -> Option<Row> {
    let probe = Probe::Subject(subject.id.clone());
    let build = build_of(entries, &probe);
    let counts = Counts::of(&subject.id, trials_of(entries, &probe));
    (build.is_some() || counts.all() > 0).then(|| Row { subject: subject.clone(), build, counts })
}

fn hunted(entries: &[Entry]) -> Vec<Finding> {
    let found = entries.iter().find_map(|entry| match entry {
        Entry::Hunted { findings } => Some(findings.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn others(entries: &[Entry]) -> Vec<Other> {
    let mut seen: BTreeMap<&str, (u32, Vec<&Probe>)> = BTreeMap::new();
    for (of, trial) in all_trials(entries) {
        for title in &trial.others {
            let (trials, subjects) = seen.entry(title).or_default();
            *trials += 1;
            if !subjects.contains(&of) {
                subjects.push(of);
            }
        }
    }
    let other = |(title, (trials, subjects)): (&str, (u32, Vec<&Probe>))| Other {
        title: title.to_owned(),
        trials,
        subjects: subjects.len() as u32,
    };
    seen.into_iter().map(other).collect()
}

fn count(entries: &[Entry], counts: impl Fn(&Entry) -> bool) -> u32 {
    entries.iter().filter(|entry| counts(entry)).count().try_into().unwrap_or(u32::MAX)
}

fn seconds(entries: &[Entry]) -> f64 {
    let of = |entry: &Entry| match entry {
        Entry::Built { seconds, .. } => *seconds,
        Entry::Tried { trials, .. } => trials.iter().map(|trial| trial.seconds).sum(),
        _ => 0.0,
    };
    entries.iter().map(of).sum()
}
