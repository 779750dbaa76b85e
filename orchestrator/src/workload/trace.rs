//! Lines of the kernel's trace, in the two forms in which it prints one.

use serde::{Deserialize, Serialize};

/// One event of the kernel's ring buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Microseconds since boot, by the clock of the kernel's log.
    pub at_us: u64,
    pub cpu: u32,
    /// Of what ran there; a dead kernel prints eight bytes of it.
    pub task: String,
    pub pid: i32,
    /// `sched_switch`
    pub event: String,
    /// What the kernel tells of it.
    pub detail: String,
}

/// Why something was not traced that a scenario asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untraced {
    pub what: String,
    pub reason: String,
}

/// Where functions are in a guest's kernel by which it can be had to print its trace. 0: the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFunctions {
    pub ftrace_dump: u64,
    pub panic: u64,
}

impl TraceEvent {
    /// Of the file `trace` (kernel/trace/trace_output.c, `trace_print_context()`); a character stands for a byte:
    /// `          splice-312     [001] d..2.     3.100238: sched_switch: prev_comm=…`
    pub fn of_file(line: &str) -> Option<Self> {
        let (task, pid, rest) = task(line, 16)?;
        let (cpu, rest) = rest.strip_prefix('[')?.split_once("] ")?;
        let (at, rest) = rest.split_once(": ")?;
        let (seconds, micros) = at.rsplit(' ').next()?.split_once('.')?;
        let micros: u64 = (micros.len() == 6).then(|| micros.parse().ok())??;
        let at_us = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
        Self::new(at_us, cpu.parse().ok()?, task, pid, rest)
    }

    /// Of what `ftrace_dump()` prints (the same file, `trace_print_lat_context()`), behind the time of the log:
    /// `  splice-312       1d..2. 3100238us : sched_switch: prev_comm=…`
    pub fn of_dump(line: &str) -> Option<Self> {
        let (task, pid, rest) = task(line, 8)?;
        let (place, rest) = rest.split_once("us")?;
        // A mark says how long it is until the next event.
        let rest = rest.get(1..)?.strip_prefix(": ")?;
        let digits = place.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let (cpu, flags_and_time) = place.split_at(digits);
        let at_us = flags_and_time.rsplit(' ').next()?.parse().ok()?;
        Self::new(at_us, cpu.parse().ok()?, task, pid, rest)
    }

    fn new(at_us: u64, cpu: u32, task: &str, pid: i32, rest: &str) -> Option<Self> {
        let (event, detail) = rest.split_once(':').unwrap_or((rest, ""));
        let (event, detail) = (event.trim().to_owned(), detail.trim().to_owned());
        Some(Self { at_us, cpu, task: task.to_owned(), pid, event, detail })
    }
}

/// The name of a task, which may hold anything and stands in so many bytes, and its number.
fn task(line: &str, width: usize) -> Option<(&str, i32, &str)> {
    let end = line.char_indices().nth(width)?.0;
    let (task, rest) = line.split_at(end);
    let (pid, rest) = rest.strip_prefix('-')?.split_once(' ')?;
    Some((task.trim_start(), pid.parse().ok()?, rest.trim_start()))
}

/// The events in what a console shows of a dump, without those that are torn.
pub fn dumped_events(console: &[u8]) -> Vec<TraceEvent> {
    let event = |line: &[u8]| {
        let text: String = line.iter().map(|byte| char::from(*byte)).collect();
        // `[    5.123456] ` or, where the kernel tells who prints, `[    5.123456][  T312] `.
        let (_, text) = text.strip_prefix('[')?.split_once("] ")?;
        TraceEvent::of_dump(text.trim_end())
    };
    console.split(|byte| *byte == b'\n').filter_map(event).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(at_us: u64, cpu: u32, task: &str, pid: i32, event: &str, detail: &str) -> TraceEvent {
        let (task, event, detail) = (task.to_owned(), event.to_owned(), detail.to_owned());
        TraceEvent { at_us, cpu, task, pid, event, detail }
    }

    #[test]
    fn both_forms_are_read() {
        let file = "          <idle>-0       [000] d.h..     3.100238: hrtimer_start: hrtimer=1 mode=ABS";
        assert_eq!(
            TraceEvent::of_file(file),
            Some(event(3_100_238, 0, "<idle>", 0, "hrtimer_start", "hrtimer=1 mode=ABS"))
        );
        let probe = "  x-1 [000] d: 1-1234567 [012] ..... 12345.000007: f_isra_0: (f.isra.0+0x0/0x98) caller=g+0x1/0x2";
        assert_eq!(
            TraceEvent::of_file(probe),
            Some(event(
                12_345_000_007,
                12,
                "x-1 [000] d: 1",
                1_234_567,
                "f_isra_0",
                "(f.isra.0+0x0/0x98) caller=g+0x1/0x2"
            ))
        );
        let dump = "[    4.5][    C1]   <idle>-0         1d.h.. 3100238us+: hrtimer_start: hrtimer=1 mode=ABS\r\n\
                    [    4.5] 1us : us-77       12d..2. 17us!: irq_handler_exit: irq=0 ret=handled\n[    4.5] cut";
        assert_eq!(
            dumped_events(dump.as_bytes()),
            [
                event(3_100_238, 1, "<idle>", 0, "hrtimer_start", "hrtimer=1 mode=ABS"),
                event(17, 12, "1us : us", 77, "irq_handler_exit", "irq=0 ret=handled"),
            ]
        );
    }

    #[test]
    fn what_is_no_event_is_left_out() {
        for line in [
            "",
            "# tracer: nop",
            "##### CPU 1 buffer started ####",
            "CPU:1 [LOST 12 EVENTS]",
            "ööööööööööööööööö",
        ] {
            assert_eq!((TraceEvent::of_file(line), TraceEvent::of_dump(line)), (None, None), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in ".{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (TraceEvent::of_file(&line), TraceEvent::of_dump(&line), dumped_events(&bytes));
        }
    }
}
