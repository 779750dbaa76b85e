//! A life's guest once more, with nothing but QEMU: what `command.sh` in its directory starts.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

/// Seconds. Nobody watches over a plain QEMU, and a guest that does not power off would hold the benchmark up for ever.
const LIMIT: &str = "120";

/// How long QEMU takes, from its start until the guest has switched itself off. Initrd and disks are made beforehand
/// and not counted, though farm's own time has that in it.
pub(super) fn wall(directory: &Utf8Path) -> Result<Duration> {
    let script = fs::read_to_string(directory.join("command.sh"))?;
    let (preparation, qemu) = script
        .split_once("\nexec ")
        .with_context(|| format!("{directory}/command.sh does not end in an exec of QEMU"))?;
    shell(directory, preparation)?;
    let began = Instant::now();
    shell(directory, &format!("exec {qemu}"))?;
    let wall = began.elapsed();
    let results = fs::read_to_string(directory.join("by-hand/results.log"))?;
    ensure!(
        results.contains("\n{\"type\":\"end\""),
        "the guest in {directory}/by-hand did not come to its end"
    );
    Ok(wall)
}

fn shell(directory: &Utf8Path, text: &str) -> Result<()> {
    let status = Command::new("timeout")
        .args([LIMIT, "sh", "-c", text])
        .current_dir(directory)
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "{directory}/command.sh failed ({status})");
    Ok(())
}
