//! The grammar of `farm bisect`. Its doc comments are what `--help` prints.

use std::num::NonZeroU32;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Args as ClapArgs, Subcommand};

use super::simulate;
use crate::bisect::Confidence;
use crate::cli::args::{LivesArgs, MachineArgs, time};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum BisectCommand {
    /// Find the commit, in a kernel tree
    ///
    /// Builds kernels of commits between a good one and a bad one, lets guests live a scenario on them, and keeps for each commit how
    /// likely it is the one that brought the bug. A hit is certain evidence; a life without one is weak evidence, as weak as the bug is
    /// rare. What to build and to try next is what teaches most for the seconds it costs. Only what is hunted counts: other crashes are listed
    /// apart, and a clean life counts only if it did its work. Commits that cannot be built or booted are gone around.
    ///
    /// It ends when it is as sure as --confidence says, with a proof: the culprit, its parents, and the bad end without the culprit.
    /// All that is learned is written down before it is acted on, so that --resume goes on after any kind of end. Exits with 0 if the culprit
    /// is found, with 107 if only a set of commits is or nothing, with 2 if an end is not what it was said to be.
    Commits(BisectCommitsArgs),
    /// Find the options that make a good configuration bad
    ///
    /// Of the options that differ it sets some to their bad value, lets the tree's own olddefconfig decide what comes of it, builds that
    /// and lets guests live a scenario on it; configurations that come to one that was tried share its trials. It ends with the
    /// least set: without any one option of it the others show nothing. Options that are set only because a cause depends on them are
    /// told apart from the causes, and those that follow from both are listed. With it comes a fragment that makes the good configuration
    /// show it.
    ///
    /// A hit is certain evidence; that a life shows none is weak evidence, so a configuration is called good after as many lives as
    /// the rate of the bad one calls for. All that is learned is written down before it is acted on, so that `farm bisect resume` goes on after
    /// any kind of end. Exits with 0 if the options are found, with 107 if one of the two ends tells nothing, with 2 if an end is not
    /// what it was said to be.
    Config(BisectConfigArgs),
    /// Find the first of several kernels, in the order of their age, that has a bug
    Kernels(BisectKernelsArgs),
    /// Search a history that a file describes, without git, kernels or guests, and show each step
    #[command(after_help = simulate::HELP)]
    Simulate(simulate::SimulateArgs),
    /// Go on with a bisect that was stopped or killed
    Resume {
        /// Its id or the beginning of that [default: the newest without an answer]
        id: Option<String>,
    },
}

/// What `bisect commits` asks.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct BisectCommitsArgs {
    /// Go on with a bisect that was stopped or killed [default: the newest without an answer]
    #[arg(long, value_name = "ID", num_args = 0..=1, conflicts_with_all = [
        "tree", "good", "bad", "scenarios", "run", "weak_code", "config", "build_limit", "hunt", "confidence",
        "max_end_trials", "seed", "jobs", "cold",
    ])]
    pub(in crate::cli) resume: Option<Option<String>>,

    /// From a hit to the commit that brought it: takes the tree (if it is not given), the configuration and the scenario of the run
    /// that showed it, and hunts its fingerprint
    #[arg(long, value_name = "HIT", conflicts_with_all = ["resume", "scenarios", "run", "hunt"])]
    pub(in crate::cli) hit: Option<String>,

    /// The kernel tree, a git repository; what is checked out or changed there does not matter, and stays
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present_any = ["resume", "hit"],
        default_value = "",
        hide_default_value = true
    )]
    pub(in crate::cli) tree: Utf8PathBuf,

    /// A commit that does not have the bug, from which the bad one comes
    #[arg(
        long,
        value_name = "REV",
        required_unless_present = "resume",
        default_value = "",
        hide_default_value = true
    )]
    pub(in crate::cli) good: String,

    /// A commit that has it
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    pub(in crate::cli) bad: String,

    /// A scenario that shows it, by name or by path; can be given several times
    #[arg(long = "scenario", required_unless_present_any = ["resume", "run", "hit"], conflicts_with = "run", value_name = "SCENARIO")]
    pub(in crate::cli) scenarios: Vec<String>,

    /// Try commits of any repository by this command, in a checkout of farm's own: to be given last, with its arguments.
    /// It exits as for `git bisect run`: 0 no hit, 125 cannot tell, 1 to 127 hit, above: stop
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub(in crate::cli) run: Vec<String>,

    /// The code by which the command says that it saw no hit, and that this proves nothing
    #[arg(long, value_name = "N", requires = "run", value_parser = clap::value_parser!(u8).range(1..=127))]
    pub(in crate::cli) weak_code: Option<u8>,

    /// A configuration by name, as `farm kernel configs` lists them, or a file of CONFIG_ lines
    #[arg(long, value_name = "C", default_value = "lean")]
    pub(in crate::cli) config: String,

    #[command(flatten)]
    pub(in crate::cli) builds: BuildsArgs,

    #[command(flatten)]
    pub(in crate::cli) asked: BisectAsked,
}

/// What `bisect kernels` asks.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct BisectKernelsArgs {
    /// Kernels by name (see `farm kernel list`), oldest first: the first is good, the last is bad
    #[arg(required = true, num_args = 2.., value_name = "K")]
    pub(in crate::cli) kernels: Vec<String>,

    /// A scenario that shows the bug, by name or by path; can be given several times
    #[arg(long = "scenario", required = true, value_name = "SCENARIO")]
    pub(in crate::cli) scenarios: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) asked: BisectAsked,
}

/// What `bisect config` asks.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct BisectConfigArgs {
    /// The kernel tree, as it is, changed files included; or sources by name (linux-6.1, linux-6.12)
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) tree: Utf8PathBuf,

    /// A configuration without the bug: a .config, or one of those with names (`farm kernel configs`). With --from: a
    /// fragment to lay over that [default: nothing; with `--from fragments` lean]
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    pub(in crate::cli) good: Option<String>,

    /// A configuration with it. With --from: a fragment
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) bad: String,

    /// What both begin with: `running` for this host's kernel, or a configuration; or `fragments`, with which --good and
    /// --bad are lists of farm's own (lean,debug-vm), over nothing
    #[arg(long, value_name = "running|FILE|fragments")]
    pub(in crate::cli) from: Option<String>,

    /// A scenario that shows it, by name or by path; can be given several times
    #[arg(
        long = "scenario",
        required_unless_present = "run",
        conflicts_with = "run",
        value_name = "SCENARIO"
    )]
    pub(in crate::cli) scenarios: Vec<String>,

    /// Try configurations by this command: to be given last, with its arguments, behind which it gets the path of a .config. It
    /// exits as for `git bisect run`: 0 no hit, 125 cannot tell, 1 to 127 hit, above: stop
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub(in crate::cli) run: Vec<String>,

    /// A configuration shows it always or never: one trial of each is enough
    #[arg(long)]
    pub(in crate::cli) once: bool,

    #[command(flatten)]
    pub(in crate::cli) builds: BuildsArgs,

    #[command(flatten)]
    pub(in crate::cli) asked: BisectAsked,
}

/// What bisects ask that build their kernels.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct BuildsArgs {
    /// A build that takes longer hangs: it is stopped, and counts as one that fails
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = time)]
    pub(in crate::cli) build_limit: Duration,
}

/// What all bisects by guests ask.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct BisectAsked {
    /// The hunted finding: its title or fingerprint, in which * stands for any text; can be given several times [default: the
    /// first finding that the bad end shows]
    #[arg(long, value_name = "PATTERN")]
    pub(in crate::cli) hunt: Vec<String>,

    /// How sure the answer is to be, in percent
    #[arg(long, value_name = "PERCENT", default_value = "99", value_parser = parse_confidence)]
    pub(in crate::cli) confidence: Confidence,

    /// After so many trials without a hit the bad end is said not to reproduce the bug [default: as many as show a bug of 1 %
    /// with the confidence asked for, 459 for 99 %]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_end_trials: Option<NonZeroU32>,

    #[command(flatten)]
    pub(in crate::cli) lives: LivesArgs,

    #[command(flatten)]
    pub(in crate::cli) machine: MachineArgs,
}

pub(super) fn parse_confidence(text: &str) -> Result<Confidence, String> {
    let percent: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "give a number of percent".to_owned())?;
    Confidence::new(percent / 100.0).ok_or_else(|| "give at least 50 and less than 100".to_owned())
}
