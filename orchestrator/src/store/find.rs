//! Reading runs back, and finding things by the beginning of their ids.

use std::collections::HashMap;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;

use super::files::{Store, StoreError, life_directory};
use super::record::{LifeRecord, StoredHit, StoredRun};
use crate::plan::{Cell, CellId, LifeId};

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

/// A thing with an id, by its place among the runs that were read.
#[derive(Clone, Copy)]
struct Named<'a> {
    run: &'a StoredRun,
    life: Option<&'a LifeRecord>,
    hit: Option<&'a StoredHit>,
}

impl Store {
    /// All runs that can be read, the newest last, and why others, or lives of these, can't. A directory without
    /// `run.json` is a run that was killed in its first moment.
    pub fn read_runs(&self) -> Result<(Vec<StoredRun>, Vec<StoreError>), StoreError> {
        let mut runs = Vec::new();
        let mut unreadable = Vec::new();
        for directory in list(&self.runs())? {
            if directory.join("run.json").exists() {
                match read_run(&directory, &mut unreadable) {
                    Ok(run) => runs.push(run),
                    Err(error) => unreadable.push(error),
                }
            }
        }
        runs.sort_by(|a, b| (a.record.started, &a.record.id).cmp(&(b.record.started, &b.record.id)));
        Ok((runs, unreadable))
    }

    /// One run, by its directory.
    pub fn read_run(&self, directory: &Utf8Path) -> Result<StoredRun, StoreError> {
        let mut unreadable = Vec::new();
        let run = read_run(directory, &mut unreadable)?;
        match unreadable.pop() {
            Some(error) => Err(error),
            None => Ok(run),
        }
    }

    /// What is whole of a run that was cut short, if that is anything.
    pub fn read_rest_of_run(&self, directory: &Utf8Path) -> Option<StoredRun> {
        let mut unreadable = Vec::new();
        let run = read_run(directory, &mut unreadable);
        for error in &unreadable {
            tracing::warn!(%error, "a life was cut short");
        }
        run.ok()
    }
}

/// What the id, or its unique beginning, names: a run, a life (`CELL.N`; the newest, if a cell lived in many
/// runs), or a hit. `last` is the newest run.
pub fn find(runs: &[StoredRun], id: &str) -> Result<Found, StoreError> {
    if id == "last" {
        let run = runs.last().ok_or(StoreError::NoRun)?;
        return Ok(Found::Run(Box::new(run.clone())));
    }
    let all: Vec<(String, Named<'_>)> = runs.iter().flat_map(names).collect();
    let exact: Vec<_> = all.iter().filter(|(name, _)| name == id).collect();
    let mut found =
        if exact.is_empty() { all.iter().filter(|(name, _)| name.starts_with(id)).collect() } else { exact };
    if found.iter().all(|(name, named)| named.hit.is_none() && *name == found[0].0) {
        found = found.split_off(found.len().saturating_sub(1));
    }
    match found[..] {
        [] => Err(StoreError::Unknown(id.to_owned())),
        [(_, named)] => Ok(named.owned()),
        _ => {
            let candidates = found.iter().map(|(name, named)| named.called(name)).take(8).collect();
            Err(StoreError::Ambiguous { prefix: id.to_owned(), candidates })
        }
    }
}

fn names(run: &StoredRun) -> Vec<(String, Named<'_>)> {
    let mut names = vec![(run.record.id.to_string(), Named { run, life: None, hit: None })];
    for life in &run.lives {
        names.push((life.life.to_string(), Named { run, life: Some(life), hit: None }));
        for hit in &life.hits {
            names.push((hit.id.to_string(), Named { run, life: Some(life), hit: Some(hit) }));
        }
    }
    names
}

impl Named<'_> {
    fn called(self, name: &str) -> String {
        match (self.life, self.hit) {
            (_, Some(_)) => format!("hit {name}"),
            (Some(_), None) => format!("life {name} of run {}", self.run.record.id),
            (None, None) => format!("run {name}"),
        }
    }

    fn owned(self) -> Found {
        let run = self.run.clone();
        match (self.life.cloned(), self.hit.cloned()) {
            (Some(life), Some(hit)) => Found::Hit(Box::new(FoundHit { run, life, hit })),
            (Some(life), None) => Found::Life(Box::new(run), Box::new(life)),
            (None, _) => Found::Run(Box::new(run)),
        }
    }
}

/// A life whose record cannot be read is left out and named in `unreadable`.
fn read_run(directory: &Utf8Path, unreadable: &mut Vec<StoreError>) -> Result<StoredRun, StoreError> {
    let record = read_document(&directory.join("run.json"))?;
    let summary = read_if_there(&directory.join("summary.json"))?;
    let search = read_if_there(&directory.join("search.json"))?;
    let mut lives: Vec<LifeRecord> = Vec::new();
    let mut unfinished = Vec::new();
    for life in list(&directory.join("cells"))? {
        match read_if_there(&life.join("result.json")) {
            Ok(Some(record)) => lives.push(record),
            Ok(None) => unfinished.extend(life.file_name().map(str::to_owned)),
            Err(error) => unreadable.push(error),
        }
    }
    lives.sort_by(|a, b| (a.timings.started, &a.life).cmp(&(b.timings.started, &b.life)));
    Ok(StoredRun { directory: directory.to_owned(), record, summary, search, lives, unfinished })
}

pub(super) fn list(directory: &Utf8Path) -> Result<Vec<Utf8PathBuf>, StoreError> {
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

pub(super) fn read_document<T: DeserializeOwned>(path: &Utf8Path) -> Result<T, StoreError> {
    let text = fs::read(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| StoreError::Corrupt { path: path.to_owned(), source })
}

/// The cell of a life, as it was run.
pub fn read_cell(run: &Utf8Path, life: &LifeId) -> Result<Cell, StoreError> {
    read_document(&life_directory(run, life).join("cell.json"))
}

/// The cells of those lives that were asked for, which are no more than this.
pub fn read_cells(run: &StoredRun) -> Result<HashMap<CellId, Cell>, StoreError> {
    const MOST: usize = 1024;
    let mut cells = HashMap::new();
    for life in run.asked_for() {
        if cells.len() < MOST && !cells.contains_key(&life.life.cell) {
            cells.insert(life.life.cell, read_cell(&run.directory, &life.life)?);
        }
    }
    Ok(cells)
}

pub(super) fn read_if_there<T: DeserializeOwned>(path: &Utf8Path) -> Result<Option<T>, StoreError> {
    if path.exists() { read_document(path).map(Some) } else { Ok(None) }
}
