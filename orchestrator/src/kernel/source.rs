//! Where in the source an instruction stands, from a vmlinux with DWARF.
//!
//! A kernel may run anywhere: with KASLR the addresses that it prints are not those of its vmlinux. So places are
//! asked for by function and offset, which hold everywhere.
//!
//! The file is mapped, not read; the units of debug information that an answer needs are parsed when they are first
//! needed, and kept. Memory is the table of functions (about 100 bytes each: 10 MB for a distribution's kernel) and
//! these units.

use std::fmt;

use addr2line::Loader;
use camino::{Utf8Path, Utf8PathBuf};

use super::symbols::{Symbols, SymbolsError};
use crate::escape::escape;

/// Functions begin at multiples of this at most (FUNCTION_ALIGNMENT_64B, arch/Kconfig).
const LARGEST_ALIGNMENT: u64 = 64;

#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    #[error("{path} has no symbols")]
    Stripped { path: Utf8PathBuf },
    #[error("cannot read the debug information of {path}: {reason}")]
    Debug { path: Utf8PathBuf, reason: String },
}

/// The source of a kernel.
pub struct Sources {
    symbols: Symbols,
    loader: Loader,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("symbols", &self.symbols).finish_non_exhaustive()
    }
}

/// A place in the source: of an instruction, or of the call by which it was inlined. All text is safe for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// What an offset in a trace points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// The instruction itself.
    At,
    /// The instruction behind, as a return address does.
    Behind,
}

impl Sources {
    pub fn of_vmlinux(path: &Utf8Path) -> Result<Self, SourcesError> {
        let symbols = Symbols::of_vmlinux(path)?;
        if symbols.is_empty() {
            return Err(SourcesError::Stripped { path: path.to_owned() });
        }
        let loader = Loader::new(path)
            .map_err(|error| SourcesError::Debug { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { symbols, loader })
    }

    /// The places of an instruction of `function`, whose size the kernel gives as `size`: first where it stands, then
    /// where what holds it was inlined. Empty if the file does not tell, if two functions could be meant, or if none of
    /// the name is of that size: then the file is another kernel's.
    pub fn places(&self, function: &str, offset: u64, size: u64, pointer: Pointer) -> Vec<Place> {
        let back = match pointer {
            Pointer::At => 0,
            Pointer::Behind => 1,
        };
        let Some(offset) = offset.checked_sub(back) else { return Vec::new() };
        // The kernel counts the padding between two functions to the first (get_symbol_pos(), kernel/kallsyms.c).
        let padding = |own: u64| size.checked_sub(own).filter(|padding| *padding < LARGEST_ALIGNMENT);
        let mut candidates: Vec<(u64, u64)> = self
            .symbols
            .functions_named(function)
            .filter(|(_, own)| offset < *own)
            .filter_map(|(start, own)| Some((padding(own)?, start)))
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        match candidates[..] {
            [] => Vec::new(),
            [(one, _), (other, _), ..] if one == other => Vec::new(),
            [(_, start), ..] => self.places_at(start.saturating_add(offset)),
        }
    }

    fn places_at(&self, address: u64) -> Vec<Place> {
        // Debug information that cannot be read says nothing, like none at all.
        let Ok(mut frames) = self.loader.find_frames(address) else { return Vec::new() };
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
            let function = name.as_deref().or_else(|| self.symbols.function_at(address)).unwrap_or("?");
            let location = frame.location.as_ref();
            places.push(Place {
                function: escape(function.as_bytes()),
                file: location.and_then(|location| location.file).map(|file| escape(file.as_bytes())),
                line: location.and_then(|location| location.line),
            });
        }
        places
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{} at {file}:{line}", self.function),
            (Some(file), None) => write!(f, "{} in {file}", self.function),
            _ => f.write_str(&self.function),
        }
    }
}
