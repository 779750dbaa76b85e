//! One cell as a scenario of its own, which makes that cell and no other.

use super::{Cell, DEFAULT_SEED, Request, Schedule, Threads};
use crate::scenario::{MachineSpec, Matrix, Scenario};

impl Cell {
    /// Its scenario with the cell's values, and without what only judges: `expect`, `known` and `hunts`.
    pub fn alone(&self) -> Scenario {
        let Self { scenario, shape, protection, uvsim, seed, steps, .. } = self;
        Scenario {
            hunts: Vec::new(),
            protection: *protection,
            uvsim: uvsim.clone(),
            machine: MachineSpec {
                cpus: shape.cpus,
                memory_mib: shape.memory_mib,
                disks: shape.disks.clone(),
                share: shape.share,
                kernel_args: shape.kernel_args.clone(),
            },
            steps: steps.clone(),
            expect: Vec::new(),
            known: Vec::new(),
            matrix: seeds(*seed),
            ..Scenario::clone(scenario)
        }
    }

    /// What, asked of its scenario alone, gives a cell under the same conditions.
    pub fn request(&self) -> Request {
        Request {
            kernels: vec![self.kernel.clone()],
            image: self.image,
            protection: None,
            fixes: None,
            schedule: self.schedule,
            seed: None,
            counting: self.counting,
            accel: self.shape.accel,
            cpu_model: self.shape.cpu_model.clone(),
            qemu: self.shape.qemu.clone(),
        }
    }

    /// Whether its CPUs take turns on one thread, though its schedule would let each have its own: no request asks for that.
    pub fn is_single_threaded(&self) -> bool {
        self.schedule == Schedule::Parallel && self.shape.threads == Threads::Single
    }
}

/// The matrix of one seed.
pub fn seeds(seed: u64) -> Matrix {
    let seeds = if seed == DEFAULT_SEED { Vec::new() } else { vec![seed] };
    Matrix { seeds, ..Matrix::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::plan::tests::{cells, request};
    use crate::plan::{Counting, Request, Schedule, expand};

    const YAML: &str = "
name: whole
purpose: p
hunts: [h]
protection: emulated
uvsim: {busy: 5}
heartbeat: 20s
machine: {disks: [{size: 64M}]}
steps:
  - {stress: splice, for: 1s, touches: [{function: a, count: 1}, {function: b, count: 1, when: kernel > 99.0}]}
matrix:
  cpus: [1, 2]
  seeds: [1, 9]
  freeze-delay: [0s, 5us]
  args: {splice: {mode: [all, file-file]}}
expect: [{title: t}]
";

    #[test]
    fn a_cell_alone_is_the_same_cell() {
        let uncounted = Request { counting: Counting::Off, ..request() };
        let turns = Request { schedule: Schedule::Deterministic, ..request() };
        for asked in [request(), uncounted, turns] {
            for cell in cells(YAML, &asked) {
                let alone = expand(&Arc::new(cell.alone()), &cell.request());
                assert_eq!(alone.len(), 1);
                assert_eq!(alone[0].id, cell.id, "{}", cell.label());
                assert_eq!(alone[0].steps, cell.steps);
            }
        }
    }
}
