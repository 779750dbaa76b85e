//! `cargo xtask setup`: makes a bare host able to build and run farm.
//!
//! With everything in place it only looks: no network, no root, well under a second.

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;
use farm::cache::Cache;
use farm::kernel::{Catalog, Fetcher, FoundQemu, MirrorChoice, Refresh};

use crate::cmd::{self, Cmd};
use crate::packages::{self, CROSS_COMPILER, Distribution, Privilege, Proof, REQUIREMENTS, Requirement};

const QEMU: &str = "qemu-system-s390x";
/// From here on the host's own QEMU is as good as the one that set-up fetches.
const PREFERRED_QEMU: (u32, u32) = (10, 0);

pub(crate) fn run() -> Result<()> {
    host_packages()?;
    qemu()
}

/// Installs on Debian, and tells what to install elsewhere, what is missing from this host.
pub(crate) fn host_packages() -> Result<()> {
    let missing = unmet();
    if missing.is_empty() {
        println!("set-up: all {} programs and files are there", REQUIREMENTS.len());
        return Ok(());
    }
    for requirement in &missing {
        println!("set-up: {} is missing ({})", requirement.name(), requirement.purpose);
    }
    match Distribution::from_os_release(&os_release()?) {
        Distribution::Debian => apt_install(&missing)?,
        other => bail!(
            "this host lacks programs that farm needs; install them:\n{}",
            packages::advice(&missing, other)
        ),
    }
    let still: Vec<_> = unmet().iter().map(|requirement| requirement.name()).collect();
    if !still.is_empty() {
        bail!("apt has installed its packages, but these are still missing: {}", still.join(", "));
    }
    Ok(())
}

/// Fetches the newer QEMU of `kernels.yaml` into farm's cache where the host's own is older. The older one
/// serves too, so a host where the newer cannot be had, or does not run, is told so and goes on.
fn qemu() -> Result<()> {
    let answer = Cmd::new([QEMU, "--version"]).quiet_output()?;
    let own = String::from_utf8_lossy(&answer.stdout);
    let own = own.lines().next().unwrap_or_default();
    if qemu_version(own).is_some_and(|version| version >= PREFERRED_QEMU) {
        println!("set-up: {own}");
        return Ok(());
    }
    match fetch_qemu() {
        Ok(found) => println!("set-up: QEMU {} is in farm's cache, beside the host's {own}", found.version),
        Err(error) => {
            println!("set-up: farm will use the host's {own}; no newer one could be had: {error:#}");
        }
    }
    Ok(())
}

fn fetch_qemu() -> Result<FoundQemu> {
    let asked = std::env::var("FARM_CACHE").ok();
    let cache = Cache::locate(asked.as_deref().map(Utf8Path::new), |name| std::env::var(name).ok())?;
    let catalog = Catalog::embedded()?;
    let progress = |line: &str| println!("set-up: {line}");
    let fetcher =
        Fetcher { cache: &cache, refresh: Refresh::No, mirrors: MirrorChoice::OfHost, progress: &progress };
    Ok(fetcher.qemu(&catalog.qemu)?)
}

/// Major and minor version in the first line of `qemu-system-s390x --version`.
fn qemu_version(line: &str) -> Option<(u32, u32)> {
    let mut parts = line.strip_prefix("QEMU emulator version ")?.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn unmet() -> Vec<&'static Requirement> {
    REQUIREMENTS.iter().filter(|requirement| !is_met(requirement.proof)).collect()
}

fn is_met(proof: Proof) -> bool {
    match proof {
        Proof::Program(name) => cmd::find_program(name).is_some(),
        Proof::File(path) => std::path::Path::new(path).exists(),
        // gcc answers with the bare name when the file is not in its search path.
        Proof::CrossLibrary(name) => {
            let question = Cmd::new([CROSS_COMPILER, &format!("-print-file-name={name}")]);
            question
                .quiet_output()
                .is_ok_and(|answer| answer.status.success() && answer.stdout.starts_with(b"/"))
        }
    }
}

fn apt_install(missing: &[&Requirement]) -> Result<()> {
    let privilege = privilege();
    let install = packages::apt_install(missing, privilege);
    let update = packages::apt_update(privilege);
    if privilege == Privilege::None {
        bail!("installing packages needs root, and sudo is not there; have root run\n{update}\n{install}");
    }
    // One unreachable third-party source fails the update, though Debian's own lists are fresh: whether
    // they serve is for the installation to say.
    if let Err(error) = update.run() {
        println!("set-up: {error:#}; going on with the package lists that are there");
    }
    install.run()
}

fn privilege() -> Privilege {
    if rustix::process::geteuid().is_root() {
        Privilege::Root
    } else if cmd::find_program("sudo").is_some() {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

/// The text of os-release(5), from the places that it names. A host without one is of no known distribution.
fn os_release() -> Result<String> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{path} cannot be read")),
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_qemu_is_read() {
        for (line, version) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Some((7, 2))),
            ("QEMU emulator version 10.0.2 (qemu-10.0.2-1.fc43)", Some((10, 0))),
            ("QEMU emulator version 11.1.0-rc2", Some((11, 1))),
            ("qemu-system-s390x: not found", None),
            ("", None),
        ] {
            assert_eq!(qemu_version(line), version, "{line:?}");
        }
    }
}
