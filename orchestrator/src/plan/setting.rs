//! Settings of the emulator: the same guest, executed in another way. What a hit does under them tells QEMU's faults
//! from the kernel's.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Accel, Cell, QemuKey, Threads, ids};

/// The CPU that TCG is asked for in place of the usual one: a z196 without the facilities that QEMU's TCG lacks, 7.2's
/// and 10.0's alike.
///
/// TCG's `qemu` is no other CPU than `max`: query-cpu-model-expansion gives both the same features. A named generation is
/// refused as it stands, because TCG has no decimal floating point, no DES, and so on; query-cpu-definitions lists what is
/// unavailable, and that is what is switched off here. z196 is the oldest that runs everything: Debian's compiler makes
/// user space for it (`gcc -v`: --with-arch=z196), and Debian's kernels want a z10. It has neither the vector facility nor
/// anything else of z13 to z15 that the kernel and the C library choose other code for.
const OTHER_CPU_MODEL: &str = "z196-base,msa=off,dateh2=off,cmpsceh=off,pfpo=off,dfphp=off,dfp=off,emon=off,parseh=off,\
                               hfpue=off,hfpm=off,nonqks=off,csske=off,asnlxr=off,tods=off";

/// For a cell that has [`OTHER_CPU_MODEL`] already.
const ALL_OF_TCG: &str = "max";

/// What a recheck changes about the emulator: one thing at a time, so that a hit that stays away points at it. Ordered as
/// reports list them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Setting {
    /// Nothing, which shows how often the hit comes at all.
    Same,
    /// All virtual CPUs in one host thread: no two guest instructions at once, and other code of QEMU's for atomics.
    SingleThread,
    CpuModel {
        model: String,
    },
    /// In full, as [`QemuKey`] has it.
    Qemu {
        version: String,
    },
}

/// How the lives of a run are emulated that recheck nothing. Their threads are always [`Threads::Multi`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    pub cpu_model: String,
    pub qemu: String,
}

/// The settings that a hit can be rechecked under, and why there are not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub settings: Vec<Setting>,
    pub left_out: Vec<String>,
}

/// `other_qemu`: the version of one beside the run's own.
pub fn choose_settings(accel: Accel, emulator: &Emulator, other_qemu: Option<&str>) -> Choice {
    if accel == Accel::Kvm {
        let why = "under KVM the host's CPUs execute the guest: there is no emulation to change";
        return Choice { settings: Vec::new(), left_out: vec![why.to_owned()] };
    }
    let model = if emulator.cpu_model == OTHER_CPU_MODEL { ALL_OF_TCG } else { OTHER_CPU_MODEL };
    let mut settings =
        vec![Setting::Same, Setting::SingleThread, Setting::CpuModel { model: model.to_owned() }];
    let mut left_out = Vec::new();
    match other_qemu {
        Some(version) => settings.push(Setting::Qemu { version: version.to_owned() }),
        None => left_out.push("no QEMU of another version was found in farm's cache or on PATH".to_owned()),
    }
    Choice { settings, left_out }
}

impl Setting {
    /// What it changes, as it was.
    pub fn as_it_was(&self, emulator: &Emulator) -> String {
        match self {
            Self::Same => emulator.to_string(),
            Self::SingleThread => "thread=multi".to_owned(),
            Self::CpuModel { .. } => cpu(&emulator.cpu_model),
            Self::Qemu { .. } => qemu(&emulator.qemu),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.pad("as it was"),
            Self::SingleThread => f.pad("thread=single"),
            Self::CpuModel { model } => f.pad(&cpu(model)),
            Self::Qemu { version } => f.pad(&qemu(version)),
        }
    }
}

impl fmt::Display for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread=multi, {}, {}", cpu(&self.cpu_model), qemu(&self.qemu))
    }
}

/// Without the features that follow the model's name: the cell has them.
fn cpu(model: &str) -> String {
    match model.split_once(',') {
        Some((name, _)) => format!("-cpu {name}…"),
        None => format!("-cpu {model}"),
    }
}

/// Without the package's name.
fn qemu(version: &str) -> String {
    format!("QEMU {}", version.split(' ').next().unwrap_or(version))
}

impl Cell {
    /// The same cell under a setting: another cell with an id of its own, unless nothing is changed.
    #[must_use]
    pub fn under(&self, setting: &Setting) -> Self {
        let mut cell = self.clone();
        match setting {
            Setting::Same => {}
            Setting::SingleThread => cell.shape.threads = Threads::Single,
            Setting::CpuModel { model } => cell.shape.cpu_model.clone_from(model),
            Setting::Qemu { version } => cell.shape.qemu = QemuKey { version: version.clone() },
        }
        ids::identify(cell)
    }
}
