//! A disk without its holes: what of it is not zero, one piece behind the other, and where each piece belongs. So an empty file
//! system of many MiB travels as a few KiB, and a shell can lay it out with dd.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::GuestError;

/// Bytes of a block: what file systems on s390x write at a time.
const BLOCK: u64 = 4096;

/// Some blocks side by side, by their number on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    pub first: u64,
    pub blocks: u64,
}

/// Writes the blocks that are not zero, and says where they belong.
pub fn take_apart(mut disk: impl Read, mut to: impl Write) -> io::Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut block = Vec::new();
    for number in 0.. {
        block.clear();
        if disk.by_ref().take(BLOCK).read_to_end(&mut block)? == 0 {
            break;
        }
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block.resize(BLOCK as usize, 0);
        to.write_all(&block)?;
        match extents.last_mut() {
            Some(last) if last.first + last.blocks == number => last.blocks += 1,
            _ => extents.push(Extent { first: number, blocks: 1 }),
        }
    }
    Ok(extents)
}

/// Whether the pieces lie on a disk of this size, in their order and apart, and are so many bytes in all.
pub fn fit(extents: &[Extent], disk_bytes: u64, piece_bytes: u64) -> bool {
    let mut free = 0;
    let mut blocks: u64 = 0;
    for extent in extents {
        let Some(end) = extent.first.checked_add(extent.blocks) else { return false };
        if extent.blocks == 0 || extent.first < free || end > disk_bytes / BLOCK {
            return false;
        }
        free = end;
        blocks += extent.blocks;
    }
    blocks * BLOCK == piece_bytes
}

/// Makes the disk, of so many MiB, at a path that must not exist yet.
pub fn lay_out(
    pieces: &Utf8Path,
    extents: &[Extent],
    size_mib: u32,
    to: &Utf8Path,
) -> Result<(), GuestError> {
    let failed = |source| GuestError::Io { path: to.to_owned(), source };
    let mut disk = OpenOptions::new().write(true).create_new(true).open(to).map_err(failed)?;
    disk.set_len(u64::from(size_mib) << 20).map_err(failed)?;
    let unread = |source| GuestError::Io { path: pieces.to_owned(), source };
    let mut pieces = File::open(pieces).map_err(unread)?;
    for extent in extents {
        disk.seek(SeekFrom::Start(extent.first * BLOCK)).map_err(failed)?;
        io::copy(&mut (&mut pieces).take(extent.blocks * BLOCK), &mut disk).map_err(failed)?;
    }
    Ok(())
}

/// The same as commands of a POSIX shell with coreutils.
pub fn lay_out_command(pieces: &str, extents: &[Extent], size_mib: u32, to: &str) -> Vec<String> {
    let mut commands = vec![format!("truncate -s {size_mib}M {to}")];
    let mut skip = 0;
    for Extent { first, blocks } in extents {
        commands.push(format!(
            "dd if={pieces} of={to} bs={BLOCK} skip={skip} seek={first} count={blocks} conv=notrunc status=none"
        ));
        skip += blocks;
    }
    commands
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_disk_is_laid_out_again_by_farm_and_by_a_shell() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8Path::from_path(directory.path()).unwrap().join(name);
        let mut disk = vec![0; 2 << 20];
        disk[4095..4098].copy_from_slice(b"abc");
        disk[(1 << 20) + 77] = 7;
        let mut pieces = Vec::new();
        let extents = take_apart(&disk[..], &mut pieces).unwrap();
        assert_eq!(extents, [Extent { first: 0, blocks: 2 }, Extent { first: 256, blocks: 1 }]);
        assert!(fit(&extents, 2 << 20, pieces.len() as u64));
        fs::write(path("pieces"), &pieces).unwrap();
        lay_out(&path("pieces"), &extents, 2, &path("own")).unwrap();
        assert!(fs::read(path("own")).unwrap() == disk);
        let by_hand = path("by-hand");
        let commands = lay_out_command(path("pieces").as_str(), &extents, 2, by_hand.as_str()).join("\n");
        assert!(Command::new("sh").args(["-ec", &commands]).status().unwrap().success());
        assert!(fs::read(by_hand).unwrap() == disk);
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let extent = |first, blocks| Extent { first, blocks };
        let disk = 1 << 20;
        assert!(fit(&[], disk, 0));
        assert!(fit(&[extent(255, 1)], disk, 4096));
        for (extents, bytes) in [
            (vec![extent(256, 1)], 4096),
            (vec![extent(0, 1)], 8192),
            (vec![extent(0, 0)], 0),
            (vec![extent(1, 1), extent(0, 1)], 8192),
            (vec![extent(0, 2), extent(1, 1)], 3 * 4096),
            (vec![extent(u64::MAX, 1)], 4096),
            (vec![extent(1, u64::MAX)], 4096),
        ] {
            assert!(!fit(&extents, disk, bytes), "{extents:?}");
        }
    }
}
