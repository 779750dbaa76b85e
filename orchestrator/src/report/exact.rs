//! Whether lives that should be the same were.

use super::thousands;
use crate::store::{Difference, ExactRecord, StoredRun};

/// Past this many, one learns no more from another.
const MOST_SHOWN: usize = 5;

pub(super) fn exact_text(run: &StoredRun) -> String {
    let Some(exact) = run.summary.as_ref().and_then(|summary| summary.exact.as_ref()) else {
        return String::new();
    };
    let ExactRecord { cells, lived_once, lives, cut, too_long, different, differences } = exact;
    let compared = format!("{} lives of {}", thousands((lives - lived_once).into()), count(*cells, "cell"));
    let mut out = match different {
        0 if *cells == 0 => "\nexact: nothing was compared\n".to_owned(),
        0 => format!("\nexact: {compared}, the same in every byte\n"),
        _ => format!(
            "\nNOT exact: {compared}, {} other than the first of their cell\n",
            thousands((*different).into())
        ),
    };
    if *cut > 0 {
        out += &format!(
            "{} did not end by themselves, and are compared as far as they went\n",
            thousands((*cut).into())
        );
    }
    if *too_long > 0 {
        out +=
            &format!("{} said more than farm keeps, and are not compared\n", thousands((*too_long).into()));
    }
    if *lived_once > 0 {
        out += &format!("{} lived only once, and nothing is said of it\n", count(*lived_once, "cell"));
    }
    for Difference { life, first, stream, line, was, is } in differences.iter().take(MOST_SHOWN) {
        out += &format!("{stream} of {first} and {life}, line {line}:\n  - {was}\n  + {is}\n");
    }
    out
}

fn count(number: u32, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(number.into()))
}
