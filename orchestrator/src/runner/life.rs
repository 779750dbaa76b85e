//! Drives one life of a cell: prepares its guest, listens to it, and ends it when there is a reason to.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Clock, sleep_until};

use super::exact::GuestEnding;
use super::guest::Guest;
use super::hang::Stands;
use super::keepsakes::{AT_ITS_END, Keepsakes, halted};
use super::last_events::Lost;
use super::recheck::Found;
use super::record::{Lived, record_of};
use super::transcript::{Heard, Told, Transcript};
use super::warm::{self, WarmGuests};
use super::{Assignment, NoGuest};
use crate::detect::Fingerprint;
use crate::error::{chain, is_full_disk};
use crate::event::{StopCause, What};
use crate::machine::{
    CpuState, Ended, Exit, Launcher, Machine, MachineEvent, Memory, Stop, Streams, Timeout, end_is_zero,
};
use crate::plan::{Cell, LifeId, Schedule};
use crate::store::{
    CpuRecord, DumpRecord, LifeFiles, LifeRecord, RecheckOf, RunId, Started, StepRecord, StoreError,
    StoredHit, Timings,
};
use crate::verdict::{Ending, Verdict, signal_name};
use crate::workload::TraceEvent;

/// How long farm waits for things that no scenario speaks of.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From QEMU's start to init's `ready`, for a guest that runs as fast as it can.
    pub boot: Duration,
}

impl Default for Limits {
    /// A stock kernel needs 3 s under TCG on an idle host and 30 s on one that is ten times overloaded.
    fn default() -> Self {
        Self { boot: Duration::from_secs(120) }
    }
}

/// How much longer a guest may take whose instructions are counted: with the finest turns it boots in 11 s where
/// another needs 3 s (docs/benchmarks.md), and one host thread executes all its CPUs.
const COUNTED: u32 = 5;

impl Limits {
    /// From QEMU's start to init's `ready`.
    pub fn boot_of(self, cell: &Cell) -> Duration {
        if cell.turns().is_some() { self.boot * COUNTED } else { self.boot }
    }
}

/// After a hit that corrupts memory, the rest of its report, and a panic that follows, are still read.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A suspicion from the console stands for so long before it counts: the record that may clear it up comes by way
/// of init, which a loaded guest does not run at once.
const SUSPICION: Duration = Duration::from_millis(700);
/// Quiet in the kernel's log for so long means that a report has come to its end.
/// A guest that has to share its host prints one line and is not run again for a while.
const SETTLE: Duration = Duration::from_millis(500);
/// For each question to the monitor of a crashed or hung guest: it answers in milliseconds, on a host that is ten times
/// overloaded within a second, or not at all.
const CAPTURE_LIMIT: Timeout = Timeout(Duration::from_secs(5));
/// What a step may take beyond its own wall limit: stuck workers, draining the kernel log.
pub const STEP_SLACK: Duration = Duration::from_secs(20);
/// From the end of the job until the guest is off, a tenth of a second for a stock kernel. Under TCG with a thread for
/// each CPU QEMU (7.2 and 10.0) can lock up here for good: the CPU that powers off waits inside its SIGP STOP order for
/// the other one (target/s390x/sigp.c, run_on_cpu), and that waits for the first to leave the guest, to flush TLBs
/// (cpu-common.c, start_exclusive). The monitor then answers no `stop`.
const POWER_OFF: Duration = Duration::from_secs(10);
/// A limit that is noticed so much too late says that farm itself was stopped (Ctrl-Z, a suspended host), not the guest.
const STALL: Duration = Duration::from_secs(1);
pub(super) const CHUNK: usize = 64 << 10;

/// All that drives one life. Ends in a verdict, whatever happens.
pub(super) struct Task {
    pub(super) run: RunId,
    pub(super) life: LifeId,
    pub(super) assignment: Assignment,
    pub(super) files: LifeFiles,
    pub(super) limits: Limits,
    pub(super) launcher: Launcher,
    /// None: each guest boots.
    pub(super) warm: Option<Arc<WarmGuests>>,
    pub(super) keepsakes: Keepsakes,
    /// How many more dumps the run may have.
    pub(super) dumps: Arc<AtomicU32>,
    pub(super) tell: mpsc::Sender<What>,
    pub(super) stopping: watch::Receiver<Option<StopCause>>,
    /// QEMU fell silent while the guest went off.
    pub(super) locked_up: bool,
}

/// A task that is done.
pub(super) struct Over {
    pub(super) assignment: Assignment,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) found: Found,
    pub(super) ending: GuestEnding,
}

/// Trouble of farm's own, as the verdict will tell it.
pub(super) struct Trouble(pub(super) String);

impl<E: std::error::Error + 'static> From<E> for Trouble {
    fn from(error: E) -> Self {
        let mut text = chain(&error).join(": ");
        if is_full_disk(&error) {
            text += "; free space, or name another place for results with --state DIR";
        }
        Self(text)
    }
}

/// What is known of the machine beside its streams.
#[derive(Default)]
pub(super) struct MachineWords {
    pub(super) cpus: Option<CpuState>,
    /// Where they stand, of a guest that is silent.
    pub(super) stands: Stands,
    /// What they were doing, with places in the source.
    pub(super) cpu_records: Vec<CpuRecord>,
    /// QEMU's stderr.
    pub(super) stderr: String,
    /// Its memory, in a file.
    pub(super) dump: Option<DumpRecord>,
    /// The trace that its kernel was had to print, or why it did not.
    pub(super) last_events: Option<Result<Vec<TraceEvent>, String>>,
}

impl Task {
    pub(super) async fn live(mut self) -> Over {
        let began = Instant::now();
        let mut timings = Timings { started: Some(Timestamp::now()), ..Timings::default() };
        let name = self.name();
        let (record, told) = match self.assignment.guest.clone() {
            Err(no_guest) => {
                let ending = match no_guest {
                    NoGuest::Skipped(reason) => Ending::NotRun { reason },
                    NoGuest::NotBuilt(reason) => Ending::NotBuilt { reason },
                    NoGuest::Infra(trouble) => Ending::Infra { trouble },
                };
                (self.record(ending, Told::default(), &MachineWords::default(), timings), HashSet::new())
            }
            Ok(guest) => {
                self.say(What::LifeStarted { life: self.life, name: name.clone() }).await;
                self.live_in(&guest, began, &mut timings).await
            }
        };
        let record = self.with_places(record).await;
        let record = self.keep(record, &told, began).await;
        let verdict = record.verdict;
        let ending = self.guest_ending(&record);
        let (new, foreseen): (Vec<_>, Vec<_>) = record.hits.iter().partition(|hit| hit.is_new());
        let named = |hits: Vec<&StoredHit>| {
            let hits = hits.into_iter().map(|hit| &hit.judged.hit);
            hits.map(|hit| (hit.fingerprint.clone(), hit.title.clone())).collect()
        };
        let (findings, foreseen) = (named(new), named(foreseen));
        let found = Found { life: self.life, name: name.clone(), findings, foreseen };
        self.say(What::LifeEnded {
            life: self.life,
            name,
            verdict,
            ops: record.ops(),
            bytes: record.bytes(),
            reason: record.reason.clone(),
            wall_us: micros(began),
        })
        .await;
        Over { assignment: self.assignment, verdict, reason: record.reason, found, ending }
    }

    fn guest_ending(&self, record: &LifeRecord) -> GuestEnding {
        match record.ending {
            _ if record.streams.dropped_bytes > 0 => GuestEnding::TooLong,
            // It could not be seen whether it went off.
            _ if self.locked_up => GuestEnding::Cut,
            Ending::PoweredOff | Ending::Panicked | Ending::Reset => GuestEnding::Own,
            Ending::Hung | Ending::BootLimit => GuestEnding::Silent,
            _ => GuestEnding::Cut,
        }
    }

    /// For people: `splice cpus=4 on debian-12, life 3`.
    fn name(&self) -> String {
        let cell = &self.assignment.cell;
        let mut name = format!("{} on {}", cell.label(), cell.kernel.name);
        if let Some(RecheckOf { setting, .. }) = &self.assignment.recheck_of {
            name += &format!(", recheck {setting}");
        }
        if self.life.number == 1 { name } else { format!("{name}, life {}", self.life.number) }
    }

    /// Gives the record, and which kinds of hits have been told already.
    async fn live_in(
        &mut self,
        guest: &Guest,
        began: Instant,
        timings: &mut Timings,
    ) -> (LifeRecord, HashSet<Fingerprint>) {
        let mut words = MachineWords::default();
        let (ending, told) = match Transcript::create(&self.files) {
            Err(error) => (Err(error.into()), Told::default()),
            Ok(mut transcript) => {
                let ending = self.run_guest(guest, began, timings, &mut words, &mut transcript).await;
                timings.ended_us.get_or_insert(micros(began));
                words.stands = self.stands(guest, &ending, words.cpus.clone()).await;
                words.cpu_records = self.cpus(guest, words.cpus.clone()).await;
                match transcript.finish() {
                    Ok(told) => (ending, told),
                    Err(error) => (Err(error.into()), Told::default()),
                }
            }
        };
        let ending =
            ending.and_then(|ending| self.keep_words(&words, &told).map(|()| ending).map_err(Trouble::from));
        let ending = ending.unwrap_or_else(|Trouble(trouble)| Ending::Infra { trouble });
        let announced = told.announced.clone();
        (self.record(ending, told, &words, timings.clone()), announced)
    }

    fn record(&self, ending: Ending, told: Told, words: &MachineWords, timings: Timings) -> LifeRecord {
        let Self { run, life, assignment, .. } = self;
        record_of(Lived { run, life: *life, assignment, ending, told, words, timings })
    }

    /// Tells the hits that were not told yet and writes the record.
    async fn keep(&self, mut record: LifeRecord, told: &HashSet<Fingerprint>, began: Instant) -> LifeRecord {
        let mut told = told.clone();
        for hit in record.hits.iter().map(|hit| &hit.judged.hit) {
            if told.insert(hit.fingerprint.clone()) {
                self.say(What::HitSeen { life: self.life, title: hit.title.clone() }).await;
            }
        }
        record.timings.verdict_us = Some(micros(began));
        if let Err(error) = self.files.finish(&record) {
            let Trouble(reason) = error.into();
            (record.verdict, record.reason) = (Verdict::Infra, reason);
        }
        record
    }

    fn keep_words(&self, words: &MachineWords, told: &Told) -> Result<(), StoreError> {
        self.keep_trace(words, &told.trace)?;
        if let Some(cpus) = &words.cpus {
            self.files.document("cpus.json", cpus)?;
        }
        if !words.stderr.is_empty() {
            self.files.text("qemu.log", &words.stderr)?;
        }
        Ok(())
    }

    /// Prepares, starts, listens, stops. When it returns, no process and no scratch file of this life is left.
    async fn run_guest(
        &mut self,
        guest: &Guest,
        began: Instant,
        timings: &mut Timings,
        words: &mut MachineWords,
        transcript: &mut Transcript,
    ) -> Result<Ending, Trouble> {
        let cell = self.assignment.cell.clone();
        let job = guest.job(&cell, &self.life, &self.files)?;
        let mut stopping = self.stopping.clone();
        let copy = tokio::select! {
            copy = self.warm_copy(guest, &cell, &job, timings) => copy,
            // Where the guest has still to be booted and saved this takes a while.
            cause = stop_cause(&mut stopping) => return Ok(Ending::Stopped { cause }),
        };
        let memory = copy.as_ref().map_or(Memory::Fresh, |copy| Memory::Saved(Arc::clone(&copy.memory)));
        let mut prepared = guest.prepare(&cell, memory, &job, &self.files)?;
        self.keepsakes.equip(&mut prepared.spec, &cell, &self.files);
        let started = Machine::start(&prepared.spec, &self.launcher).await;
        // QEMU has read kernel and initrd by now and holds the disks open.
        let served = prepared.opened()?;
        let (mut machine, mut streams) = started?;
        timings.spawned_us = Some(micros(began));
        self.set_out(&mut streams).await?;

        let mut ending = self.listen(&mut machine, &mut streams, began, timings, words, transcript).await;
        timings.ended_us = Some(micros(began));
        if copy.is_some() && matches!(ending, Ok(Ending::BootLimit)) {
            ending = Err(Trouble("the saved guest does not go on".to_owned()));
        }
        use Ending::{BootLimit, Discarded, Hung, Panicked, WallLimit};
        if matches!(ending, Ok(Panicked | Discarded | Hung | BootLimit | WallLimit)) {
            match machine.capture_state(CAPTURE_LIMIT).await {
                Ok(cpus) => words.cpus = Some(cpus),
                // That the kernel crashed is known; that it hangs is not, if QEMU does.
                Err(error) if matches!(ending, Ok(Panicked | Discarded)) => {
                    tracing::warn!(life = %self.life, %error, "no CPU state of a crashed guest");
                }
                // All that was asked of the guest is done and told.
                Err(error) if transcript.ended => {
                    tracing::warn!(life = %self.life, %error, "QEMU locked up while the guest powered off");
                    self.locked_up = true;
                    ending = Ok(Ending::PoweredOff);
                }
                Err(error) => {
                    let Trouble(trouble) = error.into();
                    ending = Err(Trouble(format!("QEMU does not answer: {trouble}")));
                }
            }
        }
        if words.cpus.is_some() && words.dump.is_none() {
            words.dump = self.dump(&mut machine, AT_ITS_END).await;
        }
        let lost = self.print_trace(&mut machine, &mut streams, words, began, timings, transcript).await?;
        // A recording is whole when QEMU has ended by itself.
        let stop = if self.keepsakes.recording { Stop::Nicely(CAPTURE_LIMIT) } else { Stop::Now };
        words.stderr = machine.stop(stop).await.stderr;
        if let (Some(copy), Some(warm)) = (copy, &self.warm) {
            warm.give_back(copy);
        }
        served.remove()?;
        // What a kernel says that was had to speak is no word of its own.
        let drained = if lost == Lost::Printed {
            Ok(())
        } else {
            self.drain(&mut streams, began, timings, transcript).await
        };
        let ending = ending?;
        drained?;
        Ok(ending)
    }

    /// A copy of a saved guest with the job in it, unless the guest is to boot or has to.
    async fn warm_copy(
        &self,
        guest: &Guest,
        cell: &Cell,
        job: &[u8],
        timings: &mut Timings,
    ) -> Option<warm::Copy> {
        let warm = self.warm.as_ref()?;
        match warm.copy(guest, cell, job, &self.files).await {
            Ok(copy) => {
                timings.start = Started::Resumed { guest: Some(copy.sha256.clone()) };
                Some(copy)
            }
            Err(reason) => {
                if warm.is_news(&reason) {
                    self.say(What::BootedInstead { life: self.life, reason: reason.clone() }).await;
                }
                timings.start = Started::BootedInstead { reason };
                None
            }
        }
    }

    /// Reads the streams until there is a reason to end the life.
    async fn listen(
        &mut self,
        machine: &mut Machine,
        streams: &mut Streams,
        began: Instant,
        timings: &mut Timings,
        words: &mut MachineWords,
        transcript: &mut Transcript,
    ) -> Result<Ending, Trouble> {
        let cell = Arc::clone(&self.assignment.cell);
        let heartbeat = cell.scenario.heartbeat.0;
        let steps: Duration = cell.steps.iter().map(|step| step.limit + STEP_SLACK).sum();
        let boot = self.limits.boot_of(&cell);
        let mut whole = Clock::now() + boot + heartbeat + steps;
        // Until init is ready, the boot limit counts; then the time since something was heard from it.
        let mut deadline = (Clock::now() + boot, Ending::BootLimit);
        let mut last_words = None;
        let mut suspicion = None;
        // Since when the kernel's log has been quiet, if reports may still wait for what follows them.
        let mut unsettled = None;
        let mut stopping = self.stopping.clone();
        let mut heard = Vec::new();
        let mut buffers = [vec![0; CHUNK], vec![0; CHUNK], vec![0; CHUNK]];
        let [console, kmsg, results] = &mut buffers;
        let (mut console_open, mut kmsg_open, mut results_open) = (true, true, true);
        loop {
            let quiet = unsettled.map_or(whole, |since| since + SETTLE);
            let (until, ending) = match last_words {
                Some(until) => (until, Ending::Discarded),
                None if whole < deadline.0 => (whole, Ending::WallLimit),
                None => deadline.clone(),
            };
            tokio::select! {
                read = streams.console.read(console), if console_open => {
                    let bytes = &console[..end_is_zero(read)?];
                    console_open = !bytes.is_empty();
                    transcript.console(bytes, &mut heard)?;
                    unsettled = Some(Clock::now());
                }
                read = streams.kmsg.read(kmsg), if kmsg_open => {
                    let bytes = &kmsg[..end_is_zero(read)?];
                    kmsg_open = !bytes.is_empty();
                    transcript.kmsg(bytes, &mut heard)?;
                    unsettled = Some(Clock::now());
                }
                read = streams.results.read(results), if results_open => {
                    let bytes = &results[..end_is_zero(read)?];
                    results_open = !bytes.is_empty();
                    transcript.results(bytes, &mut heard)?;
                }
                event = machine.next_event() => if let Some(ending) = ending_of(event)? {
                    return Ok(ending);
                },
                () = halted(&mut streams.stub), if !self.keepsakes.dump_at.is_empty() => {
                    let began = Clock::now();
                    self.dump_and_go_on(machine, streams, words).await?;
                    whole += began.elapsed();
                    deadline.0 += began.elapsed();
                }
                () = sleep_until(quiet), if unsettled.is_some() => {
                    unsettled = None;
                    transcript.settle(&mut heard);
                }
                () = sleep_until(suspicion.unwrap_or(whole)), if suspicion.is_some() => {
                    suspicion = None;
                    if transcript.is_corrupted() {
                        return Ok(Ending::Discarded);
                    }
                }
                () = sleep_until(until) => {
                    let late = until.elapsed();
                    if ending != Ending::Discarded && late > STALL {
                        whole += late;
                        deadline.0 += late;
                        continue;
                    }
                    // What the guest said in time may lie unread behind a busy farm.
                    if !matches!(ending, Ending::Hung | Ending::BootLimit) {
                        return Ok(ending);
                    }
                    match streams.results.try_read(results) {
                        Ok(length) if length > 0 => transcript.results(&results[..length], &mut heard)?,
                        _ => return Ok(ending),
                    }
                }
                cause = stop_cause(&mut stopping) => return Ok(Ending::Stopped { cause }),
            }
            if heard.contains(&Heard::Alive) && transcript.ready.is_some() {
                // Init beats no more once the job is done; a kernel goes off in a tenth of a second.
                let patience = if transcript.ended { heartbeat.min(POWER_OFF) } else { heartbeat };
                deadline = (Clock::now() + patience, Ending::Hung);
            }
            if heard.contains(&Heard::Corrupted) {
                last_words.get_or_insert(Clock::now() + LAST_WORDS);
            }
            if heard.contains(&Heard::Suspected) {
                suspicion.get_or_insert(Clock::now() + SUSPICION);
            }
            self.tell_heard(&mut heard, began, timings, transcript).await;
            if transcript.ended && last_words.is_none() && self.ends_with_its_job(timings) {
                return Ok(Ending::JobDone);
            }
        }
    }

    /// A life that was to be short does not wait for its guest to go off, which takes up to a tenth of a second and now and
    /// then locks QEMU up. Init has handed out the kernel's whole log by then; how a kernel goes off is for those that boot to
    /// see. A schedule that is to be exact goes on to its end: when farm stops it is the host's affair.
    fn ends_with_its_job(&self, timings: &Timings) -> bool {
        timings.start.is_resumed() && self.assignment.cell.schedule == Schedule::Parallel
    }

    pub(super) async fn tell_heard(
        &self,
        heard: &mut Vec<Heard>,
        began: Instant,
        timings: &mut Timings,
        transcript: &Transcript,
    ) {
        let life = self.life;
        for heard in heard.drain(..) {
            match heard {
                Heard::Alive | Heard::Corrupted | Heard::Suspected => {}
                Heard::Hit { title } => self.say(What::HitSeen { life, title }).await,
                Heard::Ready(ready) => {
                    let now = micros(began);
                    timings.ready_us = Some(now);
                    let resumed_us = match timings.start {
                        Started::Resumed { .. } => timings.spawned_us.map(|spawned| now - spawned),
                        Started::Booted | Started::BootedInstead { .. } => None,
                    };
                    self.say(What::Ready { life, uptime_us: ready.uptime_us, resumed_us }).await;
                }
                Heard::StepStarted { step, name } => self.say(What::StepStarted { life, step, name }).await,
                Heard::StepEnded(step) => {
                    if let Some(step) = transcript.steps.iter().find(|s| s.step == step) {
                        self.say(step_ended(life, step)).await;
                    }
                }
            }
        }
    }

    pub(super) async fn say(&self, what: What) {
        // The dispatcher listens for as long as it has lives; if it is gone, this task is being dropped.
        let _ = self.tell.send(what).await;
    }
}

/// What a machine's event means for the life; `Err` if it is farm's own trouble.
pub(super) fn ending_of(event: Option<MachineEvent>) -> Result<Option<Ending>, Trouble> {
    let trouble = match event {
        Some(MachineEvent::Panicked(_)) => return Ok(Some(Ending::Panicked)),
        Some(MachineEvent::Reset) => return Ok(Some(Ending::Reset)),
        Some(MachineEvent::Paused | MachineEvent::Resumed) => return Ok(None),
        Some(MachineEvent::HostDiskFailed { disk, reason }) => {
            format!("the host could not serve {disk}: {reason}")
        }
        Some(MachineEvent::MonitorLost) => "QEMU's monitor is gone".to_owned(),
        Some(MachineEvent::Ended(Ended { exit, stderr })) => match exit {
            Exit::PoweredOff => return Ok(Some(Ending::PoweredOff)),
            Exit::Reset => return Ok(Some(Ending::Reset)),
            Exit::Panicked(_) => return Ok(Some(Ending::Panicked)),
            Exit::QemuExited { code } => {
                with_last_words(format!("QEMU ended by itself with exit status {code}"), &stderr)
            }
            Exit::QemuKilled { signal } => {
                with_last_words(format!("QEMU was killed by {}", signal_name(signal)), &stderr)
            }
            Exit::Stopped | Exit::MonitorSilent => "QEMU was stopped".to_owned(),
        },
        None => "QEMU is gone".to_owned(),
    };
    Err(Trouble(trouble))
}

fn with_last_words(what: String, stderr: &str) -> String {
    match stderr.trim() {
        "" => what,
        words => format!("{what}: {words}"),
    }
}

/// Waits until the run is to stop; for ever if whoever could say so is gone.
async fn stop_cause(stopping: &mut watch::Receiver<Option<StopCause>>) -> StopCause {
    let told = stopping.wait_for(Option::is_some).await.ok().and_then(|cause| *cause);
    match told {
        Some(cause) => cause,
        None => std::future::pending().await,
    }
}

fn step_ended(life: LifeId, step: &StepRecord) -> What {
    What::StepEnded {
        life,
        step: step.step,
        name: step.name.clone(),
        outcome: step.outcome_word().to_owned(),
        note: step.skip_reason().unwrap_or_default().to_owned(),
        ops: step.ops(),
        bytes: step.bytes(),
    }
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}
