//! Disks that are fresh for each life of a guest: sparse raw files, copied from an empty file system made
//! once.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::io::Errno;

use super::GuestError;
use crate::cache::{Cache, Kind, Progress};
use crate::kernel::tool::{FALLOCATE, MKFS_EXT4, MKFS_XFS, ToolError};
use crate::scenario::{Disk, DiskFormat};

const TEMPLATE: &str = "disk.raw";
/// To be raised whenever the options below change.
const FORMAT: u32 = 1;
/// UUID and hash seed of every disk: random ones would make each template, and so each run, different.
const UUID: &str = "66617266-0000-4000-8000-000000000001";
/// What mke2fs.conf of Debian 12 asks for; said here so that the host's configuration and version do not
/// matter.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
/// Inode tables are written now: the kernel's lazy initialisation would be I/O in the background of every
/// test. The journal need not be, for the file begins as one hole, and nothing in the kernel would write it
/// later.
const EXTENDED: &str = "lazy_itable_init=0,lazy_journal_init=1,hash_seed=66617266-0000-4000-8000-000000000002,\
    root_owner=0:0";
/// What mkfs.xfs 6.1 makes by itself, and Linux 6.1 can mount; newer ones would make more.
const XFS_METADATA: &str =
    "crc=1,finobt=1,reflink=1,bigtime=1,inobtcount=1,rmapbt=0,uuid=66617266-0000-4000-8000-000000000001";
const XFS_INODES: &str = "sparse=1,nrext64=0";

/// Makes a disk at a path that must not exist yet.
pub fn fresh_disk(
    cache: &Cache,
    disk: Disk,
    to: &Utf8Path,
    progress: Progress<'_>,
) -> Result<(), GuestError> {
    let failed = |source| GuestError::Io { path: to.to_owned(), source };
    let target = OpenOptions::new().write(true).create_new(true).open(to).map_err(failed)?;
    let Some(file_system) = disk.format.file_system() else {
        return target.set_len(bytes(disk)).map_err(failed);
    };
    let template = template(cache, disk, file_system, progress)?;
    let source = File::open(&template).map_err(|source| GuestError::Io { path: template.clone(), source })?;
    copy_sparse(source, target).map_err(failed)
}

fn bytes(disk: Disk) -> u64 {
    u64::from(disk.size_mib) << 20
}

/// The empty file system in the cache that such a disk is copied from; none for a raw disk.
pub fn disk_template(cache: &Cache, disk: Disk) -> Option<Utf8PathBuf> {
    Some(cache.path(Kind::Disk, &key(disk, disk.format.file_system()?)).join(TEMPLATE))
}

fn key(disk: Disk, file_system: &str) -> String {
    format!("{file_system}-{FORMAT}-{}mib", disk.size_mib)
}

fn template(
    cache: &Cache,
    disk: Disk,
    file_system: &str,
    progress: Progress<'_>,
) -> Result<Utf8PathBuf, GuestError> {
    let entry = cache.entry(Kind::Disk, &key(disk, file_system), progress, |work| {
        progress(&format!("formatting an {file_system} disk of {} MiB", disk.size_mib));
        let path = work.join(TEMPLATE);
        let failed = |source| GuestError::Io { path: path.clone(), source };
        File::create_new(&path).and_then(|file| file.set_len(bytes(disk))).map_err(failed)?;
        match disk.format {
            DiskFormat::Raw => {}
            DiskFormat::Ext4 => make_ext4(&path)?,
            DiskFormat::Xfs => make_xfs(&path)?,
        }
        Ok::<(), GuestError>(())
    })?;
    Ok(entry.join(TEMPLATE))
}

fn make_ext4(path: &Utf8Path) -> Result<(), ToolError> {
    let mut command = MKFS_EXT4.command()?;
    command
        // mke2fs' own clock (lib/ext2fs/initialize.c); 1 since 0 means "now".
        .env("E2FSPROGS_FAKE_TIME", "1")
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-U", UUID])
        .args(["-O", FEATURES, "-E", EXTENDED, path.as_str()]);
    MKFS_EXT4.stdout(&mut command)?;
    Ok(())
}

/// mkfs.xfs knows no clock but the host's: the root directory is as old as the template.
fn make_xfs(path: &Utf8Path) -> Result<(), ToolError> {
    let mut command = MKFS_XFS.command()?;
    command.args(["-q", "-b", "size=4096", "-m", XFS_METADATA, "-i", XFS_INODES, path.as_str()]);
    MKFS_XFS.stdout(&mut command)?;
    // It writes the zeros of a log of 64 MiB, which each copy would have too.
    let mut command = FALLOCATE.command()?;
    command.args(["--dig-holes", path.as_str()]);
    FALLOCATE.stdout(&mut command)?;
    Ok(())
}

/// Clones the file where the file system can; else copies what is data and leaves the holes.
fn copy_sparse(mut from: File, mut to: File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while let Some(start) = seek(&from, rustix::fs::SeekFrom::Data(position))? {
        let end = seek(&from, rustix::fs::SeekFrom::Hole(start))?.unwrap_or(length);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&mut from).take(end - start), &mut to)?;
        position = end;
    }
    Ok(())
}

/// Nothing when there is no more data.
fn seek(file: &File, position: rustix::fs::SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, position) {
        Err(Errno::NXIO) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::cache::quiet;

    fn place() -> (tempfile::TempDir, Cache, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap().to_owned();
        let cache = Cache::new(&root.join("cache")).unwrap();
        (directory, cache, root)
    }

    const EXT4: Disk = Disk { size_mib: 64, format: DiskFormat::Ext4 };

    #[test]
    fn two_templates_in_different_places_are_the_same_to_the_byte() {
        let (_one, first, _) = place();
        let (_two, second, _) = place();
        let [a, b] = [first, second].map(|cache| template(&cache, EXT4, "ext4", &quiet).unwrap());
        assert_ne!(a, b);
        assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
    }

    #[test]
    fn a_fresh_disk_is_a_sparse_copy_and_the_template_stays_clean() {
        let (_guard, cache, root) = place();
        let (one, two) = (root.join("one"), root.join("two"));
        fresh_disk(&cache, EXT4, &one, &quiet).unwrap();
        let content = fs::read(&one).unwrap();
        // The superblock's magic (Documentation/filesystems/ext4/super.rst): 0xef53 at 1024 + 0x38,
        // little-endian.
        assert_eq!((content.len(), &content[1024 + 0x38..][..2]), (64 << 20, &[0x53, 0xef][..]));
        assert!(fs::metadata(&one).unwrap().blocks() * 512 < 1 << 20, "not sparse");
        fs::write(&one, "used").unwrap();
        fresh_disk(&cache, EXT4, &two, &quiet).unwrap();
        assert!(fs::read(&two).unwrap() == content);
        let error = fresh_disk(&cache, EXT4, &two, &quiet).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot use {two}"));
    }

    #[test]
    fn an_xfs_disk_is_one_and_its_log_takes_no_room() {
        let (_guard, cache, root) = place();
        let path = root.join("xfs");
        let smallest = Disk { size_mib: DiskFormat::XFS_LEAST_MIB, format: DiskFormat::Xfs };
        fresh_disk(&cache, smallest, &path, &quiet).unwrap();
        let content = fs::read(&path).unwrap();
        // The superblock's magic number (fs/xfs/libxfs/xfs_format.h, XFS_SB_MAGIC).
        assert_eq!((content.len(), &content[..4]), (300 << 20, &b"XFSB"[..]));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "not sparse");
        assert_eq!(disk_template(&cache, smallest).map(|template| template.exists()), Some(true));
    }

    #[test]
    fn a_raw_disk_is_nothing_but_a_hole() {
        let (_guard, cache, root) = place();
        let path = root.join("raw");
        fresh_disk(&cache, Disk { size_mib: 100, format: DiskFormat::Raw }, &path, &quiet).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.blocks()), (100 << 20, 0));
    }

    #[test]
    fn holes_and_data_are_copied_as_they_lie() {
        let (_guard, _, root) = place();
        let source = root.join("source");
        let mut file = File::create_new(&source).unwrap();
        // A hole, data, a hole, data up to the end.
        file.set_len(1 << 20).unwrap();
        for (position, text) in [(256 << 10, "first"), ((1 << 20) - 4, "last")] {
            file.seek(SeekFrom::Start(position)).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        let target = root.join("target");
        copy_sparse(File::open(&source).unwrap(), File::create_new(&target).unwrap()).unwrap();
        assert!(fs::read(&source).unwrap() == fs::read(&target).unwrap());
        assert!(fs::metadata(&target).unwrap().blocks() * 512 < 256 << 10);
    }
}
