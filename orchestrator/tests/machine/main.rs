//! Machines with a real QEMU, whose guests are a few instructions long, and with stand-ins for what a real QEMU
//! cannot be made to do.
//!
//! Every QEMU is tried: the one on PATH, and those that `FARM_TEST_QEMU` names, separated by colons.

#![expect(clippy::unwrap_used, reason = "what a test's helpers unwrap is the test's failure")]

mod ends;
mod guests;
mod isolation;
mod stand_ins;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use farm::machine::{
    Boot, Candidate, Discovery, Ended, Launcher, Machine, MachineEvent, Memory, Qemu, Spec, Streams, Stub,
    Timeout, discover,
};
use farm::plan::{Accel, Threads};

/// For what must come: only a broken test waits this long.
const AMPLE: Timeout = Timeout(Duration::from_secs(60));

/// The farm that is built with these tests.
fn launcher() -> Launcher {
    Launcher::at(env!("CARGO_BIN_EXE_farm"))
}

/// Every QEMU that there is to test with.
async fn qemus() -> Vec<Qemu> {
    let named = std::env::var("FARM_TEST_QEMU").unwrap_or_default();
    let candidates: Vec<Candidate> =
        named.split(':').filter(|path| !path.is_empty()).map(Candidate::at).collect();
    let path = std::env::var_os("PATH");
    let Discovery { usable, unusable } = discover(&candidates, path.as_deref(), &launcher()).await;
    assert!(unusable.is_empty(), "{unusable:?}");
    assert!(!usable.is_empty(), "these tests need qemu-system-s390x on PATH");
    usable
}

/// A directory for a test's files.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).unwrap()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Utf8PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// The smallest machine, which runs `kernel`.
fn spec(qemu: &Qemu, kernel: Utf8PathBuf) -> Spec {
    Spec {
        qemu: qemu.clone(),
        accel: Accel::Tcg,
        threads: Threads::Multi,
        cpu_model: "qemu".into(),
        cpus: 1,
        memory_mib: 64,
        boot: Boot::Direct { kernel, initrd: None, kernel_args: Vec::new() },
        disks: Vec::new(),
        share: None,
        turns: None,
        memory: Memory::Fresh,
        recording: None,
        stub: Stub::Absent,
    }
}

async fn started(spec: &Spec) -> (Machine, Streams) {
    Machine::start(spec, &launcher()).await.unwrap()
}

/// The next event, which must come.
async fn next(machine: &mut Machine) -> MachineEvent {
    tokio::time::timeout(AMPLE.0, machine.next_event()).await.unwrap().unwrap()
}

/// All events up to the end, and the end.
async fn to_the_end(machine: &mut Machine) -> (Vec<MachineEvent>, Ended) {
    let mut events = Vec::new();
    loop {
        match next(machine).await {
            MachineEvent::Ended(ended) => return (events, ended),
            event => events.push(event),
        }
    }
}
