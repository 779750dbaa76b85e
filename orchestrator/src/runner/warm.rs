//! Warm guests: one guest of each kind is booted and saved, and each life then goes on from a copy of it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, sleep_until};

use super::guest::Guest;
use super::life::{Limits, Trouble, ending_of};
use crate::guest::{SavedGuest, is_at_rest};
use crate::machine::{Launcher, Machine, Memory, Stop, Streams, Timeout, end_is_zero};
use crate::plan::Cell;
use crate::store::LifeFiles;
use crate::verdict::Ending;
use crate::workload::{Message, ResultsReader};

/// The state of a guest with 512 MiB, of which a tenth is in use, is written in half a second.
const SAVE_LIMIT: Timeout = Timeout(Duration::from_secs(120));
/// The first QEMU whose migration has `mapped-ram`.
const FIRST_QEMU: u32 = 9;

/// How often a guest is saved until no CPU has an interrupt to take, and how long it goes on in between: an idle CPU
/// wakes up every few seconds.
const MOST_SAVES: usize = 20;
const BETWEEN_SAVES: Duration = Duration::from_millis(200);

/// A guest that is to be saved has this part of the time to boot in. On an idle host that is ten times what it needs, and one
/// that is too slow for it still boots in its own life: so a kernel that hangs does not cost the whole limit twice.
const PART_OF_BOOT: u32 = 4;

/// How often a run tries to save a guest of a kind: a busy host may have been the reason, and each time costs a boot.
const MOST_FAILURES: usize = 3;

/// The saved guests of a run, by their key.
pub(super) struct WarmGuests {
    launcher: Launcher,
    limits: Limits,
    /// Where copies lie, without names.
    directory: Utf8PathBuf,
    kinds: Mutex<HashMap<String, Arc<KindOfGuest>>>,
    /// Why guests boot, as far as it has been told.
    told: Mutex<HashSet<String>>,
}

/// Guests that can be copies of one.
#[derive(Default)]
struct KindOfGuest {
    saved: OnceCell<SavedGuest>,
    /// Why there is none, once for each time that it was tried.
    failures: Mutex<Vec<String>>,
    /// Copies that no guest uses any more. To resume one only reads it, so the next job can be put into it.
    idle: Mutex<Vec<Arc<File>>>,
}

impl KindOfGuest {
    /// The last failure, if there were enough of them.
    fn given_up(&self) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(MOST_FAILURES - 1).cloned()
    }

    fn failed(&self, trouble: String) -> String {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(trouble.clone());
        trouble
    }
}

/// A copy of a saved guest with a job in it.
pub(super) struct Copy {
    pub(super) memory: Arc<File>,
    /// The hash of the saved guest.
    pub(super) sha256: String,
    kind: Arc<KindOfGuest>,
}

impl WarmGuests {
    pub(super) fn new(launcher: Launcher, limits: Limits, directory: Utf8PathBuf) -> Self {
        Self { launcher, limits, directory, kinds: Mutex::default(), told: Mutex::default() }
    }

    /// A copy for this cell with this job; or why its guest has to boot.
    pub(super) async fn copy(
        &self,
        guest: &Guest,
        cell: &Cell,
        job: &[u8],
        files: &LifeFiles,
    ) -> Result<Copy, String> {
        if guest.qemu.version.major < FIRST_QEMU {
            let version = guest.qemu.version;
            return Err(format!(
                "QEMU {version} cannot save a guest; `cargo xtask setup` brings one that can"
            ));
        }
        let key = guest.saved_key(cell);
        let kind = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(kinds.entry(key.clone()).or_default())
        };
        // Whoever comes first makes it; the others wait.
        let saved = kind.saved.get_or_try_init(async || {
            if let Some(failure) = kind.given_up() {
                return Err(failure);
            }
            let made = self.find_or_make(guest, cell, &key, files).await;
            made.map_err(|Trouble(trouble)| kind.failed(trouble))
        });
        let saved = saved.await?;
        if job.len() > saved.slot().room() {
            return Err(format!("its job of {} bytes is too long for a saved guest", job.len()));
        }
        let idle = kind.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = match idle {
            Some(memory) => Ok(memory),
            None => saved.copy(&self.directory).map(Arc::new),
        };
        let memory = memory.and_then(|memory| saved.slot().write(&memory, job).map(|()| memory));
        match memory {
            Ok(memory) => Ok(Copy { memory, sha256: saved.sha256().to_owned(), kind: Arc::clone(&kind) }),
            Err(error) => Err(format!("the saved guest cannot be copied: {error}")),
        }
    }

    /// Takes back a copy whose QEMU is gone.
    pub(super) fn give_back(&self, copy: Copy) {
        copy.kind.idle.lock().unwrap_or_else(PoisonError::into_inner).push(copy.memory);
    }

    /// Whether this reason to boot is told for the first time. Hundreds of lives may have the same.
    pub(super) fn is_news(&self, reason: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(reason.to_owned())
    }

    async fn find_or_make(
        &self,
        guest: &Guest,
        cell: &Cell,
        key: &str,
        files: &LifeFiles,
    ) -> Result<SavedGuest, Trouble> {
        if let Some(saved) = SavedGuest::find(&guest.cache, key)? {
            return Ok(saved);
        }
        let memory = Arc::new(SavedGuest::new_file(&guest.cache)?);
        let prepared = guest.prepare(cell, Memory::ToSave(Arc::clone(&memory)), &[], files)?;
        let started = Machine::start(&prepared.spec, &self.launcher).await;
        let served = prepared.opened()?;
        let (mut machine, mut streams) = started?;
        let saved = self
            .boot_and_save(self.limits.boot_of(cell) / PART_OF_BOOT, &mut machine, &mut streams, &memory)
            .await;
        machine.stop(Stop::Now).await;
        served.remove()?;
        saved?;
        Ok(SavedGuest::keep(&guest.cache, key, &memory)?)
    }

    async fn boot_and_save(
        &self,
        boot: Duration,
        machine: &mut Machine,
        streams: &mut Streams,
        memory: &File,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + boot;
        let mut results = ResultsReader::new();
        let (mut console, mut kmsg, mut told) = ([0; 4096], [0; 4096], [0; 4096]);
        let (mut console_open, mut kmsg_open, mut results_open) = (true, true, true);
        loop {
            tokio::select! {
                read = streams.console.read(&mut console), if console_open => console_open = end_is_zero(read)? > 0,
                read = streams.kmsg.read(&mut kmsg), if kmsg_open => kmsg_open = end_is_zero(read)? > 0,
                read = streams.results.read(&mut told), if results_open => {
                    let mut messages = Vec::new();
                    let bytes = &told[..end_is_zero(read)?];
                    results_open = !bytes.is_empty();
                    results.feed(bytes, &mut messages);
                    if messages.contains(&Message::Waiting) {
                        break;
                    }
                }
                event = machine.next_event() => if let Some(ending) = ending_of(event)? {
                    return Err(Trouble(format!("the guest to be saved {}", gone(&ending))));
                },
                () = sleep_until(deadline) => {
                    return Err(Trouble("the guest to be saved was not ready in time".to_owned()));
                }
            }
        }
        save_at_rest(machine, memory).await
    }
}

/// Saves a waiting guest at a moment when no CPU has an interrupt to take: QEMU saves none.
async fn save_at_rest(machine: &mut Machine, memory: &File) -> Result<(), Trouble> {
    for times in 1..=MOST_SAVES {
        machine.save(SAVE_LIMIT).await?;
        if is_at_rest(memory)? {
            tracing::debug!(times, "a guest was saved at rest");
            return Ok(());
        }
        memory.set_len(0)?;
        machine.go_on(SAVE_LIMIT).await?;
        // Nothing tells the host that a CPU has taken its interrupts: only the next save does.
        sleep(BETWEEN_SAVES).await;
    }
    Err(Trouble(format!(
        "a CPU of the guest to be saved had an interrupt to take, {MOST_SAVES} times in a row"
    )))
}

/// How a guest went that was only to boot.
fn gone(ending: &Ending) -> &'static str {
    match ending {
        Ending::Panicked => "panicked",
        Ending::Reset => "reset itself",
        _ => "went off",
    }
}
