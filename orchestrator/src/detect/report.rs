//! One report while it is being read: from its opening line to a [`Hit`].

use super::facts::{Belongs, Facts};
use super::hit::{Fingerprint, Hit, Kind, Stream};
use super::naming::Name;
use super::openings::Opening;
use super::rules::{PROGRAM_CHECK, Rule};
use crate::console::lines::{Line, Micros};
use crate::escape::{Fit, push_escaped};

/// Bytes of text that a report keeps, and of one line.
const TEXT_LIMIT: usize = 32 * 1024;
const LINE_LIMIT: usize = 2 * 1024;
/// Lines after which a report without an end is given up. lockdep's longest are a few hundred.
const LINES_LIMIT: u32 = 1000;
/// How many lines in a row that do not look like a report's may stand in one, before and after its trace:
/// without caller prefixes other CPUs' lines come in between.
const PATIENCE: u32 = 64;
const PATIENCE_AFTER_TRACE: u32 = 16;
/// How many lines behind the end a panic may come that belongs to the report.
const PATIENCE_FOR_PANIC: u32 = 8;

/// The text that came before an opening, from `------------[ cut here ]------------` on.
#[derive(Debug)]
pub(super) struct Preface {
    body: Body,
    lines: u32,
}

/// WARN()'s text is a line or two.
const PREFACE_LIMIT: u32 = 32;

impl Preface {
    pub(super) fn new(line: &Line<'_>) -> Self {
        let mut body = Body::new(line);
        body.push(line);
        Self { body, lines: 1 }
    }

    /// Reads a line that opens no report.
    pub(super) fn push(&mut self, line: &Line<'_>) -> Progress {
        self.body.push(line);
        self.body.keep();
        self.lines += 1;
        if self.lines < PREFACE_LIMIT { Progress::Open } else { Progress::Done }
    }

    /// The hit of a report of which no more has come than this.
    pub(super) fn into_hit(mut self, stream: Stream) -> Hit {
        self.body.keep();
        let kind = match self.body.text.lines().find(|line| !line.starts_with('-')) {
            Some(line) if line.starts_with("list_") => Kind::ListCorruption,
            Some(line) if line.starts_with("refcount_t: ") => Kind::Refcount,
            _ => Kind::Warning,
        };
        Hit {
            title: format!("{kind} report cut short"),
            fingerprint: Fingerprint::new(kind, &["cut-short"]),
            at: self.body.at,
            sequence: self.body.sequence,
            start: self.body.start,
            end: self.body.kept_end,
            text: self.body.into_text(),
            truncated: true,
            ..Hit::bare(kind, stream)
        }
    }
}

/// The lines of a report, bounded and escaped.
#[derive(Debug)]
struct Body {
    at: Option<Micros>,
    sequence: Option<u64>,
    start: u64,
    text: String,
    /// How far text and stream surely belong to the report.
    kept: usize,
    kept_end: u64,
    last_end: u64,
}

impl Body {
    fn new(line: &Line<'_>) -> Self {
        let Line { at, sequence, start, end, .. } = *line;
        Self { at, sequence, start, text: String::new(), kept: 0, kept_end: end, last_end: end }
    }

    fn push(&mut self, line: &Line<'_>) {
        self.last_end = line.end;
        let limit = TEXT_LIMIT.min(self.text.len() + LINE_LIMIT);
        if push_escaped(&mut self.text, line.text, limit) == Fit::Cut {
            self.text.push('…');
        }
        if self.text.len() < TEXT_LIMIT {
            self.text.push('\n');
        }
    }

    fn keep(&mut self) {
        self.kept = self.text.len();
        self.kept_end = self.last_end;
    }

    fn into_text(mut self) -> String {
        self.text.truncate(self.kept);
        self.text
    }
}

/// Whether a report goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Done,
}

#[derive(Debug)]
pub(super) struct Report {
    facts: Facts,
    body: Body,
    lines: u32,
    /// Lines in a row that are not known to be of the report.
    strange: u32,
}

impl Report {
    pub(super) fn new(
        rule: &'static Rule,
        opening: Opening,
        preface: Option<Preface>,
        line: &Line<'_>,
    ) -> Self {
        let mut body = preface.map_or_else(|| Body::new(line), |preface| preface.body);
        body.push(line);
        body.keep();
        Self { facts: Facts::new(rule, opening), body, lines: 1, strange: 0 }
    }

    /// Whether an opening line only continues this report, such as the program check behind `kernel BUG at`,
    /// or the panic behind an oops.
    pub(super) fn is_continued_by(&self, rule: &'static Rule, opening: &Opening) -> bool {
        let panic = opening.words.as_deref().unwrap_or_default();
        (std::ptr::eq(rule, &PROGRAM_CHECK) && self.facts.awaits_program_check())
            || (rule.kind == Kind::Panic && self.facts.leads_to(panic))
    }

    /// Takes such a line.
    pub(super) fn absorb(&mut self, rule: &'static Rule, opening: Opening, line: &Line<'_>) {
        match rule.kind {
            Kind::Panic => self.facts.panicked = true,
            _ => self.facts.die(opening),
        }
        self.strange = 0;
        self.body.push(line);
        self.body.keep();
    }

    /// Reads a line that opens nothing.
    pub(super) fn push(&mut self, line: &Line<'_>) -> Progress {
        self.lines += 1;
        if self.facts.ended && !self.facts.panicked {
            self.strange += 1;
            return if self.strange < PATIENCE_FOR_PANIC { Progress::Open } else { Progress::Done };
        }
        let mut text = String::new();
        push_escaped(&mut text, line.text, LINE_LIMIT);
        self.body.push(line);
        match self.facts.read(&text) {
            Belongs::Surely => {
                self.body.keep();
                self.strange = 0;
            }
            Belongs::Perhaps => self.strange += 1,
        }
        let patience = if self.is_complete() { PATIENCE_AFTER_TRACE } else { PATIENCE };
        if self.strange >= patience || self.lines >= LINES_LIMIT { Progress::Done } else { Progress::Open }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.facts.is_complete()
    }

    pub(super) fn into_hit(self, stream: Stream) -> Hit {
        let Name { kind, title, fingerprint, function } = self.facts.name();
        Hit {
            kind,
            title,
            fingerprint,
            frame: function,
            truncated: !self.facts.is_complete(),
            location: self.facts.opening.location,
            frames: self.facts.frames,
            registers: self.facts.registers,
            task: self.facts.task,
            at: self.body.at,
            sequence: self.body.sequence,
            stream,
            start: self.body.start,
            end: self.body.kept_end,
            text: self.body.into_text(),
            panicked: self.facts.panicked,
        }
    }
}
