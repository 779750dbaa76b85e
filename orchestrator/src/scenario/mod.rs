//! Scenarios: what to stress, beside what, and what to expect; from YAML text to a type that holds nothing
//! but sense.
//!
//! A scenario goes through three forms. [`tree`] turns text into nodes with line and column. [`check`] reads
//! the nodes by the tables in [`fields`] (names, shapes, bounds, defaults) and looks at what no single field
//! can say. What comes out is a [`Scenario`], or every [`Problem`] of the file at once. [`docs`] renders the
//! same tables, so the reference cannot differ from the checker.
//!
//! serde stands only on the way out (`--json`): it stops at the first error of a file, and it knows no column.
//!
//! *Invariant*: only [`load`] and [`executable`] read files.

pub mod condition;
pub mod docs;
pub mod emulation;
pub mod executable;
pub mod load;
pub mod pattern;
pub mod problem;
pub mod programs;

mod bounds;
mod check;
mod fields;
mod read;
mod shape;
mod steps;
mod tree;
mod write;

use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

pub(crate) use bounds::outside_bounds;
pub use check::{Source, check};
pub(crate) use fields::{MOST_BESIDE, MOST_STEPS, MOST_TOUCHES, MOST_TRACED, MOST_WORKERS};

pub(crate) use condition::Release;
pub use condition::{Condition, Facts, Protection};
pub use emulation::{Fix, Knobs};
pub use load::{Library, LoadError, is_path};
pub use pattern::{Expectation, Known, Pattern};
pub use problem::Problem;
pub use programs::{ArgKind, Catalog};
pub(crate) use steps::{default_dir, default_limit, default_names, fill_names};
pub use write::write;

/// Where a guest with a share has it.
pub const SHARE_DIRECTORY: &str = "/mnt/share";

/// A checked scenario. Made by [`check`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    pub name: ScenarioName,
    pub purpose: String,
    pub hunts: Vec<String>,
    pub needs: Vec<Need>,
    /// None or emulated: the hardware's is not a scenario's to ask for.
    pub protection: Protection,
    /// With emulated protection only; otherwise the default.
    pub uvsim: Knobs,
    /// farm's own kernel modules, in the order to load them.
    pub modules: Vec<String>,
    /// What the guest's kernel is to trace: tracepoints as `system:event`, and functions.
    #[serde(default)]
    pub trace: Vec<String>,
    pub machine: MachineSpec,
    pub steps: Vec<Step>,
    pub expect: Vec<Expectation>,
    pub known: Vec<Known>,
    pub matrix: Matrix,
    pub heartbeat: HeartbeatLimit,
    /// Of the YAML text, so that a result names the text it came from.
    pub sha256: String,
    pub file: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScenarioName(String);

impl ScenarioName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScenarioName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host must have for the scenario to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// A protected guest.
    Pv,
    Kvm,
    /// Enhanced DAT in the guest: 1 MiB pages, which TCG lacks.
    Edat,
    Vhost,
    Tap,
}

impl Need {
    pub const ALL: [(&'static str, Self); 5] = [
        ("pv", Self::Pv),
        ("kvm", Self::Kvm),
        ("edat", Self::Edat),
        ("vhost", Self::Vhost),
        ("tap", Self::Tap),
    ];
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, need)| need == self);
        f.write_str(found.map_or("", |(word, _)| word))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    pub cpus: u32,
    pub memory_mib: u32,
    pub disks: Vec<Disk>,
    /// Whether it reads a directory of the host's, at [`SHARE_DIRECTORY`].
    pub share: bool,
    pub kernel_args: Vec<String>,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self { cpus: 2, memory_mib: 512, disks: Vec::new(), share: false, kernel_args: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub size_mib: u32,
    pub format: DiskFormat,
}

impl Default for Disk {
    fn default() -> Self {
        Self { size_mib: 256, format: DiskFormat::Ext4 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    Raw,
    /// Mounted at `/mnt/N`, N being the disk's place among all disks, from 0.
    Ext4,
    /// The same.
    Xfs,
}

impl DiskFormat {
    pub const ALL: [(&'static str, Self); 3] = [("raw", Self::Raw), ("ext4", Self::Ext4), ("xfs", Self::Xfs)];
    /// mkfs.xfs makes none that is smaller (xfsprogs 5.19 and later).
    pub const XFS_LEAST_MIB: u32 = 300;

    /// What the kernel calls it, its module too; none for a raw disk.
    pub fn file_system(self) -> Option<&'static str> {
        match self {
            Self::Raw => None,
            Self::Ext4 => Some("ext4"),
            Self::Xfs => Some("xfs"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in its scenario.
    pub name: String,
    pub action: Action,
    /// Wall time after which the guest kills the workers.
    #[serde(rename = "limit_ms", with = "millis")]
    pub limit: Duration,
    /// What runs as long as its workers do.
    pub beside: Vec<Interference>,
    /// What it must reach in the kernel, or else it proves nothing.
    pub touches: Vec<Touch>,
}

/// A program of farm's that disturbs the workers of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interference {
    pub program: String,
    /// As those of a stress program.
    pub args: Vec<(String, ArgValue)>,
    /// Its own memory is that of an emulated protected guest.
    pub secure: bool,
}

impl Interference {
    /// The command line behind the program's name. What init adds (seed and worker) is not in it.
    pub fn arguments(&self) -> Vec<String> {
        options(&self.args).chain(self.secure.then(|| "--secure".to_owned())).collect()
    }
}

/// A kernel function, and how often at least it must be called while a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Its names in different kernels; the first that a kernel has is counted.
    pub functions: Vec<String>,
    pub least: u64,
    pub when: Option<Condition>,
}

impl Touch {
    /// As the job and the results name it: `a|b`.
    pub fn alternatives(&self) -> String {
        self.functions.join("|")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Stress {
        program: String,
        /// Sorted by name; only what differs from the program's own default is sure to be here.
        args: Vec<(String, ArgValue)>,
        budget: Budget,
        workers: u32,
        /// The folder in the guest for the program's files.
        dir: String,
        /// Its memory and files are those of an emulated protected guest.
        secure: bool,
    },
    Exec {
        path: Utf8PathBuf,
        /// Of the file when it was checked.
        sha256: String,
        args: Vec<String>,
        workers: u32,
    },
    Write {
        path: String,
        text: String,
    },
}

impl Action {
    /// The value of a stress program's option, if the scenario sets it.
    pub fn arg(&self, name: &str) -> Option<&ArgValue> {
        match self {
            Self::Stress { args, .. } => args.iter().find(|(known, _)| known == name).map(|(_, value)| value),
            Self::Exec { .. } | Self::Write { .. } => None,
        }
    }

    /// The command line behind the program's name. What init adds (seed and worker) is not in it.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::Stress { args, budget, dir, secure, .. } => {
                let budget = match budget {
                    Budget::For(time) => format!("--for={}", time.as_millis()),
                    Budget::Ops(ops) => format!("--ops={ops}"),
                };
                let secure = secure.then(|| "--secure".to_owned());
                options(args).chain([budget, format!("--dir={dir}")]).chain(secure).collect()
            }
            Self::Exec { args, .. } => args.clone(),
            Self::Write { .. } => Vec::new(),
        }
    }
}

fn options(args: &[(String, ArgValue)]) -> impl Iterator<Item = String> {
    args.iter().filter_map(|(name, value)| match value {
        ArgValue::Text(text) => Some(format!("--{name}={text}")),
        ArgValue::Flag(true) => Some(format!("--{name}")),
        ArgValue::Flag(false) => None,
    })
}

/// The value of a program's own option, checked against the catalog. A size is in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArgValue {
    Flag(bool),
    Text(String),
}

impl fmt::Display for ArgValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(on) => write!(f, "{on}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// When a stress program stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    #[serde(rename = "for_ms", with = "millis")]
    For(Duration),
    Ops(u64),
}

/// What of a scenario runs in every combination. An empty list is an axis that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    pub cpus: Vec<u32>,
    pub seeds: Vec<u64>,
    /// In place of the knob's.
    #[serde(rename = "freeze_delay_us", with = "emulation::list_of_micros")]
    pub freeze_delay: Vec<Duration>,
    pub args: Vec<ArgAxis>,
}

/// The values of one option of one stress step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgAxis {
    /// The step's name.
    pub step: String,
    pub arg: String,
    pub values: Vec<ArgValue>,
}

/// Silence of the guest for longer than this is a hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeartbeatLimit(#[serde(with = "millis")] pub Duration);

impl Default for HeartbeatLimit {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// A time as a whole number of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
pub(crate) mod tests;
