//! The event stream as a person watches it: live lines on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output;
use crate::console::escape::escape;
use crate::event::{Event, What};
use crate::plan::LifeId;
use crate::report::{seconds, size, thousands};

/// Shows events on stderr.
pub(super) enum Progress {
    Plain,
    Live(Live),
}

impl Progress {
    /// Live where stderr is a terminal that can move its cursor.
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !dumb { Self::Live(Live::default()) } else { Self::Plain }
    }

    pub(super) fn show(&mut self, event: &Event) {
        match self {
            Self::Plain => {
                if let Some(line) = line(&event.what) {
                    output::note(&format!("[{:>7}] {line}", seconds(event.at_us)));
                }
            }
            Self::Live(live) => live.show(event),
        }
    }
}

/// One line for each life that is running, finished ones above them.
#[derive(Default)]
pub(super) struct Live {
    bars: MultiProgress,
    running: HashMap<LifeId, (ProgressBar, String)>,
    whole: Option<ProgressBar>,
}

impl Live {
    fn show(&mut self, event: &Event) {
        match &event.what {
            What::RunStarted { lives, .. } => {
                self.print(event);
                if *lives > 1 {
                    let bar = self.bars.add(ProgressBar::new(u64::from(*lives)));
                    bar.set_style(style("{bar:30} {pos}/{len} lives, {elapsed} gone, about {eta} left"));
                    self.whole = Some(bar);
                }
            }
            What::LifeStarted { life, label } => {
                let bar = self.bars.insert(0, ProgressBar::new_spinner());
                bar.set_style(style("{spinner} {elapsed:>4} {msg}"));
                bar.enable_steady_tick(Duration::from_millis(120));
                bar.set_message(format!("{label}: booting"));
                self.running.insert(*life, (bar, label.clone()));
            }
            What::Ready { life, .. } => self.say(life, "ready"),
            What::StepStarted { life, step, name } => {
                self.say(life, &format!("step {step}: {}", escape(name.as_bytes())));
            }
            What::StepEnded { .. } => {}
            What::LifeEnded { life, .. } => {
                if let Some((bar, _)) = self.running.remove(life) {
                    bar.finish_and_clear();
                }
                self.print(event);
                if let Some(whole) = &self.whole {
                    whole.inc(1);
                }
            }
            What::RunEnded { .. } => {
                self.running.drain().for_each(|(_, (bar, _))| bar.finish_and_clear());
                if let Some(whole) = self.whole.take() {
                    whole.finish_and_clear();
                }
            }
            What::Skipped { .. } | What::HitSeen { .. } | What::Interrupted => self.print(event),
        }
    }

    fn say(&self, life: &LifeId, what: &str) {
        if let Some((bar, label)) = self.running.get(life) {
            bar.set_message(format!("{label}: {what}"));
        }
    }

    /// A line that stays.
    fn print(&self, event: &Event) {
        if let Some(line) = line(&event.what) {
            // Only a closed stderr makes this fail, and then there is nobody to tell.
            let _ = self.bars.println(line);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// An event in one line; `None` for those that only matter while they last.
fn line(what: &What) -> Option<String> {
    let line = match what {
        What::RunStarted { run, lives, jobs, jobs_why } => {
            let lives = if *lives == 1 {
                "1 life".to_owned()
            } else {
                format!("{} lives", thousands(u64::from(*lives)))
            };
            format!("run {run}: {lives}, up to {jobs} at a time ({jobs_why})")
        }
        What::Skipped { label, reason, .. } => format!("{label}: skipped: {reason}"),
        What::LifeStarted { life, label } => format!("{label}: started, cell {life}"),
        What::Ready { life, uptime_us } => {
            format!("{life}: ready, {} after its kernel started", seconds(*uptime_us))
        }
        What::StepStarted { .. } => return None,
        What::StepEnded { life, step, name, outcome, ops, bytes } => {
            let name = escape(name.as_bytes());
            format!("{life}: step {step} {name}: {outcome}, {} ops, {}", thousands(*ops), size(*bytes))
        }
        What::HitSeen { life, title } => format!("{life}: hit: {}", escape(title.as_bytes())),
        What::LifeEnded { label, verdict, reason, wall_us, ops, bytes, .. } => {
            let why =
                if reason.is_empty() { String::new() } else { format!(": {}", escape(reason.as_bytes())) };
            format!(
                "{label}: {verdict}{why} ({}, {} ops, {})",
                seconds(*wall_us),
                thousands(*ops),
                size(*bytes)
            )
        }
        What::Interrupted => {
            "stopping: running guests are ended and reported; press Ctrl-C again to stop at once".to_owned()
        }
        What::RunEnded { .. } => return None,
    };
    Some(line)
}
