//! A farm to type at: its directories, its programs, and what it left running.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use farm::cache::{Cache, quiet};
use farm::kernel::{Catalog, Fetcher, FoundQemu, Kernel, KernelError, MirrorChoice, Refresh};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// Only a broken farm takes so long to end.
const AMPLE: Duration = Duration::from_secs(120);

/// Marks the processes of one test: children inherit it.
const MARK: &str = "FARM_TEST_MARK";

pub(crate) fn farm_program() -> &'static str {
    env!("CARGO_BIN_EXE_farm")
}

pub(crate) fn shared_cache() -> Utf8PathBuf {
    let default = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-cache");
    let root = std::env::var("FARM_TEST_CACHE").map_or(default, Utf8PathBuf::from);
    fs::create_dir_all(&root).unwrap();
    root.canonicalize_utf8().unwrap()
}

/// Debian's kernel, out of the shared cache.
pub(crate) fn debian_12() -> Kernel {
    fetch(|fetcher, catalog| fetcher.kernel(catalog.kernel("debian-12").unwrap()))
}

/// Puts the QEMU that set-up prefers into the shared cache: the host's own may be too old to save guests.
pub(crate) fn newer_qemu() -> FoundQemu {
    fetch(|fetcher, catalog| fetcher.qemu(&catalog.qemu))
}

fn fetch<T>(fetch: impl FnOnce(&Fetcher<'_>, &Catalog) -> Result<T, KernelError>) -> T {
    let cache = Cache::new(&shared_cache()).unwrap();
    let catalog = Catalog::embedded().unwrap();
    let mirrors = MirrorChoice::OfHost;
    let fetcher = Fetcher { cache: &cache, refresh: Refresh::No, mirrors, progress: &quiet };
    fetch(&fetcher, &catalog).unwrap()
}

/// A farm with a results directory of its own, and a folder for a test's files.
pub(crate) struct Farm {
    place: tempfile::TempDir,
}

impl Farm {
    pub(crate) fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.place.path()).unwrap().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Utf8PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A scenario on the smallest machine; `rest` is its YAML from `steps:` on.
    pub(crate) fn scenario(&self, name: &str, rest: &str) -> String {
        let head = format!("name: {name}\npurpose: a test\nmachine: {{cpus: 1, memory: 128M}}\n");
        self.file(&format!("{name}.yaml"), head + rest).into_string()
    }

    /// A scenario that ends at once.
    pub(crate) fn short(&self) -> String {
        self.scenario("short", "steps: [{write: /proc/sys/vm/drop_caches, text: '3'}]\n")
    }

    /// A scenario whose guest sleeps until it is stopped.
    pub(crate) fn endless(&self) -> String {
        self.program("sleeper", "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n");
        self.scenario("endless", "steps: [{exec: sleeper, limit: 10m}]\n")
    }

    /// A static s390x program.
    pub(crate) fn program(&self, name: &str, source: &str) {
        let file = self.file(&format!("{name}.c"), source);
        self.compile(name, &[file.as_str()]);
    }

    pub(crate) fn compile(&self, name: &str, arguments: &[&str]) {
        let output = Command::new("s390x-linux-gnu-gcc")
            .args(["-static", "-O2", "-pthread", "-std=gnu11", "-o", self.path(name).as_str()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn state(&self) -> Utf8PathBuf {
        self.path("state")
    }

    /// Guests boot: what lives show is what a booted kernel shows.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let cold: &[&str] = if arguments.first() == Some(&"run") { &["--cold"] } else { &[] };
        self.warm_command(&[arguments, cold].concat())
    }

    /// Guests go on from saved ones, as they do where nothing else is asked for.
    pub(crate) fn warm_command(&self, arguments: &[&str]) -> Command {
        self.command_of(OsStr::new(farm_program()), &[], arguments)
    }

    /// farm started by `program` with `before` in front.
    pub(crate) fn command_of(&self, program: &OsStr, before: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(before)
            .args(arguments)
            .env("FARM_STATE", self.state())
            .env("FARM_CACHE", shared_cache())
            // The user's own kernels are none of these tests' business.
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env_remove("FARM_KERNELS")
            .env(MARK, self.place.path())
            .env("TERM", "xterm");
        command
    }

    /// Types a command and waits for its end. No process of it may be left, and nothing that it prints may move a
    /// cursor: neither stream is a terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.finish(self.command(arguments))
    }

    pub(crate) fn finish(&self, command: Command) -> Finished {
        self.finish_within(AMPLE, command)
    }

    /// Beside another command, whose processes stay.
    pub(crate) fn finish_beside(&self, command: Command) -> Finished {
        Self::output_within(AMPLE, command)
    }

    fn output_within(limit: Duration, command: Command) -> Finished {
        let output = assert_cmd::Command::from_std(command).timeout(limit).output().unwrap();
        Finished { code: output.status.code(), stdout: plain(output.stdout), stderr: plain(output.stderr) }
    }

    pub(crate) fn finish_within(&self, limit: Duration, command: Command) -> Finished {
        let finished = Self::output_within(limit, command);
        assert_eq!(self.processes(), [], "left running after\n{finished:?}");
        finished
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        self.begin(self.command(arguments))
    }

    pub(crate) fn begin(&self, mut command: Command) -> Started {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        Started { child, stdout, stderr, seen: Vec::new() }
    }

    /// Processes of this test that live: farm itself and its descendants.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mark = format!("{MARK}={}", self.place.path().display());
        let marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        let entries =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        entries
            .filter_map(|name| name.parse().ok())
            .filter(marked)
            .filter_map(|pid: i32| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                Some(Process { pid, name: name.trim_end().to_owned() })
            })
            .collect()
    }

    /// The one QEMU that runs.
    pub(crate) fn qemu(&self) -> Process {
        let processes = self.processes();
        let mut qemus = processes.iter().filter(|process| process.name.starts_with("qemu-system"));
        let (Some(qemu), None) = (qemus.next(), qemus.next()) else { panic!("{processes:?}") };
        qemu.clone()
    }

    /// The directory of the newest run.
    pub(crate) fn run_directory(&self) -> Utf8PathBuf {
        let entries = self.state().join("runs").read_dir_utf8().unwrap();
        entries.map(|entry| entry.unwrap().into_path()).max().unwrap()
    }

    /// The directories of the newest run's lives.
    pub(crate) fn lives(&self) -> Vec<Utf8PathBuf> {
        let entries = self.run_directory().join("cells").read_dir_utf8().unwrap();
        let mut lives: Vec<_> = entries.map(|entry| entry.unwrap().into_path()).collect();
        lives.sort();
        lives
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
}

impl Process {
    pub(crate) fn handle(&self) -> OwnedFd {
        pidfd_open(Pid::from_raw(self.pid).unwrap(), PidfdFlags::empty()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }
}

/// Waits until the process behind a pidfd has ended.
pub(crate) fn wait_gone(handle: &OwnedFd) {
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    // assert_cmd's time limits catch SIGCHLD.
    let ended = retry_on_intr(|| poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit))).unwrap();
    assert_eq!(ended, 1, "still alive");
}

/// Text without a byte that a terminal would obey.
fn plain(bytes: Vec<u8>) -> String {
    let text = String::from_utf8(bytes).unwrap();
    let raw = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "raw in {text:?}");
    text
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// None: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The lives of a run that was printed with `--json`, by scenario.
    #[track_caller]
    pub(crate) fn life(&self, scenario: &str) -> Value {
        let run = self.json();
        let mut lives = run["lives"].as_array().unwrap().iter().filter(|life| life["scenario"] == scenario);
        let (Some(life), None) = (lives.next(), lives.next()) else {
            panic!("one life of {scenario} in {run}")
        };
        life.clone()
    }
}

/// A command that runs, and is watched.
pub(crate) struct Started {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: BufReader<ChildStderr>,
    seen: Vec<u8>,
}

impl Started {
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on stderr with `text` in it.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let from = self.seen.len();
            let read = self.stderr.read_until(b'\n', &mut self.seen).unwrap();
            assert!(read > 0, "ended without {text:?}: {}", String::from_utf8_lossy(&self.seen));
            if String::from_utf8_lossy(&self.seen[from..]).contains(text) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it ends within this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let handle = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let limit = Timespec { tv_sec: 0, tv_nsec: limit.as_nanos().try_into().unwrap() };
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).unwrap() == 1
    }

    /// As `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn end(mut self) -> Finished {
        self.stderr.read_to_end(&mut self.seen).unwrap();
        let code = self.child.wait().unwrap().code();
        Finished { code, stdout: plain(self.stdout.join().unwrap()), stderr: plain(self.seen) }
    }
}

/// A life's verdict and its reason.
#[track_caller]
pub(crate) fn verdict(life: &Value) -> (&str, &str) {
    (life["verdict"].as_str().unwrap(), life["reason"].as_str().unwrap())
}

/// Titles and standings of a life's hits.
#[track_caller]
pub(crate) fn hits(life: &Value) -> Vec<(&str, &str)> {
    let hits = life["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        let judged = &hit["judged"];
        (judged["hit"]["title"].as_str().unwrap(), judged["standing"]["type"].as_str().unwrap())
    })
    .collect()
}
