//! The job slot of a saved guest: pages of its memory that init keeps for a job (guests/init/slot.c). QEMU's
//! `mapped-ram` format gives each page a fixed place in the file, so a job is written straight into it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use sha2::{Digest, Sha256};

use crate::kernel::hex;

const PAGE: usize = 4096;
/// A page's mark, its number and, in the first page, the job's length; then comes the job.
const HEADER: usize = 32;
const NUMBER_AT: usize = 24;
const LENGTH_AT: u64 = 28;
/// What a page of the slot begins with, but for its bits: it stands there complemented, and nowhere else in a guest.
const MARK: &[u8; NUMBER_AT] = b"farm job slot 9f1c6a52e0";
const CHUNK: usize = 256 * PAGE;

/// Where in the file the slot's pages are, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pages: Vec<u64>,
}

/// What a saved guest's file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// Of all pages that are not zeros and their places: holes may come and go when a file is copied.
    pub(super) sha256: String,
    /// None: no guest of ours, or not waiting for a job.
    pub(super) slot: Option<Slot>,
}

impl Slot {
    /// The longest job in bytes.
    pub fn room(&self) -> usize {
        self.pages.len() * (PAGE - HEADER)
    }

    /// Writes the job in the place of the one that may be in the slot, of which nothing stays. It must not be longer than
    /// the room.
    pub fn write(&self, file: &File, job: &[u8]) -> io::Result<()> {
        let length = u32::try_from(job.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let first = *self.pages.first().ok_or(io::ErrorKind::FileTooLarge)?;
        if job.len() > self.room() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut former = [0; 4];
        file.read_exact_at(&mut former, first + LENGTH_AT)?;
        let former = (u32::from_be_bytes(former) as usize).min(self.room());
        let mut bytes = job.to_vec();
        bytes.resize(former.max(job.len()), 0);
        for (page, part) in self.pages.iter().zip(bytes.chunks(PAGE - HEADER)) {
            file.write_all_at(part, page + HEADER as u64)?;
        }
        file.write_all_at(&length.to_be_bytes(), first + LENGTH_AT)
    }
}

/// Reads the whole file, holes left out.
pub(super) fn survey(file: &File) -> io::Result<Survey> {
    let mut digest = Sha256::new();
    let mut found: Vec<(u32, u64)> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    for (start, end) in extents(file)? {
        let mut at = start;
        while at < end {
            let stretch = CHUNK.min((end - at) as usize);
            let length = read_full(file, &mut buffer[..stretch], at)?;
            // The file's end may lie within a page.
            buffer[length..].fill(0);
            for (number, page) in buffer[..length.next_multiple_of(PAGE)].chunks(PAGE).enumerate() {
                let place = at + (number * PAGE) as u64;
                if page.iter().all(|byte| *byte == 0) {
                    continue;
                }
                digest.update(place.to_be_bytes());
                digest.update(page);
                found.extend(slot_page(page).map(|number| (number, place)));
            }
            at += CHUNK as u64;
        }
    }
    found.sort_unstable();
    let whole = !found.is_empty() && found.iter().map(|(number, _)| *number).eq(0..found.len() as u32);
    let slot = whole.then(|| Slot { pages: found.into_iter().map(|(_, place)| place).collect() });
    Ok(Survey { sha256: hex(&digest.finalize()), slot })
}

fn slot_page(page: &[u8]) -> Option<u32> {
    let marked = page[..NUMBER_AT].iter().zip(MARK).all(|(byte, mark)| *byte == !mark);
    let number = page[NUMBER_AT..NUMBER_AT + 4].try_into().ok()?;
    marked.then(|| u32::from_be_bytes(number))
}

/// As much as there is, up to the buffer's length.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], at + have as u64) {
            Ok(0) => break,
            Ok(length) => have += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// The stretches of a file that are no holes, whole pages of it, in order and without overlaps.
fn extents(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let mut extents: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => return Ok(extents),
            start => start?,
        };
        let end = seek(file, SeekFrom::Hole(start))?;
        let from = start / PAGE as u64 * PAGE as u64;
        let to = end.next_multiple_of(PAGE as u64);
        match extents.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => extents.push((from, to)),
        }
        at = end;
    }
}

/// Copies a file into an empty one: as a clone that shares its blocks where the file system can, else within the
/// kernel and without its holes.
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    for (start, end) in extents(from)? {
        let (mut read, mut write) = (start, start);
        while read < end.min(length) {
            let rest = (end.min(length) - read) as usize;
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // Two file systems that cannot do it between them.
                Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
                    let mut buffer = vec![0; CHUNK.min(rest)];
                    let length = read_full(from, &mut buffer, read)?;
                    to.write_all_at(&buffer[..length], write)?;
                    (read, write) = (read + length as u64, write + length as u64);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    pub(in crate::guest) fn page(number: u32) -> Vec<u8> {
        let mut page: Vec<u8> = MARK.iter().map(|byte| !byte).collect();
        page.extend(number.to_be_bytes());
        page.resize(PAGE, 0);
        page
    }

    /// A file of 64 MiB of holes with these pages.
    fn file(pages: &[(u64, Vec<u8>)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len((64 << 20) + 77).unwrap();
        for (number, page) in pages {
            file.write_all_at(page, number * PAGE as u64).unwrap();
        }
        file
    }

    #[test]
    fn a_job_goes_to_its_pages_wherever_they_are() {
        let file = file(&[(9000, page(0)), (3, vec![7; PAGE]), (300, page(2)), (4, page(1))]);
        let slot = survey(&file).unwrap().slot.unwrap();
        assert_eq!(slot.room(), 3 * 4064);
        let job: Vec<u8> = (0..9000_u32).map(|n| n as u8).collect();
        slot.write(&file, &job).unwrap();
        let mut read = vec![0; 4064];
        for (page, part) in [9000_u64, 4, 300].iter().zip(job.chunks(4064)) {
            file.read_exact_at(&mut read, page * 4096 + 32).unwrap();
            assert_eq!(&read[..part.len()], part);
        }
        let mut length = [0; 4];
        file.read_exact_at(&mut length, 9000 * 4096 + 28).unwrap();
        assert_eq!(u32::from_be_bytes(length), 9000);
        slot.write(&file, b"short").unwrap();
        for (page, start) in [(9000_u64, b"short\0\0"), (4, &[0; 7]), (300, &[0; 7])] {
            file.read_exact_at(&mut read, page * 4096 + 32).unwrap();
            assert_eq!(&read[..7], start);
            assert!(read[7..].iter().all(|byte| *byte == 0), "nothing of the longer job stays");
        }
        let error = slot.write(&file, &vec![1; slot.room() + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn pages_that_are_missing_or_there_twice_are_no_slot() {
        for pages in [&[(1, page(0)), (2, page(2))][..], &[(1, page(0)), (2, page(0))], &[(1, page(1))], &[]]
        {
            assert_eq!(survey(&file(pages)).unwrap().slot, None);
        }
    }

    #[test]
    fn a_copy_has_the_holes_of_the_original() {
        let copied = tempfile::tempfile().unwrap();
        copy(&file(&[(1, page(0)), (16000, vec![1; PAGE])]), &copied).unwrap();
        // Two pages, and what the file system itself needs for them.
        assert!(copied.metadata().unwrap().blocks() * 512 <= 16 * PAGE as u64);
    }

    #[test]
    fn one_byte_anywhere_changes_the_hash_and_a_copy_does_not() {
        let pages = [(1, page(0)), (16000, vec![1; PAGE])];
        let original = file(&pages);
        let survey_of = |file: &File| survey(file).unwrap();
        let copied = || {
            let copied = tempfile::tempfile().unwrap();
            copy(&original, &copied).unwrap();
            copied
        };
        assert_eq!(survey_of(&copied()), survey_of(&original));
        assert_eq!(copied().metadata().unwrap().len(), (64 << 20) + 77);
        for (byte, place) in [(0, 16000 * 4096 + 5), (1, 5000 * 4096), (9, (64 << 20) + 76)] {
            let copied = copied();
            copied.write_all_at(&[byte], place).unwrap();
            assert_ne!(survey_of(&copied).sha256, survey_of(&original).sha256, "{place}");
        }
        let copied = copied();
        copied.set_len(16000 * 4096).unwrap();
        assert_ne!(survey_of(&copied).sha256, survey_of(&original).sha256, "cut short");
    }
}
