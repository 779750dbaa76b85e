//! A stream of bytes cut into lines.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr3, memchr3_iter};

/// Bytes of a line that are kept. The kernel's own are shorter: a record of /dev/kmsg has at most 8 KiB
/// (kernel/printk: `CONSOLE_EXT_LOG_MAX`, later `PRINTK_MESSAGE_MAX`).
pub const LINE_LIMIT: usize = 64 * 1024;

/// Whether all bytes of a line are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Whole,
    /// The line was longer than [`LINE_LIMIT`]; the rest is missing.
    Cut,
}

/// A line as it came, without line end, carriage returns, NULs and a terminal's escape sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    pub bytes: &'a [u8],
    pub start: u64,
    pub end: u64,
    /// The first line of a stream is line 1.
    pub number: u64,
    pub length: Length,
}

/// Cuts a stream into lines, wherever its chunks end. Holds at most [`LINE_LIMIT`] bytes of an unfinished line.
#[derive(Debug, Default)]
pub struct Splitter {
    unfinished: Vec<u8>,
    /// The unfinished line has lost bytes.
    cut: bool,
    /// Offsets of the unfinished line's first byte, and of the stream's next byte.
    start: u64,
    next: u64,
    /// Lines that have ended.
    lines: u64,
}

impl Splitter {
    /// Feeds a chunk, and gives each line that it ends to `each`.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Raw<'_>)) {
        let mut from = 0;
        for newline in memchr_iter(b'\n', chunk) {
            let piece = &chunk[from..newline];
            self.next += piece.len() as u64 + 1;
            from = newline + 1;
            if self.unfinished.is_empty() && piece.len() <= LINE_LIMIT {
                self.emit(piece, &mut each);
            } else {
                self.append(piece);
                self.emit_unfinished(&mut each);
            }
        }
        let rest = &chunk[from..];
        self.next += rest.len() as u64;
        self.append(rest);
    }

    /// No line is unfinished.
    pub fn is_at_line_start(&self) -> bool {
        self.start == self.next
    }

    /// Passes over whole lines, where no line is unfinished.
    pub fn skip(&mut self, lines: &[u8]) {
        debug_assert!(self.is_at_line_start());
        self.lines += memchr_iter(b'\n', lines).count() as u64;
        self.next += lines.len() as u64;
        self.start = self.next;
    }

    /// The stream has ended: gives its last line, if that had no line end.
    pub fn finish(&mut self, mut each: impl FnMut(Raw<'_>)) {
        if self.next > self.start {
            self.emit_unfinished(&mut each);
        }
    }

    fn append(&mut self, piece: &[u8]) {
        let room = LINE_LIMIT - self.unfinished.len();
        self.cut |= piece.len() > room;
        self.unfinished.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn emit_unfinished(&mut self, each: &mut impl FnMut(Raw<'_>)) {
        let mut line = std::mem::take(&mut self.unfinished);
        self.emit(&line, each);
        line.clear();
        self.unfinished = line;
    }

    fn emit(&mut self, bytes: &[u8], each: &mut impl FnMut(Raw<'_>)) {
        let length = if self.cut { Length::Cut } else { Length::Whole };
        let bytes = without_noise(bytes);
        self.lines += 1;
        each(Raw { bytes: &bytes, start: self.start, end: self.next, number: self.lines, length });
        self.start = self.next;
        self.cut = false;
    }
}

/// Bytes without which the text reads as it was meant: carriage returns and escape sequences are the terminal's,
/// NULs no one's.
fn without_noise(bytes: &[u8]) -> Cow<'_, [u8]> {
    let end = bytes.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let Some(first) = noise(bytes) else { return Cow::Borrowed(bytes) };
    let mut out = bytes[..first].to_vec();
    let mut rest = &bytes[first..];
    while let [byte, behind @ ..] = rest {
        rest = match *byte {
            ESCAPE => behind_sequence(behind),
            b'\r' | 0 => behind,
            _ => {
                let end = noise(rest).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..end]);
                &rest[end..]
            }
        };
    }
    Cow::Owned(out)
}

const ESCAPE: u8 = 0x1b;

fn noise(bytes: &[u8]) -> Option<usize> {
    memchr3(b'\r', 0, ESCAPE, bytes)
}

/// What follows an escape sequence, such as `\x1b[0;32m`, whose first byte has been taken (ECMA-48, 5.4). One that
/// is not whole takes nothing more with it: least of all the bracket of the time with which the kernel goes on.
fn behind_sequence(bytes: &[u8]) -> &[u8] {
    let Some(parameters) = bytes.strip_prefix(b"[") else { return bytes };
    let length = parameters.iter().take_while(|byte| matches!(byte, b' '..=b'?')).count();
    match parameters.get(length) {
        Some(b'@'..=b'Z' | b'\\'..=b'~') => &parameters[length + 1..],
        _ => bytes,
    }
}

/// Where in `block`, from `from` on, the first byte stands that a line would not keep. Carriage returns at a line's
/// end count as none.
pub fn next_noise(block: &[u8], from: usize) -> Option<usize> {
    memchr3_iter(b'\r', 0, ESCAPE, &block[from..])
        .map(|found| from + found)
        .find(|found| block[*found] != b'\r' || !matches!(block.get(found + 1), None | Some(b'\r' | b'\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, u64, u64, Length)> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        let mut keep = |raw: Raw<'_>| lines.push((raw.bytes.to_vec(), raw.start, raw.end, raw.length));
        for chunk in chunks {
            splitter.push(chunk, &mut keep);
        }
        splitter.finish(&mut keep);
        lines
    }

    #[test]
    fn lines_have_their_offsets_and_no_carriage_returns() {
        let whole = |text: &str, start, end| (text.as_bytes().to_vec(), start, end, Length::Whole);
        let expected = vec![whole("one", 0, 5), whole("", 5, 6), whole("two", 6, 12), whole("end", 12, 15)];
        assert_eq!(split(&[b"one\r\n\nt\0w\ro\nend"]), expected);
        assert_eq!(split(&[b"one\r", b"\n", b"\nt\0", b"w\ro\nen", b"d"]), expected);
        assert_eq!(split(&[b""]), vec![]);
    }

    #[test]
    fn what_is_only_for_a_terminal_is_left_out() {
        for (line, text) in [
            (&b"\x1b[32m[    1.000000] \x1b[0m\x1b[1;31mBUG: x\x1b[0m\r"[..], &b"[    1.000000] BUG: x"[..]),
            (b"50%\r100%\r\r", b"50%100%"),
            (b"\x1b[?25l\x1b[mtext\x1b[K", b"text"),
            (b"cut \x1b[12", b"cut [12"),
            (b"cut \x1b[12[    1.000000] x", b"cut [12[    1.000000] x"),
            (b"\x1b", b""),
            (b"\0\0a\0b", b"ab"),
        ] {
            let lines = split(&[line]);
            assert_eq!((&lines[0].0[..], lines.len()), (text, 1));
        }
    }

    #[test]
    fn noise_is_found_but_for_the_ends_of_lines() {
        let block = b"one\r\r\ntwo\rthree\r\n\x1bfour\0\r";
        let mut found = Vec::new();
        while let Some(at) = next_noise(block, found.last().map_or(0, |last| last + 1)) {
            found.push(at);
        }
        assert_eq!(found, [9, 17, 22]);
    }

    #[test]
    fn lines_that_are_passed_over_count_too() {
        let mut splitter = Splitter::default();
        let mut places = Vec::new();
        let mut keep = |raw: Raw<'_>| places.push((raw.start, raw.end, raw.number));
        splitter.push(b"one\n", &mut keep);
        assert!(splitter.is_at_line_start());
        splitter.skip(b"two\nthree\n");
        splitter.push(b"four", &mut keep);
        assert!(!splitter.is_at_line_start());
        splitter.push(b"\n", &mut keep);
        assert_eq!(places, [(0, 4, 1), (14, 19, 4)]);
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_says_so() {
        let long = vec![b'x'; LINE_LIMIT + 1];
        let end = LINE_LIMIT as u64 + 2;
        let expected = vec![
            (vec![b'x'; LINE_LIMIT], 0, end, Length::Cut),
            (b"next".to_vec(), end, end + 5, Length::Whole),
        ];
        let mut stream = long.clone();
        stream.extend_from_slice(b"\nnext\n");
        assert_eq!(split(&[&stream]), expected);
        assert_eq!(split(&[&long, b"\nnext\n"]), expected);
        assert_eq!(split(&[&long[..9], &long[9..], b"\n", b"next\n"]), expected);
    }
}
