//! Passes over what cannot matter.
//!
//! Between reports, a line matters only if it opens one, and then it holds one of few keywords in one piece: so
//! blocks are searched for these alone. What could hide a keyword from such a search, or make a line go on in the
//! next one, counts as one too. A line that is found has yet to be read in the ordinary way.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memrchr;

use super::rules::KEYWORDS;
use crate::console::{mail, splitter};

static SEARCHER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let keywords = KEYWORDS.iter().map(|word| word.as_bytes()).chain(mail::MARKS);
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(keywords)
        .expect("a few short words make no large automaton")
});

/// Finds the lines of one chunk that may matter.
#[derive(Debug)]
pub(super) struct Skimmer<'a> {
    chunk: &'a [u8],
    /// Where the next noise is, if it has been looked for that far.
    noise: usize,
}

impl<'a> Skimmer<'a> {
    pub(super) fn new(chunk: &'a [u8]) -> Self {
        Self { chunk, noise: 0 }
    }

    /// Where the first line at or behind `from`, itself the start of a line, begins that may matter. The chunk's
    /// last line always may, unless it is whole.
    pub(super) fn next_line(&mut self, from: usize) -> usize {
        if self.noise < from || from == 0 {
            self.noise = splitter::next_noise(self.chunk, from).unwrap_or(self.chunk.len());
        }
        let clean = &self.chunk[from..self.noise];
        let found = SEARCHER.find(clean).map_or(clean.len(), |found| found.start());
        memrchr(b'\n', &clean[..found]).map_or(from, |newline| from + newline + 1)
    }
}
