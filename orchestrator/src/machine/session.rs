//! A QEMU process with a QMP socket: started, and talked to as long as it lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::argv::CommandLineTooLong;
use super::launcher::Launcher;
use super::monitor::{MonitorError, Timeout};
use super::process::{Death, Process};

/// QEMU greets within 0.1 s on an idle host; a loaded one with much memory to set aside gets this long.
pub(super) const START_LIMIT: Timeout = Timeout(Duration::from_secs(30));

/// A process that closes its monitor is on its way out; it gets this long to be gone.
pub(super) const DEATH_GRACE: Duration = Duration::from_secs(2);

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    CommandLine(#[from] CommandLineTooLong),
    #[error("cannot start {program}")]
    Spawn {
        program: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{program} died at once ({status}): {stderr}")]
    Died { program: Utf8PathBuf, status: String, stderr: String },
    #[error("{program} runs, but its monitor does not work")]
    Monitor {
        program: Utf8PathBuf,
        #[source]
        source: MonitorError,
    },
}

/// The farm's end of a socket, and QEMU's, still to be inherited.
pub(super) fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Far ends of pairs, and files, that one child is to inherit.
#[derive(Default)]
pub(super) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Makes a pair: the farm's end, and the number of the child's.
    pub(super) fn socket(&mut self) -> io::Result<(UnixStream, RawFd)> {
        let (ours, theirs) = socket_pair()?;
        let number = theirs.as_raw_fd();
        self.0.push(theirs);
        Ok((ours, number))
    }

    /// A file that the child is to open by the number.
    pub(super) fn file(&mut self, file: &File) -> io::Result<RawFd> {
        let theirs = OwnedFd::from(file.try_clone()?);
        let number = theirs.as_raw_fd();
        self.0.push(theirs);
        Ok(number)
    }
}

/// Starts `program`, which inherits the far ends; they are closed here.
pub(super) fn spawn(
    launcher: &Launcher,
    program: &Utf8Path,
    arguments: &[String],
    inherited: Inherited,
) -> Result<Process, StartError> {
    Process::spawn(launcher, program, arguments, inherited.0)
        .map_err(|source| StartError::Spawn { program: program.to_owned(), source })
}

/// Holds the first conversation with a process. If the process ends over it, that is what went wrong, whatever the
/// monitor says; if it ends although all was said (a guest can be as short as that), its death comes along.
pub(super) async fn converse<T>(
    program: &Utf8Path,
    process: &mut Process,
    conversation: impl Future<Output = Result<T, MonitorError>>,
) -> Result<(T, Option<Death>), StartError> {
    let mut conversation = pin!(conversation);
    let (result, death) = tokio::select! {
        biased;
        result = &mut conversation => (result, None),
        // What the process said before its end is still in the socket.
        death = process.wait() => (conversation.await, Some(death)),
    };
    let source = match result {
        Ok(value) => return Ok((value, death)),
        Err(source) => source,
    };
    let death = match death {
        Some(death) => Ok(death),
        None => timeout(DEATH_GRACE, process.wait()).await,
    };
    let Ok(Death { status, stderr }) = death else {
        kill(program, process).await?;
        return Err(StartError::Monitor { program: program.to_owned(), source });
    };
    let stderr = stderr.trim().to_owned();
    Err(StartError::Died { program: program.to_owned(), status: status.to_string(), stderr })
}

/// Ends a process that has nothing to lose, and reaps it.
pub(super) async fn kill(program: &Utf8Path, process: &mut Process) -> Result<(), StartError> {
    let not_killed = |source| StartError::Spawn { program: program.to_owned(), source };
    process.signal(Signal::KILL).map_err(not_killed)?;
    process.wait().await;
    Ok(())
}
