//! Every way in which a machine with a real QEMU can end.

use std::time::Duration;

use farm::machine::{
    Boot, Call, Cpu, Exit, Launcher, Machine, MachineEvent, MonitorError, Panic, PanicReason, Psw,
    StartError, Stop, Timeout,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;

use super::{AMPLE, Scratch, guests, launcher, next, qemus, spec, started, to_the_end};

/// Time for a process that will not take it.
const BRIEF: Timeout = Timeout(Duration::from_millis(100));

const PANIC: Panic = Panic {
    core: 0,
    psw: Psw { mask: guests::PANIC_MASK, addr: guests::PANIC_ADDRESS },
    reason: PanicReason::DisabledWait,
};

fn send(machine: &Machine, signal: Signal) {
    let pid = Pid::from_raw(machine.process_id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn power_off_and_what_was_printed_before() {
    let scratch = Scratch::new();
    let text: Vec<u8> = (0..=255).collect();
    let kernel = scratch.file("print", guests::print(&text));
    for qemu in qemus().await {
        let (mut machine, mut streams) = started(&spec(&qemu, kernel.clone())).await;
        let (events, ended) = to_the_end(&mut machine).await;
        assert_eq!((ended.exit, ended.stderr), (Exit::PoweredOff, String::new()));
        assert_eq!(events, [MachineEvent::Resumed]);
        assert_eq!(machine.next_event().await, None);

        let mut read = [Vec::new(), Vec::new(), Vec::new()];
        streams.console.read_to_end(&mut read[0]).await.unwrap();
        streams.kmsg.read_to_end(&mut read[1]).await.unwrap();
        streams.results.read_to_end(&mut read[2]).await.unwrap();
        assert_eq!(read, [text.clone(), Vec::new(), Vec::new()], "QEMU {}", qemu.version);
    }
}

#[tokio::test]
async fn panic_is_kept_to_be_looked_at() {
    let scratch = Scratch::new();
    let kernel = scratch.file("panic", guests::panic());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        assert_eq!(next(&mut machine).await, MachineEvent::Resumed);
        assert_eq!(next(&mut machine).await, MachineEvent::Panicked(PANIC));
        // QEMU tells of the panic first, and then stops (system/runstate.c qemu_system_guest_panicked()).
        assert_eq!(next(&mut machine).await, MachineEvent::Paused);

        let state = machine.capture_state(AMPLE).await.unwrap();
        assert_eq!(state.status, "guest-panicked");
        // It has no stack.
        let trace = vec![Call { address: PANIC.psw.addr, returns: false }];
        assert_eq!(state.cpus, [Cpu { number: 0, state: "operating".into(), psw: Some(PANIC.psw), trace }]);
        assert!(state.registers.contains("R15="), "{}", state.registers);

        let ended = machine.stop(Stop::Nicely(AMPLE)).await;
        assert_eq!(ended.exit, Exit::Panicked(PANIC));
        assert_eq!(machine.process_id(), None, "reaped");
    }
}

#[tokio::test]
async fn hang_is_paused_and_read() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        machine.probe(AMPLE).await.unwrap();
        let state = machine.capture_state(AMPLE).await.unwrap();
        assert_eq!(state.status, "running");
        assert_eq!(state.cpus[0].psw.unwrap().addr, guests::HANG_ADDRESS);
        assert_eq!(next(&mut machine).await, MachineEvent::Resumed);
        assert_eq!(next(&mut machine).await, MachineEvent::Paused);
        assert_eq!(machine.stop(Stop::Nicely(AMPLE)).await.exit, Exit::Stopped);
    }
}

#[tokio::test]
async fn reboot_ends_the_machine() {
    let scratch = Scratch::new();
    let kernel = scratch.file("reboot", guests::reboot());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        assert_eq!(to_the_end(&mut machine).await.1.exit, Exit::Reset);
    }
}

#[tokio::test]
async fn stopped_now() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        let ended = machine.stop(Stop::Now).await;
        assert_eq!(ended.exit, Exit::Stopped);
        assert_eq!(machine.stop(Stop::Now).await, ended, "a second time changes nothing");
    }
}

#[tokio::test]
async fn a_monitor_that_falls_silent() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    for qemu in qemus().await {
        let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
        send(&machine, Signal::STOP);
        let error = machine.probe(BRIEF).await.unwrap_err();
        assert!(matches!(error, MonitorError::Timeout { .. }), "{error}");
        // Neither QMP nor SIGTERM reaches a stopped process.
        assert_eq!(machine.stop(Stop::Nicely(BRIEF)).await.exit, Exit::MonitorSilent);
    }
}

#[tokio::test]
async fn somebody_elses_signals() {
    let scratch = Scratch::new();
    let kernel = scratch.file("hang", guests::hang());
    for qemu in qemus().await {
        for (signal, expected, stderr) in [
            (Signal::KILL, Exit::QemuKilled { signal: 9 }, ""),
            (Signal::ABORT, Exit::QemuKilled { signal: 6 }, ""),
            (Signal::TERM, Exit::QemuExited { code: 0 }, "terminating on signal 15"),
        ] {
            let (mut machine, _streams) = started(&spec(&qemu, kernel.clone())).await;
            send(&machine, signal);
            let (_, ended) = to_the_end(&mut machine).await;
            assert_eq!(ended.exit, expected);
            assert!(ended.stderr.contains(stderr), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn what_qemu_refuses_is_quoted() {
    let scratch = Scratch::new();
    let empty = scratch.file("empty", "");
    let missing = scratch.path().join("missing");
    for qemu in qemus().await {
        let disk = farm::machine::Spec { disks: vec![missing.clone()], ..spec(&qemu, empty.clone()) };
        for (spec, expected) in [
            (spec(&qemu, missing.clone()), "missing"),
            (spec(&qemu, empty.clone()), "Could not get IPL PSW"),
            (disk, "No such file or directory"),
        ] {
            let error = Machine::start(&spec, &launcher()).await.unwrap_err();
            let StartError::Died { status, stderr, .. } = error else { panic!("{error}") };
            assert_eq!(status, "exit status: 1");
            assert!(stderr.contains(expected), "{stderr}");
        }
    }
}

#[tokio::test]
async fn disks_of_any_name() {
    let scratch = Scratch::new();
    let kernel = scratch.file("power-off", guests::power_off());
    let disks = vec![scratch.file("a,b c", [0; 512]), scratch.file("d'=", [0; 512])];
    for qemu in qemus().await {
        let spec = farm::machine::Spec { disks: disks.clone(), ..spec(&qemu, kernel.clone()) };
        let (mut machine, _streams) = started(&spec).await;
        assert_eq!(to_the_end(&mut machine).await.1.exit, Exit::PoweredOff);
    }
}

#[tokio::test]
async fn sealed_image_never_runs_unprotected() {
    let scratch = Scratch::new();
    let image = scratch.file("power-off", guests::power_off());
    for qemu in qemus().await {
        // TCG has no ultravisor: QEMU must refuse, whatever it lacks first.
        let spec =
            farm::machine::Spec { boot: Boot::Sealed { image: image.clone() }, ..spec(&qemu, image.clone()) };
        let error = Machine::start(&spec, &launcher()).await.unwrap_err();
        assert!(matches!(error, StartError::Died { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_launcher_that_is_not_there() {
    let scratch = Scratch::new();
    let kernel = scratch.file("power-off", guests::power_off());
    let spec = spec(&qemus().await[0], kernel);
    let error = Machine::start(&spec, &Launcher::at(scratch.path().join("farm"))).await.unwrap_err();
    assert!(matches!(error, StartError::Spawn { .. }), "{error}");
}
