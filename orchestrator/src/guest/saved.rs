//! Saved guests in the cache: booted once, until init waits for a job, and saved with all their memory.

use std::fs::{self, File};
use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::GuestError;
use super::rest::is_at_rest;
use super::slot::{Slot, copy, survey};
use crate::cache::{Cache, Kind, quiet};

const MEMORY: &str = "memory";
const RECORD: &str = "farm.json";
/// What all saved guests together may take of the disk; those not used for longest go first.
const MOST_BYTES: u64 = 2 << 30;

/// A saved guest whose file is what it was when it was made. The file is open: a cache that is emptied takes it from
/// nobody who has it.
#[derive(Debug)]
pub struct SavedGuest {
    memory: File,
    slot: Slot,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// What it was made from: an entry that has come under another name is not used.
    key: String,
    sha256: String,
}

impl SavedGuest {
    /// A file without a name, beside the cache's saved guests, for QEMU to save one to.
    pub fn new_file(cache: &Cache) -> Result<File, GuestError> {
        Ok(cache.unnamed_file(Kind::Saved)?)
    }

    /// The saved guest of that key. One that is damaged, or another key's, is removed, as if it had never been there.
    pub fn find(cache: &Cache, key: &str) -> Result<Option<Self>, GuestError> {
        let Some(entry) = cache.existing(Kind::Saved, key) else { return Ok(None) };
        match open(&entry, key) {
            Ok(Some(guest)) => {
                cache.mark_used(&entry);
                return Ok(Some(guest));
            }
            Ok(None) => tracing::warn!(%entry, "a saved guest is not what it was; it is made anew"),
            Err(error) => tracing::warn!(%entry, %error, "a saved guest cannot be read; it is made anew"),
        }
        cache.remove(Kind::Saved, key)?;
        Ok(None)
    }

    /// Keeps what QEMU has saved under the key. Where another farm was first, its guest is as good.
    pub fn keep(cache: &Cache, key: &str, memory: &File) -> Result<Self, GuestError> {
        let entry = cache.entry(Kind::Saved, key, &quiet, |work| {
            let failed = |source| GuestError::Io { path: work.to_owned(), source };
            let kept = File::create_new(work.join(MEMORY)).map_err(failed)?;
            copy(memory, &kept).map_err(failed)?;
            let survey = survey(memory).map_err(failed)?;
            if survey.slot.is_none() {
                return Err(GuestError::NoSlot);
            }
            let record = Record { key: key.to_owned(), sha256: survey.sha256 };
            let text = serde_json::to_string(&record).map_err(|error| failed(error.into()))?;
            fs::write(work.join(RECORD), text + "\n").map_err(failed)
        })?;
        cache.prune(Kind::Saved, "", MOST_BYTES, &entry)?;
        let failed = |source| GuestError::Io { path: entry.clone(), source };
        open(&entry, key).map_err(failed)?.ok_or(GuestError::NoSlot)
    }

    /// A copy of one's own, to be resumed with this job; it has no name, so that nothing is left of it when it is closed.
    pub fn copy(&self, directory: &Utf8Path) -> io::Result<File> {
        let own = tempfile::tempfile_in(directory)?;
        copy(&self.memory, &own)?;
        Ok(own)
    }

    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The hash of what was saved: another save of such a guest has another.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// None: it is not what was kept under the key.
fn open(entry: &Utf8Path, key: &str) -> io::Result<Option<SavedGuest>> {
    let record: Record = serde_json::from_slice(&fs::read(entry.join(RECORD))?)?;
    let memory = File::open(entry.join(MEMORY))?;
    if !is_at_rest(&memory)? {
        return Ok(None);
    }
    let survey = survey(&memory)?;
    let is_it = record.key == key && record.sha256 == survey.sha256;
    Ok(survey.slot.filter(|_| is_it).map(|slot| SavedGuest { memory, slot, sha256: record.sha256 }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::super::rest::tests::section;
    use super::super::slot::tests::page;
    use super::*;

    const KEY: &str = "6.1.0-50-s390x-0123";

    #[test]
    fn a_saved_guest_that_was_not_at_rest_is_not_used_whatever_its_record_says() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(Utf8Path::from_path(root.path()).unwrap()).unwrap();
        let saved = SavedGuest::new_file(&cache).unwrap();
        let slot = page(0);
        saved.write_all_at(&[&slot[..], &section(7, 0, 0)].concat(), 0).unwrap();
        SavedGuest::keep(&cache, KEY, &saved).unwrap();
        assert!(SavedGuest::find(&cache, KEY).unwrap().is_some());

        let entry = cache.existing(Kind::Saved, KEY).unwrap();
        let memory = File::options().read(true).write(true).open(entry.join(MEMORY)).unwrap();
        memory.write_all_at(&section(7, 0, 2), slot.len() as u64).unwrap();
        let record = Record { key: KEY.to_owned(), sha256: survey(&memory).unwrap().sha256 };
        fs::write(entry.join(RECORD), serde_json::to_string(&record).unwrap()).unwrap();
        assert!(SavedGuest::find(&cache, KEY).unwrap().is_none());
        assert_eq!(cache.existing(Kind::Saved, KEY), None);
    }
}
