//! Function names of a kernel, from its vmlinux.

use std::fs::File;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use object::read::ReadCache;
use object::{Object, ObjectSymbol, SymbolKind};

#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    #[error("cannot read {path}")]
    Read { path: Utf8PathBuf, source: io::Error },
    #[error("{path} is no vmlinux with symbols")]
    Parse { path: Utf8PathBuf, source: object::Error },
}

/// Functions by address. Empty for kernels without a vmlinux, such as a distribution's package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Start, size and name, sorted by start.
    functions: Vec<(u64, u64, String)>,
}

impl Symbols {
    /// The functions of a vmlinux. Guests boot with `nokaslr`, so its addresses are the running kernel's.
    pub fn of_vmlinux(path: &Utf8Path) -> Result<Self, SymbolsError> {
        let file = File::open(path).map_err(|source| SymbolsError::Read { path: path.to_owned(), source })?;
        // Most of a vmlinux is debug information, which is not read here.
        let parts = ReadCache::new(file);
        let file = object::File::parse(&parts)
            .map_err(|source| SymbolsError::Parse { path: path.to_owned(), source })?;
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned())))
            .collect();
        functions.sort();
        Ok(Self { functions })
    }

    /// The function that holds the address.
    pub fn function_at(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.functions.get(behind.checked_sub(1)?)?;
        (address - start < *size).then_some(name)
    }

    /// Start and size of the functions of this name. Static functions of different files may share one.
    pub fn functions_named(&self, name: &str) -> impl Iterator<Item = (u64, u64)> {
        self.functions.iter().filter(move |(.., other)| other == name).map(|(start, size, _)| (*start, *size))
    }

    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_around_it() {
        let functions = vec![(0x100, 0x20, "first".to_owned()), (0x200, 0x10, "second".to_owned())];
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
        assert_eq!(symbols.functions_named("second").collect::<Vec<_>>(), [(0x200, 0x10)]);
        assert_eq!(symbols.functions_named("third").count(), 0);
    }
}
