//! `cargo xtask practice-tree`: kernel sources with a history that was made up around one planted bug, so that a search
//! for it can be tried for real and compared with the truth.

mod edits;
mod history;
mod stream;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use farm::cache::Cache;
use farm::kernel::{Catalog, Fetcher, MirrorChoice, Refresh};
use serde::Serialize;

use self::edits::Catalogue;
use self::history::{History, Kind, Line, Request, State, Unrelated};
use self::stream::{Base, TIP};
use crate::cmd::Cmd;

/// The sources that the edits are made for.
const SOURCES: &str = "linux-6.1";
/// The truth, where no work tree and no commit shows it.
const TRUTH: &str = ".git/practice.json";
const BRANCH: &str = "practice";

/// Make a git repository of kernel sources with a planted bug among 60 commits, to try bisection on
///
/// DIR becomes a git repository: Debian's Linux 6.1 as the first commit (tag `good`), and 60 commits on top of it (tag
/// `bad`, branch `practice`). Most change a few files that are built; others change documents, another architecture,
/// drivers that are not built, or comments alone; two change headers. Two ranges of up to four commits do not build, one
/// panics while it boots, and one hangs there. One branch is merged. One commit plants a bug that a scenario sees: its
/// place comes from the seed, and every third seed has it on the side branch. That commit and the one before it
/// build and boot.
///
/// DIR/.git/practice.json has the truth: the culprit, the scenario, and for every commit its kind, and whether it is
/// good, is bad, does not build or does not boot.
///
/// The same seed and options make the same commit ids everywhere, of the same version of Debian's package. In a DIR that
/// is a practice tree already the history is replaced, in seconds, on the sources that are there; what was built of the
/// last one is of use for the next. Objects are hard links to those in farm's cache where both are on one file system:
/// DIR stays whole if the cache is removed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which history; any number
    #[arg(long)]
    seed: u64,
    /// In how many lives of a bad kernel the bug shows: `1/N`, decided by the clock at its first chance in a life
    #[arg(long, value_name = "1/N", default_value = "1/1")]
    hits: Hits,
    /// Plant a crash that has nothing to do with the bug in half of the commits, and mend it again: by the seed, a warning
    /// in every life, or a BUG in half of them
    #[arg(long)]
    unrelated_crash: bool,
    /// Where the tree is made
    #[arg(value_name = "DIR")]
    directory: Utf8PathBuf,
}

/// A share of lives.
#[derive(Debug, Clone, Copy)]
struct Hits(NonZeroU32);

impl FromStr for Hits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lives = text.strip_prefix("1/").and_then(|lives| lives.parse().ok());
        lives.map(Self).ok_or_else(|| format!("{text:?} is no share like 1/4"))
    }
}

/// What is true of the tree.
#[derive(Serialize)]
struct Truth<'a> {
    seed: u64,
    good: &'a str,
    bad: &'a str,
    culprit: &'a str,
    subject: &'a str,
    scenario: &'a str,
    hits: String,
    commits: Vec<CommitTruth<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CommitTruth<'a> {
    id: &'a str,
    subject: &'a str,
    kind: Kind,
    line: Line,
    state: State,
    unrelated_crash: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let directory = std::path::absolute(&options.directory)
        .ok()
        .and_then(|path| Utf8PathBuf::from_path_buf(path).ok())
        .with_context(|| format!("{} has no absolute path in UTF-8", options.directory))?;
    let repository = Repository { directory: &directory };
    let unrelated = if options.unrelated_crash { Unrelated::Planted } else { Unrelated::Absent };
    let request = Request { seed: options.seed, lives: options.hits.0.get(), unrelated };
    let history = History::new(Catalogue::embedded(), request);
    let tree = repository.sources()?;
    let ids = repository.commit(&history, &tree)?;
    let (good, ids) = ids.split_first().context("git has made no commit")?;
    let bad = ids.last().context("git has made no commit")?;
    println!("practice-tree: checking {BRANCH} out in {directory}");
    repository.git(&["checkout", "--quiet", "-B", BRANCH, bad])?;
    for (tag, id) in [("good", good), ("bad", bad)] {
        repository.git(&["tag", "--force", tag, id])?;
    }

    let truth = truth(&history, options, good, ids).context("the history has no culprit")?;
    let path = directory.join(TRUTH);
    let text = format!("{}\n", serde_json::to_string_pretty(&truth)?);
    fs::write(&path, text).with_context(|| format!("cannot write {path}"))?;
    println!("practice-tree: {} commits between good ({good}) and bad ({bad})", ids.len());
    println!("practice-tree: {path} tells which is the culprit; `{}` sees it", truth.scenario);
    Ok(())
}

fn truth<'a>(history: &'a History, options: &Options, good: &'a str, ids: &'a [String]) -> Option<Truth<'a>> {
    let culprit = history.culprit()?;
    let mutant = history.commits[culprit].edit.as_ref()?;
    let commits = history.commits.iter().zip(ids).map(|(commit, id)| CommitTruth {
        id,
        subject: commit.edit.as_ref().map_or(stream::MERGE, |edit| &edit.subject),
        kind: commit.kind,
        line: commit.line,
        state: commit.state,
        unrelated_crash: commit.crashes,
    });
    Some(Truth {
        seed: options.seed,
        good,
        bad: ids.last()?,
        culprit: ids.get(culprit)?,
        subject: &mutant.subject,
        scenario: mutant.scenario.as_deref()?,
        hits: format!("1/{}", options.hits.0),
        commits: commits.collect(),
    })
}

/// `Linux 6.1.192`, of the Makefile's first lines.
fn release(makefile: &str) -> String {
    let value = |name: &str| {
        let line = makefile.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
        line.unwrap_or_default().trim().to_owned()
    };
    format!("Linux {}.{}.{}", value("VERSION"), value("PATCHLEVEL"), value("SUBLEVEL"))
}

struct Repository<'a> {
    directory: &'a Utf8Path,
}

impl Repository<'_> {
    /// The git tree of the sources, which are brought from farm's cache where they are not here.
    fn sources(&self) -> Result<String> {
        let directory = self.directory;
        if directory.join(TRUTH).exists() {
            return Ok(self.git(&["rev-parse", "good^{tree}"])?.trim().to_owned());
        }
        if directory.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{directory} is neither empty nor a practice tree");
        }
        let asked = std::env::var("FARM_CACHE").ok();
        let cache = Cache::locate(asked.as_deref().map(Utf8Path::new), |name| std::env::var(name).ok())?;
        let catalog = Catalog::embedded()?;
        let named = catalog.tree(SOURCES).with_context(|| format!("there are no sources {SOURCES}"))?;
        let progress = |line: &str| println!("practice-tree: {line}");
        let fetcher = Fetcher {
            cache: &cache,
            refresh: Refresh::No,
            mirrors: MirrorChoice::OfHost,
            progress: &progress,
        };
        let (sources, id) = fetcher.sources(named)?;
        println!("practice-tree: taking the sources over from {}", sources.repository());
        // Links the objects, and copies them where that cannot be.
        let clone =
            ["git", "clone", "--quiet", "--no-checkout", sources.repository().as_str(), directory.as_str()];
        succeeded(&isolated(Cmd::new(clone)), &[])?;
        self.git(&["remote", "remove", "origin"])?;
        Ok(id.as_str().to_owned())
    }

    /// Makes the commits on top of one of the sources, and returns the ids of all: the base, then those of the history.
    fn commit(&self, history: &History, tree: &str) -> Result<Vec<String>> {
        let text = |path: &str| self.git(&["show", &format!("{tree}:{path}")]);
        let files = stream::paths(history).into_iter().map(|path| Ok((path.to_owned(), text(path)?)));
        let files = files.collect::<Result<BTreeMap<_, _>>>()?;
        let message = release(&text("Makefile")?);
        let stream = stream::stream(history, &Base { tree, message: &message, files })?;
        self.import(&stream, history.commits.len() + 1)
    }

    fn import(&self, stream: &[u8], commits: usize) -> Result<Vec<String>> {
        let marks = self.directory.join(".git/practice.marks");
        let export = format!("--export-marks={marks}");
        let import = isolated(Cmd::new(["git", "-C", self.directory.as_str()]));
        succeeded(&import.args(["fast-import", "--quiet", "--force", &export]), stream)?;
        self.git(&["update-ref", "-d", TIP])?;
        let text = fs::read_to_string(&marks).with_context(|| format!("cannot read {marks}"))?;
        fs::remove_file(&marks).with_context(|| format!("cannot remove {marks}"))?;
        let mut ids: Vec<(usize, String)> = text.lines().filter_map(mark).collect();
        ids.sort_unstable();
        if ids.len() != commits {
            bail!("git has made {} commits of {commits}", ids.len());
        }
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// What a command says.
    fn git(&self, arguments: &[&str]) -> Result<String> {
        let git = isolated(Cmd::new(["git", "-C", self.directory.as_str()]));
        succeeded(&git.args(arguments.iter().copied()), &[])
    }
}

/// Without the user's and the host's settings, some of which change contents.
fn isolated(git: Cmd) -> Cmd {
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1")
}

fn succeeded(command: &Cmd, input: &[u8]) -> Result<String> {
    let output = command.quiet_output_of(input)?;
    if !output.status.success() {
        bail!("`{command}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{command}` has answered in no UTF-8"))
}

/// A line `:MARK ID`.
fn mark(line: &str) -> Option<(usize, String)> {
    let (mark, id) = line.strip_prefix(':')?.split_once(' ')?;
    Some((mark.parse().ok()?, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_lives_is_one_in_some() {
        assert_eq!("1/4".parse::<Hits>().unwrap().0.get(), 4);
        for text in ["", "4", "2/4", "1/0", "1/", "1/4/4"] {
            let error = text.parse::<Hits>().unwrap_err();
            assert_eq!(error, format!("{text:?} is no share like 1/4"));
        }
    }

    #[test]
    fn the_release_stands_in_the_makefile() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n";
        assert_eq!(release(makefile), "Linux 6.1.192");
    }

    /// The files that a history edits, with nothing in them but what its edits look for.
    fn made_in(directory: &Utf8Path, history: &History) -> Vec<String> {
        let repository = Repository { directory };
        repository.git(&["init", "--quiet", "--initial-branch=empty"]).unwrap();
        let mut files = edits::stand_in(history.commits.iter().filter_map(|commit| commit.edit.as_ref()));
        files.insert("Makefile".to_owned(), "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 5\n".to_owned());
        for (path, text) in &files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        repository.git(&["add", "."]).unwrap();
        let tree = repository.git(&["write-tree"]).unwrap();
        let ids = repository.commit(history, tree.trim()).unwrap();
        repository.git(&["checkout", "--quiet", "--force", "-B", BRANCH, ids.last().unwrap()]).unwrap();
        ids
    }

    fn planned(seed: u64) -> History {
        History::new(Catalogue::embedded(), Request { seed, lives: 4, unrelated: Unrelated::Planted })
    }

    #[test]
    fn a_history_is_the_same_to_the_commit_id_wherever_it_is_made() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let ids = |directory: &tempfile::TempDir, seed| {
            made_in(Utf8Path::from_path(directory.path()).unwrap(), &planned(seed))
        };
        let first = ids(&one, 1);
        assert_eq!(first.len(), 63);
        assert_eq!(first, ids(&other, 1));
        assert_ne!(first[1..], ids(&tempfile::tempdir().unwrap(), 2)[1..]);
    }

    #[test]
    fn the_bug_can_be_reverted_at_the_tip_and_git_merges_as_the_history_does() {
        for seed in 1..=6 {
            let temporary = tempfile::tempdir().unwrap();
            let directory = Utf8Path::from_path(temporary.path()).unwrap();
            let history = planned(seed);
            let ids = made_in(directory, &history);
            let repository = Repository { directory };
            let git = |arguments: &[&str]| repository.git(arguments).unwrap().trim().to_owned();
            let culprit = &ids[history.culprit().unwrap() + 1];
            assert_eq!(git(&["show", "--format=", "--name-only", culprit]), "fs/splice.c");
            git(&["-c", "user.name=T", "-c", "user.email=t@t.example", "revert", "--no-edit", culprit]);
            let reverted = git(&["rev-parse", "HEAD:fs/splice.c"]);
            assert_eq!(reverted, git(&["rev-parse", &format!("{}:fs/splice.c", ids[0])]), "seed {seed}");
            let merge = history.commits.iter().position(|commit| commit.kind == Kind::Merge).unwrap();
            let merge = &ids[merge + 1];
            let merged = git(&["merge-tree", "--write-tree", &format!("{merge}^1"), &format!("{merge}^2")]);
            assert_eq!(merged, git(&["rev-parse", &format!("{merge}^{{tree}}")]), "seed {seed}");
        }
    }
}
