//! What a life leaves beside its logs: a dump of its guest's memory, and a recording.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::life::{MachineWords, Task, Trouble};
use crate::machine::{Dumped, GdbStub, Machine, Recording, Spec, Streams, Stub, Timeout};
use crate::plan::Cell;
use crate::store::{DUMP_FILE, DumpRecord, LifeFiles, RECORDING_FILE};

/// QEMU writes some GiB in a second, and a slow disk takes a minute for what a guest has.
const DUMP_LIMIT: Timeout = Timeout(Duration::from_secs(300));

/// When a dump was made.
pub(super) const AT_ITS_END: &str = "at its end";
const BEFORE_THE_COMPLAINT: &str = "just before the kernel complained";

/// What lives are to leave beside their logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepsakes {
    /// The guest's memory when it has crashed or hangs, of the first few such lives.
    pub dump: bool,
    /// The same when it is about to execute the instruction at one of these addresses, after which it goes on. Under TCG only.
    pub dump_at: Vec<u64>,
    /// A recording by which QEMU repeats the life; of guests with one CPU, which then boot.
    pub recording: bool,
}

impl Keepsakes {
    /// What the machine needs for them.
    pub(super) fn equip(&self, spec: &mut Spec, cell: &Cell, files: &LifeFiles) {
        if self.recording {
            spec.recording = Some(Recording::Write(files.path(RECORDING_FILE)));
        }
        if !self.dump_at.is_empty() || self.wants_last_events(cell) {
            spec.stub = Stub::Wired;
        }
    }
}

impl Task {
    /// Lets a guest go that waits for its stub.
    pub(super) async fn set_out(&self, streams: &mut Streams) -> Result<(), Trouble> {
        let Some(stub) = &mut streams.stub else { return Ok(()) };
        for address in &self.keepsakes.dump_at {
            stub.break_at(*address).await?;
        }
        Ok(stub.go().await?)
    }

    /// Of a guest that its stub has halted. It is not halted again.
    pub(super) async fn dump_and_go_on(
        &self,
        machine: &mut Machine,
        streams: &mut Streams,
        words: &mut MachineWords,
    ) -> Result<(), Trouble> {
        let Some(stub) = &mut streams.stub else { return Ok(()) };
        // CPUs that come there together may stop it a second time.
        if words.dump.is_none() {
            words.dump = self.dump(machine, BEFORE_THE_COMPLAINT).await;
            for address in &self.keepsakes.dump_at {
                stub.unbreak(*address).await?;
            }
        }
        Ok(stub.go().await?)
    }

    /// Writes the guest's memory to a file, if that is wanted. A failure is told in the record: it says nothing of the kernel.
    pub(super) async fn dump(&self, machine: &mut Machine, at: &str) -> Option<DumpRecord> {
        let Keepsakes { dump, dump_at, .. } = &self.keepsakes;
        let left = |left: u32| left.checked_sub(1);
        if !dump && dump_at.is_empty() || self.dumps.fetch_update(Relaxed, Relaxed, left).is_err() {
            return None;
        }
        let path = self.files.path(DUMP_FILE);
        let symbols = self.symbols().await;
        let (vmcoreinfo, trouble) = match machine.dump(&path, DUMP_LIMIT).await {
            Ok(dumped) => (dumped == Dumped::WithVmcoreinfo, None),
            Err(error) => {
                let Trouble(mut trouble) = error.into();
                // What there is of it only takes room.
                if let Err(error) = fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    trouble += &format!("; a part of it stays: {error}");
                }
                (false, Some(trouble))
            }
        };
        Some(DumpRecord { file: DUMP_FILE.to_owned(), at: at.to_owned(), vmcoreinfo, symbols, trouble })
    }

    /// The files with which a dump is read.
    async fn symbols(&self) -> Vec<Utf8PathBuf> {
        let Ok(guest) = &self.assignment.guest else { return Vec::new() };
        if guest.kernel.vmlinux.is_none() || !guest.kernel.may_have_types() {
            return Vec::new();
        }
        let modules: BTreeSet<String> = guest.image.module_names().map(str::to_owned).collect();
        let files = self.ask(guest, move |sources| sources.files(modules.iter().map(String::as_str)));
        files.await.unwrap_or_default()
    }
}

/// Waits until a guest with a gdb stub stands at a breakpoint.
pub(super) async fn halted(stub: &mut Option<GdbStub>) {
    match stub {
        Some(stub) => stub.at_breakpoint().await,
        None => std::future::pending().await,
    }
}
