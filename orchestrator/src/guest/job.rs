//! The job: what a guest is to do, as the text that init reads (docs/guest-protocol.md) and as an archive
//! beside the image.

use std::fs;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::GuestError;
use super::archive::Archive;
use super::image::LiteImage;
use super::share::SHARE_TAG;
use crate::kernel::hex;
use crate::plan::step_seed;
use crate::scenario::{Action, Disk, HeartbeatLimit, Interference, Step, Touch};
use crate::scenario::{SHARE_DIRECTORY, emulation};

/// A guest refuses longer lines.
const LONGEST_LINE_BYTES: usize = 4096;
/// At most this long between two beats; and several beats within the limit, so that one late beat is no hang.
const SLOWEST_BEAT: Duration = Duration::from_secs(1);
const BEATS_IN_LIMIT: u32 = 4;
/// How the share is mounted. Without a cache reads go from the caller's memory to the device, and of more than 1,024 bytes
/// without a copy, a quarter of a MiB with one request at most (net/9p/client.c, p9_client_read_once()).
const SHARE_OPTIONS: &str = "trans=virtio,version=9p2000.L,cache=none,msize=262144";

/// What a guest is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The cell's id.
    pub cell: String,
    /// What the guest's wall clock is set to, in seconds since 1970.
    pub epoch: i64,
    /// What the kernel's random numbers are made from beside what it has: copies of a saved guest have the same.
    pub entropy: Entropy,
    /// Between two beats.
    pub heartbeat: Duration,
    /// Loops that init turns before each step.
    pub delay: u32,
    /// Files under /farm/modules, in the order to load them.
    pub modules: Vec<String>,
    /// Disks of the guest's own that get an empty file system.
    pub formats: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Whether the host's share is mounted too.
    pub share: bool,
    /// Files of the guest and the text that is written to each, in this order, before the first step.
    pub sets: Vec<(String, String)>,
    /// What its kernel traces from the first step on.
    pub trace: Vec<String>,
    pub work: Work,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Steps(Vec<JobStep>),
    /// An interactive shell on the console.
    Shell,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub file_system: String,
    pub device: String,
    pub directory: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStep {
    pub name: String,
    pub action: JobAction,
    /// Programs that run beside it, each with its arguments.
    pub beside: Vec<(String, Vec<String>)>,
    /// What is counted while it runs.
    pub touches: Vec<Touch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobAction {
    /// A stress program: worker N gets the seed plus N.
    Stress {
        program: String,
        arguments: Vec<String>,
        seed: u64,
        workers: u32,
        limit: Duration,
    },
    /// A program of the user's, which gets its own arguments only.
    Bare {
        program: String,
        arguments: Vec<String>,
        workers: u32,
        limit: Duration,
    },
    Write {
        path: String,
        text: String,
        limit: Duration,
    },
}

/// A program of the user's on the host, which a guest finds as /job/exec/NUMBER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    pub number: u32,
    pub path: Utf8PathBuf,
}

/// For a guest's random numbers.
pub type Entropy = [u8; 32];

/// What of a cell makes its job.
#[derive(Debug, Clone)]
pub struct JobRequest<'a> {
    pub cell: String,
    pub disks: &'a [Disk],
    pub share: bool,
    /// farm's own, and those of the share.
    pub modules: Vec<String>,
    pub sets: Vec<(String, String)>,
    pub trace: Vec<String>,
    pub steps: &'a [Step],
    /// The cell's; each step gets its own from it.
    pub seed: u64,
    pub heartbeat: HeartbeatLimit,
    pub delay: u32,
    pub epoch: i64,
    pub entropy: Entropy,
}

/// A cell's job and the programs that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellJob {
    pub job: Job,
    pub executables: Vec<Executable>,
}

impl CellJob {
    /// All disks with a file system mounted, and that of the emulated ultravisor where a step uses it; all steps in their order.
    pub fn new(request: JobRequest<'_>, image: &LiteImage) -> Result<Self, GuestError> {
        let mut executables: Vec<Executable> = Vec::new();
        let steps = request
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let seed = step_seed(request.seed, index);
                let action = job_action(step, seed, &mut executables);
                let program = |one: &Interference| format!("/farm/interference/{}", one.program);
                let beside = step.beside.iter().map(|one| (program(one), one.arguments())).collect();
                JobStep { name: step.name.clone(), action, beside, touches: step.touches.clone() }
            })
            .collect();
        let job = Job { work: Work::Steps(steps), ..Job::shell(request, image)? };
        Ok(Self { job, executables })
    }

    /// The second archive of an initrd, which brings /job.
    pub fn archive(&self) -> Result<Vec<u8>, GuestError> {
        let mut archive = Archive::default();
        archive.file("job/job", self.job.text()?.into_bytes());
        for Executable { number, path } in &self.executables {
            let content = fs::read(path).map_err(|source| GuestError::Io { path: path.clone(), source })?;
            archive.program(&format!("job/exec/{number}"), content);
        }
        archive.to_bytes().map_err(GuestError::Archive)
    }
}

impl Job {
    /// A shell in the place of the request's steps, with the same disks.
    pub fn shell(request: JobRequest<'_>, image: &LiteImage) -> Result<Self, GuestError> {
        let mut mounts: Vec<Mount> = request
            .disks
            .iter()
            .enumerate()
            .filter_map(|(number, disk)| {
                Some(Mount {
                    file_system: disk.format.file_system()?.to_owned(),
                    device: format!("/dev/disk{number}"),
                    directory: format!("/mnt/{number}"),
                })
            })
            .collect();
        let mut formats = Vec::new();
        if request.steps.iter().any(uses_disk_of_uvsim) {
            let device = format!("/dev/{}", emulation::DISK);
            formats.push(device.clone());
            let directory = emulation::DISK_DIRECTORY.to_owned();
            mounts.push(Mount { file_system: "ext4".to_owned(), device, directory });
        }
        let mut modules: Vec<String> = Vec::new();
        for module in mounts.iter().map(|mount| &mount.file_system).chain(&request.modules) {
            // What two of them need is loaded once.
            let files = image.modules_for(module)?;
            modules.extend(files.into_iter().filter(|file| !modules.contains(file)).collect::<Vec<_>>());
        }
        Ok(Self {
            cell: request.cell,
            epoch: request.epoch,
            entropy: request.entropy,
            heartbeat: SLOWEST_BEAT.min(request.heartbeat.0 / BEATS_IN_LIMIT),
            delay: request.delay,
            modules,
            formats,
            mounts,
            share: request.share,
            sets: request.sets,
            trace: request.trace,
            work: Work::Shell,
        })
    }

    /// The text of /job/job.
    pub fn text(&self) -> Result<String, GuestError> {
        let mut lines = Lines::default();
        lines.add("farm-job", &["1"])?;
        lines.add("cell", &[&self.cell])?;
        lines.add("epoch", &[&self.epoch.to_string()])?;
        lines.add("entropy", &[&hex(&self.entropy)])?;
        lines.add("heartbeat", &[&milliseconds(self.heartbeat)])?;
        if self.delay > 0 {
            lines.add("delay", &[&self.delay.to_string()])?;
        }
        for module in &self.modules {
            lines.add("module", &[module])?;
        }
        for device in &self.formats {
            lines.add("format", &[device])?;
        }
        for Mount { file_system, device, directory } in &self.mounts {
            lines.add("mount", &[file_system, device, directory])?;
        }
        if self.share {
            lines.add("mount", &["9p", SHARE_TAG, SHARE_DIRECTORY, SHARE_OPTIONS])?;
        }
        for (path, text) in &self.sets {
            lines.add("set", &[path, text])?;
        }
        for what in &self.trace {
            lines.add("trace", &[what])?;
        }
        match &self.work {
            Work::Shell => lines.add("shell", &[])?,
            Work::Steps(steps) => {
                for step in steps {
                    lines.add_step(step)?;
                }
            }
        }
        Ok(lines.text)
    }
}

fn uses_disk_of_uvsim(step: &Step) -> bool {
    matches!(&step.action, Action::Stress { dir, .. } if dir == emulation::DISK_DIRECTORY)
}

fn job_action(step: &Step, seed: u64, executables: &mut Vec<Executable>) -> JobAction {
    let (arguments, limit) = (step.action.arguments(), step.limit);
    match &step.action {
        Action::Stress { program, workers, .. } => {
            let program = format!("/farm/stress/{program}");
            JobAction::Stress { program, arguments, seed, workers: *workers, limit }
        }
        Action::Exec { path, workers, .. } => {
            let number = executable_number(executables, path.clone());
            JobAction::Bare { program: format!("/job/exec/{number}"), arguments, workers: *workers, limit }
        }
        Action::Write { path, text } => JobAction::Write { path: path.clone(), text: text.clone(), limit },
    }
}

/// Executables count from 1, as steps and workers do; a file that several steps run goes along once.
fn executable_number(executables: &mut Vec<Executable>, path: Utf8PathBuf) -> u32 {
    if let Some(known) = executables.iter().find(|executable| executable.path == path) {
        return known.number;
    }
    let number = executables.last().map_or(0, |last| last.number) + 1;
    executables.push(Executable { number, path });
    number
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, key: &'static str, words: &[&str]) -> Result<(), GuestError> {
        let mut line = key.to_owned();
        for word in words {
            line.push(' ');
            escape_into(&mut line, word);
        }
        if line.len() > LONGEST_LINE_BYTES {
            return Err(GuestError::LongJobLine { key, bytes: line.len(), limit: LONGEST_LINE_BYTES });
        }
        self.text += &line;
        self.text.push('\n');
        Ok(())
    }

    fn add_step(&mut self, step: &JobStep) -> Result<(), GuestError> {
        self.add("step", &[&step.name])?;
        match &step.action {
            JobAction::Write { path, text, limit } => {
                self.add("write", &[path, text])?;
                self.add("limit", &[&milliseconds(*limit)])?;
            }
            JobAction::Stress { program, arguments, seed, workers, limit } => {
                self.add_run(program, arguments)?;
                self.add("seed", &[&seed.to_string()])?;
                self.add("workers", &[&workers.to_string()])?;
                self.add("limit", &[&milliseconds(*limit)])?;
            }
            JobAction::Bare { program, arguments, workers, limit } => {
                self.add_run(program, arguments)?;
                self.add("bare", &[])?;
                self.add("workers", &[&workers.to_string()])?;
                self.add("limit", &[&milliseconds(*limit)])?;
            }
        }
        for (program, arguments) in &step.beside {
            self.add("beside", &[program])?;
            arguments.iter().try_for_each(|argument| self.add("beside-arg", &[argument]))?;
        }
        for touch in &step.touches {
            self.add("touch", &[&touch.least.to_string(), &touch.alternatives()])?;
        }
        self.add("end", &[])
    }

    fn add_run(&mut self, program: &str, arguments: &[String]) -> Result<(), GuestError> {
        self.add("run", &[program])?;
        arguments.iter().try_for_each(|argument| self.add("arg", &[argument]))
    }
}

/// `%XX` for what is not printable ASCII, for the blank, and for `%` itself.
fn escape_into(line: &mut String, word: &str) {
    for byte in word.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            line.push(char::from(byte));
        } else {
            line.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests;
