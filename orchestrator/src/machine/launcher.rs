//! Starts a child that dies with farm, however farm ends.
//!
//! farm starts itself again as `farm __launch PARENT PROGRAM ARG…`; that process asks the kernel to be killed
//! when its parent dies, checks that the parent is still there, and becomes PROGRAM by `exec`, which keeps
//! the wish (prctl(2), PR_SET_PDEATHSIG). A small program in between, rather than code between fork and exec,
//! needs no `unsafe`.
//!
//! The kernel ties the wish to the *thread* that forked, so farm starts children from its main thread only.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The hidden first argument that makes farm a launcher.
const SUBCOMMAND: &str = "__launch";

/// The program could not be started; env(1) and shells use the same number.
const EXIT_NOT_STARTED: u8 = 127;

/// The farm binary that is started in between.
#[derive(Debug, Clone)]
pub struct Launcher {
    farm: Utf8PathBuf,
}

impl Launcher {
    /// The running farm itself, by a path that stays right when the file is replaced by a new build.
    pub fn this_program() -> Self {
        Self::at("/proc/self/exe")
    }

    /// A farm binary elsewhere: for tests, which are another program.
    pub fn at(farm: impl Into<Utf8PathBuf>) -> Self {
        Self { farm: farm.into() }
    }

    /// The command that starts `program`. It must be spawned by the calling process, on its main thread.
    pub(super) fn command(&self, program: &Utf8Path) -> Command {
        let mut command = Command::new(&self.farm);
        command.arg(SUBCOMMAND).arg(getpid().as_raw_nonzero().to_string()).arg(program);
        command
    }
}

/// The other side, called first thing in `main`: acts, and does not come back if all goes well, when the
/// arguments are a launcher's; `None` when they are not.
pub fn launch_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != SUBCOMMAND {
        return None;
    }
    let failure = launch(arguments);
    // Whoever reads this stderr is the only one who can be told; if it is closed, the exit code has to do.
    let _ = writeln!(io::stderr(), "farm: {failure}");
    Some(ExitCode::from(EXIT_NOT_STARTED))
}

/// Becomes the program; what comes back is the reason why not.
fn launch(mut arguments: impl Iterator<Item = OsString>) -> String {
    let (Some(parent), Some(program)) = (arguments.next(), arguments.next()) else {
        return format!("{SUBCOMMAND} is farm's own way to start children: it takes PARENT PROGRAM ARG…");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot ask to be killed with the parent: {error}");
    }
    // A parent that died before the wish was recorded has left this process to another one.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.to_string()).as_deref().map(OsStr::new)
        != Some(&*parent)
    {
        return "the farm that started this process is gone".to_owned();
    }
    let error = Command::new(&program).args(arguments).exec();
    format!("cannot start {}: {error}", program.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn other_arguments_are_left_alone() {
        for words in [&[][..], &["farm"], &["farm", "run", "smoke"], &["farm", "run", SUBCOMMAND]] {
            assert_eq!(launch_if_asked(arguments(words)).map(|_| ()), None, "{words:?}");
        }
    }

    #[test]
    fn command_names_this_process_as_the_parent() {
        let command = Launcher::at("/opt/farm").command(Utf8Path::new("/usr/bin/true"));
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(command.get_program(), "/opt/farm");
        assert_eq!(words, ["__launch", &std::process::id().to_string(), "/usr/bin/true"]);
    }
}
