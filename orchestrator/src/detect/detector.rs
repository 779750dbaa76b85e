//! The state machine that turns lines into hits: one report open per caller.

use super::hit::{Hit, Stream};
use super::report::{Preface, Progress, Report};
use super::rules::{Begins, Clock, begins};
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
}

/// What one caller is printing. Without CONFIG_PRINTK_CALLER there is one channel for all.
#[derive(Debug)]
struct Channel {
    caller: Option<Caller>,
    state: State,
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
}

impl Detector {
    pub fn new(options: Options) -> Self {
        Self { options, channels: Vec::new(), stamped: false }
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
        let index = self.channels.iter().position(|channel| channel.caller == line.caller);
        let open = index.map(|index| self.channels.remove(index).state);
        if let Some(state) = self.advance(open, begins, line, out) {
            let at = index.unwrap_or(self.channels.len());
            self.channels.insert(at, Channel { caller: line.caller, state });
        }
        if self.channels.len() > CHANNEL_LIMIT {
            out.push(self.channels.remove(0).state.into_hit(self.options.stream));
        }
    }

    /// Before printk there is the decompressor, which has no clock, and nobody else who could print.
    fn is_of_the_decompressor(&self, begins: &Option<Begins>) -> bool {
        !self.stamped && matches!(begins, Some(Begins::Report(rule, _)) if rule.clock == Clock::NotYet)
    }

    /// The state of a channel after a line.
    fn advance(
        &self,
        open: Option<State>,
        begins: Option<Begins>,
        line: &Line<'_>,
        out: &mut Vec<Hit>,
    ) -> Option<State> {
        let stream = self.options.stream;
        match (open, begins) {
            (None, None) => None,
            (None, Some(Begins::Preface)) => Some(State::Preface(Preface::new(line))),
            (None, Some(Begins::Report(rule, opening))) => {
                Some(State::Report(Box::new(Report::new(rule, opening, None, line))))
            }
            (Some(State::Preface(mut preface)), None | Some(Begins::Preface)) => match preface.push(line) {
                Progress::Open => Some(State::Preface(preface)),
                Progress::Done => {
                    out.push(preface.into_hit(stream));
                    None
                }
            },
            (Some(State::Preface(preface)), Some(Begins::Report(rule, opening))) => {
                Some(State::Report(Box::new(Report::new(rule, opening, Some(preface), line))))
            }
            (Some(State::Report(mut report)), None) => match report.push(line) {
                Progress::Open => Some(State::Report(report)),
                Progress::Done => {
                    out.push(report.into_hit(stream));
                    None
                }
            },
            (Some(State::Report(report)), Some(Begins::Preface)) => {
                out.push(report.into_hit(stream));
                Some(State::Preface(Preface::new(line)))
            }
            (Some(State::Report(mut report)), Some(Begins::Report(rule, opening))) => {
                if report.is_continued_by(rule, &opening) {
                    report.absorb(rule, opening, line);
                    return Some(State::Report(report));
                }
                out.push(report.into_hit(stream));
                Some(State::Report(Box::new(Report::new(rule, opening, None, line))))
            }
        }
    }

    /// Gives the hits whose reports are complete and only wait for a panic that may follow: to be called when
    /// the stream has been quiet for a while, or at the end of a step.
    pub fn settle(&mut self, out: &mut Vec<Hit>) {
        let stream = self.options.stream;
        let complete = |channel: &mut Channel| match &channel.state {
            State::Preface(_) => false,
            State::Report(report) => report.is_complete(),
        };
        out.extend(self.channels.extract_if(.., complete).map(|channel| channel.state.into_hit(stream)));
    }

    /// The stream has ended. Reports that it cut are hits too, marked as truncated.
    pub fn finish(&mut self, out: &mut Vec<Hit>) {
        let stream = self.options.stream;
        out.extend(self.channels.drain(..).map(|channel| channel.state.into_hit(stream)));
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
}
