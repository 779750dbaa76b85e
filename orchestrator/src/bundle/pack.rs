//! Writing a bundle: the same bytes whenever the same goes in.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::leftovers::{make_held, remove_leftovers};
use super::manifest::{FileEntry, Manifest};
use super::{BUNDLE_JSON, BundleError, RUN};
use crate::kernel::hex;

/// 2026-01-01: tar warns of files from 1970.
const MTIME: u64 = 1_767_225_600;
/// A kernel and an image are packed in a second; more makes them little smaller.
const LEVEL: i32 = 10;

/// A file of a bundle.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    pub content: Content,
}

#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    File(Utf8PathBuf),
}

impl Part {
    pub fn bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), content: Content::Bytes(bytes.into()) }
    }

    pub fn file(name: &str, path: &Utf8Path) -> Self {
        Self { name: name.to_owned(), content: Content::File(path.to_owned()) }
    }

    /// Its size and hash.
    pub fn entry(&self) -> Result<FileEntry, BundleError> {
        let mut digest = Digesting { inner: io::sink(), digest: Sha256::new(), bytes: 0 };
        self.write(&mut digest)?;
        Ok(FileEntry { name: self.name.clone(), bytes: digest.bytes, sha256: hex(&digest.digest.finalize()) })
    }

    fn write(&self, mut to: impl Write) -> Result<(), BundleError> {
        match &self.content {
            Content::Bytes(bytes) => to.write_all(bytes).map_err(|source| self.unread(source)),
            Content::File(path) => {
                let mut file = File::open(path).map_err(|source| self.unread(source))?;
                io::copy(&mut file, &mut to).map_err(|source| self.unread(source))?;
                Ok(())
            }
        }
    }

    fn unread(&self, source: io::Error) -> BundleError {
        let path = match &self.content {
            Content::File(path) => path.clone(),
            Content::Bytes(_) => self.name.clone().into(),
        };
        BundleError::Read { path, source }
    }
}

struct Digesting<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.digest.update(&bytes[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What an archive is called while it is written.
const PREFIX: &str = ".bundle-";

/// Writes the archive beside `to`, then renames it: the manifest, then the parts in its order, all in the directory `root`.
pub fn pack(
    to: &Utf8Path,
    root: &str,
    manifest: &Manifest,
    parts: &[Part],
    stop: &Stop,
) -> Result<(), BundleError> {
    let failed = |source: io::Error| BundleError::Write { path: to.to_owned(), source };
    let directory = match to.parent() {
        Some(parent) if parent != "" => parent,
        _ => Utf8Path::new("."),
    };
    remove_leftovers(directory, PREFIX);
    let permissions = Permissions::from_mode(0o644);
    let make =
        || tempfile::Builder::new().prefix(PREFIX).permissions(permissions.clone()).tempfile_in(directory);
    let (part, _held) = make_held(make, |part| part.path()).map_err(failed)?;
    let mut packer = zstd::Encoder::new(BufWriter::new(part), LEVEL).map_err(failed)?;
    packer.include_checksum(true).map_err(failed)?;
    let mut archive = tar::Builder::new(packer);
    let mut document = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
    document.push(b'\n');
    archive
        .append(&header(root, BUNDLE_JSON, document.len() as u64).map_err(failed)?, &document[..])
        .map_err(failed)?;
    for (part, entry) in parts.iter().zip(&manifest.files) {
        let header = header(root, &part.name, entry.bytes).map_err(failed)?;
        match &part.content {
            Content::Bytes(bytes) => archive.append(&header, &bytes[..]).map_err(failed)?,
            Content::File(path) => {
                let unread = |source| BundleError::Read { path: path.clone(), source };
                let file = File::open(path).map_err(unread)?;
                let mut content = Hashed { inner: file, digest: Sha256::new(), stop };
                archive
                    .append(&header, (&mut content).take(entry.bytes))
                    .map_err(|error| if stop.is_set() { BundleError::Stopped } else { failed(error) })?;
                if hex(&content.digest.finalize()) != entry.sha256 {
                    return Err(unread(io::Error::other("it changed while it was packed")));
                }
            }
        }
    }
    let file = archive.into_inner().and_then(zstd::Encoder::finish).map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(to).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Says to another thread that what is written is not wanted any more.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Hashed<'a, R> {
    inner: R,
    digest: Sha256,
    stop: &'a Stop,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            // Of another kind than `Interrupted`, which is tried again.
            return Err(io::Error::other("stopped"));
        }
        let length = self.inner.read(buffer)?;
        self.digest.update(&buffer[..length]);
        Ok(length)
    }
}

fn header(root: &str, name: &str, bytes: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(format!("{root}/{name}"))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if name == RUN { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(bytes);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::FORMAT;

    #[test]
    fn what_is_stopped_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let place = Utf8Path::from_path(place.path()).unwrap();
        let kernel = place.join("kernel");
        std::fs::write(&kernel, "kernel").unwrap();
        let parts = [Part::file("kernel", &kernel)];
        let manifest = Manifest {
            format: FORMAT,
            farm: String::new(),
            qemu: String::new(),
            tried: None,
            console: None,
            disks: Vec::new(),
            files: parts.iter().map(|part| part.entry().unwrap()).collect(),
        };
        let to = place.join("hit.tar.zst");
        let stop = Stop::default();
        stop.set();
        assert!(matches!(pack(&to, "farm-1", &manifest, &parts, &stop), Err(BundleError::Stopped)));
        assert_eq!(place.read_dir_utf8().unwrap().count(), 1);
        pack(&to, "farm-1", &manifest, &parts, &Stop::default()).unwrap();
        assert!(to.is_file());
    }
}
