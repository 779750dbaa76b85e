//! A child process of the farm: started through the launcher, reaped, its stderr kept within a bound.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use camino::Utf8Path;
use command_fds::CommandFdExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::launcher::Launcher;
use crate::escape::escape;

/// The start of stderr names what was wrong with an argument, its end what killed the process.
const STDERR_HEAD: usize = 8 << 10;
const STDERR_TAIL: usize = 8 << 10;

/// A dead process's stderr is at its end at once, unless a process of its own still holds it open.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// Stands in for a status that the host would not tell: exit code 255.
const UNKNOWN_STATUS: i32 = 255 << 8;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stderr: JoinHandle<HeadAndTail>,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) status: ExitStatus,
    /// What it wrote to stderr: bounded, and escaped so that it can be shown on a terminal.
    pub(super) stderr: String,
}

impl Process {
    /// Starts `program`, which finds the descriptors of `inherited` open under the numbers that they have
    /// here, and no others. It is in a process group of its own, so that a terminal's Ctrl-C reaches farm
    /// only.
    pub(super) fn spawn(
        launcher: &Launcher,
        program: &Utf8Path,
        arguments: &[String],
        inherited: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let mut command = Command::from(launcher.command(program));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .preserved_fds(inherited);
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no pipe for stderr"))?;
        Ok(Self { child, stderr: tokio::spawn(keep(stderr)) })
    }

    /// The process id, as long as it has not been reaped.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the end and reaps. May be dropped and called again; once it has answered, it is used up.
    pub(super) async fn wait(&mut self) -> Death {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => {
                let stderr = format!("(the host does not say how the process ended: {error})");
                return Death { status: ExitStatus::from_raw(UNKNOWN_STATUS), stderr };
            }
        };
        let stderr = match timeout(STDERR_GRACE, &mut self.stderr).await {
            Ok(Ok(kept)) => kept.text(),
            Ok(Err(error)) => format!("(stderr lost: {error})"),
            Err(_) => "(stderr is still held open by a process that it started)".to_owned(),
        };
        Death { status, stderr }
    }

    /// Sends a signal, unless the process has been reaped already.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = self.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return Ok(()) };
        Ok(kill_process(pid, signal)?)
    }
}

async fn keep(mut stderr: ChildStderr) -> HeadAndTail {
    let mut kept = HeadAndTail::default();
    let mut chunk = [0; 4096];
    loop {
        match stderr.read(&mut chunk).await {
            Ok(0) => return kept,
            Ok(length) => kept.push(&chunk[..length]),
            Err(error) => {
                kept.push(format!("\n(stderr unreadable: {error})").as_bytes());
                return kept;
            }
        }
    }
}

/// The first and the last bytes of a stream of any length.
#[derive(Debug, Default)]
struct HeadAndTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl HeadAndTail {
    fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(STDERR_HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(STDERR_TAIL);
        self.tail.drain(..excess);
        self.dropped += excess as u64;
    }

    fn text(self) -> String {
        let mut text = escape_lines(&self.head);
        if self.dropped > 0 {
            text.push_str(&format!("\n({} bytes dropped)\n", self.dropped));
        }
        text + &escape_lines(&Vec::from(self.tail))
    }
}

/// Text of several lines made safe for a terminal; the lines stay lines.
pub(super) fn escape_lines(bytes: &[u8]) -> String {
    bytes.split(|byte| *byte == b'\n').map(escape).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut kept = HeadAndTail::default();
        kept.push(b"one\n");
        kept.push(b"two\n");
        assert_eq!(kept.text(), "one\ntwo\n");
    }

    #[test]
    fn long_output_keeps_both_ends_and_says_what_is_missing() {
        let mut kept = HeadAndTail::default();
        kept.push(&[b'a'; STDERR_HEAD]);
        kept.push(&[b'b'; 5]);
        kept.push(&[b'c'; STDERR_TAIL]);
        let expected = "a".repeat(STDERR_HEAD) + "\n(5 bytes dropped)\n" + &"c".repeat(STDERR_TAIL);
        assert_eq!(kept.text(), expected);
    }

    #[test]
    fn nothing_reaches_a_terminal_raw() {
        for (bytes, expected) in [
            (&b"it's \"so\"\t\\ \n"[..], "it's \"so\"\\x09\\ \n"),
            (b"\x1b[2Jred\n\n", "\\x1b[2Jred\n\n"),
            (b"a\rb\0", "a\\x0db\\x00"),
        ] {
            assert_eq!(escape_lines(bytes), expected);
        }
    }
}
