//! What a machine says while it runs.

use qapi::qmp;
use serde::{Deserialize, Serialize};

use super::exit::Ended;
use super::monitor::QmpEvent;
use super::state::Psw;
use crate::escape::escape;

/// In the order in which things happened; [`MachineEvent::Ended`] is the last one.
#[derive(Debug, Clone, PartialEq)]
pub enum MachineEvent {
    /// The last CPU that ran has loaded a disabled wait, or an interruption loops: nothing can run any more. The
    /// guest is paused and can be looked at.
    Panicked(Panic),
    /// The guest reset itself and its devices and runs on (DIAGNOSE 308 subcode 0 or 1: kdump, kexec).
    Reset,
    /// The CPUs stand still. Without a cause among the events before it, somebody used QMP.
    Paused,
    Resumed,
    /// The host could not read or write a disk; the guest is paused before it learns of it. Farm's trouble, not
    /// the kernel's.
    HostDiskFailed {
        disk: String,
        reason: String,
    },
    /// QEMU runs on, but its monitor is gone.
    MonitorLost,
    Ended(Ended),
}

/// QEMU's `GUEST_PANICKED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panic {
    /// The CPU it happened on.
    pub core: u32,
    pub psw: Psw,
    pub reason: PanicReason,
}

/// Why QEMU thinks that the guest cannot go on (QEMU, qapi/run-state.json, S390CrashReason).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PanicReason {
    Unknown,
    /// The PSW waits with interruptions disabled: how Linux ends a panic.
    DisabledWait,
    ExtintLoop,
    PgmintLoop,
    OpintLoop,
}

/// What an event of QEMU's means for whoever runs the machine; `None` for those that mean nothing to them.
/// SHUTDOWN is not among them: the end is told once, when the process is reaped.
pub(super) fn interpret(event: &QmpEvent) -> Option<MachineEvent> {
    let QmpEvent::Known(event) = event else { return None };
    Some(match event {
        qmp::Event::GUEST_PANICKED { data, .. } => MachineEvent::Panicked(panic(data.info.as_ref()?)?),
        qmp::Event::RESET { .. } => MachineEvent::Reset,
        qmp::Event::STOP { .. } => MachineEvent::Paused,
        qmp::Event::RESUME { .. } => MachineEvent::Resumed,
        qmp::Event::BLOCK_IO_ERROR { data, .. } => MachineEvent::HostDiskFailed {
            disk: escape(data.node_name.as_ref().unwrap_or(&data.device).as_bytes()),
            reason: escape(data.reason.as_bytes()),
        },
        _ => return None,
    })
}

/// Another architecture's information is no s390x machine's.
fn panic(info: &qmp::GuestPanicInformation) -> Option<Panic> {
    let qmp::GuestPanicInformation::s390(info) = info else { return None };
    Some(Panic {
        core: info.core,
        psw: Psw { mask: info.psw_mask, addr: info.psw_addr },
        reason: match info.reason {
            qmp::S390CrashReason::unknown => PanicReason::Unknown,
            qmp::S390CrashReason::disabled_wait => PanicReason::DisabledWait,
            qmp::S390CrashReason::extint_loop => PanicReason::ExtintLoop,
            qmp::S390CrashReason::pgmint_loop => PanicReason::PgmintLoop,
            qmp::S390CrashReason::opint_loop => PanicReason::OpintLoop,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_interest() {
        let panicked = MachineEvent::Panicked(Panic {
            core: 0,
            psw: Psw { mask: 0x0002_0001_8000_0000, addr: 0xdead },
            reason: PanicReason::DisabledWait,
        });
        let disk = MachineEvent::HostDiskFailed { disk: "disk0".into(), reason: "No space left\\x1b".into() };
        for (event, data, expected) in [
            (
                "GUEST_PANICKED",
                r#"{"action": "pause", "info": {"core": 0, "psw-addr": 57005, "reason": "disabled-wait",
                    "psw-mask": 562956395872256, "type": "s390"}}"#,
                Some(panicked),
            ),
            ("STOP", "{}", Some(MachineEvent::Paused)),
            ("RESUME", "{}", Some(MachineEvent::Resumed)),
            ("RESET", r#"{"guest": true, "reason": "subsystem-reset"}"#, Some(MachineEvent::Reset)),
            (
                "BLOCK_IO_ERROR",
                r#"{"device": "", "node-name": "disk0", "operation": "write", "action": "stop",
                    "nospace": true, "reason": "No space left\u001b"}"#,
                Some(disk),
            ),
            ("SHUTDOWN", r#"{"guest": true, "reason": "guest-shutdown"}"#, None),
            ("VSERPORT_CHANGE", r#"{"id": "p", "open": true}"#, None),
        ] {
            let text = format!(
                r#"{{"event": "{event}", "data": {data}, "timestamp": {{"seconds": 1, "microseconds": 2}}}}"#
            );
            let known = QmpEvent::Known(serde_json::from_str(&text).unwrap());
            assert_eq!(interpret(&known), expected, "{event}");
        }
        assert_eq!(interpret(&QmpEvent::Unknown(serde_json::json!({"event": "STOP"}))), None);
    }
}
