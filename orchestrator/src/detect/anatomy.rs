//! The parts that reports are made of, one line each.
//!
//! Sources: arch/s390/kernel/dumpstack.c (`show_registers()`, `show_stack()`, `die()`), lib/dump_stack.c,
//! kernel/panic.c. All functions take text that [`crate::escape`] has made safe.

use super::hit::{Frame, Reliability, SourceLocation, Task};
use super::symbol::source_path;

/// What a line of a report is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// `Call Trace:`
    Trace,
    Frame(Frame),
    /// `Krnl PSW : ...`, with the function it points into; what follows are registers until `Krnl Code:`.
    Psw(Option<&'a str>),
    Code,
    Task(Task),
    /// `---[ end trace ...`
    End,
    /// `======...`, which stands at both ends of some reports.
    Ruler,
    /// Any other line that is known to stand in reports. Blank and indented lines count.
    Detail,
    /// Whatever else: perhaps of the report, perhaps another CPU's.
    Other,
}

/// How lines begin that stand in reports and that nothing here needs to look into.
const DETAILS: [&str; 54] = [
    "Modules linked in:",
    "Unloaded tainted modules:",
    "Hardware name:",
    "Tainted:",
    "Workqueue:",
    "Sched_ext:",
    "Last Breaking-Event-Address:",
    "Kernel panic - not syncing:",
    "Failing address:",
    "Fault in ",
    "AS:",
    "Oops",
    "Krnl ",
    "Code:",
    "RSP:",
    "CR2:",
    "Preemption disabled at:",
    "in_atomic():",
    "preempt_count:",
    "RCU nest depth:",
    "INFO: lockdep is turned off.",
    "irq event stamp:",
    "hardirqs last ",
    "softirqs last ",
    "no locks held by",
    "\"echo 0 > ",
    "task:",
    "page:",
    "page last ",
    "page_owner ",
    "page has been ",
    "head:",
    "flags:",
    "raw:",
    "aops:",
    "memcg:",
    "anon flags:",
    "page dumped because:",
    "addr:",
    "file:",
    "Allocated by ",
    "Freed by ",
    "The buggy address ",
    "Read of size ",
    "Write of size ",
    "Memory state around ",
    "rcu:",
    "Task dump for CPU ",
    "Sending NMI from ",
    "Showing busy workqueues",
    "Showing backtraces of ",
    "pool ",
    "workqueue ",
    "Process ",
];

pub(super) fn part(text: &str) -> Part<'_> {
    if text.starts_with([' ', '(']) {
        return frame(text).map_or(Part::Detail, Part::Frame);
    }
    if text == "Call Trace:" || text == "Call trace:" {
        return Part::Trace;
    }
    if let Some(psw) = text.strip_prefix("Krnl PSW : ").or_else(|| text.strip_prefix("PSW : ")) {
        return Part::Psw(
            psw.rsplit_once('(').and_then(|(_, inside)| symbol(inside)).map(|symbol| symbol.name),
        );
    }
    if let Some(rip) = text.strip_prefix("RIP: ") {
        return Part::Psw(rip.split_once(':').and_then(|(_, place)| symbol(place)).map(|symbol| symbol.name));
    }
    if text.starts_with("Krnl Code:") {
        return Part::Code;
    }
    if let Some(task) = task(text) {
        return Part::Task(task);
    }
    if text.starts_with("---[ end trace") {
        return Part::End;
    }
    if text.len() >= 10 && text.bytes().all(|byte| byte == b'=') {
        return Part::Ruler;
    }
    if text.is_empty() || DETAILS.iter().any(|start| text.starts_with(start)) {
        return Part::Detail;
    }
    Part::Other
}

/// `function+0xoffset/0xsize [module]`, as %pS prints it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    offset: u64,
    size: u64,
    module: Option<&'a str>,
}

/// The symbol that `text` begins with.
pub(super) fn symbol(text: &str) -> Option<Symbol<'_>> {
    let (name, rest) = text.split_once("+0x")?;
    if name.is_empty() || name.contains([' ', '(', ')', '[', ']', '/', '"']) {
        return None;
    }
    let (offset, rest) = hex(rest)?;
    let (size, rest) = hex(rest.strip_prefix("/0x")?)?;
    // A build id may follow the module's name.
    let module = rest
        .strip_prefix(" [")
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(inside, _)| inside.split(' ').next())
        .filter(|module| !module.is_empty() && !module.starts_with('<'));
    Some(Symbol { name, offset, size, module })
}

fn hex(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((u64::from_str_radix(digits, 16).ok()?, rest))
}

/// ` [<address>] function+0x1/0x2`, all of it in parentheses if the unwinder has found it by chance.
/// Other architectures print ` function+0x1/0x2`, and `?` before an unreliable one.
fn frame(text: &str) -> Option<Frame> {
    let (text, mut reliability) = match text.strip_prefix('(') {
        Some(inside) => (inside, Reliability::Unreliable),
        None => (text.trim_start(), Reliability::Reliable),
    };
    let mut place = text;
    if let Some(rest) = text.strip_prefix("[<") {
        place = rest.split_once(">] ")?.1;
    }
    if let Some(rest) = place.strip_prefix("? ") {
        reliability = Reliability::Unreliable;
        place = rest;
    }
    let Symbol { name, offset, size, module } = symbol(place)?;
    Some(Frame { function: name.to_owned(), offset, size, module: module.map(str::to_owned), reliability })
}

/// `CPU: 1 PID: 96 Comm: t Tainted: ...`, since 6.11 with `UID: 0` before PID.
fn task(text: &str) -> Option<Task> {
    let (cpu, rest) = text.strip_prefix("CPU: ")?.split_once(' ')?;
    let (_, rest) = rest.split_once("PID: ")?;
    let (pid, rest) = rest.split_once(" Comm: ")?;
    let end = [" Tainted: ", " Not tainted", " Kdump: "].iter().filter_map(|word| rest.find(word)).min();
    let comm = &rest[..end.unwrap_or(rest.len())];
    Some(Task { comm: comm.to_owned(), pid: pid.parse().ok()?, cpu: Some(cpu.parse().ok()?) })
}

/// `FILE:LINE`, or `FILE:LINE:COLUMN`.
pub(super) fn location(text: &str) -> Option<SourceLocation> {
    let (file, rest) = text.split_once(':')?;
    let line = rest.split(':').next()?.parse().ok()?;
    let plausible = !file.is_empty() && !file.contains([' ', '(', '"']);
    plausible.then(|| SourceLocation { file: source_path(file).to_owned(), line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_frame(text: &str, function: &str, module: Option<&str>, reliability: Reliability) {
        let Part::Frame(frame) = part(text) else { panic!("{text:?} is not a frame") };
        assert_eq!((frame.function.as_str(), frame.module.as_deref()), (function, module), "{text}");
        assert_eq!(frame.reliability, reliability, "{text}");
        assert_eq!((frame.offset, frame.size), (0x1c8, 0x490), "{text}");
    }

    #[test]
    fn frames_of_s390_and_others() {
        use Reliability::{Reliable, Unreliable};
        check_frame(" [<000003fffebd1a08>] a.isra.0+0x1c8/0x490 ", "a.isra.0", None, Reliable);
        check_frame("([<000003fffebd1a08>] a+0x1c8/0x490)", "a", None, Unreliable);
        check_frame("([<000003fffebd1a08>] a+0x1c8/0x490 [uvsim])", "a", Some("uvsim"), Unreliable);
        check_frame(" [<000003ff7fd070a8>] a+0x1c8/0x490 [oopser 0123abcd] ", "a", Some("oopser"), Reliable);
        check_frame(" a+0x1c8/0x490 [m]", "a", Some("m"), Reliable);
        check_frame(" ? a+0x1c8/0x490", "a", None, Unreliable);
        for text in
            [" [<8500000000010001>] 0x8500000000010001 ", " <TASK>", " [<12>] a+0x/0x1", "([<12", " +0x1/0x2"]
        {
            assert_eq!(part(text), Part::Detail, "{text}");
        }
    }

    #[test]
    fn tasks_of_old_and_new_kernels() {
        let task = |comm: &str, pid, cpu| Part::Task(Task { comm: comm.into(), pid, cpu: Some(cpu) });
        for (text, expected) in [
            ("CPU: 1 PID: 96 Comm: t Tainted: G        W  OE      6.1.0-50-s390x #1", task("t", 96, 1)),
            ("CPU: 0 UID: 0 PID: 9 Comm: kworker/0:0 Not tainted 6.12.107", task("kworker/0:0", 9, 0)),
            ("CPU: 0 PID: 9 Comm: two words Kdump: loaded Tainted: G", task("two words", 9, 0)),
            ("CPU: x PID: 9 Comm: a Not tainted", Part::Other),
        ] {
            assert_eq!(part(text), expected, "{text}");
        }
    }

    #[test]
    fn the_psw_names_a_function_unless_it_points_nowhere() {
        let psw = "Krnl PSW : 0704d00180000000 000000000037c884 (try_grab_page+0x114/0x160)";
        assert_eq!(part(psw), Part::Psw(Some("try_grab_page")));
        let module = "Krnl PSW : 0704e00180000000 000003ff7fd070a8 (o_init+0xa8/0x1000 [oopser])";
        assert_eq!(part(module), Part::Psw(Some("o_init")));
        assert_eq!(part("Krnl PSW : 0704c00180000000 0000000000000002 (0x2)"), Part::Psw(None));
        assert_eq!(part("RIP: 0010:kfree+0x1/0x2"), Part::Psw(Some("kfree")));
    }

    #[test]
    fn locations_have_a_file_and_a_line() {
        let place = |file: &str, line| Some(SourceLocation { file: file.into(), line });
        assert_eq!(location("mm/gup.c:224"), place("mm/gup.c", 224));
        assert_eq!(location("../lib/a.c:12:34"), place("lib/a.c", 12));
        for text in ["mm/gup.c", "mm/gup.c:x", ":1", "a b:1", "mm/gup.c:99999999999"] {
            assert_eq!(location(text), None, "{text}");
        }
    }
}
