//! A machine that runs: its streams, its events, and the ways to stop it.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use camino::Utf8Path;
use qapi::qmp;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::argv::{Memory, Sockets, Spec, Stub, Wiring, arguments};
use super::dump::{DumpError, Dumped, add_vmcoreinfo};
use super::event::{MachineEvent, interpret};
use super::exit::{Ended, History, MonitorHistory, StopHistory, judge};
use super::gdb_stub::GdbStub;
use super::launcher::Launcher;
use super::monitor::{Monitor, MonitorError, QmpEvent, Timeout};
use super::process::{Death, Process};
use super::session::{DEATH_GRACE, Inherited, START_LIMIT, StartError, converse, spawn};
use super::state::CpuState;
use super::unwind::{Words, calls};
use crate::escape::escape;

/// A dead QEMU's last events are in the socket; this bounds the time to read them.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// The CPUs whose calls are read.
const MOST_TRACES: usize = 64;

/// A running QEMU. Dropping it kills the process.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    monitor: Monitor,
    events: mpsc::Receiver<QmpEvent>,
    link: Link,
    /// The process's death, once it is known; its last events may still be on their way.
    death: Option<Death>,
    history: History,
    ended: Option<Ended>,
    /// The file for the guest's memory, as QEMU has inherited it.
    memory: Option<RawFd>,
}

/// The way on which events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Open,
    /// The monitor is gone. By this time the process should be, too.
    Closing(Instant),
    Closed,
}

/// What leaves the guest. The console must always be read: when its socket is full, QEMU's console device stops the
/// whole machine until somebody reads. The two virtio-serial ports only make the guest wait for them.
#[derive(Debug)]
pub struct Streams {
    /// Both ways: what is written here is typed at the guest's console.
    pub console: UnixStream,
    pub kmsg: UnixStream,
    pub results: UnixStream,
    /// QEMU's gdb stub, where the machine has one.
    pub stub: Option<GdbStub>,
}

/// A QEMU that dies while bytes are under way resets the connection: for whoever reads a stream that is its end.
pub fn end_is_zero(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        read => read,
    }
}

/// How to stop a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL.
    Now,
    /// QMP `quit`, then SIGTERM, then SIGKILL, with this much time after each of the first two.
    Nicely(Timeout),
}

/// Why a guest could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("the machine was started without a file to save it to")]
    NoFile,
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("QEMU could not write the guest's state: {reason}")]
    Failed { reason: String },
    #[error("QEMU did not write the guest's state within {limit:?}")]
    Slow { limit: Duration },
}

impl Machine {
    /// Starts a machine, and its guest with it: it boots, or goes on where it was saved. A guest with a gdb stub waits until
    /// that is told to let it go. Must be called on the main thread (see [`Launcher`]), within a tokio runtime.
    pub async fn start(spec: &Spec, launcher: &Launcher) -> Result<(Self, Streams), StartError> {
        let program = &spec.qemu.binary;
        let no_socket = |source: io::Error| StartError::Spawn { program: program.clone(), source };
        let mut far_ends = Inherited::default();
        let (console, console_fd) = far_ends.socket().map_err(no_socket)?;
        let (kmsg, kmsg_fd) = far_ends.socket().map_err(no_socket)?;
        let (results, results_fd) = far_ends.socket().map_err(no_socket)?;
        let (qmp, qmp_fd) = far_ends.socket().map_err(no_socket)?;
        let memory = spec.memory.file().map(|file| far_ends.file(file)).transpose().map_err(no_socket)?;
        let stub = (spec.stub == Stub::Wired).then(|| far_ends.socket()).transpose().map_err(no_socket)?;
        let (stub, gdb) = stub.unzip();
        let sockets = Sockets { console: console_fd, kmsg: kmsg_fd, results: results_fd, qmp: qmp_fd, gdb };
        let arguments = arguments(spec, Wiring::Sockets(sockets))?;

        let mut process = spawn(launcher, program, &arguments, far_ends)?;
        let conversation = async {
            let (monitor, _, mut events) = Monitor::connect(qmp, START_LIMIT).await?;
            if let (Memory::Saved(_), Some(memory)) = (&spec.memory, memory) {
                load(&monitor, &mut events, memory).await?;
            }
            if spec.stub == Stub::Absent {
                monitor.execute(qmp::cont {}, START_LIMIT).await?;
            }
            Ok((monitor, events))
        };
        let ((monitor, events), death) = converse(program, &mut process, conversation).await?;
        let (link, history, ended) = (Link::Open, History::default(), None);
        let machine = Self { process, monitor, events, link, death, history, ended, memory };
        let stub = stub.map(GdbStub::new);
        Ok((machine, Streams { console, kmsg, results, stub }))
    }

    /// QEMU's process id, as long as it has not been reaped.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The next event; `None` after [`MachineEvent::Ended`]. May be dropped and called again without loss.
    pub async fn next_event(&mut self) -> Option<MachineEvent> {
        while self.ended.is_none() {
            let dying = self.death.is_some();
            let deadline = match self.link {
                Link::Closing(deadline) => Some(deadline),
                Link::Open | Link::Closed => None,
            };
            tokio::select! {
                biased;
                event = self.events.recv(), if self.link == Link::Open => match event {
                    Some(event) => if let Some(event) = self.note(&event) {
                        return Some(event);
                    },
                    None => self.link = Link::Closing(Instant::now() + DEATH_GRACE),
                },
                death = self.process.wait(), if !dying => self.death = Some(death),
                () = at(deadline), if !dying => {
                    self.link = Link::Closed;
                    self.history.monitor = MonitorHistory::FellSilent;
                    return Some(MachineEvent::MonitorLost);
                }
                // No event tells that a dead QEMU's socket will stay open: a child of its own may hold it.
                () = tokio::time::sleep(DRAIN_LIMIT), if dying => self.link = Link::Closed,
            }
            if self.link != Link::Open
                && let Some(Death { status, stderr }) = self.death.take()
            {
                let ended = Ended { exit: judge(&self.history, status), stderr };
                self.ended = Some(ended.clone());
                return Some(MachineEvent::Ended(ended));
            }
        }
        None
    }

    /// Asks whether QEMU still answers. Never done unasked: a QMP command in a running guest shifts an exact
    /// schedule.
    pub async fn probe(&mut self, limit: Timeout) -> Result<(), MonitorError> {
        self.ask(qmp::query_status {}, limit).await.map(|_| ())
    }

    /// Pauses the guest, if it is not paused already, and reads its CPUs. `limit` holds for each command.
    pub async fn capture_state(&mut self, limit: Timeout) -> Result<CpuState, MonitorError> {
        let status = self.ask(qmp::query_status {}, limit).await?;
        if status.running {
            // Under TCG a CPU's PSW is exact only between two translation blocks.
            self.ask(qmp::stop {}, limit).await?;
        }
        let cpus = self.ask(qmp::query_cpus_fast {}, limit).await?;
        let registers = self.ask_monitor("info registers -a".to_owned(), limit).await?;
        let mut state = CpuState::new(&status, &cpus, &registers);
        let mut words = Words::default();
        for cpu in state.cpus.iter_mut().take(MOST_TRACES) {
            cpu.trace = loop {
                match calls(cpu.number, cpu.psw, &registers, &words) {
                    Ok(trace) => break trace,
                    Err(wanted) => words.take(wanted, &self.ask_monitor(wanted.command(), limit).await?),
                }
            };
        }
        Ok(state)
    }

    /// What QEMU's monitor for people prints.
    async fn ask_monitor(&mut self, command_line: String, limit: Timeout) -> Result<String, MonitorError> {
        self.ask(qmp::human_monitor_command { command_line, cpu_index: None }, limit).await
    }

    /// Has a CPU take a PSW restart, as soon as it executes instructions.
    pub(super) async fn restart_cpu(&mut self, number: u32, limit: Timeout) -> Result<(), MonitorError> {
        let (command_line, cpu_index) = ("nmi".to_owned(), Some(number.into()));
        self.ask(qmp::human_monitor_command { command_line, cpu_index }, limit).await.map(drop)
    }

    /// Writes the guest's memory and CPUs to a file of the ELF core format, which `crash` and drgn read. The guest stands still
    /// meanwhile, and goes on if it ran.
    pub async fn dump(&mut self, file: &Utf8Path, limit: Timeout) -> Result<Dumped, DumpError> {
        let dump = qmp::dump_guest_memory {
            paging: false,
            protocol: format!("file:{file}"),
            detach: None,
            begin: None,
            length: None,
            format: None,
        };
        self.ask(dump, limit).await?;
        add_vmcoreinfo(file)
    }

    /// How many instructions of a recording the guest has executed.
    pub async fn replayed(&mut self, limit: Timeout) -> Result<u64, MonitorError> {
        Ok(u64::try_from(self.ask(qmp::query_replay {}, limit).await?.icount).unwrap_or(0))
    }

    /// The guest is to stop when it has executed so many instructions of a recording.
    pub async fn stop_at(&mut self, instructions: u64, limit: Timeout) -> Result<(), MonitorError> {
        let icount = i64::try_from(instructions).unwrap_or(i64::MAX);
        self.ask(qmp::replay_break { icount }, limit).await.map(|_| ())
    }

    /// Stops the guest and writes all its state to the file that the machine was started with.
    pub async fn save(&mut self, limit: Timeout) -> Result<(), SaveError> {
        let memory = self.memory.ok_or(SaveError::NoFile)?;
        self.ask(migration_events(), limit).await?;
        self.ask(qmp::stop {}, limit).await?;
        let uri = Some(inherited(memory));
        self.ask(qmp::migrate { uri, channels: None, detach: None, resume: None }, limit).await?;
        match timeout(limit.0, migrated(&mut self.events)).await {
            Ok(Migrated::Whole) => Ok(()),
            Ok(Migrated::Failed) => {
                let told = self.ask(qmp::query_migrate {}, limit).await?.error_desc;
                let reason = told.map_or("it does not say why".to_owned(), |told| escape(told.as_bytes()));
                Err(SaveError::Failed { reason })
            }
            Err(_) => Err(SaveError::Slow { limit: limit.0 }),
        }
    }

    /// Lets a guest that was saved go on, to be saved again later.
    pub async fn go_on(&mut self, limit: Timeout) -> Result<(), MonitorError> {
        self.ask(qmp::cont {}, limit).await.map(|_| ())
    }

    /// Ends the machine, reaps it and says how it ended, which may be another way than asked for. May be dropped and
    /// called again, with [`Stop::Now`] when patience is over.
    pub async fn stop(&mut self, how: Stop) -> Ended {
        self.history.stop = StopHistory::AskedByFarm;
        if let Stop::Nicely(limit) = how {
            if self.death.is_none() && self.ended.is_none() {
                // A monitor that does not answer is why there are signals.
                let quit = self.monitor.execute(qmp::quit {}, limit).await;
                tracing::debug!(?quit, "QEMU told to quit");
            }
            for signal in [None, Some(Signal::TERM)] {
                signal.into_iter().for_each(|signal| self.signal(signal));
                if let Ok(ended) = timeout(limit.0, self.end()).await {
                    return ended;
                }
            }
        }
        self.signal(Signal::KILL);
        self.end().await
    }

    async fn ask<C: qapi::Command>(&mut self, command: C, limit: Timeout) -> Result<C::Ok, MonitorError> {
        let result = self.monitor.execute(command, limit).await;
        self.history.monitor = match result {
            Ok(_) | Err(MonitorError::Refused { .. }) => MonitorHistory::Answered,
            Err(_) => MonitorHistory::FellSilent,
        };
        result
    }

    fn signal(&self, signal: Signal) {
        // Only a process that is gone cannot be sent a signal by its parent, and then its end is waited for anyway.
        if let Err(error) = self.process.signal(signal) {
            tracing::warn!(?signal, %error, "QEMU takes no signal");
        }
    }

    async fn end(&mut self) -> Ended {
        loop {
            if let Some(ended) = &self.ended {
                return ended.clone();
            }
            self.next_event().await;
        }
    }

    fn note(&mut self, event: &QmpEvent) -> Option<MachineEvent> {
        if let QmpEvent::Known(qmp::Event::SHUTDOWN { data, .. }) = event {
            self.history.shutdown = Some(data.reason);
        }
        let event = interpret(event);
        if let Some(MachineEvent::Panicked(panic)) = event {
            self.history.panic = Some(panic);
        }
        event
    }
}

/// How QEMU names a file whose descriptor it has inherited.
fn inherited(descriptor: RawFd) -> String {
    format!("file:/proc/self/fd/{descriptor}")
}

/// QEMU is to say how its migrations go on.
fn migration_events() -> qmp::migrate_set_capabilities {
    let capability = qmp::MigrationCapability::events;
    qmp::migrate_set_capabilities {
        capabilities: vec![qmp::MigrationCapabilityStatus { capability, state: true }],
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Migrated {
    Whole,
    Failed,
}

/// Waits for the end of a migration.
async fn migrated(events: &mut mpsc::Receiver<QmpEvent>) -> Migrated {
    while let Some(event) = events.recv().await {
        if let QmpEvent::Known(qmp::Event::MIGRATION { data, .. }) = event {
            match data.status {
                qmp::MigrationStatus::completed => return Migrated::Whole,
                qmp::MigrationStatus::failed => return Migrated::Failed,
                _ => {}
            }
        }
    }
    Migrated::Failed
}

/// Reads a saved guest. It was stopped when it was saved, and QEMU forgets a `cont` that comes before all is read.
async fn load(
    monitor: &Monitor,
    events: &mut mpsc::Receiver<QmpEvent>,
    memory: RawFd,
) -> Result<(), MonitorError> {
    monitor.execute(migration_events(), START_LIMIT).await?;
    let uri = Some(inherited(memory));
    monitor.execute(qmp::migrate_incoming { uri, channels: None, exit_on_error: None }, START_LIMIT).await?;
    let late = MonitorError::Timeout { command: "migrate-incoming", limit: START_LIMIT.0 };
    match timeout(START_LIMIT.0, migrated(events)).await {
        Ok(Migrated::Whole) => Ok(()),
        // QEMU ends itself then, and says why.
        Ok(Migrated::Failed) => Err(MonitorError::Closed),
        Err(_) => Err(late),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
