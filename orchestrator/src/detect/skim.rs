//! Passes over what cannot matter.
//!
//! Between reports, a line matters only if it opens one, and then it holds one of few keywords in one piece: so
//! blocks are searched for these alone. What could hide a keyword from such a search, or make a line go on in the
//! next one, stops the search too. A line that is found has yet to be read in the ordinary way.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memrchr;

use super::begins::KEYWORDS;
use super::detector::Timestamps;
use crate::console::{mail, splitter};

static KEYWORD: LazyLock<AhoCorasick> = LazyLock::new(|| searcher(&KEYWORDS));

/// Apart from the keywords: patterns as short as these would spoil the vectorised search for the longer ones.
static MAIL: LazyLock<AhoCorasick> = LazyLock::new(|| searcher(&mail::MARKS));

fn searcher(words: &[impl AsRef<[u8]>]) -> AhoCorasick {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(words)
        .expect("a few short words make no large automaton")
}

/// Finds the lines of one chunk that may matter.
#[derive(Debug)]
pub(super) struct Skimmer<'a> {
    chunk: &'a [u8],
    timestamps: Timestamps,
    /// The next of each, once looked for.
    noise: Option<usize>,
    mark: Option<usize>,
}

impl<'a> Skimmer<'a> {
    pub(super) fn new(chunk: &'a [u8], timestamps: Timestamps) -> Self {
        Self { chunk, timestamps, noise: None, mark: None }
    }

    /// Where the first line at or behind `from`, itself the start of a line, begins that may matter. A line that
    /// the chunk does not end always may.
    pub(super) fn next_line(&mut self, from: usize) -> usize {
        let Self { chunk, .. } = *self;
        let noise = ahead(&mut self.noise, from, || splitter::next_noise(chunk, from), chunk);
        let mark = match self.timestamps {
            // A cell's console is no mail.
            Timestamps::Required => chunk.len(),
            Timestamps::Optional => {
                let find = || MAIL.find(&chunk[from..]).map(|found| from + found.start());
                ahead(&mut self.mark, from, find, chunk)
            }
        };
        let clean = &chunk[from..noise.min(mark)];
        let found = KEYWORD.find(clean).map_or(clean.len(), |found| found.start());
        memrchr(b'\n', &clean[..found]).map_or(from, |newline| from + newline + 1)
    }
}

/// The place that is known, if it lies not behind `from`, else the one that `find` finds; the chunk's end if none.
fn ahead(
    known: &mut Option<usize>,
    from: usize,
    find: impl FnOnce() -> Option<usize>,
    chunk: &[u8],
) -> usize {
    match *known {
        Some(place) if place >= from => place,
        _ => *known.insert(find().unwrap_or(chunk.len())),
    }
}
