//! What a stranger's cell may say. Its job comes whole, and runs in the guest only; what farm itself reads of the cell
//! makes QEMU's arguments, files of the host, waiting times and lines on a terminal.

use serde::Serialize;

use super::manifest::{DiskData, Manifest, disk_data, is_sha256};
use crate::escape::escape;
use crate::guest::fit;
use crate::plan::{Cell, KernelKey};
use crate::scenario::outside_bounds;

/// Longer than any that is.
const LONGEST_NAME: usize = 200;
/// Of a CPU model with its switches.
const LONGEST_CPU_MODEL: usize = 400;

/// Why farm does not run the cell.
pub fn check_cell(cell: &Cell, manifest: &Manifest) -> Result<(), String> {
    check_text(cell)?;
    if let Some(why) = outside_bounds(&cell.scenario, &cell.steps) {
        return Err(why);
    }
    let (shape, machine) = (&cell.shape, &cell.scenario.machine);
    // A matrix gives the CPUs; all the rest of a machine is the scenario's.
    let mut of_shape = (*cell.scenario).clone();
    of_shape.machine.cpus = shape.cpus;
    of_shape.machine.memory_mib = shape.memory_mib;
    of_shape.machine.disks.clone_from(&shape.disks);
    of_shape.machine.kernel_args.clone_from(&shape.kernel_args);
    if let Some(why) = outside_bounds(&of_shape, &cell.steps) {
        return Err(why);
    }
    if shape.disks != machine.disks || shape.share != machine.share {
        return Err("its machine is not its scenario's".to_owned());
    }
    if !is_cpu_model(&shape.cpu_model) {
        return Err(format!("{:?} is no CPU model", shape.cpu_model));
    }
    check_kernel(&cell.kernel)?;
    if shape.qemu.version.len() > LONGEST_NAME {
        return Err("its QEMU has no such version".to_owned());
    }
    check_disks(cell, manifest)
}

/// All text is safe for a terminal.
pub fn check_text(document: &impl Serialize) -> Result<(), String> {
    let value = serde_json::to_value(document).map_err(|error| error.to_string())?;
    match unsafe_text(&value) {
        Some(text) => Err(format!("it has text that no terminal should see: {text:?}")),
        None => Ok(()),
    }
}

fn unsafe_text(value: &serde_json::Value) -> Option<&str> {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            let is_safe = text.split(['\n', '\t']).all(|part| escape(part.as_bytes()) == part);
            (!is_safe).then_some(text)
        }
        Value::Array(values) => values.iter().find_map(unsafe_text),
        Value::Object(fields) => fields.values().find_map(unsafe_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// A name and switches of features, `z196-base,dfp=off`: nothing else that QEMU's `-cpu` takes.
fn is_cpu_model(text: &str) -> bool {
    let name = |word: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !word.is_empty() && !word.starts_with('-') && word.bytes().all(plain)
    };
    let switch = |word: &str| {
        word.split_once('=').is_some_and(|(feature, on)| name(feature) && matches!(on, "on" | "off"))
    };
    let mut words = text.split(',');
    text.len() <= LONGEST_CPU_MODEL
        && words.next().is_some_and(|model| name(model) && model != "help")
        && words.all(switch)
}

fn check_kernel(kernel: &KernelKey) -> Result<(), String> {
    let KernelKey { name, release, version, sha256 } = kernel;
    // The release becomes part of a path.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+~".contains(&byte);
    if release.starts_with('.') || release.is_empty() || !release.bytes().all(plain) {
        return Err(format!("{release:?} is no kernel's release"));
    }
    if [name, release, version].iter().any(|text| text.len() > LONGEST_NAME) || !is_sha256(sha256) {
        return Err("it does not say which kernel it is of".to_owned());
    }
    Ok(())
}

/// Each formatted disk has its data, and no other has.
fn check_disks(cell: &Cell, manifest: &Manifest) -> Result<(), String> {
    let disks = cell.shape.disks.iter().enumerate();
    let formatted = disks.filter(|(_, disk)| disk.format.file_system().is_some());
    let formatted: Vec<_> =
        formatted.map(|(number, disk)| (number, u64::from(disk.size_mib) << 20)).collect();
    let given: Vec<usize> = manifest.disks.iter().map(|data| data.disk).collect();
    if !formatted.iter().map(|(number, _)| *number).eq(given.iter().copied()) {
        return Err(format!("it has the data of the disks {given:?}, which are not those of its cell"));
    }
    for ((number, bytes), DiskData { extents, .. }) in formatted.into_iter().zip(&manifest.disks) {
        let name = disk_data(number);
        let file = manifest.file(&name).ok_or_else(|| format!("it has no {name}"))?;
        if !fit(extents, bytes, file.bytes) {
            return Err(format!("the pieces of {name} do not fit its disk"));
        }
    }
    Ok(())
}
