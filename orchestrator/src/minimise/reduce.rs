//! What can be made smaller of a scenario, one thing at a time, the greatest saving of time first. Pure.

use std::time::Duration;

use crate::scenario::{
    Action, ArgKind, ArgValue, Budget, Catalog, Disk, DiskFormat, HeartbeatLimit, Interference, Knobs,
    MachineSpec, Matrix, Protection, Scenario, Step, default_dir, default_limit, default_names, fill_names,
};

/// Kinds of reductions, in the order in which they are tried. What makes another machine needs another saved guest, so it
/// comes last, when lives are short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Steps,
    /// Before time: a short step may not reach what it is to touch, and says nothing then.
    Touches,
    Time,
    Workers,
    Beside,
    /// Options of programs and what else a guest is told.
    Options,
    Machine,
}

/// A scenario that is smaller by one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduction {
    pub stage: Stage,
    /// For people: `without step tee`.
    pub change: String,
    pub scenario: Scenario,
    /// It is more than one thing at once, to save time: where it fails, the single ones follow.
    pub is_shortcut: bool,
}

/// `for` is at least this long, and a whole number of it.
const SHORTEST: Duration = Duration::from_millis(10);
/// A time or a count is tried at these parts of itself.
const PARTS: [(u32, Size); 2] = [(8, Shortcut), (2, Single)];

/// All of them; `found_in` is the step in which the hit was seen.
pub fn reductions(
    scenario: &Scenario,
    found_in: Option<&str>,
    catalog: &Catalog,
    seed_is_free: bool,
) -> Vec<Reduction> {
    let mut list = List { of: scenario, stage: Stage::Steps, all: Vec::new() };
    list.steps(found_in);
    list.stage = Stage::Touches;
    list.each(Single, "without touches", |step| step.touches.clear());
    list.stage = Stage::Time;
    list.time();
    list.stage = Stage::Workers;
    list.workers();
    list.stage = Stage::Beside;
    list.beside();
    list.stage = Stage::Options;
    list.options(catalog, seed_is_free);
    list.stage = Stage::Machine;
    list.machine();
    list.all
}

#[derive(Clone, Copy, PartialEq)]
enum Size {
    Single,
    Shortcut,
}
use Size::{Shortcut, Single};

struct List<'a> {
    of: &'a Scenario,
    stage: Stage,
    all: Vec<Reduction>,
}

impl List<'_> {
    fn put(&mut self, change: impl Into<String>, make: impl FnOnce(&mut Scenario)) {
        self.put_sized(Single, change, make);
    }

    /// Unless it changes nothing, or is there already.
    fn put_sized(&mut self, size: Size, change: impl Into<String>, make: impl FnOnce(&mut Scenario)) {
        let mut scenario = self.of.clone();
        make(&mut scenario);
        if scenario == *self.of {
            return;
        }
        let is_shortcut = size == Shortcut;
        match self.all.iter_mut().find(|known| known.scenario == scenario) {
            Some(known) => known.is_shortcut &= is_shortcut,
            None => {
                let (stage, change) = (self.stage, change.into());
                self.all.push(Reduction { stage, change, scenario, is_shortcut });
            }
        }
    }

    /// Of all steps at once, then of each.
    fn each(&mut self, size: Size, what: &str, make: impl Fn(&mut Step)) {
        self.put_sized(Shortcut, what, |scenario| scenario.steps.iter_mut().for_each(&make));
        for (index, step) in self.of.steps.iter().enumerate() {
            self.put_sized(size, format!("step {} {what}", step.name), |scenario| {
                make(&mut scenario.steps[index]);
            });
        }
    }

    /// The step in which the hit was seen alone, then without those behind it; then as Zeller's ddmin has it (IEEE
    /// Transactions on Software Engineering 28:183, 2002): pieces alone, all but one piece, then smaller pieces.
    fn steps(&mut self, found_in: Option<&str>) {
        let steps = &self.of.steps;
        let count = steps.len();
        if count < 2 {
            return;
        }
        if let Some(found) = steps.iter().position(|step| Some(step.name.as_str()) == found_in) {
            self.keep(Shortcut, |index| index == found);
            self.keep(Shortcut, |index| index <= found);
        }
        let mut pieces = 2;
        loop {
            let piece = |index: usize| index * pieces / count;
            let without = if pieces == count { Single } else { Shortcut };
            (0..pieces).for_each(|one| self.keep(Shortcut, |index| piece(index) == one));
            (0..pieces).for_each(|one| self.keep(without, |index| piece(index) != one));
            if pieces == count {
                return;
            }
            pieces = (pieces * 2).min(count);
        }
    }

    fn keep(&mut self, size: Size, keep: impl Fn(usize) -> bool) {
        let names = |kept| {
            let steps = self.of.steps.iter().enumerate();
            let names: Vec<_> =
                steps.filter(|(index, _)| keep(*index) == kept).map(|(_, step)| step.name.as_str()).collect();
            names
        };
        let (kept, dropped) = (names(true), names(false));
        let change = match (&kept[..], &dropped[..]) {
            ([only], _) => format!("only step {only}"),
            (_, [one]) => format!("without step {one}"),
            (_, dropped) => format!("without steps {}", dropped.join(", ")),
        };
        self.put_sized(size, change, |scenario| {
            let mut index = 0..;
            scenario.steps.retain(|_| index.next().is_some_and(&keep));
        });
    }

    fn time(&mut self) {
        for (part, size) in PARTS {
            self.each(size, &format!("for 1/{part} of the time"), |step| shorten(step, part));
        }
    }

    fn workers(&mut self) {
        self.each(Shortcut, "with one worker", |step| set_workers(step, |_| 1));
        self.each(Shortcut, "with half as many workers", |step| set_workers(step, |workers| workers / 2));
        self.each(Single, "with a worker less", |step| set_workers(step, |workers| workers - 1));
    }

    fn beside(&mut self) {
        self.each(Shortcut, "with nothing beside", |step| step.beside.clear());
        for (index, step) in self.of.steps.iter().enumerate() {
            for (place, one) in step.beside.iter().enumerate() {
                self.put(format!("step {} without {} beside", step.name, one.program), |scenario| {
                    scenario.steps[index].beside.remove(place);
                });
            }
        }
    }

    fn options(&mut self, catalog: &Catalog, seed_is_free: bool) {
        self.each(Shortcut, "with no options", |step| {
            if let Some((_, args)) = program_of(step) {
                args.clear();
            }
        });
        for (index, step) in self.of.steps.iter().enumerate() {
            if let Action::Stress { program, args, .. } = &step.action {
                let kinds = kinds(catalog.program(program).into_iter());
                self.args(&step.name, args, &kinds, |scenario| {
                    program_of(&mut scenario.steps[index]).map(|(_, args)| args)
                });
            }
            for (place, one) in step.beside.iter().enumerate() {
                let Interference { program, args, .. } = one;
                let kinds = kinds(catalog.interference().iter().filter(|known| known.name == *program));
                self.args(program, args, &kinds, |scenario| {
                    Some(&mut scenario.steps[index].beside[place].args)
                });
                self.put(format!("{program} with open memory"), |scenario| {
                    scenario.steps[index].beside[place].secure = false;
                });
            }
        }
        self.each(Single, "with open memory", |step| {
            if let Action::Stress { secure, .. } = &mut step.action {
                *secure = false;
            }
        });
        let dir = default_dir(&self.of.machine.disks);
        self.each(Single, &format!("in {dir}"), |step| set_dir(step, |_| dir.clone()));
        self.knobs();
        self.put("without a trace", |scenario| scenario.trace.clear());
        self.put("with the usual heartbeat", |scenario| scenario.heartbeat = HeartbeatLimit::default());
        self.each(Single, "with the usual limit", |step| step.limit = default_limit(&step.action));
        self.put("with the usual names", |scenario| {
            let names = fill_names(&vec![None; scenario.steps.len()], &default_names(&scenario.steps));
            scenario.steps.iter_mut().zip(names).for_each(|(step, name)| step.name = name);
        });
        if seed_is_free {
            self.put("with the usual seed", |scenario| scenario.matrix = Matrix::default());
        }
    }

    /// Each option left out, then as small as it can be, then half as large.
    fn args(
        &mut self,
        owner: &str,
        args: &[(String, ArgValue)],
        kinds: &[(&str, &ArgKind)],
        of: impl Fn(&mut Scenario) -> Option<&mut Vec<(String, ArgValue)>>,
    ) {
        for (place, (name, value)) in args.iter().enumerate() {
            self.put(format!("{owner} without --{name}"), |scenario| {
                of(scenario).map(|args| args.remove(place));
            });
            let kind = kinds.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
            let (Some(ArgKind::Number { min, .. } | ArgKind::Size { min, .. }), Ok(value)) =
                (kind, value.to_string().parse::<u64>())
            else {
                continue;
            };
            for (smaller, size) in [(*min, Shortcut), ((value / 2).max(*min), Single)] {
                self.put_sized(size, format!("{owner} with --{name}={smaller}"), |scenario| {
                    if let Some(args) = of(scenario) {
                        args[place].1 = ArgValue::Text(smaller.min(value).to_string());
                    }
                });
            }
        }
    }

    fn knobs(&mut self) {
        let usual = Knobs::default();
        self.put_sized(Shortcut, "with the usual ultravisor", |scenario| scenario.uvsim = Knobs::default());
        self.put("without fixes", |scenario| scenario.uvsim.fix.clear());
        self.put("never busy", |scenario| scenario.uvsim.busy = usual.busy);
        self.put("never in part", |scenario| scenario.uvsim.partial = usual.partial);
        self.put("exports that never fail", |scenario| scenario.uvsim.export_failure = usual.export_failure);
        self.put("no other owner", |scenario| scenario.uvsim.owner_mismatch = usual.owner_mismatch);
        self.put("without a delay while frozen", |scenario| scenario.uvsim.freeze_delay = usual.freeze_delay);
        self.put("without shared pins", |scenario| scenario.uvsim.pin_shared = usual.pin_shared);
        self.put("without early reports", |scenario| scenario.uvsim.early = usual.early);
    }

    fn machine(&mut self) {
        let usual = MachineSpec::default();
        let machine = &self.of.machine;
        for (cpus, size) in [(1, Shortcut), (machine.cpus / 2, Shortcut), (machine.cpus - 1, Single)] {
            if cpus > 0 {
                let change = if cpus == 1 { "with one CPU".to_owned() } else { format!("with {cpus} CPUs") };
                self.put_sized(size, change, |scenario| scenario.machine.cpus = cpus);
            }
        }
        self.put_sized(Shortcut, "without disks", |scenario| drop_disks(scenario, 0..machine.disks.len()));
        for number in 0..self.of.machine.disks.len() {
            self.put(format!("without disk {number}"), |scenario| drop_disks(scenario, number..number + 1));
            self.put(format!("disk {number} of the usual size"), |scenario| {
                let disk = &mut scenario.machine.disks[number];
                disk.size_mib = disk.size_mib.min(Disk::default().size_mib);
                if disk.format == DiskFormat::Xfs {
                    disk.format = DiskFormat::Ext4;
                }
            });
        }
        for (memory_mib, size) in
            [(usual.memory_mib, Shortcut), ((machine.memory_mib / 2).max(usual.memory_mib), Single)]
        {
            if memory_mib < machine.memory_mib {
                self.put_sized(size, format!("with {memory_mib} MiB"), |scenario| {
                    scenario.machine.memory_mib = memory_mib;
                });
            }
        }
        self.put("without a share", |scenario| scenario.machine.share = false);
        self.put_sized(Shortcut, "without kernel arguments", |scenario| scenario.machine.kernel_args.clear());
        for (place, argument) in machine.kernel_args.iter().enumerate() {
            self.put(format!("without {argument}"), |scenario| {
                scenario.machine.kernel_args.remove(place);
            });
        }
        self.put_sized(Shortcut, "without modules", |scenario| scenario.modules.clear());
        for (place, module) in self.of.modules.iter().enumerate() {
            self.put(format!("without module {module}"), |scenario| {
                scenario.modules.remove(place);
            });
        }
        self.put("without emulated protection", unprotect);
    }
}

fn program_of(step: &mut Step) -> Option<(&str, &mut Vec<(String, ArgValue)>)> {
    match &mut step.action {
        Action::Stress { program, args, .. } => Some((program, args)),
        Action::Exec { .. } | Action::Write { .. } => None,
    }
}

fn kinds<'c>(
    programs: impl Iterator<Item = &'c crate::scenario::programs::Program>,
) -> Vec<(&'c str, &'c ArgKind)> {
    programs.flat_map(|program| &program.args).map(|arg| (arg.name.as_str(), &arg.kind)).collect()
}

fn shorten(step: &mut Step, part: u32) {
    let usual_limit = step.limit == default_limit(&step.action);
    let Action::Stress { budget, .. } = &mut step.action else { return };
    match budget {
        Budget::For(time) => {
            let shorter = u64::try_from((*time / part).as_millis()).unwrap_or(u64::MAX);
            let unit = SHORTEST.as_millis() as u64;
            *time = Duration::from_millis((shorter / unit).max(1) * unit).min(*time);
        }
        Budget::Ops(ops) => *ops = (*ops / u64::from(part)).max(1),
    }
    if usual_limit {
        step.limit = default_limit(&step.action);
    }
}

fn set_workers(step: &mut Step, fewer: impl Fn(u32) -> u32) {
    match &mut step.action {
        Action::Stress { workers, .. } | Action::Exec { workers, .. } => *workers = fewer(*workers).max(1),
        Action::Write { .. } => {}
    }
}

/// Programs that read the share have no other place.
fn set_dir(step: &mut Step, other: impl Fn(&str) -> String) {
    if let Action::Stress { dir, .. } = &mut step.action
        && dir != crate::scenario::SHARE_DIRECTORY
    {
        *dir = other(dir);
    }
}

/// Disks behind those that go move up; steps whose disk goes work where others do by default. What names a disk in
/// another way (an option, a path that is written to) is left, and the checker or the guest says so.
fn drop_disks(scenario: &mut Scenario, gone: std::ops::Range<usize>) {
    scenario.machine.disks.drain(gone.clone());
    let default = default_dir(&scenario.machine.disks);
    for step in &mut scenario.steps {
        set_dir(step, |dir| {
            match dir.strip_prefix("/mnt/").and_then(|number| number.parse::<usize>().ok()) {
                Some(number) if gone.contains(&number) => default.clone(),
                Some(number) if number >= gone.end => format!("/mnt/{}", number - gone.len()),
                Some(_) | None => dir.to_owned(),
            }
        });
    }
}

fn unprotect(scenario: &mut Scenario) {
    scenario.protection = Protection::None;
    scenario.uvsim = Knobs::default();
    let default = default_dir(&scenario.machine.disks);
    for step in &mut scenario.steps {
        if let Action::Stress { secure, dir, .. } = &mut step.action {
            *secure = false;
            if dir == crate::scenario::emulation::DISK_DIRECTORY {
                *dir = default.clone();
            }
        }
        step.beside.iter_mut().for_each(|one| one.secure = false);
    }
}
