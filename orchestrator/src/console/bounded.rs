//! A log file that keeps the first and the last part of a stream of any length.
//!
//! A guest that floods its console must not fill the disk. The head goes straight into the file, so that it
//! is there even if farm is killed. What follows goes into a ring beside it, `PATH.tail`; closing appends
//! the ring's content to the file, in order, behind one line that says how many bytes are missing.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};

/// How many bytes of a stream stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub head: u64,
    pub tail: u64,
}

/// What a closed log holds. A byte at offset `o` of the stream stands at `o` in the file if `o < head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the stream.
    pub written: u64,
    /// Bytes at the start of the file that are the stream's first.
    pub head: u64,
    /// Bytes of the stream between head and tail that are in no file.
    pub dropped: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} log {path}")]
pub struct Error {
    action: &'static str,
    path: Utf8PathBuf,
    #[source]
    source: io::Error,
}

/// A writer over the file. Without [`BoundedLog::close`] the tail stays in `PATH.tail`, as a raw ring.
#[derive(Debug)]
pub struct BoundedLog {
    path: Utf8PathBuf,
    file: File,
    limits: Limits,
    written: u64,
    ring: Option<File>,
}

impl BoundedLog {
    /// Creates or empties the file at `path`.
    pub fn create(path: &Utf8Path, limits: Limits) -> Result<Self, Error> {
        let file =
            File::create(path).map_err(|source| Error { action: "create", path: path.into(), source })?;
        Ok(Self { path: path.into(), file, limits, written: 0, ring: None })
    }

    /// Writes all of the bytes, or says which log it was that failed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes).map_err(|source| Error { action: "write to", path: self.path.clone(), source })
    }

    /// Joins head, marker and tail in the one file, and removes the ring.
    pub fn close(mut self) -> Result<Summary, Error> {
        self.join().map_err(|source| Error { action: "close", path: self.path.clone(), source })
    }

    fn join(&mut self) -> io::Result<Summary> {
        let head = self.written.min(self.limits.head);
        let after_head = self.written - head;
        let dropped = after_head.saturating_sub(self.limits.tail);
        if dropped > 0 {
            writeln!(self.file, "\n--- farm: {dropped} bytes dropped here ---")?;
        }
        if let Some(mut ring) = self.ring.take() {
            // The oldest byte stands where the next one would be written, once the ring has gone round.
            let oldest = if dropped > 0 { after_head % self.limits.tail } else { 0 };
            ring.seek(SeekFrom::Start(oldest))?;
            io::copy(&mut ring, &mut self.file)?;
            ring.rewind()?;
            io::copy(&mut (&mut ring).take(oldest), &mut self.file)?;
            remove_file(self.ring_path())?;
        }
        self.file.flush()?;
        Ok(Summary { written: self.written, head, dropped })
    }

    fn ring_path(&self) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("{}.tail", self.path))
    }

    fn write_ring(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limits.tail == 0 {
            return Ok(bytes.len());
        }
        if self.ring.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true);
            self.ring = Some(options.open(self.ring_path())?);
        }
        let ring = self.ring.as_mut().expect("the ring was opened just above");
        let position = (self.written - self.limits.head) % self.limits.tail;
        let room = usize::try_from(self.limits.tail - position).unwrap_or(usize::MAX);
        ring.seek(SeekFrom::Start(position))?;
        ring.write(&bytes[..bytes.len().min(room)])
    }
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.limits.head.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let count = match bytes {
            [] => 0,
            _ if room > 0 => self.file.write(&bytes[..bytes.len().min(room)])?,
            _ => self.write_ring(bytes)?,
        };
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("console.log")).unwrap();
        (directory, path)
    }

    /// Writes `stream` in pieces of `piece` bytes and returns the file and the summary.
    fn keep(stream: &[u8], piece: usize, limits: Limits) -> (String, Summary) {
        let (directory, path) = directory();
        let mut log = BoundedLog::create(&path, limits).unwrap();
        for piece in stream.chunks(piece) {
            log.write_all(piece).unwrap();
        }
        let summary = log.close().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "the ring must be gone");
        (std::fs::read_to_string(&path).unwrap(), summary)
    }

    #[test]
    fn keeps_head_and_tail_whatever_the_pieces() {
        let alphabet = b"abcdefghijklmnopqrstuvwxyz";
        for (length, head, tail, file, dropped) in [
            (0, 4, 3, "", 0),
            (4, 4, 3, "abcd", 0),
            (6, 4, 3, "abcdef", 0),
            (7, 4, 3, "abcdefg", 0),
            (8, 4, 3, "abcd\n--- farm: 1 bytes dropped here ---\nfgh", 1),
            (26, 4, 3, "abcd\n--- farm: 19 bytes dropped here ---\nxyz", 19),
            (26, 0, 5, "\n--- farm: 21 bytes dropped here ---\nvwxyz", 21),
            (26, 5, 0, "abcde\n--- farm: 21 bytes dropped here ---\n", 21),
        ] {
            for piece in [1, 2, 3, 5, 26] {
                let (text, summary) = keep(&alphabet[..length], piece, Limits { head, tail });
                assert_eq!(text, file, "length {length}, head {head}, tail {tail}, pieces of {piece}");
                assert_eq!(summary.dropped, dropped);
                assert_eq!(summary.written, length as u64);
                assert_eq!(summary.head, head.min(length as u64));
            }
        }
    }

    #[test]
    fn a_killed_farm_leaves_the_head_and_a_bounded_ring() {
        let (directory, path) = directory();
        let mut log = BoundedLog::create(&path, Limits { head: 4, tail: 8 }).unwrap();
        log.write_all(&[b'x'; 1000]).unwrap();
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "xxxx");
        let used: u64 =
            std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(used, 12);
    }

    #[test]
    fn the_error_names_the_path() {
        let path = Utf8Path::new("/nonexistent/console.log");
        let error = BoundedLog::create(path, Limits { head: 1, tail: 1 }).unwrap_err();
        assert_eq!(error.to_string(), "cannot create log /nonexistent/console.log");
    }
}
