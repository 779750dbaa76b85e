//! Whether lives of one cell are the same to the bit. A cell that lived once is never called exact.

use std::collections::HashMap;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::escape::escape;
use crate::plan::{CellId, LifeId};
use crate::store::{Difference, ExactRecord};

const STREAMS: [&str; 3] = ["console.log", "kmsg.log", "results.log"];
/// Of a line that differs, to show to people.
const MOST_SHOWN: usize = 300;
/// Differences that are kept; all are counted.
const MOST_KEPT: usize = 100;

/// A life whose guest has come to an end.
pub(super) struct Lived {
    pub(super) life: LifeId,
    pub(super) directory: Utf8PathBuf,
    /// Whether farm cut it short, at a moment that no guest decides.
    pub(super) cut: bool,
}

/// Compares each life with the first of its cell that ended.
#[derive(Default)]
pub(super) struct Exactness {
    firsts: HashMap<CellId, First>,
    lives: u32,
    different: u32,
    differences: Vec<Difference>,
}

struct First {
    lived: Lived,
    compared: bool,
}

impl Exactness {
    /// Where the life differs from the first, if it does.
    pub(super) fn compare(&mut self, lived: Lived) -> io::Result<Option<Difference>> {
        self.lives += 1;
        let Some(first) = self.firsts.get_mut(&lived.life.cell) else {
            self.firsts.insert(lived.life.cell, First { lived, compared: false });
            return Ok(None);
        };
        first.compared = true;
        let difference = difference(&first.lived, &lived)?;
        if let Some(difference) = &difference {
            self.different += 1;
            if self.differences.len() < MOST_KEPT {
                self.differences.push(difference.clone());
            }
        }
        Ok(difference)
    }

    pub(super) fn record(self) -> ExactRecord {
        let Self { firsts, lives, different, differences } = self;
        let compared = firsts.values().filter(|first| first.compared).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ExactRecord {
            cells: count(compared),
            lived_once: count(firsts.len() - compared),
            lives,
            different,
            differences,
        }
    }
}

fn difference(first: &Lived, second: &Lived) -> io::Result<Option<Difference>> {
    for stream in STREAMS {
        let read = |lived: &Lived| read(&lived.directory, stream);
        let (mut one, mut other) = (read(first)?, read(second)?);
        if first.cut || second.cut {
            let common = one.len().min(other.len());
            one.truncate(common);
            other.truncate(common);
        }
        if one == other {
            continue;
        }
        let at = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        return Ok(Some(Difference {
            life: second.life,
            first: first.life,
            stream: stream.to_owned(),
            line: one[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1,
            was: line_at(&one, at),
            is: line_at(&other, at),
        }));
    }
    Ok(None)
}

fn read(directory: &Utf8Path, stream: &str) -> io::Result<Vec<u8>> {
    fs::read(directory.join(stream))
}

/// The line that byte `at` stands in, for people.
fn line_at(text: &[u8], at: usize) -> String {
    let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = &text[start..];
    let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
    escape(&line[..end.min(MOST_SHOWN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lived(directory: &tempfile::TempDir, number: u32, console: &str, cut: bool) -> Lived {
        let life = LifeId { cell: "00000000000000aa".parse().unwrap(), number };
        let path = Utf8PathBuf::try_from(directory.path().join(number.to_string())).unwrap();
        fs::create_dir(&path).unwrap();
        for stream in STREAMS {
            fs::write(path.join(stream), if stream == "console.log" { console } else { "same\n" }).unwrap();
        }
        Lived { life, directory: path, cut }
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let mut exactness = Exactness::default();
        let mut compare =
            |number, console, cut| exactness.compare(lived(&directory, number, console, cut)).unwrap();
        assert_eq!(compare(1, "one\ntwo\nthree\n", false), None);
        assert_eq!(compare(2, "one\ntwo\nthree\n", false), None);
        let Difference { stream, line, was, is, .. } = compare(3, "one\ntw\x1bo\nthree\n", false).unwrap();
        assert_eq!((&*stream, line, &*was, &*is), ("console.log", 2, "two", "tw\\x1bo"));
        let Difference { line, was, is, .. } = compare(4, "one\ntwo\n", false).unwrap();
        assert_eq!((line, &*was, &*is), (3, "three", ""), "cut off by itself");
        assert_eq!(compare(5, "one\ntw", true), None, "cut off by farm");
        assert!(compare(6, "one\nTw", true).is_some());
        let ExactRecord { cells, lived_once, lives, different, differences } = exactness.record();
        assert_eq!((cells, lived_once, lives, different, differences.len()), (1, 0, 6, 3, 3));
    }

    #[test]
    fn a_cell_that_lived_once_is_not_exact() {
        let directory = tempfile::tempdir().unwrap();
        let mut exactness = Exactness::default();
        assert_eq!(exactness.compare(lived(&directory, 1, "", false)).unwrap(), None);
        let record = exactness.record();
        assert_eq!((record.cells, record.lived_once), (0, 1));
    }
}
