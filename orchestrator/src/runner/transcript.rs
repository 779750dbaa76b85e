//! Everything heard from one guest: its three streams, kept in bounded files and read as they come.

use std::io::{self, Write};

use crate::console::bounded::{self, BoundedLog, Limits};
use crate::detect::{Console, Hit, Kmsg, Timestamps, merge};
use crate::store::{LifeFiles, StepRecord, StreamRecord};
use crate::workload::{Message, Ready, ResultsReader};

/// What is kept of a stream on disk: a boot and its first reports stand at the start, the end shows how it went out.
const LOG_LIMITS: Limits = Limits { head: 16 << 20, tail: 16 << 20 };
/// More hits of a stream than this are counted and not kept: a guest in a storm says the same again and again.
const MOST_HITS: usize = 256;
/// More steps or workers than any scenario has mean that the guest makes them up.
const MOST_STEPS: usize = 4096;
const MOST_WORKERS: usize = 4096;

/// Something that the driver of a life acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Ready(Ready),
    StepStarted {
        step: u32,
        name: String,
    },
    /// A step ended; it is the last of `steps`.
    StepEnded,
    /// A hit after which nothing in this guest can be trusted.
    Corrupted,
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
    workers: usize,
    pub(super) ready: Option<Ready>,
    pub(super) steps: Vec<StepRecord>,
    /// Init said that the job was done.
    ended: bool,
    init_error: Option<String>,
}

/// All that a guest told, when its streams are at their end.
#[derive(Default)]
pub(super) struct Told {
    pub(super) hits: Vec<Hit>,
    pub(super) hits_dropped: u64,
    pub(super) streams: StreamRecord,
    pub(super) ready: Option<Ready>,
    pub(super) steps: Vec<StepRecord>,
    pub(super) ended: bool,
    pub(super) init_error: Option<String>,
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
            workers: 0,
            ready: None,
            steps: Vec::new(),
            ended: false,
            init_error: None,
        })
    }

    pub(super) fn console(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> io::Result<()> {
        self.console_log.write_all(bytes)?;
        self.console_hits.take(out, |hits| self.console.push(bytes, hits));
        Ok(())
    }

    pub(super) fn kmsg(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> io::Result<()> {
        self.kmsg_log.write_all(bytes)?;
        self.kmsg_hits.take(out, |hits| self.kmsg.push(bytes, hits));
        Ok(())
    }

    /// The kernel has been quiet for a while: reports that only waited for what might follow are whole.
    pub(super) fn settle(&mut self, out: &mut Vec<Heard>) {
        self.console_hits.take(out, |hits| self.console.settle(hits));
        self.kmsg_hits.take(out, |hits| self.kmsg.settle(hits));
    }

    pub(super) fn results(&mut self, bytes: &[u8], out: &mut Vec<Heard>) -> io::Result<()> {
        self.results_log.write_all(bytes)?;
        let mut messages = Vec::new();
        self.results.feed(bytes, &mut messages);
        for message in messages {
            self.message(message, out);
        }
        Ok(())
    }

    fn message(&mut self, message: Message, out: &mut Vec<Heard>) {
        out.push(Heard::Alive);
        match message {
            Message::Ready(ready) => {
                self.ready = Some(ready.clone());
                out.push(Heard::Ready(ready));
            }
            Message::Job { .. } | Message::Beat => {}
            Message::StepStarted { step, name } => {
                if self.steps.len() < MOST_STEPS {
                    self.steps.push(StepRecord {
                        step,
                        name: name.clone(),
                        outcome: None,
                        wall_us: 0,
                        rearmed: false,
                        workers: Vec::new(),
                    });
                    out.push(Heard::StepStarted { step, name });
                }
            }
            Message::WorkerEnded(worker) => {
                self.workers += 1;
                if let Some(step) = self.steps.last_mut().filter(|s| s.step == worker.step)
                    && self.workers <= MOST_WORKERS
                {
                    step.workers.push(worker);
                }
            }
            Message::StepEnded(report) => {
                if let Some(step) = self.steps.last_mut().filter(|s| s.step == report.step) {
                    step.outcome = Some(report.outcome);
                    step.wall_us = report.wall_us;
                    step.rearmed = report.rearmed;
                    out.push(Heard::StepEnded);
                }
            }
            Message::End => self.ended = true,
            Message::Error { text } => {
                self.init_error.get_or_insert(text);
            }
        }
    }

    /// The streams are at their end: what both views of the kernel log say together.
    pub(super) fn finish(mut self) -> Result<Told, bounded::Error> {
        let mut unheard = Vec::new();
        self.console_hits.take(&mut unheard, |hits| self.console.finish(hits));
        self.kmsg_hits.take(&mut unheard, |hits| self.kmsg.finish(hits));

        let kmsg = self.kmsg.state();
        let hits = merge(self.kmsg_hits.kept, self.console_hits.kept, &kmsg.user_records);
        let logs = [self.console_log.close()?, self.kmsg_log.close()?, self.results_log.close()?];
        let streams = StreamRecord {
            console_bytes: logs[0].written,
            kmsg_bytes: logs[1].written,
            results_bytes: logs[2].written,
            kmsg_lost: kmsg.lost,
            dropped_bytes: logs.iter().map(|log| log.dropped).sum(),
        };
        let hits_dropped = self.kmsg_hits.dropped.max(self.console_hits.dropped);
        let Self { ready, steps, ended, init_error, .. } = self;
        Ok(Told { hits, hits_dropped, streams, ready, steps, ended, init_error })
    }
}

/// Hits of one stream, so many and no more.
#[derive(Default)]
struct Hits {
    kept: Vec<Hit>,
    dropped: u64,
}

impl Hits {
    /// Lets a detector add hits, and says whether one of them ends all trust in the guest.
    fn take(&mut self, out: &mut Vec<Heard>, detect: impl FnOnce(&mut Vec<Hit>)) {
        let known = self.kept.len();
        detect(&mut self.kept);
        if self.kept[known..].iter().any(|hit| hit.kind.corrupts_memory()) {
            out.push(Heard::Corrupted);
        }
        self.dropped += self.kept.len().saturating_sub(MOST_HITS) as u64;
        self.kept.truncate(MOST_HITS);
    }
}
