//! `farm repro HIT --gdb`: a hit's cell, halted where its kernel is about to complain, in gdb.

use std::fs;
use std::sync::Arc;

use camino::Utf8Path;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::HitCell;
use crate::cli::args::ReproArgs;
use crate::cli::environment::Environment;
use crate::cli::perform::{Lived, Planned, assign, live_all};
use crate::cli::provision::{Grounds, Guests};
use crate::cli::{output, scratch};
use crate::detect::{Hit, Site};
use crate::error::{ExitCode, Failure};
use crate::kernel::SharedSources;
use crate::machine::{DebuggerError, Target, find_gdb};
use crate::plan::{Accel, Cell};
use crate::runner::{Assignment, DebugError, FailFast, Inspection, Keepsakes, Source, Warmth};
use crate::scenario::Pattern;
use crate::store::{LifeFiles, RECORDING_FILE, ReproRecord, Started};
use crate::verdict::Verdict;

pub(super) fn debug(
    environment: &Environment,
    runtime: &Runtime,
    options: &ReproArgs,
) -> Result<ExitCode, Failure> {
    let hit = HitCell::find(environment, runtime, options)?;
    if hit.cell.shape.accel != Accel::Tcg {
        let message = "the hit is of a guest under KVM, whose gdb stub farm does not drive";
        return Err(Failure::new(ExitCode::Usage, message).hint("run its scenario with --accel tcg"));
    }
    if options.record && hit.cell.shape.cpus != 1 {
        let message = format!("the hit's guest has {} CPUs, and QEMU records one", hit.cell.shape.cpus);
        let hint =
            "leave out --record: under --schedule deterministic each life comes to the same moment again";
        return Err(Failure::new(ExitCode::Usage, message).hint(hint));
    }
    for difference in hit.differs() {
        output::note(&format!("not as it was: {difference}"));
    }
    let gdb = runtime.block_on(find_gdb()).map_err(DebugError::from)?;
    let record = hit.record();
    let HitCell { found, cell, grounds, .. } = hit;
    let complaint = &found.hit.judged.hit;
    let Assignment { cell, guest, .. } = assign(environment, &grounds, cell, &mut Guests::new())?;
    let guest = guest.map_err(Failure::from)?;
    let launcher = grounds.launcher.clone();
    let (source, complaint) = if options.record {
        recorded(environment, runtime, &grounds, record, &cell, guest.clone(), options.repeat)?
    } else if found.life.timings.start.is_resumed() && !options.cold {
        let guest = match &found.life.timings.start {
            Started::Resumed { guest } => guest.clone(),
            Started::Booted | Started::BootedInstead { .. } => None,
        };
        (Source::Resumed { guest }, complaint.clone())
    } else {
        (Source::Booted, complaint.clone())
    };
    let (halt, target) = aim(&complaint, &guest.sources);
    if target.vmlinux.is_none() {
        let name = &cell.kernel.name;
        output::note(&format!("gdb will show no functions: `farm kernel symbols {name}` fetches them"));
    }
    if halt.is_none() {
        let why = match complaint.site() {
            Site::Nowhere => "nothing in the kernel is executed when this happens",
            Site::Instruction(_) | Site::Function(_) => {
                "where the kernel reports this is not known without symbols"
            }
        };
        output::note(&format!("{why}: gdb gets the guest at its start; `continue`, and Ctrl-C"));
    }
    let (_scratch, directory) = scratch()?;
    let files = LifeFiles::at(directory);
    let inspection = Inspection {
        guest: &guest,
        cell: &cell,
        files: &files,
        launcher: &launcher,
        gdb,
        source,
        site: complaint.site(),
        halt,
        tries: options.repeat,
        target,
        arguments: &options.gdb_arguments,
    };
    runtime.block_on(async {
        let caught = |kind| signal(kind).map_err(|error| Failure::of(ExitCode::Fault, &error));
        let mut keys = caught(SignalKind::interrupt())?;
        let (mut term, mut hangup) = (caught(SignalKind::terminate())?, caught(SignalKind::hangup())?);
        output::note(&format!("the guest's console is in {}", files.path("console.log")));
        let halted = tokio::select! {
            halted = inspection.reach(output::note) => halted?,
            _ = keys.recv() => return Err(interrupted()),
            _ = term.recv() => return Err(interrupted()),
            _ = hangup.recv() => return Err(interrupted()),
        };
        // From here on Ctrl-C is for gdb, on whose terminal farm is.
        tokio::select! {
            ended = inspection.hand_over(halted) => ended.map_err(Failure::from),
            _ = term.recv() => Err(interrupted()),
            _ = hangup.recv() => Err(interrupted()),
        }
    })?;
    Ok(ExitCode::Passed)
}

fn interrupted() -> Failure {
    Failure::new(ExitCode::Interrupted, "interrupted")
}

/// Where the guest is to be halted, and what gdb is told of it.
fn aim(hit: &Hit, sources: &SharedSources) -> (Option<u64>, Target) {
    let mut sources = sources.lock();
    let halt = match hit.site() {
        Site::Instruction(address) => Some(address),
        Site::Function(name) => sources.address_of(name),
        Site::Nowhere => None,
    };
    // By its name gdb would set it behind the function's prologue, to which the guest still comes in this call.
    let breakpoint = halt.map(|address| format!("*{address:#x}"));
    let loaded = hit.loaded();
    let modules = loaded.iter().filter_map(|one| sources.module_at(&one.module, &one.function, one.start));
    let modules = modules.collect();
    let vmlinux = sources.vmlinux().map(Utf8Path::to_owned);
    (halt, Target { vmlinux, modules, breakpoint, ..Target::default() })
}

/// Lets the cell live, recorded, until the hit comes. A module may be elsewhere in the memory of this life, as the hit then tells.
fn recorded(
    environment: &Environment,
    runtime: &Runtime,
    grounds: &Grounds,
    record: ReproRecord,
    cell: &Arc<Cell>,
    guest: Arc<crate::runner::Guest>,
    repeat: u32,
) -> Result<(Source, Hit), Failure> {
    let fingerprint = record.fingerprint.clone();
    let scenarios = [Arc::clone(&cell.scenario)];
    let assignment = Assignment { cell: Arc::clone(cell), guest: Ok(guest), at_least: 1, recheck_of: None };
    let planned = Planned {
        jobs: Some(1),
        repeat,
        warmth: Warmth::Cold,
        fail_fast: FailFast::Hunted(vec![Pattern::Fingerprint(fingerprint.as_str().to_owned())]),
        repro: Some(record),
        keepsakes: Keepsakes { recording: true, ..Keepsakes::default() },
        ..Planned::new(&scenarios, vec![assignment])
    };
    let Lived { outcome, run } = live_all(environment, runtime, grounds, planned)?;
    if outcome? == ExitCode::Interrupted {
        return Err(Failure::new(ExitCode::Interrupted, "interrupted while the life was recorded"));
    }
    let run = run?;
    let shown = run.lives.iter().find_map(|life| {
        let hits = life.hits.iter().map(|stored| &stored.judged.hit);
        Some((life, hits.into_iter().find(|hit| hit.fingerprint == fingerprint)?))
    });
    let Some((life, hit)) = shown else {
        if let Some(failed) = run.lives.iter().find(|life| life.verdict == Verdict::Infra) {
            return Err(Failure::new(ExitCode::Infra, format!("a life was not recorded: {}", failed.reason)));
        }
        let message = format!("the hit did not come in {} recorded lives", run.lives.len());
        return Err(Failure::new(ExitCode::NoAnswer, message).hint(
            "--repeat N records more; a recording has a schedule of its own, which may not show a race",
        ));
    };
    let place = run.life_directory(&life.life);
    let job = fs::read(place.join("job.cpio")).map_err(|error| Failure::of(ExitCode::Infra, &error))?;
    Ok((Source::Recorded { recording: place.join(RECORDING_FILE), job }, hit.clone()))
}

impl From<DebugError> for Failure {
    fn from(error: DebugError) -> Self {
        match &error {
            DebugError::Debugger(DebuggerError::None) => {
                Failure::of(ExitCode::Infra, &error).hint("apt-get install gdb-multiarch")
            }
            DebugError::NotReached { .. } => Failure::of(ExitCode::NoAnswer, &error)
                .hint("--repeat N tries more lives; a module may be elsewhere in each life that boots: --record, or a hit of a saved guest or of --schedule deterministic, is not misled by that"),
            DebugError::Gdb(_) => Failure::of(ExitCode::Infra, &error)
                .hint("it says why above; with -batch it fails if its last command did"),
            _ => Failure::of(ExitCode::Infra, &error),
        }
    }
}
