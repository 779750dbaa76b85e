//! QEMU on this host: where it is, which version, what it can do.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use qapi::qmp;
use serde::{Deserialize, Serialize};

use super::launcher::Launcher;
use super::monitor::{Monitor, MonitorError};
use super::session::{Inherited, START_LIMIT, StartError, converse, kill, spawn};

/// The program's name on every distribution.
const PROGRAM: &str = "qemu-system-s390x";

/// The firmware that QEMU loads into every s390x machine, and so what makes a directory its data directory.
const FIRMWARE: &str = "s390-ccw.img";

/// The oldest QEMU that farm is tested with: Debian 12's own.
const OLDEST: Version = Version { major: 7, minor: 2, micro: 0 };

/// A QEMU that has been asked what it is. Asking starts a process: keep the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Qemu {
    pub binary: Utf8PathBuf,
    /// Its firmware, when that is not where the binary was built to look.
    pub data: Option<Utf8PathBuf>,
    pub version: Version,
    /// The distribution's name of the build, `Debian 1:7.2+dfsg-7+deb12u18`; empty for one from source.
    pub package: String,
    /// The accelerator is built in; whether the host lends it is another question.
    pub kvm: Feature,
    /// The object `s390-pv-guest` exists.
    pub protected: Feature,
    /// Seccomp is built in and the host's kernel has it.
    pub sandbox: Feature,
}

impl Qemu {
    /// The version, and the distribution's name of the build behind it.
    pub fn full_version(&self) -> String {
        if self.package.is_empty() {
            self.version.to_string()
        } else {
            format!("{} ({})", self.version, self.package)
        }
    }
}

/// Ordered as versions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

/// Whether a build of QEMU has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    Present,
    Absent,
}

/// A place where a QEMU may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub binary: Utf8PathBuf,
    pub data: Option<Utf8PathBuf>,
}

/// Every QEMU that was found: what can be used, newest first, and what cannot, and why.
#[derive(Debug, Default)]
pub struct Discovery {
    pub usable: Vec<Qemu>,
    pub unusable: Vec<QemuError>,
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    #[error(
        "no {PROGRAM} in farm's cache or on PATH; `cargo xtask setup` brings one, `--qemu PATH` names one"
    )]
    NotFound,
    #[error("{path}: no such program; `cargo xtask setup` brings a QEMU, `--qemu PATH` names one")]
    NoSuchProgram { path: Utf8PathBuf },
    #[error("{path} emulates {architecture}, not s390x: {PROGRAM} is needed")]
    OtherArchitecture { path: Utf8PathBuf, architecture: String },
    #[error("{path} is QEMU {version}; farm needs {OLDEST} or newer: `cargo xtask setup` brings one")]
    TooOld { path: Utf8PathBuf, version: Version },
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The newest usable QEMU among `candidates` and the one on `search_path` (the value of PATH); of two with the
/// same version the earlier. If there are only unusable ones, the first one's trouble is the answer.
pub async fn find(
    candidates: &[Candidate],
    search_path: Option<&OsStr>,
    launcher: &Launcher,
) -> Result<Qemu, QemuError> {
    let Discovery { usable, unusable } = discover(candidates, search_path, launcher).await;
    match usable.into_iter().next() {
        Some(qemu) => Ok(qemu),
        None => Err(unusable.into_iter().next().unwrap_or(QemuError::NotFound)),
    }
}

/// All of them.
pub async fn discover(
    candidates: &[Candidate],
    search_path: Option<&OsStr>,
    launcher: &Launcher,
) -> Discovery {
    let mut found = Discovery::default();
    for candidate in candidates.iter().cloned().chain(search_path.and_then(on_path)) {
        match inspect(&candidate, launcher).await {
            Ok(qemu) => found.usable.push(qemu),
            Err(error) => found.unusable.push(error),
        }
    }
    found.usable.sort_by_key(|qemu| std::cmp::Reverse(qemu.version));
    found
}

/// Asks one QEMU what it is, in a short session with a machine that has nothing.
pub async fn inspect(candidate: &Candidate, launcher: &Launcher) -> Result<Qemu, QemuError> {
    let path = &candidate.binary;
    if !is_program(path) {
        return Err(QemuError::NoSuchProgram { path: path.clone() });
    }
    let answers = interview(candidate, launcher).await?;
    if answers.architecture != "s390x" {
        return Err(QemuError::OtherArchitecture { path: path.clone(), architecture: answers.architecture });
    }
    let version = answers.version;
    if version < OLDEST {
        return Err(QemuError::TooOld { path: path.clone(), version });
    }
    Ok(Qemu {
        binary: path.clone(),
        data: candidate.data.clone(),
        version,
        package: answers.package,
        kvm: answers.kvm,
        protected: answers.protected,
        sandbox: answers.sandbox,
    })
}

struct Answers {
    architecture: String,
    version: Version,
    package: String,
    kvm: Feature,
    protected: Feature,
    sandbox: Feature,
}

async fn interview(candidate: &Candidate, launcher: &Launcher) -> Result<Answers, StartError> {
    let program = &candidate.binary;
    let mut inherited = Inherited::default();
    let (socket, descriptor) =
        inherited.socket().map_err(|source| StartError::Spawn { program: program.clone(), source })?;
    let mut arguments: Vec<String> =
        ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none"]
            .iter()
            .chain(&["-mon", "chardev=qmp,mode=control", "-chardev"])
            .map(ToString::to_string)
            .collect();
    arguments.push(format!("socket,id=qmp,fd={descriptor}"));

    let mut process = spawn(launcher, program, &arguments, inherited)?;
    let conversation = async {
        let (monitor, greeting, _events) = Monitor::connect(socket, START_LIMIT).await?;
        let target = monitor.execute(qmp::query_target {}, START_LIMIT).await?;
        let sandbox = qmp::query_command_line_options { option: Some("sandbox".to_owned()) };
        let version = greeting.qmp.version;
        let answers = Answers {
            architecture: qapi::Enum::name(&target.arch).to_owned(),
            version: Version::from(&version.qemu),
            package: crate::escape::escape(version.package.as_bytes()),
            kvm: has_type(&monitor, "kvm-accel").await?,
            protected: has_type(&monitor, "s390-pv-guest").await?,
            sandbox: feature(monitor.execute(sandbox, START_LIMIT).await)?,
        };
        Ok(answers)
    };
    let (answers, death) = converse(program, &mut process, conversation).await?;
    if death.is_none() {
        kill(program, &mut process).await?;
    }
    Ok(answers)
}

/// Asks for one type by name. Listing all types would make QEMU load all its modules, and one that was unpacked
/// beside another version's installation finds the other's and aborts.
async fn has_type(monitor: &Monitor, name: &str) -> Result<Feature, MonitorError> {
    feature(monitor.execute(qmp::qom_list_properties { typename: name.to_owned() }, START_LIMIT).await)
}

fn feature<T>(answer: Result<T, MonitorError>) -> Result<Feature, MonitorError> {
    match answer {
        Ok(_) => Ok(Feature::Present),
        Err(MonitorError::Refused { .. }) => Ok(Feature::Absent),
        Err(error) => Err(error),
    }
}

impl Candidate {
    /// A binary that a person named. When it was unpacked rather than installed, its firmware lies beside it, and the
    /// firmware in `/usr` is another version's.
    pub fn at(binary: impl Into<Utf8PathBuf>) -> Self {
        let binary = binary.into();
        let data = binary.parent().and_then(Utf8Path::parent).map(|prefix| prefix.join("share/qemu"));
        let data = data.filter(|data| data != "/usr/share/qemu" && data.join(FIRMWARE).is_file());
        Self { binary, data }
    }
}

/// What a shell would start.
fn on_path(search_path: &OsStr) -> Option<Candidate> {
    std::env::split_paths(search_path)
        .filter_map(|directory| Utf8PathBuf::from_path_buf(directory).ok())
        .map(|directory| directory.join(PROGRAM))
        .find(|path| path.is_absolute() && is_program(path))
        .map(Candidate::at)
}

fn is_program(path: &Utf8Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

impl From<&qmp::VersionTriple> for Version {
    fn from(triple: &qmp::VersionTriple) -> Self {
        let part = |number| u32::try_from(number).unwrap_or_default();
        Self { major: part(triple.major), minor: part(triple.minor), micro: part(triple.micro) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}
