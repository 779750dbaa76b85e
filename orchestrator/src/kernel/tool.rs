//! The host's programs that make kernels and images: found, run to their end, and their complaints kept.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// How a full disk shows in a tool's last words: strerror(ENOSPC), and git's own.
const NO_ROOM: [&str; 2] = ["No space left on device", "Out of diskspace"];
/// What is kept of a failed tool's stderr: its last words say why.
const KEPT_STDERR_BYTES: usize = 4096;

/// A program of the host and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

pub(crate) const APT_GET: Tool = Tool { name: "apt-get", package: "apt" };
pub(crate) const APT_CACHE: Tool = Tool { name: "apt-cache", package: "apt" };
pub(crate) const APT_HELPER: Tool = Tool { name: "apt-helper", package: "apt" };
pub(crate) const DPKG_DEB: Tool = Tool { name: "dpkg-deb", package: "dpkg" };
pub(crate) const DEPMOD: Tool = Tool { name: "depmod", package: "kmod" };
pub(crate) const MKFS_EXT4: Tool = Tool { name: "mkfs.ext4", package: "e2fsprogs" };
pub(crate) const MKFS_XFS: Tool = Tool { name: "mkfs.xfs", package: "xfsprogs" };
pub(crate) const FALLOCATE: Tool = Tool { name: "fallocate", package: "util-linux" };
pub(crate) const CROSS_GCC: Tool = Tool { name: "s390x-linux-gnu-gcc", package: "gcc-s390x-linux-gnu" };
/// Debian's names for clang, the newest first. It is not needed: no kernel of the catalog's but those that say so wants it.
pub(crate) const CLANGS: [Tool; 6] = [
    Tool { name: "clang-19", package: "clang-19" },
    Tool { name: "clang-18", package: "clang-18" },
    Tool { name: "clang-17", package: "clang-17" },
    Tool { name: "clang-16", package: "clang-16" },
    Tool { name: "clang-15", package: "clang-15" },
    Tool { name: "clang", package: "clang" },
];
pub(crate) const HOST_GCC: Tool = Tool { name: "gcc", package: "gcc" };
pub(crate) const CROSS_STRIP: Tool =
    Tool { name: "s390x-linux-gnu-strip", package: "binutils-s390x-linux-gnu" };
pub(crate) const MAKE: Tool = Tool { name: "make", package: "make" };
pub(crate) const GIT: Tool = Tool { name: "git", package: "git" };
pub(crate) const TAR: Tool = Tool { name: "tar", package: "tar" };
/// Not needed: what was compiled before need not be compiled again with it.
pub(crate) const CCACHE: Tool = Tool { name: "ccache", package: "ccache" };
/// What the kernel's own build runs on this host.
const BUILD_TOOLS: [Tool; 4] = [
    Tool { name: "flex", package: "flex" },
    Tool { name: "bison", package: "bison" },
    Tool { name: "bc", package: "bc" },
    Tool { name: "perl", package: "perl" },
];
pub(crate) const SETPRIV: Tool = Tool { name: "setpriv", package: "util-linux" };

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("{tool} is not installed; Debian's package {package} has it and `cargo xtask setup` installs it")]
    Missing { tool: String, package: String },
    #[error("no clang is installed; Debian 12 has the package clang-16, Debian 13 clang-19")]
    NoClang,
    #[error("cannot start {tool}")]
    Start { tool: String, source: io::Error },
    #[error("{tool} cannot write what it makes")]
    NoRoom { tool: String, source: io::Error },
    #[error("{tool} was not done after {} s", limit.as_secs())]
    TooLong { tool: String, limit: Duration },
    #[error("{tool} failed ({status}): {stderr}")]
    Failed { tool: String, status: ExitStatus, stderr: String },
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What farm's main job needs of this host beside QEMU, and what for.
pub(crate) fn needed() -> [(&'static str, Tool); 8] {
    [
        ("cross compiler", CROSS_GCC),
        ("make", MAKE),
        ("apt", APT_GET),
        ("dpkg-deb", DPKG_DEB),
        ("depmod", DEPMOD),
        ("mkfs.ext4", MKFS_EXT4),
        ("mkfs.xfs", MKFS_XFS),
        ("setpriv", SETPRIV),
    ]
}

/// Refuses to begin a kernel's build without its tools.
pub(crate) fn check_build_tools() -> Result<(), ToolError> {
    BUILD_TOOLS.iter().chain(&[CROSS_GCC, MAKE, GIT, TAR, DEPMOD]).try_for_each(|tool| tool.find().map(drop))
}

impl Tool {
    /// A command that speaks English, reads nothing, and dies with the thread that waits for it: a farm that
    /// is killed leaves no tool at work in its cache.
    pub(crate) fn command(self) -> Result<Command, ToolError> {
        Ok(dying_with_farm(&self.find()?, &SETPRIV.find()?))
    }

    /// Where it is.
    pub(crate) fn find(self) -> Result<PathBuf, ToolError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        find_in(&path, self.name).ok_or_else(|| ToolError::Missing {
            tool: self.name.to_owned(),
            package: self.package.to_owned(),
        })
    }

    /// Runs the command to its end, whatever its exit status.
    pub(crate) fn output(self, command: &mut Command) -> Result<Output, ToolError> {
        command.output().map_err(|source| ToolError::Start { tool: self.name.to_owned(), source })
    }

    /// Runs the command to its end, whatever its exit status, or for as long as `limit`: then it is killed with
    /// all that it has started. What it prints goes where the command says.
    pub(crate) fn status_within(
        self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<ExitStatus, ToolError> {
        self.status_within_and_read(command, limit, limit, &|_| {}, &|| {})
    }

    /// The same. A stdout that the command leaves piped is read by `read`, on a thread of its own; `tell` is called
    /// again and again while it runs.
    pub(crate) fn status_within_and_read(
        self,
        command: &mut Command,
        limit: Duration,
        tell_every: Duration,
        read: &(dyn Fn(ChildStdout) + Sync),
        tell: &dyn Fn(),
    ) -> Result<ExitStatus, ToolError> {
        let failed = |source| ToolError::Start { tool: self.name.to_owned(), source };
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        let _at_work = AtWork::new(pid);
        let stdout = child.stdout.take();
        let until = Instant::now() + limit;
        thread::scope(|scope| {
            scope.spawn(move || stdout.map(read));
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if ends_within(pid, left.min(tell_every)).map_err(|errno| failed(errno.into()))? {
                    return child.wait().map_err(failed);
                }
                if left.is_zero() {
                    kill_process_group(pid, Signal::KILL).map_err(|errno| failed(errno.into()))?;
                    child.wait().map_err(failed)?;
                    return Err(ToolError::TooLong { tool: self.name.to_owned(), limit });
                }
                tell();
            }
        })
    }

    /// Runs the command, which must succeed, and gives its stdout.
    pub(crate) fn stdout(self, command: &mut Command) -> Result<Vec<u8>, ToolError> {
        succeeded(self.name, self.output(command)?)
    }
}

/// What a program says on stderr, kept in memory: where a disk is full that is what has to be read.
pub(crate) struct Complaints(File);

impl Complaints {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(File::from(memfd_create("complaints", MemfdFlags::CLOEXEC)?)))
    }

    /// For the program.
    pub(crate) fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// So much of it, from its beginning, when the program has ended.
    pub(crate) fn read(mut self, most_bytes: u64) -> io::Result<String> {
        let mut said = Vec::new();
        self.0.seek(io::SeekFrom::Start(0))?;
        self.0.take(most_bytes).read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// Whether a tool says that there was no room for what it makes.
pub(crate) fn tells_of_a_full_disk(said: &str) -> bool {
    NO_ROOM.iter().any(|words| said.contains(words))
}

/// The process groups that are at work.
static AT_WORK: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A process group that is at work until this is dropped.
struct AtWork(Pid);

impl AtWork {
    fn new(group: Pid) -> Self {
        AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Self(group)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| *group != self.0);
    }
}

/// Kills what was started with a limit and is still at work, with all that it has started: farm is about to end.
pub fn kill_started() {
    for group in AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // It may have ended by itself.
        let _ = kill_process_group(*group, Signal::KILL);
    }
}

/// Whether there is such a program for a user to start.
pub(crate) fn is_on_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .filter_map(|directory| Utf8PathBuf::try_from(directory).ok())
        .any(|directory| is_program(&directory.join(program)))
}

/// Whether it can be started.
pub(crate) fn is_program(path: &Utf8Path) -> bool {
    path.is_file() && rustix::fs::access(path.as_std_path(), rustix::fs::Access::EXEC_OK).is_ok()
}

/// A command of the user's, in the user's own language; it dies with farm, too.
pub(crate) fn of_user(program: &str) -> Result<Command, ToolError> {
    let mut command = dying_with_farm(Path::new(program), &SETPRIV.find()?);
    match std::env::var_os("LC_ALL") {
        Some(language) => command.env("LC_ALL", language),
        None => command.env_remove("LC_ALL"),
    };
    Ok(command)
}

/// A command of a program that stands at a path of its own, under the same care as a tool.
pub(crate) fn command_of(program: &Utf8Path) -> Result<Command, ToolError> {
    Ok(dying_with_farm(program.as_std_path(), &SETPRIV.find()?))
}

/// Runs such a program, which must succeed.
pub(crate) fn run(program: &Utf8Path, arguments: &[&str]) -> Result<Vec<u8>, ToolError> {
    let output = command_of(program)?
        .args(arguments)
        .output()
        .map_err(|source| ToolError::Start { tool: program.to_string(), source })?;
    succeeded(program.as_str(), output)
}

fn ends_within(pid: Pid, limit: Duration) -> rustix::io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let ended =
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)))?;
    Ok(ended == 1)
}

fn succeeded(tool: &str, output: Output) -> Result<Vec<u8>, ToolError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = last_words(&output.stderr);
    if tells_of_a_full_disk(&stderr) {
        return Err(ToolError::NoRoom { tool: tool.to_owned(), source: io::ErrorKind::StorageFull.into() });
    }
    Err(ToolError::Failed { tool: tool.to_owned(), status: output.status, stderr })
}

fn dying_with_farm(program: &Path, setpriv: &Path) -> Command {
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Debian keeps depmod and mkfs in sbin, which stands in root's PATH only, and apt's helper in nobody's.
fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(["/usr/sbin", "/sbin", "/usr/lib/apt"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The end of a tool's stderr as text.
pub(crate) fn last_words(stderr: &[u8]) -> String {
    let kept = &stderr[stderr.len().saturating_sub(KEPT_STDERR_BYTES)..];
    String::from_utf8_lossy(kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: Tool = Tool { name: "farm-has-no-such-tool", package: "nowhere" };

    #[test]
    fn a_missing_tool_names_its_package_and_the_mend() {
        let error = ABSENT.command().unwrap_err().to_string();
        assert_eq!(
            error,
            "farm-has-no-such-tool is not installed; Debian's package nowhere has it and `cargo xtask setup` installs it"
        );
    }

    #[test]
    fn tools_in_sbin_are_found_without_a_path() {
        assert_eq!(find_in(OsStr::new(""), "mkfs.ext4"), Some(PathBuf::from("/usr/sbin/mkfs.ext4")));
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let (ended, held) = rustix::pipe::pipe().unwrap();
        let mut command = MAKE.command().unwrap();
        // The grandchildren print nothing, and hold the pipe open until they die.
        command.args(["--eval", "all: ; @sleep 600 & sleep 600"]).stdout(held);
        let error = MAKE.status_within(&mut command, Duration::from_secs(1)).unwrap_err();
        drop(command);
        assert_eq!(error.to_string(), "make was not done after 1 s");
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)), Ok(1));

        let mut command = MAKE.command().unwrap();
        command.args(["--eval", "all: ; exit 3"]).stdout(Stdio::null()).stderr(Stdio::null());
        let status = MAKE.status_within(&mut command, Duration::from_secs(60)).unwrap();
        assert_eq!(status.code(), Some(2), "make(1): 2 if it met errors");
    }

    #[test]
    fn a_failure_carries_the_last_words() {
        let error = run(Utf8Path::new("/bin/sh"), &["-c", "echo why >&2; exit 3"]).unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh failed (exit status: 3): why");
        assert_eq!(last_words(&[b'x'; 5000]).len(), KEPT_STDERR_BYTES);
    }
}
