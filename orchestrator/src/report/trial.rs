//! What a patch changes.

use super::{Align, Table};
use crate::escape::escape;
use crate::store::{StoredRun, TrialRecord};
use crate::trial::{Change, Compared, Side, compared};

/// A row for each finding, and text for a mail; empty where nothing was tried.
pub(super) fn trial_text(run: &StoredRun) -> String {
    let Some(trial) = &run.record.trial else { return String::new() };
    let all = compared(run);
    let mut table = Table::new(&[
        ("scenario", Align::Left),
        ("finding", Align::Left),
        ("base", Align::Right),
        ("patched", Align::Right),
        ("the patch", Align::Left),
    ]);
    for one in &all {
        let title = escape(one.title.as_bytes());
        let label = escape(one.label.as_bytes());
        table.row([label, title, side_text(one.base), side_text(one.patched), change_text(one.change)]);
    }
    let mut out = if all.is_empty() {
        "\nnothing was found with the patch or without it\n".to_owned()
    } else {
        format!("\n{table}")
    };
    out += &mail_text(run, trial, &all);
    out
}

fn side_text(side: Side) -> String {
    format!("{} of {}", side.seen, side.of)
}

fn change_text(change: Change) -> String {
    let sure = |sure: f64| format!("{:.1} %", (sure * 1000.0).floor() / 10.0);
    let (words, sureness) = match change {
        Change::Gone { sure } => ("mends it", sure),
        Change::New { sure } => ("BRINGS it", sure),
        Change::Rarer { sure } => ("makes it rarer", sure),
        Change::Commoner { sure } => ("makes it MORE COMMON", sure),
        Change::Same => return "changes nothing that was seen".to_owned(),
        Change::Unknown => return "says nothing here: one side has no life that tells".to_owned(),
    };
    match change.is_sure() {
        true => format!("{words}, {} sure", sure(sureness)),
        false => format!("may be that it {words}, {} sure: more lives would tell (--repeat)", sure(sureness)),
    }
}

/// To be pasted into an answer on a list; the tag is for a person to add.
fn mail_text(run: &StoredRun, trial: &TrialRecord, all: &[Compared]) -> String {
    let mut out = "\nfor a mail:\n\n".to_owned();
    let mut line = |text: String| out += &format!("  {text}\n");
    for subject in &trial.subjects {
        line(format!("> {}", escape(subject.as_bytes())));
    }
    line(format!(
        "Tested on s390x with farm {}, {}, scenarios {}, configuration {}:",
        run.record.farm,
        run.record.qemu,
        run.record.scenarios.join(" "),
        trial.config
    ));
    line(format!("base {}, patched {} (git trees)", trial.base_tree, trial.patched_tree));
    for one in all {
        line(format!("- {}: {}", escape(one.label.as_bytes()), escape(one.title.as_bytes())));
        line(format!(
            "    without the patch {} lives, with it {}: the patch {}",
            side_text(one.base),
            side_text(one.patched),
            change_text(one.change)
        ));
    }
    if all.is_empty() {
        line("- no hit with the patch or without it".to_owned());
    }
    out
}
