//! `farm repro`: a hit's exact cell once more, as often as is asked for.

mod bundle;
mod commands;
mod debugger;
mod minimise;

use std::fs;
use std::sync::Arc;

use tokio::runtime::Runtime;

pub(super) use bundle::refuse_of_bundle;

use crate::cli::args::{AccelArg, MachineArgs, ReproArgs};
use crate::cli::environment::Environment;
use crate::cli::perform::{Planned, assign, perform, warmth};
use crate::cli::provision::{Asked, Grounds, Guests, kernel_again};
use crate::cli::results::found_hit;
use crate::cli::shell::hand_over;
use crate::cli::{output, runtime};
use crate::detect::{Hit, Site};
use crate::error::{ExitCode, Failure};
use crate::escape::escape;
use crate::kernel::sha256_hex;
use crate::plan::{Accel, Cell, QemuKey, Schedule};
use crate::report::command_lines;
use crate::runner::{Assignment, FailFast, Guest, Keepsakes, Warmth};
use crate::scenario::{Action, Step};
use crate::store::{FoundHit, ReproRecord, StoredHit, read_cell};

pub(super) fn repro(environment: &Environment, options: &ReproArgs) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    if bundle::is_file(&options.hit) {
        return bundle::live(environment, &runtime, options);
    }
    if let Some(file) = &options.bundle {
        return bundle::make(environment, &runtime, options, file);
    }
    if options.shell {
        return in_shell(environment, runtime, options);
    }
    if options.gdb {
        return debugger::debug(environment, &runtime, options);
    }
    if let Some(file) = &options.minimise {
        return minimise::minimise(environment, &runtime, options, file.as_deref());
    }
    again(environment, &runtime, options)
}

/// The machine that a cell asks for, on the QEMU that the user asks for.
fn machine_of(cell: &Cell, options: &ReproArgs) -> MachineArgs {
    MachineArgs {
        qemu: options.qemu.clone(),
        accel: Some(match cell.shape.accel {
            Accel::Tcg => AccelArg::Tcg,
            Accel::Kvm => AccelArg::Kvm,
        }),
        cpu: Some(cell.shape.cpu_model.clone()),
    }
}

/// A hit's cell, ready to live again.
struct HitCell {
    found: FoundHit,
    /// On this host's QEMU.
    cell: Cell,
    grounds: Grounds,
    /// What is not as it was, for people.
    other_qemu: Option<String>,
    other_programs: Vec<String>,
}

impl HitCell {
    fn find(environment: &Environment, runtime: &Runtime, options: &ReproArgs) -> Result<Self, Failure> {
        let found = found_hit(environment, &options.hit)?;
        refuse_of_bundle(&found)?;
        let FoundHit { run, life, .. } = &found;
        let cell = read_cell(&run.directory, &life.life)?;
        let recorded = run.record.kernels.iter().find(|kernel| kernel.key == cell.kernel);
        let recorded = recorded.ok_or_else(|| {
            let message = format!("run {} has no record of {}", run.record.id, cell.kernel.name);
            Failure::new(ExitCode::Infra, message)
        })?;
        let kernels = || Ok(vec![kernel_again(environment, recorded)?]);
        let machine = machine_of(&cell, options);
        let grounds = Grounds::with_kernels(environment, runtime, &machine, Asked::default(), kernels)?;
        let now = QemuKey { version: grounds.qemu.full_version() };
        let (other_qemu, other_programs) = (other_qemu(&cell, &now), other_programs(&cell));
        Ok(Self { cell: cell.on_qemu(now), found, grounds, other_qemu, other_programs })
    }

    fn differs(&self) -> Vec<String> {
        self.other_qemu.iter().chain(&self.other_programs).cloned().collect()
    }

    /// A guest that boots takes other turns than a copy of a saved one, so that under a deterministic schedule only what came to
    /// its job as the hit's guest did shows it again.
    fn warmth(&self, cold: bool) -> Warmth {
        let is_as_it_was =
            self.cell.schedule == Schedule::Parallel || self.found.life.timings.start.is_resumed();
        warmth(cold || !is_as_it_was)
    }

    fn record(&self) -> ReproRecord {
        let FoundHit { run, life, hit: StoredHit { id, judged, .. } } = &self.found;
        ReproRecord {
            hit: id.to_string(),
            run: run.record.id.clone(),
            life: life.life,
            fingerprint: judged.hit.fingerprint.clone(),
            title: judged.hit.title.clone(),
            differs: self.differs(),
            start: (self.cell.schedule == Schedule::Deterministic).then(|| life.timings.start.clone()),
            bundle: None,
        }
    }
}

/// What is to be said where the cell lived on another QEMU.
fn other_qemu(cell: &Cell, now: &QemuKey) -> Option<String> {
    let was = &cell.shape.qemu;
    (was != now).then(|| format!("QEMU is {}, and was {}", now.version, was.version))
}

/// The same for programs of the user's.
fn other_programs(cell: &Cell) -> Vec<String> {
    let other = |step: &Step| {
        let Action::Exec { path, sha256, .. } = &step.action else { return None };
        let now = fs::read(path).map(|program| sha256_hex(&program)).ok();
        (now.as_ref() != Some(sha256)).then(|| format!("{path} is another program than it was, or gone"))
    };
    cell.steps.iter().filter_map(other).collect()
}

/// A dump of a complaint is worth most of the moment when the kernel is about to make it: the stack is still that of what went wrong.
/// Under KVM a breakpoint is written into memory, where a module is not yet when the guest begins.
fn keepsakes(hit: &Hit, guest: &Guest, accel: Accel, dump: bool) -> Keepsakes {
    let address = match hit.site() {
        Site::Instruction(address) => Some(address),
        Site::Function(name) => guest.sources.lock().address_of(name),
        Site::Nowhere => None,
    };
    let dump_at = address.filter(|_| dump && accel == Accel::Tcg).into_iter().collect();
    Keepsakes { dump, dump_at, ..Keepsakes::default() }
}

/// The guest, before anything was done in it.
fn in_shell(environment: &Environment, runtime: Runtime, options: &ReproArgs) -> Result<ExitCode, Failure> {
    let hit = HitCell::find(environment, &runtime, options)?;
    for difference in hit.differs() {
        output::note(&format!("not as it was: {difference}"));
    }
    let HitCell { cell, grounds, .. } = hit;
    let launcher = grounds.launcher.clone();
    let Assignment { cell, guest, .. } = assign(environment, &grounds, cell, &mut Guests::new())?;
    let guest = guest.map_err(Failure::from)?;
    let job = guest.job_of(&cell).map_err(|error| Failure::of(ExitCode::Infra, &error))?;
    output::note("what its life does, to be typed:");
    for line in command_lines(&job) {
        output::note(&format!("  {}", escape(line.as_bytes())));
    }
    hand_over(runtime, &guest, &cell, &launcher)
}

/// How often does it come again?
fn again(environment: &Environment, runtime: &Runtime, options: &ReproArgs) -> Result<ExitCode, Failure> {
    let hit = HitCell::find(environment, runtime, options)?;
    // What boots has its modules elsewhere than a copy of a saved guest, and the dump is made at an address.
    let is_elsewhere = options.dump.dump && !hit.found.life.timings.start.is_resumed();
    let (record, warmth) = (hit.record(), hit.warmth(options.cold || is_elsewhere));
    let (scenarios, shape) = ([Arc::clone(&hit.cell.scenario)], hit.cell.shape.clone());
    let assignment = assign(environment, &hit.grounds, hit.cell, &mut Guests::new())?;
    let complaint = &hit.found.hit.judged.hit;
    let keepsakes = match &assignment.guest {
        Ok(guest) => keepsakes(complaint, guest, shape.accel, options.dump.dump),
        Err(_) => Keepsakes::default(),
    };
    let planned = Planned {
        jobs: options.jobs,
        repeat: options.repeat,
        warmth,
        fail_fast: FailFast::No,
        repro: Some(record),
        keepsakes,
        ..Planned::new(&scenarios, vec![assignment])
    };
    perform(environment, runtime, hit.grounds, planned)
}
