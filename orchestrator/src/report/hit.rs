//! Hits, and findings: all hits with one fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use super::interleaving::interleaving;
use super::life::{cpu_text, drgn_text, dump_text};
use super::recheck::seen;
use super::{Align, Table, trace_lines};
use crate::contrast::{Axis, AxisValue};
use crate::detect::Site;
use crate::escape::escape;
use crate::machine::quote;
use crate::recheck::rechecks;
use crate::store::{FoundHit, StoredHit, StoredRun, TraceRecord};
use crate::verdict::Standing;

/// One row a finding: how often it was seen, and an id to look at.
pub fn finding_table(runs: &[StoredRun]) -> Table {
    let mut table = Table::new(&[
        ("finding", Align::Left),
        ("standing", Align::Left),
        ("hits", Align::Right),
        ("lives", Align::Right),
        ("kernels", Align::Left),
        ("first hit", Align::Left),
        ("fingerprint", Align::Left),
    ]);
    struct Finding<'a> {
        first: &'a StoredHit,
        last: &'a StoredHit,
        standings: Vec<&'static str>,
        hits: usize,
        lives: Vec<String>,
        kernels: Vec<&'a str>,
    }
    let mut findings: BTreeMap<&str, Finding<'_>> = BTreeMap::new();
    for run in runs {
        let asked_for: BTreeSet<_> =
            run.asked_for().flat_map(|life| &life.hits).map(|hit| &hit.judged.hit.fingerprint).collect();
        for life in &run.lives {
            for stored in &life.hits {
                // What is seen again in a recheck is no other finding; what was never met elsewhere is one.
                if life.recheck_of.is_some() && asked_for.contains(&stored.judged.hit.fingerprint) {
                    continue;
                }
                let finding = findings.entry(stored.judged.hit.fingerprint.as_str()).or_insert(Finding {
                    first: stored,
                    last: stored,
                    standings: Vec::new(),
                    hits: 0,
                    lives: Vec::new(),
                    kernels: Vec::new(),
                });
                finding.hits += 1;
                finding.last = stored;
                let standing = standing_word(&stored.judged.standing);
                let place = life.recheck_of.is_some().then_some("in a recheck");
                for word in [standing].into_iter().chain(place) {
                    if !finding.standings.contains(&word) {
                        finding.standings.push(word);
                    }
                }
                let name = format!("{}/{}", run.record.id, life.life);
                if finding.lives.last() != Some(&name) {
                    finding.lives.push(name);
                }
                if !finding.kernels.contains(&life.kernel.name.as_str()) {
                    finding.kernels.push(&life.kernel.name);
                }
            }
        }
    }
    // What is new comes first, then what was seen most.
    let mut findings: Vec<_> = findings.into_iter().collect();
    findings.sort_by_key(|(_, finding)| (!finding.last.is_new(), std::cmp::Reverse(finding.hits)));
    for (fingerprint, finding) in findings {
        table.row([
            escape(finding.first.judged.hit.title.as_bytes()),
            finding.standings.join(", "),
            finding.hits.to_string(),
            finding.lives.len().to_string(),
            finding.kernels.join(" "),
            finding.first.id.to_string(),
            escape(fingerprint.as_bytes()),
        ]);
    }
    table
}

pub(super) fn standing_word(standing: &Standing) -> &'static str {
    match standing {
        Standing::New => "new",
        Standing::Expected => "expected",
        Standing::Known { .. } => "known",
    }
}

/// What a hit's page has beside the hit.
#[derive(Debug, Clone, Copy)]
pub struct HitPage<'a> {
    /// Of its life.
    pub trace: Option<&'a TraceRecord>,
    /// In which cells of its run it was seen, and in which not.
    pub axes: &'a [Axis],
}

/// One hit, whole.
pub fn hit_text(found: &FoundHit, page: HitPage<'_>) -> String {
    let hit = &found.hit.judged.hit;
    let life = &found.life;
    let mut out = format!("{}\n\n", escape(hit.title.as_bytes()));
    let mut line = |key: &str, value: String| out += &format!("{key:<12} {value}\n");
    line("hit", found.hit.id.to_string());
    line("fingerprint", escape(hit.fingerprint.as_str().as_bytes()));
    line(
        "standing",
        match &found.hit.judged.standing {
            Standing::Known { reason } => format!("known: {reason}"),
            other => standing_word(other).to_owned(),
        },
    );
    line(
        "kernel",
        format!("{} {} ({})", life.kernel.name, life.kernel.version_or_release(), life.kernel.release),
    );
    line("cell", format!("{} ({}), seed {}", life.life, life.label, life.seed));
    line("run", format!("{}, {}", found.run.record.id, found.run.record.qemu));
    if let Some(recheck) = &life.recheck_of {
        line("recheck", format!("of {}, {}", recheck.life, recheck.setting));
    }
    if let Some(recheck) = rechecks(&found.run).into_iter().find(|r| r.fingerprint == hit.fingerprint) {
        line("recheck", escape(recheck.judgement.to_string().as_bytes()));
        for tally in &recheck.tallies {
            line("", format!("{} {}", seen(tally), escape(tally.setting.to_string().as_bytes())));
        }
    }
    if let Some(at) = &hit.at {
        line("at", format!("{at} since boot"));
    }
    if let Some(location) = &hit.location {
        line("source", escape(location.to_string().as_bytes()));
    }
    let directory = found.run.life_directory(&life.life);
    line("logs", directory.to_string());
    if let Some(dump) = dump_text(life, &directory) {
        line("dump", dump);
    }
    if let Some(command) = drgn_text(life, &directory) {
        line("open it", command);
    }
    if let Some(step) = found.hit.step {
        let name = life.steps.iter().find(|s| s.step == step).map_or("", |s| s.name.as_str());
        line("step", format!("{step} {}", escape(name.as_bytes())));
    }
    // As it was typed, but for the path of the program.
    let words = found.run.record.command.iter().skip(1).map(|word| quote(word));
    line("again", format!("farm {}", words.collect::<Vec<_>>().join(" ")));
    line("reproduce", format!("farm repro {}", found.hit.id));
    if hit.site() != Site::Nowhere {
        line("in gdb", format!("farm repro {} --gdb", found.hit.id));
    }
    line("smaller", format!("farm repro {} --minimise", found.hit.id));
    line("by hand", format!("farm repro {} --shell; or sh {directory}/command.sh", found.hit.id));
    out.push('\n');
    for text in hit.text.lines() {
        out += &format!("  {}\n", escape(text.as_bytes()));
    }
    if hit.truncated {
        out += "  (the report is cut short)\n";
    }
    if !found.hit.places.is_empty() {
        out += "\nits trace in the source:\n\n";
        for line in trace_lines(&hit.frames, &found.hit.places) {
            out += &format!("  {line}\n");
        }
    }
    if let Some(trace) = page.trace {
        out += &interleaving(trace, hit.at);
    }
    if hit.ends_the_guest() {
        out += &cpu_text(life);
    }
    if !page.axes.is_empty() {
        out += &format!("\nlives of this run with it, where its cells differ:\n\n{}", axis_table(page.axes));
    }
    out
}

/// One row a value.
fn axis_table(axes: &[Axis]) -> Table {
    /// Of one axis; a run may have hundreds of seeds.
    const MOST_VALUES: usize = 8;
    let mut table = Table::new(&[
        ("  differs", Align::Left),
        ("value", Align::Left),
        ("with it", Align::Right),
        ("lives", Align::Right),
    ]);
    for axis in axes {
        let (shown, rest) = axis.values.split_at(axis.values.len().min(MOST_VALUES));
        for value in shown {
            let text = escape(value.value.as_bytes());
            table.row([format!("  {}", axis.name), text, value.hit.to_string(), value.lives.to_string()]);
        }
        if !rest.is_empty() {
            let sum = |count: fn(&AxisValue) -> u32| rest.iter().map(count).sum::<u32>().to_string();
            let text = format!("{} others", rest.len());
            table.row([format!("  {}", axis.name), text, sum(|value| value.hit), sum(|value| value.lives)]);
        }
    }
    table
}
