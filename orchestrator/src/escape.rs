//! Bytes of a guest made safe for a terminal, a report or a web page's text.
//!
//! Printable UTF-8 stays as it is. Everything that could move a cursor, change a colour, reverse the reading
//! direction or hide text is written as `\xNN`, byte for byte, so that nothing is lost: C0 and C1 controls
//! (TAB becomes `\x09`), DEL, bidirectional overrides, invisible format characters, line separators, and
//! bytes that are not UTF-8. A backslash stays single: the output is for people, not for decoding.

use std::fmt::Write as _;

/// The text of `bytes`, with unsafe bytes as `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    push_escaped(&mut out, bytes, usize::MAX);
    out
}

/// Appends the text of `bytes` to `out` as long as `out` stays within `limit` bytes. Whole characters only.
///
/// Returns whether all of `bytes` went in.
pub fn push_escaped(out: &mut String, bytes: &[u8], limit: usize) -> Fit {
    let mut room = limit.saturating_sub(out.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let width = if is_safe(c) { c.len_utf8() } else { 4 * c.len_utf8() };
            if width > room {
                return Fit::Cut;
            }
            room -= width;
            if is_safe(c) {
                out.push(c);
            } else {
                push_hex(out, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let invalid = chunk.invalid();
        if 4 * invalid.len() > room {
            return Fit::Cut;
        }
        room -= 4 * invalid.len();
        push_hex(out, invalid);
    }
    Fit::Whole
}

/// Whether everything fitted into the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Whole,
    Cut,
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("writing to a String cannot fail");
    }
}

fn is_safe(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Unicode's general category Cc, and the format characters (Cf) and separators (Zl, Zp) that
        // terminals and browsers obey without showing them.
        c if c.is_control() => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => false,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_stays() {
        for text in ["mm/gup.c:224 try_grab_page+0x110/0x160", "Größe – 日本 ✓", "back\\slash"] {
            assert_eq!(escape(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_in_hex() {
        for (bytes, text) in [
            (&b"a\x1b[31mred"[..], r"a\x1b[31mred"),
            (b"tab\tnul\0del\x7f", r"tab\x09nul\x00del\x7f"),
            ("c1 \u{9b}2J".as_bytes(), r"c1 \xc2\x9b2J"),
            ("bidi \u{202e}evil\u{2066}".as_bytes(), r"bidi \xe2\x80\xaeevil\xe2\x81\xa6"),
            (b"latin \xe9 cut \xe2\x82", r"latin \xe9 cut \xe2\x82"),
            (b"line\r\nfeed", r"line\x0d\x0afeed"),
        ] {
            assert_eq!(escape(bytes), text);
        }
    }

    #[test]
    fn the_limit_cuts_between_characters() {
        let mut out = String::from("ab");
        assert_eq!(push_escaped(&mut out, "cö\x01".as_bytes(), 5), Fit::Cut);
        assert_eq!(out, "abcö");
        assert_eq!(push_escaped(&mut out, b"", 5), Fit::Whole);
        assert_eq!(push_escaped(&mut out, b"\xff", 8), Fit::Cut);
        assert_eq!(push_escaped(&mut out, b"\xff", 9), Fit::Whole);
    }
}
