//! The id of a cell: a hash of everything that decides what runs, and of nothing else.
//!
//! The inputs are written out by hand, so that renaming a Rust field keeps every id. The scenario goes in as
//! what was understood, not as text: comments and the order of keys do not matter. `purpose`, `hunts`, `expect`
//! and `known` stay outside: they judge a run and do not change it, and a cell keeps its history when a hit
//! becomes known. So do the least counts of `touches`; that a function is counted goes in, since it costs time. A
//! file of `exec` goes in by content, not by path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Cell, KernelKey, QemuKey, Shape, Threads, Turns};
use crate::scenario::{Action, ArgValue, Budget, Disk, Fix, Interference, Knobs, Step, Touch};

/// Sixteen hexadecimal digits: the first 64 bits of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(u64);

impl CellId {
    /// Stands in a cell until its inputs are complete.
    pub(super) const UNSET: Self = Self(0);
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CellId({self})")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cell id of 16 hexadecimal digits: '{}'", .0.escape_debug())]
pub struct CellIdError(String);

impl FromStr for CellId {
    type Err = CellIdError;

    fn from_str(text: &str) -> Result<Self, CellIdError> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parsed = (text.len() == 16 && digits).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        parsed.map(Self).ok_or_else(|| CellIdError(text.to_owned()))
    }
}

impl Serialize for CellId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CellId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One life of a cell: the cell, run in a guest of its own, for the N-th time of its run, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LifeId {
    pub cell: CellId,
    pub number: u32,
}

impl fmt::Display for LifeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.cell, self.number))
    }
}

impl FromStr for LifeId {
    type Err = CellIdError;

    fn from_str(text: &str) -> Result<Self, CellIdError> {
        let parts =
            text.split_once('.').and_then(|(cell, number)| Some((cell.parse().ok()?, number.parse().ok()?)));
        parts.map(|(cell, number)| Self { cell, number }).ok_or_else(|| CellIdError(text.to_owned()))
    }
}

impl Serialize for LifeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LifeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The cell with its id.
pub(super) fn identify(cell: Cell) -> Cell {
    let hash = Sha256::digest(canonical(&cell).to_string());
    let id = hash.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    Cell { id: CellId(id), ..cell }
}

/// Patterns without `..`: a new field does not compile until someone decides whether it is an input.
pub(super) fn canonical(cell: &Cell) -> Value {
    // `counting` is in the steps: what is not counted is not there.
    let Cell { id: _, scenario, kernel, image, shape, protection, uvsim, schedule, seed, counting: _, steps } =
        cell;
    let KernelKey { name, release, version, sha256 } = kernel;
    let Shape { cpus, memory_mib, disks, share, kernel_args, accel, threads, cpu_model, qemu } = shape;
    let QemuKey { version: qemu } = qemu;
    // In the words of QEMU's -accel, where several threads are not mentioned: so they stood here when there was no choice.
    let accel = match threads {
        Threads::Multi => accel.to_string(),
        Threads::Single => format!("{accel},thread=single"),
    };
    // Lists, since the order of a map's keys is up to serde_json's features.
    let mut inputs = json!([
        ["cell", 1],
        ["scenario", scenario.name.as_str()],
        ["heartbeat_ms", scenario.heartbeat.0.as_millis() as u64],
        ["kernel", [name, release, version, sha256]],
        ["image", image.to_string()],
        ["protection", protection.to_string()],
        ["schedule", schedule.to_string()],
        ["seed", seed],
        ["cpus", cpus],
        ["memory_mib", memory_mib],
        ["disks", disks.iter().map(canonical_disk).collect::<Vec<_>>()],
        ["kernel_args", kernel_args],
        ["accel", accel],
        ["cpu_model", cpu_model],
        ["qemu", qemu],
        ["steps", steps.iter().map(canonical_step).collect::<Vec<_>>()],
    ]);
    // What a seed chooses here may be another thing one day.
    if let (Value::Array(inputs), Some(Turns { shift, delay, entropy: _ })) = (&mut inputs, cell.turns()) {
        inputs.push(json!(["turns", shift, delay]));
    }
    // A cell without modules keeps the id that it had before there were any.
    if let (Value::Array(inputs), [_, ..]) = (&mut inputs, &scenario.modules[..]) {
        inputs.push(json!(["modules", scenario.modules]));
    }
    if let (Value::Array(inputs), [_, ..]) = (&mut inputs, &scenario.trace[..]) {
        inputs.push(json!(["trace", scenario.trace]));
    }
    if let (Value::Array(inputs), true) = (&mut inputs, share) {
        inputs.push(json!(["share"]));
    }
    if let (Value::Array(inputs), knobs @ [_, ..]) = (&mut inputs, &turned_knobs(uvsim)[..]) {
        inputs.push(json!(["uvsim", knobs]));
    }
    inputs
}

/// Those that are not as they are by themselves: one more knob keeps all ids.
fn turned_knobs(knobs: &Knobs) -> Vec<Value> {
    let canonical = |knobs: &Knobs| {
        let Knobs { fix, busy, partial, export_failure, owner_mismatch, freeze_delay, pin_shared, early } =
            knobs;
        let fix_word = |fix: &Fix| match fix {
            Fix::Splice => "splice",
            Fix::Vmsplice => "vmsplice",
            Fix::Zerocopy => "zerocopy",
            Fix::Dio => "dio",
        };
        [
            json!(["fix", fix.iter().map(fix_word).collect::<Vec<_>>()]),
            json!(["busy", busy]),
            json!(["partial", partial]),
            json!(["export_failure", export_failure]),
            json!(["owner_mismatch", owner_mismatch]),
            json!(["freeze_delay_us", freeze_delay.as_micros() as u64]),
            json!(["pin_shared", pin_shared]),
            json!(["early", early]),
        ]
    };
    let by_themselves = canonical(&Knobs::default());
    canonical(knobs).into_iter().filter(|knob| !by_themselves.contains(knob)).collect()
}

fn canonical_disk(disk: &Disk) -> Value {
    let Disk { size_mib, format } = disk;
    json!([size_mib, format.file_system().unwrap_or("raw")])
}

fn canonical_args(args: &[(String, ArgValue)]) -> Vec<Value> {
    let value = |value: &ArgValue| match value {
        ArgValue::Flag(on) => json!(on),
        ArgValue::Text(text) => json!(text),
    };
    args.iter().map(|(name, set)| json!([name, value(set)])).collect()
}

fn canonical_step(step: &Step) -> Value {
    let Step { name, action, limit, beside, touches } = step;
    let action = match action {
        Action::Stress { program, args, budget, workers, dir, secure } => {
            let budget = match budget {
                Budget::For(time) => json!(["for_ms", time.as_millis() as u64]),
                Budget::Ops(ops) => json!(["ops", ops]),
            };
            match secure {
                false => json!(["stress", program, canonical_args(args), budget, workers, dir]),
                true => json!(["stress", program, canonical_args(args), budget, workers, dir, "secure"]),
            }
        }
        Action::Exec { path: _, sha256, args, workers } => json!(["exec", sha256, args, workers]),
        Action::Write { path, text } => json!(["write", path, text]),
    };
    let mut inputs = vec![json!(name), action, json!(limit.as_millis() as u64)];
    // What a step does not have leaves no trace, so that ids from before there was such a thing stay.
    if !beside.is_empty() {
        let program = |one: &Interference| {
            let Interference { program, args, secure } = one;
            match secure {
                false => json!([program, canonical_args(args)]),
                true => json!([program, canonical_args(args), "secure"]),
            }
        };
        inputs.push(json!(["beside", beside.iter().map(program).collect::<Vec<_>>()]));
    }
    if !touches.is_empty() {
        let functions = |touch: &Touch| {
            let Touch { functions, least: _, when: _ } = touch;
            functions.clone()
        };
        inputs.push(json!(["touches", touches.iter().map(functions).collect::<Vec<_>>()]));
    }
    Value::Array(inputs)
}
