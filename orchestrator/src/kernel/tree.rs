//! Kernel sources that farm builds: a snapshot of the user's tree, or of a package's, checked out in a place of
//! farm's own. Nothing is written into the user's.
//!
//! A place holds a repository, one checkout, and a directory of objects for each configuration, so that the next
//! build of the same place compiles what has changed. One farm at a time has it.

use std::fs;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use super::git::{self, Ignored, Repository, TreeId, of_user};
use super::tool::{TAR, ToolError};
use super::{KernelError, sha256_hex};
use crate::cache::{Cache, Kind, Progress, Workspace};

/// What the top of every kernel tree has.
pub(super) const MARKS: [&str; 4] = ["Makefile", "Kconfig", "arch/s390/Makefile", "scripts/kconfig/Makefile"];

/// git's notes of what is in the checkout, in the user's directory, and in what is patched.
const INDEX: &str = "index";
const INDEX_OF_USER: &str = "index-of-user";
const INDEX_OF_PATCHES: &str = "index-of-patches";
/// The checkout.
const SOURCE: &str = "source";
const INDICES: [&str; 3] = [INDEX, INDEX_OF_USER, INDEX_OF_PATCHES];

/// Stands in a directory of objects while make is at work there.
pub(super) const AT_WORK: &str = "farm-at-work";

/// A place of sources, held until this is dropped.
#[derive(Debug)]
pub struct Tree {
    workspace: Workspace,
    repository: Repository,
}

impl Tree {
    /// Refuses what is no kernel tree.
    pub fn check(directory: &Utf8Path) -> Result<(), KernelError> {
        for missing in MARKS {
            if !directory.join(missing).is_file() {
                return Err(KernelError::NoSources { path: directory.to_owned(), missing });
            }
        }
        Ok(())
    }

    /// The place of the user's tree in `directory`.
    pub fn of_directory(
        cache: &Cache,
        directory: &Utf8Path,
        progress: Progress<'_>,
    ) -> Result<(Self, TreeId), KernelError> {
        Self::check(directory)?;
        let tree = Self::open(cache, &key_of(directory), progress)?;
        progress(&format!("looking what has changed in {directory}"));
        let (index, repository) = (tree.workspace.path.join(INDEX_OF_USER), &tree.repository);
        let id = match of_user(directory)? {
            Some(git) => repository.snapshot_of_user(&index, directory, &git)?,
            // Debian's sources have a .gitignore that names everything.
            None if repository.ignores(&index, directory, MARKS[0])? => {
                repository.snapshot(&index, directory, Ignored::Taken)?
            }
            None => repository.snapshot(&index, directory, Ignored::LeftOut)?,
        };
        Ok((tree, id))
    }

    /// The place of the user's tree, with the content of a branch of its repository, that of the commit that the branch has
    /// left HEAD at, and the subjects of the commits between: base, then branch.
    pub fn of_branch(
        cache: &Cache,
        directory: &Utf8Path,
        branch: &str,
        progress: Progress<'_>,
    ) -> Result<(Self, TreeId, TreeId, Vec<String>), KernelError> {
        let not_there = || KernelError::NoPatch { what: branch.to_owned(), tree: directory.to_owned() };
        let no_base = || KernelError::NoBase { what: branch.to_owned(), tree: directory.to_owned() };
        let git = of_user(directory)?.ok_or_else(not_there)?;
        let tip = git::commit(directory, branch)?.ok_or_else(not_there)?;
        let base = git::common(directory, "HEAD", &tip)?.ok_or_else(no_base)?;
        if base == tip {
            return Err(KernelError::NothingToTry { what: branch.to_owned() });
        }
        let tree = Self::open(cache, &key_of(directory), progress)?;
        tree.repository.borrow_from(&git)?;
        let content = |commit: &str| git::content(directory, commit)?.ok_or_else(not_there);
        let (before, behind) = (content(&base)?, content(&tip)?);
        for id in [&before, &behind] {
            tree.check_is_kernel(directory, id)?;
        }
        let subjects = git::subjects(directory, &base, &tip)?;
        Ok((tree, before, behind, subjects))
    }

    /// The place of the user's tree, whatever is checked out there: what its commits hold can be built.
    pub fn of_repository(
        cache: &Cache,
        directory: &Utf8Path,
        progress: Progress<'_>,
    ) -> Result<Self, KernelError> {
        let no_repository = || KernelError::NoRepository { path: directory.to_owned() };
        let git = of_user(directory)?.ok_or_else(no_repository)?;
        let tree = Self::open(cache, &key_of(directory), progress)?;
        tree.repository.borrow_from(&git)?;
        Ok(tree)
    }

    /// The content with what a commit of the user's repository has changed taken back.
    pub fn reverted(
        &self,
        directory: &Utf8Path,
        content: &TreeId,
        commit: &str,
    ) -> Result<TreeId, KernelError> {
        let patch = git::reverse(directory, commit)?;
        self.patched(content, &[(format!("that takes back {commit}"), patch)])
    }

    fn check_is_kernel(&self, directory: &Utf8Path, id: &TreeId) -> Result<(), KernelError> {
        for missing in MARKS {
            if !self.repository.has(id, missing)? {
                return Err(KernelError::NoSources { path: directory.to_owned(), missing });
            }
        }
        Ok(())
    }

    /// The place of a package's archive of sources, which goes by the archive's key in the cache.
    pub fn of_archive(
        cache: &Cache,
        name: &str,
        archive: &Utf8Path,
        key: &str,
        progress: Progress<'_>,
    ) -> Result<(Self, TreeId), KernelError> {
        let tree = Self::open(cache, name, progress)?;
        if let Some(id) = Self::imported(cache, name, key) {
            return Ok((tree, id));
        }
        let note = note(cache, name, key);
        progress(&format!("unpacking {}, and taking stock of it", archive.file_name().unwrap_or(name)));
        let source = tree.source();
        let failed = |source| KernelError::Io { path: note.clone(), source };
        let _ = fs::remove_file(tree.index());
        remove(&source)?;
        fs::create_dir_all(&source).map_err(failed)?;
        let mut tar = TAR.command()?;
        // With today's times: make must not take what is new for older than the objects of another archive.
        tar.args(["-xmf", archive.as_str(), "-C", source.as_str(), "--strip-components=1"]);
        TAR.stdout(&mut tar)?;
        let id = tree.repository.snapshot(&tree.index(), &source, Ignored::Taken)?;
        let half = note.with_extension("half");
        fs::write(&half, id.as_str()).map_err(failed)?;
        fs::rename(&half, &note).map_err(failed)?;
        Ok((tree, id))
    }

    /// The content of an archive, if it was taken stock of before.
    pub(super) fn imported(cache: &Cache, name: &str, key: &str) -> Option<TreeId> {
        fs::read_to_string(note(cache, name, key)).ok().map(|id| TreeId::known(id.trim().to_owned()))
    }

    fn open(cache: &Cache, key: &str, progress: Progress<'_>) -> Result<Self, KernelError> {
        let workspace = cache.workspace(Kind::Tree, key, progress)?;
        if workspace.path.as_str().contains(char::is_whitespace) {
            return Err(KernelError::BlankInPath { path: workspace.path.clone() });
        }
        let git = workspace.path.join("git");
        let is_new = !Repository::is_whole(&git);
        // Nobody else is here: a git that was killed has left its locks.
        for index in INDICES {
            let lock = workspace.path.join(format!("{index}.lock"));
            let was_killed = lock.exists();
            let _ = fs::remove_file(lock);
            // It names what the lost repository held, and the new one does not.
            if is_new {
                let _ = fs::remove_file(workspace.path.join(index));
            }
            // What it had put into the checkout is in no index.
            if (was_killed || is_new) && index == INDEX {
                let _ = fs::remove_file(workspace.path.join(INDEX));
                remove(&workspace.path.join(SOURCE))?;
            }
        }
        workspace.hand_down()?;
        let repository = Repository::open(&git)?;
        Ok(Self { workspace, repository })
    }

    /// The content with patches applied one after the other.
    pub fn patched(&self, base: &TreeId, patches: &[(String, Vec<u8>)]) -> Result<TreeId, KernelError> {
        let index = self.workspace.path.join(INDEX_OF_PATCHES);
        patches.iter().try_fold(base.clone(), |tree, (name, patch)| {
            self.repository
                .patched(&tree, patch, &index)?
                .map_err(|said| KernelError::PatchRefused { name: name.clone(), said })
        })
    }

    /// Makes the checkout hold this content.
    pub fn check_out(&self, id: &TreeId) -> Result<Utf8PathBuf, KernelError> {
        let source = self.source();
        fs::create_dir_all(&source)
            .map_err(|error| KernelError::Io { path: source.clone(), source: error })?;
        let first = self.repository.check_out(id, &self.index(), &source);
        if let Err(ToolError::Failed { .. }) = first {
            // A checkout that was killed may leave an index that does not fit the files.
            let _ = fs::remove_file(self.index());
            remove(&source)?;
            fs::create_dir_all(&source)
                .map_err(|error| KernelError::Io { path: source.clone(), source: error })?;
            self.repository.check_out(id, &self.index(), &source)?;
        }
        Ok(source)
    }

    /// The directory of objects for what `key` stands for. If the last build in it did not come to its end what it had
    /// made is gone, since make would take half-written files for made.
    pub fn objects(&self, key: &str) -> Result<Utf8PathBuf, KernelError> {
        let path = self.workspace.path.join(format!("objects-{key}"));
        fs::create_dir_all(&path).map_err(|source| KernelError::Io { path: path.clone(), source })?;
        let mark = path.join(AT_WORK);
        if let Ok(since) = fs::metadata(&mark).and_then(|mark| mark.modified()) {
            remove_newer(&path, since, &mark)?;
            fs::remove_file(&mark).map_err(|source| KernelError::Io { path: mark.clone(), source })?;
        }
        Ok(path)
    }

    pub fn source(&self) -> Utf8PathBuf {
        self.workspace.path.join(SOURCE)
    }

    /// The repository of its contents, for others to copy from while this is held.
    pub fn repository(&self) -> &Utf8Path {
        self.repository.directory()
    }

    fn index(&self) -> Utf8PathBuf {
        self.workspace.path.join(INDEX)
    }
}

fn key_of(directory: &Utf8Path) -> String {
    let name = directory.file_name().unwrap_or("tree");
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).take(24).collect();
    format!("{name}-{}", &sha256_hex(directory.as_str().as_bytes())[..16])
}

fn note(cache: &Cache, name: &str, key: &str) -> Utf8PathBuf {
    cache.path(Kind::Tree, name).join(format!("imported-{key}"))
}

/// Removes all files that were written since; the mark stays, for the case that this is killed too.
fn remove_newer(directory: &Utf8Path, since: SystemTime, mark: &Utf8Path) -> Result<(), KernelError> {
    let failed = |source| KernelError::Io { path: directory.to_owned(), source };
    for entry in directory.read_dir_utf8().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let about = fs::symlink_metadata(path).map_err(failed)?;
        if about.is_dir() {
            remove_newer(path, since, mark)?;
        } else if path != mark && about.modified().map_err(failed)? >= since {
            fs::remove_file(path).map_err(failed)?;
        }
    }
    Ok(())
}

fn remove(directory: &Utf8Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(KernelError::Io { path: directory.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
