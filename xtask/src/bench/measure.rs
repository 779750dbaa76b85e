//! What is measured of one process: its wall time, its first word, its own CPU time and memory.

use std::cell::Cell;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use camino::Utf8PathBuf;
use farm::store::{LifeRecord, Store, StoredRun};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How often a process's peak memory is read. The kernel keeps the peak; only growth in the last interval is missed.
const SAMPLE: Duration = Duration::from_millis(20);
/// Ticks a second in /proc/PID/stat: USER_HZ, 100 on every architecture that farm runs on.
const USER_HZ: u64 = 100;

/// The program to measure. Each run has a state directory of its own below `state`.
pub(super) struct Farm {
    pub(super) program: Utf8PathBuf,
    pub(super) state: Utf8PathBuf,
    runs: Cell<u32>,
}

/// What one process took. CPU time and memory are its own, without its children's.
pub(super) struct Usage {
    pub(super) wall: Duration,
    /// Until the first byte on stderr.
    pub(super) first_word: Duration,
    pub(super) cpu: Duration,
    pub(super) peak_kib: u64,
}

/// One `farm run`.
pub(super) struct Run {
    pub(super) usage: Usage,
    pub(super) stored: StoredRun,
}

impl Run {
    pub(super) fn life(&self) -> Result<&LifeRecord> {
        self.stored.lives.first().context("the run has no life")
    }
}

impl Farm {
    pub(super) fn new(program: Utf8PathBuf, state: Utf8PathBuf) -> Self {
        Self { program, state, runs: Cell::new(0) }
    }

    /// `farm run` with these arguments. How it ended is for the caller to judge by its lives.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Run> {
        self.runs.set(self.runs.get() + 1);
        let state = self.state.join(self.runs.get().to_string());
        let mut command = Command::new(&self.program);
        command.arg("--state").arg(&state).arg("run").args(arguments);
        let (usage, stderr) = measure(command)?;
        match Store::new(state).read_runs()?.0.pop() {
            Some(stored) => Ok(Run { usage, stored }),
            None => bail!("`farm run {}` left no results: {stderr}", arguments.join(" ")),
        }
    }

    pub(super) fn help(&self) -> Result<Usage> {
        let mut command = Command::new(&self.program);
        command.arg("--help");
        Ok(measure(command)?.0)
    }
}

/// Runs a program to its end, and returns its stderr beside what it took.
fn measure(mut command: Command) -> Result<(Usage, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = format!("{command:?}");
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{program} could not be started"))?;
    let process = format!("/proc/{}", child.id());
    let sampler = std::thread::spawn({
        let status = format!("{process}/status");
        move || peak_kib(Path::new(&status))
    });
    let (first_word, stderr) = listen(&mut child, began)?;
    let pid = Pid::from_child(&child);
    // Left a zombie, so that its times can still be read.
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let wall = began.elapsed();
    let stat = std::fs::read_to_string(format!("{process}/stat"))?;
    let cpu = own_cpu(&stat).with_context(|| format!("{process}/stat reads {stat:?}"))?;
    child.wait()?;
    let Ok(peak_kib) = sampler.join() else { bail!("the thread that samples memory panicked") };
    Ok((Usage { wall, first_word, cpu, peak_kib }, stderr))
}

fn listen(child: &mut Child, began: Instant) -> Result<(Duration, String)> {
    let mut stderr = child.stderr.take().context("the child has no stderr")?;
    let mut text = vec![0; 1];
    let read = stderr.read(&mut text)?;
    let first_word = began.elapsed();
    text.truncate(read);
    stderr.read_to_end(&mut text)?;
    Ok((first_word, String::from_utf8_lossy(&text).into_owned()))
}

/// The peak resident set of a process that runs, until it has no memory any more.
fn peak_kib(status: &Path) -> u64 {
    let mut peak = 0;
    while let Some(now) = std::fs::read_to_string(status).ok().as_deref().and_then(high_water_mark) {
        peak = now;
        // The kernel tells nobody when a process's peak grows.
        std::thread::sleep(SAMPLE);
    }
    peak
}

fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of all the process's threads (proc(5), fields 14 and 15 of /proc/PID/stat). The name before
/// them may hold blanks, but ends with the last parenthesis.
fn own_cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(14 - 3);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * (1000 / USER_HZ)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 25 1000 2000 20 0 1 0 99";
        assert_eq!(own_cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(own_cpu("7 (farm) S 1 2"), None);
    }

    #[test]
    fn a_zombie_has_no_memory() {
        assert_eq!(high_water_mark("Name:\tfarm\nVmHWM:\t    5120 kB\nVmRSS:\t 4 kB\n"), Some(5120));
        assert_eq!(high_water_mark("Name:\tfarm\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_process_is_measured_without_its_children() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo word >&2; sh -c 'i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done'; exit 3",
        ]);
        let (usage, stderr) = measure(command).unwrap();
        assert_eq!(stderr, "word\n");
        assert!(usage.first_word < usage.wall);
        // The child's loop takes half a second and more.
        assert!(usage.cpu < Duration::from_millis(100), "{:?}", usage.cpu);
        assert!(usage.peak_kib > 0);
    }
}
