//! `farm run`: from words on the command line to a run.

use std::sync::Arc;

use super::args::{ProtectionArg, RunArgs, ScheduleArg, UntilArg};
use super::bisect::Hunted;
use super::environment::Environment;
use super::perform::{Planned, assign_all, load, perform, warmth};
use super::provision::{Asked, Grounds, other_qemu};
use super::scenarios::library;
use super::{output, runtime};
use crate::error::{ExitCode, Failure};
use crate::machine::{Launcher, Qemu};
use crate::plan::{
    Accel, Choice, Counting, DEFAULT_SEED, Emulator, Protection, Request, Schedule, Setting, choose_settings,
};
use crate::runner::{Comparison, FailFast, Keepsakes, Rechecks, SearchRequest};
use crate::scenario::{Fix, Scenario};
use crate::store::{RecheckRecord, SearchAsked};

pub(super) fn run(environment: &Environment, options: &RunArgs) -> Result<ExitCode, Failure> {
    match run_cells(environment, options) {
        Err(mut failure) if options.git_bisect => {
            failure.exit = failure.exit.to_git();
            Err(failure)
        }
        outcome => outcome,
    }
}

fn run_cells(environment: &Environment, options: &RunArgs) -> Result<ExitCode, Failure> {
    let scenarios = load(&options.scenarios)?;
    let protection = options.protection.map(|protection| match protection {
        ProtectionArg::None => Protection::None,
        ProtectionArg::Emulated => Protection::Emulated,
        ProtectionArg::Hardware => Protection::Hardware,
    });
    let fixes: Vec<Fix> = options.fixes.iter().map(|fix| (*fix).into()).collect();
    if !fixes.is_empty() {
        can_be_fixed(&scenarios, protection)?;
    }
    let runtime = runtime()?;
    let schedule = match options.schedule {
        ScheduleArg::Parallel => Schedule::Parallel,
        ScheduleArg::Deterministic => Schedule::Deterministic,
    };
    let counting = if options.uncounted || options.until.is_some() { Counting::Off } else { Counting::On };
    let fixes = (!fixes.is_empty()).then_some(fixes);
    let asked = Asked { protection, fixes, schedule, seed: options.lives.seed, counting };
    let grounds = Grounds::new(environment, &runtime, &options.guest, asked)?;
    if schedule == Schedule::Deterministic {
        if options.recheck.is_some() {
            return Err(Failure::new(
                ExitCode::Usage,
                "--recheck asks how often a hit comes again; with a deterministic schedule it always does",
            )
            .hint("--check-exact shows whether it does"));
        }
        can_be_deterministic(&scenarios, &grounds.request)?;
    } else if options.check_exact {
        return Err(Failure::new(
            ExitCode::Usage,
            "--check-exact: lives of a parallel schedule are never the same",
        )
        .hint("add --schedule deterministic"));
    }

    let assignments = assign_all(environment, &grounds, &scenarios)?;

    let recheck = match options.recheck {
        None => None,
        Some(lives) => {
            let Grounds { request, qemu, launcher, .. } = &grounds;
            Some(runtime.block_on(recheck(environment, request, qemu, launcher, lives))?)
        }
    };
    let search = match &options.until {
        None => None,
        Some(UntilArg { text, until }) => {
            let asked = SearchAsked { until: text.clone(), seed: options.lives.seed.unwrap_or(DEFAULT_SEED) };
            Some(SearchRequest { asked, until: *until, catalog: library()?.catalog })
        }
    };
    let hunted = options.git_bisect.then(|| Hunted::of_words(&options.hunt));
    let planned = Planned {
        jobs: options.lives.jobs,
        // One life has nothing to be compared with.
        repeat: if options.check_exact { options.repeat.max(2) } else { options.repeat },
        fail_fast: match (&hunted, options.fail_fast) {
            // One hit says all.
            (Some(hunted), _) if hunted.is_known() => FailFast::Hunted(hunted.patterns.clone()),
            (_, true) => FailFast::Yes,
            (_, false) => FailFast::No,
        },
        git_bisect: hunted,
        comparison: if options.check_exact { Comparison::Exact } else { Comparison::No },
        warmth: warmth(options.lives.cold),
        recheck,
        search,
        keepsakes: Keepsakes { dump: options.dump.dump, ..Keepsakes::default() },
        ..Planned::new(&scenarios, assignments)
    };
    perform(environment, &runtime, grounds, planned)
}

/// There is nothing to fix where no module watches.
fn can_be_fixed(scenarios: &[Arc<Scenario>], asked: Option<Protection>) -> Result<(), Failure> {
    let protection = |scenario: &Scenario| asked.unwrap_or(scenario.protection);
    match scenarios.iter().find(|scenario| protection(scenario) != Protection::Emulated) {
        Some(scenario) => Err(Failure::new(
            ExitCode::Usage,
            format!("--fix goes with emulated protection, and {} runs without", scenario.name),
        )
        .hint("add --protection emulated")),
        None => Ok(()),
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
    if request.protection == Some(Protection::Hardware) {
        return Err(Failure::new(
            ExitCode::Usage,
            "a protected guest needs KVM, a deterministic schedule TCG",
        )
        .hint("--protection emulated needs no KVM"));
    }
    if let Some(scenario) = scenarios.iter().find(|scenario| scenario.machine.share) {
        return Err(Failure::new(
            ExitCode::Usage,
            format!(
                "scenario {} has a share, which answers when the host likes: no schedule with it repeats",
                scenario.name
            ),
        )
        .hint("read from a RAM disk of the guest's own instead (module brd, zram or loop), in a scenario without `share`"));
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
