//! The results stream: init's JSON lines, with the workers' KTAP between them.
//!
//! Init writes its own words from the first column and indents what a program printed by four blanks, so a
//! program can't speak for init. The reader takes bytes as they come and is bounded on any input.

use serde::{Deserialize, Serialize};

use super::program::{EXIT_ALL_SKIPPED, EXIT_FAILED, ProgramReport};
use super::trace::{TraceEvent, TraceFunctions, Untraced};

/// A longer line is cut here.
const LONGEST_LINE: usize = 64 * 1024;
/// Init's own lines are shorter: one holds at most what stood in a line of the job (4,096 bytes), and some words of the
/// kernel's.
const LONGEST_OWN_LINE: usize = 16 * 1024;
/// What is read of one program's output: init keeps 64 KiB of it, and may write four bytes for one.
const MOST_PRINTED: usize = 256 * 1024;
const PROGRAM_INDENT: &str = "    ";

/// One thing that init said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Init waits for a job, and the guest can be saved.
    Waiting,
    Ready(Ready),
    /// Init has read the job of this cell.
    Job {
        cell: String,
    },
    StepStarted {
        step: u32,
        name: String,
    },
    WorkerEnded(WorkerReport),
    BesideEnded(BesideReport),
    Touched(TouchReport),
    /// What the job wants to be traced and this kernel cannot.
    Untraced(Untraced),
    /// From now on it traces.
    Tracing(TraceFunctions),
    /// Of its trace, which has stopped. None: farm cannot read it.
    Event(Option<TraceEvent>),
    /// All events are told.
    Traced,
    StepEnded(StepReport),
    Beat,
    /// The job is done; the machine goes off.
    End,
    /// Init could not do its work.
    Error {
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub protocol: u32,
    pub release: String,
    pub cpus: u32,
    pub memory_kib: u64,
    /// Microseconds since the kernel started.
    pub uptime_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    pub step: u32,
    pub worker: u32,
    /// It was still running at the step's wall limit and was killed.
    pub limit: bool,
    pub end: ProgramEnd,
}

/// A program that ran beside the workers of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BesideReport {
    pub step: u32,
    /// Counted from 1.
    pub beside: u32,
    /// Of the program's file.
    pub name: String,
    pub end: ProgramEnd,
}

/// How a program of a step ended, and what it had said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramEnd {
    /// Exit status, if the program exited.
    pub exit: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// It did not go away when killed: its path through the kernel hangs.
    pub stuck: bool,
    pub wall_us: u64,
    /// In user space and in the kernel, with its children's; 0 if it is stuck.
    #[serde(default)]
    pub cpu_us: u64,
    /// Bytes of its output that init dropped.
    pub truncated: u64,
    pub program: ProgramReport,
}

impl ProgramEnd {
    /// It passed, or could test nothing here.
    pub fn is_well(&self) -> bool {
        self.exit == Some(0) || self.is_skipped()
    }

    pub fn is_skipped(&self) -> bool {
        self.exit == Some(EXIT_ALL_SKIPPED)
    }

    /// It failed by data that was wrong, and by nothing else. What init dropped may have told of something else.
    pub fn failed_by_data_alone(&self) -> bool {
        self.exit == Some(EXIT_FAILED) && self.truncated == 0 && self.program.failed_by_data_alone()
    }
}

/// How often a kernel function was called while a step ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchReport {
    pub step: u32,
    /// As the job names it: `a|b`.
    pub functions: String,
    /// The one that was counted; none could be, otherwise, and `reason` says why.
    pub symbol: Option<String>,
    pub count: u64,
    /// Calls beside `count`: they came while this CPU was in the probe of another.
    pub missed: u64,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: u32,
    pub outcome: StepOutcome,
    pub wall_us: u64,
    /// The last kernel log record that was drained before the step's end was said.
    pub kmsg_seq: Option<u64>,
    /// Whether WARN_ON_ONCE was armed again for the next step.
    pub rearmed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    Ok,
    Skipped,
    Failed,
    Limit,
}

/// Init's lines as they stand on the wire.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Wire {
    Waiting {},
    Ready(Ready),
    Job {
        cell: String,
    },
    Start {
        step: u32,
        name: String,
    },
    Worker {
        step: u32,
        worker: u32,
        exit: Option<i32>,
        signal: Option<i32>,
        limit: bool,
        stuck: bool,
        wall_us: u64,
        cpu_us: u64,
        truncated: u64,
    },
    Beside {
        step: u32,
        beside: u32,
        name: String,
        exit: Option<i32>,
        signal: Option<i32>,
        stuck: bool,
        wall_us: u64,
        cpu_us: u64,
        truncated: u64,
    },
    Touch(TouchReport),
    Untraced(Untraced),
    Tracing(TraceFunctions),
    Event {
        text: String,
    },
    Traced {},
    Step(StepReport),
    Beat {},
    End {},
    Error {
        text: String,
    },
}

/// Reads the results stream in any chunking.
#[derive(Debug, Default)]
pub struct ResultsReader {
    line: Vec<u8>,
    overlong: bool,
    /// What the worker whose block is being read has printed so far, and how many bytes that was.
    program: ProgramReport,
    printed: usize,
}

impl ResultsReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the stream and gives the messages they complete.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Message>) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = LONGEST_LINE - self.line.len();
            self.overlong |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                let line = std::mem::take(&mut self.line);
                let overlong = std::mem::take(&mut self.overlong);
                self.take_line(&String::from_utf8_lossy(&line), overlong, out);
            }
        }
    }

    fn take_line(&mut self, line: &str, overlong: bool, out: &mut Vec<Message>) {
        if let Some(printed) = line.strip_prefix(PROGRAM_INDENT) {
            self.printed = self.printed.saturating_add(printed.len());
            if self.printed <= MOST_PRINTED {
                self.program.line(printed);
            }
            return;
        }
        if !line.starts_with('{') {
            return; // KTAP of init's own: what it says stands in the JSON lines as well
        }
        let message = match serde_json::from_str::<Wire>(line) {
            _ if overlong || line.len() > LONGEST_OWN_LINE => {
                Message::Error { text: "a line of init's was too long to read".to_owned() }
            }
            Err(error) => {
                Message::Error { text: format!("init wrote a line that farm cannot read: {error}") }
            }
            Ok(Wire::Waiting {}) => Message::Waiting,
            Ok(Wire::Ready(ready)) => Message::Ready(ready),
            Ok(Wire::Job { cell }) => Message::Job { cell },
            Ok(Wire::Start { step, name }) => Message::StepStarted { step, name },
            Ok(Wire::Worker { step, worker, exit, signal, limit, stuck, wall_us, cpu_us, truncated }) => {
                let program = self.end_of_program();
                let end = ProgramEnd { exit, signal, stuck, wall_us, cpu_us, truncated, program };
                Message::WorkerEnded(WorkerReport { step, worker, limit, end })
            }
            Ok(Wire::Beside { step, beside, name, exit, signal, stuck, wall_us, cpu_us, truncated }) => {
                let program = self.end_of_program();
                let end = ProgramEnd { exit, signal, stuck, wall_us, cpu_us, truncated, program };
                Message::BesideEnded(BesideReport { step, beside, name, end })
            }
            Ok(Wire::Touch(touch)) => Message::Touched(touch),
            Ok(Wire::Untraced(untraced)) => Message::Untraced(untraced),
            Ok(Wire::Tracing(functions)) => Message::Tracing(functions),
            Ok(Wire::Event { text }) => Message::Event(TraceEvent::of_file(&text)),
            Ok(Wire::Traced {}) => Message::Traced,
            Ok(Wire::Step(step)) => Message::StepEnded(step),
            Ok(Wire::Beat {}) => Message::Beat,
            Ok(Wire::End {}) => Message::End,
            Ok(Wire::Error { text }) => Message::Error { text },
        };
        out.push(message);
    }

    fn end_of_program(&mut self) -> ProgramReport {
        self.printed = 0;
        std::mem::take(&mut self.program)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = r##"{"type":"ready","protocol":1,"release":"6.1.0-50-s390x","cpus":2,"memory_kib":1005432,"uptime_us":2912345}
{"type":"job","cell":"5f0c2a"}
KTAP version 1
1..1
{"type":"start","step":1,"name":"splice","workers":1,"uptime_us":3000000}
  KTAP version 1
  1..1
    # seed 8812345
    KTAP version 1
    {"type":"end"}
    ok 1 file-pipe-file
    # farm-stats path=file-pipe-file ops=12 bytes=4096
{"type":"worker","step":1,"worker":1,"exit":0,"signal":null,"limit":false,"stuck":false,"wall_us":3000123,"cpu_us":2900000,"truncated":0}
  ok 1 worker-1
    # seed 8812346
    ok 1 compact
    # farm-stats path=compact ops=7 bytes=0
{"type":"beside","step":1,"beside":1,"name":"compact","exit":0,"signal":null,"stuck":false,"wall_us":3000456,"cpu_us":12,"truncated":0}
  ok 2 beside-1
{"type":"beat","uptime_us":4000000}
{"type":"touch","step":1,"functions":"a|b","symbol":"b","count":1234,"missed":2,"reason":null}
{"type":"touch","step":1,"functions":"c","symbol":null,"count":0,"missed":0,"reason":"c: Invalid probed address or symbol"}
{"type":"step","step":1,"outcome":"ok","wall_us":3001000,"kmsg_seq":412,"rearmed":true,"uptime_us":6000000}
ok 1 splice
{"type":"end","uptime_us":6100000}
"##;

    fn read(chunks: &[&[u8]]) -> Vec<Message> {
        let mut reader = ResultsReader::new();
        let mut out = Vec::new();
        chunks.iter().for_each(|chunk| reader.feed(chunk, &mut out));
        out
    }

    #[test]
    fn a_whole_life_is_read() {
        let messages = read(&[STREAM.as_bytes()]);
        assert_eq!(messages.len(), 10, "{messages:?}");
        let Message::Ready(ready) = &messages[0] else { panic!("{messages:?}") };
        assert_eq!((ready.release.as_str(), ready.cpus), ("6.1.0-50-s390x", 2));
        let Message::WorkerEnded(worker) = &messages[3] else { panic!("{messages:?}") };
        assert_eq!((worker.end.exit, worker.end.signal, worker.end.program.ops()), (Some(0), None, 12));
        let Message::BesideEnded(beside) = &messages[4] else { panic!("{messages:?}") };
        assert_eq!(
            (beside.name.as_str(), beside.end.exit, beside.end.program.ops()),
            ("compact", Some(0), 7)
        );
        let (Message::Touched(counted), Message::Touched(uncounted)) = (&messages[6], &messages[7]) else {
            panic!("{messages:?}")
        };
        assert_eq!((counted.symbol.as_deref(), counted.count, counted.missed), (Some("b"), 1234, 2));
        assert_eq!((&uncounted.symbol, uncounted.functions.as_str()), (&None, "c"));
        assert_eq!(uncounted.reason.as_deref(), Some("c: Invalid probed address or symbol"));
        let Message::StepEnded(step) = &messages[8] else { panic!("{messages:?}") };
        assert_eq!((step.outcome, step.kmsg_seq), (StepOutcome::Ok, Some(412)));
        assert_eq!(messages[9], Message::End);
    }

    #[test]
    fn a_program_cannot_speak_for_init() {
        let ends = read(&[STREAM.as_bytes()]).iter().filter(|m| **m == Message::End).count();
        assert_eq!(ends, 1, "the indented {{\"type\":\"end\"}} is a program's own text");
    }

    #[test]
    fn what_init_should_never_write_is_an_error_that_says_so() {
        for line in ["{\"type\":\"worker\"}\n", "{\"type\":\"dance\"}\n", "{]\n"] {
            assert!(matches!(&read(&[line.as_bytes()])[..], [Message::Error { .. }]), "{line}");
        }
        for length in [LONGEST_OWN_LINE, LONGEST_LINE] {
            let long = format!("{{\"type\":\"error\",\"text\":\"{}\"}}\n", "x".repeat(length));
            assert!(
                matches!(&read(&[long.as_bytes()])[..], [Message::Error { text }] if text.contains("too long"))
            );
        }
    }

    #[test]
    fn of_each_program_so_much_is_read_and_no_more() {
        const WORKER: &str = r#"{"type":"worker","step":1,"worker":1,"exit":0,"signal":null,"limit":false,"stuck":false,"wall_us":1,"cpu_us":1,"truncated":0}"#;
        let line = format!("    {}\n", "x".repeat(MOST_PRINTED / 8));
        let block = line.repeat(9) + "    ok 1 too-late\n" + WORKER + "\n";
        let messages = read(&[block.as_bytes(), b"    ok 1 next\n", WORKER.as_bytes(), b"\n"]);
        let [Message::WorkerEnded(first), Message::WorkerEnded(second)] = &messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((first.end.program.tail.len(), first.end.program.tests.len()), (8, 0));
        assert_eq!(second.end.program.tests[0].name, "next");
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|w| &STREAM.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[STREAM.as_bytes()]));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            read(&[&bytes]);
        }
    }
}
