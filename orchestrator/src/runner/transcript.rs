//! Everything heard from one guest: its three streams, kept in bounded files and read as they come.

use std::collections::{HashMap, HashSet};

use crate::console::bounded::{self, BoundedLog, Limits};
use crate::detect::{Console, Fingerprint, Hit, Kmsg, Timestamps, merge};
use crate::escape::escape;
use crate::scenario::{MOST_BESIDE, MOST_STEPS, MOST_TOUCHES, MOST_TRACED, MOST_WORKERS};
use crate::store::{LifeFiles, MOST_EVENTS, StepRecord, StreamRecord};
use crate::workload::{
    Message, ProgramReport, Ready, ResultsReader, TouchReport, TraceEvent, TraceFunctions, Untraced,
};

/// What is kept of a stream on disk: a boot and its first reports stand at the start, the end shows how it went out.
const LOG_LIMITS: Limits = Limits { head: 16 << 20, tail: 16 << 20 };
/// A guest in a storm says the same again and again: of one fingerprint so many hits are kept, the others counted.
const MOST_OF_A_KIND: u32 = 16;
/// No kernel has so many different things to say. Kinds beyond these make the life a hit, foreseen or not.
const MOST_KINDS: usize = 256;
/// Enough of a console to hold what init says when it gives up.
const BOOT_TAIL: usize = 4096;
/// The version of docs/guest-protocol.md.
const PROTOCOL: u32 = 1;
/// What the reports of a life's programs may take. All workers that a scenario can have take less, each with some
/// kilobytes of output.
const MOST_REPORTED: usize = 32 << 20;

/// Something that the driver of a life acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Ready(Ready),
    StepStarted {
        step: u32,
        name: String,
    },
    StepEnded(u32),
    /// The kernel complained.
    Hit {
        title: String,
    },
    /// So much that nothing in this guest can be trusted any more.
    Corrupted,
    /// The console shows the like, and /dev/kmsg has not told of it. What user space writes to /dev/kmsg looks the same
    /// on the console; whose it is, only the record says.
    Suspected,
    /// Init is alive.
    Alive,
}

pub(super) struct Transcript {
    console_log: BoundedLog,
    kmsg_log: BoundedLog,
    results_log: BoundedLog,
    console: Console,
    kmsg: Kmsg,
    results: ResultsReader,
    console_hits: Hits,
    kmsg_hits: Hits,
    /// The console's last bytes before init was ready.
    boot_tail: Vec<u8>,
    pub(super) ready: Option<Ready>,
    pub(super) steps: Vec<StepRecord>,
    /// Bytes of the programs' reports.
    reported: usize,
    touches: Vec<TouchReport>,
    pub(super) trace: Tracing,
    /// Init said that the job was done.
    pub(super) ended: bool,
    init_error: Option<String>,
}

/// All that a guest told, when its streams are at their end.
#[derive(Default)]
pub(super) struct Told {
    pub(super) hits: Vec<Hit>,
    pub(super) hits_dropped: u64,
    pub(super) unknown_hits: u64,
    pub(super) streams: StreamRecord,
    pub(super) ready: Option<Ready>,
    pub(super) steps: Vec<StepRecord>,
    pub(super) touches: Vec<TouchReport>,
    pub(super) trace: Tracing,
    pub(super) ended: bool,
    pub(super) init_error: Option<String>,
    /// The last line that init wrote to the console, which it does only when it can't use its ports.
    pub(super) farm_line: Option<String>,
    /// Kinds of hits that were told while the guest ran.
    pub(super) announced: HashSet<Fingerprint>,
}

/// What a guest told of its kernel's trace.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracing {
    pub(super) untraced: Vec<Untraced>,
    /// None: it has not begun.
    pub(super) functions: Option<TraceFunctions>,
    pub(super) events: Vec<TraceEvent>,
    /// These are all.
    pub(super) is_told: bool,
}

impl Transcript {
    pub(super) fn create(files: &LifeFiles) -> Result<Self, bounded::Error> {
        let log = |name: &str| BoundedLog::create(&files.path(name), LOG_LIMITS);
        Ok(Self {
            console_log: log("console.log")?,
            kmsg_log: log("kmsg.log")?,
            results_log: log("results.log")?,
            console: Console::new(Timestamps::Required),
            kmsg: Kmsg::default(),
            results: ResultsReader::new(),
            console_hits: Hits::default(),
            kmsg_hits: Hits::default(),
            boot_tail: Vec::new(),
            ready: None,
            steps: Vec::new(),
            reported: 0,
            touches: Vec::new(),
            trace: Tracing::default(),
            ended: false,
            init_error: None,
        })
    }

    pub(super) fn console(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> Result<(), bounded::Error> {
        self.console_log.append(bytes)?;
        if self.ready.is_none() {
            self.boot_tail.extend_from_slice(bytes);
            self.boot_tail.drain(..self.boot_tail.len().saturating_sub(BOOT_TAIL));
        }
        self.console_hits.take(Source::Console, out, |hits| self.console.push(bytes, hits));
        Ok(())
    }

    pub(super) fn kmsg(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> Result<(), bounded::Error> {
        self.kmsg_log.append(bytes)?;
        self.kmsg_hits.take(Source::Kmsg, out, |hits| self.kmsg.push(bytes, hits));
        Ok(())
    }

    /// The kernel has been quiet for a while: reports that only waited for what might follow are whole.
    pub(super) fn settle(&mut self, out: &mut Vec<Heard>) {
        self.console_hits.take(Source::Console, out, |hits| self.console.settle(hits));
        self.kmsg_hits.take(Source::Kmsg, out, |hits| self.kmsg.settle(hits));
    }

    /// Whether what has been suspected holds: it stands in no record of user space's.
    pub(super) fn is_corrupted(&self) -> bool {
        let users = &self.kmsg.state().user_records;
        let of_user = |hit: &Hit| hit.at.is_some_and(|at| users.contains(&at));
        let corrupts = |hit: &&Hit| hit.kind.corrupts_memory();
        self.kmsg_hits.kept.iter().any(|hit| corrupts(&hit))
            || self.console_hits.kept.iter().filter(corrupts).any(|hit| !of_user(hit))
    }

    pub(super) fn results(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> Result<(), bounded::Error> {
        self.results_log.append(bytes)?;
        let mut messages = Vec::new();
        self.results.feed(bytes, &mut messages);
        for message in messages {
            self.message(message, out);
        }
        Ok(())
    }

    /// More steps, or more in a step, than a scenario can ask for are made up by the guest.
    fn message(&mut self, message: Message, out: &mut Vec<Heard>) {
        out.push(Heard::Alive);
        match message {
            Message::Ready(ready) if ready.protocol != PROTOCOL => {
                let text = format!("it speaks version {} of the protocol, farm {PROTOCOL}", ready.protocol);
                self.init_error.get_or_insert(text);
            }
            Message::Ready(_) if self.ready.is_some() => {
                self.init_error.get_or_insert("it was ready twice".to_owned());
            }
            Message::Ready(ready) => {
                self.ready = Some(ready.clone());
                out.push(Heard::Ready(ready));
            }
            Message::Waiting | Message::Job { .. } | Message::Beat => {}
            Message::StepStarted { step, name } => {
                if self.steps.len() < MOST_STEPS {
                    self.steps.push(StepRecord {
                        step,
                        name: name.clone(),
                        outcome: None,
                        wall_us: 0,
                        kmsg_seq: None,
                        rearmed: false,
                        workers: Vec::new(),
                        beside: Vec::new(),
                        attempts: Vec::new(),
                    });
                    out.push(Heard::StepStarted { step, name });
                }
            }
            Message::WorkerEnded(mut worker) => {
                self.bound(&mut worker.end.program);
                if let Some(step) = self.steps.last_mut().filter(|s| s.step == worker.step)
                    && step.workers.len() < MOST_WORKERS
                {
                    step.workers.push(worker);
                }
            }
            Message::BesideEnded(mut beside) => {
                self.bound(&mut beside.end.program);
                if let Some(step) = self.steps.last_mut().filter(|s| s.step == beside.step)
                    && step.beside.len() < MOST_BESIDE
                {
                    step.beside.push(beside);
                }
            }
            Message::Touched(touch) => {
                if self.touches.len() < MOST_STEPS * MOST_TOUCHES {
                    self.touches.push(touch);
                }
            }
            Message::Untraced(untraced) => {
                if self.trace.untraced.len() < MOST_TRACED {
                    self.trace.untraced.push(untraced);
                }
            }
            Message::Tracing(functions) => {
                self.trace.functions.get_or_insert(functions);
            }
            Message::Event(event) => {
                if self.trace.events.len() < MOST_EVENTS {
                    self.trace.events.extend(event);
                }
            }
            Message::Traced => self.trace.is_told = true,
            Message::StepEnded(report) => {
                if let Some(step) = self.steps.last_mut().filter(|s| s.step == report.step) {
                    step.outcome = Some(report.outcome);
                    step.wall_us = report.wall_us;
                    step.kmsg_seq = report.kmsg_seq;
                    step.rearmed = report.rearmed;
                    out.push(Heard::StepEnded(report.step));
                }
            }
            Message::End => self.ended = true,
            Message::Error { text } => {
                self.init_error.get_or_insert(text);
            }
        }
    }

    /// Empties a report for which there is no room any more. A life that is not all known must not pass for a good one.
    fn bound(&mut self, program: &mut ProgramReport) {
        self.reported = self.reported.saturating_add(program.size());
        if self.reported > MOST_REPORTED {
            *program = ProgramReport::default();
            let text =
                format!("its programs printed more than the {} MiB that farm keeps", MOST_REPORTED >> 20);
            self.init_error.get_or_insert(text);
        }
    }

    /// The streams are at their end: what both views of the kernel log say together.
    pub(super) fn finish(mut self) -> Result<Told, bounded::Error> {
        // What comes out only now is told with the rest, when both views have been compared.
        let announced = self.kmsg_hits.announced.clone();
        let mut unheard = Vec::new();
        self.console_hits.take(Source::Console, &mut unheard, |hits| self.console.finish(hits));
        self.kmsg_hits.take(Source::Kmsg, &mut unheard, |hits| self.kmsg.finish(hits));

        let kmsg = self.kmsg.state();
        let (kmsg_repeated, kmsg_unknown) = (self.kmsg_hits.repeated, self.kmsg_hits.unknown);
        let (console_repeated, console_unknown) = (self.console_hits.repeated, self.console_hits.unknown);
        let hits = merge(
            std::mem::take(&mut self.kmsg_hits.kept),
            std::mem::take(&mut self.console_hits.kept),
            &kmsg.user_records,
        );
        let logs = [self.console_log.close()?, self.kmsg_log.close()?, self.results_log.close()?];
        let streams = StreamRecord {
            console_bytes: logs[0].written,
            kmsg_bytes: logs[1].written,
            results_bytes: logs[2].written,
            kmsg_lost: kmsg.lost,
            dropped_bytes: logs.iter().map(|log| log.dropped).sum(),
        };
        // The two streams tell the same twice.
        let hits_dropped = kmsg_repeated.max(console_repeated);
        let unknown_hits = kmsg_unknown.max(console_unknown);
        let farm_line = farm_line(&self.boot_tail);
        let Self { ready, steps, touches, trace, ended, init_error, .. } = self;
        Ok(Told {
            hits,
            hits_dropped,
            unknown_hits,
            streams,
            ready,
            steps,
            touches,
            trace,
            ended,
            init_error,
            farm_line,
            announced,
        })
    }
}

/// The last line that begins as init's do. Lines of the kernel begin with a time.
fn farm_line(console: &[u8]) -> Option<String> {
    let line = console.split(|byte| *byte == b'\n').rev().find_map(|line| line.strip_prefix(b"farm: "))?;
    Some(escape(line.trim_ascii_end()))
}

/// Where hits were found. Those of the kernel's own log are told at once; what stands on the console is in the log as
/// well, is user space's, or is told when both have been compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Kmsg,
    Console,
}

/// Hits of one stream, so many and no more.
#[derive(Default)]
struct Hits {
    kept: Vec<Hit>,
    of_a_kind: HashMap<Fingerprint, u32>,
    announced: HashSet<Fingerprint>,
    /// Repetitions that were not kept.
    repeated: u64,
    /// Hits of kinds of which none was kept.
    unknown: u64,
}

impl Hits {
    /// Lets a detector find hits; keeps them within bounds, and says what the driver must know.
    fn take(&mut self, source: Source, out: &mut Vec<Heard>, detect: impl FnOnce(&mut Vec<Hit>)) {
        let mut found = Vec::new();
        detect(&mut found);
        for hit in found {
            if hit.kind.corrupts_memory() {
                out.push(match source {
                    Source::Kmsg => Heard::Corrupted,
                    Source::Console => Heard::Suspected,
                });
            }
            let kinds = self.of_a_kind.len();
            match self.of_a_kind.get_mut(&hit.fingerprint) {
                Some(count) if *count >= MOST_OF_A_KIND => {
                    self.repeated += 1;
                    continue;
                }
                Some(count) => *count += 1,
                None if kinds >= MOST_KINDS => {
                    self.unknown += 1;
                    continue;
                }
                None => {
                    self.of_a_kind.insert(hit.fingerprint.clone(), 1);
                }
            }
            if source == Source::Kmsg && self.announced.insert(hit.fingerprint.clone()) {
                out.push(Heard::Hit { title: hit.title.clone() });
            }
            self.kept.push(hit);
        }
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[test]
    fn a_storm_of_one_kind_hides_no_other() {
        let mut hits = Hits::default();
        let mut heard = Vec::new();
        hits.take(Source::Kmsg, &mut heard, |found| found.extend((0..1000).map(|_| Hit::hang("storm"))));
        hits.take(Source::Kmsg, &mut heard, |found| found.push(Hit::silent_panic()));
        assert_eq!((hits.kept.len(), hits.repeated, hits.unknown), (17, 984, 0));
        assert_eq!(hits.kept.last(), Some(&Hit::silent_panic()));
        assert_eq!(heard.last(), Some(&Heard::Hit { title: Hit::silent_panic().title }));
        assert!(heard.contains(&Heard::Corrupted), "a panic ends all trust, however many hits came before");
    }

    #[test]
    fn what_init_says_on_the_console_is_found() {
        let console = b"[    1.0] farm: no, that is the kernel\r\nfarm: first\r\nfarm: mount debugfs \x1b[m\r\n[    2.0] x\r\n";
        assert_eq!(farm_line(console).as_deref(), Some("mount debugfs \\x1b[m"));
        assert_eq!(farm_line(b"[    1.0] nothing"), None);
    }

    fn transcript() -> (tempfile::TempDir, Transcript) {
        let directory = tempfile::tempdir().unwrap();
        let files = LifeFiles::at(Utf8PathBuf::try_from(directory.path().to_owned()).unwrap());
        let transcript = Transcript::create(&files).unwrap();
        (directory, transcript)
    }

    #[test]
    fn a_guest_is_ready_once() {
        let (_directory, mut transcript) = transcript();
        let ready = b"{\"type\":\"ready\",\"protocol\":1,\"release\":\"6\",\"cpus\":1,\"memory_kib\":1,\"uptime_us\":1}\n";
        let mut heard = Vec::new();
        transcript.results(&ready.repeat(2), &mut heard).unwrap();
        assert_eq!(heard.iter().filter(|heard| matches!(heard, Heard::Ready(_))).count(), 1);
        assert_eq!(transcript.finish().unwrap().init_error.as_deref(), Some("it was ready twice"));
    }

    #[test]
    fn what_all_programs_report_is_bounded_together() {
        let (_directory, mut transcript) = transcript();
        let printed = format!("    {}\n", "x".repeat(60_000)).repeat(4);
        for step in 1..=3 {
            let start = format!("{{\"type\":\"start\",\"step\":{step},\"name\":\"s\"}}\n");
            let worker = format!(
                "{printed}{{\"type\":\"worker\",\"step\":{step},\"worker\":1,\"exit\":0,\"signal\":null,\
                 \"limit\":false,\"stuck\":false,\"wall_us\":1,\"cpu_us\":1,\"truncated\":0}}\n"
            );
            transcript.results((start + &worker.repeat(70)).as_bytes(), &mut Vec::new()).unwrap();
        }
        let told = transcript.finish().unwrap();
        let workers: Vec<usize> = told.steps.iter().map(|step| step.workers.len()).collect();
        assert_eq!(workers, [MOST_WORKERS; 3]);
        let kept = told.steps.iter().flat_map(|step| &step.workers).map(|worker| worker.end.program.size());
        let kept: usize = kept.sum();
        assert!((MOST_REPORTED / 2..=MOST_REPORTED).contains(&kept), "{kept}");
        assert_eq!(
            told.init_error.as_deref(),
            Some("its programs printed more than the 32 MiB that farm keeps")
        );
    }

    #[test]
    fn more_kinds_than_are_kept_are_counted() {
        let mut hits = Hits::default();
        hits.take(Source::Console, &mut Vec::new(), |found| {
            found.extend((0..300).map(|n| Hit::hang(&format!("f{n}"))))
        });
        assert_eq!((hits.kept.len(), hits.unknown), (MOST_KINDS, 44));
    }
}
