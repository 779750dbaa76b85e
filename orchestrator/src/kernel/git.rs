//! git, with a repository of farm's own: the user's is read at most, for the objects that it holds already.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::tool::{GIT, ToolError, last_words};

/// A repository without a work tree of its own.
#[derive(Debug)]
pub(super) struct Repository {
    directory: Utf8PathBuf,
}

/// What becomes of files that a directory's .gitignore names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ignored {
    LeftOut,
    Taken,
}

/// A commit's or a directory's content: the name of a tree object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeId(String);

impl TreeId {
    /// A name that [`TreeId::as_str`] gave.
    pub fn known(name: String) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell trees apart.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

/// Stands in a repository that was made to its end.
const READY: &str = "farm-is-ready";

impl Repository {
    /// Whether there is one that was made to its end.
    pub(super) fn is_whole(directory: &Utf8Path) -> bool {
        directory.join(READY).is_file()
    }

    /// The repository in this directory, made if it is not there.
    pub(super) fn open(directory: &Utf8Path) -> Result<Self, ToolError> {
        let repository = Self { directory: directory.to_owned() };
        if !Self::is_whole(directory) {
            // One that was killed while it was made may have left anything.
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ToolError::Start { tool: directory.to_string(), source: error });
                }
                _ => {}
            }
            let mut init = base()?;
            GIT.stdout(init.args(["init", "--quiet", "--bare", directory.as_str()]))?;
            for (name, value) in [
                // Nobody but farm holds anything here, and loses nothing by it.
                ("gc.auto", "0"),
                ("core.compression", "1"),
                // A kernel has 80,000 files.
                ("core.fsync", "loose-object"),
                ("core.fsyncMethod", "batch"),
                ("core.autocrlf", "false"),
                ("core.bare", "false"),
                ("index.version", "4"),
            ] {
                GIT.stdout(repository.command()?.args(["config", name, value]))?;
            }
            let ready = directory.join(READY);
            fs::write(&ready, "").map_err(|source| ToolError::Start { tool: ready.into_string(), source })?;
        }
        Ok(repository)
    }

    pub(super) fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    fn command(&self) -> Result<Command, ToolError> {
        let mut command = base()?;
        command.env("GIT_DIR", &self.directory);
        Ok(command)
    }

    fn on(&self, index: &Utf8Path, work_tree: &Utf8Path) -> Result<Command, ToolError> {
        let mut command = self.command()?;
        // git looks for a command's files relative to where it stands.
        command.env("GIT_INDEX_FILE", index).env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        Ok(command)
    }

    /// Takes what the user's repository holds as held: nothing of that is copied.
    pub(super) fn borrow_from(&self, user: &Utf8Path) -> Result<(), ToolError> {
        let objects = user.join("objects");
        let file = self.directory.join("objects/info/alternates");
        let known = fs::read_to_string(&file).unwrap_or_default();
        if known.lines().any(|line| line == objects) {
            return Ok(());
        }
        fs::write(&file, format!("{known}{objects}\n"))
            .map_err(|source| ToolError::Start { tool: file.into_string(), source })
    }

    /// The content of a directory as it is. The index remembers what was looked at, so that the next call reads what has
    /// changed since.
    pub(super) fn snapshot(
        &self,
        index: &Utf8Path,
        directory: &Utf8Path,
        ignored: Ignored,
    ) -> Result<TreeId, ToolError> {
        let force: &[&str] = match ignored {
            Ignored::LeftOut => &[],
            Ignored::Taken => &["--force"],
        };
        GIT.stdout(self.on(index, directory)?.args(["add", "--all"]).args(force).arg("."))?;
        self.name_of(&["write-tree"], index, directory)
    }

    /// Whether the directory's .gitignore names a file.
    pub(super) fn ignores(
        &self,
        index: &Utf8Path,
        directory: &Utf8Path,
        path: &str,
    ) -> Result<bool, ToolError> {
        let mut look = self.on(index, directory)?;
        Ok(GIT.output(look.args(["check-ignore", "--no-index", "--quiet", path]))?.status.success())
    }

    /// The same of the work tree of a user's repository: what is tracked there counts although it is ignored.
    pub(super) fn snapshot_of_user(
        &self,
        index: &Utf8Path,
        directory: &Utf8Path,
        user: &Utf8Path,
    ) -> Result<TreeId, ToolError> {
        self.borrow_from(user)?;
        if let Some(head) = content(directory, "HEAD")? {
            GIT.stdout(self.on(index, directory)?.args(["read-tree", "-i", "-m", &head.0]))?;
        }
        let excluded = format!("core.excludesFile={}", user.join("info/exclude"));
        GIT.stdout(self.on(index, directory)?.args(["-c", &excluded, "add", "--all", "."]))?;
        self.name_of(&["write-tree"], index, directory)
    }

    /// Whether there is a file of this path in it.
    pub(super) fn has(&self, tree: &TreeId, path: &str) -> Result<bool, ToolError> {
        let mut look = self.command()?;
        Ok(GIT.output(look.args(["cat-file", "-e", &format!("{}:{path}", tree.0)]))?.status.success())
    }

    /// Makes a directory hold this content; files that are the same already are left alone.
    pub(super) fn check_out(
        &self,
        tree: &TreeId,
        index: &Utf8Path,
        directory: &Utf8Path,
    ) -> Result<(), ToolError> {
        GIT.stdout(self.on(index, directory)?.args(["read-tree", "--reset", "-u", &tree.0]))?;
        Ok(())
    }

    /// The content with a patch applied, or what git says of why it does not apply. `index` is overwritten.
    pub(super) fn patched(
        &self,
        tree: &TreeId,
        patch: &[u8],
        index: &Utf8Path,
    ) -> Result<Result<TreeId, String>, ToolError> {
        let nowhere = self.directory.as_path();
        GIT.stdout(self.on(index, nowhere)?.args(["read-tree", &tree.0]))?;
        let mut apply = self.on(index, nowhere)?;
        apply.args(["apply", "--cached", "--whitespace=nowarn", "-"]);
        let output = given(apply, patch)?;
        if !output.status.success() {
            return Ok(Err(last_words(&output.stderr)));
        }
        self.name_of(&["write-tree"], index, nowhere).map(Ok)
    }

    fn name_of(
        &self,
        arguments: &[&str],
        index: &Utf8Path,
        work_tree: &Utf8Path,
    ) -> Result<TreeId, ToolError> {
        let name = GIT.stdout(self.on(index, work_tree)?.args(arguments))?;
        Ok(TreeId(String::from_utf8_lossy(&name).trim().to_owned()))
    }
}

/// The `.git` directory that a directory's files belong to, if it is the top of a work tree.
pub(super) fn of_user(directory: &Utf8Path) -> Result<Option<Utf8PathBuf>, ToolError> {
    // In a part of somebody's repository the names of its contents would be others.
    let is_top = asked(directory, &["rev-parse", "--show-prefix"])?.is_some_and(|prefix| prefix.is_empty());
    let git = asked(directory, &["rev-parse", "--git-common-dir"])?.map(|name| directory.join(name));
    Ok(git.filter(|_| is_top))
}

/// What one command says of a user's repository; nothing where it fails.
fn asked(directory: &Utf8Path, arguments: &[&str]) -> Result<Option<String>, ToolError> {
    let mut command = base()?;
    let output = GIT.output(command.current_dir(directory).args(arguments))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(said))
}

/// The commit that a word names.
pub(super) fn commit(directory: &Utf8Path, word: &str) -> Result<Option<String>, ToolError> {
    let verified =
        |word: &str| asked(directory, &["rev-parse", "--verify", "--quiet", "--end-of-options", word]);
    // In two steps: `:/text` takes what follows for text.
    match verified(word)? {
        Some(object) => verified(&format!("{object}^{{commit}}")),
        None => Ok(None),
    }
}

/// The latest commit that two come from.
pub(super) fn common(directory: &Utf8Path, one: &str, other: &str) -> Result<Option<String>, ToolError> {
    asked(directory, &["merge-base", one, other])
}

/// The content of a commit.
pub(super) fn content(directory: &Utf8Path, commit: &str) -> Result<Option<TreeId>, ToolError> {
    Ok(asked(directory, &["rev-parse", "--verify", "--quiet", &format!("{commit}^{{tree}}")])?.map(TreeId))
}

/// The subjects of the commits behind `base` up to `tip`, oldest first.
pub(super) fn subjects(directory: &Utf8Path, base: &str, tip: &str) -> Result<Vec<String>, ToolError> {
    let log = asked(directory, &["log", "--reverse", "--format=%s", &format!("{base}..{tip}")])?;
    Ok(log.unwrap_or_default().lines().map(str::to_owned).collect())
}

/// A commit, as its repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub parents: Vec<String>,
    pub content: TreeId,
    /// `Name <address>`
    pub author: String,
    /// Of the author, as `2026-11-28`.
    pub date: String,
    pub subject: String,
}

/// The commits that are in `bad` and not in `good`, parents before children.
pub(super) fn between(directory: &Utf8Path, good: &str, bad: &str) -> Result<Vec<Commit>, ToolError> {
    listed(directory, &["--topo-order", "--reverse", &format!("{good}..{bad}")])
}

/// One commit.
pub(super) fn described(directory: &Utf8Path, commit: &str) -> Result<Option<Commit>, ToolError> {
    Ok(listed(directory, &["--max-count=1", commit])?.pop())
}

fn listed(directory: &Utf8Path, which: &[&str]) -> Result<Vec<Commit>, ToolError> {
    const FORMAT: &str = "--format=%H%x00%P%x00%T%x00%an <%ae>%x00%as%x00%s";
    let mut log = base()?;
    log.current_dir(directory).args(["log", "--no-show-signature", FORMAT]).args(which).arg("--");
    let listed = String::from_utf8_lossy(&GIT.stdout(&mut log)?).into_owned();
    let commit = |line: &str| {
        let [id, parents, content, author, date, subject] =
            line.splitn(6, '\0').collect::<Vec<_>>().try_into().ok()?;
        Some(Commit {
            id: id.to_owned(),
            parents: parents.split_whitespace().map(str::to_owned).collect(),
            content: TreeId(content.to_owned()),
            author: author.to_owned(),
            date: date.to_owned(),
            subject: subject.to_owned(),
        })
    };
    Ok(listed.lines().filter_map(commit).collect())
}

/// Whether a commit has this file.
pub(super) fn holds(directory: &Utf8Path, commit: &str, path: &str) -> Result<bool, ToolError> {
    Ok(asked(directory, &["rev-parse", "--verify", "--quiet", &format!("{commit}:{path}")])?.is_some())
}

/// The patch that takes back what a commit changes against its first parent, or all of it if it has none.
pub(super) fn reverse(directory: &Utf8Path, commit: &str) -> Result<Vec<u8>, ToolError> {
    let mut diff = base()?;
    diff.current_dir(directory).args(["diff-tree", "-p", "--binary", "--full-index", "--no-textconv", "-R"]);
    let parent = format!("{commit}^1");
    match asked(directory, &["rev-parse", "--verify", "--quiet", &parent])? {
        Some(_) => diff.args([&parent, commit]),
        None => diff.args(["--root", "--no-commit-id", commit]),
    };
    GIT.stdout(&mut diff)
}

/// git without the user's and the host's settings. Whose a repository is does not matter: nothing of it is run.
pub(super) fn base() -> Result<Command, ToolError> {
    let mut command = GIT.command()?;
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1");
    command.args(["-c", "safe.directory=*", "-c", "core.attributesFile=/dev/null"]);
    command.args(["-c", "core.excludesFile=/dev/null"]);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(variable);
    }
    Ok(command)
}

/// Runs a command with this on its stdin.
pub(super) fn given(mut command: Command, input: &[u8]) -> Result<std::process::Output, ToolError> {
    let failed = |source| ToolError::Start { tool: "git".to_owned(), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    std::thread::scope(|scope| {
        // git may complain before it has read everything; that it went away is told by its status.
        scope.spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output().map_err(failed)
    })
}
