//! What of a kernel is loaded, as a hash: commits that change comments, documents or another architecture build the
//! same.
//!
//! Sections that are not loaded do not count (debug information, symbols), nor do notes and the build id of the vDSO,
//! which vmlinux has among its data (build ids cover debug information too), nor the line numbers of WARN and BUG, which a comment moves: struct bug_entry in
//! arch/s390/include/asm/bug.h has two displacements of 4 bytes, then line and flags of 2.

use camino::Utf8Path;
use object::elf::SHF_ALLOC;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags};
use sha2::{Digest, Sha256};

use super::super::{KernelError, read};

/// The head of a note of 20 bytes with a build id (NT_GNU_BUILD_ID of owner "GNU", elf(5)), big-endian.
const BUILD_ID_NOTE: [u8; 16] = *b"\0\0\0\x04\0\0\0\x14\0\0\0\x03GNU\0";
const BUILD_ID: usize = 20;
const BUG_TABLE: &str = "__bug_table";
const BUG_ENTRY: usize = 12;
const BUG_LINE: std::ops::Range<usize> = 8..10;

/// The hash of vmlinux, of what runs before it, and of modules, in the order given.
pub(crate) fn signature(files: &[&Utf8Path]) -> Result<String, KernelError> {
    let mut hash = Sha256::new();
    for path in files {
        let bytes = read(path)?;
        let file =
            object::File::parse(&*bytes).map_err(|_| KernelError::NotVmlinux { path: (*path).to_owned() })?;
        for section in file.sections() {
            let (name, data) = (section.name().unwrap_or_default(), section.data().unwrap_or_default());
            let loaded = match section.flags() {
                SectionFlags::Elf { sh_flags, .. } => sh_flags.contains(SHF_ALLOC),
                _ => false,
            };
            if !loaded || name.starts_with(".note") {
                continue;
            }
            hash.update(name);
            hash.update([0]);
            hash.update(section.address().to_be_bytes());
            hash.update(section.size().to_be_bytes());
            hash.update(without_debug(name, data));
            // Of a module: whom it calls stands here only.
            for (offset, relocation) in section.relocations() {
                let target = match relocation.target() {
                    RelocationTarget::Symbol(index) => name_of(&file, index),
                    _ => None,
                };
                let addend = relocation.addend();
                hash.update(format!("{offset} {:?} {target:?} {addend}\n", relocation.flags()));
            }
        }
    }
    Ok(super::super::hex(&hash.finalize()))
}

/// A symbol's name; of one that stands for a section, which has none, the section's.
fn name_of<'f>(file: &object::File<'f>, index: object::SymbolIndex) -> Option<&'f str> {
    let symbol = file.symbol_by_index(index).ok()?;
    match symbol.name() {
        Ok(name) if !name.is_empty() => Some(name),
        _ => file.section_by_index(symbol.section_index()?).ok()?.name().ok(),
    }
}

fn without_debug(section: &str, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    if section == BUG_TABLE && data.len().is_multiple_of(BUG_ENTRY) {
        for entry in data.chunks_exact_mut(BUG_ENTRY) {
            entry[BUG_LINE].fill(0);
        }
    }
    let notes: Vec<usize> = memchr::memmem::find_iter(&data, &BUILD_ID_NOTE).collect();
    for note in notes {
        let id = note + BUILD_ID_NOTE.len();
        if let Some(id) = data.get_mut(id..id + BUILD_ID) {
            id.fill(0);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_bugs_and_build_ids_are_left_out() {
        let entry = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        let twice = [entry, entry].concat();
        let want = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 11, 12];
        assert_eq!(without_debug("__bug_table", &twice), [want, want].concat());
        assert_eq!(without_debug(".data", &twice), twice);
        // Of another size: with what is not known nothing is left out.
        assert_eq!(without_debug("__bug_table", &twice[..13]), twice[..13]);
        let vdso = |id: [u8; 20]| [b"code", &BUILD_ID_NOTE[..], &id, b"code"].concat();
        assert_eq!(without_debug(".data", &vdso([7; 20])), vdso([0; 20]));
        assert_eq!(without_debug(".data", &BUILD_ID_NOTE), BUILD_ID_NOTE);
    }
}
