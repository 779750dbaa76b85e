//! A guest in the hands of a debugger: brought to where its kernel complains, then handed over.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, copy_bidirectional};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::guest::{Guest, PrepareError, Scratch};
use super::life::{Limits, Trouble, ending_of};
use super::rewind;
use super::warm::{Copy, WarmGuests};
use crate::detect::Site;
use crate::machine::{
    Debugger, DebuggerError, GdbStub, Launcher, Machine, Memory, MonitorError, Recording, StartError, Stop,
    Streams, Stub, StubError, Target, Timeout,
};
use crate::plan::{Cell, LifeId};
use crate::store::LifeFiles;

/// A life that a debugger is to look at.
pub struct Inspection<'a> {
    pub guest: &'a Guest,
    pub cell: &'a Cell,
    /// Where the session's files go.
    pub files: &'a LifeFiles,
    pub launcher: &'a Launcher,
    /// As [`crate::machine::find_gdb`] has found it.
    pub gdb: &'a str,
    pub source: Source,
    /// Where the kernel reports the hit.
    pub site: Site,
    /// The instruction there, at which the guest is halted before gdb gets it. None: it gets it before the first.
    pub halt: Option<u64>,
    /// Lives that may go by without coming there.
    pub tries: u32,
    /// For gdb; its socket is put in.
    pub target: Target,
    /// The user's own, for gdb.
    pub arguments: &'a [String],
}

/// Where the life comes from.
pub enum Source {
    /// It boots.
    Booted,
    /// It goes on from a saved guest, where that can be.
    Resumed {
        /// The hash of the one that showed the hit, if it is known.
        guest: Option<String>,
    },
    /// It is repeated from what QEMU has recorded of it, with the job that it had: then gdb can go backwards, too.
    Recorded { recording: Utf8PathBuf, job: Vec<u8> },
}

#[derive(Debug, thiserror::Error)]
pub enum DebugError {
    #[error("the debugger")]
    Debugger(#[from] DebuggerError),
    #[error("cannot prepare the guest")]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Stub(#[from] StubError),
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("the session's files or sockets")]
    Io(#[from] io::Error),
    #[error("gdb ended with {0}")]
    Gdb(ExitStatus),
    #[error("the guest's machine: {0}")]
    Machine(String),
    #[error("the guest did not come to the hit in {lives} lives")]
    NotReached { lives: u32 },
}

/// A guest that stands still, with its stub.
pub struct Halted {
    pub(super) machine: Machine,
    pub(super) stub: GdbStub,
    _copy: Option<Copy>,
    /// What QEMU opens again and again while the guest runs.
    _served: Scratch,
}

/// For each question to a guest that stands still.
pub(super) const ANSWER: Timeout = Timeout(Duration::from_secs(30));
/// What is kept of a stream while a debugger looks at the guest.
const STREAM_LIMIT: usize = 16 << 20;
/// What a life may take to come to the hit, over what its scenario allows its steps.
const SLACK: Duration = Duration::from_secs(60);

impl Inspection<'_> {
    /// A life that stands in front of its hit, or before its first instruction.
    pub async fn reach(&self, mut say: impl FnMut(&str)) -> Result<Halted, DebugError> {
        let warm = matches!(self.source, Source::Resumed { .. }).then(|| {
            let directory = self.files.directory().to_owned();
            WarmGuests::new(self.launcher.clone(), Limits::default(), directory)
        });
        let Some(address) = self.halt else { return self.start(1, warm.as_ref(), &mut say).await };
        let tries = self.tries;
        for number in 1..=tries {
            let mut halted = self.start(number, warm.as_ref(), &mut say).await?;
            if self.bring(&mut halted, address).await? {
                say(&format!("life {number} of {tries}: {}", self.place()));
                return Ok(halted);
            }
            halted.machine.stop(Stop::Now).await;
            say(&format!("life {number} of {tries}: it does not come"));
        }
        Err(DebugError::NotReached { lives: tries })
    }

    /// An instruction is of this complaint, and a reporting function is all complaints'.
    fn place(&self) -> String {
        match self.site {
            Site::Function(name) => {
                format!("halted in {name}, where reports of this kind begin; `continue` goes to the next")
            }
            Site::Instruction(_) | Site::Nowhere => "halted where the kernel is about to complain".to_owned(),
        }
    }

    /// Lets gdb have it until that ends.
    pub async fn hand_over(&self, halted: Halted) -> Result<(), DebugError> {
        let socket = self.files.path("gdb.sock");
        let listener = UnixListener::bind(&socket)?;
        let target = Target { socket, ..self.target.clone() };
        let script = self.files.path("session.gdb");
        let mut debugger = Debugger::start(self.launcher, self.gdb, &target, &script, self.arguments)?;
        let gdb = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            // It did not even connect: its own message says why.
            ended = debugger.wait() => return succeeded(ended?),
        };
        let session = async {
            match &self.source {
                Source::Recorded { .. } => rewind::serve(self, halted, gdb).await,
                Source::Booted | Source::Resumed { .. } => pass_through(halted, gdb).await,
            }
        };
        tokio::select! {
            ended = debugger.wait() => return succeeded(ended?),
            served = session => served?,
        }
        succeeded(debugger.wait().await?)
    }

    /// Starts a guest, which stands still before its first instruction.
    pub(super) async fn start(
        &self,
        number: u32,
        warm: Option<&WarmGuests>,
        say: &mut impl FnMut(&str),
    ) -> Result<Halted, DebugError> {
        let life = LifeId { cell: self.cell.id, number };
        let job = match &self.source {
            Source::Recorded { job, .. } => job.clone(),
            Source::Booted | Source::Resumed { .. } => self.guest.job(self.cell, &life, self.files)?,
        };
        let copy = match warm {
            Some(warm) => {
                let copy = warm.copy(self.guest, self.cell, &job, self.files).await;
                let news = self.news(copy.as_ref().map_err(String::as_str));
                if let Some(news) = news.filter(|news| warm.is_news(news)) {
                    say(&news);
                }
                // Where it cannot be resumed it boots, as any life does.
                copy.ok()
            }
            None => None,
        };
        let memory = copy.as_ref().map_or(Memory::Fresh, |copy| Memory::Saved(copy.memory.clone()));
        let mut prepared = self.guest.prepare(self.cell, memory, &job, self.files)?;
        prepared.spec.stub = Stub::Wired;
        if let Source::Recorded { recording, .. } = &self.source {
            prepared.spec.recording = Some(Recording::Replay(recording.clone()));
        }
        let started = Machine::start(&prepared.spec, self.launcher).await;
        let _served = prepared.opened()?;
        let (machine, streams) = started?;
        let Streams { console, kmsg, results, stub } = streams;
        for (stream, name) in [(console, "console.log"), (kmsg, "kmsg.log"), (results, "results.log")] {
            tokio::spawn(keep(stream, File::create(self.files.path(name))?));
        }
        let stub = stub.ok_or(StubError::Closed)?;
        Ok(Halted { machine, stub, _copy: copy, _served })
    }

    /// In what the guest differs from the one that showed the hit.
    fn news(&self, copy: Result<&Copy, &str>) -> Option<String> {
        let elsewhere =
            if self.target.modules.is_empty() { "" } else { "; modules are elsewhere than the hit has them" };
        match (copy, &self.source) {
            (Err(reason), _) => Some(format!("the guest boots: {reason}{elsewhere}")),
            (Ok(copy), Source::Resumed { guest: Some(was) }) if copy.sha256 != *was => {
                Some(format!("the saved guest was made anew since the hit{elsewhere}"))
            }
            (Ok(_), _) => None,
        }
    }

    /// What a life may take.
    pub(super) fn limit(&self) -> Duration {
        let steps: Duration = self.cell.steps.iter().map(|step| step.limit).sum();
        Limits::default().boot_of(self.cell) + steps + SLACK
    }

    /// Whether the guest comes to the instruction; it then stands in front of it.
    async fn bring(&self, halted: &mut Halted, address: u64) -> Result<bool, DebugError> {
        let Halted { machine, stub, .. } = halted;
        stub.break_at(address).await?;
        stub.go().await?;
        let coming = async {
            loop {
                tokio::select! {
                    () = stub.at_breakpoint() => return Ok(true),
                    event = machine.next_event() => if ending_of(event)?.is_some() {
                        return Ok(false);
                    },
                }
            }
        };
        let came = timeout(self.limit(), coming).await.unwrap_or(Ok(false));
        let came = came.map_err(|Trouble(trouble)| DebugError::Machine(trouble))?;
        if came {
            stub.unbreak(address).await?;
        }
        Ok(came)
    }
}

/// gdb says itself what it could not do.
fn succeeded(ended: ExitStatus) -> Result<(), DebugError> {
    if ended.success() { Ok(()) } else { Err(DebugError::Gdb(ended)) }
}

/// gdb and the stub speak for themselves.
async fn pass_through(halted: Halted, mut gdb: UnixStream) -> Result<(), DebugError> {
    let Halted { mut machine, stub, _copy, _served } = halted;
    let mut stub = stub.into_socket();
    let talk = copy_bidirectional(&mut gdb, &mut stub);
    tokio::pin!(talk);
    loop {
        tokio::select! {
            // Whoever of the two has ended it knows why.
            _ = &mut talk => break,
            event = machine.next_event() => if event.is_none() {
                break;
            },
        }
    }
    machine.stop(Stop::Now).await;
    Ok(())
}

/// Writes a stream to a file, as far as that may grow. A stream that nobody reads would hold the guest up.
async fn keep(mut stream: impl AsyncRead + Unpin, mut file: File) {
    let mut room = STREAM_LIMIT;
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stream.read(&mut bytes).await {
        let kept = length.min(room);
        room -= kept;
        if let Err(error) = file.write_all(&bytes[..kept]) {
            tracing::warn!(%error, "a stream of the guest's is not kept");
            room = 0;
        }
    }
}
