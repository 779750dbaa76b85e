//! Where a guest is to be stopped to see a hit happen.

use super::hit::{Hit, Kind};

/// The instruction by which s390 kernels report WARN() and BUG(), MONITOR CALL (arch/s390/include/asm/bug.h).
const MONITOR_CALL: &str = "af00";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// The instruction that makes the kernel complain, and which is executed for nothing else.
    Instruction(u64),
    /// The kernel's function that reports hits of this kind.
    Function(&'static str),
    /// Nothing in the kernel is executed when it happens.
    Nowhere,
}

impl Hit {
    /// Of the kernel that the report is of, if it runs at the same addresses.
    pub fn site(&self) -> Site {
        if let Some(address) = self.text.lines().find_map(monitor_call) {
            return Site::Instruction(address);
        }
        use Kind::*;
        match self.kind {
            // kernel/panic.c, arch/s390/kernel/dumpstack.c, mm/page_alloc.c, mm/kasan/report.c, mm/kfence/report.c, lib/ubsan.c, kernel/sched/core.c
            Warning => Site::Function("__warn"),
            Panic => Site::Function("panic"),
            Oops | Bug => Site::Function("die"),
            BadPage => Site::Function("bad_page"),
            Kasan => Site::Function("kasan_report"),
            Kfence => Site::Function("kfence_report_error"),
            Ubsan => Site::Function("ubsan_epilogue"),
            SchedulingWhileAtomic => Site::Function("__schedule_bug"),
            HungTask | RcuStall | SoftLockup | WorkqueueLockup | Lockdep | SleepingInAtomic
            | ListCorruption | Refcount | Data | Hang => Site::Nowhere,
        }
    }
}

/// A function of a module where the guest had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub module: String,
    pub function: String,
    pub start: u64,
}

impl Hit {
    /// One function of each module in the report's trace.
    pub fn loaded(&self) -> Vec<Loaded> {
        let mut all: Vec<Loaded> = Vec::new();
        for loaded in self.text.lines().filter_map(loaded) {
            if all.iter().all(|known| known.module != loaded.module) {
                all.push(loaded);
            }
        }
        all
    }
}

/// A line of a trace with a module: `[<000003ff7ff02902>] tripwire_warn_once_one+0xa/0x10 [tripwire]`.
fn loaded(line: &str) -> Option<Loaded> {
    let (address, frame) = line.trim().strip_prefix("[<")?.split_once(">] ")?;
    let (place, module) = frame.trim().split_once(" [")?;
    let (function, offset) = place.split_once("+0x")?;
    let offset = u64::from_str_radix(offset.split_once('/')?.0, 16).ok()?;
    let start = u64::from_str_radix(address, 16).ok()?.checked_sub(offset)?;
    Some(Loaded { module: module.strip_suffix(']')?.to_owned(), function: function.to_owned(), start })
}

/// The address in a line of the report's code: `#000003ff7ff028fe: af000000  mc  0,0`. The mark is of the instruction in front
/// of the PSW's, which was executed last (arch/s390/kernel/dis.c, `show_code()`).
fn monitor_call(line: &str) -> Option<u64> {
    let line = line.trim_start().trim_start_matches("Krnl Code:").trim_start();
    let (address, code) = line.strip_prefix('#')?.split_once(':')?;
    code.trim_start().starts_with(MONITOR_CALL).then_some(())?;
    u64::from_str_radix(address, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(kind: Kind, text: &str) -> Hit {
        Hit { kind, text: text.to_owned(), ..Hit::hang("f") }
    }

    #[test]
    fn a_warning_is_at_its_monitor_call() {
        let code = "Krnl Code: 000003ff7ff028f4: a7f4ffbb\\x09\\x09brc\\x0915,000003ff7ff0286a\n\
                    \x20          #000003ff7ff028fe: af000000\\x09\\x09mc\\x090,0\n\
                    \x20          >000003ff7ff02902: 07fe\\x09\\x09bcr\\x0915,%r14\n";
        assert_eq!(hit(Kind::Warning, code).site(), Site::Instruction(0x3ff_7ff0_28fe));
        let first = "Krnl Code:#00000000004c1906: af000000 mc 0,0\n";
        assert_eq!(hit(Kind::Refcount, first).site(), Site::Instruction(0x4c_1906));
    }

    #[test]
    fn modules_are_where_their_functions_are() {
        let trace = " [<000003ff7ff02902>] tripwire_warn_once_one+0xa/0x10 [tripwire] \n\
                     \x20[<000003ff7ff028be>] trip_write+0xfe/0x138 [tripwire] \n\
                     \x20[<00000000004e6e26>] full_proxy_write+0x76/0xb0 \n [<zz>] f+0x1/0x2 [m]\n [<1>] g+0x9/0x9 [n]\n";
        let found = hit(Kind::Warning, trace).loaded();
        let (module, function) = ("tripwire".to_owned(), "tripwire_warn_once_one".to_owned());
        assert_eq!(found, [Loaded { module, function, start: 0x3ff_7ff0_28f8 }]);
    }

    #[test]
    fn what_has_no_instruction_of_its_own_is_at_its_reporter_or_nowhere() {
        // The instruction in front of a fault is one that all callers execute.
        let fault =
            "           #00000000004c1906: e3102000 lg %r1,0(%r2)\n           >00000000004c190c: 07fe\n";
        assert_eq!(hit(Kind::Oops, fault).site(), Site::Function("die"));
        assert_eq!(hit(Kind::Warning, "").site(), Site::Function("__warn"));
        assert_eq!(hit(Kind::Hang, "").site(), Site::Nowhere);
        assert_eq!(hit(Kind::Warning, "#zz: af00\n#af00").site(), Site::Function("__warn"));
    }
}
