//! What a real QEMU cannot be made to do at will, done by a script in its place.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use camino::Utf8PathBuf;
use farm::machine::{
    Candidate, Exit, Feature, Machine, MachineEvent, MonitorError, Qemu, QemuError, Spec, StartError, Stop,
    Timeout, Version, find, inspect,
};

use super::{AMPLE, Scratch, launcher, next, spec, to_the_end};

const BRIEF: Timeout = Timeout(Duration::from_millis(100));

/// Finds the monitor's descriptor in the arguments, greets, and answers the two commands of a start.
const HANDSHAKE: &str = r#"
for word; do
    case $word in socket,fd=*,id=qmp) fd=${word#socket,fd=}; fd=${fd%%,*} ;; esac
done
exec 3<&$fd 4>&$fd
say() { echo "$1" >&4; }
say '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}, "package": ""}, "capabilities": []}}'
read -r line <&3; say '{"return": {}, "id": 0}'
read -r line <&3; say '{"return": {}, "id": 1}'
"#;

impl Scratch {
    fn program(&self, text: &str) -> Utf8PathBuf {
        let path = self.file("qemu-system-s390x", format!("#!/bin/bash\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn stand_in(&self, text: &str) -> Spec {
        let qemu = Qemu {
            binary: self.program(text),
            data: None,
            version: Version { major: 9, minor: 0, micro: 0 },
            package: String::new(),
            kvm: Feature::Absent,
            protected: Feature::Absent,
            sandbox: Feature::Absent,
        };
        spec(&qemu, "/dev/null".into())
    }

    async fn start(&self, text: &str) -> Machine {
        let spec = self.stand_in(&format!("{HANDSHAKE}\n{text}"));
        Machine::start(&spec, &launcher()).await.unwrap().0
    }
}

#[tokio::test]
async fn death_at_once_is_quoted_and_escaped() {
    let scratch = Scratch::new();
    let spec = scratch.stand_in(r#"printf 'cannot \033[2J\n' >&2; exit 3"#);
    let error = Machine::start(&spec, &launcher()).await.unwrap_err();
    let program = &spec.qemu.binary;
    assert_eq!(error.to_string(), format!(r"{program} died at once (exit status: 3): cannot \x1b[2J"));
}

#[tokio::test]
async fn a_program_that_speaks_no_qmp_is_not_left_behind() {
    let scratch = Scratch::new();
    let pid = scratch.path().join("pid");
    let spec = scratch.stand_in(&format!(
        "{} say nonsense; echo $$ > {pid}; exec sleep 1000",
        HANDSHAKE.split("say '{").next().unwrap()
    ));
    let error = Machine::start(&spec, &launcher()).await.unwrap_err();
    let StartError::Monitor { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, MonitorError::Garbled { .. }), "{source}");
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "reaped");
}

#[tokio::test]
async fn a_lost_monitor_is_told_and_remembered() {
    let scratch = Scratch::new();
    let mut machine = scratch.start("eval \"exec 3<&- 4>&- $fd>&-\"; exec sleep 1000").await;
    assert_eq!(next(&mut machine).await, MachineEvent::MonitorLost);
    assert!(matches!(machine.probe(AMPLE).await, Err(MonitorError::Closed)));
    assert_eq!(machine.stop(Stop::Nicely(BRIEF)).await.exit, Exit::MonitorSilent);
}

#[tokio::test]
async fn qemu_that_clings_to_life_is_killed() {
    let scratch = Scratch::new();
    let mut machine =
        scratch.start("trap '' TERM; while read -r line; do :; done <&3; exec sleep 1000").await;
    assert_eq!(machine.stop(Stop::Nicely(BRIEF)).await.exit, Exit::Stopped);
    assert_eq!(machine.process_id(), None);
}

#[tokio::test]
async fn qemus_own_ends_keep_their_last_words() {
    let scratch = Scratch::new();
    for (end, expected) in [
        ("exit 3", Exit::QemuExited { code: 3 }),
        ("exit 0", Exit::QemuExited { code: 0 }),
        ("kill -SEGV $$", Exit::QemuKilled { signal: 11 }),
    ] {
        let mut machine = scratch.start(&format!("echo last words >&2; {end}")).await;
        let (events, ended) = to_the_end(&mut machine).await;
        assert_eq!((events, ended.exit), (vec![], expected));
        assert_eq!(ended.stderr, "last words\n");
    }
}

#[tokio::test]
async fn the_hosts_full_disk_is_not_the_guests_fault() {
    let scratch = Scratch::new();
    let event = serde_json::json!({
        "event": "BLOCK_IO_ERROR",
        "timestamp": {"seconds": 1, "microseconds": 2},
        "data": {"device": "", "node-name": "disk0", "operation": "write", "action": "stop", "nospace": true,
                 "reason": "No space left on device"},
    });
    let mut machine = scratch.start(&format!("say '{event}'; exec sleep 1000")).await;
    let expected =
        MachineEvent::HostDiskFailed { disk: "disk0".into(), reason: "No space left on device".into() };
    assert_eq!(next(&mut machine).await, expected);
    machine.stop(Stop::Now).await;
}

#[tokio::test]
async fn qemus_that_cannot_be_used() {
    let scratch = Scratch::new();
    let missing = Candidate { binary: scratch.path().join("missing"), data: None };
    let plain = Candidate { binary: scratch.file("plain", "no program"), data: None };
    for candidate in [missing, plain] {
        let error = inspect(&candidate, &launcher()).await.unwrap_err();
        assert!(matches!(error, QemuError::NoSuchProgram { .. }), "{error}");
    }

    let none = find(&[], None, &launcher()).await.unwrap_err();
    assert!(matches!(none, QemuError::NotFound), "{none}");

    for (answers, expected) in [
        (r#""arch": "x86_64""#, "emulates x86_64, not s390x"),
        (r#""arch": "s390x""#, "is QEMU 6.2.7; farm needs 7.2.0 or newer"),
    ] {
        let handshake = HANDSHAKE
            .replace(
                "socket,fd=*,id=qmp) fd=${word#socket,fd=}; fd=${fd%%,*}",
                "socket,id=qmp,fd=*) fd=${word##*=}",
            )
            .replace(r#""micro": 0, "minor": 0, "major": 9"#, r#""micro": 7, "minor": 2, "major": 6"#)
            .replace(r#"{"return": {}, "id": 1}"#, &format!(r#"{{"return": {{{answers}}}, "id": 1}}"#));
        let program = scratch.program(&format!(
            r#"{handshake}
            for id in 2 3 4; do read -r line <&3; say '{{"return": [], "id": '$id'}}'; done
            exec sleep 1000"#
        ));
        let error = inspect(&Candidate { binary: program, data: None }, &launcher()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
