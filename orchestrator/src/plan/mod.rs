//! From a scenario and what was asked for to the cells that run. Pure: no I/O, no clock.
//!
//! A cell is the unit that runs: scenario × kernel × image × machine × protection × schedule × seed. How
//! often one is run is not part of it.

mod alone;
mod calibration;
mod emulation;
mod ids;
mod search;
mod seeds;
mod setting;
mod turns;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::scenario::Protection;
use crate::scenario::{Action, ArgValue, Disk, Facts, Fix, Knobs, Scenario, Step};
pub use alone::seeds;
pub use calibration::{
    CalibrationColumn, CalibrationRecord, CalibrationRow, Sight, calibrate, can_be_calibrated,
};
pub use ids::{CellId, CellIdError, LifeId};
pub use search::SearchPlan;
pub use seeds::{DEFAULT_SEED, step_seed};
pub use setting::{Choice, Emulator, Setting, choose_settings};
pub use turns::Turns;

/// A kernel as a result names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KernelKey {
    pub name: String,
    /// As `uname -r` prints it.
    pub release: String,
    /// The package's version; empty for a kernel that is no package.
    pub version: String,
    /// Of the file that boots.
    pub sha256: String,
}

impl KernelKey {
    /// What tells two kernels of one name apart, for people.
    pub fn version_or_release(&self) -> &str {
        if self.version.is_empty() { &self.release } else { &self.version }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QemuKey {
    pub version: String,
}

/// How the guest's CPUs take turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Real concurrency: MTTCG or KVM.
    #[default]
    Parallel,
    /// Instructions are the clock and CPUs take turns: the cell decides every bit of what the guest says.
    Deterministic,
}

/// What the guest boots into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Image {
    /// An initramfs; seconds.
    Lite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    Tcg,
    Kvm,
}

/// How QEMU's threads execute the guest's CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Threads {
    /// One for each. KVM knows no other way.
    Multi,
    /// TCG's round robin: one for all, which take turns.
    Single,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parallel => "parallel",
            Self::Deterministic => "deterministic",
        })
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lite => "lite",
        })
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

/// Whether the guest counts what its steps reach in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    #[default]
    On,
    /// For races that the counting would disturb: nothing then proves that a step did what it is for.
    Off,
}

/// The machine of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub cpus: u32,
    pub memory_mib: u32,
    pub disks: Vec<Disk>,
    pub share: bool,
    pub kernel_args: Vec<String>,
    pub accel: Accel,
    pub threads: Threads,
    /// As QEMU's `-cpu` takes it.
    pub cpu_model: String,
    pub qemu: QemuKey,
}

/// What was asked for beside the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kernels: Vec<KernelKey>,
    pub image: Image,
    /// In place of the scenario's.
    pub protection: Option<Protection>,
    /// In place of those of the scenario's `uvsim`; each once. Of cells with emulated protection only.
    pub fixes: Option<Vec<Fix>>,
    pub schedule: Schedule,
    /// In place of the scenario's seeds.
    pub seed: Option<u64>,
    pub counting: Counting,
    pub accel: Accel,
    pub cpu_model: String,
    pub qemu: QemuKey,
}

/// The unit that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub id: CellId,
    pub scenario: Arc<Scenario>,
    pub kernel: KernelKey,
    pub image: Image,
    pub shape: Shape,
    pub protection: Protection,
    /// The default unless protection is emulated.
    pub uvsim: Knobs,
    pub schedule: Schedule,
    pub seed: u64,
    /// Off only where there is something to count.
    pub counting: Counting,
    /// The scenario's steps with this cell's values of the matrix, and only those of their `touches` that are counted.
    pub steps: Vec<Step>,
}

impl Cell {
    /// What tells this cell from the others of its scenario on a kernel, for people: `splice cpus=4 seed=3 fix=dio`.
    pub fn label(&self) -> String {
        let matrix = &self.scenario.matrix;
        let mut label = self.scenario.name.to_string();
        if matrix.cpus.len() > 1 {
            label += &format!(" cpus={}", self.shape.cpus);
        }
        if matrix.seeds.len() > 1 {
            label += &format!(" seed={}", self.seed);
        }
        if matrix.freeze_delay.len() > 1 {
            label += &format!(" freeze-delay={}us", self.uvsim.freeze_delay.as_micros());
        }
        for axis in &matrix.args {
            if let Some(value) =
                self.steps.iter().find(|s| s.name == axis.step).and_then(|s| s.action.arg(&axis.arg))
            {
                label += &format!(" {}.{}={value}", axis.step, axis.arg);
            }
        }
        if !self.uvsim.fix.is_empty() {
            let fixes: Vec<_> = self.uvsim.fix.iter().map(|fix| fix.word()).collect();
            label += &format!(" fix={}", fixes.join(","));
        }
        label
    }

    /// The same on another QEMU.
    pub fn on_qemu(self, qemu: QemuKey) -> Self {
        let shape = Shape { qemu, ..self.shape };
        ids::identify(Self { shape, ..self })
    }

    /// A step, counted from 1 as results do.
    pub fn step(&self, number: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The stress program of a step, counted from 1.
    pub fn program_of_step(&self, step: u32) -> Option<&str> {
        match &self.step(step)?.action {
            Action::Stress { program, .. } => Some(program),
            Action::Exec { .. } | Action::Write { .. } => None,
        }
    }

    /// What the job gives to a step. `index` counts from 0.
    pub fn step_seed(&self, index: usize) -> u64 {
        step_seed(self.seed, index)
    }
}

/// All cells, in the order kernel, CPUs, seed, options; the last changes fastest.
pub fn expand(scenario: &Arc<Scenario>, request: &Request) -> Vec<Cell> {
    let matrix = &scenario.matrix;
    let machine = &scenario.machine;
    let cpu_counts = if matrix.cpus.is_empty() { vec![machine.cpus] } else { matrix.cpus.clone() };
    let seeds = match request.seed {
        Some(seed) => vec![seed],
        None if matrix.seeds.is_empty() => vec![DEFAULT_SEED],
        None => matrix.seeds.clone(),
    };
    let variants = step_variants(scenario);
    let (protection, knobs) = emulation::of(scenario, request);
    let touches = scenario.steps.iter().any(|step| !step.touches.is_empty());
    let counting = if touches { request.counting } else { Counting::On };
    let mut cells = Vec::new();
    let kernels = request.kernels.iter();
    for (kernel, uvsim) in kernels.flat_map(|kernel| knobs.iter().map(move |knobs| (kernel, knobs))) {
        let facts = Facts { kernel_release: &kernel.release, protection, fixes: &uvsim.fix };
        for &cpus in &cpu_counts {
            for &seed in &seeds {
                for steps in &variants {
                    let shape = Shape {
                        cpus,
                        memory_mib: machine.memory_mib,
                        disks: machine.disks.clone(),
                        share: machine.share,
                        kernel_args: machine.kernel_args.clone(),
                        accel: request.accel,
                        threads: match request.schedule {
                            Schedule::Parallel => Threads::Multi,
                            Schedule::Deterministic => Threads::Single,
                        },
                        cpu_model: request.cpu_model.clone(),
                        qemu: request.qemu.clone(),
                    };
                    cells.push(ids::identify(Cell {
                        id: CellId::UNSET,
                        scenario: Arc::clone(scenario),
                        kernel: kernel.clone(),
                        image: request.image,
                        shape,
                        protection,
                        uvsim: uvsim.clone(),
                        schedule: request.schedule,
                        seed,
                        counting,
                        steps: steps.iter().map(|step| counted(step, facts, request.counting)).collect(),
                    }));
                }
            }
        }
    }
    cells
}

/// The steps once for each combination of the matrix's options.
fn step_variants(scenario: &Scenario) -> Vec<Vec<Step>> {
    let mut variants = vec![scenario.steps.clone()];
    for axis in &scenario.matrix.args {
        let with = |steps: &Vec<Step>, value: &ArgValue| {
            let mut steps = steps.clone();
            for step in steps.iter_mut().filter(|step| step.name == axis.step) {
                set(&mut step.action, &axis.arg, value);
            }
            steps
        };
        variants = variants
            .iter()
            .flat_map(|steps| axis.values.iter().map(move |value| with(steps, value)))
            .collect();
    }
    variants
}

/// The step with what is counted of it in a cell.
fn counted(step: &Step, facts: Facts<'_>, counting: Counting) -> Step {
    let mut step = step.clone();
    step.touches
        .retain(|touch| counting == Counting::On && touch.when.as_ref().is_none_or(|when| when.holds(facts)));
    step
}

/// Sets an option of a stress program; the options stay sorted by name.
fn set(action: &mut Action, name: &str, value: &ArgValue) {
    let Action::Stress { args, .. } = action else { return };
    match args.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
        Ok(index) => args[index].1 = value.clone(),
        Err(index) => args.insert(index, (name.to_owned(), value.clone())),
    }
}

#[cfg(test)]
mod tests;
