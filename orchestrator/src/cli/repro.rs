//! `farm repro`: a hit's exact cell once more, as often as is asked for.

use std::fs;
use std::sync::Arc;

use super::args::{AccelArg, MachineArgs, ReproArgs};
use super::environment::Environment;
use super::perform::{Planned, assign, perform, warmth};
use super::provision::{Asked, Grounds, Guests, kernel_again};
use super::results::found_hit;
use super::runtime;
use crate::error::{ExitCode, Failure};
use crate::kernel::sha256_hex;
use crate::plan::{Accel, QemuKey};
use crate::runner::FailFast;
use crate::scenario::Action;
use crate::store::{FoundHit, ReproRecord, StoredHit, read_cell};

pub(super) fn repro(environment: &Environment, options: &ReproArgs) -> Result<ExitCode, Failure> {
    let FoundHit { run, life, hit: StoredHit { id, judged, .. } } = found_hit(environment, &options.hit)?;
    let cell = read_cell(&run.directory, &life.life)?;
    let recorded = run.record.kernels.iter().find(|kernel| kernel.key == cell.kernel);
    let recorded = recorded.ok_or_else(|| {
        Failure::new(ExitCode::Infra, format!("run {} has no record of {}", run.record.id, cell.kernel.name))
    })?;
    let runtime = runtime()?;
    let kernels = || Ok(vec![kernel_again(environment, recorded)?]);
    let machine = MachineArgs {
        qemu: options.qemu.clone(),
        accel: Some(match cell.shape.accel {
            Accel::Tcg => AccelArg::Tcg,
            Accel::Kvm => AccelArg::Kvm,
        }),
        cpu: Some(cell.shape.cpu_model.clone()),
    };
    let grounds = Grounds::with_kernels(environment, &runtime, &machine, Asked::default(), kernels)?;
    let now = QemuKey { version: grounds.qemu.full_version() };
    let mut differs = Vec::new();
    if cell.shape.qemu != now {
        differs.push(format!("QEMU is {}, and was {}", now.version, cell.shape.qemu.version));
    }
    for step in &cell.steps {
        if let Action::Exec { path, sha256, .. } = &step.action
            && fs::read(path).map(|program| sha256_hex(&program)).ok().as_ref() != Some(sha256)
        {
            differs.push(format!("{path} is another program than it was, or gone"));
        }
    }
    let cell = cell.on_qemu(now);
    let scenarios = [Arc::clone(&cell.scenario)];
    let assignment = assign(environment, &grounds, cell, &mut Guests::new())?;
    let record = ReproRecord {
        hit: id.to_string(),
        run: run.record.id.clone(),
        life: life.life,
        fingerprint: judged.hit.fingerprint.clone(),
        title: judged.hit.title.clone(),
        differs,
    };
    let planned = Planned {
        jobs: options.jobs,
        repeat: options.repeat,
        warmth: warmth(options.cold),
        fail_fast: FailFast::No,
        repro: Some(record),
        ..Planned::new(&scenarios, vec![assignment])
    };
    perform(environment, &runtime, grounds, planned)
}
