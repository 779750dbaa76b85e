//! One life of a cell, from its directory to its verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::guest::{Guest, PreparedGuest};
use super::hang;
use super::transcript::{Heard, Told, Transcript};
use crate::detect::Hit;
use crate::event::What;
use crate::machine::{CpuState, Ended, Exit, Launcher, Machine, MachineEvent, Stop, Streams, Timeout};
use crate::plan::{Cell, LifeId};
use crate::scenario::Facts;
use crate::store::{HitId, LifeFiles, LifeRecord, RunId, StepRecord, StoredHit, Timings};
use crate::verdict::{Ending, Evidence, Judgement, Verdict, judge};
use crate::workload::StepReport;

/// How long farm waits for things that no scenario speaks of.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From QEMU's start to init's `ready`.
    pub boot: Duration,
}

impl Default for Limits {
    /// A stock kernel needs 3 s under TCG on an idle host and 30 s on one that is ten times overloaded.
    fn default() -> Self {
        Self { boot: Duration::from_secs(120) }
    }
}

/// After a hit that corrupts memory, the rest of its report, and a panic that follows, are still read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Quiet in the kernel's log for so long means that a report has come to its end.
const SETTLE: Duration = Duration::from_millis(100);
/// For the monitor of a crashed or hung guest to say where its CPUs stand.
const CAPTURE_LIMIT: Timeout = Timeout(Duration::from_secs(1));
/// For streams of a dead QEMU to reach their end.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// What a step may take beyond its own wall limit: stuck workers, draining the kernel log.
const STEP_SLACK: Duration = Duration::from_secs(20);
const CHUNK: usize = 64 << 10;

/// All that drives one life. Ends in a verdict, whatever happens.
pub(super) struct Task {
    pub(super) run: RunId,
    pub(super) life: LifeId,
    pub(super) cell: Arc<Cell>,
    pub(super) guest: Arc<Guest>,
    pub(super) files: LifeFiles,
    pub(super) limits: Limits,
    pub(super) launcher: Launcher,
    pub(super) tell: mpsc::Sender<(LifeId, What)>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// How far a life has come.
struct Progress {
    began: Instant,
    timings: Timings,
    cpus: Option<CpuState>,
    stderr: String,
}

/// Trouble of farm's own, as the verdict will tell it.
struct Trouble(String);

impl<E: std::error::Error + 'static> From<E> for Trouble {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        Self(text)
    }
}

impl Task {
    pub(super) async fn live(mut self) -> Verdict {
        let label = self.cell.label();
        self.say(What::LifeStarted { life: self.life, label: label.clone() }).await;
        let mut progress = Progress {
            began: Instant::now(),
            timings: Timings { started: Some(Timestamp::now()), ..Timings::default() },
            cpus: None,
            stderr: String::new(),
        };
        let mut record = self.record(&mut progress).await;
        for hit in &record.hits {
            let title = hit.judged.hit.title.clone();
            self.say(What::HitSeen { life: self.life, title }).await;
        }

        record.timings.verdict_us = Some(micros(progress.began));
        if let Err(error) = self.files.finish(&record) {
            let Trouble(reason) = error.into();
            (record.verdict, record.reason) = (Verdict::Infra, reason);
        }
        let (verdict, wall_us) = (record.verdict, micros(progress.began));
        let (ops, bytes) = (record.ops(), record.bytes());
        let life = self.life;
        self.say(What::LifeEnded { life, label, verdict, reason: record.reason, wall_us, ops, bytes }).await;
        verdict
    }

    /// Lives and judges; trouble of farm's own becomes an `infra` record.
    async fn record(&mut self, progress: &mut Progress) -> LifeRecord {
        let mut transcript = match Transcript::create(&self.files) {
            Ok(transcript) => transcript,
            Err(error) => {
                let Trouble(trouble) = error.into();
                return self.judged(progress, Ending::Infra { trouble }, None, Vec::new());
            }
        };
        let ending = match self.run_guest(progress, &mut transcript).await {
            Ok(ending) => ending,
            Err(Trouble(trouble)) => Ending::Infra { trouble },
        };
        progress.timings.ended_us.get_or_insert(micros(progress.began));
        let mut hits = Vec::new();
        if ending == Ending::Hung && transcript.ready.is_some() {
            hits.push(hang::hit(progress.cpus.as_ref(), &self.guest.symbols));
        }
        if let Err(error) = self.keep_machine_words(progress) {
            let Trouble(trouble) = error.into();
            return self.judged(progress, Ending::Infra { trouble }, Some(transcript), hits);
        }
        self.judged(progress, ending, Some(transcript), hits)
    }

    fn keep_machine_words(&self, progress: &Progress) -> Result<(), crate::store::StoreError> {
        if let Some(cpus) = &progress.cpus {
            self.files.document("cpus.json", cpus)?;
        }
        if !progress.stderr.is_empty() {
            self.files.text("qemu.log", &progress.stderr)?;
        }
        Ok(())
    }

    /// Prepares, starts, listens, stops. When it returns, no process and no scratch file of this life is left.
    async fn run_guest(
        &mut self,
        progress: &mut Progress,
        transcript: &mut Transcript,
    ) -> Result<Ending, Trouble> {
        let prepared = self.guest.prepare(&self.cell, &self.life, &self.files)?;
        let ending = self.run_machine(&prepared, progress, transcript).await;
        prepared.remove()?;
        ending
    }

    async fn run_machine(
        &mut self,
        prepared: &PreparedGuest,
        progress: &mut Progress,
        transcript: &mut Transcript,
    ) -> Result<Ending, Trouble> {
        let (mut machine, mut streams) = Machine::start(&prepared.spec, &self.launcher).await?;
        progress.timings.spawned_us = Some(micros(progress.began));

        let ending = self.listen(&mut machine, &mut streams, progress, transcript).await;
        progress.timings.ended_us = Some(micros(progress.began));
        let mut ending = match ending {
            Ok(ending) => ending,
            Err(trouble) => {
                machine.stop(Stop::Now).await;
                return Err(trouble);
            }
        };
        if matches!(ending, Ending::Panicked | Ending::Hung | Ending::BootLimit | Ending::WallLimit) {
            match machine.capture_state(CAPTURE_LIMIT).await {
                Ok(cpus) => progress.cpus = Some(cpus),
                Err(error) if ending != Ending::Panicked => {
                    let Trouble(trouble) = error.into();
                    ending = Ending::Infra { trouble: format!("QEMU does not answer: {trouble}") };
                }
                Err(error) => tracing::warn!(life = %self.life, %error, "no CPU state of a panicked guest"),
            }
        }
        let ended = machine.stop(Stop::Now).await;
        progress.stderr = ended.stderr;
        drain(&mut streams, transcript).await?;
        Ok(ending)
    }

    /// Reads the streams until there is a reason to end the life.
    async fn listen(
        &mut self,
        machine: &mut Machine,
        streams: &mut Streams,
        progress: &mut Progress,
        transcript: &mut Transcript,
    ) -> Result<Ending, Trouble> {
        let now = tokio::time::Instant::now();
        let heartbeat = self.cell.scenario.heartbeat.0;
        let steps: Duration = self.cell.steps.iter().map(|step| step.limit + STEP_SLACK).sum();
        let whole = now + self.limits.boot + heartbeat + steps;
        // Until init is ready, the boot limit counts; then the time since something was heard from it.
        let mut deadline = (now + self.limits.boot, Ending::BootLimit);
        let mut last_words = None;
        // Since when the kernel's log has been quiet, if reports may still wait for what follows them.
        let mut unsettled = None;
        let mut heard = Vec::new();
        let mut buffers = [vec![0; CHUNK], vec![0; CHUNK], vec![0; CHUNK]];
        let [console_buffer, kmsg_buffer, results_buffer] = &mut buffers;
        let mut open = Open { console: true, kmsg: true, results: true };
        loop {
            let quiet = unsettled.map_or(whole, |since| since + SETTLE);
            let (until, ending) = match last_words {
                Some(until) => (until, Ending::Discarded),
                None if whole < deadline.0 => (whole, Ending::WallLimit),
                None => deadline.clone(),
            };
            tokio::select! {
                read = streams.console.read(console_buffer), if open.console => {
                    let read = end_is_zero(read)?;
                    open.console = read > 0;
                    transcript.console(&console_buffer[..read], &mut heard)?;
                    unsettled = Some(tokio::time::Instant::now());
                }
                read = streams.kmsg.read(kmsg_buffer), if open.kmsg => {
                    let read = end_is_zero(read)?;
                    open.kmsg = read > 0;
                    transcript.kmsg(&kmsg_buffer[..read], &mut heard)?;
                    unsettled = Some(tokio::time::Instant::now());
                }
                read = streams.results.read(results_buffer), if open.results => {
                    let read = end_is_zero(read)?;
                    open.results = read > 0;
                    transcript.results(&results_buffer[..read], &mut heard)?;
                }
                event = machine.next_event() => if let Some(ending) = ending_of(event)? {
                    return Ok(ending);
                },
                () = sleep_until(until) => return Ok(ending),
                () = sleep_until(quiet), if unsettled.is_some() => {
                    unsettled = None;
                    transcript.settle(&mut heard);
                }
                _ = self.stopping.wait_for(|stop| *stop) => return Ok(Ending::Interrupted),
            }
            for heard in heard.drain(..) {
                match heard {
                    Heard::Alive => {}
                    Heard::Corrupted => {
                        last_words.get_or_insert(tokio::time::Instant::now() + LAST_WORDS);
                        continue;
                    }
                    Heard::Ready(ready) => {
                        progress.timings.ready_us = Some(micros(progress.began));
                        let life = self.life;
                        self.say(What::Ready { life, uptime_us: ready.uptime_us }).await;
                    }
                    Heard::StepStarted { step, name } => {
                        self.say(What::StepStarted { life: self.life, step, name }).await;
                    }
                    Heard::StepEnded => {
                        if let Some(step) = transcript.steps.last() {
                            self.say(step_ended(&self.life, step)).await;
                        }
                    }
                }
                if transcript.ready.is_some() {
                    deadline = (tokio::time::Instant::now() + heartbeat, Ending::Hung);
                }
            }
        }
    }

    /// Closes the transcript, judges, and puts the record together.
    fn judged(
        &self,
        progress: &Progress,
        mut ending: Ending,
        transcript: Option<Transcript>,
        mut hits: Vec<Hit>,
    ) -> LifeRecord {
        let told = match transcript.map(Transcript::finish) {
            None => Told::default(),
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                let Trouble(trouble) = error.into();
                ending = Ending::Infra { trouble };
                Told::default()
            }
        };
        let Told { hits: logged, hits_dropped, streams, ready, steps, ended, init_error } = told;
        hits.splice(0..0, logged);
        hits.extend(data_hits(&self.cell, &steps));
        if ending == Ending::Panicked
            && !hits.iter().any(|hit| hit.ends_the_guest() || hit.kind.corrupts_memory())
        {
            hits.push(hang::silent_panic(progress.cpus.as_ref(), &self.guest.symbols));
        }

        let reports: Vec<StepReport> = steps.iter().filter_map(step_report).collect();
        let workers: Vec<_> = steps.iter().flat_map(|s| s.workers.iter().cloned()).collect();
        let facts = Facts { kernel_release: &self.cell.kernel.release, protection: self.cell.protection };
        let evidence = Evidence {
            ending: &ending,
            ready: ready.is_some(),
            ended,
            init_error: init_error.as_deref(),
            steps: &reports,
            workers: &workers,
            hits,
        };
        let Judgement { verdict, reason, hits, missed } = judge(&self.cell.scenario, facts, evidence);
        let hits = hits
            .into_iter()
            .enumerate()
            .map(|(index, judged)| StoredHit { id: HitId::new(&self.run, &self.life, index), judged })
            .collect();
        LifeRecord {
            life: self.life,
            scenario: self.cell.scenario.name.to_string(),
            label: self.cell.label(),
            kernel: self.cell.kernel.clone(),
            seed: self.cell.seed,
            verdict,
            reason,
            ending,
            ready,
            steps,
            hits,
            missed,
            hits_dropped,
            streams,
            timings: progress.timings.clone(),
        }
    }

    async fn say(&self, what: What) {
        // The dispatcher listens for as long as it has lives; if it is gone, this task is being dropped.
        let _ = self.tell.send((self.life, what)).await;
    }
}

struct Open {
    console: bool,
    kmsg: bool,
    results: bool,
}

/// QEMU that dies while bytes are under way resets the connection: for a reader that is its end.
fn end_is_zero(read: std::io::Result<usize>) -> std::io::Result<usize> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
        read => read,
    }
}

/// What a machine's event means for the life; `Err` if it is farm's own trouble.
fn ending_of(event: Option<MachineEvent>) -> Result<Option<Ending>, Trouble> {
    Ok(Some(match event {
        Some(MachineEvent::Panicked(_)) => Ending::Panicked,
        Some(MachineEvent::Reset) => Ending::Reset,
        Some(MachineEvent::Paused | MachineEvent::Resumed) => return Ok(None),
        Some(MachineEvent::HostDiskFailed { disk, reason }) => {
            return Err(Trouble(format!("the host could not serve {disk}: {reason}")));
        }
        Some(MachineEvent::MonitorLost) => return Err(Trouble("QEMU's monitor is gone".to_owned())),
        Some(MachineEvent::Ended(Ended { exit, stderr })) => match exit {
            Exit::PoweredOff => Ending::PoweredOff,
            Exit::Reset => Ending::Reset,
            Exit::Panicked(_) => Ending::Panicked,
            Exit::QemuExited { code } => {
                return Err(Trouble(format!(
                    "QEMU ended by itself with exit status {code}: {}",
                    stderr.trim()
                )));
            }
            Exit::QemuKilled { signal } => {
                return Err(Trouble(format!("QEMU was killed by signal {signal}: {}", stderr.trim())));
            }
            Exit::Stopped | Exit::MonitorSilent => return Err(Trouble("QEMU was stopped".to_owned())),
        },
        None => return Err(Trouble("QEMU is gone".to_owned())),
    }))
}

/// Reads what a dead QEMU left in the sockets.
async fn drain(streams: &mut Streams, transcript: &mut Transcript) -> Result<(), Trouble> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let until = tokio::time::Instant::now() + DRAIN_LIMIT;
    type Take = fn(&mut Transcript, &[u8], &mut Vec<Heard>) -> std::io::Result<()>;
    let all: [(&mut UnixStream, Take); 3] = [
        (&mut streams.console, Transcript::console),
        (&mut streams.kmsg, Transcript::kmsg),
        (&mut streams.results, Transcript::results),
    ];
    for (stream, take) in all {
        loop {
            let read = tokio::time::timeout_at(until, stream.read(&mut buffer)).await;
            match read.map(end_is_zero) {
                Ok(Ok(0)) => break,
                Ok(Ok(length)) => take(transcript, &buffer[..length], &mut heard)?,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Trouble("a stream of a dead QEMU has no end".to_owned())),
            }
        }
    }
    Ok(())
}

fn step_ended(life: &LifeId, step: &StepRecord) -> What {
    What::StepEnded {
        life: *life,
        step: step.step,
        name: step.name.clone(),
        outcome: step.outcome_word().to_owned(),
        ops: step.ops(),
        bytes: step.bytes(),
    }
}

fn step_report(step: &StepRecord) -> Option<StepReport> {
    let outcome = step.outcome?;
    Some(StepReport {
        step: step.step,
        outcome,
        wall_us: step.wall_us,
        kmsg_seq: None,
        rearmed: step.rearmed,
    })
}

/// Failed data checks are hits: the kernel corrupted data, though it may have said nothing.
fn data_hits(cell: &Cell, steps: &[StepRecord]) -> Vec<Hit> {
    let mut hits: Vec<Hit> = Vec::new();
    for step in steps {
        let program = cell.program_of_step(step.step).unwrap_or(&step.name);
        for failure in step.workers.iter().flat_map(|w| &w.program.data_failures) {
            let hit = Hit::data(program, &failure.path, &failure.check).with_text(&failure.detail);
            if !hits.iter().any(|other| other.fingerprint == hit.fingerprint) {
                hits.push(hit);
            }
        }
    }
    hits
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}
