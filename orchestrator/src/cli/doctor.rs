//! `farm doctor`: what this host can do, what is missing, and the command that mends it.

use camino::Utf8Path;
use rustix::fs::statvfs;
use serde::Serialize;

use super::environment::Environment;
use super::provision::{fetcher, kernel_catalog, qemu_candidates};
use super::runtime;
use crate::error::{ExitCode, Failure};
use crate::kernel::{Recipe, Refresh, tool};
use crate::machine::{Access, Discovery, Feature, Host, Launcher, discover};
use crate::report::{Align, Table, size};
use crate::runner::host_size;

const SETUP: &str = "cargo xtask setup";

/// Room for a kernel, an image, and the logs of a night.
const WANTED_DISK_BYTES: u64 = 2 << 30;
/// A guest of the size most scenarios ask for, and QEMU around it.
const WANTED_MEMORY_MIB: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Good,
    /// farm works without it; some cells will be skipped.
    Absent,
    /// farm cannot do its main job.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Absent => "absent",
            Self::Missing => "MISSING",
        }
    }
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    /// The command, or the deed, that mends it.
    mend: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Good, found: found.into(), mend: None }
    }

    fn absent(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Absent, found: found.into(), mend: Some(mend.into()) }
    }

    fn missing(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, state: State::Missing, found: found.into(), mend: Some(mend.into()) }
    }
}

pub(super) fn doctor(environment: &Environment) -> Result<ExitCode, Failure> {
    let host = Host::of_this_machine().map_err(|error| Failure::of(ExitCode::Infra, &error))?;
    let candidates = qemu_candidates(environment)?;
    let path = std::env::var_os("PATH");
    let found = runtime()?.block_on(discover(&candidates, path.as_deref(), &Launcher::this_program()));

    let mut checks = qemu(&found);
    checks.push(kvm(&host, &found));
    checks.push(ultravisor(&host));
    checks.extend(tools());
    checks.extend(kernels(environment)?);
    checks.push(directory("cache", environment.cache.root(), "--cache DIR or FARM_CACHE"));
    checks.push(directory("results", &environment.state_dir, "--state DIR or FARM_STATE"));
    checks.push(memory(host_size().available_mib));
    checks.push(tun(&host));

    let mut table = Table::new(&[
        ("what", Align::Left),
        ("state", Align::Left),
        ("found", Align::Left),
        ("mend", Align::Left),
    ]);
    for check in &checks {
        let mend = check.mend.clone().unwrap_or_default();
        table.row([check.what.to_owned(), check.state.word().to_owned(), check.found.clone(), mend]);
    }
    let missing = checks.iter().filter(|check| check.state == State::Missing).count();
    let end = match missing {
        0 => "\nthis host can run scenarios: try `farm run smoke`\n".to_owned(),
        1 => "\none thing is missing that farm cannot do without\n".to_owned(),
        n => format!("\n{n} things are missing that farm cannot do without\n"),
    };
    environment.print(&format!("{table}{end}"), &checks)?;
    Ok(if missing == 0 { ExitCode::Passed } else { ExitCode::Infra })
}

fn qemu(found: &Discovery) -> Vec<Check> {
    let mut checks: Vec<_> = found
        .usable
        .iter()
        .map(|qemu| {
            let features =
                [("KVM", qemu.kvm), ("protected guests", qemu.protected), ("sandbox", qemu.sandbox)];
            let has: Vec<_> =
                features.iter().filter(|(_, f)| *f == Feature::Present).map(|(name, _)| *name).collect();
            let has = if has.is_empty() { "TCG only".to_owned() } else { format!("TCG, {}", has.join(", ")) };
            Check::good("QEMU", format!("{} at {} ({has})", qemu.full_version(), qemu.binary))
        })
        .collect();
    checks.extend(found.unusable.iter().map(|error| Check::absent("QEMU", error.to_string(), SETUP)));
    if found.usable.is_empty() {
        checks.push(Check::missing("QEMU", "no qemu-system-s390x that can be used", SETUP));
    }
    checks
}

fn kvm(host: &Host, found: &Discovery) -> Check {
    if host.architecture != "s390x" {
        return Check::absent(
            "KVM",
            format!("this host is {}: guests run under TCG", host.architecture),
            "IBM Z or LinuxONE",
        );
    }
    match host.kvm {
        Access::Usable if found.usable.iter().any(|qemu| qemu.kvm == Feature::Present) => {
            Check::good("KVM", "/dev/kvm can be used")
        }
        Access::Usable => Check::absent("KVM", "/dev/kvm is there, but no QEMU has KVM built in", SETUP),
        Access::Denied => Check::absent("KVM", "/dev/kvm is not yours to use", "sudo usermod -aG kvm $USER"),
        Access::Missing => Check::absent("KVM", "no /dev/kvm", "sudo modprobe kvm"),
    }
}

fn ultravisor(host: &Host) -> Check {
    match host.prot_virt_host.as_deref().map(str::trim) {
        Some("1") => Check::good("ultravisor", "this host can run protected guests"),
        Some(_) => Check::absent(
            "ultravisor",
            "there is one, but this kernel was booted without it",
            "boot the host with prot_virt=1",
        ),
        None => Check::absent(
            "ultravisor",
            "no /sys/firmware/uv/prot_virt_host: no protected guests",
            "IBM z15 or LinuxONE III, or newer",
        ),
    }
}

fn tools() -> impl Iterator<Item = Check> {
    tool::needed().into_iter().map(|(purpose, tool)| match tool.find() {
        Ok(path) => Check::good(purpose, path.display().to_string()),
        Err(error) => Check::missing(purpose, error.to_string(), SETUP),
    })
}

fn kernels(environment: &Environment) -> Result<Vec<Check>, Failure> {
    let fetcher = fetcher(&environment.cache, Refresh::No);
    let mut checks = Vec::new();
    for named in &kernel_catalog()?.kernels {
        checks.push(match fetcher.cached_kernel(named)? {
            Some(kernel) => Check::good("kernel", format!("{} {}", kernel.key.name, kernel.key.version)),
            None => {
                let (word, doing) = match named.recipe {
                    Recipe::Package(_) => ("fetch", "fetches"),
                    Recipe::Build(_) => ("build", "builds"),
                };
                Check::absent(
                    "kernel",
                    format!("{} is not in the cache yet: the first run {doing} it", named.name),
                    format!("farm kernel {word} {}", named.name),
                )
            }
        });
    }
    Ok(checks)
}

/// Whether a directory, or the nearest one above it that exists, can be written and has room.
fn directory(what: &'static str, path: &Utf8Path, elsewhere: &str) -> Check {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Utf8Path::new("/"));
    let mend = format!("free space, or name another place with {elsewhere}");
    if rustix::fs::access(existing.as_std_path(), rustix::fs::Access::WRITE_OK).is_err() {
        return Check::missing(
            what,
            format!("{path} cannot be written"),
            format!("name another with {elsewhere}"),
        );
    }
    match statvfs(existing.as_std_path()) {
        Err(error) => Check::missing(what, format!("{path}: {error}"), mend),
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            let found = format!("{path}, {} free", size(free));
            if free < WANTED_DISK_BYTES { Check::absent(what, found, mend) } else { Check::good(what, found) }
        }
    }
}

fn memory(available_mib: u64) -> Check {
    let found = format!("{} available", size(available_mib << 20));
    if available_mib < WANTED_MEMORY_MIB {
        Check::absent("memory", found, "close other programs, or run fewer guests with --jobs")
    } else {
        Check::good("memory", found)
    }
}

fn tun(host: &Host) -> Check {
    match host.tun {
        Access::Usable => Check::good("tun", "/dev/net/tun can be used"),
        Access::Denied => {
            Check::absent("tun", "/dev/net/tun is not yours to use", "sudo chmod 0666 /dev/net/tun")
        }
        Access::Missing => {
            Check::absent("tun", "no /dev/net/tun: scenarios that need tap are skipped", "sudo modprobe tun")
        }
    }
}
