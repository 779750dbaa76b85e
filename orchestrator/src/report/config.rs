//! A bisect of configurations: what it came to.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Align, Table, thousands};
use crate::bisect::config::{Change, Changes, Found, Verdict};
use crate::escape::escape;
use crate::kernel::Kconfig;
use crate::store::{BuildRecord, Entry, Finding, RunId};

/// How many options that follow from the causes are told.
const FOLLOWING_TOLD: usize = 12;

/// `answer.json`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigAnswer {
    pub bisect: RunId,
    pub conclusion: ConfigConclusion,
    pub hunted: Vec<Finding>,
    /// In which the two configurations differ.
    pub options: usize,
    pub configurations: u32,
    pub builds: u32,
    pub trials: u32,
    /// That builds and trials took.
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum ConfigConclusion {
    Found {
        /// Without any one of these the others show nothing.
        causes: Vec<Culprit>,
        /// Without these the causes can't be set.
        dragged: Vec<Culprit>,
        /// Nothing can be told without any one of these.
        unclear: Vec<Culprit>,
        /// What follows from all of them.
        following: Changes,
        /// How sure it is that each cause is one.
        confidence: f64,
        /// Over the good configuration, it shows it.
        fragment: String,
    },
    NoDifference,
    BadIsClean,
    GoodHits,
    Unresolved,
}

/// An option, as the tree's Kconfig has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Culprit {
    #[serde(flatten)]
    pub change: Change,
    pub prompt: Option<String>,
    /// `FILE:LINE`
    pub place: Option<String>,
}

impl ConfigAnswer {
    /// `fragment` is that of a least set that was found.
    pub fn new(
        bisect: RunId,
        verdict: &Verdict,
        fragment: Option<String>,
        options: usize,
        kconfig: &Kconfig,
        entries: &[Entry],
    ) -> Self {
        let conclusion = match verdict {
            Verdict::Found(found) => conclusion(found, fragment.unwrap_or_default(), kconfig),
            Verdict::NoDifference => ConfigConclusion::NoDifference,
            Verdict::BadIsClean => ConfigConclusion::BadIsClean,
            Verdict::GoodHits => ConfigConclusion::GoodHits,
            Verdict::Unresolved => ConfigConclusion::Unresolved,
        };
        let mut answer = Self {
            bisect,
            conclusion,
            hunted: Vec::new(),
            options,
            configurations: 0,
            builds: 0,
            trials: 0,
            seconds: 0.0,
        };
        for entry in entries {
            match entry {
                Entry::Hunted { findings } => answer.hunted = findings.clone(),
                Entry::Begun { .. } => {}
                Entry::Built { outcome, seconds, .. } => {
                    answer.configurations += 1;
                    answer.builds += u32::from(!matches!(outcome, BuildRecord::Built { cached: true, .. }));
                    answer.seconds += seconds;
                }
                Entry::Tried { trials, .. } => {
                    answer.trials += trials.len() as u32;
                    answer.seconds += trials.iter().map(|trial| trial.seconds).sum::<f64>();
                }
            }
        }
        answer
    }
}

fn conclusion(found: &Found, fragment: String, kconfig: &Kconfig) -> ConfigConclusion {
    let named = |changes: &[Change]| {
        let culprit = |change: &Change| Culprit {
            prompt: kconfig.prompt(&change.option).map(str::to_owned),
            place: kconfig.place(&change.option).map(str::to_owned),
            change: change.clone(),
        };
        changes.iter().map(culprit).collect()
    };
    let asked = || [&found.causes, &found.dragged, &found.unclear].into_iter().flatten();
    let follows = |(option, _): &(&str, &str)| asked().all(|change| change.option != *option);
    let following = found.changes.iter().filter(follows);
    ConfigConclusion::Found {
        causes: named(&found.causes),
        dragged: named(&found.dragged),
        unclear: named(&found.unclear),
        following: following.map(|(option, value)| (option.to_owned(), value.to_owned())).collect(),
        confidence: 1.0 - found.wrong_at_most,
        fragment,
    }
}

/// The whole answer, for a person and for a mail.
pub fn config_text(answer: &ConfigAnswer) -> String {
    let mut out = match &answer.conclusion {
        ConfigConclusion::Found { causes, dragged, unclear, following, confidence, fragment } => {
            let mut out = match causes.len() {
                1 => "this option makes good bad".to_owned(),
                number => format!("these {number} options together make good bad"),
            };
            if *confidence < 1.0 {
                // Rounded down: nothing is as sure as it is not.
                let _ = write!(out, ", {:.2} % sure", (confidence * 10_000.0).floor() / 100.0);
            }
            let _ = write!(out, ":\n{}", table(causes));
            for (options, why) in [
                (dragged, "set along, since the above depend on it:"),
                (unclear, "kept, since without it nothing can be told (it does not build or boot):"),
            ] {
                if !options.is_empty() {
                    let _ = write!(out, "\n{why}\n{}", table(options));
                }
            }
            if !following.is_empty() {
                out += "\nfollows from that:\n";
                for (option, value) in following.iter().take(FOLLOWING_TOLD) {
                    let _ = writeln!(out, "  CONFIG_{option}={}", escape(value.as_bytes()));
                }
                if let Some(more) = following.len().checked_sub(FOLLOWING_TOLD).filter(|more| *more > 0) {
                    let _ = writeln!(out, "  and {more} more");
                }
            }
            let _ = write!(out, "\nover the good configuration this shows it:\n");
            for line in fragment.lines() {
                let _ = writeln!(out, "  {}", escape(line.as_bytes()));
            }
            out
        }
        ConfigConclusion::NoDifference => {
            "no answer: for this tree both configurations are the same\n".to_owned()
        }
        ConfigConclusion::BadIsClean => "no answer: the bad configuration does not show it\n".to_owned(),
        ConfigConclusion::GoodHits => "no answer: the good configuration shows it, too\n".to_owned(),
        ConfigConclusion::Unresolved => {
            "no answer: one of the two configurations does not build or boot, or its trials tell nothing\n"
                .to_owned()
        }
    };
    if let [first, ..] = &answer.hunted[..] {
        let (title, fingerprint) = (escape(first.title.as_bytes()), escape(first.fingerprint.as_bytes()));
        let _ = write!(out, "\nhunted: {title} ({fingerprint})\n");
    }
    let ConfigAnswer { options, configurations, builds, trials, seconds, bisect, .. } = answer;
    let _ = write!(
        out,
        "\n{options} options differ; {configurations} configurations tried, {builds} kernels built, {} trials, {seconds:.0} s of both; \
         bisect {bisect}\n",
        thousands(u64::from(*trials)),
    );
    out
}

fn table(options: &[Culprit]) -> Table {
    let mut table = Table::new(&[
        ("option", Align::Left),
        ("good", Align::Left),
        ("bad", Align::Left),
        ("prompt", Align::Left),
        ("in", Align::Left),
    ]);
    for Culprit { change, prompt, place } in options {
        let text = |text: &Option<String>| escape(text.as_deref().unwrap_or_default().as_bytes());
        table.row([
            format!("CONFIG_{}", change.option),
            escape(change.good.as_bytes()),
            escape(change.bad.as_bytes()),
            text(prompt),
            text(place),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::{Outcome, Probe, Trial};

    const KCONFIG: &str = "\
config FAULTS
\tbool \"Inject faults\"
config FUTEX_FAULTS
\tbool \"Of futexes\"
\tdepends on FAULTS
config LEVEL
\tint \"How many\"
config DEPOT
\tbool
";

    fn change(option: &str, good: &str, bad: &str) -> Change {
        Change { option: option.into(), good: good.into(), bad: bad.into() }
    }

    fn answer(verdict: &Verdict) -> ConfigAnswer {
        let of = Probe::Subject("bad".into());
        let trial = |outcome, seconds| Trial {
            number: 1,
            outcome,
            seconds,
            others: Vec::new(),
            reason: String::new(),
        };
        let entries = [
            Entry::Built {
                of: of.clone(),
                outcome: BuildRecord::Built { signature: None, cached: false },
                seconds: 60.0,
            },
            Entry::Hunted {
                findings: vec![Finding {
                    fingerprint: "warning:do_splice:fs/splice.c".into(),
                    title: "WARNING in do_splice".into(),
                }],
            },
            Entry::Tried {
                of,
                run: "1".into(),
                trials: vec![trial(Outcome::Clean, 2.0), trial(Outcome::Hit, 1.0)],
            },
        ];
        let id = RunId::new(Timestamp::UNIX_EPOCH, 1);
        let kconfig = Kconfig::of_text("lib/Kconfig", KCONFIG);
        let fragment = "CONFIG_FAULTS=y\nCONFIG_FUTEX_FAULTS=y\nCONFIG_LEVEL=9\n".to_owned();
        ConfigAnswer::new(id, verdict, Some(fragment), 148, &kconfig, &entries)
    }

    #[test]
    fn the_options_stand_with_prompt_and_place_and_apart_from_what_they_drag_along() {
        let all = [("FAULTS", "y"), ("FUTEX_FAULTS", "y"), ("LEVEL", "9"), ("DEPOT", "y")];
        let found = Found {
            causes: vec![change("FUTEX_FAULTS", "n", "y"), change("LEVEL", "7", "9")],
            dragged: vec![change("FAULTS", "n", "y")],
            unclear: Vec::new(),
            changes: all.map(|(option, value)| (option.to_owned(), value.to_owned())).into_iter().collect(),
            request: [0, 1, 2].into(),
            wrong_at_most: 0.001_23,
        };
        insta::assert_snapshot!(config_text(&answer(&Verdict::Found(found))));
    }

    #[test]
    fn without_an_answer_it_says_why() {
        let text = config_text(&answer(&Verdict::GoodHits));
        assert!(
            text.starts_with("no answer: the good configuration shows it, too\n\nhunted: WARNING"),
            "{text}"
        );
    }
}
