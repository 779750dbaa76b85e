//! Which planted bugs were seen.

use super::{Align, Table, seconds};
use crate::escape::escape;
use crate::mutation::{Mutation, Outcome, mutations};
use crate::store::StoredRun;

/// A row for each mutant and tree, and the score; empty where none was tried.
pub(super) fn mutation_text(run: &StoredRun) -> String {
    let all = mutations(run);
    if all.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("mutant", Align::Left),
        ("tree", Align::Left),
        ("scenario", Align::Left),
        ("outcome", Align::Left),
        ("after", Align::Right),
        ("without it", Align::Left),
        ("shown", Align::Left),
    ]);
    for mutation in &all {
        let Mutation { row, lives, base_lives, seen_in, until_seen_us, shown, .. } = mutation;
        let outcome = match mutation.outcome {
            Outcome::Seen => format!("seen in {seen_in} of {lives}"),
            Outcome::NotSeen => format!("NOT SEEN in {lives}"),
            Outcome::Accused => "says nothing".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let without = match mutation.outcome {
            Outcome::Accused => "ACCUSED".to_owned(),
            _ => format!("passed {base_lives}"),
        };
        table.row([
            row.mutant.clone(),
            row.tree.clone(),
            row.scenario.clone(),
            outcome,
            until_seen_us.map(seconds).unwrap_or_default(),
            without,
            escape(shown.as_bytes()),
        ]);
    }
    let count = |outcome| all.iter().filter(|mutation| mutation.outcome == outcome).count();
    let accused = match count(Outcome::Accused) {
        0 => "none accused without".to_owned(),
        n => format!("{n} kernels ACCUSED without one"),
    };
    format!("{table}\nmutation score: {} of {} seen, {accused}\n", count(Outcome::Seen), all.len())
}
