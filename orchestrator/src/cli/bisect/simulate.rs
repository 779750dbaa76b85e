//! `farm bisect simulate`: a search of a history that a file describes.

use std::fs;
use std::io;
use std::num::NonZeroU32;

use camino::Utf8PathBuf;
use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::parse_confidence;
use crate::bisect::simulation::{Came, Described, DescriptionError, Field, Spent, play};
use crate::bisect::{BuildOutcome, Commit, Confidence, Options, Outcome, Search, Verdict, WhyNoAnswer};
use crate::cli::environment::Environment;
use crate::cli::output;
use crate::error::{ExitCode, Failure};
use crate::report::{Align, Table};

pub(super) const HELP: &str = r#"The file is JSON:
  {
    "good": "v1", "bad": "c2", "seed": 7,
    "costs": {"build": 400, "incremental": {"least": 60, "each": 2}, "cached": 1, "trial": 20},
    "commits": [
      {"id": "v1"},
      {"id": "c1", "parents": ["v1"], "build": "cannot-build"},
      {"id": "c2", "parents": ["c1"], "hit-rate": 0.3, "weak": 0.1, "other-failure": 0.05, "signature": "8f1e"}
    ]
  }
good, bad    the ends; the candidates are the commits that are in bad and not in good
seed         what the outcomes are drawn from [default: 0]
costs        seconds: of a build from nothing, of one after another (least, and each commit between the two adds), of taking a
             kernel that was built before, and of a trial; a simulation without `incremental` builds all from nothing
build        works [default], cannot-build or cannot-boot
hit-rate     how often a trial shows the hunted bug [default: 0, the commit has it not]
weak         how often a trial that shows nothing has no proof that it did what brings the bug about [default: 0]
other-failure   how often a trial fails in another way [default: 0]
signature    kernels of one signature are one kernel [default: unlike all others]

Exit codes: 0 one commit, or the fewest that can be told apart, 107 no answer, 2 the file cannot be read."#;

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SimulateArgs {
    /// The description; see below
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,

    /// How sure the answer has to be, in percent
    #[arg(long, value_name = "PERCENT", default_value = "99", value_parser = parse_confidence)]
    confidence: Confidence,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
struct ReadError {
    path: Utf8PathBuf,
    source: io::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("{path} describes no history that can be searched")]
struct UnfitError {
    path: Utf8PathBuf,
    source: DescriptionError,
}

#[derive(Debug, Serialize)]
struct Simulation {
    candidates: usize,
    steps: Vec<Step>,
    verdict: Ending,
    /// The commits that bring the bug in truth.
    truth: Vec<String>,
    spent: Spent,
}

/// One build, or trials of one kernel in a row.
#[derive(Debug, Serialize)]
struct Step {
    commit: String,
    what: What,
    /// Seconds from the beginning to its end.
    at: f64,
    /// What is thought to be left then, in seconds.
    left: f64,
    outcomes: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Build,
    Trials,
    /// The bad end without this commit: its build and its trials.
    Revert,
}

#[derive(Debug, Serialize)]
struct Ending {
    word: &'static str,
    commits: Vec<String>,
    confidence: Option<f64>,
}

pub(super) fn simulate(environment: &Environment, options: &SimulateArgs) -> Result<ExitCode, Failure> {
    let path = &options.file;
    let text = fs::read_to_string(path)
        .map_err(|source| Failure::of(ExitCode::Usage, &ReadError { path: path.clone(), source }))?;
    let described = Described::read(&text).map_err(|source| {
        Failure::of(ExitCode::Usage, &UnfitError { path: path.clone(), source })
            .hint("`farm bisect simulate --help` shows what a description looks like")
    })?;
    let (verdict, simulation) = searched(&described, options.confidence);
    if environment.json {
        output::json(&simulation)?;
    } else {
        output::text(&shown(&described, &verdict, &simulation))?;
    }
    Ok(match verdict {
        Verdict::Culprit { .. } | Verdict::Among { .. } => ExitCode::Passed,
        _ => ExitCode::NoAnswer,
    })
}

fn searched(described: &Described, confidence: Confidence) -> (Verdict, Simulation) {
    let (world, history) = (&described.world, &described.history);
    let mut search = Search::new(history.clone(), Options::new(confidence, world.prices.guess));
    let mut field = Field::new(world, history, described.seed);
    let mut steps: Vec<Step> = Vec::new();
    let verdict = play(&mut search, &mut field, |search, commit, came, spent| {
        let commit = described.name(commit);
        let (what, word) = match came {
            Came::OfBuild(outcome) => (What::Build, build_word(&outcome)),
            Came::OfTrial(outcome) => (What::Trials, trial_word(outcome)),
        };
        let continues = |step: &&mut Step| what == What::Trials && step.what == what && step.commit == commit;
        match steps.last_mut().filter(continues) {
            Some(step) => {
                step.outcomes.push(word);
                (step.at, step.left) = (spent.seconds, search.left().0);
            }
            None => steps.push(Step {
                commit: commit.to_owned(),
                what,
                outcomes: vec![word],
                at: spent.seconds,
                left: search.left().0,
            }),
        }
    });
    let verdict = match verdict {
        Verdict::Culprit { commit, .. } => {
            let (step, hit) = reverted(described, &search, &mut field, commit);
            steps.push(step);
            if hit {
                Verdict::TwoCulprits { first: commit, second: world.bad, confidence: 1.0 }
            } else {
                verdict
            }
        }
        other => other,
    };
    let names =
        |commits: Vec<Commit>| commits.iter().map(|commit| described.name(*commit).to_owned()).collect();
    let ending =
        Ending { word: verdict.word(), commits: names(verdict.commits()), confidence: verdict.confidence() };
    let truth = names(world.culprits());
    let candidates = history.candidates().len();
    (verdict, Simulation { candidates, steps, verdict: ending, truth, spent: field.spent })
}

/// The last proof: the bad end without the culprit has not the bug.
fn reverted(described: &Described, search: &Search, field: &mut Field<'_>, culprit: Commit) -> (Step, bool) {
    field.build_of_revert();
    let mut outcomes = Vec::new();
    for _ in 0..search.trials_of_revert().map_or(0, NonZeroU32::get) {
        let (outcome, _) = field.trial_of_revert(culprit);
        outcomes.push(outcome);
        if outcome == Outcome::Hit {
            break;
        }
    }
    let hit = outcomes.contains(&Outcome::Hit);
    let step = Step {
        commit: described.name(culprit).to_owned(),
        what: What::Revert,
        outcomes: outcomes.into_iter().map(trial_word).collect(),
        at: field.spent.seconds,
        left: 0.0,
    };
    (step, hit)
}

fn build_word(outcome: &BuildOutcome) -> &'static str {
    match outcome {
        BuildOutcome::Built(_) | BuildOutcome::Cached(_) => "built",
        BuildOutcome::CannotBuild => "cannot build",
    }
}

fn trial_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit => "hit",
        Outcome::Clean => "clean",
        Outcome::Weak => "weak",
        Outcome::OtherFailure => "other failure",
        Outcome::CannotBoot => "cannot boot",
        Outcome::Infra => "infra",
    }
}

fn shown(described: &Described, verdict: &Verdict, simulation: &Simulation) -> String {
    let mut table = Table::new(&[
        ("at", Align::Right),
        ("left", Align::Right),
        ("what", Align::Left),
        ("commit", Align::Left),
        ("came of it", Align::Left),
    ]);
    for step in &simulation.steps {
        let what = match step.what {
            What::Build => "build",
            What::Trials => "try",
            What::Revert => "revert",
        };
        let [at, left] = [step.at, step.left].map(span);
        table.row([at, left, what.to_owned(), step.commit.clone(), counted(&step.outcomes)]);
    }
    let Spent { builds, trials, seconds } = simulation.spent;
    let truth =
        if simulation.truth.is_empty() { "no commit".to_owned() } else { simulation.truth.join(", ") };
    let told = told(described, verdict);
    let (candidates, span) = (simulation.candidates, span(seconds));
    let summary = format!(
        "In truth {truth} brings it. {candidates} candidates, {builds} builds, {trials} trials, {span}."
    );
    [format!("{table}"), told, summary, String::new()].join("\n")
}

/// `3 clean, 1 hit`, in the order in which they first came.
fn counted(outcomes: &[&'static str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for outcome in outcomes {
        match counts.iter_mut().find(|(word, _)| word == outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((outcome, 1)),
        }
    }
    match counts[..] {
        [(word, 1)] => word.to_owned(),
        _ => counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", "),
    }
}

fn told(described: &Described, verdict: &Verdict) -> String {
    let name = |commit: &Commit| described.name(*commit);
    let sure = |confidence: &f64| format!("{:.1} % sure", confidence * 100.0);
    match verdict {
        Verdict::Culprit { commit, confidence } => {
            format!("{} brings the bug, {}.", name(commit), sure(confidence))
        }
        Verdict::Among { commits, confidence } => {
            let names: Vec<&str> = commits.iter().map(name).collect();
            format!(
                "One of {} brings the bug, {}; nothing that can be tried tells them apart.",
                names.join(", "),
                sure(confidence)
            )
        }
        Verdict::GoodIsBad => "The good end has the bug.".to_owned(),
        Verdict::BadDoesNotReproduce { trials } => {
            format!("The bad end does not show the bug in {trials} trials.")
        }
        Verdict::TwoCulprits { first, second, .. } if *second == described.world.bad => {
            format!(
                "{} brings the bug, but {} has it without that too: there are two culprits or more.",
                name(first),
                name(second)
            )
        }
        Verdict::TwoCulprits { first, second, confidence } => format!(
            "No single commit explains both {} and {}: there are two culprits or more, {}.",
            name(first),
            name(second),
            sure(confidence)
        ),
        Verdict::NoAnswer(WhyNoAnswer::EndCannotBeTried(commit)) => {
            format!("No answer: {}, an end, cannot be tried.", name(commit))
        }
    }
}

/// Seconds, minutes or hours.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
