//! The user's own programs: is this a file that an s390x guest without libraries can run?

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{BigEndian, elf};

use super::check::sha256;
use super::problem::printable;

/// The guest keeps it in memory, beside everything else.
const LARGEST: u64 = 64 << 20;

/// Reads the files that a scenario names, from where the scenario stands.
pub trait ReadFile {
    /// Where the file is.
    fn locate(&self, path: &Utf8Path) -> Utf8PathBuf;
    /// Its content, unless it is longer than `most`: then an error of kind `FileTooLarge`.
    fn read(&self, path: &Utf8Path, most: u64) -> io::Result<Vec<u8>>;
}

/// Files beside a scenario that is a file itself.
#[derive(Debug)]
pub struct Beside {
    pub folder: Utf8PathBuf,
}

impl ReadFile for Beside {
    fn locate(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.folder.join(path)
    }

    fn read(&self, path: &Utf8Path, most: u64) -> io::Result<Vec<u8>> {
        let path = self.locate(path);
        let metadata = std::fs::metadata(&path)?;
        // Opening a FIFO would wait for a writer.
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.len() > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        std::fs::read(path)
    }
}

/// For scenarios that farm brings: they have no files beside them.
#[derive(Debug)]
pub struct Nowhere;

impl ReadFile for Nowhere {
    fn locate(&self, path: &Utf8Path) -> Utf8PathBuf {
        path.to_owned()
    }

    fn read(&self, _path: &Utf8Path, _most: u64) -> io::Result<Vec<u8>> {
        Err(io::Error::other("a scenario that farm brings has no files beside it"))
    }
}

#[derive(Debug)]
pub(crate) struct Executable {
    pub(crate) path: Utf8PathBuf,
    pub(crate) sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutableError {
    #[error("cannot read {}", printable(.path.as_str()))]
    Unreadable { path: Utf8PathBuf, source: io::Error },
    #[error("{} {unfit}", printable(.path.as_str()))]
    Unfit { path: Utf8PathBuf, unfit: Unfit },
}

impl ExecutableError {
    pub(crate) fn hint(&self) -> Option<String> {
        let Self::Unfit { unfit, .. } = self else { return None };
        let hint = match unfit {
            Unfit::NotElf | Unfit::NotS390x => "build it with s390x-linux-gnu-gcc -static",
            Unfit::NotProgram => "link it, with -static",
            Unfit::Dynamic => "link it with -static: the guest has no shared libraries",
            Unfit::Damaged => return None,
        };
        Some(hint.to_owned())
    }
}

/// Why the guest could not run a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("is not an ELF file")]
    NotElf,
    #[error("is not for s390x (64-bit, big-endian, EM_S390)")]
    NotS390x,
    #[error("is an object file, not a program")]
    NotProgram,
    #[error("is dynamically linked")]
    Dynamic,
    #[error("has a damaged ELF header")]
    Damaged,
}

pub(crate) fn read_executable(files: &dyn ReadFile, path: &Utf8Path) -> Result<Executable, ExecutableError> {
    let located = files.locate(path);
    let content = match files.read(path, LARGEST) {
        Ok(content) => content,
        Err(source) => return Err(ExecutableError::Unreadable { path: located, source }),
    };
    match fitness(&content) {
        Ok(()) => Ok(Executable { path: located, sha256: sha256(&content) }),
        Err(unfit) => Err(ExecutableError::Unfit { path: located, unfit }),
    }
}

/// A static-pie program is of type ET_DYN too; only PT_INTERP asks for a loader.
fn fitness(content: &[u8]) -> Result<(), Unfit> {
    let ident = content.get(..elf::ELFMAG.len() + 2).filter(|ident| ident.starts_with(&elf::ELFMAG));
    let ident = ident.ok_or(Unfit::NotElf)?;
    if ident[elf::ELFMAG.len()..] != [elf::ELFCLASS64.0, elf::ELFDATA2MSB.0] {
        return Err(Unfit::NotS390x);
    }
    let header = elf::FileHeader64::<BigEndian>::parse(content).map_err(|_| Unfit::Damaged)?;
    if header.e_machine(BigEndian) != elf::EM_S390 {
        return Err(Unfit::NotS390x);
    }
    if ![elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(BigEndian)) {
        return Err(Unfit::NotProgram);
    }
    let segments = header.program_headers(BigEndian, content).map_err(|_| Unfit::Damaged)?;
    let kinds = || segments.iter().map(|segment| segment.p_type(BigEndian));
    match () {
        () if kinds().any(|kind| kind == elf::PT_INTERP) => Err(Unfit::Dynamic),
        () if !kinds().any(|kind| kind == elf::PT_LOAD) => Err(Unfit::NotProgram),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Builds `int main(void) { return 0; }` with these flags.
    fn build(flags: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (source, out) = (folder.path().join("main.c"), folder.path().join("out"));
        std::fs::write(&source, "int main(void) { return 0; }").unwrap();
        let mut command = Command::new("s390x-linux-gnu-gcc");
        let status = command.args(flags).arg("-o").arg(&out).arg(&source).status().unwrap();
        assert!(status.success());
        std::fs::read(out).unwrap()
    }

    #[test]
    fn only_static_s390x_programs_fit() {
        let fit = build(&["-static"]);
        let edit = |at: usize, bytes: &[u8]| {
            let mut file = fit.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            file
        };
        // Offsets in the ELF header: e_ident 4 (class) and 5 (data), e_type 16, e_machine 18, e_phoff 32, e_phnum 56.
        for (what, file, want) in [
            ("static", fit.clone(), Ok(())),
            ("static and position-independent", edit(16, &[0, 3]), Ok(())),
            ("dynamic", build(&[]), Err(Unfit::Dynamic)),
            ("object", build(&["-c"]), Err(Unfit::NotProgram)),
            ("empty", Vec::new(), Err(Unfit::NotElf)),
            ("script", b"#!/bin/sh".to_vec(), Err(Unfit::NotElf)),
            ("cut short", fit[..40].to_vec(), Err(Unfit::Damaged)),
            ("31 bit", edit(4, &[1]), Err(Unfit::NotS390x)),
            ("little-endian", edit(5, &[1]), Err(Unfit::NotS390x)),
            ("another machine", edit(18, &[0, 62]), Err(Unfit::NotS390x)),
            ("segments outside", edit(32, &[0xff; 8]), Err(Unfit::Damaged)),
            ("no segments", edit(56, &[0, 0]), Err(Unfit::NotProgram)),
        ] {
            assert_eq!(fitness(&file), want, "{what}");
        }
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let beside = Beside { folder: Utf8PathBuf::try_from(folder.path().to_owned()).unwrap() };
        std::fs::write(folder.path().join("four"), "1234").unwrap();
        assert_eq!(beside.read(Utf8Path::new("./four"), 4).unwrap(), b"1234");
        let too_large = beside.read(Utf8Path::new("four"), 3).unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(beside.read(Utf8Path::new("."), 4).unwrap_err().to_string(), "not a regular file");
        assert_eq!(beside.read(Utf8Path::new("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
