//! `farm run`: from words on the command line to a run, and its report.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::{AccelArg, GuestArgs, ProtectionArg, RunArgs};
use super::environment::Environment;
use super::progress::Progress;
use super::provision::{self, Provision};
use super::results::RunView;
use super::scenarios::library;
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::machine::{Access, Host, Launcher, Preflight, Wanted, preflight};
use crate::plan::{Accel, Image, Protection, QemuKey, Request, Schedule, expand};
use crate::report;
use crate::runner::{
    self, Assignment, FailFast, Guest, GuestSize, Interrupt, Jobs, Limits, Options, RunError, SkipReason,
    default_jobs, host_record, host_size,
};
use crate::scenario::Scenario;
use crate::store::{Found, RunId, RunRecord};

pub(super) fn run(environment: &Environment, options: &RunArgs) -> Result<ExitCode, Failure> {
    let scenarios = load(&options.scenarios)?;
    let host = Host::of_this_machine().map_err(|error| Failure::of(ExitCode::Infra, &error))?;
    let runtime = runtime()?;
    let launcher = Launcher::this_program();

    let qemu = runtime.block_on(provision::qemu(environment, &options.guest, &launcher))?;
    let provision = Provision::new(environment, &options.guest)?;
    let accel = accel(&options.guest, &host);
    let request = Request {
        kernels: provision.keys(),
        image: Image::Lite,
        schedule: Schedule::Parallel,
        protection: match options.protection {
            ProtectionArg::None => Protection::None,
            ProtectionArg::Hardware => Protection::Hardware,
        },
        seed: options.seed,
        accel,
        cpu_model: cpu_model(&options.guest, accel),
        qemu: QemuKey { version: qemu.full_version() },
    };

    let mut assignments = Vec::new();
    let mut guests: BTreeMap<String, Arc<Guest>> = BTreeMap::new();
    for scenario in &scenarios {
        let wanted = Wanted { accel, protection: request.protection, needs: &scenario.needs };
        let lacks = match preflight(wanted, &host, &qemu) {
            Preflight::Run => None,
            Preflight::Skip { reasons } => Some(SkipReason(reasons.join("; "))),
        };
        for cell in expand(scenario, &request) {
            let guest = match &lacks {
                Some(reason) => Err(reason.clone()),
                None => {
                    provision.check_command_line(&cell)?;
                    Ok(provision.guest(environment, &cell.kernel, &qemu, &mut guests)?)
                }
            };
            assignments.push(Assignment { cell: Arc::new(cell), guest });
        }
    }

    let jobs = jobs(options, &assignments);
    let started = Timestamp::now();
    let record = RunRecord {
        id: RunId::new(started, std::process::id()),
        started,
        farm: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        host: host_record(),
        qemu: format!("QEMU {}", qemu.full_version()),
        qemu_path: qemu.binary.to_string(),
        scenarios: scenarios.iter().map(|s| s.name.to_string()).collect(),
        kernels: request.kernels.clone(),
        lives: u32::try_from(assignments.len()).unwrap_or(u32::MAX).saturating_mul(options.repeat),
        jobs: jobs.jobs,
    };
    let id = record.id.clone();
    let writer = environment.store.begin(&record)?;
    let run_options = Options {
        jobs,
        repeat: options.repeat,
        fail_fast: if options.fail_fast { FailFast::Yes } else { FailFast::No },
        limits: Limits::default(),
        launcher,
    };
    let mut progress = Progress::new();
    let exit = runtime.block_on(async {
        let interrupts = interrupts()?;
        runner::run(assignments, &run_options, writer, interrupts, |event| progress.show(event))
            .await
            .map_err(Failure::from)
    })?;

    if let Found::Run(run) = environment.store.find(id.as_str())? {
        environment.print(&report::run_text(&run), &RunView::new(&run))?;
    }
    Ok(exit)
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Record(_) => Failure::of(ExitCode::Infra, &error).hint(
                "free space, or name another place for results with --state DIR; what was recorded is kept",
            ),
            RunError::Panic(_) => Failure::of(ExitCode::Fault, &error).hint("this is a bug in farm"),
        }
    }
}

/// Loads all, or tells of all the problems in all the files.
fn load(names: &[String]) -> Result<Vec<Arc<Scenario>>, Failure> {
    let library = library()?;
    let mut scenarios = Vec::new();
    let mut failure = None;
    for name in names {
        match library.load(name) {
            Ok(scenario) => scenarios.push(Arc::new(scenario)),
            Err(error) => {
                if let Some(earlier) = failure.replace(Failure::from(error)) {
                    output::failure(&earlier);
                }
            }
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(scenarios),
    }
}

pub(super) fn accel(options: &GuestArgs, host: &Host) -> Accel {
    match options.accel {
        Some(AccelArg::Tcg) => Accel::Tcg,
        Some(AccelArg::Kvm) => Accel::Kvm,
        None if host.architecture == "s390x" && host.kvm == Access::Usable => Accel::Kvm,
        None => Accel::Tcg,
    }
}

/// `max` under TCG: all that the translator can do; under KVM the host's own CPU.
pub(super) fn cpu_model(options: &GuestArgs, accel: Accel) -> String {
    let default = match accel {
        Accel::Tcg => "max",
        Accel::Kvm => "host",
    };
    options.cpu.clone().unwrap_or_else(|| default.to_owned())
}

fn jobs(options: &RunArgs, assignments: &[Assignment]) -> Jobs {
    if let Some(jobs) = options.jobs {
        return Jobs { jobs, why: "--jobs".to_owned() };
    }
    let cells = || assignments.iter().filter(|a| a.guest.is_ok()).map(|a| &a.cell.shape);
    let guest = GuestSize {
        cpus: cells().map(|shape| shape.cpus).max().unwrap_or(1),
        memory_mib: cells().map(|shape| shape.memory_mib).max().unwrap_or(0),
    };
    default_jobs(host_size(), guest)
}

/// SIGINT, SIGTERM and SIGHUP: the first stops nicely, the second at once.
fn interrupts() -> Result<mpsc::Receiver<Interrupt>, Failure> {
    let (send, receive) = mpsc::channel(2);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(|error| Failure::of(ExitCode::Fault, &error))?;
        let send = send.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // The run is over if nobody listens any more.
                let _ = send.send(Interrupt).await;
            }
        });
    }
    Ok(receive)
}
