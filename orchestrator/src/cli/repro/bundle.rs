//! `farm repro HIT --bundle FILE` and `farm repro FILE`: a hit that travels.

use std::fs;
use std::sync::Arc;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{HitCell, machine_of, other_qemu};
use crate::bundle::{
    BundleError, BundledHit, CELL, COMMAND_LINE, CONFIG, Console, DiskData, Exact, FORMAT, HIT, IMAGE, JOB,
    KERNEL, Manifest, Part, README, REPORT, RUN, Script, Sign, Stop, Tried, Unpacked, VMLINUX, disk_data,
    limits_of, pack, readme, run_script, unpack,
};
use crate::cli::args::ReproArgs;
use crate::cli::environment::{Environment, absolute};
use crate::cli::perform::{Lived, Planned, assign, assign_to, interrupts, live_all, perform};
use crate::cli::provision::{Grounds, Guests};
use crate::cli::{output, scratch};
use crate::error::{ExitCode, Failure, is_full_disk};
use crate::guest::{LiteImage, disk_template, fresh_disk, share_command, take_apart};
use crate::kernel::{DebugFiles, Kernel, SharedSources, sha256_hex};
use crate::machine::{kernel_line, quote, unattended_options};
use crate::plan::{Cell, QemuKey, Schedule};
use crate::repro::again;
use crate::runner::{Assignment, Brought, Comparison, FailFast, Guest, Limits, STEP_SLACK, Warmth};
use crate::store::{FoundHit, ReproRecord, StoredHit, StoredRun};
use crate::verdict::Ending;

const ENDING: &str = ".tar.zst";
/// Guests that boot while a bundle is made: enough to see that the hit comes at all.
const TRIES: u32 = 3;
/// Of a cell whose lives are all the same: enough to see that they are.
const EXACT_TRIES: u32 = 2;

/// Whether an argument is a bundle's file, and no hit's id.
pub(super) fn is_file(word: &str) -> bool {
    word.contains('/') || word.ends_with(ENDING)
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        match &error {
            BundleError::Write { .. } if is_full_disk(&error) => Failure::of(ExitCode::Infra, &error)
                .hint("free space, or name another place with --state DIR"),
            BundleError::Write { .. } => Failure::of(ExitCode::Infra, &error),
            BundleError::Stopped => Failure::of(ExitCode::Interrupted, &error),
            BundleError::NoSign { .. } | BundleError::Read { .. } | BundleError::Refused { .. } => {
                Failure::of(ExitCode::Usage, &error)
            }
        }
    }
}

/// Refuses a hit whose kernel and image were a bundle's.
pub(in crate::cli) fn refuse_of_bundle(found: &FoundHit) -> Result<(), Failure> {
    let Some(file) = found.run.record.repro.as_ref().and_then(|repro| repro.bundle.as_ref()) else {
        return Ok(());
    };
    let id = &found.hit.id;
    let message = format!("hit {id} was found in the guests of a bundle, of which nothing is kept");
    let hint = format!("run that again: farm repro {}", quote(file.as_str()));
    Err(Failure::new(ExitCode::Usage, message).hint(hint))
}

/// Refuses what farm does with a hit of its own only.
fn check_options(options: &ReproArgs) -> Result<(), Failure> {
    let bundle = &options.hit;
    let refused = |message: String| Failure::new(ExitCode::Usage, message);
    if options.bundle.is_some() {
        return Err(refused(format!("{bundle} is a bundle already")));
    }
    if options.gdb {
        let hint = format!("unpack it (tar --zstd -xf {}), and in it: ./run.sh --gdb", quote(bundle));
        return Err(refused(format!("--gdb takes a hit, and {bundle} is a bundle")).hint(hint));
    }
    let others = [
        ("--shell", options.shell),
        ("--minimise", options.minimise.is_some()),
        ("--dump", options.dump.dump),
    ];
    match others.iter().find(|(_, is_asked)| *is_asked) {
        Some((option, _)) => Err(refused(format!("{option} takes a hit, and {bundle} is a bundle"))),
        None => Ok(()),
    }
}

/// Runs the cell of a bundle from the bundle's own kernel and image. Guests boot: a stranger's are not saved in the cache.
pub(super) fn live(
    environment: &Environment,
    runtime: &Runtime,
    options: &ReproArgs,
) -> Result<ExitCode, Failure> {
    check_options(options)?;
    let unpacked = unpack(Utf8Path::new(&options.hit), &environment.state_dir)?;
    let Unpacked { manifest, cell, hit, .. } = &unpacked;
    let kernel = Kernel::brought(&unpacked.path(KERNEL), cell.kernel.clone())
        .map_err(|error| Failure::of(ExitCode::Usage, &error))?;
    kernel.check_command_line(&kernel_line(&cell.shape.kernel_args))?;
    let machine = machine_of(cell, options);
    let grounds = Grounds::with_brought(environment, runtime, &machine, kernel.clone())?;
    let now = QemuKey { version: grounds.qemu.full_version() };
    let differs = other_qemu(cell, &now).into_iter().collect();
    let image = manifest.file(IMAGE).map(|file| file.sha256.clone()).unwrap_or_default();
    let job = unpacked.path(JOB);
    let job = fs::read(&job).map_err(|source| BundleError::Read { path: job, source })?;
    let disks = manifest
        .disks
        .iter()
        .map(|DiskData { disk, extents }| (*disk, unpacked.path(&disk_data(*disk)), extents.clone()));
    let guest = Guest {
        image: LiteImage {
            path: unpacked.path(IMAGE),
            sha256: image,
            kernel: kernel.key.release.clone(),
            modules: Default::default(),
        },
        qemu: grounds.qemu.clone(),
        // A stranger's debug information is not read.
        sources: SharedSources::new(DebugFiles { vmlinux: None, modules: None }),
        cache: environment.cache.clone(),
        brought: Some(Brought { job, disks: disks.collect() }),
        kernel,
    };
    let record = ReproRecord {
        hit: hit.id.to_string(),
        run: hit.run.clone(),
        life: hit.life,
        fingerprint: hit.fingerprint.clone(),
        title: hit.title.clone(),
        differs,
        start: None,
        bundle: Some(absolute(Utf8Path::new(&options.hit))?),
    };
    let scenarios = [Arc::clone(&cell.scenario)];
    let assignment = assign_to(&grounds, cell.clone().on_qemu(now), guest);
    let planned = Planned {
        jobs: options.jobs,
        repeat: options.repeat,
        warmth: Warmth::Cold,
        fail_fast: FailFast::No,
        repro: Some(record),
        ..Planned::new(&scenarios, vec![assignment])
    };
    perform(environment, runtime, grounds, planned)
}

/// Writes a hit's bundle. Exits with 107 if the hit did not come in the guests that were to show it.
pub(super) fn make(
    environment: &Environment,
    runtime: &Runtime,
    options: &ReproArgs,
    to: &Utf8Path,
) -> Result<ExitCode, Failure> {
    if !to.as_str().ends_with(ENDING) {
        return Err(Failure::new(
            ExitCode::Usage,
            format!("{to} does not end in {ENDING}, as a bundle does"),
        ));
    }
    let hit = HitCell::find(environment, runtime, options)?;
    let sign = Sign::of(&hit.found.hit.judged.hit)?;
    // The user's own programs are in the job, as they were.
    let mut differs: Vec<String> = hit.other_qemu.iter().cloned().collect();
    let record = ReproRecord { differs: differs.clone(), ..hit.record() };
    let job = hit.found.run.life_directory(&hit.found.life.life).join(JOB);
    let job = fs::read(&job).map_err(|source| {
        let error = BundleError::Read { path: job, source };
        Failure::from(error)
            .hint("the job of a hit is in its life's directory; without it there is no bundle")
    })?;
    let HitCell { found, cell, grounds, .. } = hit;
    let assignment = assign(environment, &grounds, cell, &mut Guests::new())?;
    let guest = match &assignment.guest {
        Ok(guest) => Guest { brought: Some(Brought { job, disks: Vec::new() }), ..(**guest).clone() },
        Err(lacking) => return Err(lacking.clone().into()),
    };
    if guest.image.sha256 != found.life.image_sha256 {
        differs.push("the image is another, made by another farm or compiler".to_owned());
    }
    let vmlinux = options.with_vmlinux.then(|| vmlinux_of(&guest.kernel)).transpose()?;
    let cell = (*assignment.cell).clone();
    let kept = Kept { cell, hit: found.hit.clone(), record: record.clone(), guest, vmlinux };
    let tried = if options.unchecked {
        None
    } else {
        let guest = Ok(Arc::new(kept.guest.clone()));
        Some(try_it(environment, runtime, grounds, Assignment { guest, ..assignment }, record, options.jobs)?)
    };
    let lives = tried.as_ref().and_then(again).map(|again| Tried {
        lives: again.same + again.other + again.clean + again.silent,
        same: again.same,
    });
    let console = tried.as_ref().map(expected_console).transpose()?.flatten();
    until_interrupted(runtime, |stop| write(&kept, &sign, lives, console.as_ref(), &differs, (to, stop)))?;

    let Tried { lives: of, same } = lives.unwrap_or(Tried { lives: 0, same: 0 });
    let said = match lives {
        None => "not tried".to_owned(),
        Some(_) => format!("the hit came in {same} of {of} guests that booted"),
    };
    let text = format!("{to}: {said}\n");
    let view = serde_json::json!({ "bundle": to, "tried": lives, "console": console, "differs": differs });
    environment.print(&text, &view)?;
    for difference in &differs {
        output::note(&format!("not as it was: {difference}"));
    }
    if let Some(run) = tried.as_ref().filter(|_| same > 0) {
        check_sign(run, &kept, &sign)?;
    }
    if lives.is_some() && same == 0 {
        output::note("the bundle is written, and does not show the hit at once; its README says so");
        return Ok(ExitCode::NoAnswer);
    }
    Ok(ExitCode::Passed)
}

/// What a bundle is made of.
struct Kept {
    cell: Cell,
    hit: StoredHit,
    record: ReproRecord,
    guest: Guest,
    /// If it is to be in the bundle.
    vmlinux: Option<Utf8PathBuf>,
}

fn vmlinux_of(kernel: &Kernel) -> Result<Utf8PathBuf, Failure> {
    kernel.vmlinux.clone().ok_or_else(|| {
        let message = format!("there is no vmlinux of {}", kernel.key.name);
        Failure::new(ExitCode::Usage, message)
            .hint("`farm kernel symbols` fetches that of a distribution's kernel")
    })
}

/// Lets guests boot with the very job.
fn try_it(
    environment: &Environment,
    runtime: &Runtime,
    grounds: Grounds,
    assignment: Assignment,
    record: ReproRecord,
    jobs: Option<u32>,
) -> Result<StoredRun, Failure> {
    let scenarios = [Arc::clone(&assignment.cell.scenario)];
    let (repeat, comparison) = match assignment.cell.schedule {
        Schedule::Parallel => (TRIES, Comparison::No),
        Schedule::Deterministic => (EXACT_TRIES, Comparison::Exact),
    };
    let planned = Planned {
        jobs,
        repeat,
        comparison,
        warmth: Warmth::Cold,
        repro: Some(record),
        ..Planned::new(&scenarios, vec![assignment])
    };
    let Lived { outcome, run } = live_all(environment, runtime, &grounds, planned)?;
    match outcome? {
        exit @ (ExitCode::Interrupted | ExitCode::Fault) => Err(Failure::new(
            exit,
            "no bundle was written: the guests that were to show the hit were stopped",
        )),
        ExitCode::Infra => {
            let message =
                format!("no bundle was written: the guests in {} had trouble of the host's", run?.directory);
            Err(Failure::new(ExitCode::Infra, message).hint("--unchecked writes it without them"))
        }
        _ => Ok(run?),
    }
}

/// What the console of each life is to be, or begin with; none if lives are not to be the same, or were not.
fn expected_console(run: &StoredRun) -> Result<Option<Console>, Failure> {
    let exact = run.summary.as_ref().and_then(|summary| summary.exact.as_ref());
    let Some(exact) = exact else { return Ok(None) };
    if exact.different > 0 || exact.cells == 0 {
        output::note(
            "the guests that booted were not the same to the byte, so that run.sh cannot compare its console",
        );
        return Ok(None);
    }
    // The longest tells most.
    let whole = |ending: &Ending| matches!(ending, Ending::PoweredOff | Ending::Panicked | Ending::Reset);
    let lives = run.lives.iter().filter(|life| life.streams.dropped_bytes == 0);
    let Some(life) = lives.max_by_key(|life| (whole(&life.ending), life.streams.console_bytes)) else {
        return Ok(None);
    };
    let path = run.life_directory(&life.life).join("console.log");
    let log = fs::read(&path).map_err(|source| BundleError::Read { path, source })?;
    Ok(Some(Console { bytes: log.len() as u64, sha256: sha256_hex(&log), whole: whole(&life.ending) }))
}

/// Does what takes long and waits for nothing, and tells it of an interrupt.
fn until_interrupted<T>(
    runtime: &Runtime,
    work: impl FnOnce(&Stop) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let stop = Stop::default();
    let (working, over) = oneshot::channel::<()>();
    let mut interrupts = {
        let _in_runtime = runtime.enter();
        interrupts()?
    };
    let listen = async {
        tokio::select! {
            _ = interrupts.recv() => stop.set(),
            _ = over => {}
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(listen));
        let worked = work(&stop);
        drop(working);
        worked
    })
}

/// Says so if `run.sh` would not have known the hit where farm did.
fn check_sign(run: &StoredRun, kept: &Kept, sign: &Sign) -> Result<(), Failure> {
    if matches!(sign, Sign::Silence | Sign::SilentPanic) {
        return Ok(());
    }
    let fingerprint = &kept.record.fingerprint;
    let seen = run
        .lives
        .iter()
        .filter(|life| life.hits.iter().any(|hit| hit.judged.hit.fingerprint == *fingerprint));
    for life in seen {
        let directory = run.life_directory(&life.life);
        let has = |stream: &str| {
            let path = directory.join(stream);
            let log = fs::read(&path).map_err(|source| BundleError::Read { path, source })?;
            Ok::<bool, Failure>(sign.is_in(&log))
        };
        if !(has("console.log")? || has("kmsg.log")? || has("results.log")?) {
            output::note(&format!("run.sh would not have known the hit in {directory}, where farm does"));
        }
    }
    Ok(())
}

fn write(
    kept: &Kept,
    sign: &Sign,
    tried: Option<Tried>,
    console: Option<&Console>,
    differs: &[String],
    (to, stop): (&Utf8Path, &Stop),
) -> Result<(), Failure> {
    let Kept { cell, hit, record, guest, vmlinux } = kept;
    let judged = &hit.judged.hit;
    let fault = |error: &dyn std::error::Error| Failure::new(ExitCode::Fault, error.to_string());
    let json = |value: serde_json::Result<Vec<u8>>| {
        value.map(|mut text| {
            text.push(b'\n');
            text
        })
    };
    let image = fs::metadata(&guest.image.path)
        .map_err(|source| BundleError::Read { path: guest.image.path.clone(), source })?;
    if image.len() % 4 != 0 {
        return Err(Failure::new(
            ExitCode::Fault,
            format!("{} does not end at a multiple of 4", guest.image.path),
        ));
    }
    let exact = match (cell.schedule, console) {
        (Schedule::Parallel, _) => Exact::No,
        (Schedule::Deterministic, None) => Exact::Unknown,
        (Schedule::Deterministic, Some(console)) => Exact::Known(console),
    };
    let spec = guest.unattended(cell, Utf8Path::new("../../").join(KERNEL).as_path());
    let (disks, disk_parts, mut preparation) = disks(guest, cell)?;
    preparation.extend(spec.share.as_deref().map(share_command));
    let unattended = unattended_options(&spec).map_err(|error| fault(&error))?;
    let script = run_script(&Script {
        title: &judged.title,
        sign,
        options: &unattended,
        preparation: &preparation,
        qemu: &guest.qemu.full_version(),
        limits: limits_of(cell, Limits::default().boot_of(cell), STEP_SLACK),
        exact,
    });
    let bundled = BundledHit {
        id: hit.id.clone(),
        run: record.run.clone(),
        life: record.life,
        kind: judged.kind,
        title: judged.title.clone(),
        fingerprint: judged.fingerprint.clone(),
        report: judged.text.clone(),
    };
    let mut parts = vec![
        Part::bytes(CELL, json(serde_json::to_vec_pretty(cell)).map_err(|error| fault(&error))?),
        Part::bytes(COMMAND_LINE, kernel_line(&cell.shape.kernel_args) + "\n"),
        Part::bytes(HIT, json(serde_json::to_vec_pretty(&bundled)).map_err(|error| fault(&error))?),
        Part::file(IMAGE, &guest.image.path),
        Part::bytes(JOB, guest.brought.as_ref().map(|brought| brought.job.clone()).unwrap_or_default()),
        Part::file(KERNEL, &guest.kernel.boot),
        Part::bytes(REPORT, judged.text.clone() + "\n"),
        Part::bytes(RUN, script),
    ];
    parts.extend(guest.kernel.config.as_ref().map(|config| Part::file(CONFIG, config)));
    parts.extend(vmlinux.as_ref().map(|vmlinux| Part::file(VMLINUX, vmlinux)));
    parts.extend(disk_parts);
    let mut manifest = Manifest {
        format: FORMAT,
        farm: env!("CARGO_PKG_VERSION").to_owned(),
        qemu: guest.qemu.full_version(),
        tried,
        console: console.cloned(),
        disks,
        files: Vec::new(),
    };
    let entries = |parts: &[Part]| parts.iter().map(Part::entry).collect::<Result<Vec<_>, _>>();
    manifest.files = entries(&parts)?;
    // It says what else there is.
    parts.push(Part::bytes(README, readme(&judged.title, cell, sign, &manifest, exact, differs)));
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    manifest.files = entries(&parts)?;
    manifest
        .check()
        .map_err(|why| Failure::new(ExitCode::Usage, format!("there is too much for a bundle: {why}")))?;
    pack(to, &format!("farm-{}", hit.id), &manifest, &parts, stop)?;
    Ok(())
}

/// The cell's disks: what the manifest says of them, their files, and the commands that make them.
#[expect(clippy::type_complexity, reason = "three lists that are taken apart at once")]
fn disks(guest: &Guest, cell: &Cell) -> Result<(Vec<DiskData>, Vec<Part>, Vec<String>), Failure> {
    let (mut data, mut parts, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for (number, disk) in cell.shape.disks.iter().enumerate() {
        let to = format!("disk{number}.raw");
        let mut pieces = Vec::new();
        let mut extents = Vec::new();
        if disk.format.file_system().is_some() {
            let template = template(guest, *disk)?;
            let unread = |source| BundleError::Read { path: template.clone(), source };
            let file = fs::File::open(&template).map_err(unread)?;
            extents = take_apart(std::io::BufReader::new(file), &mut pieces).map_err(unread)?;
            parts.push(Part::bytes(&disk_data(number), pieces));
            data.push(DiskData { disk: number, extents: extents.clone() });
        }
        let pieces = format!("../../{}", disk_data(number));
        commands.extend(crate::guest::lay_out_command(&pieces, &extents, disk.size_mib, &to));
    }
    Ok((data, parts, commands))
}

/// The empty file system that such a disk is copied from, made if it is not there yet.
fn template(guest: &Guest, disk: crate::scenario::Disk) -> Result<Utf8PathBuf, Failure> {
    let (_scratch, directory) = scratch()?;
    fresh_disk(&guest.cache, disk, &directory.join("disk"), &output::note)?;
    let template = disk_template(&guest.cache, disk);
    template.ok_or_else(|| Failure::new(ExitCode::Fault, "a formatted disk has no template"))
}
