//! `cargo xtask setup`: makes a bare host able to build and run farm.
//!
//! With everything in place it only looks: no network, no root, well under a second.

use anyhow::{Context as _, Result, bail};

use crate::cmd::{self, Cmd};
use crate::packages::{self, CROSS_COMPILER, Distribution, Privilege, Proof, REQUIREMENTS, Requirement};

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

/// QEMU 10 of Debian's backports in farm's cache, beside the distribution's own.
fn qemu() -> Result<()> {
    Ok(())
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
