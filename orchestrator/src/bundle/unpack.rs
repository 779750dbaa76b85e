//! Reading a bundle that anybody may have made.
//!
//! Only plain files are taken, by names that a bundle can have, into one fresh directory; what the manifest does not name, or names
//! otherwise than it is, ends it. No byte more is unpacked than the manifest and the bounds allow.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use super::bounds::{check_cell, check_text};
use super::leftovers::{make_held, remove_leftovers};
use super::manifest::{BundledHit, FileEntry, MOST_BYTES, MOST_DOCUMENT_BYTES, Manifest};
use super::{BUNDLE_JSON, BundleError, CELL, HIT, KERNEL};
use crate::kernel::hex;
use crate::plan::Cell;

/// All that tar adds to the files of the largest bundle.
const MOST_ARCHIVE_BYTES: u64 = MOST_BYTES + (1 << 20);
/// Of zstd, as a power of two: as much memory as its own program takes.
const WINDOW: u32 = 27;
const CHUNK: usize = 64 << 10;
/// Of zeros behind the last entry; tar's own blocks have 10 KiB.
const MOST_PADDING: u64 = 1 << 20;

/// A bundle, checked. Its directory goes when this does.
#[derive(Debug)]
pub struct Unpacked {
    directory: tempfile::TempDir,
    /// Tells other farms that it is in use.
    _held: File,
    pub manifest: Manifest,
    pub cell: Cell,
    pub hit: BundledHit,
}

impl Unpacked {
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        let directory = Utf8PathBuf::try_from(self.directory.path().to_owned());
        directory.unwrap_or_default().join(name)
    }
}

/// Why it is refused: the file's fault, or the host's.
enum Trouble {
    Refused(String),
    Host(BundleError),
}

impl Trouble {
    fn refused<T>(why: impl Into<String>) -> Result<T, Self> {
        Err(Self::Refused(why.into()))
    }
}

/// What the directories are called that bundles are unpacked into.
const PREFIX: &str = "bundle-";

/// Removes what killed farms unpacked in `beneath`.
pub fn remove_unpacked(beneath: &Utf8Path) {
    remove_leftovers(beneath, PREFIX);
}

/// Unpacks it into a fresh directory in `beneath`, which is gone again if it is refused.
pub fn unpack(file: &Utf8Path, beneath: &Utf8Path) -> Result<Unpacked, BundleError> {
    let unread = |source| BundleError::Read { path: file.to_owned(), source };
    // A pipe would wait for somebody to write.
    if !std::fs::metadata(file).map_err(unread)?.is_file() {
        return Err(BundleError::Refused { path: file.to_owned(), why: "it is no file".to_owned() });
    }
    let packed = File::open(file).map_err(unread)?;
    let unwritten = |source| BundleError::Write { path: beneath.to_owned(), source };
    std::fs::create_dir_all(beneath).map_err(unwritten)?;
    remove_unpacked(beneath);
    let make = || tempfile::Builder::new().prefix(PREFIX).tempdir_in(beneath);
    let (directory, held) = make_held(make, tempfile::TempDir::path).map_err(unwritten)?;
    let place = Utf8PathBuf::try_from(directory.path().to_owned())
        .map_err(|error| unwritten(error.into_io_error()))?;
    let read = read(packed, &place).and_then(|manifest| {
        let (cell, hit) = documents(&place, &manifest)?;
        Ok((manifest, cell, hit))
    });
    match read {
        Ok((manifest, cell, hit)) => Ok(Unpacked { directory, _held: held, manifest, cell, hit }),
        Err(Trouble::Refused(why)) => Err(BundleError::Refused { path: file.to_owned(), why }),
        Err(Trouble::Host(error)) => Err(error),
    }
}

/// What cannot be read of an archive is the archive's fault: the file itself could be opened.
fn damaged(error: io::Error) -> Trouble {
    Trouble::Refused(match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
        _ => format!("it cannot be read as tar in zstd: {error}"),
    })
}

fn read(packed: File, place: &Utf8Path) -> Result<Manifest, Trouble> {
    let mut decoder = zstd::Decoder::new(packed).map_err(damaged)?;
    decoder.window_log_max(WINDOW).map_err(damaged)?;
    let mut archive = Archive::new(decoder.take(MOST_ARCHIVE_BYTES));
    // Raw: nothing of the archive can give an entry another name or size than its header.
    let mut entries = archive.entries().map_err(damaged)?.raw(true);
    let mut next = || entries.next().transpose().map_err(damaged);
    let Some(first) = next()? else { return Trouble::refused("it is empty") };
    let (root, name) = name_of(&first)?;
    if name != BUNDLE_JSON {
        return Trouble::refused(format!("its first entry is not {BUNDLE_JSON}"));
    }
    if first.header().size().map_err(damaged)? > MOST_DOCUMENT_BYTES {
        return Trouble::refused(format!("its {BUNDLE_JSON} has more than {MOST_DOCUMENT_BYTES} bytes"));
    }
    let manifest = manifest(first)?;
    let mut missing: Vec<&FileEntry> = manifest.files.iter().collect();
    while let Some(entry) = next()? {
        let (directory, name) = name_of(&entry)?;
        if directory != root {
            return Trouble::refused(format!("{directory}/{name} is not in {root}/ as the others"));
        }
        let Some(at) = missing.iter().position(|file| file.name == name) else {
            return Trouble::refused(format!("it has a {name} that {BUNDLE_JSON} does not name, or twice"));
        };
        write(entry, missing.remove(at), place)?;
    }
    if let Some(FileEntry { name, .. }) = missing.first() {
        return Trouble::refused(format!("it has no {name}, which {BUNDLE_JSON} names"));
    }
    check_end(archive.into_inner())?;
    Ok(manifest)
}

/// The directory and the name of a plain file.
fn name_of<R: Read>(entry: &Entry<'_, R>) -> Result<(String, String), Trouble> {
    let path = entry.path_bytes();
    let shown = crate::escape::escape(&path);
    let kind = entry.header().entry_type();
    if kind != EntryType::Regular {
        return Trouble::refused(format!("{shown} is no plain file"));
    }
    let plain = |word: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !word.is_empty() && !word.starts_with('.') && word.bytes().all(letter)
    };
    match std::str::from_utf8(&path).ok().and_then(|path| path.split_once('/')) {
        Some((root, name)) if plain(root) && plain(name) => Ok((root.to_owned(), name.to_owned())),
        _ => Trouble::refused(format!("{shown} is no name of a file in a bundle")),
    }
}

fn manifest(mut entry: impl Read) -> Result<Manifest, Trouble> {
    let text = read_document(&mut entry).map_err(damaged)?;
    let manifest: Manifest = parse(BUNDLE_JSON, &text)?;
    check_text(&manifest).and_then(|()| manifest.check()).map_err(Trouble::Refused)?;
    Ok(manifest)
}

fn read_document(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MOST_DOCUMENT_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(text).map_err(|error| {
        let why = error.to_string();
        Trouble::Refused(format!("{name} is not what farm writes: {}", crate::escape::escape(why.as_bytes())))
    })
}

fn write<R: Read>(mut entry: Entry<'_, R>, expected: &FileEntry, place: &Utf8Path) -> Result<(), Trouble> {
    let FileEntry { name, bytes, sha256 } = expected;
    if entry.header().size().map_err(damaged)? != *bytes {
        return Trouble::refused(format!("{name} has another size than {BUNDLE_JSON} says"));
    }
    let path = place.join(name);
    let unwritten = |source| Trouble::Host(BundleError::Write { path: path.clone(), source });
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(unwritten)?;
    let mut digest = Sha256::new();
    let mut length: u64 = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = entry.read(&mut chunk).map_err(damaged)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
        length += read as u64;
        file.write_all(&chunk[..read]).map_err(unwritten)?;
    }
    if length != *bytes {
        return Trouble::refused("it is cut short");
    }
    if hex(&digest.finalize()) != *sha256 {
        return Trouble::refused(format!("{name} has another hash than {BUNDLE_JSON} says"));
    }
    Ok(())
}

/// Behind the last entry there are zeros up to the end, and the end is where zstd says.
fn check_end(mut rest: impl Read) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK];
    let mut padding = 0;
    loop {
        let read = rest.read(&mut chunk).map_err(damaged)?;
        if read == 0 {
            return Ok(());
        }
        padding += read as u64;
        if padding > MOST_PADDING || chunk[..read].iter().any(|byte| *byte != 0) {
            return Trouble::refused("there is more behind its end");
        }
    }
}

fn documents(place: &Utf8Path, manifest: &Manifest) -> Result<(Cell, BundledHit), Trouble> {
    let read = |name: &str| {
        let path = place.join(name);
        let unread = |source| Trouble::Host(BundleError::Read { path: path.clone(), source });
        File::open(&path).and_then(read_document).map_err(unread)
    };
    let cell: Cell = parse(CELL, &read(CELL)?)?;
    let hit: BundledHit = parse(HIT, &read(HIT)?)?;
    check_cell(&cell, manifest).map_err(|why| Trouble::Refused(format!("{CELL}: {why}")))?;
    check_text(&hit).map_err(|why| Trouble::Refused(format!("{HIT}: {why}")))?;
    if manifest.file(KERNEL).is_none_or(|file| file.sha256 != cell.kernel.sha256) {
        return Trouble::refused(format!("its {KERNEL} is not that of {CELL}"));
    }
    Ok((cell, hit))
}
