//! What a bisect came to, with its proof, from its journal. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::Commit;
use super::outcome::Witness;
use super::verdict::{Verdict, WhyNoAnswer};
use crate::store::{BisectRecord, BuildRecord, Entry, Finding, Outcome, Probe, SubjectRecord, Trial};

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
    Culprit {
        culprit: SubjectRecord,
        confidence: f64,
        proof: Proof,
    },
    Among {
        candidates: Vec<SubjectRecord>,
        confidence: f64,
    },
    GoodIsBad {
        good: SubjectRecord,
    },
    BadDoesNotReproduce {
        bad: SubjectRecord,
        trials: u32,
    },
    TwoCulprits {
        first: SubjectRecord,
        second: SubjectRecord,
        /// Where the second is the bad end, which has the bug without the first, too.
        proof: Option<Proof>,
    },
    NoAnswer {
        why: String,
    },
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
    fn of<'a>(id: &str, trials: impl Iterator<Item = &'a Trial>) -> Self {
        let mut counts = Self { id: id.to_owned(), ..Self::default() };
        for trial in trials {
            match trial.outcome {
                Outcome::Hit => counts.hit += 1,
                Outcome::Clean => counts.clean += 1,
                Outcome::Weak => counts.weak += 1,
                Outcome::OtherFailure => counts.other_failure += 1,
                Outcome::CannotBoot => counts.cannot_boot += 1,
                Outcome::Infra => {}
            }
        }
        counts
    }

    /// Of all trials of one.
    pub fn of_journal(entries: &[Entry], of: &Probe) -> Self {
        let (Probe::Subject(id) | Probe::Without(id)) = of;
        Self::of(id, trials_of(entries, of))
    }

    /// Of all trials of its kernel, which may be that of other commits, too.
    fn of_kernel(entries: &[Entry], id: &str) -> Self {
        let signature = |probe: &Probe| match build_of(entries, probe) {
            Some(BuildRecord::Built { signature, .. }) => signature,
            _ => None,
        };
        let own = Probe::Subject(id.to_owned());
        let of_own = signature(&own);
        let is_same = |probe: &Probe| {
            *probe == own
                || (of_own.is_some() && matches!(probe, Probe::Subject(_)) && signature(probe) == of_own)
        };
        Self::of(id, all_trials(entries).filter(|(probe, _)| is_same(probe)).map(|(_, trial)| trial))
    }

    /// Trials that tell whether there is a hit.
    pub fn telling(&self) -> u32 {
        self.hit + self.clean
    }

    /// Whether they tell at all.
    pub fn witness(&self) -> Witness {
        let mut witness = Witness::default();
        for (outcome, count) in [
            (Outcome::Clean, self.telling()),
            (Outcome::Weak, self.weak + self.other_failure),
            (Outcome::CannotBoot, self.cannot_boot),
        ] {
            (0..count).for_each(|_| witness.hear(outcome));
        }
        witness
    }

    pub fn all(&self) -> u32 {
        self.telling() + self.weak + self.other_failure + self.cannot_boot
    }
}

impl Answer {
    pub fn new(record: &BisectRecord, entries: &[Entry], verdict: &Verdict) -> Self {
        let named = |commit: &Commit| record.subjects[commit.0].clone();
        let counts = |id: &str| Counts::of_kernel(entries, id);
        let proof = |culprit: &SubjectRecord| Proof {
            culprit: counts(&culprit.id),
            parents: culprit.parents.iter().map(|parent| counts(parent)).collect(),
            without: without(entries, &culprit.id),
        };
        let conclusion = match verdict {
            Verdict::Culprit { commit, confidence } => {
                let culprit = named(commit);
                let proof = proof(&culprit);
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
            Verdict::TwoCulprits { first, second, .. } => {
                let (first, second) = (named(first), named(second));
                let proof = Some(proof(&first)).filter(|proof| matches!(proof.without, Without::Tried(_)));
                Conclusion::TwoCulprits { first, second, proof }
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
                    // What cannot be taken back was not built in vain.
                    || matches!(entry, Entry::Built { of: Probe::Subject(_), outcome: BuildRecord::CannotBuild { .. }, .. })
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

fn all_trials(entries: &[Entry]) -> impl Iterator<Item = (&Probe, &Trial)> {
    entries.iter().flat_map(|entry| match entry {
        Entry::Tried { of, trials, .. } => trials.iter().map(move |trial| (of, trial)).collect(),
        _ => Vec::new(),
    })
}

fn trials_of<'a>(entries: &'a [Entry], of: &'a Probe) -> impl Iterator<Item = &'a Trial> {
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
    // One that was only checked out has nothing to tell.
    let is_told = match &build {
        Some(BuildRecord::Built { signature: None, .. }) | None => counts.all() > 0,
        Some(_) => true,
    };
    is_told.then(|| Row { subject: subject.clone(), build, counts })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RunId;

    fn subject(id: &str, parent: Option<&str>) -> SubjectRecord {
        SubjectRecord {
            id: id.into(),
            parents: parent.into_iter().map(str::to_owned).collect(),
            content: None,
            subject: format!("change {id}"),
            author: None,
            date: None,
        }
    }

    fn built(id: &str, signature: &str) -> Entry {
        let outcome = BuildRecord::Built { signature: Some(signature.into()), cached: false };
        Entry::Built { of: Probe::Subject(id.into()), outcome, seconds: 10.0 }
    }

    fn tried(of: Probe, outcomes: &[Outcome]) -> Entry {
        let trial = |(number, outcome): (u32, &Outcome)| Trial {
            number,
            outcome: *outcome,
            seconds: 1.0,
            others: vec!["BUG: elsewhere".into()],
            reason: String::new(),
        };
        Entry::Tried { of, run: "r".into(), trials: (1..).zip(outcomes).map(trial).collect() }
    }

    fn answer() -> (BisectRecord, Answer) {
        use Outcome::{Clean, Hit, OtherFailure};

        let started = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        let record = BisectRecord {
            id: RunId::new(started, 1),
            started,
            farm: "0".into(),
            command: Vec::new(),
            directory: "/".into(),
            inputs: String::new(),
            subjects: vec![
                subject("a", None),
                subject("b", Some("a")),
                subject("c", Some("b")),
                subject("d", Some("c")),
            ],
        };
        let of = |id: &str| Probe::Subject(id.into());
        let without = Probe::Without("b".into());
        let no_kernel = BuildRecord::CannotBuild { said: "it does not apply\nat all".into() };
        let entries = [
            built("d", "bad"),
            tried(of("d"), &[Hit]),
            built("a", "good"),
            tried(of("a"), &[Clean, OtherFailure, Clean]),
            // The same kernel but for a comment: nobody tries b's own.
            built("c", "with"),
            tried(of("c"), &[Clean, Hit]),
            built("b", "with"),
            Entry::Built { of: without, outcome: no_kernel, seconds: 1.0 },
        ];
        let verdict = Verdict::Culprit { commit: Commit(1), confidence: 0.9951 };
        let answer = Answer::new(&record, &entries, &verdict);
        (record, answer)
    }

    #[test]
    fn trials_of_a_kernel_count_for_all_its_commits() {
        let (_, answer) = answer();
        let Conclusion::Culprit { proof, .. } = &answer.conclusion else { panic!("{answer:?}") };
        assert_eq!((proof.culprit.hit, proof.culprit.clean), (1, 1));
        assert_eq!((proof.parents[0].hit, proof.parents[0].clean), (0, 2));
        assert_eq!((answer.builds, answer.trials, answer.seconds), (4, 6, 47.0));
    }

    #[test]
    fn an_answer_as_a_person_reads_it() {
        let (record, answer) = answer();
        insta::assert_snapshot!(crate::report::bisect::answer_text(&record, &answer));
        insta::assert_snapshot!(crate::report::bisect::git_log(&record, &answer));
    }
}
