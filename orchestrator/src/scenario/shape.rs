//! How the value of a field is written: what is accepted, and the words for it.
//!
//! A shape parses and describes itself, so that a message ("expected a number from 1 to 64") and the
//! reference in `docs/scenario.md` cannot differ from what is accepted.

use std::time::Duration;

use jiff::SignedDuration;

use super::problem::did_you_mean;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// The value is not of the shape; the hint helps beyond the shape's description.
#[derive(Debug, PartialEq)]
pub(crate) struct Mismatch {
    pub(crate) hint: Option<String>,
}

impl Mismatch {
    pub(crate) const PLAIN: Self = Self { hint: None };

    pub(crate) fn hint(hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()) }
    }
}

/// Completes "expected …".
pub(crate) trait Describe {
    fn describe(&self) -> String;
}

/// A value that is one scalar.
pub(crate) trait Shape: Describe {
    type Value;
    fn parse(&self, text: &str) -> Result<Self::Value, Mismatch>;
}

/// A whole number.
pub(crate) struct Number {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Describe for Number {
    fn describe(&self) -> String {
        format!("a number from {} to {}", self.min, self.max)
    }
}

impl Shape for Number {
    type Value = u64;
    fn parse(&self, text: &str) -> Result<u64, Mismatch> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.then(|| text.parse().ok()).flatten().ok_or(Mismatch::PLAIN)?;
        (self.min..=self.max).contains(&number).then_some(number).ok_or(Mismatch::PLAIN)
    }
}

/// A size of memory or disk, in whole MiB: QEMU gives an s390x guest its memory in steps of 1 MiB.
pub(crate) struct Mebibytes {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

impl Describe for Mebibytes {
    fn describe(&self) -> String {
        let size = |mib: u32| print_size(u64::from(mib) * MIB);
        format!("a size in whole MiB from {} to {}", size(self.min), size(self.max))
    }
}

impl Shape for Mebibytes {
    type Value = u32;
    fn parse(&self, text: &str) -> Result<u32, Mismatch> {
        let bytes = parse_size(text).ok_or(Mismatch::PLAIN)?;
        if !bytes.is_multiple_of(MIB) {
            return Err(Mismatch::hint("write a unit, as in 512M or 2G"));
        }
        let mib = u32::try_from(bytes / MIB).map_err(|_| Mismatch::PLAIN)?;
        (self.min..=self.max).contains(&mib).then_some(mib).ok_or(Mismatch::PLAIN)
    }
}

/// Bytes, with a unit K, M or G (of 1,024) or none.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], KIB),
        b'M' => (&text[..text.len() - 1], MIB),
        b'G' => (&text[..text.len() - 1], GIB),
        _ => (text, 1),
    };
    let digits = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The shortest text that [`parse_size`] reads as this many bytes.
pub(crate) fn print_size(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(GIB) => format!("{}G", bytes / GIB),
        _ if bytes.is_multiple_of(MIB) => format!("{}M", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{}K", bytes / KIB),
        _ => bytes.to_string(),
    }
}

/// What guests are told most times in.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const MICROSECOND: Duration = Duration::from_micros(1);

/// A span of time with units, a whole number of `unit`: what a guest is told.
pub(crate) struct Time {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) unit: Duration,
}

impl Time {
    /// As a person may write it, between the bounds of most.
    fn example(&self) -> &'static str {
        if self.unit < MILLISECOND { "50us or 1ms" } else { "500ms, 3s or 2h 5m" }
    }
}

impl Describe for Time {
    fn describe(&self) -> String {
        format!("a time from {} to {}", print_time(self.min), print_time(self.max))
    }
}

impl Shape for Time {
    type Value = Duration;
    fn parse(&self, text: &str) -> Result<Duration, Mismatch> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Mismatch::hint(format!("write units, as in {}", self.example())));
        }
        let span: SignedDuration =
            text.parse().map_err(|_| Mismatch::hint(format!("write it as in {}", self.example())))?;
        let time = Duration::try_from(span).map_err(|_| Mismatch::PLAIN)?;
        if !time.as_nanos().is_multiple_of(self.unit.as_nanos()) {
            let unit = if self.unit < MILLISECOND { "microseconds" } else { "milliseconds" };
            return Err(Mismatch::hint(format!("whole {unit} only")));
        }
        (self.min..=self.max).contains(&time).then_some(time).ok_or(Mismatch::PLAIN)
    }
}

/// As a person writes it: `2h 5m`, `500ms`.
pub(crate) fn print_time(time: Duration) -> String {
    SignedDuration::try_from(time).map(|time| format!("{time:#}")).unwrap_or_else(|_| format!("{time:?}"))
}

/// What characters a text may hold.
#[derive(Clone, Copy)]
pub(crate) enum Letters {
    /// One line for people.
    Line,
    /// Lines; tabs too.
    Lines,
    /// A name that can be a file name and a KTAP test name everywhere.
    Name,
    /// The name of a program or of its option.
    Option,
    /// One word of a command line: printable ASCII without blanks.
    Word,
    /// The name of a file in the guest, from `/` on.
    GuestPath,
    /// The name of a file on this host.
    Path,
}

/// Text of at least one and at most `longest` bytes.
pub(crate) struct Text {
    pub(crate) letters: Letters,
    pub(crate) longest: usize,
}

impl Describe for Text {
    fn describe(&self) -> String {
        let what = match self.letters {
            Letters::Line => "a line of text",
            Letters::Lines => "text",
            Letters::Name => "a name of a-z, 0-9 and inner '-', '_', '.'",
            Letters::Option => "a name of a-z, 0-9 and inner '-'",
            Letters::Word => "a word of printable ASCII",
            Letters::GuestPath => "an absolute path in the guest",
            Letters::Path => "a path",
        };
        format!("{what} (up to {} bytes)", self.longest)
    }
}

impl Shape for Text {
    type Value = String;
    fn parse(&self, text: &str) -> Result<String, Mismatch> {
        let fits = match self.letters {
            Letters::Line | Letters::Path => !text.chars().any(char::is_control),
            Letters::Lines => !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
            Letters::Name => is_name(text, b"-_."),
            Letters::Option => is_name(text, b"-"),
            Letters::Word => text.bytes().all(|byte| byte.is_ascii_graphic()),
            Letters::GuestPath => text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()),
        };
        let sized = (1..=self.longest).contains(&text.len());
        (fits && sized).then(|| text.to_owned()).ok_or(Mismatch::PLAIN)
    }
}

fn is_name(text: &str, inside: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    ends && bytes.iter().all(|byte| plain(byte) || inside.contains(byte))
}

/// Names of functions, one for each kernel that calls it differently.
pub(crate) struct Functions {
    /// How many may stand side by side.
    pub(crate) most: usize,
    /// Bytes of each.
    pub(crate) longest: usize,
}

impl Describe for Functions {
    fn describe(&self) -> String {
        let Self { most, longest } = self;
        format!("1 to {most} names of functions with | between them (up to {longest} bytes each)")
    }
}

impl Shape for Functions {
    type Value = Vec<String>;
    fn parse(&self, text: &str) -> Result<Vec<String>, Mismatch> {
        let names: Vec<String> = text.split('|').map(str::to_owned).collect();
        let fits = |name: &String| is_symbol(name) && name.len() <= self.longest;
        (names.len() <= self.most && names.iter().all(fits)).then_some(names).ok_or(Mismatch::PLAIN)
    }
}

/// An identifier of C, with the dots of what a compiler makes of it: `foo.isra.0`.
fn is_symbol(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit() || byte == b'.')
}

/// What a kernel can trace: one of its tracepoints, all those of a subsystem, or one of its functions.
pub(crate) struct Traceable {
    /// Bytes in all.
    pub(crate) longest: usize,
}

impl Describe for Traceable {
    fn describe(&self) -> String {
        format!(
            "a tracepoint as SYSTEM:EVENT, SYSTEM:* or the name of a function (up to {} bytes)",
            self.longest
        )
    }
}

impl Shape for Traceable {
    type Value = String;
    fn parse(&self, text: &str) -> Result<String, Mismatch> {
        let is_word = |word: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            !word.is_empty() && !word.starts_with('-') && word.bytes().all(letter)
        };
        let fits = match text.split_once(':') {
            Some((system, event)) => is_word(system) && (event == "*" || is_word(event)),
            None => is_symbol(text),
        };
        (fits && text.len() <= self.longest).then(|| text.to_owned()).ok_or(Mismatch::PLAIN)
    }
}

/// One of a few words, and what each stands for.
pub(crate) struct OneOf<T: 'static> {
    pub(crate) words: &'static [(&'static str, T)],
}

impl<T> Describe for OneOf<T> {
    fn describe(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => "nothing".to_owned(),
        }
    }
}

impl<T: Copy> Shape for OneOf<T> {
    type Value = T;
    fn parse(&self, text: &str) -> Result<T, Mismatch> {
        let found = self.words.iter().find(|(word, _)| *word == text);
        let guess = || Mismatch { hint: did_you_mean(text, self.words.iter().map(|(word, _)| *word)) };
        found.map(|(_, value)| *value).ok_or_else(guess)
    }
}

/// On or off.
pub(crate) const FLAG: OneOf<bool> = OneOf { words: &[("true", true), ("false", false)] };

/// A list of scalars.
pub(crate) struct ListOf<S> {
    pub(crate) of: S,
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl<S: Describe> Describe for ListOf<S> {
    fn describe(&self) -> String {
        format!("a list of {} to {}, each {}", self.min, self.max, self.of.describe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed_alike() {
        let rows =
            [("1", 1), ("64K", 65_536), ("512M", 512 << 20), ("2G", 2 << 30), ("0", 0), ("1500", 1500)];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(print_size(bytes), text);
        }
        assert_eq!(print_size(2048 * MIB), "2G");
        for text in ["", "M", "1T", "1 M", "-1", "+1", "1.5M", "99999999999G", "é", "1MiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn memory_comes_in_whole_mebibytes() {
        let shape = Mebibytes { min: 128, max: 65_536 };
        for (text, want) in [("128M", Some(128)), ("64G", Some(65_536)), ("131072K", Some(128))] {
            assert_eq!(shape.parse(text).ok(), want, "{text}");
        }
        for text in ["127M", "65G", "512", "200000K", "big"] {
            assert!(shape.parse(text).is_err(), "{text}");
        }
        assert_eq!(shape.describe(), "a size in whole MiB from 128M to 64G");
    }

    #[test]
    fn times_need_units() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(86_400));
        let shape = Time { min, max, unit: MILLISECOND };
        let rows = [("500ms", 500), ("3s", 3_000), ("2h 5m", 7_500_000), ("1.5s", 1_500), ("PT1M", 60_000)];
        for (text, millis) in rows {
            assert_eq!(shape.parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["3", "99ms", "25h", "1d", "-3s", "soon", "", "100.5ms", "100ms1us"] {
            assert!(shape.parse(text).is_err(), "{text}");
        }
        assert_eq!(shape.describe(), "a time from 100ms to 24h");
        assert_eq!(shape.parse("1"), Err(Mismatch::hint("write units, as in 500ms, 3s or 2h 5m")));
        assert_eq!(shape.parse("200.5ms"), Err(Mismatch::hint("whole milliseconds only")));
    }

    #[test]
    fn short_times_come_in_microseconds() {
        let shape = Time { min: Duration::ZERO, max: MILLISECOND, unit: MICROSECOND };
        for (text, micros) in [("0s", 0), ("5us", 5), ("5µs", 5), ("0.5ms", 500), ("1ms", 1_000)] {
            assert_eq!(shape.parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["0", "1001us", "-1us", "1s"] {
            assert!(shape.parse(text).is_err(), "{text}");
        }
        assert_eq!(shape.parse("5"), Err(Mismatch::hint("write units, as in 50us or 1ms")));
        assert_eq!(shape.parse("1500ns"), Err(Mismatch::hint("whole microseconds only")));
        assert_eq!(shape.describe(), "a time from 0s to 1ms");
    }

    #[test]
    fn texts_hold_what_they_may() {
        let rows: [(Letters, &[&str], &[&str]); 6] = [
            (Letters::Line, &["a b", "ü"], &["", "a\nb", "a\u{1b}[m", "123456789"]),
            (Letters::Lines, &["a\n\tb"], &["", "a\0"]),
            (Letters::Name, &["a", "a-b.c", "0_1"], &["", "A", "-a", "a-", "..", "a b", "ü"]),
            (Letters::Word, &["a=b,c"], &["", "a b", "ü", "a\n"]),
            (Letters::GuestPath, &["/a/b"], &["", "a", "/a b", "/ü"]),
            (Letters::Path, &["./a b"], &["", "a\0"]),
        ];
        for (letters, good, bad) in rows {
            let shape = Text { letters, longest: 8 };
            for text in good {
                assert_eq!(shape.parse(text).as_deref(), Ok(*text));
            }
            for text in bad {
                assert!(shape.parse(text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn functions_are_identifiers_of_c_with_dots() {
        let shape = Functions { most: 2, longest: 12 };
        for (text, names) in [
            ("get_page", vec!["get_page"]),
            ("_f.isra.0|g2", vec!["_f.isra.0", "g2"]),
            ("twelve_bytes", vec!["twelve_bytes"]),
        ] {
            assert_eq!(shape.parse(text).unwrap(), names, "{text}");
        }
        for text in
            ["", "|", "a|", "|a", "a||b", "a|b|c", "2a", ".a", "a b", "a | b", "a+4", "ä", "thirteen_byte"]
        {
            assert!(shape.parse(text).is_err(), "{text}");
        }
        assert_eq!(shape.describe(), "1 to 2 names of functions with | between them (up to 12 bytes each)");
    }

    #[test]
    fn what_is_traced_is_a_tracepoint_or_a_function() {
        let shape = Traceable { longest: 20 };
        for text in ["sched:sched_switch", "irq:*", "9p:9p_client_req", "try_get_folio", "f.isra.0"] {
            assert_eq!(shape.parse(text).as_deref(), Ok(text));
        }
        let wrong =
            ["", ":", "a:", ":a", "a:b:c", "*:*", "*", "a b", "a:b c", "!a:b", "-a:b", "a:b/..", "2a", "ä:b"];
        for text in wrong.into_iter().chain(["sched:sched_switches_"]) {
            assert!(shape.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_digits_within_bounds() {
        let shape = Number { min: 1, max: 64 };
        assert_eq!(shape.parse("1"), Ok(1));
        assert_eq!(shape.parse("64"), Ok(64));
        for text in ["0", "65", "", "+1", "-1", "1.0", "0x1", "one", "99999999999999999999"] {
            assert!(shape.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_word_gets_its_neighbour() {
        let shape = OneOf { words: &[("raw", 1), ("ext4", 2)] };
        assert_eq!(shape.parse("ext4"), Ok(2));
        assert_eq!(shape.parse("ext3"), Err(Mismatch::hint("did you mean 'ext4'?")));
        assert_eq!(shape.describe(), "raw or ext4");
    }
}
