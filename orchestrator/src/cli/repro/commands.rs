//! What to type so that a scenario's file lives under a hit's conditions.

use camino::Utf8Path;

use super::HitCell;
use crate::cli::args::{MachineArgs, ReproArgs};
use crate::cli::provision::{accel, cpu_model};
use crate::kernel::Origin;
use crate::machine::quote;
use crate::plan::{Counting, Schedule};
use crate::runner::Warmth;
use crate::store::KernelRecord;

impl HitCell {
    pub(super) fn run_command(&self, file: &Utf8Path, options: &ReproArgs) -> String {
        let mut words = vec!["farm run".to_owned(), quote(file.as_str())];
        words.extend(self.kernel_words());
        if self.cell.schedule == Schedule::Deterministic {
            words.push("--schedule deterministic".to_owned());
            if self.warmth(options.cold) == Warmth::Cold {
                words.push("--cold".to_owned());
            }
        }
        if self.cell.counting == Counting::Off {
            words.push("--uncounted".to_owned());
        }
        let Self { cell, grounds, .. } = self;
        let unasked = MachineArgs { qemu: None, accel: None, cpu: None };
        if accel(&unasked, &grounds.host, &grounds.qemu) != cell.shape.accel {
            words.push(format!("--accel {}", cell.shape.accel));
        }
        if cpu_model(&unasked, cell.shape.accel) != cell.shape.cpu_model {
            words.push(format!("--cpu {}", quote(&cell.shape.cpu_model)));
        }
        words.join(" ")
    }

    pub(super) fn shell_command(&self, file: &Utf8Path) -> String {
        let kernel = self.kernel_words().join(" ");
        format!("farm shell --scenario {} {kernel}", quote(file.as_str()))
    }

    fn kernel_words(&self) -> Vec<String> {
        let kernels = &self.found.run.record.kernels;
        let Some(KernelRecord { key, origin, boot, modules, vmlinux, headers }) =
            kernels.iter().find(|kernel| kernel.key == self.cell.kernel)
        else {
            return Vec::new();
        };
        if let Origin::Package { .. } = origin {
            return vec![format!("--kernel {}", quote(&key.name))];
        }
        let mut words = vec![format!("--kernel {}", quote(boot.as_str()))];
        for (option, path) in [("modules", modules), ("vmlinux", vmlinux), ("headers", headers)] {
            words.extend(path.as_ref().map(|path| format!("--{option} {}", quote(path.as_str()))));
        }
        words
    }
}
