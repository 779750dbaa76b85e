//! How reports begin: one row a format.
//!
//! To teach the detector a new format, add a row to [`RULES`] and a fixture. A row is tried when a line
//! begins with `begins` and holds every word of `contains`, in that order; the first row that fits wins.
//! `read` then takes out what the line says, and may find that the line has not the form after all:
//! drivers print "WARNING: " and "BUG: " too.

use std::sync::LazyLock;

use memchr::{memchr, memmem};

use super::hit::Kind::{self, *};
use super::machinery::{ALLOCATING, CHECKING, LIBRARY, LOCKING, Machinery, PAGES, SANITIZING, WAITING};
use super::openings::{
    Opening, as_is, at_place, bug, hung, lockup, panic, program_check, sanitizer, slub, ubsan, warning,
};
use crate::escape::push_escaped;

/// One format.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) begins: &'static str,
    pub(super) contains: &'static [&'static str],
    pub(super) read: fn(&str) -> Option<Opening>,
    pub(super) kind: Kind,
    /// The title, unless the line itself says more; ` in FUNCTION` is appended where one is known.
    pub(super) title: &'static str,
    /// Where the function to blame is named, best first.
    pub(super) blame: &'static [Blame],
    /// What is never to blame in such a report.
    pub(super) machinery: &'static [&'static Machinery],
    pub(super) ends: Ends,
    pub(super) clock: Clock,
}

/// Whether printk, and with it the time before each line, exists when the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Runs,
    /// The decompressor prints before there is a kernel.
    NotYet,
}

/// Where a report names the function to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The opening line.
    Opening,
    /// The PSW of the CPU that reports.
    Psw,
    /// The first call trace.
    Frames,
    /// `... at: function`, where a lock was taken.
    Lock,
    /// `in-flight: PID:function`, of a workqueue.
    Work,
}

/// How the end of a report is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// `---[ end trace`.
    Mark,
    /// A line of `=`, or the mark.
    Ruler,
    /// Nothing says so: it has all once there was a call trace, and ends where other text goes on.
    Trace,
    /// As `Trace`, with text of any form before the trace.
    Prose,
    /// Its first line is all that is needed; details may follow.
    Line,
}

/// Begins the text that WARN() prints, or BUG()'s `kernel BUG at`, which come in the lines behind it. The
/// list checks print their finding even before it (lib/list_debug.c, CONFIG_BUG_ON_DATA_CORRUPTION), and so does
/// mm/slub.c: check_bytes_and_report().
pub(super) const PREFACES: [(&str, &str); 5] = [
    ("------------[ cut here ]", ""),
    ("list_add corruption", ""),
    ("list_add double add", ""),
    ("list_del corruption", ""),
    ("[", " overwritten] 0x"),
];

const CODE: &[Blame] = &[Blame::Psw, Blame::Frames];
const TRACE: &[Blame] = &[Blame::Frames];
const LOCK: &[Blame] = &[Blame::Lock, Blame::Frames];
const OPENING: &[Blame] = &[Blame::Opening, Blame::Psw, Blame::Frames];

/// Fills in what most rows share.
const fn row(
    begins: &'static str,
    contains: &'static [&'static str],
    kind: Kind,
    title: &'static str,
) -> Rule {
    Rule {
        begins,
        contains,
        read: as_is,
        kind,
        title,
        blame: TRACE,
        machinery: &[],
        ends: Ends::Trace,
        clock: Clock::Runs,
    }
}

const fn lockdep(begins: &'static str, title: &'static str) -> Rule {
    Rule {
        blame: LOCK,
        machinery: &[&LOCKING, &WAITING],
        ends: Ends::Prose,
        ..row(begins, &[], Lockdep, title)
    }
}

// One row, one line.
#[rustfmt::skip]
pub(super) static RULES: &[Rule] = &[
    // kernel/panic.c: __warn()
    Rule { read: warning, blame: OPENING, ends: Ends::Mark, ..row("WARNING: ", &["at "], Warning, "WARNING") },

    // lib/bug.c: report_bug()
    Rule { read: bug, blame: CODE, ends: Ends::Mark, ..row("kernel BUG at ", &[], Bug, "kernel BUG") },
    Rule { read: bug, blame: CODE, ends: Ends::Mark, ..row("Kernel BUG at ", &[], Bug, "kernel BUG") },

    // arch/s390/mm/fault.c: do_no_context(), handle_fault_error_nolock(). The failing address gives the title.
    Rule { blame: CODE, machinery: &[&LIBRARY, &CHECKING], ends: Ends::Mark, ..row("Unable to handle kernel ", &[" user address space"], Oops, "BUG: unable to handle kernel access to user memory") },
    Rule { blame: CODE, machinery: &[&LIBRARY, &CHECKING], ends: Ends::Mark, ..row("Unable to handle kernel ", &[], Oops, FAULT) },
    Rule { blame: CODE, machinery: &[&LIBRARY, &CHECKING], ends: Ends::Mark, ..row("BUG: kernel NULL pointer dereference", &[], Oops, NULL_FAULT) },
    Rule { blame: CODE, machinery: &[&LIBRARY, &CHECKING], ends: Ends::Mark, ..row("BUG: unable to handle ", &[], Oops, FAULT) },
    Rule { blame: CODE, machinery: &[&LIBRARY, &CHECKING], ends: Ends::Mark, ..row("general protection fault", &["[#"], Oops, "general protection fault") },
    // arch/s390/kernel/traps.c: kernel_stack_overflow()
    Rule { blame: CODE, ends: Ends::Trace, ..row("Kernel stack overflow.", &[], Oops, "kernel stack overflow") },

    // arch/s390/boot/pgm_check_info.c: print_pgm_check_info(). The decompressor's: no timestamp, no `Krnl`.
    Rule { blame: CODE, ends: Ends::Line, clock: Clock::NotYet, ..row("Kernel fault: interruption code ", &[" ilc:"], Oops, "kernel fault at boot") },

    // kernel/panic.c: panic(). No trace follows where an oops came before it.
    Rule { read: panic, ends: Ends::Line, ..row("Kernel panic - not syncing", &[], Panic, "kernel panic") },

    // mm/page_alloc.c, mm/memory.c, kernel/fork.c
    Rule { machinery: &[&PAGES], ..row("BUG: Bad page state in process ", &[], BadPage, "BUG: Bad page state") },
    Rule { machinery: &[&PAGES], ..row("BUG: Bad page map in process ", &[], BadPage, "BUG: Bad page map") },
    Rule { machinery: &[&PAGES], ..row("BUG: Bad page cache in process ", &[], BadPage, "BUG: Bad page cache") },
    Rule { ends: Ends::Line, ..row("BUG: Bad rss-counter state ", &[], BadPage, "BUG: Bad rss-counter state") },
    Rule { ends: Ends::Line, ..row("BUG: non-zero pgtables_bytes on freeing mm", &[], BadPage, "BUG: non-zero pgtables_bytes on freeing mm") },

    // kernel/hung_task.c: check_hung_task()
    Rule { read: hung, machinery: &[&WAITING], ..row("INFO: task ", &[" blocked", " for more than "], HungTask, "INFO: task hung") },

    // kernel/rcu/tree_stall.h, kernel/rcu/tree_exp.h
    Rule { blame: CODE, ..row("rcu: INFO: rcu_", &["detected ", "stall"], RcuStall, "INFO: rcu detected stall") },
    Rule { blame: CODE, ..row("INFO: rcu_", &["detected ", "stall"], RcuStall, "INFO: rcu detected stall") },

    // kernel/watchdog.c: watchdog_timer_fn()
    Rule { read: lockup, blame: CODE, ..row("watchdog: BUG: soft lockup - CPU#", &[], SoftLockup, "BUG: soft lockup") },
    Rule { read: lockup, blame: CODE, ..row("BUG: soft lockup - CPU#", &[], SoftLockup, "BUG: soft lockup") },

    // kernel/workqueue.c: wq_watchdog_timer_fn()
    Rule { blame: &[Blame::Work], ends: Ends::Line, ..row("BUG: workqueue lockup - pool", &[], WorkqueueLockup, "BUG: workqueue lockup") },

    // kernel/locking/lockdep.c
    lockdep("WARNING: possible circular locking dependency detected", "possible deadlock"),
    lockdep("WARNING: possible recursive locking detected", "possible deadlock"),
    lockdep("WARNING: possible irq lock inversion dependency detected", "possible deadlock"),
    Rule { contains: &["-safe -> ", "-unsafe lock order detected"], ..lockdep("WARNING: ", "possible deadlock") },
    lockdep("WARNING: inconsistent lock state", "inconsistent lock state"),
    lockdep("WARNING: bad unlock balance detected!", "WARNING: bad unlock balance"),
    lockdep("WARNING: bad contention detected!", "WARNING: bad contention"),
    lockdep("WARNING: held lock freed!", "WARNING: held lock freed"),
    lockdep("WARNING: Nested lock was not taken", "WARNING: Nested lock was not taken"),
    lockdep("WARNING: lock held when returning to user space!", "WARNING: lock held when returning to user space"),
    lockdep("[ BUG: Invalid wait context ]", "BUG: Invalid wait context"),
    Rule { blame: TRACE, ..lockdep("WARNING: suspicious RCU usage", "WARNING: suspicious RCU usage") },
    Rule { blame: TRACE, ends: Ends::Trace, ..lockdep("INFO: trying to register non-static key.", "INFO: trying to register non-static key") },

    // kernel/sched/core.c: __might_resched(), __schedule_bug()
    Rule { read: at_place, machinery: &[&WAITING, &ALLOCATING], ..row("BUG: sleeping function called from invalid context at ", &[], SleepingInAtomic, "BUG: sleeping function called from invalid context") },
    Rule { machinery: &[&WAITING], ..row("BUG: scheduling while atomic: ", &[], SchedulingWhileAtomic, "BUG: scheduling while atomic") },

    // mm/kasan/report.c, mm/kfence/report.c, mm/kmsan/report.c, lib/ubsan.c
    Rule { read: sanitizer, blame: OPENING, machinery: &[&SANITIZING, &LIBRARY, &ALLOCATING], ends: Ends::Ruler, ..row("BUG: KASAN: ", &[], Kasan, "KASAN") },
    Rule { read: sanitizer, blame: OPENING, machinery: &[&SANITIZING, &LIBRARY, &ALLOCATING], ends: Ends::Ruler, ..row("BUG: KFENCE: ", &[], Kfence, "KFENCE") },
    Rule { read: sanitizer, blame: OPENING, machinery: &[&SANITIZING, &LIBRARY, &ALLOCATING], ends: Ends::Ruler, ..row("BUG: KMSAN: ", &[" in "], Bug, "KMSAN") },
    Rule { read: ubsan, machinery: &[&CHECKING], ends: Ends::Ruler, ..row("UBSAN: ", &[" in "], Ubsan, "UBSAN") },

    // mm/slub.c: slab_bug()
    Rule { read: slub, machinery: &[&ALLOCATING, &SANITIZING], ..row("BUG ", &["ainted", "): "], Bug, SLAB) },
    // kernel/locking/spinlock_debug.c: spin_dump(); lib/smp_processor_id.c; kernel/workqueue.c
    Rule { machinery: &[&LOCKING], ..row("BUG: spinlock ", &[" on CPU#"], Bug, "BUG: spinlock misuse") },
    Rule { machinery: &[&LOCKING], ..row("BUG: rwlock ", &[" on CPU#"], Bug, "BUG: rwlock misuse") },
    row("BUG: using ", &[" in preemptible ", " code: "], Warning, "BUG: per-CPU access in preemptible code"),
    row("BUG: workqueue leaked ", &[], Bug, "BUG: workqueue leaked lock or atomic"),
    row("BUG: stack guard page was hit at ", &[], Oops, "BUG: stack guard page was hit"),
];

/// The title of a slab's corruption of which nothing else is known.
pub(super) const SLAB: &str = "BUG: slab corruption";

/// The interruption code of a protection exception.
pub(super) const PROTECTION: u16 = 4;

/// Titles of a page fault of which nothing else is known, and of one at an address below 4096.
pub(super) const FAULT: &str = "BUG: unable to handle kernel paging request";
pub(super) const NULL_FAULT: &str = "BUG: unable to handle kernel NULL pointer dereference";

/// `STRING: CODE ilc:LENGTH [#COUNT]`, arch/s390/kernel/dumpstack.c: die(). It may follow other openings.
pub(super) static PROGRAM_CHECK: Rule = Rule {
    read: program_check,
    blame: CODE,
    machinery: &[&LIBRARY, &CHECKING],
    ends: Ends::Mark,
    ..row("", &[" ilc:", " [#"], Oops, "program check")
};

/// A report of one kind whose source file shows that it is of another: (file, kind, title).
pub(super) const REFINED: [(&str, Kind, &str); 2] = [
    ("lib/list_debug.c", ListCorruption, "BUG: corrupted list"),
    ("lib/refcount.c", Refcount, "WARNING: refcount bug"),
];

/// Panics that are only the end of a report before them: what they say, and of which kinds.
pub(super) const CONSEQUENCES: [(&str, &[Kind]); 10] = [
    ("Fatal exception", &[Oops, Bug]),
    ("Aiee, killing interrupt handler", &[Oops, Bug]),
    ("Attempted to kill ", &[Oops, Bug]),
    ("Corrupt kernel stack", &[Oops]),
    ("hung_task: blocked tasks", &[HungTask]),
    ("softlockup: hung tasks", &[SoftLockup]),
    ("RCU Stall", &[RcuStall]),
    ("scheduling while atomic", &[SchedulingWhileAtomic]),
    ("panic_on_warn set", &[Warning, Bug, Lockdep, Kasan, Kfence, Ubsan, Refcount, SleepingInAtomic]),
    ("kasan.fault=panic set", &[Kasan]),
];

/// What a line begins.
pub(super) enum Begins {
    Preface,
    Report(&'static Rule, Opening),
}

/// How all openings begin, in as few and short words as tell them from other text, none within another. What
/// holds none of these in one piece opens nothing.
pub(super) static KEYWORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let rules =
        RULES.iter().chain([&PROGRAM_CHECK]).map(|rule| (rule.begins, *rule.contains.first().unwrap_or(&"")));
    let mut words: Vec<_> =
        rules.chain(PREFACES).map(|(begins, contains)| keyword(begins, contains)).collect();
    words.sort_unstable_by_key(|word| (word.len(), *word));
    let mut few: Vec<&str> = Vec::new();
    for word in words {
        if !few.iter().any(|short| word.contains(short)) {
            few.push(word);
        }
    }
    few
});

/// The first words of an opening. No more than these, so that a mail program does not break within them. Where it
/// begins in any way, the first thing that it contains.
fn keyword(begins: &'static str, contains: &'static str) -> &'static str {
    const SHORTEST: usize = 2;
    const LONGEST: usize = 18;
    if begins.len() < SHORTEST {
        return contains;
    }
    let words = begins.trim_end();
    let ends = words.match_indices(' ').map(|(at, _)| at).chain([words.len()]);
    let end = ends.take_while(|end| *end <= LONGEST).last().or_else(|| words.find(' '));
    &words[..end.unwrap_or(words.len())]
}

/// Whether `text` begins as an opening does that has known first words.
pub(super) fn may_open(text: &[u8]) -> bool {
    let first = text.first().copied().unwrap_or(b'\n');
    let rules = RULES.iter().map(|rule| rule.begins);
    let prefaces = PREFACES.iter().filter(|(_, contains)| contains.is_empty()).map(|(begins, _)| *begins);
    FIRST_BYTES[usize::from(first)]
        && rules.chain(prefaces).any(|begins| text.starts_with(keyword(begins, "").as_bytes()))
}

/// Bytes that the first byte of an opening can be: most lines are turned away here.
static FIRST_BYTES: [bool; 256] = first_bytes();

const fn first_bytes() -> [bool; 256] {
    let mut bytes = [false; 256];
    let mut index = 0;
    while index < RULES.len() {
        bytes[RULES[index].begins.as_bytes()[0] as usize] = true;
        index += 1;
    }
    index = 0;
    while index < PREFACES.len() {
        bytes[PREFACES[index].0.as_bytes()[0] as usize] = true;
        index += 1;
    }
    bytes
}

/// Whether `text` opens a report, and which.
pub(super) fn begins(text: &[u8]) -> Option<Begins> {
    let first = *text.first()?;
    if FIRST_BYTES[usize::from(first)] {
        let is_preface = |(begins, contains): &(&str, &str)| {
            text.starts_with(begins.as_bytes()) && memmem::find(text, contains.as_bytes()).is_some()
        };
        if PREFACES.iter().any(is_preface) {
            return Some(Begins::Preface);
        }
        if let Some(begins) = RULES.iter().find_map(|rule| fits(rule, text)) {
            return Some(begins);
        }
    }
    // Few lines hold a '#' at all, and looking for one byte is fast.
    memchr(b'#', text)?;
    fits(&PROGRAM_CHECK, text)
}

/// Opening lines are shorter than this; what is longer is read up to here.
const OPENING_LIMIT: usize = 2048;

fn fits(rule: &'static Rule, text: &[u8]) -> Option<Begins> {
    let mut rest = text.strip_prefix(rule.begins.as_bytes())?;
    for word in rule.contains {
        let found = memmem::find(rest, word.as_bytes())?;
        rest = &rest[found + word.len()..];
    }
    let mut safe = String::new();
    push_escaped(&mut safe, text, OPENING_LIMIT);
    (rule.read)(&safe).map(|opening| Begins::Report(rule, opening))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens(text: &str) -> Option<(Kind, Opening)> {
        match begins(text.as_bytes())? {
            Begins::Preface => None,
            Begins::Report(rule, opening) => Some((rule.kind, opening)),
        }
    }

    #[test]
    fn all_forms_of_a_warning() {
        for (text, file, function) in [
            (
                "WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160",
                Some("mm/gup.c"),
                "try_grab_page",
            ),
            ("WARNING: CPU: 1 PID: 96 at try_grab_page+0x110/0x160", None, "try_grab_page"),
            ("WARNING: CPU: 0 PID: 8 at uvsim.c:105 check+0xe8/0x118 [uvsim]", Some("uvsim.c"), "check"),
            (
                "WARNING: mm/gup.c:149 at try_grab_folio+0xe2/0x108, CPU#0: t/155",
                Some("mm/gup.c"),
                "try_grab_folio",
            ),
            ("WARNING: at try_grab_folio+0xe2/0x108, CPU#0: kworker/0:1/155", None, "try_grab_folio"),
            ("WARNING: [a == b && c] mm/gup.c:1 at f+0x1/0x2 [m], CPU#10: t/1", Some("mm/gup.c"), "f"),
        ] {
            let (kind, opening) = opens(text).unwrap_or_else(|| panic!("not seen: {text}"));
            assert_eq!(kind, Warning);
            assert_eq!(opening.location.as_ref().map(|place| place.file.as_str()), file, "{text}");
            assert_eq!(opening.function.as_deref(), Some(function), "{text}");
        }
    }

    #[test]
    fn what_drivers_print_opens_nothing() {
        for text in [
            "WARNING: the configuration is at risk",
            "WARNING: CPU: all at full speed",
            "WARNING: Support for this device is deprecated, CPU#1: slow",
            "BUG: please report this to the vendor",
            "kernel BUG at the end of the day!",
            "BUG in the firmware (not tainted)",
            "INFO: task scheduler enabled",
            "INFO: rcu callbacks offloaded",
            "rcu: INFO: nothing stalls",
            "INFO: task 12 was blocked for a while",
            "User process fault: interruption code 0010 ilc:3 in faulter[1000000+89000]",
            "UBSAN: enabled in this kernel",
            "list_add failed, trying again",
            "list of devices follows",
            "Unable to handle request",
            "------------",
            "",
        ] {
            assert!(begins(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn panics_lose_their_numbers() {
        for (text, title) in [
            ("sysrq triggered crash", "kernel panic: sysrq triggered crash"),
            (
                "Attempted to kill init! exitcode=0x0000000b",
                "kernel panic: Attempted to kill init! exitcode=ADDR",
            ),
            ("unknown-block(8,1)", "kernel panic: unknown-block(NUM,NUM)"),
            (
                "Unexpected PGM 0x3d with TEID bit 61=0",
                "kernel panic: Unexpected PGM ADDR with TEID bit NUM=NUM",
            ),
            ("vda1 at 000003fffebd1a08", "kernel panic: vda1 at ADDR"),
        ] {
            let (_, opening) = opens(&format!("Kernel panic - not syncing: {text}")).unwrap();
            assert_eq!(opening.words.as_deref(), Some(title));
        }
    }

    #[test]
    fn program_checks_of_any_name() {
        for (text, words) in [
            ("illegal operation: 0001 ilc:1 [#1] SMP ", "illegal operation"),
            ("Oops: 0010 ilc:2 [#1]SMP ", "Oops"),
            ("HFP divide exception: 000f ilc:2 [#12] PREEMPT SMP ", "HFP divide exception"),
        ] {
            assert_eq!(opens(text).unwrap().1.words.as_deref(), Some(words));
        }
    }
}
