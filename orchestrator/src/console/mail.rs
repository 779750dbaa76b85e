//! Logs that came in a mail: quoted-printable text with its soft line breaks (RFC 2045, 6.7), and the `> ` that
//! mail programs put before what they quote.
//!
//! A log seldom says that it is a mail, and people paste parts of mails: so nothing here depends on headers. Text
//! that is no mail passes through as it is.

use std::borrow::Cow;

use memchr::memmem;

use super::lines::Line;
use super::splitter::{LINE_LIMIT, Raw};

/// Reads lines, and gives them as they were before they were sent. Holds one line of bounded length.
#[derive(Debug, Default)]
pub struct Mail {
    held: Option<Held>,
}

/// Lines that ended in soft breaks, joined.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// What is known of the joined line, but for its bytes.
    place: Raw<'static>,
}

impl Mail {
    pub fn line(&mut self, raw: Raw<'_>, mut each: impl FnMut(Raw<'_>)) {
        let joined = match self.held.take() {
            Some(mut held) if !starts_anew(raw) && held.bytes.len() + raw.bytes.len() <= LINE_LIMIT => {
                held.bytes.pop();
                held.bytes.extend_from_slice(raw.bytes);
                held.place.end = raw.end;
                Some(held)
            }
            Some(held) => {
                held.emit(&mut each);
                None
            }
            None => None,
        };
        match joined {
            joined if ends_softly(raw.bytes) => {
                let alone = || Held { bytes: raw.bytes.to_vec(), place: Raw { bytes: b"", ..raw } };
                self.held = Some(joined.unwrap_or_else(alone));
            }
            Some(joined) => joined.emit(&mut each),
            None => emit(raw, &mut each),
        }
    }

    /// The log has ended.
    pub fn finish(&mut self, mut each: impl FnMut(Raw<'_>)) {
        if let Some(held) = self.held.take() {
            held.emit(&mut each);
        }
    }

    /// No line waits for the next one.
    pub fn is_idle(&self) -> bool {
        self.held.is_none()
    }
}

impl Held {
    fn emit(&self, each: &mut impl FnMut(Raw<'_>)) {
        emit(Raw { bytes: &self.bytes, ..self.place }, each);
    }
}

fn emit(raw: Raw<'_>, each: &mut impl FnMut(Raw<'_>)) {
    let decoded =
        if is_encoded(raw.bytes) { Cow::Owned(decode(raw.bytes)) } else { Cow::Borrowed(raw.bytes) };
    each(Raw { bytes: without_quotes(&decoded), ..raw });
}

/// Lines are broken at 76 bytes, `=` included, and up to a word before. A line of `=` alone is a ruler.
fn ends_softly(bytes: &[u8]) -> bool {
    const WIDTHS: std::ops::RangeInclusive<usize> = 60..=76;
    WIDTHS.contains(&bytes.len()) && bytes.ends_with(b"=") && !bytes.ends_with(b"==")
}

/// Whether a line cannot be the rest of the one before.
fn starts_anew(raw: Raw<'_>) -> bool {
    raw.bytes.is_empty() || raw.bytes.starts_with(b">") || Line::parse(raw).at.is_some()
}

/// The marks of a line that is quoted-printable. An encoded log is full of `=3D`, and of blanks at line ends.
pub const MARKS: [&[u8]; 5] = [b"=3D", b"=20\n", b"=20\r", b"=\n", b"=\r"];

fn is_encoded(bytes: &[u8]) -> bool {
    bytes.ends_with(b"=20") || memmem::find(bytes, b"=3D").is_some()
}

/// Undoes `=3D` and the like. What would be a control character stays as it is.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, behind @ ..] = rest {
        let decoded = match rest {
            [b'=', high, low, ..] => upper_hex(*high).zip(upper_hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match decoded.filter(|byte| *byte == b'\t' || !byte.is_ascii_control()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &rest[3..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    out
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A line without `> `, `>> ` or `> > ` before it.
fn without_quotes(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b">") {
        rest = behind.strip_prefix(b" ").unwrap_or(behind);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::splitter::Splitter;

    fn read(mail: &str) -> Vec<(String, u64, u64)> {
        let mut reader = Mail::default();
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        let mut keep =
            |raw: Raw<'_>| lines.push((String::from_utf8(raw.bytes.to_vec()).unwrap(), raw.start, raw.end));
        splitter.push(mail.as_bytes(), |raw| reader.line(raw, &mut keep));
        splitter.finish(|raw| reader.line(raw, &mut keep));
        reader.finish(&mut keep);
        lines
    }

    fn texts(mail: &str) -> Vec<String> {
        read(mail).into_iter().map(|(text, ..)| text).collect()
    }

    #[test]
    fn quotes_of_any_depth_are_taken_off() {
        for (quoted, text) in [
            ("> [    1.000000] x", "[    1.000000] x"),
            (">> > x", "x"),
            ("> > > x", "x"),
            (">  [<12>] f", " [<12>] f"),
            (">          >000000000037c884: a7280000", "         >000000000037c884: a7280000"),
            (">", ""),
            (" > x", " > x"),
        ] {
            assert_eq!(texts(quoted), [text]);
        }
    }

    #[test]
    fn soft_breaks_are_joined_and_encoded_bytes_decoded() {
        let first = format!("[    1.000000] {}", "x".repeat(60));
        let mail = format!("{first}=\r\nrest=3D1 =E2=80=99=0A=20\r\nnext=20\n");
        let joined = format!("{first}rest=1 ’=0A ");
        let end = first.len() as u64 + 29;
        assert_eq!(read(&mail)[..1], [(joined, 0, end)]);
        assert_eq!(texts(&mail)[1..], ["next "]);
        let twice = format!("{first}=\n{first}=\nend\n").replace("\n[    1.000000]", "\n");
        assert_eq!(texts(&twice).len(), 1);
    }

    #[test]
    fn what_is_no_soft_break_stays() {
        let long = "x".repeat(70);
        for lines in [
            vec!["short=", "line"],
            vec![&"=".repeat(70), "BUG: KASAN"],
            vec![&format!("{long}="), "[    1.000000] a new message"],
            vec![&format!("{long}="), "", "line"],
            vec![&format!("{}=", "x".repeat(90)), "line"],
            vec!["log_buf_len=2M root=/dev/vda"],
        ] {
            assert_eq!(texts(&lines.join("\n")), lines);
        }
        let cut = format!("{long}=");
        assert_eq!(texts(&cut), [cut], "the last line of all");
    }
}
