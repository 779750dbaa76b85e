//! A bisect's directory: what was asked, and a journal of all that was learned, from which it goes on after a kill.
//!
//! ```text
//! STATE/bisects/20261128-140311-7f3a9c51e2/
//!   bisect.json      what was asked, written first
//!   journal.jsonl    one JSON object a line, each on disk before farm acts on it
//!   runs/            the lives of its trials, as `farm run` keeps them: `farm --state` shows them
//!   answer.json      the verdict, its proof and the trials; written last
//!   answer.txt       the same as text, for a mail
//!   bisect.log       for `git bisect replay`
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::files::{Store, StoreError, create_dir, write_document, write_whole};
use super::find::{list, read_document};
use super::record::RunId;

/// `bisect.json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BisectRecord {
    pub id: RunId,
    pub started: Timestamp,
    /// farm's own version.
    pub farm: String,
    /// What the user typed, and where: to go on is to run it again.
    pub command: Vec<String>,
    pub directory: Utf8PathBuf,
    /// What is bisected: the good end first, the bad end last, parents before children.
    pub subjects: Vec<SubjectRecord>,
    /// A hash of what was read when it began, and is read again to go on: scenarios, and a configuration.
    #[serde(default)]
    pub inputs: String,
}

/// A commit, or a kernel of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectRecord {
    /// A commit's id, or a kernel's name.
    pub id: String,
    pub parents: Vec<String>,
    /// The git tree of a commit.
    pub content: Option<String>,
    pub subject: String,
    pub author: Option<String>,
    pub date: Option<String>,
}

/// A line of `journal.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry {
    /// What the search is after.
    Hunted { findings: Vec<Finding> },
    /// There is a kernel of this, or why not.
    Built { of: Probe, outcome: BuildRecord, seconds: f64 },
    /// Trials begin, in this run.
    Begun { of: Probe, run: String, trials: u32 },
    /// What they came to. Those of a run that was cut short are told when farm goes on.
    Tried { of: Probe, run: String, trials: Vec<Trial> },
}

/// What is built and tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    Subject(String),
    /// The bad end without this commit.
    Without(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum BuildRecord {
    Built {
        /// Of what is loaded; none where nobody knows.
        signature: Option<String>,
        /// It was in the cache.
        cached: bool,
    },
    CannotBuild {
        said: String,
    },
}

/// One trial: a life of each cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Within its run.
    pub number: u32,
    pub outcome: Outcome,
    pub seconds: f64,
    /// Titles of hits that are not hunted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Why it is not clean.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What a trial came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The hunted finding was seen.
    Hit,
    /// It was not, though the trial did all that brings it about: its positive control is there.
    Clean,
    /// It was not, and nothing proves that the trial did what brings it about.
    Weak,
    /// The kernel failed in another way, before it could tell.
    OtherFailure,
    CannotBoot,
    /// The farm's own trouble: says nothing of what was tried.
    Infra,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub fingerprint: String,
    pub title: String,
}

/// A bisect that is being done; nobody else can go on with it meanwhile.
#[derive(Debug)]
pub struct BisectWriter {
    directory: Utf8PathBuf,
    journal_path: Utf8PathBuf,
    journal: File,
}

impl Store {
    fn bisects(&self) -> Utf8PathBuf {
        self.root().join("bisects")
    }

    /// Makes the directory of a new bisect, with files beside the record.
    pub fn begin_bisect(
        &self,
        record: &BisectRecord,
        files: &[(&str, String)],
    ) -> Result<BisectWriter, StoreError> {
        let stamp = record.started.strftime("%Y%m%d-%H%M%S");
        let directory = self.bisects().join(format!("{stamp}-{}", record.id));
        create_dir(&directory)?;
        let (writer, _) = BisectWriter::open(directory)?;
        for (name, text) in files {
            write_synced(&writer.directory.join(name), text.as_bytes())?;
        }
        // Written last: with it there is a bisect.
        let path = writer.directory.join("bisect.json");
        let document = serde_json::to_vec_pretty(record)
            .map_err(|source| StoreError::Corrupt { path: path.clone(), source })?;
        write_synced(&path, &document)?;
        Ok(writer)
    }

    /// The directory of the run of this name, if it was begun at all.
    pub fn run_directory(&self, run: &str) -> Option<Utf8PathBuf> {
        let directory = self.runs().join(run);
        fs::exists(directory.join("run.json")).unwrap_or(false).then_some(directory)
    }

    /// The bisect whose id this is or begins; without one the newest that has no answer, or else the newest.
    pub fn find_bisect(&self, id: Option<&str>) -> Result<(Utf8PathBuf, BisectRecord), StoreError> {
        let mut found = Vec::new();
        for directory in list(&self.bisects())? {
            // One without it was killed in its first moment.
            if directory.join("bisect.json").exists() {
                match read_document::<BisectRecord>(&directory.join("bisect.json")) {
                    Ok(record) if id.is_none_or(|id| record.id.as_str().starts_with(id)) => {
                        found.push((directory, record));
                    }
                    Ok(_) => {}
                    // One that cannot be read must not stand in the way of others.
                    Err(error) => tracing::warn!(%error, "a bisect is left out"),
                }
            }
        }
        let is_open = |directory: &Utf8Path| !directory.join("answer.json").exists();
        found.sort_by_key(|(directory, record)| {
            (id.is_none() && is_open(directory), record.started, record.id.clone())
        });
        if let (Some(id), true) = (id, found.len() > 1) {
            let candidates = found.iter().map(|(_, record)| format!("bisect {}", record.id)).collect();
            return Err(StoreError::Ambiguous { prefix: id.to_owned(), candidates });
        }
        found.pop().ok_or_else(|| id.map_or(StoreError::NoBisect, |id| StoreError::Unknown(id.to_owned())))
    }
}

/// What a bisect came to, as it was printed and as JSON; none of one that has no answer yet.
pub fn read_answer(directory: &Utf8Path) -> Result<Option<(String, serde_json::Value)>, StoreError> {
    let document = directory.join("answer.json");
    // It is written last.
    if !document.exists() {
        return Ok(None);
    }
    let path = directory.join("answer.txt");
    let text = fs::read_to_string(&path).map_err(|source| StoreError::Read { path, source })?;
    Ok(Some((text, read_document(&document)?)))
}

impl BisectWriter {
    /// Takes the journal, with what stands in it. A last line that a kill has cut is dropped: nothing was done on it.
    pub fn open(directory: Utf8PathBuf) -> Result<(Self, Vec<Entry>), StoreError> {
        let journal_path = directory.join("journal.jsonl");
        let failed = |source| StoreError::Write { path: journal_path.clone(), source };
        let options = OpenOptions::new().read(true).append(true).create(true).open(&journal_path);
        let mut journal = options.map_err(failed)?;
        flock(&journal, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            rustix::io::Errno::WOULDBLOCK => StoreError::Busy { path: directory.clone() },
            errno => failed(errno.into()),
        })?;
        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        journal.set_len(whole as u64).map_err(failed)?;
        journal.seek(io::SeekFrom::End(0)).map_err(failed)?;
        let entry = |line| {
            serde_json::from_slice(line)
                .map_err(|source| StoreError::Corrupt { path: journal_path.clone(), source })
        };
        let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let entries = lines.map(entry).collect::<Result<_, _>>()?;
        Ok((Self { directory, journal_path, journal }, entries))
    }

    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    /// Where the runs of its trials are kept.
    pub fn store(&self) -> Store {
        Store::new(self.directory.clone())
    }

    /// Appends a line, which is on disk when this returns.
    pub fn record(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let path = || self.journal_path.clone();
        let mut line =
            serde_json::to_vec(entry).map_err(|source| StoreError::Corrupt { path: path(), source })?;
        line.push(b'\n');
        let before = self.journal.metadata().map(|about| about.len());
        let written = self.journal.write_all(&line).and_then(|()| self.journal.sync_data());
        if let (Err(_), Ok(before)) = (&written, before) {
            // A full disk may have taken the half of it.
            let _ = self.journal.set_len(before);
        }
        written.map_err(|source| StoreError::Write { path: path(), source })
    }

    /// Writes what it came to.
    pub fn answer(&self, answer: &impl Serialize, text: &str, log: Option<&str>) -> Result<(), StoreError> {
        write_whole(&self.directory.join("answer.txt"), text.as_bytes())?;
        if let Some(log) = log {
            write_whole(&self.directory.join("bisect.log"), log.as_bytes())?;
        }
        write_document(&self.directory.join("answer.json"), answer)
    }
}

/// As [`write_whole`] does, and on disk when this returns.
pub fn write_synced(path: &Utf8Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_whole(path, bytes)?;
    let sync = |path: &Utf8Path| File::open(path).and_then(|file| file.sync_all());
    let parent = path.parent().unwrap_or(Utf8Path::new("."));
    sync(path)
        .and_then(|()| sync(parent))
        .map_err(|source| StoreError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> BisectRecord {
        let started = Timestamp::from_second(1_700_000_000).unwrap();
        BisectRecord {
            id: RunId::new(started, 1),
            started,
            farm: "0".into(),
            command: vec!["farm".into()],
            directory: "/".into(),
            subjects: Vec::new(),
            inputs: String::new(),
        }
    }

    fn begun(run: &str) -> Entry {
        Entry::Begun { of: Probe::Subject("a".into()), run: run.into(), trials: 1 }
    }

    #[test]
    fn a_journal_that_was_cut_goes_on_from_its_last_whole_line() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(Utf8PathBuf::from_path_buf(state.path().to_owned()).unwrap());
        let mut writer = store.begin_bisect(&record(), &[]).unwrap();
        writer.record(&begun("one")).unwrap();
        let directory = writer.directory().to_owned();
        assert!(matches!(BisectWriter::open(directory.clone()), Err(StoreError::Busy { .. })));
        drop(writer);
        let journal = directory.join("journal.jsonl");
        let whole = fs::read_to_string(&journal).unwrap();
        // In the middle of a character.
        fs::write(&journal, [whole.as_bytes(), b"{\"what\":\"beg\xc3"].concat()).unwrap();
        let (mut writer, entries) = BisectWriter::open(directory.clone()).unwrap();
        assert_eq!(entries, [begun("one")]);
        writer.record(&begun("two")).unwrap();
        drop(writer);
        let (_, entries) = BisectWriter::open(directory.clone()).unwrap();
        assert_eq!(entries, [begun("one"), begun("two")]);
        assert_eq!(store.find_bisect(None).unwrap().0, directory);
        assert!(matches!(store.find_bisect(Some("nothing")), Err(StoreError::Unknown(_))));
    }
}
