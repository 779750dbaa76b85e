//! One running guest: QEMU's arguments, its process, its monitor, and how it ended.
//!
//! | file | what is in it |
//! |---|---|
//! | `preflight` | what this host lacks for a request (pure), and the host's facts |
//! | `qemu` | QEMU on this host: found, version, features |
//! | `argv`, `script` | the argument vector (pure), and the same as a shell script for a person |
//! | `launcher`, `process` | a child that dies with farm, reaped, its stderr kept |
//! | `monitor` | QMP: commands, replies, events |
//! | `session` | a QEMU process with its monitor negotiated |
//! | `running` | the machine: start, streams, events, stop |
//! | `gdb_stub` | the protocol of QEMU's gdb stub, as far as farm speaks it itself |
//! | `last_events` | the trace of a kernel that is lost, printed by that kernel |
//! | `debugger` | gdb on the user's terminal |
//! | `dump` | the note that a dump of memory needs to be read |
//! | `unwind` | the calls that a CPU is in, from its stack in the guest's memory |
//! | `event`, `exit`, `state` | what it says while it runs, how it ended (pure), its CPUs' state |
//!
//! Farm's own trouble with a machine (no QEMU, a QEMU that dies at once) is an error; what became of a
//! machine that did start is an [`Exit`], and the two are never one.

mod argv;
mod debugger;
mod dump;
mod event;
mod exit;
mod gdb_stub;
mod last_events;
mod launcher;
mod monitor;
mod preflight;
mod process;
mod qemu;
mod running;
mod script;
mod session;
mod state;
mod unwind;

pub use argv::{
    Boot, CommandLineTooLong, KERNEL_ARGUMENTS, Memory, Recording, Sockets, Spec, Stub, Wiring, arguments,
    kernel_line,
};
pub use debugger::{Debugger, DebuggerError, Target, find_gdb};
pub use dump::{DumpError, Dumped};
pub use event::{MachineEvent, Panic, PanicReason};
pub use exit::{Ended, Exit};
pub use gdb_stub::{GdbStub, StubError};
pub(crate) use gdb_stub::{framed, whole};
pub use last_events::{LastEvents, LastEventsError};
pub use launcher::{Launcher, launch_if_asked};
pub use monitor::{Monitor, MonitorError, QmpEvent, Timeout};
pub use preflight::{Access, Host, HostError, Preflight, Wanted, preflight};
pub use qemu::{Candidate, Discovery, Feature, Qemu, QemuError, Version, discover, find, inspect};
pub use running::{Machine, SaveError, Stop, Streams, end_is_zero};
pub use script::{BY_HAND, quote, script, unattended_options};
pub use session::StartError;
pub use state::{Cpu, CpuState, Psw};
pub use unwind::Call;
