//! Lines that a mail program has broken at blanks, put together again.
//!
//! How long lines may be differs from one program to the next, so width is no guide. A line is held where it looks
//! like the start of something of known form that is not whole, and joined with what follows if that makes it
//! whole. Otherwise the lines pass as they came.

use super::anatomy::{Part, part};
use super::begins::{Begins, begins, may_open};
use crate::console::lines::Line;
use crate::escape::push_escaped;

/// Lines that one line was broken into, at most: narrow quotes need three.
const PIECES: usize = 3;
/// What is longer has not been broken.
const PIECE_LIMIT: usize = 512;

/// Reads lines, and gives them whole. Holds a few short lines.
#[derive(Debug, Default)]
pub(super) struct Unwrapper {
    held: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    text: Vec<u8>,
    /// The line, but for its text.
    line: Line<'static>,
}

impl Held {
    fn new(line: &Line<'_>) -> Self {
        Self { text: line.text.to_vec(), line: Line { text: b"", ..*line } }
    }

    fn line(&self) -> Line<'_> {
        Line { text: &self.text, ..self.line }
    }
}

impl Unwrapper {
    pub(super) fn line(&mut self, line: &Line<'_>, mut each: impl FnMut(&Line<'_>)) {
        if let Some(first) = self.held.first() {
            let mut joined = first.text.clone();
            for piece in self.held[1..].iter().map(|held| &held.text[..]).chain([line.text]) {
                joined.truncate(joined.trim_ascii_end().len());
                joined.push(b' ');
                joined.extend_from_slice(piece.trim_ascii());
            }
            if can_continue(line) {
                let whole = Line { text: &joined, end: line.end, ..first.line };
                if is_completed_by(&first.text, &joined) {
                    each(&whole);
                    self.held.clear();
                    return;
                }
                if self.held.len() + 1 < PIECES && lacks_something(&joined) {
                    self.held.push(Held::new(line));
                    return;
                }
            }
            self.finish(&mut each);
        }
        if line.text.len() <= PIECE_LIMIT && lacks_something(line.text) {
            self.held.push(Held::new(line));
        } else {
            each(line);
        }
    }

    /// Gives what is held as it is.
    pub(super) fn finish(&mut self, mut each: impl FnMut(&Line<'_>)) {
        self.held.drain(..).for_each(|held| each(&held.line()));
    }

    /// No line waits for the next one.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }
}

/// Whether a line can be the rest of one that was broken: it then has no prefix of its own, and opens nothing.
fn can_continue(line: &Line<'_>) -> bool {
    line.at.is_none()
        && line.caller.is_none()
        && !line.text.is_empty()
        && line.text.len() <= PIECE_LIMIT
        && ![&b" "[..], b"[<", b"([<"].iter().any(|start| line.text.starts_with(start))
        && begins(line.text).is_none()
}

/// Whether a line looks like the start of something that is not all there.
fn lacks_something(text: &[u8]) -> bool {
    if may_open(text) {
        return match begins(text) {
            None => true,
            Some(Begins::Preface) => false,
            Some(Begins::Report(..)) => wants_more(text),
        };
    }
    if !text.starts_with(b" ") && !text.starts_with(b"(") && !text.starts_with(b"Krnl ") {
        return false;
    }
    let text = safe(text);
    // Behind a frame the name of its module may stand, which ends the line.
    let end = text.trim_end().trim_end_matches(')');
    let is_frame = text.contains("[<") && (end.ends_with(">]") || !end.ends_with(']'));
    let is_psw = text.starts_with("Krnl PSW : ") && !text.contains('(');
    is_frame || is_psw || (1..4).contains(&register_count(&text))
}

/// Whether `joined` is something of known form that its first piece alone is not.
fn is_completed_by(first: &[u8], joined: &[u8]) -> bool {
    if may_open(first) {
        return matches!(begins(joined), Some(Begins::Report(..))) && !wants_more(joined);
    }
    let (first, joined) = (safe(first), safe(joined));
    match (part(&first), part(&joined)) {
        (Part::Frame(first), Part::Frame(joined)) => first.module.is_none() && joined.module.is_some(),
        (_, Part::Frame(_)) | (Part::Psw(None), Part::Psw(Some(_))) => true,
        _ => register_count(&joined) == 4,
    }
}

/// Whether a line ends in words behind which more always stands.
fn wants_more(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b" in", b" at", b" by", b"Attempted to kill init!"];
    WORDS.iter().any(|words| text.trim_ascii_end().ends_with(words))
}

/// How many registers a line of a report shows, if it shows nothing else. A whole one shows four.
fn register_count(text: &str) -> usize {
    let is_register = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (named, values) = match text.strip_prefix("Krnl GPRS: ") {
        Some(values) => (true, values),
        None => (text.starts_with(' '), text),
    };
    let all = named && values.split_ascii_whitespace().all(is_register);
    if all { values.split_ascii_whitespace().count() } else { 0 }
}

fn safe(text: &[u8]) -> String {
    let mut safe = String::new();
    push_escaped(&mut safe, text, usize::MAX);
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::lines::Line;
    use crate::console::splitter::{Length, Raw};

    fn unwrap(lines: &[&str]) -> Vec<String> {
        let mut unwrapper = Unwrapper::default();
        let mut out = Vec::new();
        let mut keep = |line: &Line<'_>| out.push(String::from_utf8(line.text.to_vec()).unwrap());
        for text in lines {
            let raw = Raw { bytes: text.as_bytes(), start: 0, end: 0, number: 1, length: Length::Whole };
            unwrapper.line(&Line::parse_any(raw), &mut keep);
        }
        unwrapper.finish(&mut keep);
        out
    }

    #[test]
    fn pieces_of_known_forms_are_joined() {
        for (pieces, whole) in [
            (
                &["[    1.000000] WARNING: CPU: 1 PID: 96 at mm/gup.c:224", "try_grab_page+0x110/0x160"][..],
                "WARNING: CPU: 1 PID: 96 at mm/gup.c:224 try_grab_page+0x110/0x160",
            ),
            (
                &["WARNING: CPU: 1 PID: 96", "at drivers/s390/x.c:224", "f+0x110/0x160 [m]"],
                "WARNING: CPU: 1 PID: 96 at drivers/s390/x.c:224 f+0x110/0x160 [m]",
            ),
            (
                &["BUG: KASAN: slab-use-after-free in ", "a_function+0x4a/0xd8"],
                "BUG: KASAN: slab-use-after-free in a_function+0x4a/0xd8",
            ),
            (
                &["Kernel panic - not syncing: Attempted to kill init!", "exitcode=0x0000000b"],
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
            ),
            (&["kernel BUG at", "mm/page-writeback.c:3031!"], "kernel BUG at mm/page-writeback.c:3031!"),
            (
                &["watchdog: BUG: soft lockup - CPU#0 stuck for", "22s! [t:96]"],
                "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [t:96]",
            ),
            (
                &["([<000003fffebd1a08>]", "iomap_file_buffered_write+0x1c8/0x490)"],
                "([<000003fffebd1a08>] iomap_file_buffered_write+0x1c8/0x490)",
            ),
            (&[" [<000003fffebd1a08>] f+0x1/0x2", "[uvsim]"], " [<000003fffebd1a08>] f+0x1/0x2 [uvsim]"),
            (
                &["Krnl PSW : 0704d00180000000 000000000037c884", "(f+0x114/0x160)"],
                "Krnl PSW : 0704d00180000000 000000000037c884 (f+0x114/0x160)",
            ),
            (
                &["Krnl GPRS: 0000000400000000 0000037200049d80 0000037200049d80", "0000000000042002"],
                "Krnl GPRS: 0000000400000000 0000037200049d80 0000037200049d80 0000000000042002",
            ),
        ] {
            assert_eq!(unwrap(pieces), [whole]);
        }
    }

    #[test]
    fn all_else_passes_as_it_came() {
        for lines in [
            &["WARNING: CPU: 1 PID: 96 at mm/gup.c:224", "[    1.000000] try_grab_page+0x110/0x160"][..],
            &["WARNING: the configuration is at risk", "f+0x110/0x160"],
            &["WARNING: CPU: 1 PID: 96 at", "BUG: Bad page state in process t  pfn:01efc", "f+0x1/0x2"],
            &["INFO: task t:1 is", "not", "blocked", "at", "all"],
            &[" [<000003fffebd1a08>] f+0x1/0x2 ", " [<000003fffebd1a08>] g+0x1/0x2 "],
            &[" [<8500000000010001>] 0x8500000000010001 ", "Last Breaking-Event-Address:"],
            &["            0000000000042002", "Call Trace:"],
            &["kernel BUG at"],
        ] {
            let texts: Vec<_> = lines.iter().map(|line| line.trim_start_matches("[    1.000000] ")).collect();
            assert_eq!(unwrap(lines), texts);
        }
    }
}
