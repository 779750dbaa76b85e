//! What a minimisation came to.

use super::table::{Align, Table};
use crate::escape::escape;
use crate::minimise::{Answer, DOUBT, End, Rate};

/// How to see the hit again.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Ways {
    pub file: String,
    /// That farm is started with for it.
    pub run: String,
    /// For a shell in such a guest,
    pub shell: String,
    /// and what to type there.
    pub by_hand: Vec<String>,
    /// What is not as it was, and what the file cannot say.
    pub notes: Vec<String>,
}

pub fn minimise_text(title: &str, answer: &Answer, ways: &Ways, seconds: f64) -> String {
    let mut out = format!("\n{}\n", escape(title.as_bytes()));
    for note in &ways.notes {
        out += &format!("note: {}\n", escape(note.as_bytes()));
    }
    if answer.end == End::NotSeen {
        let tally = answer.rate_before.tally;
        return out
            + &match tally.told() {
                0 => format!(
                    "none of {} lives of its cell could tell whether it comes again: if they were stopped, give them a longer --budget\n",
                    tally.lives()
                ),
                told => format!(
                    "it did not come again in {told} lives of its cell: there is nothing to make smaller\n"
                ),
            };
    }
    out += &table(answer).to_string();
    out += &format!(
        "\n{} lives of {} cells in {seconds:.0} s. {}\n",
        answer.lives,
        answer.candidates + 1,
        claim(answer)
    );
    if !answer.mute.is_empty() {
        out += &format!("not known, since their lives could not tell: {}\n", answer.mute.join("; "));
    }
    out += &format!("\n{}: {}\n", ways.file, ways.run);
    if !ways.by_hand.is_empty() {
        out += &format!("\nBy hand, in a guest of `{}`:\n", ways.shell);
        ways.by_hand.iter().for_each(|line| out += &format!("    {}\n", escape(line.as_bytes())));
    }
    out
}

fn table(answer: &Answer) -> Table {
    let mut table = Table::new(&[("", Align::Left), ("before", Align::Right), ("after", Align::Right)]);
    let (before, after) = (&answer.before, &answer.after);
    let mut row = |name: &str, before: String, after: String| table.row([name.to_owned(), before, after]);
    row("steps", before.steps.to_string(), after.steps.to_string());
    row("workers at most", before.workers.to_string(), after.workers.to_string());
    row("time of a life's steps", format!("{:.2} s", before.seconds), format!("{:.2} s", after.seconds));
    row("steps × workers × time", format!("{:.2}", before.product()), format!("{:.2}", after.product()));
    row("programs beside", before.beside.to_string(), after.beside.to_string());
    row("options", before.options.to_string(), after.options.to_string());
    row("CPUs", before.cpus.to_string(), after.cpus.to_string());
    row("memory", format!("{} MiB", before.memory_mib), format!("{} MiB", after.memory_mib));
    row("disks", before.disks.to_string(), after.disks.to_string());
    row("lives that show the hit", shown(&answer.rate_before), shown(&answer.rate_after));
    row("with 95 % between", between(&answer.rate_before), between(&answer.rate_after));
    table
}

fn shown(rate: &Rate) -> String {
    format!("{} of {}", rate.tally.shown, rate.tally.told())
}

fn between(rate: &Rate) -> String {
    match rate.interval {
        Some((least, most)) => format!("{:.1} % and {:.1} %", least * 100.0, most * 100.0),
        None => "not known".to_owned(),
    }
}

fn claim(answer: &Answer) -> String {
    let clean = match answer.clean_lives {
        Some(1) => "1 clean life".to_owned(),
        lives => format!("{} clean lives", lives.unwrap_or(0)),
    };
    match answer.end {
        _ if answer.is_lost() => {
            "None of the new lives showed it: what was kept before was luck, or the hit has become rare; try it again."
                .to_owned()
        }
        End::Minimal => format!(
            "Nothing more can be taken away: whatever else was tried lost the hit ({clean}, which is luck in one of {:.0} cases if the rate is as measured).",
            1.0 / DOUBT
        ),
        End::Stopped => {
            "This is the smallest so far: there was no time to know whether more can be taken away."
                .to_owned()
        }
        End::NotSeen => String::new(),
    }
}
