//! What the detector's tests read and shake: the logs of the fixtures, and a small source of chance.

use std::fs;
use std::path::Path;

/// A fixture's log, without its header.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) bytes: Vec<u8>,
}

impl Log {
    pub(crate) fn is_healthy(&self) -> bool {
        self.about.contains("\nhealthy: true\n")
    }

    pub(crate) fn is_of_a_cell(&self) -> bool {
        self.about.contains("\ntimestamps: required\n")
    }
}

pub(crate) fn fixture_logs() -> Vec<Log> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/detect");
    let mut logs: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let header = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
            Log {
                name: path.file_name().unwrap().to_string_lossy().into_owned(),
                about: String::from_utf8(bytes[..=header].to_vec()).unwrap(),
                bytes: bytes[header + 2..].to_vec(),
            }
        })
        .collect();
    logs.sort_by(|one, other| one.name.cmp(&other.name));
    logs
}

/// A small generator (xorshift), so that one seed tells the whole case.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
