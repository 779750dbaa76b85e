//! Hits in a kernel's log.
//!
//! Pure and streaming: lines go in, hits come out, and nothing is read or written. How reports begin stands
//! in `rules`, one row a format; what they consist of in `anatomy`; who is never to blame in `machinery`.
//!
//! Titles follow the convention that syzkaller has made common ("WARNING in try_grab_folio", "KASAN:
//! slab-use-after-free Read in foo"), extended for s390, whose page faults share one opening line and are told
//! apart by their failing address, and whose program checks have names of their own.

mod anatomy;
mod detector;
mod facts;
mod hit;
mod machinery;
mod merge;
mod naming;
mod openings;
mod report;
mod rules;
mod symbol;

use std::io::{self, Read};

pub use detector::{Detector, Options, Timestamps};
pub use hit::{Fingerprint, Frame, Hit, Kind, Reliability, SourceLocation, Stream, Task};
pub use merge::merge;

use crate::console::kmsg;
use crate::console::kmsg::Item;
use crate::console::lines::{Line, Micros, Origin, Splitter};

/// All hits of a log in text form, with or without timestamps.
///
/// # Errors
/// What `reader` reports.
pub fn scan(mut reader: impl Read) -> io::Result<Vec<Hit>> {
    let mut console = Console::new(Timestamps::Optional);
    let mut hits = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => console.push(&chunk[..count], &mut hits),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    console.finish(&mut hits);
    Ok(hits)
}

/// Hits of a console, from its raw bytes.
#[derive(Debug)]
pub struct Console {
    splitter: Splitter,
    detector: Detector,
}

impl Console {
    pub fn new(timestamps: Timestamps) -> Self {
        let options = Options { stream: Stream::Console, timestamps };
        Self { splitter: Splitter::default(), detector: Detector::new(options) }
    }

    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Hit>) {
        let Self { splitter, detector } = self;
        splitter.push(chunk, |raw| detector.line(&Line::parse(raw), out));
    }

    /// See [`Detector::settle`].
    pub fn settle(&mut self, out: &mut Vec<Hit>) {
        self.detector.settle(out);
    }

    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        let Self { splitter, detector } = self;
        splitter.finish(|raw| detector.line(&Line::parse(raw), out));
        detector.finish(out);
    }
}

/// Hits of /dev/kmsg, from its raw bytes, and what [`merge`] needs to know of user space's records.
#[derive(Debug)]
pub struct Kmsg {
    parser: kmsg::Parser,
    detector: Detector,
    state: KmsgState,
}

/// What a reader of /dev/kmsg has seen beside hits.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct KmsgState {
    /// Times of user space's records, the first [`USER_RECORD_LIMIT`].
    pub user_records: Vec<Micros>,
    /// Records that were overwritten before they were read.
    pub lost: u64,
    /// Lines that were no records.
    pub malformed: u64,
    pub last_sequence: Option<u64>,
}

/// A guest that floods /dev/kmsg must not fill farm's memory.
pub const USER_RECORD_LIMIT: usize = 65_536;

impl Default for Kmsg {
    fn default() -> Self {
        let options = Options { stream: Stream::Kmsg, timestamps: Timestamps::Optional };
        Self {
            parser: kmsg::Parser::default(),
            detector: Detector::new(options),
            state: KmsgState::default(),
        }
    }
}

impl Kmsg {
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Hit>) {
        let Self { parser, detector, state } = self;
        parser.push(chunk, |item| state.accept(item, detector, out));
    }

    /// See [`Detector::settle`].
    pub fn settle(&mut self, out: &mut Vec<Hit>) {
        self.detector.settle(out);
    }

    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        let Self { parser, detector, state } = self;
        parser.finish(|item| state.accept(item, detector, out));
        detector.finish(out);
    }

    pub fn state(&self) -> &KmsgState {
        &self.state
    }
}

impl KmsgState {
    fn accept(&mut self, item: Item, detector: &mut Detector, out: &mut Vec<Hit>) {
        match item {
            Item::Lost { count, .. } => self.lost = self.lost.saturating_add(count),
            Item::Malformed { .. } => self.malformed += 1,
            Item::Record(record) => {
                self.last_sequence = Some(record.sequence);
                if record.origin() == Origin::User && self.user_records.len() < USER_RECORD_LIMIT {
                    self.user_records.push(record.micros);
                }
                for line in record.lines() {
                    detector.line(&line, out);
                }
            }
        }
    }
}
