//! How reports begin: one row a format.
//!
//! To teach the detector a new format, add a row to [`RULES`] and a fixture. A row is tried when a line
//! begins with `begins` and holds every word of `contains`, in that order; the first row that fits wins.
//! `read` then takes out what the line says, and may find that the line has not the form after all:
//! drivers print "WARNING: " and "BUG: " too.

use super::hit::Kind::{self, *};
use super::machinery::{
    ALLOCATING, CHECKING, LIBRARY, LOCKING, Machinery, PAGES, SANITIZING, SENDING, WAITING,
};
use super::openings::{
    Opening, as_is, at_place, bug, hung, lockup, panic, program_check, sanitizer, slub, ubsan, warning,
};

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
    /// The first call trace, or the page's history: what handed a page on to a device.
    Operation,
    /// The first call trace, from where it is outside farm's own module that reports.
    Outside,
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
    // guests/modules/uvsim/report.c. Its text, which comes before, gives the title.
    Rule { read: warning, blame: &[Blame::Operation, Blame::Outside], machinery: &[&SENDING, &PAGES], ends: Ends::Mark, ..row("WARNING: ", &["at ", UVSIM_REPORT], Warning, "uvsim: report") },

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

/// How the functions begin that report for farm's module `uvsim`.
pub(super) const UVSIM_REPORT: &str = "uvsim_report_";

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
