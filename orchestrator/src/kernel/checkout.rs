//! A checkout of a user's repository in a place of farm's own, in which a command of the user's is run.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};

use super::KernelError;
use super::git;
use super::tool::{GIT, SETPRIV, ToolError, is_on_path, is_program, last_words, of_user};
use crate::cache::Progress;

/// Long enough for anything that somebody waits for.
const LIMIT: Duration = Duration::from_secs(12 * 3600);

/// What a command has left at work gets so long to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clone that borrows the user's objects; nothing is written into the user's repository.
#[derive(Debug)]
pub struct Checkout {
    directory: Utf8PathBuf,
    /// All that is started there holds it too.
    _lock: File,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Checkout {
    /// The checkout in this directory, made if it is not there. Waits for what a farm that was killed has left at work in it.
    pub fn open(of: &Utf8Path, directory: &Utf8Path, progress: Progress<'_>) -> Result<Self, KernelError> {
        let lock = lock(directory, progress)?;
        if !directory.join(".git/farm-is-ready").is_file() {
            let failed = |source| KernelError::Io { path: directory.to_owned(), source };
            if directory.exists() {
                fs::remove_dir_all(directory).map_err(failed)?;
            }
            let mut clone = git::base()?;
            clone.args(["clone", "--quiet", "--shared", "--no-checkout", of.as_str(), directory.as_str()]);
            GIT.stdout(&mut clone)?;
            fs::write(directory.join(".git/farm-is-ready"), "").map_err(failed)?;
        }
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Makes it hold a commit; files that git ignores, such as objects of a build, stay.
    pub fn check_out(&self, commit: &str) -> Result<(), KernelError> {
        self.unlock()?;
        self.git(&["reset", "--quiet", "--hard"])?;
        self.git(&["checkout", "--quiet", "--detach", "--force", commit])?;
        Ok(())
    }

    /// The same, without what another commit has changed; or why that cannot be taken back.
    pub fn check_out_without(&self, commit: &str, without: &str) -> Result<Result<(), String>, KernelError> {
        self.check_out(commit)?;
        let mut apply = git::base()?;
        // With the index, so that the next checkout knows of files that come back.
        apply.current_dir(&self.directory).args(["apply", "--index", "--whitespace=nowarn", "-"]);
        let output = git::given(apply, &git::reverse(&self.directory, without)?)?;
        Ok(if output.status.success() { Ok(()) } else { Err(last_words(&output.stderr)) })
    }

    /// Refuses a program that is not there: its exit code would say that the commit is bad.
    pub fn check_program(&self, program: &str) -> Result<(), KernelError> {
        check_program(program, &self.directory)
    }

    /// Runs a command there; what it prints goes to the log.
    pub fn run(&self, command: &[String], log: &Utf8Path) -> Result<Exit, KernelError> {
        run_of_user(command, &self.directory, log)
    }

    /// Removes what a git that was killed has left: nobody else is here.
    fn unlock(&self) -> Result<(), KernelError> {
        let git = self.directory.join(".git");
        let failed = |source| KernelError::Io { path: git.clone(), source };
        for entry in git.read_dir_utf8().map_err(failed)? {
            let path = entry.map_err(failed)?.into_path();
            if path.extension() == Some("lock") {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<(), ToolError> {
        GIT.stdout(git::base()?.current_dir(&self.directory).args(arguments)).map(drop)
    }
}

fn lock(directory: &Utf8Path, progress: Progress<'_>) -> Result<File, KernelError> {
    let path = Utf8PathBuf::from(format!("{directory}.lock"));
    let failed = |source| KernelError::Io { path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    let until = Instant::now() + PATIENCE;
    let mut is_told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                if !is_told {
                    progress(&format!("waiting for what is still at work in {directory}"));
                    is_told = true;
                }
                // Nothing tells when a lock is free but a wait for it that cannot be given up.
                thread::sleep(Duration::from_millis(50));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(KernelError::AtWork { directory: directory.to_owned(), lock: path });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// As execvp(3) looks for it.
pub fn check_program(program: &str, directory: &Utf8Path) -> Result<(), KernelError> {
    let is_there = match program.contains('/') {
        true => is_program(&directory.join(program)),
        false => is_on_path(program),
    };
    let missing = || KernelError::NoProgram { program: program.to_owned(), directory: directory.to_owned() };
    if is_there { Ok(()) } else { Err(missing()) }
}

/// Runs a command of the user's in a directory; what it prints goes to the log.
pub fn run_of_user(command: &[String], directory: &Utf8Path, log: &Utf8Path) -> Result<Exit, KernelError> {
    let failed = |source| KernelError::Io { path: log.to_owned(), source };
    let [program, arguments @ ..] = command else {
        return Err(failed(std::io::ErrorKind::InvalidInput.into()));
    };
    let out = File::create(log).map_err(failed)?;
    let mut run = of_user(program)?;
    run.args(arguments).current_dir(directory);
    run.stderr(out.try_clone().map_err(failed)?).stdout(out);
    let status = SETPRIV.status_within(&mut run, LIMIT)?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    })
}
