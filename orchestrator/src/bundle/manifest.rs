//! `bundle.json` and `hit.json`, and what they may say.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{BUNDLE_JSON, CELL, COMMAND_LINE, CONFIG, HIT, IMAGE, JOB, KERNEL, README, REPORT, RUN, VMLINUX};
use crate::detect::{Fingerprint, Kind};
use crate::guest::Extent;
use crate::plan::LifeId;
use crate::store::{HitId, RunId};

/// To be raised whenever a farm of today would take a bundle wrongly, or not at all.
pub const FORMAT: u32 = 1;

const MIB: u64 = 1 << 20;
/// Of bundle.json, cell.json and hit.json, which are read whole.
pub(super) const MOST_DOCUMENT_BYTES: u64 = 4 * MIB;
/// Of a vmlinux; a distribution's has half a GiB.
const MOST_VMLINUX_BYTES: u64 = 2 << 30;
/// Of all files together.
pub(super) const MOST_BYTES: u64 = 3 << 30;
/// More than all names there are.
const MOST_FILES: usize = 32;

/// `bundle.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// The farm that made it.
    pub farm: String,
    /// The QEMU that it was tried on, or would have been.
    pub qemu: String,
    /// None: it was not tried.
    pub tried: Option<Tried>,
    /// None: the guest's console is not known to be the same each time.
    pub console: Option<Console>,
    /// Of the formatted ones.
    pub disks: Vec<DiskData>,
    /// Sorted by name, without `bundle.json` itself.
    pub files: Vec<FileEntry>,
}

/// How often the hit came in guests that booted from these files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    pub lives: u64,
    pub same: u64,
}

/// What the console of every life of an exact cell begins with, or is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    pub bytes: u64,
    pub sha256: String,
    /// Nothing may come behind it.
    pub whole: bool,
}

/// A formatted disk's blocks, in `diskN.data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskData {
    pub disk: usize,
    pub extents: Vec<Extent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

/// `hit.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledHit {
    pub id: HitId,
    pub run: RunId,
    pub life: LifeId,
    pub kind: Kind,
    pub title: String,
    pub fingerprint: Fingerprint,
    pub report: String,
}

pub fn disk_data(disk: usize) -> String {
    format!("disk{disk}.data")
}

impl Manifest {
    pub fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.name == name)
    }

    /// What is wrong with it by itself.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, and this farm knows {FORMAT}", self.format));
        }
        if self.files.len() > MOST_FILES {
            return Err(format!(
                "{BUNDLE_JSON} names {} files, and there are {MOST_FILES} at most",
                self.files.len()
            ));
        }
        let mut names = HashSet::new();
        let mut sum: u64 = 0;
        for FileEntry { name, bytes, sha256 } in &self.files {
            let most = most_bytes(name)
                .ok_or_else(|| format!("{BUNDLE_JSON} names a file {name:?} that no bundle has"))?;
            if !names.insert(name.as_str()) {
                return Err(format!("{BUNDLE_JSON} names {name} twice"));
            }
            if *bytes > most {
                return Err(format!("{name} has {bytes} bytes, and {most} are allowed"));
            }
            if !is_sha256(sha256) {
                return Err(format!("the hash of {name} is no SHA-256"));
            }
            sum = sum.saturating_add(*bytes);
        }
        if sum > MOST_BYTES {
            return Err(format!("its files have {sum} bytes, and {MOST_BYTES} are allowed"));
        }
        let needed = [CELL, HIT, IMAGE, JOB, KERNEL];
        match needed.into_iter().find(|name| !names.contains(name)) {
            Some(lacking) => Err(format!("it has no {lacking}")),
            None => Ok(()),
        }
    }
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// How large a file may be, if a bundle may have one of this name.
fn most_bytes(name: &str) -> Option<u64> {
    match name {
        CELL | HIT => Some(MOST_DOCUMENT_BYTES),
        COMMAND_LINE | CONFIG | README | REPORT | RUN => Some(MOST_DOCUMENT_BYTES),
        KERNEL | JOB => Some(256 * MIB),
        IMAGE => Some(1024 * MIB),
        VMLINUX => Some(MOST_VMLINUX_BYTES),
        _ => {
            let number = name.strip_prefix("disk")?.strip_suffix(".data")?;
            let one_digit = number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit());
            one_digit.then_some(1024 * MIB)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn manifest() -> Manifest {
        let file = |name: &str| FileEntry { name: name.to_owned(), bytes: 3, sha256: "0".repeat(64) };
        Manifest {
            format: FORMAT,
            farm: "0.1.0".to_owned(),
            qemu: "10.0.2".to_owned(),
            tried: Some(Tried { lives: 3, same: 2 }),
            console: None,
            disks: Vec::new(),
            files: [CELL, HIT, IMAGE, JOB, KERNEL].map(file).into(),
        }
    }

    #[test]
    fn a_manifest_names_what_a_bundle_has_and_no_more() {
        assert_eq!(manifest().check(), Ok(()));
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            manifest.check().unwrap_err()
        };
        type Change = fn(&mut Manifest);
        let rows: [(Change, &str); 9] = [
            (|m| m.format = 2, "its format is 2, and this farm knows 1"),
            (|m| m.files[0].name = "../x".to_owned(), "a file \"../x\" that no bundle has"),
            (|m| m.files[0].name = "disk10.data".to_owned(), "that no bundle has"),
            (|m| m.files[0].name = BUNDLE_JSON.to_owned(), "that no bundle has"),
            (|m| m.files[0].name = HIT.to_owned(), "names hit.json twice"),
            (
                |m| m.files[4].bytes = u64::MAX,
                "kernel has 18446744073709551615 bytes, and 268435456 are allowed",
            ),
            (|m| m.files[4].sha256 = "A".repeat(64), "the hash of kernel is no SHA-256"),
            (|m| drop(m.files.pop()), "it has no kernel"),
            (|m| m.files = vec![m.files[0].clone(); 33], "names 33 files, and there are 32 at most"),
        ];
        for (change, words) in rows {
            let why = refused(change);
            assert!(why.contains(words), "{why}");
        }
        let mut large = manifest();
        for disk in 0..3 {
            let name = disk_data(disk);
            large.files.push(FileEntry { name, bytes: 1 << 30, sha256: "0".repeat(64) });
        }
        assert!(large.check().unwrap_err().contains("and 3221225472 are allowed"));
    }
}
