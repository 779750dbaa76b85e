//! How a machine ended: each way is its own outcome.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use qapi::qmp::ShutdownCause;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::event::Panic;

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Exit {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest panicked; it was stopped afterwards.
    Panicked(Panic),
    /// The guest asked for a reboot, which it does not get.
    Reset,
    /// Farm stopped it while it ran.
    Stopped,
    /// QEMU's monitor did not answer any more, and farm stopped it.
    MonitorSilent,
    /// QEMU ended of its own accord, or was told to by somebody else; its stderr says why.
    QemuExited { code: i32 },
    /// A signal that was not farm's ended QEMU: a crash, or the host's out-of-memory killer.
    QemuKilled { signal: i32 },
}

/// The end of a machine, with QEMU's last words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub exit: Exit,
    /// Bounded and escaped.
    pub stderr: String,
}

/// What happened in a machine's life that bears on how it ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct History {
    pub(super) panic: Option<Panic>,
    /// The reason of QEMU's SHUTDOWN event.
    pub(super) shutdown: Option<ShutdownCause>,
    pub(super) monitor: MonitorHistory,
    pub(super) stop: StopHistory,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MonitorHistory {
    #[default]
    Answered,
    FellSilent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StopHistory {
    #[default]
    NotAsked,
    AskedByFarm,
}

/// The outcome, from a machine's history and its process's status. What the guest did counts most; QEMU's own
/// crash is never taken for the guest's good end.
pub(super) fn judge(history: &History, status: ExitStatus) -> Exit {
    if let Some(panic) = history.panic {
        return Exit::Panicked(panic);
    }
    match (history.shutdown, status.success()) {
        (Some(ShutdownCause::guest_shutdown), true) => return Exit::PoweredOff,
        (Some(ShutdownCause::guest_reset), true) => return Exit::Reset,
        _ => {}
    }
    let by_farm = match status.signal() {
        Some(signal) => [Signal::TERM, Signal::KILL].iter().any(|ours| ours.as_raw() == signal),
        None => status.success(),
    };
    match (status.signal(), status.code()) {
        _ if history.stop == StopHistory::AskedByFarm && by_farm => match history.monitor {
            MonitorHistory::FellSilent => Exit::MonitorSilent,
            MonitorHistory::Answered => Exit::Stopped,
        },
        (Some(signal), _) => Exit::QemuKilled { signal },
        // A process that has ended has one of the two.
        (None, code) => Exit::QemuExited { code: code.unwrap_or_default() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::PanicReason;
    use super::super::state::Psw;
    use super::*;

    const PANIC: Panic = Panic { core: 1, psw: Psw { mask: 2, addr: 3 }, reason: PanicReason::DisabledWait };

    /// Wait statuses as wait(2) gives them: a code in the second byte, a signal in the first.
    fn code(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn signal(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    #[test]
    fn every_end_has_its_outcome() {
        use ShutdownCause::*;
        let shutdown = |cause| History { shutdown: Some(cause), ..History::default() };
        let stopped = |history| History { stop: StopHistory::AskedByFarm, ..history };
        let silent = |history| History { monitor: MonitorHistory::FellSilent, ..history };
        let panicked = |history| History { panic: Some(PANIC), ..history };
        let nothing = History::default();

        for (what, history, status, expected) in [
            ("power-off", shutdown(guest_shutdown), code(0), Exit::PoweredOff),
            ("power-off as we stop it", stopped(shutdown(guest_shutdown)), code(0), Exit::PoweredOff),
            ("power-off of a slow one", silent(shutdown(guest_shutdown)), code(0), Exit::PoweredOff),
            ("crash during power-off", shutdown(guest_shutdown), signal(11), Exit::QemuKilled { signal: 11 }),
            ("reboot", shutdown(guest_reset), code(0), Exit::Reset),
            ("panic, quit", stopped(panicked(shutdown(host_qmp_quit))), code(0), Exit::Panicked(PANIC)),
            ("panic, killed", stopped(panicked(nothing)), signal(9), Exit::Panicked(PANIC)),
            ("quit", stopped(shutdown(host_qmp_quit)), code(0), Exit::Stopped),
            ("our SIGTERM", stopped(shutdown(host_signal)), code(0), Exit::Stopped),
            ("our SIGKILL", stopped(nothing), signal(9), Exit::Stopped),
            ("crash as we stop it", stopped(nothing), signal(6), Exit::QemuKilled { signal: 6 }),
            ("error as we stop it", stopped(nothing), code(1), Exit::QemuExited { code: 1 }),
            ("silent, killed", stopped(silent(nothing)), signal(9), Exit::MonitorSilent),
            ("their SIGTERM", shutdown(host_signal), code(0), Exit::QemuExited { code: 0 }),
            ("their SIGKILL", nothing, signal(9), Exit::QemuKilled { signal: 9 }),
            ("abort", nothing, signal(6), Exit::QemuKilled { signal: 6 }),
            ("host error", shutdown(host_error), code(1), Exit::QemuExited { code: 1 }),
        ] {
            assert_eq!(judge(&history, status), expected, "{what}");
        }
    }
}
