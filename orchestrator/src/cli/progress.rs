//! The event stream as a person watches it: live lines on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::escape::escape;
use crate::event::{Event, StopCause, What};
use crate::plan::LifeId;
use crate::report::{lives as lives_of, search_line, seconds, size, thousands};
use crate::store::Difference;

/// Shows events on stderr.
pub(super) struct Progress {
    /// How lives are called; ids are for machines.
    names: HashMap<LifeId, String>,
    live: Option<Live>,
    /// When it was last told how far a search has come.
    searched_us: u64,
}

/// A log has no use for more.
const SEARCHED_US: u64 = 10_000_000;

impl Progress {
    /// Live where stderr is a terminal that can move its cursor.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = (std::io::stderr().is_terminal() && !dumb).then(Live::default);
        Self { names: HashMap::new(), live, searched_us: 0 }
    }

    pub(super) fn show(&mut self, event: &Event) {
        if let What::LifeStarted { life, name } = &event.what {
            self.names.insert(*life, name.clone());
        }
        let often = matches!(event.what, What::Searched(_)) && event.at_us < self.searched_us + SEARCHED_US;
        match (&mut self.live, line(&event.what, &self.names)) {
            (Some(live), line) => live.show(&event.what, line, &self.names),
            (None, Some(_)) if often => {}
            (None, Some(line)) => output::note(&format!("[{:>7}] {line}", seconds(event.at_us))),
            (None, None) => {}
        }
        if matches!(event.what, What::Searched(_)) && !often {
            self.searched_us = event.at_us;
        }
        if let What::LifeEnded { life, .. } = &event.what {
            self.names.remove(life);
        }
    }
}

/// One line for each life that is running, what is worth keeping above them.
#[derive(Default)]
struct Live {
    bars: MultiProgress,
    running: HashMap<LifeId, ProgressBar>,
    whole: Option<ProgressBar>,
}

impl Live {
    fn show(&mut self, what: &What, line: Option<String>, names: &HashMap<LifeId, String>) {
        match what {
            What::RunStarted { until: Some(_), .. } => {
                let bar = self.bars.add(ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {msg}"));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.whole = Some(bar);
            }
            What::RunStarted { lives, .. } if *lives > 1 => {
                let bar = self.bars.add(ProgressBar::new(u64::from(*lives)));
                bar.set_style(style("{bar:30} {pos}/{len} lives, {elapsed} gone, about {eta} left"));
                self.whole = Some(bar);
            }
            What::Searched(_) => {
                if let (Some(whole), Some(line)) = (&self.whole, line) {
                    whole.set_message(line);
                }
                return;
            }
            What::LifeStarted { life, name } => {
                let bar = self.bars.insert(0, ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {elapsed:>4} {msg}"));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_message(format!("{name}: starting"));
                self.running.insert(*life, bar);
                return;
            }
            What::Ready { life, .. } => return self.say(life, names, "ready"),
            What::BootedInstead { life, .. } => self.say(life, names, "booting"),
            What::StepStarted { life, step, name } => {
                return self.say(life, names, &format!("step {step}: {}", escape(name.as_bytes())));
            }
            What::StepEnded { .. } => return,
            What::LifeEnded { life, .. } => {
                if let Some(bar) = self.running.remove(life) {
                    bar.finish_and_clear();
                }
                if let Some(whole) = &self.whole {
                    whole.inc(1);
                }
            }
            What::RecheckBegun { lives, .. } => {
                if let Some(whole) = &self.whole {
                    whole.inc_length(u64::from(*lives));
                }
            }
            What::RunEnded { .. } => self.clear(),
            What::RunStarted { .. }
            | What::HitSeen { .. }
            | What::NotLocated { .. }
            | What::Kept { .. }
            | What::Inexact(_)
            | What::Stopping { .. } => {}
        }
        if let Some(line) = line {
            // Only a closed stderr makes this fail, and then there is nobody to tell.
            let _ = self.bars.println(line);
        }
    }

    fn say(&self, life: &LifeId, names: &HashMap<LifeId, String>, what: &str) {
        if let (Some(bar), Some(name)) = (self.running.get(life), names.get(life)) {
            bar.set_message(format!("{name}: {what}"));
        }
    }

    fn clear(&mut self) {
        self.running.drain().for_each(|(_, bar)| bar.finish_and_clear());
        if let Some(whole) = self.whole.take() {
            whole.finish_and_clear();
        }
    }
}

/// A run that is left at once sends no last event.
impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// An event in one line; `None` for those that only matter while they last.
fn line(what: &What, names: &HashMap<LifeId, String>) -> Option<String> {
    let of = |life: &LifeId| names.get(life).map_or_else(|| life.to_string(), Clone::clone);
    let line = match what {
        What::RunStarted { run, until: Some(until), jobs, jobs_why, .. } => {
            format!("run {run}: a search until {until}, up to {jobs} at a time ({jobs_why})")
        }
        What::RunStarted { run, until: None, lives, jobs, jobs_why } => {
            let lives = lives_of((*lives).into());
            format!("run {run}: {lives}, up to {jobs} at a time ({jobs_why})")
        }
        What::LifeStarted { life, name } => format!("{name}: starting (cell {life})"),
        What::BootedInstead { life, reason } => {
            format!("{}: boots, as it cannot be resumed: {}", of(life), escape(reason.as_bytes()))
        }
        What::NotLocated { life, reason } => {
            format!("{}: not all of its traces show their source: {}", of(life), escape(reason.as_bytes()))
        }
        What::Ready { life, resumed_us: Some(resumed), .. } => {
            format!("{}: ready, {} after it was resumed", of(life), seconds(*resumed))
        }
        What::Ready { life, uptime_us, resumed_us: None } => {
            format!("{}: ready, {} after its kernel started", of(life), seconds(*uptime_us))
        }
        What::StepEnded { life, step, name, outcome, note, ops, bytes } => {
            let name = escape(name.as_bytes());
            let done = match (note.as_str(), *ops) {
                ("", 0) => String::new(),
                ("", _) => format!(", {} ops, {} verified", thousands(*ops), size(*bytes)),
                (note, _) => format!(": {}", escape(note.as_bytes())),
            };
            format!("{}: step {step} {name}: {outcome}{done}", of(life))
        }
        What::HitSeen { life, title } => format!("{}: hit: {}", of(life), escape(title.as_bytes())),
        What::LifeEnded { name, verdict, reason, wall_us, .. } => {
            let why =
                if reason.is_empty() { String::new() } else { format!(": {}", escape(reason.as_bytes())) };
            format!("{name}: {verdict}{why} ({})", seconds(*wall_us))
        }
        What::Searched(search) => search_line(search),
        What::Kept { life, name, verdict, reason } => {
            let why =
                if reason.is_empty() { String::new() } else { format!(": {}", escape(reason.as_bytes())) };
            format!("{name}: {verdict}{why} (`farm show {life}`)")
        }
        What::Inexact(Difference { life, first, stream, line, .. }) => {
            format!("{}: NOT the same as {first}: {stream} differs from line {line} on", of(life))
        }
        What::RecheckBegun { name, titles, settings, lives, .. } => {
            let what = titles.iter().map(|title| escape(title.as_bytes())).collect::<Vec<_>>().join("; ");
            let how = settings.join("; ");
            format!("{name}: rechecking in {} lives ({how}): {what}", thousands((*lives).into()))
        }
        What::Stopping { cause: StopCause::Interrupted } => {
            "stopping: running guests are ended and reported; Ctrl-C again leaves at once".to_owned()
        }
        What::Stopping { cause: StopCause::FailFast } => {
            "stopping: a life has shown what was looked for".to_owned()
        }
        What::Stopping { cause: StopCause::Found } => "stopping: the search has found something".to_owned(),
        What::Stopping { cause: StopCause::InVain } => {
            "stopping: one life after the other ends in farm's own trouble".to_owned()
        }
        What::Stopping { cause: StopCause::Trouble } => {
            "stopping: the run cannot be recorded any more".to_owned()
        }
        What::Stopping { cause: StopCause::Fault } => "stopping: a life met a fault of farm's own".to_owned(),
        What::StepStarted { .. } | What::RunEnded { .. } => return None,
    };
    Some(line)
}
