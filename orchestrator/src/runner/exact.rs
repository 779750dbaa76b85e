//! Whether lives of one cell are the same to the bit. A cell that lived once is never called exact.

use std::collections::HashMap;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::escape::escape;
use crate::plan::{CellId, LifeId};
use crate::store::{Difference, ExactRecord};

const STREAMS: [&str; 3] = ["console.log", "kmsg.log", "results.log"];
/// Bytes of a line that differs, to show to people.
const MOST_SHOWN: usize = 300;
/// Differences that are kept; all are counted.
const MOST_KEPT: usize = 100;

/// A life whose guest has come to an end.
#[derive(Debug, Clone)]
pub(super) struct Lived {
    pub(super) life: LifeId,
    pub(super) directory: Utf8PathBuf,
    pub(super) ending: GuestEnding,
}

/// How far the end of a guest's streams is its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestEnding {
    /// It went off, or crashed.
    Own,
    /// Farm ended it while it was still saying something, at a moment that no guest decides.
    Cut,
    /// It had said nothing for so long that farm ended it.
    Silent,
    /// It said more than farm keeps.
    TooLong,
}

/// Compares each life with the first of its cell that ended.
#[derive(Default)]
pub(super) struct Exactness {
    firsts: HashMap<CellId, First>,
    lives: u32,
    cut: u32,
    too_long: u32,
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
        if lived.ending == GuestEnding::TooLong {
            self.too_long += 1;
            return Ok(None);
        }
        self.lives += 1;
        self.cut += u32::from(lived.ending != GuestEnding::Own);
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
        } else if first.lived.ending != GuestEnding::Own && lived.ending == GuestEnding::Own {
            // It says more, and so does a comparison with it.
            first.lived = lived;
        }
        Ok(difference)
    }

    pub(super) fn record(self) -> ExactRecord {
        let Self { firsts, lives, cut, too_long, different, differences } = self;
        let compared = firsts.values().filter(|first| first.compared).count();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let lived_once = count(firsts.len() - compared);
        ExactRecord { cells: count(compared), lived_once, lives, cut, too_long, different, differences }
    }
}

fn difference(first: &Lived, second: &Lived) -> io::Result<Option<Difference>> {
    use GuestEnding::{Own, Silent};
    let lives = (first, second);
    for stream in STREAMS {
        let read = |lived: &Lived| read(&lived.directory, stream);
        let (mut one, mut other) = (read(first)?, read(second)?);
        // One that says nothing more, where the other goes on, is another.
        let whole = [first, second].iter().all(|lived| matches!(lived.ending, Own | Silent));
        if !whole {
            let common = one.len().min(other.len());
            one.truncate(common);
            other.truncate(common);
        }
        if one != other {
            let at = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
            return Ok(Some(told(lives, stream, &one, &other, at)));
        }
    }
    Ok(None)
}

fn told((first, second): (&Lived, &Lived), stream: &str, one: &[u8], other: &[u8], at: usize) -> Difference {
    let start = one[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Difference {
        life: second.life,
        first: first.life,
        stream: stream.to_owned(),
        line: one[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1,
        was: line_at(one, start, at),
        is: line_at(other, start, at),
    }
}

fn read(directory: &Utf8Path, stream: &str) -> io::Result<Vec<u8>> {
    fs::read(directory.join(stream))
}

/// The line from `start` that byte `at` stands in, for people; of a long one what stands around it.
fn line_at(text: &[u8], start: usize, at: usize) -> String {
    let shown = start.max(at.saturating_sub(MOST_SHOWN / 2));
    let line = &text[shown..];
    let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len()).min(MOST_SHOWN);
    let before = if shown > start { "…" } else { "" };
    format!("{before}{}", escape(&line[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    use GuestEnding::{Cut, Own, Silent, TooLong};

    struct Cell {
        directory: tempfile::TempDir,
        exactness: Exactness,
        lives: u32,
    }

    impl Cell {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), exactness: Exactness::default(), lives: 0 }
        }

        fn lives(&mut self, console: &str, ending: GuestEnding) -> Option<Difference> {
            self.lives += 1;
            let life = LifeId { cell: "00000000000000aa".parse().unwrap(), number: self.lives };
            let path = self.directory.path().join(self.lives.to_string());
            let directory = Utf8PathBuf::try_from(path).unwrap();
            fs::create_dir(&directory).unwrap();
            for stream in STREAMS {
                let text = if stream == "console.log" { console } else { "same\n" };
                fs::write(directory.join(stream), text).unwrap();
            }
            self.exactness.compare(Lived { life, directory, ending }).unwrap()
        }
    }

    #[test]
    fn the_first_line_that_differs_is_shown() {
        let mut cell = Cell::new();
        assert_eq!(cell.lives("one\ntwo\nthree\n", Own), None);
        assert_eq!(cell.lives("one\ntwo\nthree\n", Own), None);
        let Difference { stream, line, was, is, .. } = cell.lives("one\ntw\x1bo\nthree\n", Own).unwrap();
        assert_eq!((&*stream, line, &*was, &*is), ("console.log", 2, "two", "tw\\x1bo"));
        let Difference { line, was, is, .. } = cell.lives("one\ntwo\n", Own).unwrap();
        assert_eq!((line, &*was, &*is), (3, "three", ""));
        let ExactRecord { cells, lives, cut, different, differences, .. } = cell.exactness.record();
        assert_eq!((cells, lives, cut, different, differences.len()), (1, 4, 0, 2, 2));
    }

    #[test]
    fn of_a_long_line_that_is_shown_which_differs() {
        let mut cell = Cell::new();
        let long = "x".repeat(5000);
        cell.lives(&format!("{long}a{long}"), Own);
        let Difference { was, is, .. } = cell.lives(&format!("{long}b{long}"), Own).unwrap();
        assert!(was.starts_with("…xx") && was.contains("xaxx") && is.contains("xbxx"), "{was} {is}");
        assert!(was.len() < 400);
    }

    #[test]
    fn what_farm_cut_is_compared_as_far_as_it_goes_and_counted_as_such() {
        let mut cell = Cell::new();
        assert_eq!(cell.lives("one\ntw", Cut), None);
        assert_eq!(cell.lives("one\ntwo\nthree\n", Own), None);
        assert!(cell.lives("one\ntwo\nTHREE\n", Own).is_some(), "the whole life is what is compared with");
        assert!(cell.lives("one\nT", Cut).is_some());
        assert!(cell.lives("one\n", Silent).is_some(), "the others went on from here");
        assert_eq!(cell.lives("", TooLong), None);
        let ExactRecord { lives, cut, too_long, different, .. } = cell.exactness.record();
        assert_eq!((lives, cut, too_long, different), (5, 3, 1, 3));
    }

    #[test]
    fn guests_that_fall_silent_at_the_same_place_are_the_same() {
        let mut cell = Cell::new();
        assert_eq!(cell.lives("one\n", Silent), None);
        assert_eq!(cell.lives("one\n", Silent), None);
        assert!(cell.lives("one\ntwo\n", Silent).is_some());
    }

    #[test]
    fn a_cell_that_lived_once_is_not_exact() {
        let mut cell = Cell::new();
        assert_eq!(cell.lives("", Own), None);
        let record = cell.exactness.record();
        assert_eq!((record.cells, record.lived_once), (0, 1));
    }
}
