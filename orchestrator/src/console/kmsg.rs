//! Records of /dev/kmsg, as they come byte for byte over a port.
//!
//! A record is `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,caller=T94];TEXT` and may be followed by lines that
//! begin with a blank: its dictionary (`SUBSYSTEM=`, `DEVICE=`), which never holds text and is passed over
//! (Documentation/ABI/testing/dev-kmsg). The kernel writes bytes outside printable ASCII, the backslash, and
//! line feeds inside a message as `\xNN` (kernel/printk/printk.c: `msg_add_ext_text()`); they are decoded.

use super::lines::{Caller, Line, Micros, Origin, number, parse_caller};
use super::splitter::{Length, Raw, Splitter};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 0 is the kernel, anything else user space.
    pub facility: u32,
    pub level: u8,
    pub sequence: u64,
    pub micros: Micros,
    pub caller: Option<Caller>,
    /// The message, decoded. It may hold line feeds: one printk() is one record.
    pub text: Vec<u8>,
    /// Byte offsets in the stream of the record's first byte, and of the byte behind its line end.
    pub start: u64,
    pub end: u64,
    pub length: Length,
}

impl Record {
    pub fn origin(&self) -> Origin {
        if self.facility == 0 { Origin::Kernel } else { Origin::User }
    }

    /// The record's lines, as the console would show them.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.text.split(|byte| *byte == b'\n').map(|text| Line {
            text,
            start: self.start,
            end: self.end,
            number: None,
            at: Some(self.micros),
            level: Some(self.level),
            caller: self.caller,
            sequence: Some(self.sequence),
            origin: self.origin(),
            length: self.length,
        })
    }
}

/// What a stream of records holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Record(Record),
    /// `count` records before `next` are missing: the log's ring went round before they were read.
    Lost {
        next: u64,
        count: u64,
    },
    /// A line that is no record. `start` and `end` are its byte offsets.
    Malformed {
        start: u64,
        end: u64,
    },
}

/// Cuts a stream into items.
#[derive(Debug, Default)]
pub struct Parser {
    splitter: Splitter,
    expected: Option<u64>,
}

impl Parser {
    /// Feeds a chunk. Records are given as soon as their line is complete.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Item)) {
        let Self { splitter, expected } = self;
        splitter.push(chunk, |raw| accept(expected, raw, &mut each));
    }

    /// The stream has ended. A last record without its line end is given as one that was cut.
    pub fn finish(&mut self, mut each: impl FnMut(Item)) {
        let Self { splitter, expected } = self;
        splitter.finish(|raw| accept(expected, Raw { length: Length::Cut, ..raw }, &mut each));
    }
}

fn accept(expected: &mut Option<u64>, raw: Raw<'_>, each: &mut impl FnMut(Item)) {
    if raw.bytes.starts_with(b" ") {
        return;
    }
    let Some(record) = parse(raw) else {
        return each(Item::Malformed { start: raw.start, end: raw.end });
    };
    // A number that goes back belongs to a new boot: nothing is known to be lost.
    if let Some(count) = expected.and_then(|expected| record.sequence.checked_sub(expected))
        && count > 0
    {
        each(Item::Lost { next: record.sequence, count });
    }
    *expected = record.sequence.checked_add(1);
    each(Item::Record(record));
}

fn parse(raw: Raw<'_>) -> Option<Record> {
    let semicolon = memchr::memchr(b';', raw.bytes)?;
    let (header, text) = (&raw.bytes[..semicolon], &raw.bytes[semicolon + 1..]);
    let mut fields = header.split(|byte| *byte == b',');
    let mut whole_number = || match number(fields.next()?)? {
        (value, []) => Some(value),
        _ => None,
    };
    let priority = whole_number()?;
    let sequence = whole_number()?;
    let micros = Micros(whole_number()?);
    let caller = fields.find_map(|field| match parse_caller(field.strip_prefix(b"caller=")?)? {
        (caller, []) => Some(caller),
        _ => None,
    });
    Some(Record {
        facility: u32::try_from(priority >> 3).ok()?,
        level: u8::try_from(priority & 7).ok()?,
        sequence,
        micros,
        caller,
        text: decode(text),
        start: raw.start,
        end: raw.end,
        length: raw.length,
    })
}

/// Undoes the kernel's `\xNN`. A backslash that begins no such escape stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        rest = &rest[backslash..];
        let (byte, length) = match rest {
            [_, b'x', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 4),
                _ => (b'\\', 1),
            },
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::splitter::LINE_LIMIT;

    fn items(stream: &[u8], piece: usize) -> Vec<Item> {
        let mut parser = Parser::default();
        let mut items = Vec::new();
        for piece in stream.chunks(piece) {
            parser.push(piece, |item| items.push(item));
        }
        parser.finish(|item| items.push(item));
        items
    }

    fn record(sequence: u64, text: &str, start: u64, end: u64) -> Record {
        Record {
            facility: 0,
            level: 4,
            sequence,
            micros: Micros(100 + sequence),
            caller: None,
            text: text.into(),
            start,
            end,
            length: Length::Whole,
        }
    }

    #[test]
    fn reads_records_whatever_the_chunks() {
        let stream = b"4,7,107,-;first\n SUBSYSTEM=virtio\n DEVICE=+virtio:virtio0\n12,8,108,-;user's\n\
            4,9,109,c,caller=T94;a\\x0ab \\x5c \\x\n";
        let expected = vec![
            Item::Record(record(7, "first", 0, 16)),
            Item::Record(Record { facility: 1, ..record(8, "user's", 58, 76) }),
            Item::Record(Record { caller: Some(Caller::Task(94)), ..record(9, "a\nb \\ \\x", 76, 112) }),
        ];
        for piece in [1, 2, 3, 7, stream.len()] {
            assert_eq!(items(stream, piece), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_record_of_several_lines_is_several_lines() {
        let Item::Record(record) = items(b"4,1,5,-;Krnl Code: 07\\x0a           #08\n", 99).remove(0) else {
            panic!("not a record")
        };
        let lines: Vec<_> = record.lines().collect();
        assert_eq!(lines[0].text, b"Krnl Code: 07");
        assert_eq!(lines[1].text, b"           #08");
        assert_eq!((lines[1].at, lines[1].sequence), (Some(Micros(5)), Some(1)));
        assert_eq!(lines[1].origin, Origin::Kernel);
    }

    #[test]
    fn gaps_in_the_sequence_are_lost_records() {
        let lost: Vec<_> = items(b"6,4,0,-;\n6,5,0,-;\n6,9,0,-;\n6,0,0,-;\n6,1,0,-;\n", 4)
            .into_iter()
            .filter(|item| !matches!(item, Item::Record(_)))
            .collect();
        assert_eq!(lost, vec![Item::Lost { next: 9, count: 3 }]);
        let last = format!("6,{},0,-;\n6,1,0,-;\n", u64::MAX);
        assert_eq!(items(last.as_bytes(), 99).len(), 2);
    }

    #[test]
    fn what_is_no_record_is_said_and_passed_over() {
        for line in ["", "text", "4,5;x", "x,1,2,-;y", "4,1,2", "4,-1,2,-;y", "4,99999999999999999999,2,-;y"]
        {
            let stream = format!("{line}\n4,1,101,-;good\n");
            let length = line.len() as u64 + 1;
            let expected = vec![
                Item::Malformed { start: 0, end: length },
                Item::Record(record(1, "good", length, length + 15)),
            ];
            assert_eq!(items(stream.as_bytes(), 3), expected, "{line:?}");
        }
    }

    #[test]
    fn a_record_that_the_stream_or_the_limit_cuts_says_so() {
        let cut = items(b"4,1,101,-;goo", 5);
        assert_eq!(cut, vec![Item::Record(Record { length: Length::Cut, ..record(1, "goo", 0, 13) })]);

        let mut stream = b"4,1,101,-;".to_vec();
        stream.resize(3 * LINE_LIMIT, b'x');
        stream.push(b'\n');
        let [Item::Record(long)] = &items(&stream, 1000)[..] else { panic!("not one record") };
        assert_eq!(long.length, Length::Cut);
        assert_eq!(long.text.len(), LINE_LIMIT - 10);
    }
}
