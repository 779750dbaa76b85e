//! A QEMU belongs to its farm: it dies with it, and has nothing open but what is its own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use camino::Utf8PathBuf;
use farm::machine::{Exit, Machine, MachineEvent, Stop, script};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, getpgid, getpgrp, pidfd_open};

use super::{AMPLE, Scratch, guests, next, qemus, spec, started};

/// Names the guest of the farm that is to be killed; unset in a usual run of the tests.
const VICTIM: &str = "FARM_TEST_VICTIM";

#[tokio::test]
async fn killed_farm_leaves_no_qemu() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    // This very program, told to be the farm that is killed.
    let mut farm = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "isolation::the_farm_that_is_killed", "--nocapture"])
        .env(VICTIM, kernel)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pids: Vec<Pid> = BufReader::new(farm.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap())
        .find_map(|line| {
            line.strip_prefix("running ").map(str::to_owned).filter(|rest| !rest.contains("test"))
        })
        .unwrap()
        .split(' ')
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect();
    assert!(!pids.is_empty());

    let pidfds: Vec<OwnedFd> =
        pids.iter().map(|pid| pidfd_open(*pid, PidfdFlags::empty()).unwrap()).collect();
    assert!(pidfds.iter().all(|pidfd| !ends_within(pidfd, Duration::from_millis(50))), "alive with its farm");
    farm.kill().unwrap();
    farm.wait().unwrap();
    assert!(pidfds.iter().all(|pidfd| ends_within(pidfd, AMPLE.0)), "a QEMU outlives its farm");
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn ends_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// Not a test of its own: what [`killed_farm_leaves_no_qemu`] starts as another process and kills.
#[tokio::test]
async fn the_farm_that_is_killed() {
    let Some(kernel) = std::env::var_os(VICTIM) else { return };
    let kernel = Utf8PathBuf::try_from(std::path::PathBuf::from(kernel)).unwrap();
    let mut machines = Vec::new();
    for qemu in qemus().await {
        machines.push(started(&spec(&qemu, kernel.clone())).await);
    }
    let pids: Vec<String> =
        machines.iter().map(|(machine, _)| machine.process_id().unwrap().to_string()).collect();
    writeln!(std::io::stdout(), "running {}", pids.join(" ")).unwrap();
    std::future::pending().await
}

/// What a process has open, as the links in its /proc/PID/fd say.
fn open_files(process: impl std::fmt::Display) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

/// Those that two processes can talk through, less what whoever started the tests lets all processes inherit.
fn channels(machine: &Machine, ambient: &[String]) -> BTreeSet<String> {
    open_files(machine.process_id().unwrap())
        .into_iter()
        .filter(|name| name.starts_with("socket:") || name.starts_with("pipe:"))
        .filter(|name| !ambient.contains(name))
        .collect()
}

#[tokio::test]
async fn machines_have_their_own_descriptors_only() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    let private = scratch.file("private", "");
    let _open = std::fs::File::open(&private).unwrap();
    let ambient = open_files(std::os::unix::process::parent_id());
    for qemu in qemus().await {
        let (one, _one_streams) = started(&spec(&qemu, kernel.clone())).await;
        let (two, _two_streams) = started(&spec(&qemu, kernel.clone())).await;
        let channels = [&one, &two].map(|machine| channels(machine, &ambient));
        // Four sockets, and stderr.
        assert_eq!(channels[0].len(), 5, "{channels:?}");
        assert_eq!(channels[1].len(), 5, "{channels:?}");
        assert_eq!(channels[0].intersection(&channels[1]).count(), 0);
        assert!(!open_files(two.process_id().unwrap()).contains(&private.to_string()));
    }
}

#[tokio::test]
async fn one_machines_end_is_not_anothers() {
    let scratch = Scratch::new();
    let hang = scratch.file("hang", guests::hang());
    let reboot = scratch.file("reboot", guests::reboot());
    for qemu in qemus().await {
        let (mut lasting, _streams) = started(&spec(&qemu, hang.clone())).await;
        let (mut short, _streams) = started(&spec(&qemu, reboot.clone())).await;
        assert_eq!(super::to_the_end(&mut short).await.1.exit, Exit::Reset);
        lasting.probe(AMPLE).await.unwrap();
        assert_eq!(lasting.stop(Stop::Now).await.exit, Exit::Stopped);
    }
}

#[tokio::test]
async fn a_terminals_interrupt_passes_qemu_by() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    let (machine, _streams) = started(&spec(&qemus().await[0], kernel)).await;
    let pid = Pid::from_raw(machine.process_id().unwrap().cast_signed());
    assert_eq!(getpgid(pid).unwrap(), pid.unwrap());
    assert_ne!(getpgid(pid).unwrap(), getpgrp());
}

#[tokio::test]
async fn the_script_does_what_farm_does() {
    let scratch = Scratch::new();
    let kernel = scratch.file("print", guests::print(b"by hand"));
    for qemu in qemus().await {
        let path = scratch.file("command.sh", script(&spec(&qemu, kernel.clone()), &[]).unwrap());
        let output = Command::new("sh").arg(&path).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let console = std::fs::read(scratch.path().join("by-hand/console.log")).unwrap();
        assert_eq!(console, b"by hand");
    }
}

#[tokio::test]
async fn events_survive_impatience() {
    let scratch = Scratch::new();
    let kernel = scratch.file("panic", guests::panic());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        let mut seen = Vec::new();
        // Each wait is dropped as soon as it has nothing to say at once.
        while !seen.iter().any(|event| matches!(event, MachineEvent::Panicked(_))) {
            tokio::select! {
                biased;
                event = next(&mut machine) => seen.push(event),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(seen[0], MachineEvent::Resumed);
    }
}
