//! The bounds of a scenario that did not come as YAML: those of [`super::fields`], for what a host feels of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::{
    LONGEST_COMMAND_LINE, MOST_BESIDE, MOST_STEPS, MOST_TOUCHES, MOST_TRACED, MOST_WORKERS, disk, machine,
    scenario, step,
};
use super::shape::{Describe as _, Shape, Time};
use super::{Action, DiskFormat, MachineSpec, Scenario, Step};

/// Why a scenario, or these steps that a cell made of its own, could not have come out of [`super::check`].
pub(crate) fn outside_bounds(scenario: &Scenario, steps: &[Step]) -> Option<String> {
    outside(scenario, steps).err()
}

fn outside(scenario: &Scenario, steps: &[Step]) -> Result<(), String> {
    text("name", &scenario::NAME.shape, scenario.name.as_str())?;
    text("purpose", &scenario::PURPOSE.shape, &scenario.purpose)?;
    time("heartbeat", &scenario::HEARTBEAT.shape, scenario.heartbeat.0)?;
    for (what, count, most) in [
        ("steps", scenario.steps.len().max(steps.len()), MOST_STEPS),
        ("expect", scenario.expect.len(), 64),
        ("known", scenario.known.len(), 64),
        ("hunts", scenario.hunts.len(), 16),
        ("modules", scenario.modules.len(), 8),
        ("trace", scenario.trace.len(), MOST_TRACED),
    ] {
        number(what, count as u64, 0..=most as u64)?;
    }
    scenario.trace.iter().try_for_each(|one| text("trace", &scenario::TRACE.shape.of, one))?;
    of_machine(&scenario.machine)?;
    scenario.steps.iter().chain(steps).try_for_each(of_step)
}

fn of_machine(spec: &MachineSpec) -> Result<(), String> {
    let MachineSpec { cpus, memory_mib, disks, share: _, kernel_args } = spec;
    let (cpu_count, memory, size) = (&machine::CPUS.shape, &machine::MEMORY.shape, &disk::SIZE.shape);
    number("cpus", u64::from(*cpus), cpu_count.min..=cpu_count.max)?;
    number("MiB of memory", u64::from(*memory_mib), u64::from(memory.min)..=u64::from(memory.max))?;
    number("disks", disks.len() as u64, 0..=machine::DISKS.shape.max as u64)?;
    for disk in disks {
        let least = if disk.format == DiskFormat::Xfs { DiskFormat::XFS_LEAST_MIB } else { size.min };
        number("MiB of a disk", u64::from(disk.size_mib), u64::from(least)..=u64::from(size.max))?;
    }
    let args = &machine::KERNEL_ARGS.shape;
    number("kernel-args", kernel_args.len() as u64, 0..=args.max as u64)?;
    let length: usize = kernel_args.iter().map(|arg| arg.len() + 1).sum();
    number("bytes of kernel-args", length as u64, 0..=LONGEST_COMMAND_LINE as u64)?;
    kernel_args.iter().try_for_each(|arg| text("kernel-args", &args.of, arg))
}

fn of_step(one: &Step) -> Result<(), String> {
    text("the name of a step", &step::NAME.shape, &one.name)?;
    time("limit", &step::LIMIT.shape, one.limit)?;
    number("beside", one.beside.len() as u64, 0..=MOST_BESIDE as u64)?;
    number("touches", one.touches.len() as u64, 0..=MOST_TOUCHES as u64)?;
    match &one.action {
        Action::Stress { program, workers, .. } => {
            text("stress", &step::STRESS.shape, program)?;
            number("workers", u64::from(*workers), 1..=MOST_WORKERS as u64)
        }
        Action::Exec { workers, args, .. } => {
            number("args", args.len() as u64, 0..=step::ARGS_OF_EXEC.shape.max as u64)?;
            number("workers", u64::from(*workers), 1..=MOST_WORKERS as u64)
        }
        Action::Write { path, text: written } => {
            text("write", &step::WRITE.shape, path)?;
            text("text", &step::WRITE_TEXT.shape, written)
        }
    }
}

fn number(what: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), String> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(format!("{what}: {value} is not from {} to {}", bounds.start(), bounds.end()))
}

fn text(what: &str, shape: &impl Shape, value: &str) -> Result<(), String> {
    match shape.parse(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("{what}: {value:?} is not {}", shape.describe())),
    }
}

fn time(what: &str, shape: &Time, value: Duration) -> Result<(), String> {
    if (shape.min..=shape.max).contains(&value) {
        return Ok(());
    }
    Err(format!("{what}: {value:?} is not {}", shape.describe()))
}
