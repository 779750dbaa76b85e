//! What a boot image says of itself: that it is one for s390x, its release, how long its command line may be.
//!
//! Addresses are absolute, as in arch/s390/include/asm/setup.h of the kernel. In a bzImage the file is the
//! memory from address 0 on; in an ELF boot image (arch/s390/boot/vmlinux) the segments say where memory is.

use object::elf::{EM_S390, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{BigEndian, Endianness};

/// `S390EP` and a version stand here in every bootable image (arch/s390/boot/head.S).
const MAGIC_ADDRESS: u64 = 0x10008;
const MAGIC: &[u8] = b"S390EP";
/// `struct parmarea`: `kernel_version`: the address of the version string; zero in older kernels.
const KERNEL_VERSION_ADDRESS: u64 = 0x10428;
/// `struct parmarea`: `max_command_line_size` (since Linux 5.16); zero before.
const MAX_COMMAND_LINE_ADDRESS: u64 = 0x10430;
/// LEGACY_COMMAND_LINE_SIZE, the limit of older kernels.
const LEGACY_COMMAND_LINE_BYTES: u64 = 896;
/// Longer than any release: init/version.c keeps it within UTS' 64 bytes.
const RELEASE_BYTES: u64 = 64;

/// A boot image's own facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFacts {
    /// As `uname -r` will say; old images do not carry it.
    pub release: Option<String>,
    /// Bytes for the kernel's command line, its closing NUL included.
    pub command_line_bytes: u64,
}

/// Why a file is no boot image for s390x, as the end of a sentence "it is …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotBootable {
    pub looks_like: String,
}

/// Looks into the bytes of a boot image.
pub fn inspect(bytes: &[u8]) -> Result<BootFacts, NotBootable> {
    let memory = Memory::of(bytes)?;
    if memory.read(MAGIC_ADDRESS, MAGIC.len() as u64) != Some(MAGIC) {
        return Err(NotBootable { looks_like: memory.looks_like_without_magic() });
    }
    let release = memory
        .word(KERNEL_VERSION_ADDRESS)
        .filter(|&address| address != 0)
        .and_then(|address| memory.read_up_to(address, RELEASE_BYTES))
        .and_then(release_in);
    let limit = memory.word(MAX_COMMAND_LINE_ADDRESS).filter(|&bytes| bytes != 0);
    Ok(BootFacts { release, command_line_bytes: limit.unwrap_or(LEGACY_COMMAND_LINE_BYTES) })
}

/// The first word of a version string such as `6.1.0-50-s390x (builder@host) #1 SMP …`.
fn release_in(version: &[u8]) -> Option<String> {
    let end = version.iter().position(|byte| !byte.is_ascii_graphic())?;
    let release = str::from_utf8(&version[..end]).ok()?;
    release.starts_with(|c: char| c.is_ascii_digit()).then(|| release.to_owned())
}

/// The memory that a boot image describes.
enum Memory<'a> {
    Flat(&'a [u8]),
    /// Physical address and content of each loaded segment.
    Segments(Vec<(u64, &'a [u8])>),
}

impl<'a> Memory<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, NotBootable> {
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(Self::Flat(bytes));
        }
        let other = |looks_like: &str| NotBootable { looks_like: looks_like.to_owned() };
        let header =
            FileHeader64::<Endianness>::parse(bytes).map_err(|_| other("a 32-bit or damaged ELF file"))?;
        let Ok(Endianness::Big) = header.endian() else {
            return Err(other("a little-endian ELF file, so one for another architecture"));
        };
        let machine = header.e_machine(Endianness::Big);
        if machine != EM_S390 {
            return Err(other(&format!("an ELF file for another architecture (machine {machine})")));
        }
        let header = FileHeader64::<BigEndian>::parse(bytes).map_err(|_| other("a damaged ELF file"))?;
        let segments = header.program_headers(BigEndian, bytes).map_err(|_| other("a damaged ELF file"))?;
        let loaded = segments.iter().filter(|segment| segment.p_type(BigEndian) == object::elf::PT_LOAD);
        let content = loaded.filter_map(|s| Some((s.p_paddr(BigEndian), s.data(BigEndian, bytes).ok()?)));
        Ok(Self::Segments(content.collect()))
    }

    /// What stands at an address, at most `length` bytes.
    fn read_up_to(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        let within = |start: u64, content: &'a [u8]| {
            let begin = usize::try_from(address.checked_sub(start)?).ok()?;
            let tail = content.get(begin..)?;
            Some(&tail[..tail.len().min(length as usize)])
        };
        match self {
            Self::Flat(bytes) => within(0, bytes),
            Self::Segments(segments) => {
                segments.iter().find_map(|&(start, content)| within(start, content).filter(|b| !b.is_empty()))
            }
        }
    }

    fn read(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        self.read_up_to(address, length).filter(|bytes| bytes.len() as u64 == length)
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.read(address, 8)?.try_into().ok().map(u64::from_be_bytes)
    }

    fn looks_like_without_magic(&self) -> String {
        match self {
            Self::Flat(bytes) => looks_like(bytes).to_owned(),
            Self::Segments(_) => {
                "an s390x ELF file without a boot header: of a kernel build, boot arch/s390/boot/bzImage and give \
                 vmlinux for its symbols"
                    .to_owned()
            }
        }
    }
}

/// A guess at what a file is that someone took for a kernel.
fn looks_like(bytes: &[u8]) -> &'static str {
    /// The kernel's Documentation/arch/x86/boot.rst: `HdrS` at 0x202.
    const X86_HEADER: usize = 0x202;
    /// Documentation/arch/arm64/booting.rst: `ARM\x64` at 56.
    const ARM64_MAGIC: usize = 56;
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|tail| tail.starts_with(magic));
    let known: [(usize, &[u8], &str); 10] = [
        (X86_HEADER, b"HdrS", "an x86 bzImage"),
        (ARM64_MAGIC, b"ARM\x64", "an arm64 Image"),
        (0, b"\x1f\x8b", "gzip data; unpack it first"),
        (0, b"\xfd7zXZ\0", "xz data; unpack it first"),
        (0, b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
        (0, b"!<arch>\ndebian-binary", "a Debian package; unpack it first"),
        (0, b"070701", "a cpio archive, perhaps an initramfs"),
        (0, b"MZ", "an EFI or DOS program"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (0, b"#!", "a script"),
    ];
    if let Some((.., name)) = known.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return name;
    }
    let head = &bytes[..bytes.len().min(512)];
    match head {
        [] => "empty",
        _ if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "text",
        _ if bytes.len() < 0x11000 => "too short for a kernel",
        _ => "of a kind unknown to farm",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of nothing but the fields that farm reads.
    fn image(version: Option<&[u8]>, limit: u64) -> Vec<u8> {
        let mut bytes = vec![0; 0x12000];
        bytes[0x10008..0x1000e].copy_from_slice(b"S390EP");
        if let Some(version) = version {
            bytes[0x10428..0x10430].copy_from_slice(&0x11800_u64.to_be_bytes());
            bytes[0x11800..0x11800 + version.len()].copy_from_slice(version);
        }
        bytes[0x10430..0x10438].copy_from_slice(&limit.to_be_bytes());
        bytes
    }

    #[test]
    fn the_parameter_area_gives_release_and_limit() {
        let table = [
            (image(Some(b"6.1.0-50-s390x (x@y) #1"), 4096), Some("6.1.0-50-s390x"), 4096),
            (image(None, 0), None, 896),
            (image(Some(b"not a release"), 0), None, 896),
            (image(Some(b"\xff\xfe"), 0), None, 896),
            (image(None, 2048), None, 2048),
        ];
        for (bytes, release, limit) in table {
            let facts = inspect(&bytes).unwrap();
            assert_eq!((facts.release.as_deref(), facts.command_line_bytes), (release, limit));
        }
    }

    #[test]
    fn a_version_address_outside_the_image_is_no_release() {
        let mut bytes = image(None, 4096);
        bytes[0x10428..0x10430].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(inspect(&bytes).unwrap().release, None);
    }

    /// An ELF file with one segment at address 0 that holds `content`.
    fn elf(machine: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([2_u16, machine].iter().flat_map(|half| half.to_be_bytes())); // type, machine
        bytes.extend(1_u32.to_be_bytes()); // version
        bytes.extend([0_u64, 64, 0].iter().flat_map(|word| word.to_be_bytes())); // entry, phoff, shoff
        bytes.extend(0_u32.to_be_bytes()); // flags
        bytes.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|half| half.to_be_bytes()));
        bytes.extend([1_u32, 7].iter().flat_map(|word| word.to_be_bytes())); // PT_LOAD, rwx
        let size = content.len() as u64;
        bytes.extend([120, 0, 0, size, size, 4096].iter().flat_map(|word: &u64| word.to_be_bytes()));
        bytes.extend(content);
        bytes
    }

    #[test]
    fn an_elf_boot_image_is_read_through_its_segments() {
        let facts = inspect(&elf(EM_S390.0, &image(Some(b"6.9.0 "), 4096))).unwrap();
        assert_eq!((facts.release.as_deref(), facts.command_line_bytes), (Some("6.9.0"), 4096));
    }

    #[test]
    fn what_is_no_kernel_is_called_by_its_name() {
        let mut x86 = vec![0; 0x20000];
        x86[0x202..0x206].copy_from_slice(b"HdrS");
        let table: [(&[u8], &str); 9] = [
            (&x86, "x86 bzImage"),
            (b"\x1f\x8b\x08\0rest", "gzip"),
            (b"hello\n", "text"),
            (b"", "empty"),
            (b"\x01\x02", "too short"),
            (&[1; 0x20000], "unknown"),
            (b"\x7fELF\x01", "damaged ELF"),
            (&elf(object::elf::EM_X86_64.0, &[]), "another architecture (machine 62)"),
            (&elf(EM_S390.0, &[0; 64]), "without a boot header"),
        ];
        for (bytes, expected) in table {
            let error = inspect(bytes).unwrap_err();
            assert!(error.looks_like.contains(expected), "{expected}: {error:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in proptest::collection::vec(proptest::num::u8::ANY, 0..200), is_elf: bool) {
            let mut bytes = if is_elf { b"\x7fELF\x02\x02\x01".to_vec() } else { Vec::new() };
            bytes.extend(head);
            let _ = inspect(&bytes);
        }
    }
}
