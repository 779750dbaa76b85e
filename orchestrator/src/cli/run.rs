//! `farm run`: from words on the command line to a run, and its report.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::{ProtectionArg, RunArgs, ScheduleArg, UntilArg};
use super::environment::Environment;
use super::progress::Progress;
use super::provision::{Grounds, Guests, other_qemu};
use super::results::RunView;
use super::scenarios::library;
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::machine::{Launcher, Preflight, Qemu, Wanted, preflight};
use crate::plan::{
    Accel, Choice, Counting, DEFAULT_SEED, Emulator, Protection, Request, Schedule, Setting, choose_settings,
    expand,
};
use crate::report;
use crate::runner::{
    self, Assignment, Comparison, FailFast, GuestSize, Interrupt, Jobs, Limits, NoGuest, Options, Rechecks,
    RunError, SearchRequest, Warmth, default_jobs, host_record, host_size,
};
use crate::scenario::Scenario;
use crate::store::{RecheckRecord, RunId, RunRecord, SearchAsked};

pub(super) fn run(environment: &Environment, options: &RunArgs) -> Result<ExitCode, Failure> {
    let scenarios = load(&options.scenarios)?;
    let protection = match options.protection {
        ProtectionArg::None => Protection::None,
        ProtectionArg::Hardware => Protection::Hardware,
    };
    let runtime = runtime()?;
    let schedule = match options.schedule {
        ScheduleArg::Parallel => Schedule::Parallel,
        ScheduleArg::Deterministic => Schedule::Deterministic,
    };
    let grounds = Grounds::new(environment, &runtime, &options.guest, protection, schedule, options.seed)?;
    let Grounds { host, launcher, qemu, provision, request } = grounds;
    if schedule == Schedule::Deterministic {
        if options.recheck.is_some() {
            return Err(Failure::new(
                ExitCode::Usage,
                "--recheck asks how often a hit comes again; with a deterministic schedule it always does",
            )
            .hint("--check-exact shows whether it does"));
        }
        can_be_deterministic(&scenarios, &request)?;
    } else if options.check_exact {
        return Err(Failure::new(
            ExitCode::Usage,
            "--check-exact: lives of a parallel schedule are never the same",
        )
        .hint("add --schedule deterministic"));
    }
    let counting = if options.uncounted || options.until.is_some() { Counting::Off } else { Counting::On };
    let request = Request { counting, ..request };

    let mut assignments = Vec::new();
    let mut guests = Guests::new();
    let mut seen = HashSet::new();
    for scenario in &scenarios {
        let wanted = Wanted { accel: request.accel, protection, needs: &scenario.needs };
        let lacks = match preflight(wanted, &host, &qemu) {
            // A protected guest boots an image sealed for its host, and never quietly an open one instead.
            Preflight::Run if protection == Protection::Hardware => {
                Some("this farm cannot seal an image for the host's ultravisor yet".to_owned())
            }
            Preflight::Run => None,
            Preflight::Skip { reasons } => Some(reasons.join("; ")),
        };
        for cell in expand(scenario, &request) {
            // A scenario or kernel named twice is meant once; `--repeat` is for more.
            if !seen.insert(cell.id) {
                continue;
            }
            let guest = match &lacks {
                Some(reason) => Err(NoGuest::Skipped(reason.clone())),
                None => provision.guest(environment, &cell, &qemu, &mut guests)?,
            };
            assignments.push(Assignment { cell: Arc::new(cell), guest, recheck_of: None });
        }
    }

    let recheck = match options.recheck {
        None => None,
        Some(lives) => Some(runtime.block_on(recheck(environment, &request, &qemu, &launcher, lives))?),
    };
    let (recheck_record, rechecks) = recheck.unzip();
    let jobs = jobs(options, &assignments);
    // One life has nothing to be compared with.
    let repeat = if options.check_exact { options.repeat.max(2) } else { options.repeat };
    let search = match &options.until {
        None => None,
        Some(UntilArg { text, until }) => {
            let asked = SearchAsked { until: text.clone(), seed: options.seed.unwrap_or(DEFAULT_SEED) };
            Some(SearchRequest { asked, until: *until, catalog: library()?.catalog })
        }
    };
    let planned = u32::try_from(assignments.len()).unwrap_or(u32::MAX).saturating_mul(repeat);
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
        kernels: provision.records(),
        lives: if search.is_some() { 0 } else { planned },
        jobs: jobs.jobs,
        recheck: recheck_record,
        search: search.as_ref().map(|search| search.asked.clone()),
    };
    let writer = environment.store.begin(&record)?;
    let directory = writer.directory().to_owned();
    let run_options = Options {
        jobs,
        repeat,
        fail_fast: if options.fail_fast { FailFast::Yes } else { FailFast::No },
        rechecks,
        search,
        limits: Limits::default(),
        launcher,
        comparison: if options.check_exact { Comparison::Exact } else { Comparison::No },
        warmth: if options.cold { Warmth::Cold } else { Warmth::Warm },
    };
    let mut progress = Progress::new();
    let outcome = runtime.block_on(async {
        let interrupts = interrupts()?;
        let run = runner::run(&assignments, &run_options, writer, interrupts, |event| progress.show(event));
        run.await.map_err(Failure::from)
    });
    drop(progress);
    // What was recorded is reported, whatever else went wrong.
    match environment.store.read_run(&directory) {
        Ok(run) => environment.print(&report::run_text(&run), &RunView::new(&run))?,
        Err(error) => output::failure(&error.into()),
    }
    outcome
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
        match library.load_all(name) {
            Ok(found) => scenarios.extend(found.into_iter().map(Arc::new)),
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

/// What reaches a guest when the host likes is no part of its cell.
fn can_be_deterministic(scenarios: &[Arc<Scenario>], request: &Request) -> Result<(), Failure> {
    if request.accel != Accel::Tcg {
        return Err(Failure::new(
            ExitCode::Usage,
            "a deterministic schedule counts instructions, which KVM does not",
        )
        .hint("add --accel tcg"));
    }
    if request.protection != Protection::None {
        return Err(Failure::new(
            ExitCode::Usage,
            "a protected guest needs KVM, a deterministic schedule TCG",
        ));
    }
    match scenarios.iter().find(|scenario| !scenario.machine.disks.is_empty()) {
        Some(scenario) => Err(Failure::new(
            ExitCode::Usage,
            format!("scenario {} has a disk, which answers when the host likes: no schedule with it repeats", scenario.name),
        )
        .hint("work on a tmpfs, or on a RAM disk of the guest's own (module brd, zram or loop), in a scenario without `disks`")),
        None => Ok(()),
    }
}

/// Under which settings new hits are rechecked, for the record and for the runner.
async fn recheck(
    environment: &Environment,
    request: &Request,
    qemu: &Qemu,
    launcher: &Launcher,
    lives: u32,
) -> Result<(RecheckRecord, Rechecks), Failure> {
    let other = match request.accel {
        Accel::Tcg => other_qemu(environment, qemu, launcher).await?,
        Accel::Kvm => Err(Vec::new()),
    };
    let emulator = Emulator { cpu_model: request.cpu_model.clone(), qemu: qemu.full_version() };
    let other_version = other.as_ref().ok().map(Qemu::full_version);
    let Choice { settings, mut left_out } =
        choose_settings(request.accel, &emulator, other_version.as_deref());
    let other = match other {
        Ok(other) => Some(other),
        Err(unusable) => {
            left_out.extend(unusable.iter().map(ToString::to_string));
            None
        }
    };
    for why in &left_out {
        output::note(&format!("recheck: {why}"));
    }
    let with_qemu = |setting: &Setting| match (setting, &other) {
        (Setting::Qemu { .. }, Some(other)) => (setting.clone(), other.clone()),
        _ => (setting.clone(), qemu.clone()),
    };
    let rechecks = Rechecks { lives, settings: settings.iter().map(with_qemu).collect() };
    Ok((RecheckRecord { lives, emulator, settings, left_out }, rechecks))
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
