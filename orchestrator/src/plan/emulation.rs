//! What the emulated ultravisor wants of a guest: its module, and what is written before the first step.

use super::{Cell, Protection, Request};
use crate::scenario::{Facts, Fix, Knobs, Release, Scenario};

/// The module of farm's own.
const MODULE: &str = "uvsim";
/// The kernel's file system of the share, and the transport, which nothing loads by itself where there is no modprobe.
const SHARE_MODULES: &[&str] = &["9p", "9pnet_virtio"];

/// What a request asks for goes before what the scenario says. The knobs once for each delay of the matrix.
pub(super) fn of(scenario: &Scenario, request: &Request) -> (Protection, Vec<Knobs>) {
    let protection = request.protection.unwrap_or(scenario.protection);
    if protection != Protection::Emulated {
        return (protection, vec![Knobs::default()]);
    }
    let mut knobs = scenario.uvsim.clone();
    if let Some(fixes) = &request.fixes {
        knobs.fix.clone_from(fixes);
        // As a scenario's are: an order means nothing.
        knobs.fix.sort_unstable();
    }
    let delays = &scenario.matrix.freeze_delay;
    if delays.is_empty() {
        return (protection, vec![knobs]);
    }
    (protection, delays.iter().map(|&freeze_delay| Knobs { freeze_delay, ..knobs.clone() }).collect())
}

impl Cell {
    /// What `when:` conditions and expectations ask about.
    pub fn facts(&self) -> Facts<'_> {
        Facts { kernel_release: &self.kernel.release, protection: self.protection, fixes: &self.uvsim.fix }
    }

    /// Kernel modules in the order to load them: the scenario's, those of the share, and that of the emulated ultravisor
    /// behind them, which finds the functions of those it watches.
    pub fn modules(&self) -> Vec<String> {
        let share = if self.shape.share { SHARE_MODULES } else { &[] };
        let emulation: &[_] = if self.protection == Protection::Emulated { &[MODULE] } else { &[] };
        let mut modules = self.scenario.modules.clone();
        for module in share.iter().chain(emulation) {
            if !modules.iter().any(|known| known == module) {
                modules.push((*module).to_owned());
            }
        }
        modules
    }

    /// Files of the guest and the text that init writes to each, in this order, before the first step.
    pub fn sets(&self) -> Vec<(String, String)> {
        if self.protection != Protection::Emulated {
            return Vec::new();
        }
        // A process gets page tables that can be a guest's when it is exec'd (init_new_context(),
        // arch/s390/include/asm/mmu_context.h). Since 7.0 guests have page tables of their own.
        let page_tables = Release::parse(&self.kernel.release)
            .is_before(&Release::parse("7.0"))
            .then(|| ("/proc/sys/vm/allocate_pgste".to_owned(), "1".to_owned()));
        let seed = ("seed", u64::from(fold(self.seed)));
        let knobs = std::iter::once(seed).chain(turned(&self.uvsim));
        let knobs =
            knobs.map(|(name, value)| (format!("/sys/kernel/debug/{MODULE}/{name}"), value.to_string()));
        page_tables.into_iter().chain(knobs).collect()
    }
}

/// The module's seed has 32 bits; small seeds stay what they are.
fn fold(seed: u64) -> u32 {
    (seed ^ seed >> u32::BITS) as u32
}

/// The module's files for those knobs that are not as the module has them by itself.
fn turned(knobs: &Knobs) -> impl Iterator<Item = (&'static str, u64)> {
    let Knobs { fix, busy, partial, export_failure, owner_mismatch, freeze_delay, pin_shared, early } = knobs;
    let fixed = |one| u64::from(fix.contains(&one));
    let all = [
        ("fix_splice", fixed(Fix::Splice)),
        ("fix_vmsplice", fixed(Fix::Vmsplice)),
        ("fix_zerocopy", fixed(Fix::Zerocopy)),
        ("fix_dio", fixed(Fix::Dio)),
        ("busy_percent", u64::from(*busy)),
        ("partial_percent", u64::from(*partial)),
        ("export_fail_percent", u64::from(*export_failure)),
        ("owner_mismatch_percent", u64::from(*owner_mismatch)),
        ("freeze_delay_us", u64::try_from(freeze_delay.as_micros()).unwrap_or(u64::MAX)),
        ("pin_shared", u64::from(*pin_shared)),
        ("early", u64::from(*early)),
    ];
    // Each is 0 until it is written.
    all.into_iter().filter(|(_, value)| *value != 0)
}

#[cfg(test)]
mod tests {
    use crate::plan::tests::{cells, request};
    use crate::plan::{Protection, Request};
    use crate::scenario::Fix;

    const YAML: &str = "
name: secure
purpose: p
protection: emulated
modules: [tripwire]
steps: [{stress: splice, for: 1s}]
";

    fn sets(yaml: &str, request: &Request) -> Vec<String> {
        let sets = cells(yaml, request).remove(0).sets();
        sets.into_iter().map(|(path, text)| format!("{path} {text}")).collect()
    }

    #[test]
    fn an_emulated_cell_loads_the_module_and_sets_page_tables_and_seed_first() {
        let first = |seed: u64| {
            ["/proc/sys/vm/allocate_pgste 1".to_owned(), format!("/sys/kernel/debug/uvsim/seed {seed}")]
        };
        assert_eq!(sets(YAML, &request()), first(1));
        assert_eq!(sets(YAML, &Request { seed: Some(7), ..request() }), first(7));
        for (release, begins_with) in [("6.19.14", 0), ("7.0.0-rc1", 1), ("7.2.12+deb14-s390x", 1)] {
            let mut other = request();
            other.kernels[0].release = release.into();
            assert_eq!(sets(YAML, &other), first(1)[begins_with..], "{release}");
        }
        // 53 bits, of which the upper 21 are all set, and the lower 32 are 5.
        let long = (1 << 53) - (1 << 32) + 5;
        assert_eq!(sets(YAML, &Request { seed: Some(long), ..request() }), first(0x1f_ffff ^ 5));
        let modules = |yaml: &str, request: &Request| cells(yaml, request)[0].modules();
        assert_eq!(modules(YAML, &request()), ["tripwire", "uvsim"]);

        let plain = YAML.replace("protection: emulated\n", "");
        assert_eq!(
            (sets(&plain, &request()), modules(&plain, &request())),
            (vec![], vec!["tripwire".into()])
        );
        let share = format!("{YAML}machine: {{share: true}}\n");
        assert_eq!(modules(&share, &request()), ["tripwire", "9p", "9pnet_virtio", "uvsim"]);
        let asked = Request { protection: Some(Protection::Emulated), ..request() };
        assert_eq!(sets(&plain, &asked), first(1));
        assert_eq!(modules(&plain, &asked), ["tripwire", "uvsim"]);
    }

    #[test]
    fn every_knob_that_is_turned_has_its_file_and_the_others_are_left_alone() {
        let all = "uvsim: {fix: [dio, zerocopy, vmsplice, splice], busy: 1, partial: 2, export-failure: 3, \
                   owner-mismatch: 100, freeze-delay: 50us, pin-shared: true, early: true}\n";
        let knobs = |uvsim: &str, request: &Request| {
            let lines = sets(&format!("{YAML}{uvsim}"), request);
            lines[2..].iter().map(|line| line.replace("/sys/kernel/debug/uvsim/", "")).collect::<Vec<_>>()
        };
        assert_eq!(
            knobs(all, &request()),
            [
                "fix_splice 1",
                "fix_vmsplice 1",
                "fix_zerocopy 1",
                "fix_dio 1",
                "busy_percent 1",
                "partial_percent 2",
                "export_fail_percent 3",
                "owner_mismatch_percent 100",
                "freeze_delay_us 50",
                "pin_shared 1",
                "early 1",
            ]
        );
        let zeros = "uvsim: {busy: 0, freeze-delay: 0s, pin-shared: false}\n";
        assert_eq!(knobs(zeros, &request()), [""; 0]);
        // The command line's fixes take the place of the scenario's.
        let fixes = |fixes: &[Fix]| Request { fixes: Some(fixes.to_vec()), ..request() };
        let two = "uvsim: {fix: [splice, dio], busy: 5}\n";
        assert_eq!(knobs(two, &fixes(&[Fix::Vmsplice])), ["fix_vmsplice 1", "busy_percent 5"]);
        assert_eq!(knobs(two, &fixes(&[])), ["busy_percent 5"]);
    }
}
