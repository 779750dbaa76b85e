//! Reading runs back, and finding things by the beginning of their ids.

use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;

use super::files::{Store, StoreError};
use super::record::{LifeRecord, StoredHit, StoredRun};

/// What an id turned out to name.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Run(Box<StoredRun>),
    Life(Box<StoredRun>, Box<LifeRecord>),
    Hit(Box<FoundHit>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct FoundHit {
    pub run: StoredRun,
    pub life: LifeRecord,
    pub hit: StoredHit,
}

impl Store {
    /// All runs that can be read, the newest last, and why others can't. A directory without `run.json` is a run
    /// that was killed in its first moment.
    pub fn read_runs(&self) -> Result<(Vec<StoredRun>, Vec<StoreError>), StoreError> {
        let mut runs = Vec::new();
        let mut unreadable = Vec::new();
        for directory in list(&self.runs())? {
            if directory.join("run.json").exists() {
                match read_run(&directory) {
                    Ok(run) => runs.push(run),
                    Err(error) => unreadable.push(error),
                }
            }
        }
        runs.sort_by(|a, b| (a.record.started, &a.record.id).cmp(&(b.record.started, &b.record.id)));
        Ok((runs, unreadable))
    }

    /// What the id, or its unique beginning, names: a run, a life (`CELL.N` or just the cell, if it lived once), or a hit.
    pub fn find(&self, prefix: &str) -> Result<Found, StoreError> {
        let (runs, _) = self.read_runs()?;
        if prefix == "last" {
            return match runs.into_iter().next_back() {
                Some(run) => Ok(Found::Run(Box::new(run))),
                None => Err(StoreError::Unknown("last: there is no run yet".to_owned())),
            };
        }
        let mut found: Vec<(String, Found)> = Vec::new();
        for run in &runs {
            if run.record.id.as_str().starts_with(prefix) {
                found.push((format!("run {}", run.record.id), Found::Run(Box::new(run.clone()))));
            }
            for life in &run.lives {
                if life.life.to_string().starts_with(prefix) {
                    let name = format!("life {} of run {}", life.life, run.record.id);
                    found.push((name, Found::Life(Box::new(run.clone()), Box::new(life.clone()))));
                }
                for hit in life.hits.iter().filter(|hit| hit.id.as_str().starts_with(prefix)) {
                    let hit = FoundHit { run: run.clone(), life: life.clone(), hit: hit.clone() };
                    found.push((format!("hit {}", hit.hit.id), Found::Hit(Box::new(hit))));
                }
            }
        }
        // A cell that was run again and again has lives in many runs: the newest is meant.
        if found.len() > 1 && found.iter().all(|(_, f)| same_life(f, &found[0].1)) {
            found.drain(..found.len() - 1);
        }
        match found.len() {
            0 => Err(StoreError::Unknown(prefix.to_owned())),
            1 => Ok(found.remove(0).1),
            _ => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                candidates: found.into_iter().map(|(name, _)| name).take(8).collect(),
            }),
        }
    }
}

fn same_life(a: &Found, b: &Found) -> bool {
    matches!((a, b), (Found::Life(_, a), Found::Life(_, b)) if a.life == b.life)
}

fn read_run(directory: &Utf8Path) -> Result<StoredRun, StoreError> {
    let record = read_document(&directory.join("run.json"))?;
    let summary = read_if_there(&directory.join("summary.json"))?;
    let mut lives: Vec<LifeRecord> = Vec::new();
    for life in list(&directory.join("cells"))? {
        lives.extend(read_if_there(&life.join("result.json"))?);
    }
    lives.sort_by(|a, b| (a.timings.started, &a.life).cmp(&(b.timings.started, &b.life)));
    Ok(StoredRun { directory: directory.to_owned(), record, summary, lives })
}

fn list(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, StoreError> {
    let read = |source| StoreError::Read { path: directory.to_owned(), source };
    let entries = match directory.read_dir_utf8() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let mut paths =
        entries.map(|e| e.map(|e| e.into_path())).collect::<Result<Vec<_>, io::Error>>().map_err(read)?;
    paths.sort();
    Ok(paths)
}

fn read_document<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, StoreError> {
    let text = fs::read(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| StoreError::Corrupt { path: path.to_owned(), source })
}

fn read_if_there<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, StoreError> {
    if path.exists() { read_document(path).map(Some) } else { Ok(None) }
}
