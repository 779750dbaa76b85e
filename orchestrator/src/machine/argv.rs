//! QEMU's argument vector for a machine: a pure function of what is asked for.
//!
//! Every option here is understood by QEMU 7.2 and 10. Sources: QEMU's invocation manual
//! (<https://www.qemu.org/docs/master/system/invocation.html>) and its s390x chapters.

use std::fs::File;
use std::os::fd::RawFd;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::qemu::{Feature, Qemu};
use crate::guest::SHARE_TAG;
use crate::plan::{Accel, Threads, Turns};

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Spec {
    pub qemu: Qemu,
    pub accel: Accel,
    pub threads: Threads,
    /// QEMU's name of the CPU model: `qemu`, `max`, `host`, …
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_mib: u32,
    pub boot: Boot,
    /// Raw images, which become virtio disks with the serial numbers `disk0`, `disk1`, …
    pub disks: Vec<Utf8PathBuf>,
    /// A directory that the guest can read, and not write, by the mount tag [`SHARE_TAG`] over 9p.
    pub share: Option<Utf8PathBuf>,
    /// None: the CPUs run as they can.
    pub turns: Option<Turns>,
    pub memory: Memory,
    /// None: what happens is not to be repeated step by step.
    pub recording: Option<Recording>,
    /// The guest waits for a debugger, which says when it is to go on.
    pub stub: Stub,
}

/// QEMU's record of all that reached the guest from outside, by which a life of one CPU is repeated instruction by
/// instruction (<https://www.qemu.org/docs/master/system/replay.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    Write(Utf8PathBuf),
    Replay(Utf8PathBuf),
}

/// Whether QEMU's gdb stub is wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stub {
    Absent,
    Wired,
}

/// Where the guest's memory comes from, and whether it is kept.
#[derive(Debug, Clone)]
pub enum Memory {
    /// It is empty: the guest boots.
    Fresh,
    /// It is empty: the guest boots, and can be saved to this file.
    ToSave(Arc<File>),
    /// It, and all the rest of the machine's state, was saved to this file: the guest goes on where it was.
    Saved(Arc<File>),
}

impl Memory {
    /// Where it is kept.
    pub(super) fn file(&self) -> Option<&File> {
        match self {
            Self::Fresh => None,
            Self::ToSave(file) | Self::Saved(file) => Some(file),
        }
    }
}

/// What the guest boots. Protection by the hardware belongs to the image, so it cannot be asked for without one.
#[derive(Debug, Clone)]
pub enum Boot {
    /// A kernel in the clear, with arguments after [`KERNEL_ARGUMENTS`].
    Direct { kernel: Utf8PathBuf, initrd: Option<Utf8PathBuf>, kernel_args: Vec<String> },
    /// An image sealed by `genprotimg` or `pvimg`, which brings its own initrd and command line; the guest runs
    /// protected.
    Sealed { image: Utf8PathBuf },
}

/// Where the guest's streams and QMP go.
#[derive(Debug, Clone, Copy)]
pub enum Wiring<'a> {
    /// Connected sockets that QEMU inherits. The guest waits for QMP's `cont`, because QEMU keeps quiet about
    /// whatever happens before QMP is negotiated, a panic included.
    Sockets(Sockets),
    /// Files and a QMP socket in a directory: for starting by hand. The guest runs at once.
    Files { directory: &'a Utf8Path },
    /// Files in a directory and no monitor: for a script, which only sees whether QEMU is still there. The guest runs at
    /// once, and a panic ends it.
    Unattended { directory: &'a Utf8Path },
}

/// Numbers of inherited descriptors, one for each stream.
#[derive(Debug, Clone, Copy)]
pub struct Sockets {
    pub console: RawFd,
    pub kmsg: RawFd,
    pub results: RawFd,
    pub qmp: RawFd,
    /// Of the gdb stub, where one is wired.
    pub gdb: Option<RawFd>,
}

/// Kernel arguments of every machine, in front of a scenario's own.
pub const KERNEL_ARGUMENTS: &[&str] = &[
    // The SCLP VT220 console, QEMU's `sclpconsole`.
    "console=ttysclp0",
    // Hits are placed by the kernel's clock, also where CONFIG_PRINTK_TIME is off.
    "printk.time=1",
    // Init's notes on /dev/kmsg are not rate limited.
    "printk.devkmsg=on",
    // Room for a storm of reports until init has drained them; 128 KiB is the usual default.
    "log_buf_len=4M",
    // A vmlinux's addresses are the running kernel's, also under KVM, where there are random numbers at boot.
    "nokaslr",
    // A panic ends in a disabled wait, which QEMU reports with the PSW, whatever CONFIG_PANIC_TIMEOUT says.
    "panic=0",
    // Under TCG on a busy host a virtual CPU can be away for longer than a real one ever is: 60 s instead of 21 s.
    "rcupdate.rcu_cpu_stall_timeout=60",
];

/// An instruction of a guest that is recorded, and has no turns of its own, lasts 2^5 ns.
const RECORDED_SHIFT: u32 = 5;

/// When a guest boots whose clock is no real one.
const EXACT_DAY: &str = "2026-01-01";

/// Bytes of kernel command line that every s390x kernel takes (COMMAND_LINE_SIZE before 5.17 was 896, NUL included).
const COMMAND_LINE_LIMIT: usize = 895;

/// The kernel arguments do not fit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "kernel command line of {length} bytes: an s390x kernel takes {COMMAND_LINE_LIMIT}; shorten the scenario's kernel-args"
)]
pub struct CommandLineTooLong {
    length: usize,
}

/// The arguments that make `spec.qemu` this machine, without the program's name.
pub fn arguments(spec: &Spec, wiring: Wiring<'_>) -> Result<Vec<String>, CommandLineTooLong> {
    Ok(options(spec, wiring)?.concat())
}

/// The same, one entry for each option: its name and, if it has one, its value.
pub(super) fn options(spec: &Spec, wiring: Wiring<'_>) -> Result<Vec<Vec<String>>, CommandLineTooLong> {
    let mut options = Vec::new();
    let mut add = |name: &str, value: String| options.push(vec![name.to_owned(), value]);

    if let Some(data) = &spec.qemu.data {
        add("-L", data.to_string());
    }
    if spec.qemu.sandbox == Feature::Present {
        // QEMU has the host's files that it needs; a guest that breaks into it gets no program started.
        add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    }
    add("-machine", machine(spec));
    add("-accel", accel(spec));
    add("-cpu", spec.cpu_model.clone());
    add("-smp", spec.cpus.to_string());
    add("-m", format!("{}M", spec.memory_mib));
    if let Some(counted) = counted(spec) {
        add("-icount", counted);
    }
    if spec.turns.is_some() {
        // Of the random numbers that a CPU gives its kernel.
        add("-seed", "1".into());
        add("-rtc", format!("base={EXACT_DAY},clock=vm"));
    }
    match &spec.boot {
        // What it has booted is in its memory; whether the files are still there does not matter.
        Boot::Direct { .. } if matches!(spec.memory, Memory::Saved(_)) => {}
        Boot::Direct { kernel, initrd, kernel_args } => {
            add("-kernel", kernel.to_string());
            if let Some(initrd) = initrd {
                add("-initrd", initrd.to_string());
            }
            add("-append", kernel_command_line(kernel_args)?);
        }
        Boot::Sealed { image } => {
            add("-object", "s390-pv-guest,id=pv0".into());
            add("-kernel", image.to_string());
        }
    }
    add("-display", "none".into());
    // A panicked guest waits to be looked at, if anybody can; one that reboots ends instead.
    let panic = match wiring {
        Wiring::Sockets(_) | Wiring::Files { .. } => "pause",
        Wiring::Unattended { .. } => "exit-failure",
    };
    add("-action", format!("panic={panic},reboot=shutdown"));

    for (stream, chardev) in chardevs(wiring) {
        add("-chardev", format!("{chardev},id={stream}"));
    }
    if !matches!(wiring, Wiring::Unattended { .. }) {
        add("-mon", "chardev=qmp,mode=control".into());
    }
    if let Wiring::Sockets(Sockets { gdb: Some(descriptor), .. }) = wiring {
        add("-chardev", format!("socket,fd={descriptor},id=gdb"));
        add("-gdb", "chardev:gdb".into());
    }
    add("-device", "sclpconsole,chardev=console".into());
    // Without an ioeventfd the guest's kicks are handled on the virtual CPU's own thread, not whenever the
    // host runs QEMU's main loop: an exact schedule needs that, and the logs are too small to gain from it.
    add("-device", format!("virtio-serial-ccw,id=serial,ioeventfd=off{}", dma(spec)));
    for stream in ["results", "kmsg"] {
        add("-device", format!("virtserialport,bus=serial.0,chardev={stream},name=farm.{stream}"));
    }
    for (number, path) in spec.disks.iter().enumerate() {
        add("-blockdev", backend(number, path));
        add("-device", disk(number, spec));
    }
    if let Some(path) = &spec.share {
        add("-fsdev", shared_directory(path));
        add("-device", format!("virtio-9p-ccw,fsdev={SHARE_TAG},mount_tag={SHARE_TAG}{}", dma(spec)));
    }

    if spec.memory.file().is_some() {
        // Each page has its place in the file, which so holds no page twice, and a job can be put there.
        add("-global", "migration.mapped-ram=on".into());
    }
    if let Memory::Saved(_) = spec.memory {
        // The announcements of a network that is not there run on the host's clock, and shift an exact schedule.
        add("-global", "migration.announce-rounds=0".into());
        // QMP says when and from what, and is told when it is done.
        add("-incoming", "defer".into());
    }

    // Nothing that the farm did not ask for: no default devices, no configuration of the user's.
    options.push(vec!["-nodefaults".to_owned()]);
    options.push(vec!["-no-user-config".to_owned()]);
    if let Wiring::Sockets(_) = wiring {
        options.push(vec!["-S".to_owned()]);
    }
    Ok(options)
}

fn machine(spec: &Spec) -> String {
    let protection = match spec.boot {
        Boot::Sealed { .. } => ",confidential-guest-support=pv0",
        Boot::Direct { .. } => "",
    };
    // If QEMU itself crashes, the guest's memory would only bloat the core file.
    format!("s390-ccw-virtio,dump-guest-core=off{protection}")
}

/// How instructions are the guest's clock, if they are.
fn counted(spec: &Spec) -> Option<String> {
    let recording = spec.recording.as_ref().map(|recording| match recording {
        Recording::Write(path) => format!(",rr=record,rrfile={}", escape_commas(path)),
        Recording::Replay(path) => format!(",rr=replay,rrfile={}", escape_commas(path)),
    });
    let shift = match (&spec.turns, &recording) {
        (Some(turns), _) => turns.shift,
        (None, Some(_)) => RECORDED_SHIFT,
        (None, None) => return None,
    };
    // An idle guest does not wait for the host's clock: its own goes on to the next timer at once.
    Some(format!("shift={shift},sleep=off{}", recording.unwrap_or_default()))
}

fn accel(spec: &Spec) -> String {
    match (spec.accel, spec.threads) {
        (Accel::Tcg, _) if spec.recording.is_some() => "tcg,thread=single".into(),
        // Said aloud, because races depend on it.
        (Accel::Tcg, Threads::Multi) => "tcg,thread=multi".into(),
        (Accel::Tcg, Threads::Single) => "tcg,thread=single".into(),
        (Accel::Kvm, _) => "kvm".into(),
    }
}

/// The kernel's command line with a scenario's own arguments, however long it is.
pub fn kernel_line(extra: &[String]) -> String {
    let words: Vec<&str> = KERNEL_ARGUMENTS.iter().copied().chain(extra.iter().map(String::as_str)).collect();
    words.join(" ")
}

fn kernel_command_line(extra: &[String]) -> Result<String, CommandLineTooLong> {
    let line = kernel_line(extra);
    if line.len() > COMMAND_LINE_LIMIT {
        return Err(CommandLineTooLong { length: line.len() });
    }
    Ok(line)
}

/// Each stream's character device, short of its id.
fn chardevs(wiring: Wiring<'_>) -> Vec<(&'static str, String)> {
    let files = |directory: &Utf8Path| {
        ["console", "kmsg", "results"].map(|stream| {
            let path = escape_commas(&directory.join(format!("{stream}.log")));
            (stream, format!("file,path={path}"))
        })
    };
    match wiring {
        Wiring::Sockets(Sockets { console, kmsg, results, qmp, gdb: _ }) => {
            [("console", console), ("kmsg", kmsg), ("results", results), ("qmp", qmp)]
                .map(|(stream, descriptor)| (stream, format!("socket,fd={descriptor}")))
                .into()
        }
        Wiring::Files { directory } => {
            let socket = escape_commas(&directory.join("qmp.sock"));
            let qmp = ("qmp", format!("socket,path={socket},server=on,wait=off"));
            files(directory).into_iter().chain([qmp]).collect()
        }
        Wiring::Unattended { directory } => files(directory).into(),
    }
}

/// The host's side of a disk. It lives no longer than its guest, so it is written through the page cache and
/// never forced out to the host's disk. O_DIRECT would fail on tmpfs, and native AIO and io_uring need it or a
/// host that allows them; threads work everywhere.
fn backend(number: usize, path: &Utf8Path) -> String {
    let path = escape_commas(path);
    format!(
        "driver=raw,node-name=disk{number},cache.direct=off,cache.no-flush=on,\
         file.driver=file,file.aio=threads,file.filename={path}"
    )
}

/// The guest's side of a disk. An I/O error of the host (a full disk, say) stops the machine and is reported over
/// QMP: handed on to the guest, it would look like the kernel's fault.
fn disk(number: usize, spec: &Spec) -> String {
    let dma = dma(spec);
    format!("virtio-blk-ccw,drive=disk{number},serial=disk{number},werror=stop,rerror=stop{dma}")
}

/// The host's side of the share. A guest that could write to it could fill the host's disk. Whose the files are does not
/// matter, so that nothing has to be mapped.
fn shared_directory(path: &Utf8Path) -> String {
    format!("local,id={SHARE_TAG},path={},security_model=none,readonly=on", escape_commas(path))
}

/// A protected guest shares only its bounce buffers with QEMU, so devices must go through the guest's DMA API
/// (VIRTIO_F_ACCESS_PLATFORM).
fn dma(spec: &Spec) -> &'static str {
    match spec.boot {
        Boot::Sealed { .. } => ",iommu_platform=on",
        Boot::Direct { .. } => "",
    }
}

/// A comma separates suboptions; within a value it is doubled.
fn escape_commas(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::qemu::Version;
    use super::*;

    const SOCKETS: Wiring<'_> =
        Wiring::Sockets(Sockets { console: 10, kmsg: 11, results: 12, qmp: 13, gdb: None });

    pub(crate) fn spec() -> Spec {
        Spec {
            qemu: Qemu {
                binary: "/usr/bin/qemu-system-s390x".into(),
                data: None,
                version: Version { major: 10, minor: 0, micro: 2 },
                package: String::new(),
                kvm: Feature::Absent,
                protected: Feature::Absent,
                sandbox: Feature::Present,
            },
            accel: Accel::Tcg,
            threads: Threads::Multi,
            cpu_model: "qemu".into(),
            cpus: 2,
            memory_mib: 512,
            boot: Boot::Direct {
                kernel: "/cache/vmlinuz".into(),
                initrd: Some("/cell/initrd".into()),
                kernel_args: vec!["page_poison=1".into()],
            },
            disks: vec!["/cell/disk0".into()],
            share: None,
            turns: None,
            memory: Memory::Fresh,
            recording: None,
            stub: Stub::Absent,
        }
    }

    /// One option a line, as a person would compare them.
    fn shown(spec: &Spec, wiring: Wiring<'_>) -> String {
        options(spec, wiring).unwrap().iter().map(|words| words.join(" ") + "\n").collect()
    }

    #[test]
    fn tcg() {
        insta::assert_snapshot!(shown(&spec(), SOCKETS));
    }

    #[test]
    fn tcg_in_one_thread_with_another_cpu() {
        let spec = Spec { threads: Threads::Single, cpu_model: "z196-base,dfp=off".into(), ..spec() };
        insta::assert_snapshot!(shown(&spec, SOCKETS));
    }

    #[test]
    fn tcg_with_instructions_for_a_clock() {
        let turns = Turns { shift: 7, delay: 1, entropy: [0; 32] };
        let spec = Spec { threads: Threads::Single, turns: Some(turns), disks: Vec::new(), ..spec() };
        insta::assert_snapshot!(shown(&spec, SOCKETS));
    }

    #[test]
    fn a_recording_that_a_debugger_looks_at() {
        let recording = Some(Recording::Replay("/cell/replay.rr".into()));
        let spec = Spec { cpus: 1, recording, stub: Stub::Wired, disks: Vec::new(), ..spec() };
        let sockets = Sockets { console: 10, kmsg: 11, results: 12, qmp: 13, gdb: Some(14) };
        insta::assert_snapshot!(shown(&spec, Wiring::Sockets(sockets)));
    }

    #[test]
    fn kvm() {
        let spec = Spec { accel: Accel::Kvm, cpu_model: "host".into(), ..spec() };
        insta::assert_snapshot!(shown(&spec, SOCKETS));
    }

    #[test]
    fn kvm_with_protection() {
        let boot = Boot::Sealed { image: "/cell/se.img".into() };
        let spec = Spec { accel: Accel::Kvm, cpu_model: "host".into(), boot, ..spec() };
        insta::assert_snapshot!(shown(&spec, SOCKETS));
    }

    #[test]
    fn unpacked_qemu_without_sandbox_into_files() {
        let mut spec = Spec { disks: vec!["/cells/a,b/disk0".into(), "/cells/a,b/disk1".into()], ..spec() };
        spec.qemu.data = Some("/cache/qemu/usr/share/qemu".into());
        spec.qemu.sandbox = Feature::Absent;
        let directory = Utf8Path::new("/cells/a,b");
        insta::assert_snapshot!(shown(&spec, Wiring::Files { directory }));
    }

    #[test]
    fn nobody_watches() {
        insta::assert_snapshot!(shown(&spec(), Wiring::Unattended { directory: Utf8Path::new("") }));
    }

    #[test]
    fn a_share_in_a_directory_with_a_comma() {
        let spec = Spec { share: Some("/cells/a,b/share".into()), ..spec() };
        insta::assert_snapshot!(shown(&spec, SOCKETS));
    }

    #[test]
    fn command_line_has_a_limit() {
        let with = |length| {
            let base = KERNEL_ARGUMENTS.join(" ").len() + 1;
            kernel_command_line(&["x".repeat(length - base)])
        };
        assert_eq!(with(895).unwrap().len(), 895);
        assert_eq!(with(896), Err(CommandLineTooLong { length: 896 }));
    }
}
