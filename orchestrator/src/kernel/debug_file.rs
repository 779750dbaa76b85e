//! One file with debug information, a vmlinux or a module: functions and offsets → places in the source.
//!
//! A vmlinux is mapped, not read; the units of debug information that an answer needs are parsed when they are first
//! needed, and kept. A module is small, and read whole: it is not linked, so each of its sections begins at 0, and what
//! its debug information says of addresses stands in relocations. Here it is linked in memory, at addresses of no
//! meaning.

use std::collections::HashMap;
use std::sync::Arc;

use addr2line::{Context, FrameIter, Loader};
use camino::{Utf8Path, Utf8PathBuf};
use gimli::{EndianArcSlice, RunTimeEndian};
use object::elf::SHF_ALLOC;
use object::{
    Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget, SectionFlags,
    SectionIndex,
};

use super::source::{Place, Pointer, Spot, path_in_tree};
use super::symbols::{Function, Symbols, SymbolsError};
use crate::escape::escape;

/// Functions begin at multiples of this at most (FUNCTION_ALIGNMENT_64B, arch/Kconfig).
const LARGEST_ALIGNMENT: u64 = 64;
/// The kernel takes what is left of a module's last page of code for a part of the last function
/// (find_kallsyms_symbol(), kernel/module/kallsyms.c).
const PAGE: u64 = 4096;
/// What lies between a module's sections where it is linked here, so that the last function of each can be told.
const GAP: u64 = 1 << 20;
/// Inlined calls stand in one another. gcc gives up long before.
const MOST_PLACES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum DebugFileError {
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    #[error("{path} is no module")]
    NoModule { path: Utf8PathBuf },
    #[error("{path} has no symbols")]
    Stripped { path: Utf8PathBuf },
    #[error("{path} has no debug information")]
    NoDebug { path: Utf8PathBuf },
    #[error("cannot read the debug information of {path}: {reason}")]
    Debug { path: Utf8PathBuf, reason: String },
    #[error("{path} has no {function} of {size:#x} bytes; is it of another build?")]
    OtherBuild { path: Utf8PathBuf, function: String, size: u64 },
}

/// A vmlinux or a module, with what it tells of its source.
pub(super) struct DebugFile {
    path: Utf8PathBuf,
    symbols: Symbols,
    /// What the kernel may count to a function beyond its end, where no other function follows.
    most_padding: u64,
    lines: Lines,
}

enum Lines {
    None,
    Mapped(Box<Loader>),
    Linked(Box<Context<Bytes>>),
}

type Bytes = EndianArcSlice<RunTimeEndian>;

impl DebugFile {
    pub(super) fn vmlinux(path: &Utf8Path) -> Result<Self, DebugFileError> {
        let symbols = Symbols::of_vmlinux(path)?;
        if symbols.is_empty() {
            return Err(DebugFileError::Stripped { path: path.to_owned() });
        }
        let failed = |error: Box<dyn std::error::Error>| unreadable(path, &error);
        let loader = Loader::new(path).map_err(failed)?;
        let lines = match loader.get_section_range(b".debug_info") {
            Some(_) => Lines::Mapped(Box::new(loader)),
            None => Lines::None,
        };
        Ok(Self { path: path.to_owned(), symbols, most_padding: LARGEST_ALIGNMENT, lines })
    }

    pub(super) fn module(path: &Utf8Path) -> Result<Self, DebugFileError> {
        let bytes =
            std::fs::read(path).map_err(|source| DebugFileError::Read { path: path.to_owned(), source })?;
        let no_module = || DebugFileError::NoModule { path: path.to_owned() };
        let file = object::File::parse(&*bytes).map_err(|_| no_module())?;
        if file.kind() != ObjectKind::Relocatable {
            return Err(no_module());
        }
        let bases = bases(&file);
        let symbols = Symbols::of(&file, |section| bases.get(&section).copied());
        if symbols.is_empty() {
            return Err(DebugFileError::Stripped { path: path.to_owned() });
        }
        let lines = match file.section_by_name(".debug_info") {
            None => Lines::None,
            Some(_) => {
                let linked = |id| linked_section(&file, &bases, id);
                let dwarf = gimli::Dwarf::load(linked).map_err(|error| unreadable(path, &error))?;
                let context = Context::from_dwarf(dwarf).map_err(|error| unreadable(path, &error))?;
                Lines::Linked(Box::new(context))
            }
        };
        Ok(Self { path: path.to_owned(), symbols, most_padding: PAGE, lines })
    }

    /// The function that holds the address, as the kernel was linked.
    pub(super) fn function_at(&self, address: u64) -> Option<&str> {
        self.symbols.function_at(address)
    }

    /// Where a function begins, if only one has the name.
    pub(super) fn address_of(&self, function: &str) -> Option<u64> {
        let mut starts = self.symbols.functions_named(function).map(|(function, _)| function.start);
        starts.next().filter(|_| starts.next().is_none())
    }

    /// How far behind the beginning of a module's `.text` a function begins; none if it is in another section.
    pub(super) fn offset_in_text(&self, function: &str) -> Result<Option<u64>, DebugFileError> {
        let read = |source| DebugFileError::Read { path: self.path.clone(), source };
        let bytes = std::fs::read(&self.path).map_err(read)?;
        let no_module = |_| DebugFileError::NoModule { path: self.path.clone() };
        let file = object::File::parse(&*bytes).map_err(no_module)?;
        let text = file.section_by_name(".text").map(|section| section.index());
        let of_text = |symbol: &object::Symbol<'_, '_>| symbol.section_index() == text && text.is_some();
        let found = file.symbols().filter(of_text).find(|symbol| symbol.name() == Ok(function));
        Ok(found.map(|symbol| symbol.address()))
    }

    /// The places of an instruction: first where it stands, then where what holds it was inlined. Empty if two functions
    /// could be meant.
    pub(super) fn places(&self, spot: &Spot) -> Result<Vec<Place>, DebugFileError> {
        let back = match spot.pointer {
            Pointer::At => 0,
            Pointer::Behind => 1,
        };
        let Some(offset) = spot.offset.checked_sub(back) else { return Ok(Vec::new()) };
        let mut candidates: Vec<(u64, &Function)> = self
            .symbols
            .functions_named(&spot.function)
            .filter_map(|(function, next)| Some((self.padding(spot, function, next)?, function)))
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        match candidates[..] {
            [] => {
                let (path, function, size) = (self.path.clone(), spot.function.clone(), spot.size);
                Err(DebugFileError::OtherBuild { path, function: escape(function.as_bytes()), size })
            }
            [(one, _), (other, _), ..] if one == other => Ok(Vec::new()),
            [(_, function), ..] if offset < function.size => {
                self.places_at(function.start.saturating_add(offset))
            }
            // In the padding.
            _ => Ok(Vec::new()),
        }
    }

    /// How much longer the kernel takes the function to be than it is: it counts to the next symbol
    /// (get_symbol_pos(), kernel/kallsyms.c). None: another function is meant.
    fn padding(&self, spot: &Spot, function: &Function, next: u64) -> Option<u64> {
        let padding = spot.size.checked_sub(function.size)?;
        let followed = next - function.start;
        let most = if spot.size <= followed { self.most_padding } else { LARGEST_ALIGNMENT };
        (padding < most).then_some(padding)
    }

    /// The places of an instruction by its address, as the kernel was linked.
    pub(super) fn places_at(&self, address: u64) -> Result<Vec<Place>, DebugFileError> {
        match &self.lines {
            Lines::None => Err(DebugFileError::NoDebug { path: self.path.clone() }),
            Lines::Mapped(loader) => {
                let frames = loader.find_frames(address).map_err(|error| unreadable(&self.path, &error))?;
                self.places_of(frames, address)
            }
            Lines::Linked(context) => {
                let frames = context.find_frames(address).skip_all_loads();
                self.places_of(frames.map_err(|error| unreadable(&self.path, &error))?, address)
            }
        }
    }

    fn places_of<R: gimli::Reader>(
        &self,
        mut frames: FrameIter<'_, R>,
        address: u64,
    ) -> Result<Vec<Place>, DebugFileError> {
        let mut places = Vec::new();
        while let Some(frame) = frames.next().map_err(|error| unreadable(&self.path, &error))? {
            if places.len() == MOST_PLACES {
                break;
            }
            let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let function = name.as_deref().or_else(|| self.function_at(address)).unwrap_or("?");
            let location = frame.location.as_ref();
            let file = location.and_then(|location| location.file);
            places.push(Place {
                function: escape(function.as_bytes()),
                file: file.map(|file| escape(shown_path(file).as_bytes())),
                line: location.and_then(|location| location.line),
            });
        }
        Ok(places)
    }
}

/// The file's path from the top of the tree, as far as that can be told. What a build has mapped its directory to is cut
/// off: farm's own map it to `.`, Debian's to `debian/build/build_s390x_none_s390x`.
fn shown_path(path: &str) -> &str {
    let of_debian = path.strip_prefix("debian/build/").and_then(|rest| rest.split_once('/'));
    let rest = of_debian.map_or(path, |(_, rest)| rest);
    let rest = rest.strip_prefix("./").unwrap_or(rest);
    path_in_tree(rest).unwrap_or(rest)
}

fn unreadable(path: &Utf8Path, error: &dyn std::fmt::Display) -> DebugFileError {
    DebugFileError::Debug { path: path.to_owned(), reason: escape(error.to_string().as_bytes()) }
}

/// An address for each section that is loaded.
fn bases(file: &object::File<'_>) -> HashMap<SectionIndex, u64> {
    let mut next = GAP;
    let mut bases = HashMap::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if sh_flags.contains(SHF_ALLOC) {
            bases.insert(section.index(), next);
            // A damaged file may give any size.
            next = next.saturating_add(section.size()).saturating_add(GAP) & !(GAP - 1);
        }
    }
    bases
}

/// A section of debug information with its relocations applied; empty if there is none.
fn linked_section(
    file: &object::File<'_>,
    bases: &HashMap<SectionIndex, u64>,
    id: gimli::SectionId,
) -> Result<Bytes, object::Error> {
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let mut data = Vec::new();
    if let Some(section) = file.section_by_name(id.name()) {
        data = section.uncompressed_data()?.into_owned();
        for (offset, relocation) in section.relocations() {
            let base = |section: Option<SectionIndex>| section.and_then(|index| bases.get(&index)).copied();
            let symbol = match relocation.target() {
                RelocationTarget::Symbol(index) => {
                    let symbol = file.symbol_by_index(index)?;
                    base(symbol.section_index()).unwrap_or(0).wrapping_add(symbol.address())
                }
                RelocationTarget::Section(index) => base(Some(index)).unwrap_or(0),
                _ => 0,
            };
            // s390 has nothing but R_390_32 and R_390_64 in its debug information, each with an addend of its own.
            if relocation.kind() != RelocationKind::Absolute || relocation.has_implicit_addend() {
                continue;
            }
            let value = symbol.wrapping_add_signed(relocation.addend());
            write(&mut data, offset, relocation.size(), value, endian);
        }
    }
    Ok(Bytes::new(Arc::from(data), endian))
}

/// Writes a value of so many bits; nothing if it would not fit into the data.
fn write(data: &mut [u8], offset: u64, bits: u8, value: u64, endian: RunTimeEndian) {
    let length = usize::from(bits / 8);
    let place = usize::try_from(offset).ok().and_then(|start| data.get_mut(start..)?.get_mut(..length));
    let (big, little) = (value.to_be_bytes(), value.to_le_bytes());
    let bytes = match endian {
        RunTimeEndian::Little => little.get(..length),
        RunTimeEndian::Big => big.len().checked_sub(length).and_then(|start| big.get(start..)),
    };
    if let (Some(place), Some(bytes)) = (place, bytes) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_map_their_directories_to_is_not_shown() {
        for (path, shown) in [
            ("./mm/gup.c", "mm/gup.c"),
            ("./guests/modules/uvsim/sink.c", "guests/modules/uvsim/sink.c"),
            ("debian/build/build_s390x_none_s390x/fs/ext4/balloc.c", "fs/ext4/balloc.c"),
            ("debian/build/build_s390x_none_s390x/../../../fs/splice.c", "fs/splice.c"),
            ("/home/x/linux/./include/linux/mm.h", "include/linux/mm.h"),
            ("/home/x/mine/mine.c", "/home/x/mine/mine.c"),
        ] {
            assert_eq!(shown_path(path), shown);
        }
    }

    #[test]
    fn a_relocation_beyond_the_end_of_its_section_is_left_out() {
        for (offset, bits, expected) in [
            (0, 32, [1, 2, 3, 4, 9, 9, 9, 9]),
            (4, 32, [9, 9, 9, 9, 1, 2, 3, 4]),
            (0, 64, [0, 0, 0, 0, 1, 2, 3, 4]),
            (5, 32, [9; 8]),
            (u64::MAX, 64, [9; 8]),
            (0, 128, [9; 8]),
        ] {
            let mut data = [9; 8];
            write(&mut data, offset, bits, 0x0102_0304, RunTimeEndian::Big);
            assert_eq!(data, expected, "{offset} {bits}");
        }
    }
}
