//! One report while it is being read: from its opening line to a [`Hit`].

use super::begins::Begins;
use super::facts::{Belongs, Facts};
use super::hit::{Fingerprint, Hit, Kind, Stream};
use super::naming::Name;
use super::openings::{Opening, SLUB_ANY, is_slub_warning, slub_finding};
use super::rules::{Ends, PROGRAM_CHECK, Rule, UVSIM_REPORT};
use super::uvsim;
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

    pub(super) fn start(&self) -> u64 {
        self.body.start
    }

    /// The hit of a report of which no more has come than this.
    pub(super) fn into_hit(mut self, stream: Stream) -> Hit {
        self.body.keep();
        let kind = match self.body.text.lines().find(|line| !line.starts_with('-')) {
            Some(line) if line.starts_with("list_") => Kind::ListCorruption,
            Some(line) if line.starts_with("refcount_t: ") => Kind::Refcount,
            Some(line) if slub_finding(line).is_some() => Kind::Bug,
            _ => Kind::Warning,
        };
        Hit {
            title: format!("{kind} report cut short"),
            fingerprint: Fingerprint::new(kind, &["cut-short"]),
            at: self.body.at,
            sequence: self.body.sequence,
            start: self.body.start,
            line: self.body.number,
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
    number: Option<u64>,
    text: String,
    /// How far text and stream surely belong to the report.
    kept: usize,
    kept_end: u64,
    last_end: u64,
}

impl Body {
    fn new(line: &Line<'_>) -> Self {
        let Line { at, sequence, start, end, number, .. } = *line;
        Self { at, sequence, start, number, text: String::new(), kept: 0, kept_end: end, last_end: end }
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
        mut opening: Opening,
        preface: Option<Preface>,
        line: &Line<'_>,
    ) -> Self {
        // Since 6.15, and what was backported from it, mm/slub.c says what it has found before its report begins.
        let finding = preface.as_ref().and_then(|preface| slub_finding(&preface.body.text));
        if let (Some(words), Some(finding)) = (&mut opening.words, finding) {
            *words = words.replace(SLUB_ANY, finding);
        }
        let ours = opening.function.as_deref().is_some_and(|function| function.starts_with(UVSIM_REPORT));
        let text = preface.as_ref().filter(|_| ours).map(|preface| preface.body.text.as_str());
        if let Some((words, key)) = text.and_then(uvsim::message) {
            (opening.words, opening.key) = (Some(words), Some(key));
        }
        let handed_on_by = text.and_then(uvsim::operation_before).map(str::to_owned);
        let mut body = preface.map_or_else(|| Body::new(line), |preface| preface.body);
        body.push(line);
        body.keep();
        let mut facts = Facts::new(rule, opening);
        facts.handed_on_by = handed_on_by;
        Self { facts, body, lines: 1, strange: 0 }
    }

    /// Whether a line that begins something only continues this report, such as the program check behind `kernel
    /// BUG at`, the panic behind an oops, or the warning by which mm/slub.c shows its call trace.
    pub(super) fn is_continued_by(&self, begins: &Begins) -> bool {
        match begins {
            Begins::Preface => self.facts.awaits_warning(),
            Begins::Report(rule, opening) => {
                (std::ptr::eq(*rule, &PROGRAM_CHECK) && self.facts.awaits_program_check())
                    || (self.facts.awaits_warning() && is_slub_warning(opening))
                    || self.is_ended_by(rule, opening)
            }
        }
    }

    /// Whether an opening is that of the panic that this report led to.
    pub(super) fn is_ended_by(&self, rule: &Rule, opening: &Opening) -> bool {
        rule.kind == Kind::Panic && self.facts.leads_to(opening.words.as_deref().unwrap_or_default())
    }

    /// Takes such a line.
    pub(super) fn absorb(&mut self, begins: Begins, line: &Line<'_>) {
        if let Begins::Report(rule, opening) = begins {
            match rule.kind {
                Kind::Panic => self.facts.panicked = true,
                Kind::Warning => {}
                _ => self.facts.die(opening),
            }
        }
        self.strange = 0;
        self.body.push(line);
        self.body.keep();
    }

    /// Whether more of the report is to come where another one has interrupted it.
    pub(super) fn can_go_on(&self) -> bool {
        self.facts.rule.ends == Ends::Mark && !self.is_complete()
    }

    /// The line that says so has come.
    pub(super) fn has_ended(&self) -> bool {
        self.facts.ended
    }

    pub(super) fn start(&self) -> u64 {
        self.body.start
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
            line: self.body.number,
            end: self.body.kept_end,
            text: self.body.into_text(),
            panicked: self.facts.panicked,
        }
    }
}
