//! Lines of a console, and the prefix that printk puts before a message taken apart.
//!
//! The prefix is `[   11.529447] `, with CONFIG_PRINTK_CALLER `[   11.529447][   T94] `, and before it `<4>`
//! where the level is shown (kernel/printk/printk.c: `info_print_prefix()`). What user space writes to the
//! same terminal has no prefix, and where it left a line unfinished (a shell's prompt) the kernel's message
//! goes on behind it: so the prefix is searched for in the whole line.

use std::fmt;

use memchr::{memchr, memmem};
use serde::{Deserialize, Serialize};

use super::splitter::{Length, Raw};

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

/// One line: a message, and what its prefix says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The message, without prefix, line end, and what [`Raw`] leaves out.
    pub text: &'a [u8],
    /// Byte offset in the stream of the line's first byte, and of the byte behind its line end.
    pub start: u64,
    pub end: u64,
    /// Of the line in the stream, if that has lines.
    pub number: Option<u64>,
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
        let Raw { bytes, start, end, number, length } = raw;
        let mut line = Line {
            text: bytes,
            start,
            end,
            number: Some(number),
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

    /// Takes the prefix off a line of a log that people pass on: beside printk's own, what dmesg, syslog and
    /// journalctl put before a message, and the caller alone (printk.time=0).
    pub fn parse_any(raw: Raw<'a>) -> Self {
        let mut line = Self::parse(raw);
        line.text = without_logger(line.text);
        if line.at.is_none()
            && let Some((caller, rest)) = caller(line.text)
        {
            line.caller = Some(caller);
            line.text = rest.strip_prefix(b" ").unwrap_or(rest);
        }
        line
    }
}

/// A message without `[Sat Nov 22 15:55:39 2026] ` (dmesg -T), `2026-11-22T15:55:39,123456+00:00 ` (dmesg
/// --time-format=iso), or `Nov 22 15:55:39 HOST kernel: ` in any of the forms that syslog and journalctl have.
fn without_logger(text: &[u8]) -> &[u8] {
    /// Longer than any time and name of a host.
    const LONGEST: usize = 100;
    const KERNEL: &[u8] = b" kernel: ";
    let start = &text[..text.len().min(LONGEST)];
    if let Some(found) = memmem::find(start, KERNEL) {
        // The time before it is words of digits, the month's name, and the host's name: no colon ends them.
        let words = start[..found].split(|byte| *byte == b' ');
        if words.clone().count() <= 6 && words.into_iter().all(|word| !word.ends_with(b":")) {
            let rest = &text[found + KERNEL.len()..];
            // syslog shows the time of day for itself, and printk's time with the message.
            return stamp(rest).map_or(rest, |(.., rest)| rest.strip_prefix(b" ").unwrap_or(rest));
        }
    }
    let is_time = |text: &[u8], form: &[u8]| {
        text.len() >= form.len()
            && form.iter().zip(text).all(|(form, byte)| match form {
                b'9' => byte.is_ascii_digit() || *byte == b' ',
                b'A' => byte.is_ascii_alphabetic(),
                form => form == byte,
            })
    };
    for form in [&b"[AAA AAA 99 99:99:99 9999] "[..], b"9999-99-99T99:99:99,999999+99:99 "] {
        if is_time(text, form) {
            return &text[form.len()..];
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw<'_> {
        Raw { bytes: text.as_bytes(), start: 0, end: 0, number: 1, length: Length::Whole }
    }

    #[test]
    fn takes_the_prefix_apart() {
        use Caller::{Cpu, Task};
        for (console, text, at, caller, level) in [
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
            let line = Line::parse(raw(console));
            assert_eq!(line.text, text.as_bytes(), "{console}");
            assert_eq!((line.at.map(|at| at.0), line.caller, line.level), (at, caller, level), "{console}");
        }
    }

    #[test]
    fn takes_off_what_loggers_put_before_a_message() {
        for (line, text, at) in [
            ("[Sat Nov 22 15:55:39 2026] Call Trace:", "Call Trace:", None),
            ("[Sat Nov  2 15:55:39 2026]  [<12>] f", " [<12>] f", None),
            ("kern  :warn  : [   11.529447] Call Trace:", "Call Trace:", Some(11_529_447)),
            ("2026-11-22T15:55:39,123456+00:00 Call Trace:", "Call Trace:", None),
            ("Nov 22 15:55:39 a53lp12 kernel: Call Trace:", "Call Trace:", None),
            ("Nov 22 15:55:39 a53lp12 kernel:  [<12>] f", " [<12>] f", None),
            ("2026-11-22T15:55:39.123456+00:00 a53lp12 kernel: Call Trace:", "Call Trace:", None),
            ("Nov 22 15:55:39 a53lp12 kernel: [   11.529447] Call Trace:", "Call Trace:", Some(11_529_447)),
            ("[   11.529447] a53lp12 kernel: Call Trace:", "Call Trace:", Some(11_529_447)),
            ("[   T94] Call Trace:", "Call Trace:", None),
            ("fuse: the kernel: too old", "fuse: the kernel: too old", None),
            ("[Sat Nov 22] text", "[Sat Nov 22] text", None),
        ] {
            let line = Line::parse_any(raw(line));
            assert_eq!(line.text, text.as_bytes());
            assert_eq!(line.at.map(|at| at.0), at, "{text}");
        }
        assert_eq!(Line::parse_any(raw("[    C1] x")).caller, Some(Caller::Cpu(1)));
    }
}
