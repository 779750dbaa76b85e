//! What the emulated ultravisor's module costs: the guest's instructions for each of a stress program's operations.
//!
//! QEMU counts them (`--schedule deterministic`), so that the host's load is of no account: an instruction lasts a
//! fixed time on the guest's clock. What is taken is the program's CPU time, since that clock jumps where all CPUs are
//! idle. What a program does once is left out: two lives of different length are compared.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Bench, KERNELS, heading, row};

/// Programs that neither sleep nor need a disk, which a deterministic guest cannot have, and their paths.
const PROGRAMS: [(&str, &str); 5] = [
    ("splice", "file-pipe-file"),
    ("sendfile", "file-unix"),
    ("sendfile", "file-file"),
    ("tee", "read"),
    ("vmsplice", "read"),
];
/// The two lives' operations.
const OPS: [u64; 2] = [100, 1100];
/// Any: it fixes the schedule, so that all columns have the same.
const SEED: &str = "1";

/// How a program runs beside the module.
#[derive(Debug, Clone, Copy)]
enum Module {
    Absent,
    Idle,
    /// The program's memory and files are made secure before each operation.
    Active,
}

impl Bench {
    pub(super) fn cost(&self) -> Result<()> {
        let columns = ["kernel", "program", "without uvsim", "loaded, idle", "more", "pages secure", "more"];
        heading("What the emulated ultravisor costs", &columns);
        let subjects = KERNELS.iter().flat_map(|kernel| PROGRAMS.map(|program| (*kernel, program)));
        for (kernel, (program, mode)) in subjects {
            let of = |module| self.instructions_per_op(kernel, program, mode, module);
            let (without, idle, active) = (of(Module::Absent)?, of(Module::Idle)?, of(Module::Active)?);
            let more = |with: f64| format!("{:.1} %", (with / without - 1.0) * 100.0);
            let name = format!("`{program}`, {mode}");
            let [base, quiet, busy] = [without, idle, active].map(|number| format!("{number:.0}"));
            row(&[kernel.into(), name, base, quiet, more(idle), busy, more(active)]);
        }
        Ok(())
    }

    fn instructions_per_op(&self, kernel: &str, program: &str, mode: &str, module: Module) -> Result<f64> {
        let (protection, secure) = match module {
            Module::Absent => ("none", false),
            Module::Idle => ("emulated", false),
            Module::Active => ("emulated", true),
        };
        let mut counts = Vec::new();
        for ops in OPS {
            let scenario = self.file(
                "cost",
                &format!(
                    "purpose: a measurement\nprotection: {protection}\nmachine: {{cpus: 1, memory: 512M}}\nsteps:\n  \
                     - {{stress: {program}, args: {{mode: {mode}}}, ops: {ops}, dir: tmp, secure: {secure}}}\n"
                ),
            )?;
            let how = ["--schedule", "deterministic", "--seed", SEED];
            let run = self.all_passed(&[&[&*scenario, "--kernel", kernel], &how[..]].concat())?;
            let life = run.life()?;
            let directory = run.stored.directory.join("cells").join(life.life.to_string());
            let command = fs::read_to_string(directory.join("command.sh"))?;
            let shift =
                shift_in(&command).with_context(|| format!("{directory}: QEMU was not told to count"))?;
            let step = life.steps.first().context("the life has no step")?;
            let [worker] = &step.workers[..] else { bail!("{directory}: not one worker") };
            counts.push((worker.end.cpu_us as f64 * 1e3 / f64::from(1_u32 << shift), step.ops()));
        }
        let [(short, few), (long, many)] = counts[..] else { bail!("{program}: not two lives") };
        ensure!(many > few, "{program}: no more operations in the longer life");
        Ok((long - short) / (many - few) as f64)
    }
}

/// Of QEMU's option `-icount shift=N,…`: an instruction lasts 2 to the power of N nanoseconds.
fn shift_in(command: &str) -> Option<u32> {
    let (_, rest) = command.split_once("shift=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_instruction_stands_in_the_command() {
        assert_eq!(shift_in("exec qemu -icount shift=5,sleep=off \\\n -m 512"), Some(5));
        assert_eq!(shift_in("exec qemu -m 512"), None);
    }
}
