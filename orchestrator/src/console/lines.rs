//! Raw console bytes cut into lines, and the prefix that printk puts before a message taken apart.
//!
//! The prefix is `[   11.529447] `, with CONFIG_PRINTK_CALLER `[   11.529447][   T94] `, and before it `<4>`
//! where the level is shown (kernel/printk/printk.c: `info_print_prefix()`). What user space writes to the
//! same terminal has no prefix, and where it left a line unfinished (a shell's prompt) the kernel's message
//! goes on behind it: so the prefix is searched for in the whole line.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr_iter, memchr2};
use serde::{Deserialize, Serialize};

/// Bytes of a line that are kept. The kernel's own are shorter: a record of /dev/kmsg has at most 8 KiB
/// (kernel/printk: `CONSOLE_EXT_LOG_MAX`, later `PRINTK_MESSAGE_MAX`).
pub const LINE_LIMIT: usize = 64 * 1024;

/// Microseconds of the guest's printk clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub u64);

impl fmt::Display for Micros {
    /// In seconds, as printk shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Who printed a line: a task (`T94`), or an interrupt on a CPU (`C1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    Task(u32),
    Cpu(u32),
}

/// Whose text a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's own: facility 0 of /dev/kmsg.
    Kernel,
    /// User space wrote it, through /dev/kmsg.
    User,
    /// A console does not tell.
    Unknown,
}

/// Whether all bytes of a line are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Whole,
    /// The line was longer than [`LINE_LIMIT`]; the rest is missing.
    Cut,
}

/// One line: a message, and what its prefix says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The message, without prefix, line end, carriage returns and NULs.
    pub text: &'a [u8],
    /// Byte offset in the stream of the line's first byte, and of the byte behind its line end.
    pub start: u64,
    pub end: u64,
    pub at: Option<Micros>,
    pub level: Option<u8>,
    pub caller: Option<Caller>,
    pub sequence: Option<u64>,
    pub origin: Origin,
    pub length: Length,
}

impl<'a> Line<'a> {
    /// Takes the prefix off a console line.
    pub fn parse(raw: Raw<'a>) -> Self {
        let Raw { bytes, start, end, length } = raw;
        let mut line = Line {
            text: bytes,
            start,
            end,
            at: None,
            level: None,
            caller: None,
            sequence: None,
            origin: Origin::Unknown,
            length,
        };
        let mut from = 0;
        while let Some(found) = memchr(b'[', &bytes[from..]) {
            let bracket = from + found;
            if let Some((at, caller, rest)) = stamp(&bytes[bracket..]) {
                line.at = Some(at);
                line.caller = caller;
                line.level = level_before(&bytes[..bracket]);
                line.text = rest.strip_prefix(b" ").unwrap_or(rest);
                return line;
            }
            from = bracket + 1;
        }
        if let Some((level, rest)) = level_at_start(bytes) {
            line.level = Some(level);
            line.text = rest;
        }
        line
    }
}

/// `[ SECONDS.MICROSECONDS]` and, if it follows at once, `[ CALLER]`.
fn stamp(bytes: &[u8]) -> Option<(Micros, Option<Caller>, &[u8])> {
    let (seconds, rest) = number(skip_blanks(bytes.strip_prefix(b"[")?))?;
    let fraction = rest.strip_prefix(b".")?;
    let (micros, rest) = number(fraction)?;
    if fraction.len() - rest.len() != 6 {
        return None;
    }
    let rest = rest.strip_prefix(b"]")?;
    let at = Micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
    match caller(rest) {
        Some((caller, rest)) => Some((at, Some(caller), rest)),
        None => Some((at, None, rest)),
    }
}

fn caller(bytes: &[u8]) -> Option<(Caller, &[u8])> {
    let inside = skip_blanks(bytes.strip_prefix(b"[")?);
    let (caller, rest) = parse_caller(inside)?;
    Some((caller, rest.strip_prefix(b"]")?))
}

/// `T94` or `C1`, as on the console and in the `caller=` field of /dev/kmsg.
pub(super) fn parse_caller(bytes: &[u8]) -> Option<(Caller, &[u8])> {
    let (id, rest) = number(bytes.get(1..)?)?;
    let id = u32::try_from(id).ok()?;
    match bytes[0] {
        b'T' => Some((Caller::Task(id), rest)),
        b'C' => Some((Caller::Cpu(id), rest)),
        _ => None,
    }
}

fn level_at_start(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (priority, rest) = number(bytes.strip_prefix(b"<")?)?;
    let level = u8::try_from(priority & 7).ok()?;
    Some((level, rest.strip_prefix(b">")?))
}

fn level_before(bytes: &[u8]) -> Option<u8> {
    let opening = memchr::memrchr(b'<', bytes)?;
    match level_at_start(&bytes[opening..])? {
        (level, []) => Some(level),
        _ => None,
    }
}

/// A decimal number of at least one digit, and what follows it. None if it exceeds 64 bits.
pub(crate) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

pub(crate) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| **b == b' ').count();
    &bytes[blanks..]
}

/// A line as it came, without line end, carriage returns and NULs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    pub bytes: &'a [u8],
    pub start: u64,
    pub end: u64,
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
        each(Raw { bytes: &bytes, start: self.start, end: self.next, length });
        self.start = self.next;
        self.cut = false;
    }
}

/// Carriage returns are the terminal's, and NULs no one's.
fn without_noise(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match memchr2(b'\r', 0, bytes) {
        None => Cow::Borrowed(bytes),
        Some(_) => Cow::Owned(bytes.iter().copied().filter(|b| !matches!(b, b'\r' | 0)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Line<'_> {
        Line::parse(Raw { bytes: text.as_bytes(), start: 0, end: 0, length: Length::Whole })
    }

    #[test]
    fn takes_the_prefix_apart() {
        use Caller::{Cpu, Task};
        for (raw, text, at, caller, level) in [
            ("[   11.529447] Call Trace:", "Call Trace:", Some(11_529_447), None, None),
            ("[    0.000000]  two blanks", " two blanks", Some(0), None, None),
            ("[   11.529447][   T94] WARNING", "WARNING", Some(11_529_447), Some(Task(94)), None),
            ("[11234.000001][    C1] x", "x", Some(11_234_000_001), Some(Cpu(1)), None),
            ("<4>[    1.000002] x", "x", Some(1_000_002), None, Some(4)),
            ("<30>[    1.000002][    T1] x", "x", Some(1_000_002), Some(Task(1)), Some(6)),
            ("/ # [   13.726763] sysrq: Show", "sysrq: Show", Some(13_726_763), None, None),
            ("<4>no time", "no time", None, None, Some(4)),
            ("plain [12] text [x.123456]", "plain [12] text [x.123456]", None, None, None),
            ("[    1.52944] five digits", "[    1.52944] five digits", None, None, None),
            ("[99999999999999999999999.000000] x", "[99999999999999999999999.000000] x", None, None, None),
            ("[    1.000000]", "", Some(1_000_000), None, None),
            ("", "", None, None, None),
        ] {
            let line = parse(raw);
            assert_eq!(line.text, text.as_bytes(), "{raw}");
            assert_eq!((line.at.map(|at| at.0), line.caller, line.level), (at, caller, level), "{raw}");
        }
    }

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
