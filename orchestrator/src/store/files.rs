//! Writing a run's directory.

use std::fs::{self, File};
use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::record::{LifeRecord, RunId, RunRecord, RunSummary, SearchRecord};
use crate::event::Event;
use crate::plan::{Cell, LifeId};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot write {path}")]
    Write { path: Utf8PathBuf, source: io::Error },
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: io::Error },
    #[error("{path} is not what farm wrote there")]
    Corrupt { path: Utf8PathBuf, source: serde_json::Error },
    #[error("nothing is called '{0}'")]
    Unknown(String),
    #[error("there is no run yet")]
    NoRun,
    #[error("there is no bisect yet")]
    NoBisect,
    #[error("another farm is at work on {path}")]
    Busy { path: Utf8PathBuf },
    #[error("'{prefix}' is the beginning of {}", candidates.join(", "))]
    Ambiguous { prefix: String, candidates: Vec<String> },
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: Utf8PathBuf,
}

impl Store {
    pub fn new(root: Utf8PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Utf8Path {
        &self.root
    }

    pub(super) fn runs(&self) -> Utf8PathBuf {
        self.root.join("runs")
    }

    /// Makes the directory of a new run and writes `run.json`.
    pub fn begin(&self, record: &RunRecord) -> Result<RunWriter, StoreError> {
        let stamp = record.started.strftime("%Y%m%d-%H%M%S");
        let directory = self.runs().join(format!("{stamp}-{}", record.id));
        create_dir(&directory.join("cells"))?;
        write_document(&directory.join("run.json"), record)?;
        let path = directory.join("events.jsonl");
        let events =
            File::create(&path).map_err(|source| StoreError::Write { path: path.clone(), source })?;
        Ok(RunWriter { id: record.id.clone(), directory, events_path: path, events })
    }
}

/// A run that is being written.
#[derive(Debug)]
pub struct RunWriter {
    id: RunId,
    directory: Utf8PathBuf,
    events_path: Utf8PathBuf,
    events: File,
}

impl RunWriter {
    pub fn id(&self) -> &RunId {
        &self.id
    }

    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Appends to `events.jsonl`, in one write, so that a kill leaves at most one cut line at the end.
    pub fn event(&mut self, event: &Event) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(event)
            .map_err(|source| StoreError::Corrupt { path: self.events_path.clone(), source })?;
        line.push(b'\n');
        self.events
            .write_all(&line)
            .map_err(|source| StoreError::Write { path: self.events_path.clone(), source })
    }

    pub fn life_directory(&self, life: &LifeId) -> Utf8PathBuf {
        life_directory(&self.directory, life)
    }

    /// Makes a life's directory and writes `cell.json`.
    pub fn life(&self, life: &LifeId, cell: &Cell) -> Result<LifeFiles, StoreError> {
        let directory = self.life_directory(life);
        // Not `create_dir_all`: two lives of one name would overwrite each other.
        fs::create_dir(&directory).map_err(|source| StoreError::Write { path: directory.clone(), source })?;
        write_document(&directory.join("cell.json"), cell)?;
        Ok(LifeFiles { directory })
    }

    /// Writes `search.json`.
    pub fn search(&self, search: &SearchRecord) -> Result<(), StoreError> {
        write_document(&self.directory.join("search.json"), search)
    }

    /// Removes what a life has left.
    pub fn forget(&self, life: &LifeId) -> Result<(), StoreError> {
        let path = self.life_directory(life);
        fs::remove_dir_all(&path).map_err(|source| StoreError::Write { path, source })
    }

    /// Writes `summary.json`: the run is over.
    pub fn finish(&self, summary: &RunSummary) -> Result<(), StoreError> {
        write_document(&self.directory.join("summary.json"), summary)
    }
}

/// The directory of one life.
#[derive(Debug, Clone)]
pub struct LifeFiles {
    directory: Utf8PathBuf,
}

impl LifeFiles {
    /// A directory that belongs to no run.
    pub fn at(directory: Utf8PathBuf) -> Self {
        Self { directory }
    }

    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.directory.join(name)
    }

    pub fn document(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        write_document(&self.path(name), value)
    }

    pub fn text(&self, name: &str, text: &str) -> Result<(), StoreError> {
        write_whole(&self.path(name), text.as_bytes())
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        write_whole(&self.path(name), bytes)
    }

    /// Writes `result.json`: the life is over.
    pub fn finish(&self, record: &LifeRecord) -> Result<(), StoreError> {
        self.document("result.json", record)
    }
}

pub(super) fn create_dir(path: &Utf8Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

pub(super) fn write_document(path: &Utf8Path, value: &impl Serialize) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| StoreError::Corrupt { path: path.to_owned(), source })?;
    text.push(b'\n');
    write_whole(path, &text)
}

/// Writes beside, then renames: a reader sees the whole file or none.
pub fn write_whole(path: &Utf8Path, bytes: &[u8]) -> Result<(), StoreError> {
    let part = Utf8PathBuf::from(format!("{path}.part"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        fs::rename(&part, path)
    };
    write().map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

/// Where a run keeps what a life left.
pub(super) fn life_directory(run: &Utf8Path, life: &LifeId) -> Utf8PathBuf {
    run.join("cells").join(life.to_string())
}
