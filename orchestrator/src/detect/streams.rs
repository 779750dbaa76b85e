//! From raw bytes to hits: a console or a log, and /dev/kmsg.

use memchr::memchr;

use super::detector::{Detector, Options, Timestamps};
use super::hit::{Hit, Stream};
use super::skim::Skimmer;
use super::wrapped::Unwrapper;
use crate::console::kmsg;
use crate::console::kmsg::Item;
use crate::console::lines::{Line, Micros, Origin};
use crate::console::mail::Mail;
use crate::console::splitter::{Raw, Splitter};

/// Hits of a console, or of any log in text form, from its raw bytes.
#[derive(Debug)]
pub struct Console {
    splitter: Splitter,
    /// What undoes the doings of mail programs. A cell's console is no mail.
    passed_on: Option<PassedOn>,
    detector: Detector,
}

/// From a line that mail programs may have quoted and broken to those that the kernel wrote.
#[derive(Debug, Default)]
struct PassedOn {
    mail: Mail,
    unwrapper: Unwrapper,
}

impl PassedOn {
    fn is_idle(&self) -> bool {
        self.mail.is_idle() && self.unwrapper.is_idle()
    }

    fn line(&mut self, raw: Raw<'_>, mut each: impl FnMut(&Line<'_>)) {
        let Self { mail, unwrapper } = self;
        mail.line(raw, |raw| unwrapper.line(&Line::parse_any(raw), &mut each));
    }

    fn finish(&mut self, mut each: impl FnMut(&Line<'_>)) {
        let Self { mail, unwrapper } = self;
        mail.finish(|raw| unwrapper.line(&Line::parse_any(raw), &mut each));
        unwrapper.finish(each);
    }
}

impl Console {
    pub fn new(timestamps: Timestamps) -> Self {
        let options = Options { stream: Stream::Console, timestamps };
        let passed_on = (timestamps == Timestamps::Optional).then(Default::default);
        Self { splitter: Splitter::default(), passed_on, detector: Detector::new(options) }
    }

    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<Hit>) {
        let mut skimmer = Skimmer::new(chunk, self.detector.timestamps());
        let mut from = 0;
        while from < chunk.len() {
            if self.is_idle() {
                let next = skimmer.next_line(from);
                self.splitter.skip(&chunk[from..next]);
                from = next;
            }
            let end = memchr(b'\n', &chunk[from..]).map_or(chunk.len(), |found| from + found + 1);
            self.read(&chunk[from..end], out);
            from = end;
        }
    }

    /// Nothing that was read so far has any bearing on what comes: it can be looked at in any way.
    fn is_idle(&self) -> bool {
        self.splitter.is_at_line_start()
            && self.passed_on.as_ref().is_none_or(PassedOn::is_idle)
            && self.detector.is_idle()
    }

    fn read(&mut self, bytes: &[u8], out: &mut Vec<Hit>) {
        let Self { splitter, passed_on, detector } = self;
        splitter.push(bytes, |raw| detect(raw, passed_on, detector, out));
    }

    /// See [`Detector::settle`].
    pub fn settle(&mut self, out: &mut Vec<Hit>) {
        self.detector.settle(out);
    }

    /// Where the first of the reports began that are still open.
    pub(super) fn open_since(&self) -> Option<u64> {
        self.detector.open_since()
    }

    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        let Self { splitter, passed_on, detector } = self;
        splitter.finish(|raw| detect(raw, passed_on, detector, out));
        if let Some(passed_on) = passed_on {
            passed_on.finish(|line| detector.line(line, out));
        }
        detector.finish(out);
    }
}

fn detect(raw: Raw<'_>, passed_on: &mut Option<PassedOn>, detector: &mut Detector, out: &mut Vec<Hit>) {
    match passed_on {
        None => detector.line(&Line::parse(raw), out),
        Some(passed_on) => passed_on.line(raw, |line| detector.line(line, out)),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(log: &str, piece: usize) -> Vec<String> {
        let mut console = Console::new(Timestamps::Optional);
        let mut hits = Vec::new();
        log.as_bytes().chunks(piece).for_each(|piece| console.push(piece, &mut hits));
        console.finish(&mut hits);
        hits.into_iter().map(|hit| hit.title).collect()
    }

    #[test]
    fn what_hides_an_opening_from_a_search_does_not_hide_it() {
        let before = "[    0.100000] all is well\r\n".repeat(50);
        for opening in [
            "[    1.000000] BUG: Bad page state in process t  pfn:01efc\n",
            "[    1.000000] B\0UG: Bad page state in process t  pfn:01efc\n",
            "[    1.000000] \x1b[31mB\x1b[1mUG: Bad page state in process t  pfn:01efc\n",
            "[    1.000000] B\rUG: Bad page state in process t  pfn:01efc\r\n",
            "> > [    1.000000] BUG: Bad=20page=20state in process t=3D pfn:01efc\n",
            "> > > > > > > > > > > > > > > > > > > > > > > > > > > [    1.000000] B=\nUG: Bad page state in process t\n",
        ] {
            for log in [opening.to_owned(), format!("{before}{opening}{before}")] {
                assert_eq!(titles(&log, usize::MAX), ["BUG: Bad page state"], "{opening:?}");
                assert_eq!(titles(&log, 1), ["BUG: Bad page state"], "{opening:?}");
            }
        }
    }
}
