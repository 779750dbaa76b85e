//! The share: a directory of the host that a guest reads over 9p, made anew for each life. Its one file can be told
//! by its size alone, so that a program in the guest knows every byte, and a person can make it with `seq`.

use std::fs;

use camino::Utf8Path;

use super::GuestError;

/// What the guest mounts it by.
pub const SHARE_TAG: &str = "share";
/// Known to `guests/stress/share.c`, as is what is in it.
const FILE: &str = "lines";
/// Each of 8 bytes: its own number, counted from 0, in seven digits.
const LINES: u32 = 128 << 10;

/// Makes the directory, which must not exist yet, and its file.
pub fn fresh_share(directory: &Utf8Path) -> Result<(), GuestError> {
    let failed = |source| GuestError::Io { path: directory.to_owned(), source };
    fs::create_dir(directory).map_err(failed)?;
    let lines: String = (0..LINES).map(|line| format!("{line:07}\n")).collect();
    fs::write(directory.join(FILE), lines).map_err(failed)
}

/// The same as a command of a POSIX shell. The directory may exist.
pub fn share_command(directory: &Utf8Path) -> String {
    format!("mkdir -p {directory} && seq -f %07.0f 0 {} > {directory}/{FILE}", LINES - 1)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn farm_and_the_command_make_the_same_file_and_farm_makes_it_once() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8Path::from_path(scratch.path()).unwrap().join(name);
        let (own, by_hand) = (path("own"), path("by-hand"));
        fresh_share(&own).unwrap();
        let content = fs::read(own.join(FILE)).unwrap();
        assert_eq!(content.len(), 1 << 20);
        assert_eq!(&content[8 * 77_777..][..16], b"0077777\n0077778\n");
        for _ in 0..2 {
            assert!(Command::new("sh").args(["-c", &share_command(&by_hand)]).status().unwrap().success());
            assert!(fs::read(by_hand.join(FILE)).unwrap() == content);
        }
        assert_eq!(fresh_share(&own).unwrap_err().to_string(), format!("cannot use {own}"));
    }
}
