//! The initrd of a cell: the unchanged image, and behind it the archive with the job.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};

use camino::Utf8Path;

use super::{GuestError, LiteImage};

/// The kernel looks for the next archive at a multiple of this (init/initramfs.c).
const ALIGNMENT: u64 = 4;

/// Writes the initrd to a file that must not exist yet. The image is cloned where the file system can, and
/// copied inside the kernel elsewhere.
pub fn write_initrd(image: &LiteImage, job_archive: &[u8], to: &Utf8Path) -> Result<(), GuestError> {
    let failed = |source| GuestError::Io { path: to.to_owned(), source };
    append(image, job_archive, to).map_err(failed)
}

fn append(image: &LiteImage, job_archive: &[u8], to: &Utf8Path) -> io::Result<()> {
    let mut from = fs::File::open(&image.path)?;
    let mut initrd = OpenOptions::new().write(true).create_new(true).open(to)?;
    let length = io::copy(&mut from, &mut initrd)?;
    let padding = vec![0; (length.next_multiple_of(ALIGNMENT) - length) as usize];
    initrd.write_all(&padding)?;
    initrd.write_all(job_archive)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_job_begins_at_a_multiple_of_four_behind_the_unchanged_image() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        for (content, padded) in [(&b"image"[..], &b"image\0\0\0"[..]), (b"fourfour", b"fourfour")] {
            let path = root.join("image");
            fs::write(&path, content).unwrap();
            let image =
                LiteImage { path, sha256: String::new(), kernel: String::new(), modules: BTreeMap::new() };
            let to = root.join(format!("initrd-{}", content.len()));
            write_initrd(&image, b"job", &to).unwrap();
            assert_eq!(fs::read(&to).unwrap(), [padded, b"job"].concat());
            assert_eq!(fs::read(&image.path).unwrap(), content);
            let error = write_initrd(&image, b"job", &to).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot use {to}"));
        }
    }
}
