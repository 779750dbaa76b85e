//! `cargo xtask demo`: from a bare host to a stock s390x kernel under stress, in one command.

use anyhow::{Context as _, Result};

use crate::cmd::{self, Cmd};
use crate::setup;

pub(crate) fn run() -> Result<()> {
    setup::run()?;
    // In xtask's own profile: farm's library is compiled in it by now, guests are bound by QEMU's speed, and the
    // tests use it too. A release build would start from nothing.
    Cmd::new(["cargo", "build", "--package", "farm", "--locked"]).run()?;
    let farm = farm()?;
    Cmd::new([&farm, "run", "smoke", "--kernel", "debian-12"]).run()?;
    println!();
    println!("Next: {farm} run splice --kernel debian-13   stresses splice(2) on Debian's 6.12 kernel");
    println!("      {farm} scenario list                   shows what else there is to run");
    Ok(())
}

/// The program beside this one, as a path from the root of the checkout where it is inside.
fn farm() -> Result<String> {
    let farm =
        std::env::current_exe().context("the path of xtask itself is not known")?.with_file_name("farm");
    let shown = farm.strip_prefix(cmd::root()).unwrap_or(&farm);
    Ok(shown.to_str().with_context(|| format!("{} is not valid UTF-8", farm.display()))?.to_owned())
}
