//! Whether a hit came again.

use super::life::{drgn_text, dump_text};
use crate::escape::escape;
use crate::repro::{again, other_turns};
use crate::store::StoredRun;

pub(super) fn repro_text(run: &StoredRun) -> String {
    let (Some(record), Some(again)) = (&run.record.repro, again(run)) else { return String::new() };
    let told = again.same + again.other + again.clean;
    let mut out = format!("\n{}, hit {}\n", escape(record.title.as_bytes()), escape(record.hit.as_bytes()));
    for difference in &record.differs {
        out += &format!("not as it was: {}\n", escape(difference.as_bytes()));
    }
    if let Some(why) = other_turns(run) {
        out += &format!("not as it was: {why}\n");
    }
    for life in run.asked_for() {
        let directory = run.life_directory(&life.life);
        let told = [("dump", dump_text(life, &directory)), ("open it", drgn_text(life, &directory))];
        for (what, text) in told {
            out += &text.map(|text| format!("{what}: {text}\n")).unwrap_or_default();
        }
    }
    let Some((least, most)) = again.interval else {
        return out + &format!("none of {} lives could tell whether it comes again\n", again.silent);
    };
    out += &format!(
        "same hit: {} of {told} (with 95 % between {} and {} of lives)\nother hit: {}, clean: {}\n",
        again.same,
        percent(least),
        percent(most),
        again.other,
        again.clean
    );
    if again.silent > 0 {
        out += &format!("could not tell, ended by another hit or failed: {}\n", again.silent);
    }
    out
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
