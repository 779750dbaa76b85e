//! Things that cost time to make are made once and kept: kernels, images, compiled programs, disks.
//!
//! An entry is a directory whose name says what went into it. It is filled in a temporary directory beside
//! its place and appears there by rename, so an entry that exists is whole, whatever killed the run that made
//! it. Whoever fills holds an flock, so two farms that share a cache make each entry once; reading takes no
//! lock and writes nothing, so a read-only cache serves what it holds.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// Tells the person who waits, in one short line, what is going on. The library itself never prints.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// A progress callback for callers that have nobody to tell.
pub fn quiet(_: &str) {}

/// Below this much free space a failed fill is blamed on the disk: tools such as dpkg-deb say "no space left"
/// only in their text, and give back a last partial block when they stop.
const FULL_BELOW_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(
        "no place for the cache: neither FARM_CACHE, XDG_CACHE_HOME nor HOME is set; name one with --cache"
    )]
    NoPlace,
    #[error("the cache path {path} is not usable as an absolute path")]
    BadRoot { path: Utf8PathBuf, source: io::Error },
    #[error("{key:?} cannot name a cache entry")]
    BadKey { key: String },
    #[error(
        "the cache cannot be written and {path} is not in it; make it writable or choose another with --cache or FARM_CACHE"
    )]
    ReadOnly { path: Utf8PathBuf, source: io::Error },
    #[error(
        "no space left on the disk of {path} ({free_mib} MiB free); free some or choose another cache with --cache or FARM_CACHE"
    )]
    Full { path: Utf8PathBuf, free_mib: u64, source: Box<dyn Error + Send + Sync> },
    #[error("cannot keep {path} in the cache")]
    Io { path: Utf8PathBuf, source: io::Error },
    #[error("the cache's note {path} is damaged; remove it")]
    BadNote { path: Utf8PathBuf, source: serde_json::Error },
}

/// What an entry is, and the directory under the cache's root in which its kind lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An unpacked kernel package, or a kernel that was built here.
    Kernel,
    /// Sources of kernels, and the objects of their builds: changes in place.
    Tree,
    /// A package's archive of sources.
    Archive,
    /// A kernel's headers, or the programs of its build.
    Headers,
    /// A distribution's debug information of a kernel.
    Symbols,
    /// Another unpacked package, for the guest (busybox).
    Package,
    /// QEMU unpacked beside the host's own.
    Qemu,
    /// A compiled guest program.
    Program,
    /// A kernel module of farm's own.
    Module,
    /// An initramfs.
    Image,
    /// A formatted, empty disk to copy from.
    Disk,
    /// A guest that was booted and saved with all its memory.
    Saved,
    /// Private state of apt: changes in place.
    Apt,
}

impl Kind {
    fn directory(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Tree => "tree",
            Self::Archive => "archive",
            Self::Headers => "headers",
            Self::Symbols => "symbols",
            Self::Package => "package",
            Self::Qemu => "qemu",
            Self::Program => "program",
            Self::Module => "module",
            Self::Image => "image",
            Self::Disk => "disk",
            Self::Saved => "saved",
            Self::Apt => "apt",
        }
    }
}

/// A cache directory. Cheap to clone; holds no open files.
#[derive(Debug, Clone)]
pub struct Cache {
    root: Utf8PathBuf,
}

/// A directory that changes in place, held by one farm at a time until this is dropped.
#[derive(Debug)]
pub struct Workspace {
    pub path: Utf8PathBuf,
    lock: File,
}

impl Workspace {
    /// Lets all that is started from now on hold the lock too: if farm is killed, the place stays taken until the last
    /// compiler that works in it has ended.
    pub fn hand_down(&self) -> Result<(), CacheError> {
        rustix::io::fcntl_setfd(&self.lock, rustix::io::FdFlags::empty())
            .map_err(|errno| CacheError::Io { path: self.path.clone(), source: errno.into() })
    }
}

impl Cache {
    /// The cache at `root`, which need not exist yet.
    pub fn new(root: &Utf8Path) -> Result<Self, CacheError> {
        let bad = |source| CacheError::BadRoot { path: root.to_owned(), source };
        let absolute = std::path::absolute(root).map_err(bad)?;
        let root = Utf8PathBuf::try_from(absolute).map_err(|error| bad(error.into_io_error()))?;
        Ok(Self { root })
    }

    /// The cache that was asked for, else `farm` in the XDG cache directory. `variable` looks up an
    /// environment variable; `FARM_CACHE` stands behind `--cache` and so arrives in `asked`.
    pub fn locate(
        asked: Option<&Utf8Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CacheError> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
        // The XDG base directory specification: a relative path in the variable is to be ignored.
        let xdg = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let base = xdg.or_else(|| set("HOME").map(|home| home.join(".cache")));
        match asked {
            Some(path) => Self::new(path),
            None => Self::new(&base.ok_or(CacheError::NoPlace)?.join("farm")),
        }
    }

    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Where the entry is or would be.
    pub fn path(&self, kind: Kind, key: &str) -> Utf8PathBuf {
        self.root.join(kind.directory()).join(key)
    }

    /// The entry, if it is there.
    pub fn existing(&self, kind: Kind, key: &str) -> Option<Utf8PathBuf> {
        let path = self.path(kind, key);
        path.is_dir().then_some(path)
    }

    /// All entries of a kind, sorted by name.
    pub fn entries(&self, kind: Kind) -> Result<Vec<Utf8PathBuf>, CacheError> {
        let directory = self.root.join(kind.directory());
        let failed = |source| CacheError::Io { path: directory.clone(), source };
        let listing = match directory.read_dir_utf8() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(failed)?;
            if !entry.file_name().starts_with('.') && entry.path().is_dir() {
                entries.push(entry.path().to_owned());
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// The entry `key`; if it is not there yet, `fill` makes its content in the empty directory it is given.
    /// When `fill` fails nothing stays behind.
    pub fn entry<E>(
        &self,
        kind: Kind,
        key: &str,
        progress: Progress<'_>,
        fill: impl FnOnce(&Utf8Path) -> Result<(), E>,
    ) -> Result<Utf8PathBuf, E>
    where
        E: From<CacheError> + Error + Send + Sync + 'static,
    {
        check_key(key)?;
        if let Some(path) = self.existing(kind, key) {
            return Ok(path);
        }
        let path = self.path(kind, key);
        let _lock = self.lock(kind, key, progress)?;
        if path.is_dir() {
            return Ok(path);
        }
        remove_leftovers(&path)?;
        let work = temporary_beside(&path)?;
        let work_path =
            Utf8Path::from_path(work.path()).ok_or_else(|| CacheError::BadKey { key: key.to_owned() })?;
        fill(work_path).map_err(|error| blame_the_disk(&path, error))?;
        keep(work, &path)?;
        Ok(path)
    }

    /// Removes the entry, if it is there. Whoever has its files open keeps them.
    pub fn remove(&self, kind: Kind, key: &str) -> Result<(), CacheError> {
        check_key(key)?;
        let path = self.path(kind, key);
        let _lock = self.lock(kind, key, &quiet)?;
        let work = temporary_beside(&path)?;
        match fs::rename(&path, work.path().join(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(write_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// Removes entries of a kind whose keys begin so, those that were used longest ago first, until they take no more than so
    /// many bytes of disk; `but` stays.
    pub fn prune(&self, kind: Kind, prefix: &str, most_bytes: u64, but: &Utf8Path) -> Result<(), CacheError> {
        let mut entries = Vec::new();
        let begins_so = |path: &Utf8PathBuf| path.file_name().is_some_and(|key| key.starts_with(prefix));
        for path in self.entries(kind)?.into_iter().filter(begins_so) {
            match usage(&path) {
                Ok((used, bytes)) => entries.push((used, bytes, path)),
                // Another farm is pruning too.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(CacheError::Io { path, source }),
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if total <= most_bytes {
                break;
            }
            if path != but
                && let Some(key) = path.file_name()
            {
                self.remove(kind, key)?;
                total -= bytes;
            }
        }
        Ok(())
    }

    /// Notes that the entry is in use, for [`Cache::prune`]. A cache that cannot be written is not pruned either.
    pub fn mark_used(&self, entry: &Utf8Path) {
        let now = fs::FileTimes::new().set_modified(std::time::SystemTime::now());
        let marked = File::open(entry).and_then(|directory| directory.set_times(now));
        tracing::debug!(%entry, ?marked, "cache entry used");
    }

    /// An open file on the cache's disk that has no name: it is gone when it is closed.
    pub fn unnamed_file(&self, kind: Kind) -> Result<File, CacheError> {
        let directory = self.root.join(kind.directory());
        let failed = |error| write_error(&directory, error);
        fs::create_dir_all(&directory).map_err(failed)?;
        tempfile::tempfile_in(&directory).map_err(failed)
    }

    /// A directory of this kind that is changed in place; waits until no other farm holds it.
    pub fn workspace(&self, kind: Kind, key: &str, progress: Progress<'_>) -> Result<Workspace, CacheError> {
        check_key(key)?;
        let path = self.path(kind, key);
        let lock = self.lock(kind, key, progress)?;
        fs::create_dir_all(&path).map_err(|error| write_error(&path, error))?;
        Ok(Workspace { path, lock })
    }

    /// Writes down a small fact under a name, in place of what was there, for instance which entry a named
    /// kernel is today.
    pub fn remember(&self, name: &str, value: &impl Serialize) -> Result<(), CacheError> {
        let path = self.note(name)?;
        let failed = |error| write_error(&path, error);
        let directory = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(directory).map_err(failed)?;
        let text = serde_json::to_string_pretty(value)
            .map_err(|source| CacheError::BadNote { path: path.clone(), source })?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// What was written down under this name.
    pub fn recall<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CacheError> {
        let path = self.note(name)?;
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| CacheError::Io { path: path.clone(), source })?,
        };
        let value = serde_json::from_str(&text).map_err(|source| CacheError::BadNote { path, source })?;
        Ok(Some(value))
    }

    fn note(&self, name: &str) -> Result<Utf8PathBuf, CacheError> {
        check_key(name)?;
        Ok(self.root.join("notes").join(format!("{name}.json")))
    }

    /// Takes the entry's lock. Lock files stay: removing one would let two farms hold two different files of
    /// the same name.
    fn lock(&self, kind: Kind, key: &str, progress: Progress<'_>) -> Result<File, CacheError> {
        let path = self.path(kind, key);
        let failed = |error| write_error(&path, error);
        let directory = self.root.join(kind.directory());
        fs::create_dir_all(&directory).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(format!(".{key}.lock")))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                progress(&format!("waiting for another farm, which is making {path}"));
                retry(|| flock(&lock, FlockOperation::LockExclusive)).map_err(failed)?;
            }
            outcome => outcome.map_err(|errno| failed(errno.into()))?,
        }
        Ok(lock)
    }
}

/// When an entry was last used, and the bytes of disk that its files take.
fn usage(entry: &Utf8Path) -> io::Result<(std::time::SystemTime, u64)> {
    Ok((fs::metadata(entry)?.modified()?, bytes_in(entry)?))
}

fn bytes_in(directory: &Utf8Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in directory.read_dir_utf8()? {
        let file = file?;
        bytes += match file.file_type()?.is_dir() {
            true => bytes_in(file.path())?,
            false => std::os::unix::fs::MetadataExt::blocks(&file.metadata()?) * 512,
        };
    }
    Ok(bytes)
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Keys become file names, with a prefix and a suffix for locks and temporary directories.
fn check_key(key: &str) -> Result<(), CacheError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+~:".contains(c);
    let ok = (1..=200).contains(&key.len()) && !key.starts_with('.') && key.chars().all(plain);
    if ok { Ok(()) } else { Err(CacheError::BadKey { key: key.to_owned() }) }
}

fn temporary_prefix(entry: &Utf8Path) -> String {
    format!(".{}.filling.", entry.file_name().unwrap_or_default())
}

fn temporary_beside(entry: &Utf8Path) -> Result<TempDir, CacheError> {
    let directory = entry.parent().unwrap_or(entry);
    tempfile::Builder::new()
        .prefix(&temporary_prefix(entry))
        .tempdir_in(directory)
        .map_err(|error| write_error(entry, error))
}

/// Removes what killed runs left of this entry. The caller holds its lock, so nobody is filling it. The names
/// are unique all the same: a tool that outlives its farm by a moment must not write into the next one's
/// directory.
fn remove_leftovers(entry: &Utf8Path) -> Result<(), CacheError> {
    let directory = entry.parent().unwrap_or(entry);
    let failed = |error| write_error(entry, error);
    let prefix = temporary_prefix(entry);
    for sibling in directory.read_dir_utf8().map_err(failed)? {
        let sibling = sibling.map_err(failed)?;
        if sibling.file_name().starts_with(&prefix) {
            fs::remove_dir_all(sibling.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Makes the filled directory durable and puts it in its place: everything in it reaches the disk before the
/// name does, so that a power cut leaves no entry with holes.
fn keep(work: TempDir, entry: &Utf8Path) -> Result<(), CacheError> {
    let failed = |error| write_error(entry, error);
    let directory = File::open(work.path()).map_err(failed)?;
    rustix::fs::syncfs(&directory).map_err(|errno| failed(errno.into()))?;
    // tempfile makes directories that only their owner may enter; a cache may be shared.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    directory.set_permissions(readable).map_err(failed)?;
    fs::rename(work.path(), entry).map_err(failed)?;
    // The directory has moved; what the guard would remove is no longer there.
    let _moved = work.keep();
    File::open(entry.parent().unwrap_or(entry)).and_then(|parent| parent.sync_all()).map_err(failed)
}

fn write_error(path: &Utf8Path, source: io::Error) -> CacheError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => CacheError::ReadOnly { path, source },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            CacheError::Full { free_mib: free_bytes(&path).unwrap_or(0) >> 20, path, source: source.into() }
        }
        _ => CacheError::Io { path, source },
    }
}

/// A fill that failed because the disk is full says so, whichever tool met it.
fn blame_the_disk<E>(path: &Utf8Path, error: E) -> E
where
    E: From<CacheError> + Error + Send + Sync + 'static,
{
    let free = free_bytes(path);
    if says_full(&error) || free.is_some_and(|bytes| bytes < FULL_BELOW_BYTES) {
        let free_mib = free.unwrap_or(0) >> 20;
        return E::from(CacheError::Full { path: path.to_owned(), free_mib, source: error.into() });
    }
    error
}

fn says_full(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

fn free_bytes(entry: &Utf8Path) -> Option<u64> {
    let place = entry.ancestors().find(|path| path.is_dir())?;
    let stat = rustix::fs::statvfs(place.as_std_path()).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
mod tests;
