//! What the CPUs did right before a hit, by the kernel's trace.

use std::collections::BTreeMap;

use crate::console::lines::Micros;
use crate::escape::escape;
use crate::store::TraceRecord;
use crate::workload::TraceEvent;

/// Events that a person reads, of all CPUs together; of each CPU so many at least.
const SHOWN: usize = 40;
const SHOWN_OF_A_CPU: usize = 5;
/// With more CPUs their numbers stand in one column.
const MOST_COLUMNS: usize = 4;
/// What the kernel tells of an event is cut here.
const LONGEST_DETAIL: usize = 110;

/// In the order of time, with the names of events in one column for each CPU.
pub(super) fn interleaving(trace: &TraceRecord, hit: Option<Micros>) -> String {
    let mut out = String::new();
    let all: Vec<&TraceEvent> =
        trace.events.iter().filter(|event| hit.is_none_or(|hit| event.at_us <= hit.0)).collect();
    // A trace that begins behind the hit has stopped for another.
    let all = if all.is_empty() { trace.events.iter().collect() } else { all };
    if let Some(last) = all.last() {
        let from = hit.map_or(last.at_us, |hit| hit.0);
        let shown = last_of_each(&all);
        let zero = if hit.is_some() { "before the hit" } else { "before the last of them" };
        out += &format!(
            "\nthe last {} of {} traced events, in microseconds {zero}:\n\n",
            shown.len(),
            trace.events.len()
        );
        out += &columns(&shown, from);
    }
    if let Some(trouble) = &trace.trouble {
        out += &format!("\nno trace of its last moments: {}\n", escape(trouble.as_bytes()));
    }
    if !trace.untraced.is_empty() {
        out.push('\n');
    }
    for untraced in &trace.untraced {
        let [what, reason] = [&untraced.what, &untraced.reason].map(|text| escape(text.as_bytes()));
        out += &format!("not traced: {what}: {reason}\n");
    }
    out
}

fn last_of_each<'a>(events: &[&'a TraceEvent]) -> Vec<&'a TraceEvent> {
    let mut of_cpu = BTreeMap::<u32, usize>::new();
    for event in events {
        of_cpu.entry(event.cpu).or_default();
    }
    let most = (SHOWN / of_cpu.len().max(1)).max(SHOWN_OF_A_CPU);
    let mut shown: Vec<_> = events
        .iter()
        .rev()
        .filter(|event| {
            let count = of_cpu.entry(event.cpu).or_default();
            *count += 1;
            *count <= most
        })
        .copied()
        .collect();
    shown.reverse();
    shown
}

fn columns(events: &[&TraceEvent], from: u64) -> String {
    let mut cpus: Vec<u32> = events.iter().map(|event| event.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let name = |event: &TraceEvent| escape(event.event.as_bytes());
    let task = |event: &TraceEvent| format!("{}-{}", escape(event.task.as_bytes()), event.pid);
    let apart = cpus.len() <= MOST_COLUMNS;
    let columns: Vec<Option<u32>> =
        if apart { cpus.iter().map(|cpu| Some(*cpu)).collect() } else { vec![None] };
    let is_in = |event: &TraceEvent, column: Option<u32>| column.is_none_or(|cpu| cpu == event.cpu);
    let heading = |column: &Option<u32>| column.map_or("event".to_owned(), |cpu| format!("CPU {cpu}"));
    let width =
        |texts: &mut dyn Iterator<Item = String>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| {
            let names = events.iter().filter(|event| is_in(event, *column)).map(|event| name(event));
            width(&mut names.chain([heading(column)]))
        })
        .collect();
    let tasks = width(&mut events.iter().map(|event| task(event)));
    let cpu = |text: &str| if apart { String::new() } else { format!("{text:>3}  ") };
    let headings: String =
        columns.iter().zip(&widths).map(|(column, width)| format!("{:<width$}  ", heading(column))).collect();
    let mut lines = vec![format!("  {:>10}  {}{headings}task", "us", cpu("CPU"))];
    for event in events {
        let names: String = columns
            .iter()
            .zip(&widths)
            .map(|(column, width)| {
                let name = if is_in(event, *column) { name(event) } else { String::new() };
                format!("{name:<width$}  ")
            })
            .collect();
        let time = i128::from(event.at_us) - i128::from(from);
        let detail: String = escape(event.detail.as_bytes()).chars().take(LONGEST_DETAIL).collect();
        lines.push(format!(
            "  {time:>10}  {}{names}{:<tasks$}  {detail}",
            cpu(&event.cpu.to_string()),
            task(event)
        ));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Untraced;

    fn event(at_us: u64, cpu: u32, task: &str, event: &str, detail: &str) -> TraceEvent {
        let (task, event, detail) = (task.to_owned(), event.to_owned(), detail.to_owned());
        TraceEvent { at_us, cpu, task, pid: 7, event, detail }
    }

    #[test]
    fn the_events_before_a_hit_stand_in_a_column_for_each_cpu() {
        let events = vec![
            event(90, 1, "kworker/1:1", "irq_handler_entry", "irq=0 name=EXT"),
            event(95, 0, "spl\u{1b}[31m", "sched_switch", "prev_comm=a\tb"),
            event(100, 1, "kworker/1:1", "irq_handler_exit", "irq=0 ret=handled"),
            event(101, 1, "after", "late", ""),
        ];
        let untraced = vec![Untraced { what: "sched:x".to_owned(), reason: "Invalid\nargument".to_owned() }];
        let mut trace = TraceRecord { events, untraced, trouble: None };
        insta::assert_snapshot!(interleaving(&trace, Some(Micros(100))));
        trace.events.extend((0..4).map(|cpu| event(200, cpu + 2, "t", "e", "d")));
        trace.trouble = Some("the kernel did not print it".to_owned());
        trace.untraced.clear();
        insta::assert_snapshot!(interleaving(&trace, None));
    }

    #[test]
    fn an_idle_cpu_keeps_its_place_beside_a_busy_one() {
        let events = (0..100)
            .map(|at| event(at + 10, 1, "t", "busy", ""))
            .chain([event(3, 0, "t", "idle", "")])
            .collect();
        let trace = TraceRecord::new(events, Vec::new(), None);
        let text = interleaving(&trace, None);
        assert_eq!((text.matches("busy").count(), text.matches("idle").count()), (20, 1), "{text}");
    }
}
