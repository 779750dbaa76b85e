//! The state machine that turns lines into hits: one report open per caller.

use super::begins::{Begins, begins};
use super::hit::{Hit, Stream};
use super::report::{Preface, Progress, Report};
use super::rules::Clock;
use crate::console::lines::{Caller, Line, Origin};

/// Reports that are open at the same time. More than CPUs that report at once is noise.
const CHANNEL_LIMIT: usize = 16;

/// Whether a line without printk's timestamp can be the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// Of a cell's console: what has none comes from user space.
    Required,
    /// Of any log.
    Optional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub stream: Stream,
    pub timestamps: Timestamps,
}

/// Finds hits in a stream of lines. Its memory is bounded, and no bytes make it panic.
///
/// A hit is given when its report has ended *and* the lines behind it show that no panic followed; where the
/// stream pauses, [`Detector::settle`] gives the hits that only wait for that.
#[derive(Debug)]
pub struct Detector {
    options: Options,
    /// Oldest first.
    channels: Vec<Channel>,
    /// A line with a timestamp has been seen.
    stamped: bool,
    /// Lines read while reports were open.
    lines: u64,
}

/// Reports within reports that are kept, as where a notifier of die() warns (arch/s390/kernel/dumpstack.c).
const DEPTH_LIMIT: usize = 3;

/// Lines of others after which a caller that has said nothing more will not finish its report. Reports are far
/// shorter.
const SILENCE_LIMIT: u64 = 2000;

/// What one caller is printing. Without CONFIG_PRINTK_CALLER there is one channel for all.
#[derive(Debug)]
struct Channel {
    caller: Option<Caller>,
    /// The number of its latest line.
    latest: u64,
    state: Option<State>,
    /// Reports that others interrupted, outermost first. They go on where those have ended.
    interrupted: Vec<Report>,
}

#[derive(Debug)]
enum State {
    Preface(Preface),
    Report(Box<Report>),
}

impl State {
    fn into_hit(self, stream: Stream) -> Hit {
        match self {
            State::Preface(preface) => preface.into_hit(stream),
            State::Report(report) => report.into_hit(stream),
        }
    }

    fn is_complete(&self) -> bool {
        matches!(self, State::Report(report) if report.is_complete())
    }
}

impl Detector {
    pub fn new(options: Options) -> Self {
        Self { options, channels: Vec::new(), stamped: false, lines: 0 }
    }

    /// Reads one line, and appends the hits that it completes to `out`.
    pub fn line(&mut self, line: &Line<'_>, out: &mut Vec<Hit>) {
        if line.origin == Origin::User {
            return;
        }
        let begins = begins(line.text);
        self.stamped |= line.at.is_some();
        if self.options.timestamps == Timestamps::Required
            && line.at.is_none()
            && !self.is_of_the_decompressor(&begins)
        {
            return;
        }
        if begins.is_none() && self.channels.is_empty() {
            return;
        }
        self.lines += 1;
        let stream = self.options.stream;
        let mut index = self.channels.iter().position(|channel| channel.caller == line.caller);
        if index.is_none() && begins.is_some() {
            if self.channels.len() == CHANNEL_LIMIT {
                self.channels.remove(0).give_up(stream, out);
            }
            index = Some(self.channels.len());
            self.channels.push(Channel::new(line.caller));
        }
        if let Some(index) = index {
            let channel = &mut self.channels[index];
            channel.latest = self.lines;
            channel.line(begins, line, stream, out);
            if channel.state.is_none() {
                self.channels.remove(index);
            }
        }
        let is_silent = |channel: &mut Channel| self.lines - channel.latest > SILENCE_LIMIT;
        self.channels.extract_if(.., is_silent).for_each(|channel| channel.give_up(stream, out));
    }

    /// Where in the stream the first of the reports began that are still open.
    pub fn open_since(&self) -> Option<u64> {
        self.channels.iter().map(Channel::start).min()
    }

    pub(super) fn timestamps(&self) -> Timestamps {
        self.options.timestamps
    }

    /// No line seen so far has any bearing on the next.
    pub(super) fn is_idle(&self) -> bool {
        let knows_the_clock = self.stamped || self.options.timestamps == Timestamps::Optional;
        self.channels.is_empty() && knows_the_clock
    }

    /// Before printk there is the decompressor, which has no clock, and nobody else who could print.
    fn is_of_the_decompressor(&self, begins: &Option<Begins>) -> bool {
        !self.stamped && matches!(begins, Some(Begins::Report(rule, _)) if rule.clock == Clock::NotYet)
    }

    /// Gives the hits whose reports are complete and only wait for a panic that may follow: to be called when
    /// the stream has been quiet for a while, or at the end of a step.
    pub fn settle(&mut self, out: &mut Vec<Hit>) {
        for channel in &mut self.channels {
            if let Some(State::Report(report)) = channel.state.take_if(|state| state.is_complete()) {
                channel.close(report, self.options.stream, out);
            }
        }
        self.channels.retain(|channel| channel.state.is_some());
    }

    /// The stream has ended. Reports that it cut are hits too, marked as truncated.
    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        self.channels.drain(..).for_each(|channel| channel.give_up(self.options.stream, out));
    }
}

impl Channel {
    fn new(caller: Option<Caller>) -> Self {
        Self { caller, latest: 0, state: None, interrupted: Vec::new() }
    }

    fn line(&mut self, begins: Option<Begins>, line: &Line<'_>, stream: Stream, out: &mut Vec<Hit>) {
        match (self.state.take(), begins) {
            (None, None) => {}
            (None, Some(begins)) => self.open(begins, None, line),
            (Some(State::Preface(preface)), Some(begins @ Begins::Report(..))) => {
                self.open(begins, Some(preface), line);
            }
            (Some(State::Preface(mut preface)), None | Some(Begins::Preface)) => match preface.push(line) {
                Progress::Open => self.state = Some(State::Preface(preface)),
                Progress::Done => {
                    out.push(preface.into_hit(stream));
                    self.resume();
                }
            },
            (Some(State::Report(mut report)), None) => match report.push(line) {
                // An interrupted report goes on at once; no panic comes in between.
                Progress::Open if report.has_ended() && !self.interrupted.is_empty() => {
                    self.close(report, stream, out);
                }
                Progress::Open => self.state = Some(State::Report(report)),
                Progress::Done => self.close(report, stream, out),
            },
            (Some(State::Report(mut report)), Some(begins)) => loop {
                if report.is_continued_by(&begins) {
                    report.absorb(begins, line);
                    self.state = Some(State::Report(report));
                    break;
                }
                if let Begins::Report(rule, opening) = &begins
                    && self.interrupted.last().is_some_and(|outer| outer.is_ended_by(rule, opening))
                    && let Some(outer) = self.interrupted.pop()
                {
                    out.push(report.into_hit(stream));
                    report = Box::new(outer);
                    continue;
                }
                self.interrupt(report, stream, out);
                self.open(begins, None, line);
                break;
            },
        }
    }

    fn open(&mut self, begins: Begins, preface: Option<Preface>, line: &Line<'_>) {
        self.state = Some(match begins {
            Begins::Preface => State::Preface(Preface::new(line)),
            Begins::Report(rule, opening) => {
                State::Report(Box::new(Report::new(rule, opening, preface, line)))
            }
        });
    }

    /// Another report begins before `report` has ended.
    fn interrupt(&mut self, report: Box<Report>, stream: Stream, out: &mut Vec<Hit>) {
        if !report.can_go_on() {
            out.push(report.into_hit(stream));
            return;
        }
        if self.interrupted.len() + 1 == DEPTH_LIMIT {
            out.push(self.interrupted.remove(0).into_hit(stream));
        }
        self.interrupted.push(*report);
    }

    fn close(&mut self, report: Box<Report>, stream: Stream, out: &mut Vec<Hit>) {
        out.push(report.into_hit(stream));
        self.resume();
    }

    fn resume(&mut self) {
        self.state = self.interrupted.pop().map(|report| State::Report(Box::new(report)));
    }

    fn give_up(self, stream: Stream, out: &mut Vec<Hit>) {
        out.extend(self.interrupted.into_iter().map(|report| report.into_hit(stream)));
        out.extend(self.state.map(|state| state.into_hit(stream)));
    }

    fn start(&self) -> u64 {
        let state = self.state.iter().map(|state| match state {
            State::Preface(preface) => preface.start(),
            State::Report(report) => report.start(),
        });
        self.interrupted.iter().map(|report| report.start()).chain(state).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Console;
    use super::*;

    #[test]
    fn only_the_decompressor_speaks_without_a_clock() {
        let fault = "Kernel fault: interruption code 0005 ilc:2\n";
        let stamped = "[    0.000000] Linux version 6.1.0\n";
        for (console, hits) in [
            (fault.to_owned(), 1),
            (format!("{stamped}{fault}"), 0),
            ("kernel BUG at mm/x.c:1!\n".to_owned(), 0),
        ] {
            let mut reader = Console::new(Timestamps::Required);
            let mut found = Vec::new();
            reader.push(console.as_bytes(), &mut found);
            reader.finish(&mut found);
            assert_eq!(found.len(), hits, "{console}");
        }
    }

    #[test]
    fn who_falls_silent_within_a_report_is_given_up() {
        let mut reader = Console::new(Timestamps::Required);
        let mut found = Vec::new();
        let open = "[    1.000000][   T94] BUG: Bad page state in process t  pfn:01efc\n";
        let others = "[    2.000000][    C1] all is well\n";
        reader.push(format!("{open}{}", others.repeat(SILENCE_LIMIT as usize)).as_bytes(), &mut found);
        assert_eq!(found.len(), 0);
        reader.push(others.as_bytes(), &mut found);
        assert_eq!(found.len(), 1);
    }
}
