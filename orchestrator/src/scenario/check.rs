//! From the tree to a [`Scenario`], with every problem of the file.

use sha2::{Digest, Sha256};

use super::emulation::{self, Knobs};
use super::executable::ReadFile;
use super::fields::{self, LONGEST_COMMAND_LINE, MOST_CELLS, disk, hit, machine, matrix, scenario};
use super::pattern::{Expectation, Known, Pattern};
use super::problem::{Mark, Problem, Problems, quote, suggest};
use super::programs::Catalog;
use super::read::{At, Group, map, value};
use super::shape::print_time;
use super::steps::{self, Steps};
use super::tree::{self, Content, Node};
use super::{
    Action, ArgAxis, Disk, DiskFormat, HeartbeatLimit, MachineSpec, Matrix, Protection, Scenario,
    ScenarioName, Step,
};

/// The text of a scenario and what messages call it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

/// Checks a scenario against the catalog of stress programs. `files` reads the programs that its `exec` steps
/// name.
pub fn check(source: Source<'_>, catalog: &Catalog, files: &dyn ReadFile) -> Result<Scenario, Vec<Problem>> {
    let problems = Problems::new(source.file);
    let root = tree::parse(source.text, &problems);
    let scenario = root.as_ref().and_then(|root| read(root, source, catalog, files, &problems));
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => Err(problems.into_sorted()),
    }
}

fn read(
    root: &Node,
    source: Source<'_>,
    catalog: &Catalog,
    files: &dyn ReadFile,
    problems: &Problems,
) -> Option<Scenario> {
    let group = Group::open(root, &fields::SCENARIO, problems)?;
    let name = group.scalar(&scenario::NAME);
    let purpose = group.scalar(&scenario::PURPOSE);
    let hunts = values(group.list(&scenario::HUNTS));
    let needs = values(group.list(&scenario::NEEDS));
    let protection = group.scalar(&scenario::PROTECTION).map(|protection| protection.value);
    // A protection with a problem may be the one that is meant.
    let emulated = EmulatedOnly { holds: protection != Some(Protection::None), problems };
    let uvsim = read_knobs(group, emulated);
    let modules = read_modules(group, catalog, problems);
    let trace = distinct(group.list(&scenario::TRACE), "trace", String::clone, problems);
    let heartbeat = group.scalar(&scenario::HEARTBEAT);
    let machine = read_machine(group.group(&scenario::MACHINE), problems);
    let disks = machine.as_ref().map_or(&[][..], |machine| &machine.disks);
    // A machine with a problem may be one that has it.
    let share = machine.as_ref().is_none_or(|machine| machine.share);
    let step_nodes = group.groups(&scenario::STEPS);
    let context = Steps { catalog, files, disks, share, modules: &modules, emulated, problems };
    let steps = steps::read(step_nodes, context);
    let known_steps = KnownSteps { steps: &steps, complete: steps.len() == step_nodes.len() };
    let matrix = read_matrix(group.group(&scenario::MATRIX), known_steps, catalog, emulated);
    let expect = group.groups(&scenario::EXPECT);
    let expect = expect.iter().filter_map(|node| read_expectation(node, emulated)).collect();
    let known = group.groups(&scenario::KNOWN);
    let known = known.iter().filter_map(|node| read_known(node, problems)).collect();
    Some(Scenario {
        name: ScenarioName(name?.value),
        purpose: purpose?.value,
        hunts,
        needs,
        protection: protection?,
        uvsim: uvsim?,
        modules,
        trace,
        machine: machine?,
        steps,
        expect,
        known,
        matrix,
        heartbeat: HeartbeatLimit(heartbeat?.value),
        sha256: sha256(source.text.as_bytes()),
        file: source.file.to_owned(),
    })
}

/// Guards what means nothing unless the scenario itself asks for the emulated ultravisor.
#[derive(Clone, Copy)]
pub(crate) struct EmulatedOnly<'a> {
    holds: bool,
    problems: &'a Problems,
}

impl EmulatedOnly<'_> {
    /// Reports a field that is there in vain.
    pub(crate) fn check(self, at: Mark, field: &str) {
        if !self.holds {
            let hint = "add `protection: emulated` to the scenario".to_owned();
            self.problems.report(at, format!("{field}: goes with emulated protection only"), Some(hint));
        }
    }
}

fn read_knobs(group: Group<'_>, emulated: EmulatedOnly<'_>) -> Option<Knobs> {
    if let Some(node) = group.node(scenario::KNOBS.name) {
        emulated.check(node.at, scenario::KNOBS.name);
    }
    emulation::read(group.group(&scenario::KNOBS), emulated.problems)
}

fn read_modules(group: Group<'_>, catalog: &Catalog, problems: &Problems) -> Vec<String> {
    let list = group.list(&scenario::MODULES);
    for (index, At { at, value }) in list.iter().enumerate() {
        if !catalog.modules().contains(value) {
            let hint = suggest(value, catalog.modules().iter().map(String::as_str));
            problems.report(*at, format!("unknown module {}", quote(value)), hint);
        }
        if list[..index].iter().any(|earlier| earlier.value == *value) {
            problems.report(*at, format!("modules: {value} is given twice"), None);
        }
    }
    values(list)
}

fn read_machine(group: Group<'_>, problems: &Problems) -> Option<MachineSpec> {
    let cpus = group.scalar(&machine::CPUS);
    let memory = group.scalar(&machine::MEMORY);
    // A disk with a problem keeps its place, so that the numbers of those behind it stay right.
    let disks = group.groups(&machine::DISKS).iter().map(|node| read_disk(node, problems)).collect();
    let share = group.scalar(&machine::SHARE);
    let kernel_args = group.list(&machine::KERNEL_ARGS);
    let length: usize = kernel_args.iter().map(|arg| arg.value.len() + 1).sum();
    if length > LONGEST_COMMAND_LINE {
        let at = kernel_args.first().map_or(group.at, |arg| arg.at);
        let message = format!("kernel-args: {length} bytes in all, at most {LONGEST_COMMAND_LINE} fit");
        problems.report(at, message, None);
    }
    Some(MachineSpec {
        cpus: u32::try_from(cpus?.value).ok()?,
        memory_mib: memory?.value,
        disks,
        share: share?.value,
        kernel_args: values(kernel_args),
    })
}

fn read_disk(node: &Node, problems: &Problems) -> Disk {
    let read = |node| {
        let group = Group::open(node, &fields::DISK, problems)?;
        let (size, format) = (group.scalar(&disk::SIZE), group.scalar(&disk::FORMAT));
        let (size, format) = (size?, format?);
        if format.value == DiskFormat::Xfs && size.value < DiskFormat::XFS_LEAST_MIB {
            let message = format!("an xfs disk has {}M at least", DiskFormat::XFS_LEAST_MIB);
            problems.report(size.at, message, None);
        }
        Some(Disk { size_mib: size.value, format: format.value })
    };
    read(node).unwrap_or(Disk { size_mib: 0, format: DiskFormat::Ext4 })
}

fn read_expectation(node: &Node, emulated: EmulatedOnly<'_>) -> Option<Expectation> {
    let problems = emulated.problems;
    let group = Group::open(node, &fields::EXPECT, problems)?;
    let when = group.scalar(&hit::WHEN).map(|when| when.value);
    if let Some(node) = group.node(hit::MENDED_BY.name) {
        emulated.check(node.at, hit::MENDED_BY.name);
    }
    let mended_by = emulation::distinct(group.list(&hit::MENDED_BY), hit::MENDED_BY.name, problems);
    Some(Expectation { pattern: read_pattern(group, problems)?, mended_by, when })
}

fn read_known(node: &Node, problems: &Problems) -> Option<Known> {
    let group = Group::open(node, &fields::KNOWN, problems)?;
    let when = group.scalar(&hit::WHEN).map(|when| when.value);
    let (pattern, reason) = (read_pattern(group, problems), group.scalar(&hit::REASON));
    Some(Known { pattern: pattern?, when, reason: reason?.value })
}

fn read_pattern(group: Group<'_>, problems: &Problems) -> Option<Pattern> {
    let given = (group.node(hit::TITLE.name), group.node(hit::FINGERPRINT.name));
    match given {
        (Some(_), None) => group.scalar(&hit::TITLE).map(|title| Pattern::Title(title.value)),
        (None, Some(_)) => group.scalar(&hit::FINGERPRINT).map(|text| Pattern::Fingerprint(text.value)),
        _ => {
            problems.report(group.at, "give `title` or `fingerprint`, and not both", None);
            None
        }
    }
}

/// The steps that are well, and whether these are all.
#[derive(Clone, Copy)]
struct KnownSteps<'a> {
    steps: &'a [Step],
    complete: bool,
}

fn read_matrix(
    group: Group<'_>,
    known: KnownSteps<'_>,
    catalog: &Catalog,
    emulated: EmulatedOnly<'_>,
) -> Matrix {
    let problems = emulated.problems;
    let cpus = distinct(group.list(&matrix::CPUS), "cpus", u64::to_string, problems);
    let seeds = distinct(group.list(&matrix::SEEDS), "seeds", u64::to_string, problems);
    let delays = &matrix::FREEZE_DELAY;
    if let Some(node) = group.node(delays.name) {
        emulated.check(node.at, delays.name);
    }
    let freeze_delay = distinct(group.list(delays), delays.name, |time| print_time(*time), problems);
    let mut args = Vec::new();
    for (step_key, options) in group.free(&matrix::ARGS) {
        let Some(options) = map(options, &step_key.name, problems) else { continue };
        let Some(step) = known.steps.iter().find(|step| step.name == step_key.name) else {
            // Where a step has a problem of its own, it may be the one that is meant.
            if known.complete {
                let hint = suggest(&step_key.name, known.steps.iter().map(|step| step.name.as_str()));
                problems.report(step_key.at, format!("no step has the name {}", quote(&step_key.name)), hint);
            }
            continue;
        };
        let Action::Stress { program, .. } = &step.action else {
            problems.report(step_key.at, "only a stress step has options", None);
            continue;
        };
        let Some(program) = catalog.program(program) else { continue };
        for (option, list) in options {
            let Some(arg) = program.option(option, problems) else { continue };
            let read = |node| value(node, &option.name, arg, problems);
            let values = values(values_of(list, &option.name, problems).iter().filter_map(read));
            if (1..values.len()).any(|index| values[..index].contains(&values[index])) {
                problems.report(list.at, format!("{}: a value is given twice", option.name), None);
            }
            args.push(ArgAxis { step: step.name.clone(), arg: option.name.clone(), values });
        }
    }
    // The order of keys in the file means nothing, so it must not order the cells.
    args.sort_by(|a, b| (&a.step, &a.arg).cmp(&(&b.step, &b.arg)));
    let lengths = [cpus.len(), seeds.len(), freeze_delay.len()]
        .into_iter()
        .chain(args.iter().map(|axis| axis.values.len()));
    let cells = lengths.fold(1_usize, |cells, length| cells.saturating_mul(length.max(1)));
    if cells > MOST_CELLS {
        problems.report(
            group.at,
            format!("the matrix makes {cells} cells, at most {MOST_CELLS} are run"),
            None,
        );
    }
    let cpus = cpus.into_iter().filter_map(|cpus| u32::try_from(cpus).ok()).collect();
    Matrix { cpus, seeds, freeze_delay, args }
}

/// The nodes of a list of an option's values.
fn values_of<'t>(node: &'t Node, option: &str, problems: &Problems) -> &'t [Node] {
    match &node.content {
        Content::List(items) if (1..=matrix::MOST_VALUES).contains(&items.len()) => items,
        Content::Refused => &[],
        _ => {
            let message = format!("{option}: expected a list of 1 to {} values", matrix::MOST_VALUES);
            problems.report(node.at, message, None);
            &[]
        }
    }
}

/// The values of an axis; the same twice would make the same cell twice.
fn distinct<T: PartialEq>(
    list: Vec<At<T>>,
    name: &str,
    print: impl Fn(&T) -> String,
    problems: &Problems,
) -> Vec<T> {
    for (index, item) in list.iter().enumerate() {
        if list[..index].iter().any(|earlier| earlier.value == item.value) {
            problems.report(item.at, format!("{name}: {} is given twice", print(&item.value)), None);
        }
    }
    values(list)
}

fn values<T>(list: impl IntoIterator<Item = At<T>>) -> Vec<T> {
    list.into_iter().map(|item| item.value).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
