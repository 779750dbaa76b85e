//! Functions of a kernel or a module, from the symbol table of its ELF file.

use std::fs::File;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use object::elf::SHF_EXECINSTR;
use object::read::{ReadCache, ReadRef};
use object::{Object, ObjectKind, ObjectSection, ObjectSymbol, SectionFlags, SectionIndex, SymbolKind};

#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: io::Error },
    #[error("{path} is no vmlinux with symbols")]
    Parse { path: Utf8PathBuf, source: object::Error },
    #[error("{path} is no vmlinux: it is not linked")]
    NotLinked { path: Utf8PathBuf },
}

/// Functions by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Symbols {
    /// Sorted by start.
    functions: Vec<Function>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) name: String,
}

impl Symbols {
    /// The functions of a vmlinux. Guests boot with `nokaslr`, so its addresses are the running kernel's.
    pub(super) fn of_vmlinux(path: &Utf8Path) -> Result<Self, SymbolsError> {
        let file = File::open(path).map_err(|source| SymbolsError::Read { path: path.to_owned(), source })?;
        // Most of a vmlinux is debug information, which is not read here.
        let parts = ReadCache::new(file);
        let file = object::File::parse(&parts)
            .map_err(|source| SymbolsError::Parse { path: path.to_owned(), source })?;
        if file.kind() == ObjectKind::Relocatable {
            return Err(SymbolsError::NotLinked { path: path.to_owned() });
        }
        Ok(Self::of(&file, |_| Some(0)))
    }

    /// The functions of a file, of whose sections `base` says what is to be added to their symbols' addresses.
    pub(super) fn of<'d, R: ReadRef<'d>>(
        file: &object::File<'d, R>,
        base: impl Fn(SectionIndex) -> Option<u64>,
    ) -> Self {
        let is_code = |section: SectionIndex| {
            let flags = file.section_by_index(section).ok().map(|section| section.flags());
            matches!(flags, Some(SectionFlags::Elf { sh_flags, .. }) if sh_flags.contains(SHF_EXECINSTR))
        };
        let function = |symbol: object::Symbol<'d, '_, R>| {
            let section = symbol.section_index()?;
            // Code that is written in assembler may have no type (SYM_CODE_END, include/linux/linkage.h).
            let is_function = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
            if symbol.size() == 0 || !is_function || !is_code(section) {
                return None;
            }
            let start = base(section)?.checked_add(symbol.address())?;
            Some(Function { start, size: symbol.size(), name: symbol.name().ok()?.to_owned() })
        };
        let mut functions: Vec<Function> = file.symbols().filter_map(function).collect();
        functions.sort();
        Self { functions }
    }

    /// The function that holds the address.
    pub(super) fn function_at(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|function| function.start <= address);
        let Function { start, size, name } = self.functions.get(behind.checked_sub(1)?)?;
        (address - start < *size).then_some(name)
    }

    /// The functions of this name, each with where the next one starts. Static functions of different files may share
    /// a name.
    pub(super) fn functions_named(&self, name: &str) -> impl Iterator<Item = (&Function, u64)> {
        let next = |start: u64| {
            let behind = self.functions.partition_point(|function| function.start <= start);
            self.functions.get(behind).map_or(u64::MAX, |function| function.start)
        };
        let named = self.functions.iter().filter(move |function| function.name == name);
        named.map(move |function| (function, next(function.start)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_around_it() {
        let function = |start, size, name: &str| Function { start, size, name: name.to_owned() };
        let functions = vec![function(0x100, 0x20, "first"), function(0x200, 0x10, "second")];
        let symbols = Symbols { functions };
        for (address, expected) in [
            (0xff, None),
            (0x100, Some("first")),
            (0x11f, Some("first")),
            (0x120, None),
            (0x20f, Some("second")),
            (u64::MAX, None),
        ] {
            assert_eq!(symbols.function_at(address), expected, "{address:#x}");
        }
        assert_eq!(Symbols::default().function_at(0), None);
        let named =
            |name| symbols.functions_named(name).map(|(one, next)| (one.start, next)).collect::<Vec<_>>();
        assert_eq!(named("first"), [(0x100, 0x200)]);
        assert_eq!(named("second"), [(0x200, u64::MAX)]);
        assert_eq!(named("third"), []);
    }
}
