//! Archives in the format "newc" that are the same to the byte whenever the same goes in.

use std::collections::BTreeMap;
use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

/// Device numbers of /dev/console, from the kernel's Documentation/admin-guide/devices.txt.
const CONSOLE: (u32, u32) = (5, 1);

/// Files by their path from the root, without a leading slash. The order of a sorted map puts a directory
/// before what is in it, as the kernel's unpacker (init/initramfs.c) needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Archive {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File { permissions: u32, content: Vec<u8> },
    Link { target: String },
    CharacterDevice { major: u32, minor: u32 },
}

impl Archive {
    pub(crate) fn file(&mut self, path: &str, content: Vec<u8>) {
        self.insert(path, Node::File { permissions: 0o644, content });
    }

    pub(crate) fn program(&mut self, path: &str, content: Vec<u8>) {
        self.insert(path, Node::File { permissions: 0o755, content });
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Link { target: target.to_owned() });
    }

    /// The console, which the kernel opens as init's stdin, stdout and stderr before anything is mounted.
    pub(crate) fn console(&mut self) {
        let (major, minor) = CONSOLE;
        self.insert("dev/console", Node::CharacterDevice { major, minor });
    }

    /// Inodes are numbered in the order of the paths; owner, time and device numbers are zero.
    pub(crate) fn write(&self, mut to: impl Write) -> io::Result<()> {
        for (inode, (path, node)) in (1_u32..).zip(&self.nodes) {
            let entry =
                Builder::new(path).ino(inode).mode(node.permissions()).set_mode_file_type(node.file_type());
            let (entry, content): (_, &[u8]) = match node {
                Node::Directory => (entry.nlink(2), &[]),
                Node::File { content, .. } => (entry, content),
                Node::Link { target } => (entry, target.as_bytes()),
                Node::CharacterDevice { major, minor } => (entry.rdev_major(*major).rdev_minor(*minor), &[]),
            };
            let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut writer = entry.write(&mut to, length);
            writer.write_all(content)?;
            writer.finish()?;
        }
        trailer(&mut to)?;
        to.flush()
    }

    pub(crate) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    fn insert(&mut self, path: &str, node: Node) {
        for (slash, _) in path.match_indices('/') {
            self.nodes.entry(path[..slash].to_owned()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.to_owned(), node);
    }
}

impl Node {
    fn permissions(&self) -> u32 {
        match self {
            Self::Directory => 0o755,
            Self::Link { .. } => 0o777,
            Self::File { permissions, .. } => *permissions,
            Self::CharacterDevice { .. } => 0o600,
        }
    }

    fn file_type(&self) -> ModeFileType {
        match self {
            Self::Directory => ModeFileType::Directory,
            Self::File { .. } => ModeFileType::Regular,
            Self::Link { .. } => ModeFileType::Symlink,
            Self::CharacterDevice { .. } => ModeFileType::Char,
        }
    }
}

/// What an archive holds, one line an entry, for tests.
#[cfg(test)]
pub(crate) fn listing(bytes: &[u8]) -> Vec<String> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    loop {
        let reader = cpio::NewcReader::new(rest).unwrap();
        let entry = reader.entry().clone();
        if entry.is_trailer() {
            return lines;
        }
        lines.push(format!(
            "{} {:o} {} {}:{} {}",
            entry.ino(),
            entry.mode(),
            entry.file_size(),
            entry.rdev_major(),
            entry.rdev_minor(),
            entry.name()
        ));
        assert_eq!(
            (entry.uid(), entry.gid(), entry.mtime(), entry.dev_major(), entry.dev_minor()),
            (0, 0, 0, 0, 0)
        );
        rest = reader.finish().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_first_and_the_order_of_insertion_does_not_show() {
        let mut one = Archive::default();
        one.program("init", b"abc".to_vec());
        one.file("farm/modules/a.ko", b"12345".to_vec());
        one.console();
        let mut other = Archive::default();
        other.console();
        other.file("farm/modules/a.ko", b"12345".to_vec());
        other.program("init", b"abc".to_vec());
        let bytes = one.to_bytes().unwrap();
        assert_eq!(bytes, other.to_bytes().unwrap());
        assert_eq!(
            listing(&bytes),
            [
                "1 40755 0 0:0 dev",
                "2 20600 0 5:1 dev/console",
                "3 40755 0 0:0 farm",
                "4 40755 0 0:0 farm/modules",
                "5 100644 5 0:0 farm/modules/a.ko",
                "6 100755 3 0:0 init",
            ]
        );
    }

    #[test]
    fn the_length_is_a_multiple_of_four_so_that_another_archive_may_follow() {
        for length in 0..8 {
            let mut archive = Archive::default();
            archive.file("x", vec![0; length]);
            assert_eq!(archive.to_bytes().unwrap().len() % 4, 0, "{length}");
        }
    }
}
