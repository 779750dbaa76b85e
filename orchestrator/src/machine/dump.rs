//! The note that a dump of memory needs to be read.
//!
//! `crash` and drgn find their way in a kernel's memory by VMCOREINFO, a text of the kernel's. Elsewhere QEMU takes it from its device
//! `vmcoreinfo`, which the s390x machine does not have. But a kernel with CONFIG_KEXEC leaves the address of the note in its absolute
//! lowcore (arch/s390/include/asm/lowcore.h, `vmcore_info`), which is in the dump.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use camino::{Utf8Path, Utf8PathBuf};
use object::BigEndian;
use object::elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::monitor::MonitorError;

/// Where the lowcore has the address of the note.
const VMCORE_INFO: u64 = 0xe0c;
/// The note's header, its name `VMCOREINFO` and its text, a page at most in today's kernels.
const NOTE_LIMIT: u64 = 64 << 10;
const NAME: &[u8] = b"VMCOREINFO\0";
/// Notes of 248 CPUs with all their registers take less.
const NOTES_LIMIT: u64 = 16 << 20;
/// The file's header with the headers of its segments, of which there is one for each block of memory and one for the notes.
const HEADERS_LIMIT: u64 = 1 << 20;
const HEADER_SIZE: u64 = size_of::<FileHeader64<BigEndian>>() as u64;
const SEGMENT_SIZE: u64 = size_of::<ProgramHeader64<BigEndian>>() as u64;
/// Of `p_offset`, `p_filesz` and `p_memsz` in a segment's header.
const OFFSET_AT: u64 = 8;
const SIZES_AT: [u64; 2] = [32, 40];

/// A file with a guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dumped {
    /// `crash` and drgn can read it.
    WithVmcoreinfo,
    /// The kernel has no such note, or not yet: it was built without CONFIG_KEXEC, or stopped early in its boot.
    WithoutVmcoreinfo,
}

#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    #[error("cannot read or complete the dump {path}")]
    Io { path: Utf8PathBuf, source: io::Error },
    #[error("QEMU's dump {path} is not of the form that is known: {reason}")]
    Form { path: Utf8PathBuf, reason: &'static str },
}

/// Puts the kernel's note behind those that QEMU wrote.
pub(super) fn add_vmcoreinfo(path: &Utf8Path) -> Result<Dumped, DumpError> {
    let failed = |source| DumpError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let headers = read(&file, 0, length.min(HEADERS_LIMIT)).map_err(failed)?;
    let form = |reason| DumpError::Form { path: path.to_owned(), reason };
    let header = FileHeader64::<BigEndian>::parse(&*headers).map_err(|_| form("no ELF header"))?;
    let segments = header.program_headers(BigEndian, &*headers).map_err(|_| form("no segments"))?;
    let Some(note) = find_note(&file, segments).map_err(failed)? else {
        return Ok(Dumped::WithoutVmcoreinfo);
    };
    let (index, notes) = segments
        .iter()
        .enumerate()
        .find(|(_, segment)| segment.p_type(BigEndian) == PT_NOTE)
        .ok_or_else(|| form("no notes"))?;
    let size = notes.p_filesz(BigEndian);
    if size > NOTES_LIMIT {
        return Err(form("too many notes"));
    }
    let mut all = read(&file, notes.p_offset(BigEndian), size).map_err(failed)?;
    all.extend(note);
    // What is not at the end cannot grow: all notes go there, and then their segment.
    let at = length.next_multiple_of(8);
    file.write_all_at(&all, at).map_err(failed)?;
    let segment = header.e_phoff(BigEndian).max(HEADER_SIZE) + index as u64 * SEGMENT_SIZE;
    file.write_all_at(&at.to_be_bytes(), segment + OFFSET_AT).map_err(failed)?;
    for field in SIZES_AT {
        file.write_all_at(&(all.len() as u64).to_be_bytes(), segment + field).map_err(failed)?;
    }
    Ok(Dumped::WithVmcoreinfo)
}

/// The note, whole, as the guest's memory has it. It is the guest's word: whatever is no note of that name is none.
fn find_note(file: &File, segments: &[ProgramHeader64<BigEndian>]) -> io::Result<Option<Vec<u8>>> {
    let Some(pointer) = at_physical(file, segments, VMCORE_INFO, 8)? else { return Ok(None) };
    let address = u64::from_be_bytes(pointer.try_into().unwrap_or_default());
    // Before the kernel has made the note it keeps its own offset there, and marks that by an odd number (arch/s390/boot/startup.c).
    if address == 0 || !address.is_multiple_of(2) {
        return Ok(None);
    }
    const HEADER: u64 = 12;
    let Some(header) = at_physical(file, segments, address, HEADER + NAME.len() as u64)? else {
        return Ok(None);
    };
    let word = |at: usize| header[at..at + 4].iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let (name, text) = (word(0), word(4));
    if name != NAME.len() as u64 || &header[12..] != NAME || text == 0 {
        return Ok(None);
    }
    let length = HEADER + name.next_multiple_of(4) + text.next_multiple_of(4);
    if length > NOTE_LIMIT {
        return Ok(None);
    }
    at_physical(file, segments, address, length)
}

/// The guest's memory at an absolute address; none where the dump does not have all of it.
fn at_physical(
    file: &File,
    segments: &[ProgramHeader64<BigEndian>],
    address: u64,
    length: u64,
) -> io::Result<Option<Vec<u8>>> {
    let found = segments.iter().filter(|segment| segment.p_type(BigEndian) == PT_LOAD).find_map(|segment| {
        let into = address.checked_sub(segment.p_paddr(BigEndian))?;
        let end = into.checked_add(length)?;
        (end <= segment.p_filesz(BigEndian)).then(|| segment.p_offset(BigEndian).checked_add(into))?
    });
    found.map(|offset| read(file, offset, length)).transpose()
}

fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: &[u8] = b"the notes of all CPUs...";
    const MEMORY: usize = 0x3000;

    /// A dump as QEMU writes it: one segment with notes, one with memory, in which `memory` is.
    fn dump(memory: &[(u64, &[u8])]) -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(directory.path().join("dump.elf")).unwrap();
        let mut bytes = b"\x7fELF\x02\x02\x01".to_vec();
        bytes.resize(16, 0);
        for half in [4_u16, 22] {
            bytes.extend(half.to_be_bytes());
        }
        bytes.extend(1_u32.to_be_bytes());
        for word in [0, HEADER_SIZE, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(0_u32.to_be_bytes());
        for half in [64_u16, 56, 2, 0, 0, 0] {
            bytes.extend(half.to_be_bytes());
        }
        let notes_at = HEADER_SIZE + 2 * SEGMENT_SIZE;
        let memory_at = notes_at + NOTES.len() as u64;
        for (kind, at, size) in [(PT_NOTE, notes_at, NOTES.len()), (PT_LOAD, memory_at, MEMORY)] {
            bytes.extend(kind.0.to_be_bytes());
            bytes.extend(0_u32.to_be_bytes());
            for word in [at, 0, 0, size as u64, size as u64, 0] {
                bytes.extend(word.to_be_bytes());
            }
        }
        bytes.extend(NOTES);
        let start = bytes.len();
        bytes.resize(start + MEMORY, 0);
        for (address, what) in memory {
            let at = start + *address as usize;
            bytes[at..at + what.len()].copy_from_slice(what);
        }
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    fn note(text: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [NAME.len() as u32, text.len() as u32, 0] {
            note.extend(word.to_be_bytes());
        }
        note.extend(NAME);
        note.push(0);
        note.extend(text);
        note
    }

    #[test]
    fn the_note_comes_behind_those_of_the_cpus() {
        let note = note(b"OSRELEASE=6.1.192\n..");
        let (_directory, path) = dump(&[(VMCORE_INFO, &0x2000_u64.to_be_bytes()), (0x2000, &note)]);
        assert_eq!(add_vmcoreinfo(&path).unwrap(), Dumped::WithVmcoreinfo);
        let bytes = std::fs::read(&path).unwrap();
        let header = FileHeader64::<BigEndian>::parse(&*bytes).unwrap();
        let segments = header.program_headers(BigEndian, &*bytes).unwrap();
        assert_eq!(segments[0].data(BigEndian, &*bytes).unwrap(), [NOTES, &note].concat());
        // The memory is where it was.
        assert_eq!(&segments[1].data(BigEndian, &*bytes).unwrap()[0x2000..][..note.len()], note);
    }

    #[test]
    fn what_is_no_note_is_not_taken_for_one() {
        let good = note(b"OSRELEASE=6.1.192\n..");
        let long = [&NAME.len().to_be_bytes()[4..], &u32::MAX.to_be_bytes(), &[0; 4], NAME].concat();
        let other = note(b"text").iter().map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
        for (address, memory) in [
            (0_u64, &good[..]),
            (0x2001, &good),
            (0x2000, &long),
            (0x2000, &other),
            (0x2000, &[]),
            (MEMORY as u64 - 4, &[]),
            (u64::MAX - 1, &good),
        ] {
            let (_directory, path) = dump(&[(VMCORE_INFO, &address.to_be_bytes()), (0x2000, memory)]);
            let before = std::fs::read(&path).unwrap();
            assert_eq!(add_vmcoreinfo(&path).unwrap(), Dumped::WithoutVmcoreinfo, "{address:#x}");
            assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }
}
